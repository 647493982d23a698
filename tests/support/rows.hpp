// SPDX-License-Identifier: MIT
// Rows of logits to test on, the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace xsoftmax::test {

/// exp(-absorbed<T>) is just below half a unit in the last place of 1: a running sum in T at 1 loses it whole.
template <class T>
inline constexpr double absorbed = std::is_same_v<T, float> ? 16.7 : 36.8;

/// SplitMix64.
class generator {
public:
  explicit generator(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next();

  std::size_t below(std::size_t bound);

  /// In [0, 1), a multiple of 2^-53.
  double unit();

  double uniform(double low, double high);

  /// Mean 0 and variance 1, by Irwin and Hall: at most 6 from 0, no library function involved.
  double normal();

private:
  std::uint64_t state_;
};

enum class row_kind {
  normal,         ///< mean 0, variance 9: what a model's head gives
  narrow,         ///< within 2^-10 of one another
  wide,           ///< results over the whole range of the format, subnormal ones included
  very_wide,      ///< U(-1000, 1000): nearly all results are 0
  masked,         ///< normal, half of them -inf
  finite_mask,    ///< normal, half of them the lowest finite number
  sentinel_1e30,  ///< normal, half of them -1e30
  sentinel_2e4,   ///< normal, half of them -2e4
  enormous,       ///< near the largest finite number, of both signs
  enormous_close, ///< near the largest finite number, neighbours
  ascending,      ///< the maximum comes last and moves with each element
  descending,     ///<
  spike,          ///< one 0, elsewhere what a running sum would absorb
  spikes,         ///< a 0 in every lane, elsewhere the same
  ties,           ///< few different values
  constant,       ///< one value
  subnormal,      ///< subnormal logits
};

inline constexpr row_kind row_kinds[] = {row_kind::normal,         row_kind::narrow,       row_kind::wide,
                                         row_kind::very_wide,      row_kind::masked,       row_kind::finite_mask,
                                         row_kind::sentinel_1e30,  row_kind::sentinel_2e4, row_kind::enormous,
                                         row_kind::enormous_close, row_kind::ascending,    row_kind::descending,
                                         row_kind::spike,          row_kind::spikes,       row_kind::ties,
                                         row_kind::constant,       row_kind::subnormal};

const char* name(row_kind kind);

template <class T>
std::vector<T> make_row(row_kind kind, std::size_t n, std::uint64_t seed);

/// A row whose every logit is an exact product of integers and powers of two: the compiler's choice to fuse or not to
/// fuse cannot reach it, so that results on it can be compared between builds.
template <class T>
std::vector<T> make_dyadic_row(std::size_t n, std::uint64_t seed, int spread_bits, int grain_bits);

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
// Softmax from its formula, far more precise than the library and sharing nothing with it.
//
// The arithmetic is in long double pairs where a rounding would be magnified by exp: the gap z_i - max is exact, its
// quotient by the temperature is good to 2^-120, so a probability is off by the error of the long double exp alone:
// below 2^-61, a thousandth of a ULP of double. reference_test.cpp checks that against MPFR.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

namespace xsoftmax::test {

struct reference_options {
  double temperature = 1;
  bool masked_row_is_zero = false;
  std::optional<double> sink = std::nullopt;
};

namespace wide {

/// high + low, |low| <= half a unit in the last place of high.
struct pair {
  long double high;
  long double low;
};

/// a + b
pair sum(long double a, long double b);

pair quotient(pair x, long double divisor);

long double exp(pair x);

/// (x - shift) / temperature for finite x.
pair shifted(long double x, long double shift, long double temperature);

/// exp((x - shift) / temperature) for finite x or -inf.
long double shifted_exp(long double x, long double shift, long double temperature);

/// A sum that keeps what each addition rounds away.
class accumulator {
public:
  void add(long double x);

  [[nodiscard]] long double value() const { return total_ + rest_; }

  [[nodiscard]] pair parts() const { return sum(total_, rest_); }

private:
  long double total_ = 0;
  long double rest_ = 0;
};

} // namespace wide

/// The exact softmax of one row, by the table of special values and the formula. Refers to the row.
template <class T>
class reference_softmax {
public:
  explicit reference_softmax(const T* z, std::size_t n, const reference_options& options = {});

  [[nodiscard]] long double probability(std::size_t i) const;

  [[nodiscard]] long double log_probability(std::size_t i) const;

  /// log(sum exp(z / T)) of an ordinary row, and the larger of |maximum / T| and |result|, in whose units it is
  /// measured.
  [[nodiscard]] std::pair<long double, long double> log_sum_exp() const;

  /// What the sink takes of the total of 1.
  [[nodiscard]] long double sink_share() const { return sink_share_; }

  /// Do the probabilities (and the sink's share) add up to 1?
  [[nodiscard]] bool normalised() const;

private:
  enum class kind { nan, zero, one_hot, ordinary };

  const T* z_;
  long double temperature_;
  long double maximum_ = 0;
  long double total_ = 0;
  long double log_total_ = 0;
  long double sink_share_ = 0;
  std::size_t first_ = 0;
  kind kind_ = kind::ordinary;
};

} // namespace xsoftmax::test

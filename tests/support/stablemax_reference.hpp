// SPDX-License-Identifier: MIT
// StableMax, its logarithm and the gradients of both from their formulas, far more precise than the library, with the
// bounds that the library promises.
//
// The arithmetic is in long double. Nothing here magnifies a rounding but the differences of the gradients, which are
// in pairs; everything else takes a handful of roundings, hence is off by less than 2^-61 of itself, a hundredth of a
// ULP of double at most.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "backward_checks.hpp"
#include "findings.hpp"
#include "kernels_once.hpp"
#include "reference.hpp"
#include "rows.hpp"
#include "softmax_checks.hpp"
#include "types.hpp"
#include "ulp.hpp"

namespace xsoftmax::test {

/// The two functions, for tests of both.
struct of_stablemax {
  static constexpr const char* name = "stablemax";
  static constexpr const char* output = "p";
  static constexpr const char* backward_name = "stablemax_backward";
  static constexpr bool logarithmic = false;
  using options = stablemax_options;

  /// Of an element without weight.
  template <class T>
  static constexpr T masked = T{};

  template <class T>
  static constexpr double bound = 4;

  template <class Arch, class... Arguments>
  static auto run(Arguments&&... arguments) {
    return stablemax<Arch>(std::forward<Arguments>(arguments)...);
  }

  template <class Arch, class... Arguments>
  static void backward(Arguments&&... arguments) {
    stablemax_backward<Arch>(std::forward<Arguments>(arguments)...);
  }
};

struct of_log_stablemax {
  static constexpr const char* name = "log_stablemax";
  static constexpr const char* output = "y";
  static constexpr const char* backward_name = "log_stablemax_backward";
  static constexpr bool logarithmic = true;
  using options = log_stablemax_options;

  template <class T>
  static constexpr T masked = -std::numeric_limits<T>::infinity();

  template <class T>
  static constexpr double bound = std::is_same_v<T, float> ? 1 : 4;

  template <class Arch, class... Arguments>
  static auto run(Arguments&&... arguments) {
    return log_stablemax<Arch>(std::forward<Arguments>(arguments)...);
  }

  template <class Arch, class... Arguments>
  static void backward(Arguments&&... arguments) {
    log_stablemax_backward<Arch>(std::forward<Arguments>(arguments)...);
  }
};

namespace type_lists {

template <class... Subjects>
std::tuple<backward_subject<Subjects, of_stablemax>..., backward_subject<Subjects, of_log_stablemax>...>
    with_stablemax(std::tuple<Subjects...>);

} // namespace type_lists

/// Architecture, element type and function.
using stablemax_subjects = decltype(type_lists::with_stablemax(subjects{}));

enum class stable_row_kind {
  positive,        ///< U(0, 50)
  negative,        ///< U(-50, 0)
  near_zero,       ///< about 2^-12 (2^-30): s is about 1 there
  points,          ///< 0, -0, 1, -1 and the smallest numbers
  exponents,       ///< of every size and sign
  exponents_above, ///< of every size, positive
  exponents_below, ///< of every size, negative
  largest,         ///< positive, near the end of the range and at it
  lowest,          ///< negative, likewise
  both_ends,       ///< largest, lowest, and 0
  masked_lowest,   ///< lowest and -inf
  dominated,       ///< normal, but for one that can be as large as any
  dominated_below, ///< the same above large negative ones
  absorbed,        ///< one, and others that a running sum would lose
  near_ties,       ///< neighbours of one number
};

inline constexpr stable_row_kind stable_row_kinds[] = {
    stable_row_kind::positive,        stable_row_kind::negative,      stable_row_kind::near_zero,
    stable_row_kind::points,          stable_row_kind::exponents,     stable_row_kind::exponents_above,
    stable_row_kind::exponents_below, stable_row_kind::largest,       stable_row_kind::lowest,
    stable_row_kind::both_ends,       stable_row_kind::masked_lowest, stable_row_kind::dominated,
    stable_row_kind::dominated_below, stable_row_kind::absorbed,      stable_row_kind::near_ties};

const char* name(stable_row_kind kind);

/// A number between 2^low and 2^high, by its logarithm.
template <class T>
T random_size(generator& random, double low, double high) {
  const double octave = random.uniform(low, high);
  const double whole = std::floor(octave);
  return std::ldexp(static_cast<T>(1 + random.unit() / 2), static_cast<int>(whole));
}

template <class T>
std::vector<T> make_row(stable_row_kind kind, std::size_t n, std::uint64_t seed);

/// body(kind, row) for a row of each kind: of those of softmax, and of the ones above.
template <class T, class Body>
void for_each_row(std::size_t n, std::uint64_t seed, Body&& body) {
  for (const row_kind kind : row_kinds) {
    body(std::string(name(kind)), make_row<T>(kind, n, seed));
  }
  for (const stable_row_kind kind : stable_row_kinds) {
    body(std::string(name(kind)), make_row<T>(kind, n, seed));
  }
}

/// The row of any kind, by number.
template <class T>
std::vector<T> make_any_row(std::uint64_t number, std::size_t n, std::uint64_t seed);

namespace wide {

/// s(x) for any x below +inf.
long double stable_weight(long double x);

} // namespace wide

/// The exact StableMax of one row, by the table of special values and the formula. Refers to the row.
template <class T>
class reference_stablemax {
public:
  explicit reference_stablemax(const std::vector<T>& z, masked_row_policy policy = masked_row_policy::nan);

  [[nodiscard]] long double probability(std::size_t i) const;

  /// The logarithm of a quotient that is at most 1/2, but for a maximum without equals.
  [[nodiscard]] long double log_probability(std::size_t i) const;

  template <class Of>
  [[nodiscard]] long double value(std::size_t i) const {
    return Of::logarithmic ? log_probability(i) : probability(i);
  }

  [[nodiscard]] bool normalised() const { return kind_ == kind::ordinary; }

private:
  enum class kind { nan, zero, ordinary };

  const std::vector<T>& z_;
  long double maximum_ = -std::numeric_limits<long double>::infinity();
  long double count_ = 0;
  long double rest_ = 0;
  long double total_ = 0;
  kind kind_ = kind::ordinary;
};

template <class T>
std::string describe_row(const std::vector<T>& z);

/// a and b in the same bits; NaN equals NaN.
template <class T>
void expect_same_row(findings& found, const std::vector<T>& z, const T* expected, const T* got,
                     const std::string& what);

/// The results of one row, into a row of its own.
template <class Arch, class Of, class T>
std::vector<T> result(const std::vector<T>& z, const typename Of::options& options = {}) {
  std::vector<T> y(z.size(), T(7)); // which is no result
  Of::template run<Arch>(z, y, options);
  return y;
}

/// Compares y with the exact results for z: each element, what the table wants, and the sum of probabilities.
template <class Of, class T>
void expect_right_stablemax(findings& found, const std::vector<T>& z, const T* y, masked_row_policy policy,
                            const std::string& what, worst_errors* worst = nullptr);

/// The results of the forward pass, to the nearest.
template <class Of, class T>
std::vector<T> exact_results(const std::vector<T>& z);

/// The exact gradient, and how far from it a result may be. Refers to its arguments.
template <class Of, class T>
class reference_stablemax_backward {
public:
  static constexpr bool single = std::is_same_v<T, float>;

  reference_stablemax_backward(const std::vector<T>& z, const std::vector<T>& y, const std::vector<T>& dy);

  [[nodiscard]] bool is_masked(std::size_t i) const { return y_[i] == Of::template masked<T>; }

  [[nodiscard]] long double value(std::size_t i) const;

  /// What the docstrings allow beside the ULP.
  [[nodiscard]] long double allowance(std::size_t i) const;

  static constexpr double ulp = single ? 0.51 : Of::logarithmic ? 3 : 4;

private:
  [[nodiscard]] long double denominator(std::size_t i) const { return 1 + std::fabs(static_cast<long double>(z_[i])); }

  const std::vector<T>& z_;
  const std::vector<T>& y_;
  const std::vector<T>& dy_;
  wide::pair sum_ = {};
  long double magnitude_ = 0;
};

template <class Arch, class Of, class T>
std::vector<T> stablemax_gradient(const std::vector<T>& z, const std::vector<T>& y, const std::vector<T>& dy) {
  std::vector<T> dz(y.size(), T(-7));
  Of::template backward<Arch>(z, y, dy, dz);
  return dz;
}

/// Each element within the bound, masked ones exactly +0.
template <class Of, class T>
void expect_right_stablemax_gradient(findings& found, const std::vector<T>& z, const std::vector<T>& y,
                                     const std::vector<T>& dy, const std::vector<T>& dz, const std::string& what,
                                     worst_errors* worst = nullptr);

} // namespace xsoftmax::test

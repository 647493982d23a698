// SPDX-License-Identifier: MIT
// What every log_softmax test asks.
#pragma once

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "softmax_checks.hpp"

namespace xsoftmax::test {

/// The most ULP a log-probability may be off. The contract allows 4; this is what the arithmetic is designed for.
template <class T>
inline constexpr double log_probability_bound = sizeof(T) == 4 ? 0.75 : 1.5;

template <class T>
std::string describe(const std::vector<T>& z, const log_softmax_options& options) {
  return describe(z, softmax_options{.temperature = options.temperature, .sink = options.sink});
}

template <class Arch, class T>
std::vector<T> log_probabilities(const std::vector<T>& z, const log_softmax_options& options) {
  // Not a number that log_softmax could leave behind unnoticed.
  std::vector<T> y(z.size(), T(7));
  log_softmax<Arch>(z, y, options);
  return y;
}

/// Compares y with the exact log-softmax of z; the largest error in ULP.
template <class T>
double expect_right_log(findings& found, const std::vector<T>& z, const T* y, const log_softmax_options& options,
                        const std::string& what, double bound = log_probability_bound<T>) {
  const reference_softmax<T> exact(z.data(), z.size(),
                                   {options.temperature, options.masked_row == masked_row_policy::zero, options.sink});
  double largest = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double error = ulp_distance(y[i], exact.log_probability(i));
    if (!(error <= largest)) {
      largest = error;
      where = i;
    }
  }
  found.expect(largest <= bound, [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(y[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.log_probability(where)) +
           "; z there = " + exact_text(z[where]) + "; " + describe(z, options);
  });
  return largest;
}

/// A row into another, and in place: right, and the same bits.
template <class Arch, class T>
double expect_right_log(findings& found, const std::vector<T>& z, const log_softmax_options& options,
                        const std::string& kind) {
  const std::string what = std::string(Arch::name) + ", " + kind;
  const std::vector<T> y = log_probabilities<Arch>(z, options);
  std::vector<T> in_place = z;
  log_softmax<Arch>(in_place, in_place, options);
  found.expect(first_difference(y.data(), in_place.data(), z.size()) == z.size(),
               [&] { return what + ": other bits in place; " + describe(z, options); });
  return expect_right_log(found, z, y.data(), options, what);
}

} // namespace xsoftmax::test

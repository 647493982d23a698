// SPDX-License-Identifier: MIT
// What every log_softmax test asks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rows.hpp"
#include "softmax_checks.hpp"

namespace xsoftmax::test {

/// A sink far below, a little below, at and above the row's maximum, and none.
template <class T>
std::vector<std::optional<double>> sinks(const std::vector<T>& z);

/// The most ULP a log-probability may be off: as its documentation says, where the contract allows 4.
template <class T>
inline constexpr double log_probability_bound = sizeof(T) == 4 ? 0.65 : 1.25;

template <class T>
std::string describe(const std::vector<T>& z, const log_softmax_options& options);

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
                        const std::string& what, double bound = log_probability_bound<T>);

/// The most units in the last place of max(|maximum / T|, |result|) that log_sum_exp may be off. The contract allows 2.
template <class T>
inline constexpr double log_sum_exp_bound = sizeof(T) == 4 ? 0.65 : 2;

/// Compares the value with the exact log-sum-exp of a row that has one; its error in units as above.
template <class T>
double expect_right_log_sum_exp(findings& found, const std::vector<T>& z, T value, const log_sum_exp_options& options,
                                const std::string& what, double bound = log_sum_exp_bound<T>);

template <class Arch, class T>
double expect_right_log_sum_exp(findings& found, const std::vector<T>& z, const log_sum_exp_options& options,
                                const std::string& kind) {
  return expect_right_log_sum_exp(found, z, log_sum_exp<Arch>(z, options), options,
                                  std::string(Arch::name) + ", " + kind);
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

/// z in pieces of whole blocks, each pushed to a state of its own, and these merged in a random order and association.
template <class Arch, class T>
log_sum_exp_state<T> merged_state(const std::vector<T>& z, double temperature, generator& random) {
  using state = log_sum_exp_state<T>;
  constexpr std::size_t block = state::block_size;
  std::vector<state> parts;
  for (std::size_t first = 0; first < z.size();) {
    const std::size_t size = std::min(z.size() - first, block * (1 + random.below(3)));
    parts.emplace_back(temperature).template push<Arch>(vector_view<const T>(z.data() + first, size));
    first += size;
    if (random.below(4) == 0) {
      parts.emplace_back(temperature); // has seen nothing
    }
    if (random.below(4) == 0) { // has seen nothing that counts
      parts.emplace_back(temperature)
          .template push<Arch>(std::vector<T>(random.below(40), -std::numeric_limits<T>::infinity()));
    }
  }
  parts.emplace_back(temperature);
  while (parts.size() > 1) {
    std::swap(parts[random.below(parts.size())], parts.back());
    const state last = parts.back();
    parts.pop_back();
    parts[random.below(parts.size())].template merge<Arch>(last);
  }
  return parts.front();
}

} // namespace xsoftmax::test

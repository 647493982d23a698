// SPDX-License-Identifier: MIT
// What every softmax test asks: is this result right, and are these two results the same bits?
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "findings.hpp"
#include "kernels_once.hpp"
#include "reference.hpp"
#include "types.hpp"
#include "ulp.hpp"

namespace xsoftmax::test {

inline constexpr softmax_algorithm algorithms[] = {
    softmax_algorithm::automatic, softmax_algorithm::three_pass_recompute, softmax_algorithm::three_pass_reload,
    softmax_algorithm::two_pass, softmax_algorithm::online};

inline constexpr store_kind stores[] = {store_kind::automatic, store_kind::cached, store_kind::streaming};

inline const char* name(softmax_algorithm algorithm) {
  constexpr const char* names[] = {"automatic", "three_pass_recompute", "three_pass_reload", "two_pass", "online"};
  return names[static_cast<int>(algorithm)];
}

inline const char* name(store_kind store) {
  constexpr const char* names[] = {"automatic", "cached", "streaming"};
  return names[static_cast<int>(store)];
}

/// The most ULP a probability may be off, and the most units of 2^-digits their sum.
inline constexpr double probability_bound = 4;
inline constexpr double sum_bound = 4;

template <class T>
std::string describe(const std::vector<T>& z, const softmax_options& options) {
  std::string text = scalar_name<T>() + ", n = " + std::to_string(z.size()) +
                     ", T = " + exact_text(options.temperature) + ", " + name(options.algorithm) + ", " +
                     name(options.store);
  if (options.sink) {
    text += ", sink = " + exact_text(*options.sink);
  }
  text += ", z =";
  for (std::size_t i = 0; i < std::min<std::size_t>(z.size(), 8); ++i) {
    text += ' ' + exact_text(z[i]);
  }
  return z.size() > 8 ? text + " ..." : text;
}

/// The first index at which a and b differ; NaN equals NaN whatever its payload. n if there is none.
template <class T>
std::size_t first_difference(const T* a, const T* b, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    if (bits(a[i]) != bits(b[i]) && !(std::isnan(a[i]) && std::isnan(b[i]))) {
      return i;
    }
  }
  return n;
}

template <class T>
void expect_same_bits(findings& found, const T* a, const T* b, const std::string& what, const std::vector<T>& z,
                      const softmax_options& options) {
  const std::size_t i = first_difference(a, b, z.size());
  found.expect(i == z.size(), [&] {
    return what + ": element " + std::to_string(i) + " is " + exact_text(b[i]) + ", not " + exact_text(a[i]) + "; " +
           describe(z, options);
  });
}

/// The largest errors seen, for a report.
struct worst_errors {
  double ulp = 0;
  double sum = 0;
  std::string ulp_witness;
  std::string sum_witness;
};

/// Compares p with the exact softmax of z: each element, exact zeros and NaN where the table wants them, and the sum.
template <class T>
void expect_right(findings& found, const std::vector<T>& z, const T* p, const softmax_options& options,
                  const std::string& what, worst_errors* worst = nullptr) {
  const reference_softmax<T> exact(z.data(), z.size(),
                                   {options.temperature, options.masked_row == masked_row_policy::zero, options.sink});
  double largest = 0;
  std::size_t where = 0;
  wide::accumulator total;
  bool masked_is_zero = true;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const long double probability = exact.probability(i);
    const double error = ulp_distance(p[i], probability);
    if (error > largest || !(error <= largest)) {
      largest = error;
      where = i;
    }
    if (z[i] == -std::numeric_limits<T>::infinity() && probability == 0) {
      masked_is_zero = masked_is_zero && bits(p[i]) == 0;
    }
    total.add(p[i]);
  }
  found.expect(largest <= probability_bound, [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(p[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.probability(where)) +
           "; z there = " + exact_text(z[where]) + "; " + describe(z, options);
  });
  found.expect(masked_is_zero, [&] { return what + ": a logit of -inf has weight; " + describe(z, options); });
  if (worst != nullptr && largest > worst->ulp) {
    worst->ulp = largest;
    worst->ulp_witness = what + ", element " + std::to_string(where) + ", " + describe(z, options);
  }
  if (exact.normalised() && !z.empty()) {
    total.add(exact.sink_share());
    total.add(-1);
    const double off = static_cast<double>(std::fabs(total.value()) * std::ldexp(1.0L, std::numeric_limits<T>::digits));
    found.expect(off <= sum_bound, [&] {
      return what + ": the sum is off by " + std::to_string(off) + " units; " + describe(z, options);
    });
    if (worst != nullptr && off > worst->sum) {
      worst->sum = off;
      worst->sum_witness = what + ", " + describe(z, options);
    }
  }
}

template <class Arch, class T>
std::vector<T> probabilities(const std::vector<T>& z, const softmax_options& options) {
  // Not a number that softmax could leave behind unnoticed.
  std::vector<T> p(z.size(), T(-7));
  softmax<Arch>(z, p, options);
  return p;
}

/// One row through every algorithm and store kind, and in place: right, and the same bits.
template <class Arch, class T>
void expect_right_everywhere(findings& found, const std::vector<T>& z, softmax_options options,
                             worst_errors* worst = nullptr) {
  const std::vector<T> first = probabilities<Arch>(z, options);
  expect_right(found, z, first.data(), options, Arch::name, worst);
  for (const softmax_algorithm algorithm : algorithms) {
    options.algorithm = algorithm;
    for (const store_kind store : stores) {
      options.store = store;
      const std::vector<T> p = probabilities<Arch>(z, options);
      expect_same_bits(found, first.data(), p.data(), Arch::name, z, options);
    }
    options.store = store_kind::automatic;
    std::vector<T> in_place = z;
    softmax<Arch>(in_place, in_place, options);
    expect_same_bits(found, first.data(), in_place.data(), std::string(Arch::name) + ", in place", z, options);
  }
}

} // namespace xsoftmax::test

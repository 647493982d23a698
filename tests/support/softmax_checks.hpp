// SPDX-License-Identifier: MIT
// What every softmax test asks: is this result right, and are these two results the same bits?
#pragma once

#include <cstddef>
#include <string>
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

const char* name(softmax_algorithm algorithm);

const char* name(store_kind store);

/// The most ULP a probability may be off, and the most units of 2^-digits their sum.
inline constexpr double probability_bound = 4;
inline constexpr double sum_bound = 4;

template <class T>
std::string describe(const std::vector<T>& z, const softmax_options& options);

/// The first index at which a and b differ; NaN equals NaN whatever its payload. n if there is none.
template <class T>
std::size_t first_difference(const T* a, const T* b, std::size_t n);

template <class T>
void expect_same_bits(findings& found, const T* a, const T* b, const std::string& what, const std::vector<T>& z,
                      const softmax_options& options);

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
                  const std::string& what, worst_errors* worst = nullptr);

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

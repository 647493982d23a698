// SPDX-License-Identifier: MIT
#include "softmax_checks.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace xsoftmax::test {

const char* name(softmax_algorithm algorithm) {
  constexpr const char* names[] = {"automatic", "three_pass_recompute", "three_pass_reload", "two_pass", "online"};
  return names[static_cast<int>(algorithm)];
}

const char* name(store_kind store) {
  constexpr const char* names[] = {"automatic", "cached", "streaming"};
  return names[static_cast<int>(store)];
}

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

template <class T>
void expect_right(findings& found, const std::vector<T>& z, const T* p, const softmax_options& options,
                  const std::string& what, worst_errors* worst) {
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

template std::string describe(const std::vector<float>&, const softmax_options&);
template std::size_t first_difference(const float*, const float*, std::size_t);
template void expect_same_bits(findings&, const float*, const float*, const std::string&, const std::vector<float>&,
                               const softmax_options&);
template void expect_right(findings&, const std::vector<float>&, const float*, const softmax_options&,
                           const std::string&, worst_errors*);
template std::string describe(const std::vector<double>&, const softmax_options&);
template std::size_t first_difference(const double*, const double*, std::size_t);
template void expect_same_bits(findings&, const double*, const double*, const std::string&, const std::vector<double>&,
                               const softmax_options&);
template void expect_right(findings&, const std::vector<double>&, const double*, const softmax_options&,
                           const std::string&, worst_errors*);
template std::size_t first_difference(const float16*, const float16*, std::size_t);
template std::size_t first_difference(const bfloat16*, const bfloat16*, std::size_t);

} // namespace xsoftmax::test

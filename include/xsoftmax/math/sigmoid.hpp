// SPDX-License-Identifier: MIT
// The logistic function and its complement, both accurate relative to themselves, from one exponential and one
// division:
//
//   s = 1 / (exp(|x|) + 1) in [0, 1/2]     sigma(x) = x < 0 ? s : 1 - s,   1 - sigma(x) the other one
//
// The same as e / (1 + e) with e = exp(-|x|), but with one rounding less: the exponential is left as power (1 + q), and
// power q + 1 is small beside the power wherever its rounding could be felt.
#pragma once

#include <xsoftmax/math/growth.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

template <class V>
struct sigmoid_pair {
  V value;
  V complement;
};

/// sigma(x) = 1 / (1 + exp(-x)) and 1 - sigma(x), the larger of which is 1 minus the smaller one.
///
/// sigma(-inf) = 0, sigma(+inf) = 1, NaN for NaN, 1/2 at 0. What would be below 1.525 * 2^-126 (double: 1.5 * 2^-1022)
/// is 0: no result is subnormal. The complement of x has the bits of sigma(-x).
///
/// Largest error, of all floats: 1.5967 ULP at -0x1.ff1d3ep-2, without fma 1.6020 ULP at -0x1.001802p-1; largest found
/// for double: 1.8105 ULP at -0x1.1c0ab2bb6806dp+2, without fma 1.8359 ULP at -0x1.1c2e574ace2cep+2.
template <class A, class T>
XSOFTMAX_STEP sigmoid_pair<batch<A, T>> sigmoid_with_complement(batch<A, T> x) {
  using N = native<A>;
  using V = batch<A, T>;
  const V y = magnitude<A>(x);
  const V lesser = reciprocal_growth<A, T>(y, T{1});
  const V greater = V(T{1}) - lesser;
  return {N::where_equal(x, y, greater, lesser), N::where_equal(x, y, lesser, greater)};
}

/// The value of sigmoid_with_complement alone.
template <class A, class T>
XSOFTMAX_STEP batch<A, T> sigmoid(batch<A, T> x) {
  return sigmoid_with_complement<A, T>(x).value;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

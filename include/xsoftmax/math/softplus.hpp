// SPDX-License-Identifier: MIT
// The softplus function, accurate relative to itself:
//
//   max(x, 0) + log(1 + e)      e = exp(-|x|)
//   log(1 + e) = u + u^3 P(u^2) u = e / (1 + e / 2) = 1 / (exp(|x|) + 1/2)
#pragma once

#include <xsoftmax/math/growth.hpp>
#include <xsoftmax/math/log1p.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// log(1 + exp(x)), whose derivative is sigmoid(x).
///
/// 0 at -inf, +inf at +inf, NaN for NaN. What would be below 1.525 * 2^-126 (double: 1.5 * 2^-1022) is 0: no result is
/// subnormal.
///
/// Largest error, of all floats: 2.0009 ULP at -0x1.fe3c0ep-2, without fma 2.0164 ULP at -0x1.00a4c8p-1; largest found
/// for double: 2.292 ULP at -0x1.1cabd8b671d1dp+2, without fma 2.329 ULP at -0x1.1c6d57e40b415p+2.
template <class A, class T>
XSOFTMAX_STEP batch<A, T> softplus(batch<A, T> x) {
  const batch<A, T> u = reciprocal_growth<A, T>(magnitude<A>(x), T(0.5));
  return add_log_of_quotient<A>(u, native<A>::max_keeping_nan(x, batch<A, T>(T{0})));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

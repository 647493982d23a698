// SPDX-License-Identifier: MIT
// log(1 + y) for y in [0, 1], accurate relative to its result:
//
//   log(1 + y) = u + u^3 P(u^2)    u = y / (1 + y / 2) in [0, 2/3]: 2 atanh(u / 2), without a reduction
//
// P was made by cmake/coeffs/log1p.sollya, which also prints its error.
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// P(t) for t = u^2 <= 4/9; t times its error is below 0.04 * 2^-24 up to 1/16 and 0.14 * 2^-24 beyond.
template <class A>
XSOFTMAX_STEP detail::batch<A, float> log1p_remainder(detail::batch<A, float> t) {
  using N = detail::native<A>;
  using F = detail::batch<A, float>;
  F p = N::multiply_add(F(0x1.1AF68Ep-11f), t, F(0x1.1F8DE6p-9f));
  p = N::multiply_add(p, t, F(0x1.99C4DEp-7f));
  return N::multiply_add(p, t, F(0x1.55552p-4f));
}

/// The same for double; t times its error is below 0.02 * 2^-53.
template <class A>
XSOFTMAX_STEP detail::batch<A, double> log1p_remainder(detail::batch<A, double> t) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  const D t2 = t * t;
  const D c01 = N::multiply_add(D(0x1.99999999A0787p-7), t, D(0x1.5555555555535p-4));
  const D c23 = N::multiply_add(D(0x1.C71C741DC7618p-12), t, D(0x1.2492492089ECBp-9));
  const D c45 = N::multiply_add(D(0x1.3B1DDF6CA6B0Bp-16), t, D(0x1.745CB3CFBA7CCp-14));
  const D c67 = N::multiply_add(D(0x1.EFDB3E5BBF8E4p-21), t, D(0x1.106792C1F3F65p-18));
  const D c89 = N::multiply_add(D(0x1.5C8346B096549p-24), t, D(0x1.55A4FDC794ED7p-23));
  const D c6789 = N::multiply_add(c89, t2, c67);
  const D c456789 = N::multiply_add(c6789, t2, c45);
  return N::multiply_add(N::multiply_add(c456789, t2, c23), t2, c01);
}

/// base + log((1 + u / 2) / (1 - u / 2)) for u in [0, 2/3] and base >= 0; NaN stays NaN.
template <class A, class V>
XSOFTMAX_STEP V add_log_of_quotient(V u, V base) {
  const V t = u * u;
  return u + detail::native<A>::multiply_add(u * t, log1p_remainder<A>(t), base);
}

/// log(1 + y) for y in [0, 1].
///
/// 0 at 0, NaN for NaN.
///
/// Largest error, of all floats: 1.9684 ULP at 0x1.fa2cp-9, with fma and without; largest found for double: 1.989 ULP
/// at 0x1.ff8ba3e4e8a01p-9.
template <class A, class T>
XSOFTMAX_STEP detail::batch<A, T> log1p_unit(detail::batch<A, T> y) {
  using N = detail::native<A>;
  using V = detail::batch<A, T>;
  const V u = N::divide(y, N::multiply_add(y, V(T(0.5)), V(T{1}))); // an exact product
  return add_log_of_quotient<A>(u, V(T{0}));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

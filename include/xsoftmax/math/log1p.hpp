// SPDX-License-Identifier: MIT
// log(1 + y) for y in [0, 1], accurate relative to its result:
//
//   log(1 + y) = u + u^3 P(u^2)    u = y / (1 + y / 2) in [0, 2/3]: 2 atanh(u / 2), without a reduction
//
// P was made by cmake/coeffs/log1p.sollya, which also prints its error.
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// P(t) for t = u^2 <= 4/9; t times its error is below 0.08 * 2^-24.
template <class A>
XSOFTMAX_INLINE detail::batch<A, float> log1p_remainder(detail::batch<A, float> t) {
  using N = detail::native<A>;
  using F = detail::batch<A, float>;
  F p(0x1.1EFF94p-11f);
  p = N::multiply_add(p, t, F(0x1.1EB486p-9f));
  p = N::multiply_add(p, t, F(0x1.99D296p-7f));
  return N::multiply_add(p, t, F(0x1.5555p-4f));
}

/// The same for double; t times its error is below 0.45 * 2^-53.
template <class A>
XSOFTMAX_INLINE detail::batch<A, double> log1p_remainder(detail::batch<A, double> t) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  const D t2 = t * t;
  const D c01 = N::multiply_add(D(0x1.99999998E963Ep-7), t, D(0x1.5555555555948p-4));
  const D c23 = N::multiply_add(D(0x1.C71C4A104977Ap-12), t, D(0x1.2492497920F3Bp-9));
  const D c45 = N::multiply_add(D(0x1.3AA88FFC3DEC3p-16), t, D(0x1.746259B33A028p-14));
  const D c67 = N::multiply_add(D(0x1.956A217CD1ED8p-21), t, D(0x1.1644CE00EEC3Fp-18));
  const D c678 = N::multiply_add(D(0x1.6B848A71FB346p-22), t2, c67);
  const D c45678 = N::multiply_add(c678, t2, c45);
  const D c2345678 = N::multiply_add(c45678, t2, c23);
  return N::multiply_add(c2345678, t2, c01);
}

/// base + log(1 + y / unit) for y in [0, unit] and base >= 0; unit a positive normal number. NaN stays NaN.
template <class A, class T>
XSOFTMAX_INLINE detail::batch<A, T> log1p_of_ratio(detail::batch<A, T> y, detail::batch<A, T> unit,
                                                   detail::batch<A, T> base) {
  using N = detail::native<A>;
  using V = detail::batch<A, T>;
  const V u = N::divide(y, N::multiply_add(y, V(T(0.5)), unit)); // an exact product
  const V t = u * u;
  return base + N::multiply_add(u * t, log1p_remainder<A>(t), u);
}

/// log(1 + y) for y in [0, 1]; NaN stays NaN.
template <class A, class T>
XSOFTMAX_INLINE detail::batch<A, T> log1p_unit(detail::batch<A, T> y) {
  using V = detail::batch<A, T>;
  return log1p_of_ratio<A, T>(y, V(T{1}), V(T{0}));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

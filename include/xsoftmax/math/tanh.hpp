// SPDX-License-Identifier: MIT
// The hyperbolic tangent, accurate relative to itself:
//
//   m = exp(-2 |x|) - 1,   tanh |x| = -m / (2 + m)
//
// exp(y) = power (1 + q) as in exp.hpp; m = (power - 1) + power q loses nothing near 0, where the power is 1 or the
// difference exact.
#pragma once

#include <xsoftmax/math/exp.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// exp(x) - 1 for x <= 0, to within its rounding errors relative to its value; -1 for what is far below. NaN stays NaN.
template <class A, class T>
XSOFTMAX_INLINE batch<A, T> exp_minus_one_below_zero(batch<A, T> x) {
  using N = native<A>;
  using V = batch<A, T>;
  constexpr T lowest = sizeof(T) == 4 ? -32 : -64; // anything where the power is lost in the difference
  const reduced<A, T> r = reducer<A, T, false>(unit_reduction<A, T>())(N::max_keeping_nan(x, V(lowest)));
  const V power = N::from_bits(power_bits<A, T, power_table>(0)(r.k));
  V q;
  if constexpr (sizeof(T) == 4) {
    const typename N::table rest(power_table_rest<A>::entry, 0);
    q = exp_minus_one<A>(r.t, N::from_bits(rest(r.k)));
  } else {
    q = exp_minus_one<A>(r.t);
  }
  return N::multiply_add(power, q, power - V(T{1}));
}

/// tanh(x).
template <class A, class T>
XSOFTMAX_INLINE batch<A, T> tanh(batch<A, T> x) {
  using N = native<A>;
  using V = batch<A, T>;
  using I = batch<A, bits_t<T>>;
  const I sign = N::bits(V(T(-0.0)));
  const V m = exp_minus_one_below_zero<A, T>(N::from_bits(N::bits(x + x) | sign));
  const V magnitude = N::divide(m, m + V(T{2}));
  return N::from_bits((N::bits(magnitude) & ~sign) | (N::bits(x) & sign));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

// SPDX-License-Identifier: MIT
// The hyperbolic tangent, accurate relative to itself:
//
//   m = exp(2 |x|) - 1,   tanh |x| = m / (m + 2)
//
// With unit exp = power (1 + q), unit m = (power - unit) + power q loses nothing near 0, where the power is the unit or
// the difference exact. No polynomial in x, nothing to choose between.
#pragma once

#include <xsoftmax/math/growth.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// 1.90625 * 2^(j/16): with a unit just below 2 the roundings of unit m, of unit (m + 2) and, where m is small, of the
/// quotient weigh less together than with others.
template <class A>
struct tanh_table {
  static constexpr float factor = 0x1.E8p+0f;
  static constexpr double factor_in_double = 1.0;
  static constexpr int octaves = 0;
  alignas(64) static constexpr std::int32_t entry[16] = {
      table_entry(0x1.E8p+0f, 0),      table_entry(0x1.FD9B08p+0f, 1),  table_entry(0x1.0A157Ap+1f, 2),
      table_entry(0x1.15DD4Cp+1f, 3),  table_entry(0x1.222AA2p+1f, 4),  table_entry(0x1.2F0368p+1f, 5),
      table_entry(0x1.3C6DCAp+1f, 6),  table_entry(0x1.4A7038p+1f, 7),  table_entry(0x1.59117p+1f, 8),
      table_entry(0x1.685878p+1f, 9),  table_entry(0x1.784CA8p+1f, 10), table_entry(0x1.88F5ACp+1f, 11),
      table_entry(0x1.9A5B82p+1f, 12), table_entry(0x1.AC8688p+1f, 13), table_entry(0x1.BF7F7Cp+1f, 14),
      table_entry(0x1.D34F76p+1f, 15)};
};

/// What tanh_table's entries lack: factor * 2^(j/16) = entry * (1 + this), as bits of a float.
template <class A>
struct tanh_table_rest {
  alignas(64) static constexpr std::int32_t entry[16] = {table_entry(0.0f, 0),
                                                         table_entry(0x1.F9D33Cp-26f, 0),
                                                         table_entry(-0x1.86BF54p-26f, 0),
                                                         table_entry(-0x1.B1F3AEp-25f, 0),
                                                         table_entry(0x1.83A5E8p-28f, 0),
                                                         table_entry(0x1.B5200Ep-30f, 0),
                                                         table_entry(-0x1.4AEE38p-25f, 0),
                                                         table_entry(-0x1.B064DEp-29f, 0),
                                                         table_entry(-0x1.2B7C2Ep-26f, 0),
                                                         table_entry(-0x1.13A75p-28f, 0),
                                                         table_entry(0x1.0AE544p-27f, 0),
                                                         table_entry(-0x1.42C7E4p-25f, 0),
                                                         table_entry(-0x1.24DA44p-28f, 0),
                                                         table_entry(0x1.215EACp-25f, 0),
                                                         table_entry(-0x1.E9B6A6p-26f, 0),
                                                         table_entry(0x1.EC2Cp-27f, 0)};
};

/// q for t, the power's error included, accurate relative to itself.
template <class A>
XSOFTMAX_STEP batch<A, float> growth_minus_one(const reduced<A, float>& r) {
  using N = native<A>;
  using F = batch<A, float>;
  const typename N::table rest(tanh_table_rest<A>::entry, 0);
  // One term more than exp_remainder: the error, below 0.01 * 2^-24, is one of q, there of 1 + q.
  F p = N::multiply_add(F(0x1.5556Dp-5f), r.t, F(0x1.5556FEp-3f));
  p = N::multiply_add(p, r.t, F(0.5f));
  return r.t + N::multiply_add(p, r.t * r.t, N::from_bits(rest(r.k)));
}

template <class A>
XSOFTMAX_STEP batch<A, double> growth_minus_one(const reduced<A, double>& r) {
  return exp_minus_one<A>(r.t);
}

/// tanh(x), odd to the bit.
///
/// Zeros stay as they are, -1 and 1 at the infinities and from where they are the nearest numbers, NaN for NaN.
///
/// Largest error, of all floats: 2.4135 ULP at 0x1.fc9bb4p-8, without fma 2.4177 ULP at 0x1.fffa5p-5; largest found for
/// double: 2.758 ULP at 0x1.ff47efb71cbf5p-6, without fma 2.774 ULP at 0x1.fcec38faca4f9p-6.
template <class A, class T>
XSOFTMAX_STEP batch<A, T> tanh(batch<A, T> x) {
  using N = native<A>;
  using V = batch<A, T>;
  using G = growth<A, T, tanh_table>;
  const V highest(sizeof(T) == 4 ? T(32) : T(64)); // the quotient is 1 from 18 (38) on
  const V y = N::min_keeping_nan(magnitude<A>(x * V(T{2})), highest);
  const reduced<A, T> r = reducer<A, T, false>(unit_reduction<A, T>())(y);
  const V power = G::power(r.k);
  const V m = N::multiply_add(power, growth_minus_one<A>(r), power - V(G::unit));
  const V quotient = N::divide(m, m + V(2 * G::unit));
  return N::from_bits(N::bits(quotient) | (N::bits(x) & N::bits(V(T(-0.0)))));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

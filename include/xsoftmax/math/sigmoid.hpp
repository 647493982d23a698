// SPDX-License-Identifier: MIT
// The logistic function and its complement, both accurate relative to themselves, from one exponential and one
// division:
//
//   e = exp(-|x|),   s = e / (1 + e) in (0, 1/2],   sigma(x) = x > 0 ? 1 - s : s,   1 - sigma(x) the other one
#pragma once

#include <xsoftmax/math/exp.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// exp(-|x|) = term / unit, term in [0, unit]. The unit is a power of two that leaves room below, so that a term which
/// gives a subnormal quotient is a normal number, times the common factor of balanced_power_table.
template <class A, class T>
struct decay {
  using V = batch<A, T>;
  static constexpr T unit = static_cast<T>(power_bits<A, T, balanced_power_table>::scale *
                                           __builtin_bit_cast(double, std::uint64_t{1023 + octave_bias<T>} << 52));

  V below; ///< -|x|
  V term;

  XSOFTMAX_INLINE explicit decay(V x)
      : below(native<A>::from_bits(native<A>::bits(x) | native<A>::bits(V(T(-0.0))))),
        term(extended_exp<A, T, false>(unit_reduction<A, T>(), 0)(below)) {}
};

template <class V>
struct sigmoid_pair {
  V value;
  V complement;
};

/// sigma(x) = 1 / (1 + exp(-x)) and 1 - sigma(x).
template <class A, class T>
XSOFTMAX_INLINE sigmoid_pair<batch<A, T>> sigmoid_with_complement(batch<A, T> x) {
  using N = native<A>;
  using V = batch<A, T>;
  const decay<A, T> e(x);
  const V lesser = N::divide(e.term, e.term + V(e.unit));
  const V greater = V(T{1}) - lesser;
  return {N::where_equal(x, e.below, lesser, greater), N::where_equal(x, e.below, greater, lesser)};
}

/// The value of sigmoid_with_complement alone.
template <class A, class T>
XSOFTMAX_INLINE batch<A, T> sigmoid(batch<A, T> x) {
  return sigmoid_with_complement<A, T>(x).value;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

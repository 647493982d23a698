// SPDX-License-Identifier: MIT
// The exponential as it grows, for quotients: of y >= 0, relative to a unit that is common to numerator and
// denominator,
//
//   unit exp(y) = power (1 + q)     power = unit 2^(k / steps)
//
// and not multiplied out, so that what is added to it or taken away meets the power first. The unit's factor is chosen
// for the quotients: it cancels, but decides where in their binades the power, the sum and the quotient lie, and so
// what their roundings weigh.
#pragma once

#include <xsoftmax/math/exp.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// 1.5240 * 2^(j/16). Among factors near sqrt(2), with which the errors of the entry, of the sum and of the quotient
/// make at most 1.41 ULP of unit / (unit exp(y) + unit c), one of the best for sigmoid and softplus. The unit is four
/// times that: unit / infinity is the first quotient below the normal numbers.
template <class A>
struct growth_table {
  static constexpr float factor = 0x1.865408p+0f;
  static constexpr double factor_in_double = 1.5; // has no table
  static constexpr int octaves = 2;
  alignas(64) static constexpr std::int32_t entry[16] = {
      table_entry(0x1.865408p+0f, 0),  table_entry(0x1.979C0Cp+0f, 1),  table_entry(0x1.A9A7EEp+0f, 2),
      table_entry(0x1.BC805Ap+0f, 3),  table_entry(0x1.D02E5Ep+0f, 4),  table_entry(0x1.E4BB7p+0f, 5),
      table_entry(0x1.FA317p+0f, 6),   table_entry(0x1.084D56p+1f, 7),  table_entry(0x1.1400F6p+1f, 8),
      table_entry(0x1.203936p+1f, 9),  table_entry(0x1.2CFBF6p+1f, 10), table_entry(0x1.3A4F58p+1f, 11),
      table_entry(0x1.4839C2p+1f, 12), table_entry(0x1.56C1E6p+1f, 13), table_entry(0x1.65EEBEp+1f, 14),
      table_entry(0x1.75C794p+1f, 15)};
};

/// unit exp(y) with the unit of a table.
template <class A, class T, template <class> class Table>
struct growth;

template <class A, template <class> class Table>
struct growth<A, float, Table> {
  static constexpr float unit = Table<A>::factor * static_cast<float>(1 << Table<A>::octaves);

  static XSOFTMAX_STEP batch<A, float> power(batch<A, std::int32_t> k) {
    return native<A>::from_bits(power_bits<A, float, Table>(Table<A>::octaves)(k));
  }
};

template <class A, template <class> class Table>
struct growth<A, double, Table> {
  static constexpr double unit = Table<A>::factor_in_double * (1 << Table<A>::octaves);

  static XSOFTMAX_STEP batch<A, double> power(batch<A, std::int64_t> k) {
    using N = native<A>;
    return N::from_bits(N::template shift_left<52>(k) + N::bits(batch<A, double>(unit)));
  }
};

/// Where unit exp(y) overflows, with the unit of growth_table. Its factor puts 2^128 into the upper half of a step
/// whose power is finite; an infinite one would make NaN of infinity times 0. In double likewise.
template <class T>
inline constexpr T growth_overflow = sizeof(T) == 4 ? static_cast<T>(125.375 * 0x1.62E42FEFA39EFp-1 + 0.0166)
                                                    : static_cast<T>(1021 * 0x1.62E42FEFA39EFp-1 + 0.32);

/// 1 / (exp(y) + c) for y >= 0, c = 1/2 or 1; NaN stays NaN. Where it would be below 1.525 * 2^-126 (1.5 * 2^-1022), 0:
/// a normal number or 0, whatever is done with subnormal ones.
template <class A, class T>
XSOFTMAX_STEP batch<A, T> reciprocal_growth(batch<A, T> y, T c) {
  using N = native<A>;
  using V = batch<A, T>;
  using G = growth<A, T, growth_table>;
  const reduced<A, T> r = reducer<A, T, false>(unit_reduction<A, T>())(N::min_keeping_nan(y, V(growth_overflow<T>)));
  const V power = G::power(r.k);
  return N::divide(V(G::unit), power + N::multiply_add(power, exp_minus_one<A>(r.t), V(G::unit * c)));
}

/// |v|
template <class A, class V>
XSOFTMAX_STEP V magnitude(V v) {
  using N = native<A>;
  return N::from_bits(N::bits(v) & ~N::bits(V(static_cast<typename V::value_type>(-0.0))));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

// SPDX-License-Identifier: MIT
// The exponential, once: a core that every use shares, the ordinary function exp, and the extended exponential, which
// returns exp(x / T) as a number relative to a power of two of the caller's choice and so never over- or underflows.
//
//   x / T = (k / steps) ln 2 + t      k integer, steps = 16 (float) or 1 (double) to the octave, |t| <= ln 2 / (2
//   steps) exp(x / T) = 2^floor(k / steps) * 2^((k mod steps) / steps) * (1 + q(t)),   q(t) = exp(t) - 1 as a
//   polynomial
//
// Reduction in the manner of Cody and Waite with ln 2 (times T) in two parts: with fused multiply-add the first step is
// exact for every k; without, the first part is short enough for k * part to be exact in the range served.
// Float takes 2^(j/16) from a table and a cubic, double a polynomial of degree 11; both were made by
// cmake/coeffs/exp.sollya, which also prints their errors.
#pragma once

#include <xsoftmax/detail/wide_reduction.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

namespace detail = xsoftmax::detail;
using detail::batch;
using detail::bits_t;
using detail::map;
using detail::native;
using detail::pack;

/// What depends on the element type: the number formats and the polynomial.
template <class T>
struct exp_format;

template <>
struct exp_format<float> {
  static constexpr int step_bits = 4;
  static constexpr int fraction_bits = 23;
  static constexpr std::int32_t exponent_bias = 127;
  /// 1.5 * 2^(23 - 4): adding it rounds to a multiple of 1/16 and leaves 16 x in the low bits.
  static constexpr float round = 0x1.8p19f;
  static constexpr float log2e = 0x1.715476p0f;
  /// Octaves |k / steps| up to which the floating-point reduction serves; without fma, k * high must be exact.
  static constexpr std::int64_t octaves_fused = 1 << 16;
  static constexpr std::int64_t octaves_split = 1 << 8;
  static constexpr std::uint32_t split_mask = 0xFFFFE000u; // 11 bits of the significand
  /// Range of the ordinary function: exp overflows above, rounds to 0 below.
  static constexpr float highest = 89.0f;
  static constexpr float lowest = -105.0f;
};

template <>
struct exp_format<double> {
  static constexpr int step_bits = 0;
  static constexpr int fraction_bits = 52;
  static constexpr std::int64_t exponent_bias = 1023;
  static constexpr double round = 0x1.8p52;
  static constexpr double log2e = 0x1.71547652B82FEp0;
  static constexpr std::int64_t octaves_fused = std::int64_t{1} << 40;
  static constexpr std::int64_t octaves_split = 1 << 11;
  static constexpr std::uint64_t split_mask = ~std::uint64_t{0x3FFF}; // 39 bits of the significand
  static constexpr double highest = 710.0;
  static constexpr double lowest = -746.0;
};

/// (q(t) - t) / t^2 with q(t) = exp(t) - 1, for |t| <= 1.04 ln 2 / 32; relative error of 1 + q below 0.032 * 2^-24.
template <class A>
XSOFTMAX_STEP batch<A, float> exp_remainder(batch<A, float> t, batch<A, float>) {
  using F = batch<A, float>;
  return native<A>::multiply_add(F(0x1.55559Ep-3f), t, F(0x1.00024Ap-1f));
}

/// The same for double, |t| <= ln 2 / 2; relative error of 1 + q below 0.035 * 2^-53. Estrin's scheme: the
/// chain is four multiply-adds long instead of ten.
template <class A>
XSOFTMAX_STEP batch<A, double> exp_remainder(batch<A, double> t, batch<A, double> t2) {
  using N = native<A>;
  using D = batch<A, double>;
  const D t4 = t2 * t2;
  const D c23 = N::multiply_add(D(0x1.55555555554FEp-3), t, D(0x1.000000000000Ap-1));
  const D c45 = N::multiply_add(D(0x1.1111111126B3p-7), t, D(0x1.55555555506BAp-5));
  const D c67 = N::multiply_add(D(0x1.A01A012FF2942p-13), t, D(0x1.6C16C18477AEFp-10));
  const D c89 = N::multiply_add(D(0x1.71DF18E254781p-19), t, D(0x1.A019995CDC802p-16));
  const D c1011 = N::multiply_add(D(0x1.AD9303FF16BE2p-26), t, D(0x1.28ADFEFA69A53p-22));
  const D c2345 = N::multiply_add(c45, t2, c23);
  const D c6789 = N::multiply_add(c89, t2, c67);
  const D high = N::multiply_add(c1011, t4, c6789);
  return N::multiply_add(high, t4, c2345);
}

/// q(t) for a batch of float or double.
template <class A, class V>
XSOFTMAX_STEP V exp_minus_one(V t) {
  const V t2 = t * t;
  return native<A>::multiply_add(exp_remainder<A>(t, t2), t2, t);
}

/// The same for t + rest, |rest| <= ulp(t) / 2.
template <class A, class V>
XSOFTMAX_STEP V exp_minus_one(V t, V rest) {
  const V t2 = t * t;
  return t + native<A>::multiply_add(exp_remainder<A>(t, t2), t2, rest);
}

/// Bits of the table's entry j less j steps: adding k << (fraction - step) bits then leaves 2^floor(k / 16) * entry.
consteval std::int32_t table_entry(float value, int j) {
  return __builtin_bit_cast(std::int32_t, value) - (j << 19);
}

/// 2^(j/16), correctly rounded.
template <class A>
struct power_table {
  static constexpr double scale = 1.0;
  alignas(64) static constexpr std::int32_t entry[16] = {
      table_entry(0x1.000000p+0f, 0),  table_entry(0x1.0b5586p+0f, 1),  table_entry(0x1.172b84p+0f, 2),
      table_entry(0x1.2387a6p+0f, 3),  table_entry(0x1.306fe0p+0f, 4),  table_entry(0x1.3dea64p+0f, 5),
      table_entry(0x1.4bfdaep+0f, 6),  table_entry(0x1.5ab07ep+0f, 7),  table_entry(0x1.6a09e6p+0f, 8),
      table_entry(0x1.7a1148p+0f, 9),  table_entry(0x1.8ace54p+0f, 10), table_entry(0x1.9c4918p+0f, 11),
      table_entry(0x1.ae89fap+0f, 12), table_entry(0x1.c199bep+0f, 13), table_entry(0x1.d5818ep+0f, 14),
      table_entry(0x1.ea4afap+0f, 15)};
};

/// What power_table's entries lack: 2^(j/16) = entry * (1 + this), as bits of a float.
template <class A>
struct power_table_rest {
  alignas(64) static constexpr std::int32_t entry[16] = {table_entry(0.0f, 0),
                                                         table_entry(0x1.8d96d4p-25f, 0),
                                                         table_entry(-0x1.9c0c22p-27f, 0),
                                                         table_entry(0x1.964904p-25f, 0),
                                                         table_entry(0x1.125002p-25f, 0),
                                                         table_entry(0x1.370be4p-25f, 0),
                                                         table_entry(-0x1.0a355p-25f, 0),
                                                         table_entry(-0x1.00d8acp-27f, 0),
                                                         table_entry(0x1.26055cp-26f, 0),
                                                         table_entry(-0x1.05cb44p-25f, 0),
                                                         table_entry(0x1.67a1cap-28f, 0),
                                                         table_entry(0x1.a3b5e4p-28f, 0),
                                                         table_entry(-0x1.f9c304p-27f, 0),
                                                         table_entry(-0x1.6961b4p-28f, 0),
                                                         table_entry(-0x1.a5217cp-28f, 0),
                                                         table_entry(0x1.61428ep-28f, 0)};
};

/// scale * 2^(j/16). A quotient of exponentials does not see the common factor, and with this one the rounding errors
/// of the entries are small just where the final rounding weighs most: together 1.09 * 2^-24 at worst, against
/// 1.53 for 1 (the script prints both).
template <class A>
struct balanced_power_table {
  static constexpr double scale = 0x1.09334A1ADE566p0;
  alignas(64) static constexpr std::int32_t entry[16] = {
      table_entry(0x1.09334ap+0f, 0),  table_entry(0x1.14f118p+0f, 1),  table_entry(0x1.2133fap+0f, 2),
      table_entry(0x1.2e01d4p+0f, 3),  table_entry(0x1.3b60cep+0f, 4),  table_entry(0x1.495754p+0f, 5),
      table_entry(0x1.57ec1cp+0f, 6),  table_entry(0x1.672628p+0f, 7),  table_entry(0x1.770cc8p+0f, 8),
      table_entry(0x1.87a7a2p+0f, 9),  table_entry(0x1.98feaep+0f, 10), table_entry(0x1.ab1a44p+0f, 11),
      table_entry(0x1.be0316p+0f, 12), table_entry(0x1.d1c23ap+0f, 13), table_entry(0x1.e6612cp+0f, 14),
      table_entry(0x1.fbe9d8p+0f, 15)};
};

/// k -> bits of 2^(octaves + k / steps), for exponents in the range of T; shifted means modulo 2^width.
template <class A, class T, template <class> class Table>
class power_bits;

template <class A, template <class> class Table>
class power_bits<A, float, Table> {
public:
  static constexpr double scale = Table<A>::scale;

  XSOFTMAX_STEP explicit power_bits(std::int64_t octaves)
      : table_(Table<A>::entry, static_cast<std::int32_t>(static_cast<std::uint32_t>(octaves) << 23)) {}

  XSOFTMAX_STEP batch<A, std::int32_t> operator()(batch<A, std::int32_t> k) const {
    return table_(k) + native<A>::template shift_left<19>(k);
  }

private:
  typename native<A>::table table_;
};

template <class A, template <class> class Table>
class power_bits<A, double, Table> {
public:
  static constexpr double scale = 1.0;

  XSOFTMAX_STEP explicit power_bits(std::int64_t octaves)
      : offset_(static_cast<std::int64_t>((static_cast<std::uint64_t>(octaves) + 1023) << 52)) {}

  XSOFTMAX_STEP batch<A, std::int64_t> operator()(batch<A, std::int64_t> k) const {
    return native<A>::template shift_left<52>(k) + offset_;
  }

private:
  batch<A, std::int64_t> offset_;
};

/// The same with octaves of each lane's own.
template <class A, class T, template <class> class Table>
class lane_power_bits {
public:
  static constexpr double scale = power_bits<A, T, Table>::scale;

  /// shifted: octaves at the place of the exponent
  XSOFTMAX_STEP explicit lane_power_bits(batch<A, bits_t<T>> shifted) : power_(0), shifted_(shifted) {}

  XSOFTMAX_STEP batch<A, bits_t<T>> operator()(batch<A, bits_t<T>> k) const { return power_(k) + shifted_; }

private:
  power_bits<A, T, Table> power_;
  batch<A, bits_t<T>> shifted_;
};

/// k (its low bits; the rest is that of exp_format::round) and t.
template <class A, class T>
struct reduced {
  batch<A, bits_t<T>> k;
  batch<A, T> t;
};

/// The constants of the reduction for one temperature, and whether the floating-point reduction can serve at all.
template <class A, class T>
struct reduction {
  T log2e_over_temperature;
  T ln2_high; ///< T ln 2, first part
  T ln2_low;  ///< and what is missing
  T ln2_rest; ///< what is missing then; counts only where the first part had to be short (float without fma)
  T inverse_temperature;
  T inverse_low; ///< what that lacks (double)
  bool usable;
};

/// The reduction's constants. Every product that meets an addition is an explicit fma: contraction finds nothing to do.
template <class A, class T>
XSOFTMAX_STEP reduction<A, T> make_reduction(double temperature) {
  using N = native<A>;
  using D = batch<A, double>;
  using Format = exp_format<T>;
  reduction<A, T> r;
  r.usable = temperature >= 0x1p-64 && temperature <= 0x1p64;
  if (!r.usable) {
    temperature = 1.0;
  }
  const D t(temperature);
  const D ln2(0x1.62E42FEFA39EFp-1);
  const double product = (t * ln2).get(0);
  using Bits = std::make_unsigned_t<bits_t<T>>;
  auto high = static_cast<T>(product);
  if constexpr (!N::fused) {
    high = __builtin_bit_cast(T, static_cast<Bits>(__builtin_bit_cast(Bits, high) & Format::split_mask));
  }
  r.log2e_over_temperature = static_cast<T>(0x1.71547652B82FEp0 / temperature);
  r.ln2_high = high;
  // T ln2 - high, with ln2 in double-double.
  const D missing = N::fused_multiply_add(t, ln2, D(-static_cast<double>(high)));
  const double low = N::multiply_add(t, D(0x1.ABC9E3B39803Fp-56), missing).get(0);
  r.ln2_low = static_cast<T>(low);
  r.ln2_rest = static_cast<T>(low - static_cast<double>(r.ln2_low));
  const D inverse(1.0 / temperature);
  r.inverse_temperature = static_cast<T>(inverse.get(0));
  r.inverse_low = static_cast<T>((N::fused_multiply_add(D(0.0) - inverse, t, D(1.0)) * inverse).get(0));
  return r;
}

/// make_reduction(1), known at compile time.
template <class A, class T>
consteval reduction<A, T> unit_reduction() {
  using Bits = std::make_unsigned_t<bits_t<T>>;
  auto high = static_cast<T>(0x1.62E42FEFA39EFp-1);
  if constexpr (!native<A>::fused) {
    high = __builtin_bit_cast(T, static_cast<Bits>(__builtin_bit_cast(Bits, high) & exp_format<T>::split_mask));
  }
  const double missing = 0x1.62E42FEFA39EFp-1 - static_cast<double>(high) + 0x1.ABC9E3B39803Fp-56;
  const auto low = static_cast<T>(missing);
  return {static_cast<T>(0x1.71547652B82FEp0),
          high,
          low,
          static_cast<T>(missing - static_cast<double>(low)),
          T{1},
          T{0},
          true};
}

/// Octaves up to which make_reduction's constants serve.
template <class A, class T>
inline constexpr std::int64_t reduction_octaves =
    native<A>::fused ? exp_format<T>::octaves_fused : exp_format<T>::octaves_split;

/// k and t of x / T. With HasTemperature = false, T = 1 and the last product is left out: the same bits.
template <class A, class T, bool HasTemperature>
class reducer {
public:
  using V = batch<A, T>;

  XSOFTMAX_STEP explicit reducer(const reduction<A, T>& r)
      : log2e_(r.log2e_over_temperature), ln2_high_(r.ln2_high), ln2_low_(r.ln2_low), ln2_rest_(r.ln2_rest),
        inverse_(r.inverse_temperature), inverse_low_(r.inverse_low) {}

  XSOFTMAX_STEP reduced<A, T> operator()(V x) const {
    V rest;
    return with_rest(x, rest);
  }

  /// The same for more, step by step.
  template <std::size_t N>
  XSOFTMAX_STEP pack<reduced<A, T>, N> operator()(const pack<V, N>& x) const {
    using Native = native<A>;
    const V round(exp_format<T>::round);
    const auto shifted = map([&](V v) XSOFTMAX_STEP_LAMBDA { return Native::multiply_add(v, log2e_, round); }, x);
    const auto octaves = map([&](V v) XSOFTMAX_STEP_LAMBDA { return v - round; }, shifted);
    const auto coarse =
        map([&](V o, V v) XSOFTMAX_STEP_LAMBDA { return Native::negative_multiply_add(o, ln2_high_, v); }, octaves, x);
    return map(
        [&](V s, V o, V v) XSOFTMAX_STEP_LAMBDA {
          V t = Native::negative_multiply_add(o, ln2_low_, v);
          if constexpr (sizeof(T) == 4 && !Native::fused) {
            t = Native::negative_multiply_add(o, ln2_rest_, t);
          }
          if constexpr (HasTemperature) {
            t = t * inverse_;
          }
          return reduced<A, T>{Native::bits(s), t};
        },
        shifted, octaves, coarse);
  }

  /// Also what t lost in its last rounding (at T = 1).
  XSOFTMAX_STEP reduced<A, T> with_rest(V x, V& rest) const {
    reduced<A, T> r = before_division(x, rest);
    if constexpr (HasTemperature) {
      r.t = r.t * inverse_;
    }
    return r;
  }

  /// The same for (x + low) / T, |low| <= ulp(x) / 2, and whatever T is. In float `rest` is not set: t is small, its
  /// rounding errors negligible.
  XSOFTMAX_STEP reduced<A, T> of_pair(V x, V low, V& rest) const {
    reduced<A, T> r = before_division(x, rest);
    if constexpr (sizeof(T) == 4) {
      r.t = r.t + low;
    } else {
      const V part = rest + low;
      const V t = r.t + part;
      rest = (r.t - t) + part;
      r.t = t;
    }
    if constexpr (HasTemperature) {
      using N = native<A>;
      const V t = r.t * inverse_;
      if constexpr (sizeof(T) == 8) {
        const V lost = N::fused_multiply_add(r.t, inverse_, V(T{}) - t);
        rest = N::multiply_add(rest, inverse_, N::multiply_add(r.t, inverse_low_, lost));
      }
      r.t = t;
    }
    return r;
  }

private:
  XSOFTMAX_STEP reduced<A, T> before_division(V x, V& rest) const {
    using N = native<A>;
    const V round(exp_format<T>::round);
    const V shifted = N::multiply_add(x, log2e_, round); // k / steps = x log2(e) / T, to the nearest step
    const V octaves = shifted - round;
    const V coarse = N::negative_multiply_add(octaves, ln2_high_, x); // exact
    V t = N::negative_multiply_add(octaves, ln2_low_, coarse);
    rest = N::negative_multiply_add(octaves, ln2_low_, coarse - t);
    if constexpr (sizeof(T) == 4 && !N::fused) {
      t = N::negative_multiply_add(octaves, ln2_rest_, t);
    }
    return {N::bits(shifted), t};
  }

  V log2e_;
  V ln2_high_;
  V ln2_low_;
  V ln2_rest_;
  V inverse_;
  V inverse_low_;
};

/// exp(x), the ordinary function: <= 1 ULP for every float (all 2^32 are tested) and, as far as sampling tells, double;
/// gradual underflow, exp(-inf) = 0, exp(+inf) = +inf, NaN for NaN. Largest error for float: 0.9862 ULP at
/// 0x1.c5500ap+2, without fma 0.9908 ULP at 0x1.74bd44p+5; largest found for double: 0.89 ULP near -708, 0.93
/// without fma near -346.
template <class A, class T>
XSOFTMAX_STEP batch<A, T> exp(batch<A, T> x) {
  using N = native<A>;
  using V = batch<A, T>;
  using Format = exp_format<T>;
  using Int = bits_t<T>;
  x = N::min_keeping_nan(N::max_keeping_nan(x, V(Format::lowest)), V(Format::highest));
  V rest;
  const reduced<A, T> r = reducer<A, T, false>(unit_reduction<A, T>()).with_rest(x, rest);
  // 2^(k / steps) would leave the range of T: 2^half more for negative x, 2^half less for the others, made good by one
  // multiplication, which is then the only rounding of a subnormal result. 2^half lies where half the sign bit is.
  constexpr Int half = (Format::exponent_bias + 1) / 2;
  constexpr Int one = Format::exponent_bias << Format::fraction_bits;
  const auto sign = N::half_sign(N::bits(x));
  const auto power = power_bits<A, T, power_table>(-half)(r.k) + sign;
  const V significand = N::from_bits(power);
  V q;
  if constexpr (sizeof(T) == 4 && N::fused) {
    q = exp_minus_one<A>(r.t); // t is small, its rounding error negligible
  } else {
    q = exp_minus_one<A>(r.t, rest);
  }
  const V e = N::fused_multiply_add(significand, q, significand);
  const auto correction = batch<A, Int>(one + (half << Format::fraction_bits)) - sign;
  return e * N::from_bits(correction);
}

/// Exponents left above a reference octave of which the caller keeps the largest term near 1: terms up to 2^headroom
/// times larger do not overflow, not even added to a block (term_sum), nor does a part of the sum's reciprocal
/// underflow.
template <class T>
inline constexpr std::int64_t headroom = sizeof(T) == 4 ? 80 : 750;

/// Terms are kept relative to 2^(reference - bias): the bias makes room below, so that every term that can still give a
/// subnormal probability is a normal number.
template <class T>
inline constexpr std::int64_t octave_bias = sizeof(T) == 4 ? 30 : 64;

/// The octave of k as it stands in the bits of reduced::k; far below every range where the sign bit is set, that is,
/// where x / T is too far below 0 for the rounding to work.
template <class T>
XSOFTMAX_INLINE std::int64_t octave_of(bits_t<T> k) {
  constexpr bits_t<T> round = __builtin_bit_cast(bits_t<T>, exp_format<T>::round);
  return k < 0 ? -(std::int64_t{1} << 62) : static_cast<std::int64_t>(k - round) >> exp_format<T>::step_bits;
}

/// The extended exponential in the range where the floating-point reduction serves: scale * exp(x / T) * 2^(bias -
/// reference). Mantissa and exponent depend on x and T alone; the reference only shifts the exponent. Terms below about
/// 2^(-bias - 126) (double: -1022) of the reference are exactly 0; -inf is one of them. NaN stays NaN.
/// Relative error, the constant factor `scale` apart: at most 1.2 * 2^-24 for float (largest at T = 1: 1.1374 * 2^-24
/// at -0x1.a64d4cp+3; without fma 1.1621 at -0x1.d23baap+4).
/// Power: power_bits for one reference, lane_power_bits for one to each lane.
template <class A, class T, bool HasTemperature, class Power = power_bits<A, T, balanced_power_table>>
class extended_exp {
public:
  using V = batch<A, T>;
  using I = batch<A, bits_t<T>>;
  static constexpr double scale = Power::scale;
  static constexpr bool has_temperature = HasTemperature;

  /// reference: an octave within reduction_octaves
  XSOFTMAX_STEP extended_exp(const reduction<A, T>& r, std::int64_t reference)
      : extended_exp(r, Power(octave_bias<T> - reference), V(lowest_logit(r, reference)),
                     V(highest_logit(r, reference))) {}

  /// The same for terms whose power and range are given.
  XSOFTMAX_STEP extended_exp(const reduction<A, T>& r, const Power& power, V lowest, V highest)
      : reduce_(r), power_(power), lowest_(lowest), highest_(highest) {}

  XSOFTMAX_STEP V operator()(V x) const {
    const reduced<A, T> r = reduce_(native<A>::max_keeping_nan(x, lowest_));
    return term(r);
  }

  /// The same, keeping in `largest` the maximum of k as it stands in the bits of reduced::k.
  XSOFTMAX_STEP V operator()(V x, I& largest) const {
    const reduced<A, T> r = reduce_(native<A>::max_keeping_nan(x, lowest_));
    largest = native<A>::max(largest, r.k);
    return term(r);
  }

  /// The same for x above lowest_normal, which are certain to have normal powers. Step by step for all: see
  /// probability_estimate.
  template <std::size_t N>
  XSOFTMAX_STEP pack<V, N> above_lowest(const pack<V, N>& x) const {
    return step_by_step<false>(x);
  }

  /// The same for x that are not below lowest_logit, where terms are 0.
  template <std::size_t N>
  XSOFTMAX_STEP pack<V, N> from_lowest(const pack<V, N>& x) const {
    return step_by_step<true>(x);
  }

  /// The same for a row that may hold anything: what is more than `headroom` octaves above the reference counts as
  /// much.
  XSOFTMAX_STEP V clamped(V x) const { return (*this)(native<A>::min_keeping_nan(x, highest_)); }

  XSOFTMAX_STEP V term(const reduced<A, T>& r) const {
    const V significand = native<A>::from_bits(power_or_zero(power_(r.k)));
    return native<A>::multiply_add(significand, exp_minus_one<A>(r.t), significand);
  }

  /// The octave at which a term is exactly 0: its power's exponent field is negative (float) or 0 (double).
  static constexpr std::int64_t lowest_octave(std::int64_t reference) {
    return reference - octave_bias<T> - exp_format<T>::exponent_bias - (sizeof(T) == 4 ? 2 : 0);
  }

  /// The range that a reference leaves to logits.
  static XSOFTMAX_STEP T lowest_logit(const reduction<A, T>& r, std::int64_t reference) {
    return static_cast<T>(lowest_octave(reference)) * r.ln2_high;
  }

  /// Above this one, powers are normal numbers.
  static XSOFTMAX_STEP T lowest_normal(const reduction<A, T>& r, std::int64_t reference) {
    return static_cast<T>(lowest_octave(reference) + 4) * r.ln2_high;
  }

  static XSOFTMAX_STEP T highest_logit(const reduction<A, T>& r, std::int64_t reference) {
    return static_cast<T>(reference + headroom<T>) * r.ln2_high;
  }

  /// All x with |x| below this one lie between both; 0 or less if none do.
  static XSOFTMAX_STEP T reach(const reduction<A, T>& r, std::int64_t reference) {
    const T below = -lowest_normal(r, reference);
    const T above = highest_logit(r, reference);
    return below < above ? below : above;
  }

  /// The power at and (float) below that octave is 0.
  static XSOFTMAX_STEP I power_or_zero(I power) {
    if constexpr (sizeof(T) == 4) {
      return native<A>::not_below_zero(power);
    } else {
      return power;
    }
  }

private:
  template <bool MayBeZero, std::size_t N>
  XSOFTMAX_STEP pack<V, N> step_by_step(const pack<V, N>& x) const {
    const auto r = reduce_(x);
    const auto significand = map(
        [&](const reduced<A, T>& v) XSOFTMAX_STEP_LAMBDA {
          const I power = power_(v.k);
          return native<A>::from_bits(MayBeZero ? power_or_zero(power) : power);
        },
        r);
    const auto t2 = map([&](const reduced<A, T>& v) XSOFTMAX_STEP_LAMBDA { return v.t * v.t; }, r);
    const auto remainder = map(
        [&](const reduced<A, T>& v, V square) XSOFTMAX_STEP_LAMBDA { return exp_remainder<A>(v.t, square); }, r, t2);
    const auto q = map([&](V u, V square, const reduced<A, T>& v)
                           XSOFTMAX_STEP_LAMBDA { return native<A>::multiply_add(u, square, v.t); },
                       remainder, t2, r);
    return map([&](V s, V v) XSOFTMAX_STEP_LAMBDA { return native<A>::multiply_add(s, v, s); }, significand, q);
  }

  reducer<A, T, HasTemperature> reduce_;
  Power power_;
  V lowest_;
  V highest_;
};

/// scale * 2^(j / steps), the scale that of balanced_power_table.
template <class A, int StepBits>
struct wide_power_table {
  static constexpr int steps = 1 << StepBits;
  double entry[steps];

  /// Each from the one before: errors of 2^-47 at most.
  consteval wide_power_table() : entry() {
    double root = 0x1.059b0d3158574p+0; // 2^(1/32)
    for (int bits = 5; bits > StepBits; --bits) {
      root *= root;
    }
    entry[0] = balanced_power_table<A>::scale;
    for (int j = 1; j < steps; ++j) {
      entry[j] = entry[j - 1] * root;
    }
  }
};

template <class A, int StepBits>
inline constexpr wide_power_table<A, StepBits> wide_powers;

/// An estimate of the probability of a float logit at T = 1: an exponential of fewer steps with 1 / S in its table.
/// Where p is the extended exponential, rounded, times 1 / S, rounded, the estimate is within 9 * 2^-24 of p: 2.2 are
/// p's, 2 the roundings of the table and of the last product, 0.9 the polynomial's, 3.3 those of ln 2, which here is
/// one float, a hundred octaves from 0; and less than 0.1 is what second orders add.
template <class A>
class probability_estimate {
public:
  using F = batch<A, float>;

  /// S relative to 2^(reference - bias), as of the terms of a row
  XSOFTMAX_STEP probability_estimate(std::int64_t reference, double sum)
      : probability_estimate(reference, 1.0 / sum,
                             octave_bias<float> - reference + detail::octave_of_double(1.0 / sum)) {}

  /// Does it serve a row whose maximum is of the reference's octave? (Its lowest() is then negative.)
  static XSOFTMAX_STEP bool serves(std::int64_t reference) { return reference < farthest / 2; }

  /// For x above lowest() that are not above the maximum of their row. Step by step for all: a processor that takes its
  /// instructions in this order has less of them waiting for each other.
  template <std::size_t N>
  XSOFTMAX_STEP pack<F, N> operator()(const pack<F, N>& x) const {
    const auto r = steps_of(x);
    const auto power = map(
        [&](const reduced<A, float>& v) XSOFTMAX_STEP_LAMBDA {
          return native<A>::from_bits(table_(v.k) + native<A>::template shift_left<23 - step_bits>(v.k));
        },
        r);
    const auto t = map([](const reduced<A, float>& v) XSOFTMAX_STEP_LAMBDA { return v.t; }, r);
    const auto quotient = map([&](F v) XSOFTMAX_STEP_LAMBDA { return slope(v); }, t);
    const auto product = map([&](F e, F v) XSOFTMAX_STEP_LAMBDA { return e * v; }, power, t);
    return map([&](F d, F s, F e) XSOFTMAX_STEP_LAMBDA { return native<A>::multiply_add(d, s, e); }, product, quotient,
               power);
  }

  /// Moves the table's entry that x takes by a unit in its last place, up or down.
  XSOFTMAX_STEP void nudge(float x, bool up) {
    const auto k = native<A>::first_lane(steps_of(pack<F, 1>{{F(x)}}).v[0].k);
    scaled_.entry[k & (steps - 1)] += up ? 1 : -1;
    table_ = Table(scaled_.entry);
  }

  /// Estimates of logits above this one are normal numbers.
  XSOFTMAX_STEP float lowest() const { return lowest_; }

  /// No logit of the row is above this one.
  XSOFTMAX_STEP float highest() const { return highest_; }

private:
  using Table = typename native<A>::estimate_table;
  static constexpr int step_bits = native<A>::estimate_step_bits;
  static constexpr int steps = 1 << step_bits;
  static constexpr std::int64_t farthest = 100; ///< octaves from 0 for which the bound holds

  struct entries {
    alignas(64) std::int32_t entry[steps];
  };

  XSOFTMAX_STEP probability_estimate(std::int64_t reference, double factor, std::int64_t octaves)
      : scaled_(scaled_table(factor, octaves)), table_(scaled_.entry), lowest_(lowest_of(octaves)),
        highest_(static_cast<float>(reference + 1) * 0x1.62E430p-1f) {}

  /// The reduction, by one part of ln 2.
  template <std::size_t N>
  static XSOFTMAX_STEP pack<reduced<A, float>, N> steps_of(const pack<F, N>& x) {
    const F round(0x1.8p23f / static_cast<float>(steps)); // as exp_format::round
    const auto shifted = map(
        [&](F v) XSOFTMAX_STEP_LAMBDA { return native<A>::multiply_add(v, F(exp_format<float>::log2e), round); }, x);
    const auto octaves = map([&](F v) XSOFTMAX_STEP_LAMBDA { return v - round; }, shifted);
    return map(
        [&](F v, F s, F o) XSOFTMAX_STEP_LAMBDA {
          return reduced<A, float>{native<A>::bits(s), native<A>::negative_multiply_add(o, F(0x1.62E430p-1f), v)};
        },
        x, shifted, octaves);
  }

  static XSOFTMAX_STEP float lowest_of(std::int64_t octaves) {
    const std::int64_t normal = -100 - octaves; // so far that a subnormal product, flushed to zero, is less than 2^-26
    return static_cast<float>(normal > -farthest ? normal : -farthest) * 0x1.62E430p-1f;
  }

  /// (exp(t) - 1) / t within 0.9 * 2^-24 / |t|, for |t| <= 1.01 ln 2 / (2 steps). With 32 steps a parabola is enough: a
  /// = ln 2 / 64, the cubic term t^3 / 6 = a^2 t / 8 + (at most a^3 / 24).
  static XSOFTMAX_STEP F slope(F t) {
    if constexpr (step_bits == 5) {
      return native<A>::multiply_add(F(0x1.000088p-1f), t, F(0x1.0000F6p+0f));
    } else {
      return native<A>::multiply_add(exp_remainder<A>(t, t), t, F(1.0f));
    }
  }

  /// The table times v, as power_bits wants it: less j steps.
  static XSOFTMAX_STEP entries scaled_table(double v, std::int64_t octaves) {
    const double significand =
        __builtin_bit_cast(double, (__builtin_bit_cast(std::uint64_t, v) & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000);
    const auto offset = static_cast<std::uint32_t>(octaves) << 23;
    entries scaled;
    for (int j = 0; j < steps; ++j) {
      const auto entry = static_cast<float>(wide_powers<A, step_bits>.entry[j] * significand);
      scaled.entry[j] = static_cast<std::int32_t>(__builtin_bit_cast(std::uint32_t, entry) + offset -
                                                  (static_cast<std::uint32_t>(j) << (23 - step_bits)));
    }
    return scaled;
  }

  entries scaled_;
  Table table_;
  float lowest_;
  float highest_;
};

/// The extended exponential without its rounding: exp((x + low) / T) * 2^(bias - reference) = power * (1 + q), a
/// precise_term (sum.hpp), for |low| <= ulp(x) / 2. The range is that of extended_exp, terms at its lower end are 0.
/// Relative error of power * (1 + q), taken exactly: about 0.1 * 2^-24 for float, 2^-53 for double.
/// Power as there.
template <class A, class T, class Power = power_bits<A, T, power_table>>
class precise_exp {
public:
  using V = batch<A, T>;
  using Term = detail::precise_term<V>;
  using Base = extended_exp<A, T, true>;

  XSOFTMAX_STEP precise_exp(const reduction<A, T>& r, std::int64_t reference)
      : precise_exp(r, Power(octave_bias<T> - reference), V(lowest_logit(r, reference))) {}

  /// The same for terms whose power and range are given.
  XSOFTMAX_STEP precise_exp(const reduction<A, T>& r, const Power& power, V lowest)
      : reduce_(r), power_(power), lowest_(lowest) {}

  XSOFTMAX_STEP Term operator()(V x, V low) const {
    V rest;
    const reduced<A, T> r = reduce_.of_pair(native<A>::max_keeping_nan(x, lowest_), low, rest);
    if constexpr (sizeof(T) == 4) {
      rest = native<A>::from_bits(table_rest_(r.k));
    }
    return {native<A>::from_bits(Base::power_or_zero(power_(r.k))), exp_minus_one<A>(r.t, rest)};
  }

  /// Terms are 0 from here down.
  static XSOFTMAX_STEP T lowest_logit(const reduction<A, T>& r, std::int64_t reference) {
    return Base::lowest_logit(r, reference);
  }

private:
  struct nothing {};

  static XSOFTMAX_STEP auto table_rest() {
    if constexpr (sizeof(T) == 4) {
      return typename native<A>::table(power_table_rest<A>::entry, 0);
    } else {
      return nothing{};
    }
  }

  reducer<A, T, true> reduce_;
  Power power_;
  decltype(table_rest()) table_rest_ = table_rest();
  V lowest_;
};

/// The extended exponential for logits of any size: elements beyond the range of the floating-point reduction are
/// reduced in integers, the others as above, so that an element's mantissa and exponent are the same in every row.
template <class A, class T>
class wide_extended_exp {
public:
  using V = batch<A, T>;
  using Int = bits_t<T>;
  using Base = extended_exp<A, T, true>;
  static constexpr double scale = Base::scale;

  XSOFTMAX_STEP wide_extended_exp(const reduction<A, T>& r, const detail::wide_reduction& wide, std::int64_t reference)
      : reduce_(r), usable_(r.usable), wide_(wide), reference_(reference), base_(r, reference) {}

  /// As extended_exp; `largest` is not kept (the row's maximum is known here).
  XSOFTMAX_STEP V operator()(V x, batch<A, Int>&) const { return (*this)(x); }

  __attribute__((noinline)) XSOFTMAX_FLATTEN V operator()(V x) const {
    constexpr std::size_t width = detail::lanes<A, T>;
    alignas(64) T value[width];
    alignas(64) T rest[width];
    alignas(64) Int steps[width];
    x.store_aligned(value);
    const reduced<A, T> narrow = reduce_(x);
    narrow.t.store_aligned(rest);
    narrow.k.store_aligned(steps);
    for (std::size_t l = 0; l < width; ++l) {
      if (value[l] != value[l]) {
        rest[l] = value[l];
        continue;
      }
      std::int64_t octave;
      if (usable_ && within(steps[l])) {
        octave = octave_of<T>(steps[l]);
      } else if (value[l] == -__builtin_inf()) {
        octave = INT64_MIN;
      } else {
        const detail::wide_reduced w =
            wide_.template operator()<exp_format<T>::step_bits>(static_cast<double>(value[l]));
        octave = w.saturated ? INT64_MIN : w.k >> exp_format<T>::step_bits;
        rest[l] = static_cast<T>(w.t);
        steps[l] = static_cast<Int>(w.k);
      }
      const std::int64_t lowest = Base::lowest_octave(reference_);
      if (octave <= lowest) {
        rest[l] = 0;
        steps[l] = static_cast<Int>(static_cast<std::uint64_t>(lowest) << exp_format<T>::step_bits);
      }
    }
    return base_.term({batch<A, Int>::load_aligned(steps), V::load_aligned(rest)});
  }

  /// Does the floating-point reduction serve a logit of this k? (Infinities and NaN lie outside.)
  static XSOFTMAX_STEP bool within(Int k) {
    const std::int64_t octave = octave_of<T>(k);
    return octave >= -reduction_octaves<A, T> && octave <= reduction_octaves<A, T>;
  }

private:
  reducer<A, T, true> reduce_;
  bool usable_;
  const detail::wide_reduction& wide_;
  std::int64_t reference_;
  Base base_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

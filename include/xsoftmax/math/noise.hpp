// SPDX-License-Identifier: MIT
// Noise from random words: 64 bits make a number v in (0, 1), and v a value of the distribution.
//
// v is r * 2^-64 with r = max(64 bits, 1), truncated (not rounded) to the type: its last place shrinks with v, so the
// end at 0 is resolved to 2^-64, and 1 is never reached. The upper word alone decides a float unless it is below 2^23.
//
// The logarithms round every operation by itself (separate.hpp): the same bits on every architecture, with fused
// multiply-add or without. Both are taken by
//   -log(2^k (1 + f)) = -k ln 2 - log(1 + f),   1 + f in about [sqrt(1/2), sqrt(2)).
// Float has 1 / c and log c for sixteen intervals of 1 + f in a table, and log(1 + f) = log c + log(1 + r) with
//   r = (1 + f) / c - 1 = f / c + (1 / c - 1)
// by a polynomial; where 1 + f is next to 1, c is 1 and r is f. Table and polynomial were made by
// cmake/coeffs/noise.sollya, which also prints their errors. Double has the one logarithm of log.hpp.
#pragma once

#include <xsoftmax/math/log.hpp>
#include <xsoftmax/math/separate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// What depends on the element type.
template <class T>
struct noise_format;

template <>
struct noise_format<float> {
  static constexpr std::int32_t one = 0x3F800000;
  static constexpr std::int32_t lowest = 0x3F32AAAB;  ///< of the least 1 + f, 0.698
  static constexpr std::int32_t exponent = ~0x7FFFFF; ///< where the exponent is
};

template <>
struct noise_format<double> {
  static constexpr std::int64_t one = 0x3FF0000000000000;
  static constexpr std::int64_t lowest = 0x3FE6A09E667F3BCD; ///< sqrt(1/2)
  static constexpr std::int64_t exponent = ~0xFFFFFFFFFFFFF;
};

/// Bits of a float of the table.
consteval std::int32_t float_bits(float x) {
  return __builtin_bit_cast(std::int32_t, x);
}

/// Of c in each of the intervals, which begin at noise_format's `lowest` and are 2^19 bits wide.
template <class A>
struct log_table {
  alignas(64) static constexpr std::int32_t inverse[16] = {
      float_bits(0x1.66cp0f), float_bits(0x1.57cp0f), float_bits(0x1.49ep0f),  float_bits(0x1.3d2p0f),
      float_bits(0x1.314p0f), float_bits(0x1.266p0f), float_bits(0x1.1c2p0f),  float_bits(0x1.12ap0f),
      float_bits(0x1.09ap0f), float_bits(0x1p0f),     float_bits(0x1.e6ap-1f), float_bits(0x1.cb6p-1f),
      float_bits(0x1.b3p-1f), float_bits(0x1.9dp-1f), float_bits(0x1.894p-1f), float_bits(0x1.774p-1f)};
  alignas(64) static constexpr std::int32_t negative_log[16] = {
      float_bits(0x1.598c0ep-2f),  float_bits(0x1.2dcf96p-2f),
      float_bits(0x1.039f08p-2f),  float_bits(0x1.b683ccp-3f),
      float_bits(0x1.685a66p-3f),  float_bits(0x1.1e0efcp-3f),
      float_bits(0x1.aaf44p-4f),   float_bits(0x1.1fa888p-4f),
      float_bits(0x1.2e59e2p-5f),  float_bits(0.0f),
      float_bits(-0x1.a067f4p-5f), float_bits(-0x1.bc3e32p-4f),
      float_bits(-0x1.4dc7b8p-3f), float_bits(-0x1.b81174p-3f),
      float_bits(-0x1.0e3652p-2f), float_bits(-0x1.3e3092p-2f)};
};

/// Batches are worked on together, step by step: one alone would wait for its own results.
template <class A, class T, std::size_t N>
using values = detail::pack<detail::batch<A, T>, N>;
template <class A, class T, std::size_t N>
using integers = detail::pack<detail::batch<A, detail::bits_t<T>>, N>;

/// k of x = 2^k (1 + f), at the place of the exponent, and below it how far 1 + f is above the least.
template <class A, class T, std::size_t N>
XSOFTMAX_STEP integers<A, T, N> scale_of(const values<A, T, N>& x) {
  using Bits = detail::batch<A, detail::bits_t<T>>;
  return detail::map([](detail::batch<A, T> v)
                         XSOFTMAX_STEP_LAMBDA { return detail::native<A>::bits(v) - Bits(noise_format<T>::lowest); },
                     x);
}

/// k of that, at the place of the exponent.
template <class A, class T>
XSOFTMAX_STEP detail::batch<A, detail::bits_t<T>> exponent_of(detail::batch<A, detail::bits_t<T>> scale) {
  return scale & detail::batch<A, detail::bits_t<T>>(noise_format<T>::exponent);
}

/// 1 / c for the interval where 1 + f lies.
template <class A, std::size_t N>
XSOFTMAX_STEP values<A, float, N> inverse_of_interval(const integers<A, float, N>& scale) {
  using Native = detail::native<A>;
  using I = detail::batch<A, std::int32_t>;
  const typename Native::table inverse(log_table<A>::inverse, 0);
  return detail::map(
      [&](I s) XSOFTMAX_STEP_LAMBDA { return Native::from_bits(inverse(Native::template shift_right<19>(s))); }, scale);
}

/// -log(2^k c (1 + r)), from what scale_of says.
template <class A, std::size_t N>
XSOFTMAX_STEP values<A, float, N> negative_log_near(const integers<A, float, N>& scale, const values<A, float, N>& r) {
  using S = separate<A>;
  using Native = detail::native<A>;
  using F = detail::batch<A, float>;
  using I = detail::batch<A, std::int32_t>;
  using Values = values<A, float, N>;
  const typename Native::table negative_log(log_table<A>::negative_log, 0);
  const Values r2 = detail::map([](F x) XSOFTMAX_STEP_LAMBDA { return x * x; }, r);
  const Values p1 =
      detail::map([](F x) XSOFTMAX_STEP_LAMBDA { return S::multiply_add(F(-0x1.002f4p-2f), x, F(0x1.55782ep-2f)); }, r);
  const Values p =
      detail::map([](F q, F x) XSOFTMAX_STEP_LAMBDA { return S::multiply_add(q, x, F(-0x1.fffffep-2f)); }, p1, r);
  const Values near =
      detail::map([](F q, F x2, F x) XSOFTMAX_STEP_LAMBDA { return S::multiply_add(q, x2, x); }, p, r2, r);
  return detail::map(
      [&](I s, F x) XSOFTMAX_STEP_LAMBDA {
        // k comes at the place of the exponent: ln 2 * 2^-23.
        const F k = Native::to_float(exponent_of<A, float>(s));
        const F c = Native::from_bits(negative_log(Native::template shift_right<19>(s)));
        return S::multiply_add(k, F(-0x1.62e43p-24f), c) - x;
      },
      scale, near);
}

/// -log(2^k (1 + f)), from what scale_of says of the number and f.
template <class A, std::size_t N>
XSOFTMAX_STEP values<A, float, N> negative_log_of(const integers<A, float, N>& scale, const values<A, float, N>& f) {
  using F = detail::batch<A, float>;
  return negative_log_near<A>(
      scale, detail::map([](F x, F c) XSOFTMAX_STEP_LAMBDA { return separate<A>::multiply_add(x, c, c - F(1.0f)); }, f,
                         inverse_of_interval<A>(scale)));
}

/// The same from 1 + f. Where c is not 1 the error of r counts: half a unit of 2^-23.
template <class A, std::size_t N>
XSOFTMAX_STEP values<A, float, N> negative_log_of_significand(const integers<A, float, N>& scale,
                                                              const values<A, float, N>& m) {
  using F = detail::batch<A, float>;
  return negative_log_near<A>(
      scale, detail::map([](F x, F c) XSOFTMAX_STEP_LAMBDA { return separate<A>::multiply_add(x, c, F(-1.0f)); }, m,
                         inverse_of_interval<A>(scale)));
}

/// The same in double: with s = f / (2 + f) and t = 4 s^2, log(1 + f) = f - (f^2 / 2 - s (f^2 / 2 + 2 t P(t))).
template <class A, std::size_t N>
XSOFTMAX_STEP values<A, double, N> negative_log_of(const integers<A, double, N>& scale, const values<A, double, N>& f) {
  using S = separate<A>;
  using Native = detail::native<A>;
  using D = detail::batch<A, double>;
  using L = detail::batch<A, std::int64_t>;
  return detail::map(
      [](L shifted, D x) XSOFTMAX_STEP_LAMBDA {
        const D s = x / (D(2.0) + x);
        const D t = D(4.0) * detail::uncontracted(s * s);
        const D half_square = detail::uncontracted(D(0.5) * (x * x));
        const D rest = S::multiply_add(D(2.0) * t, atanh_remainder<A, S>(t), half_square);
        const D correction = S::negative_multiply_add(s, rest, half_square);
        // k, biased so that it is positive, in the last places of 2^52.
        const L biased =
            Native::template shift_right<52>(exponent_of<A, double>(shifted) + L(noise_format<double>::one));
        const D k = Native::from_bits(biased + Native::bits(D(0x1p52))) - D(0x1p52 + 1023);
        // The upper part of ln 2 has 42 digits: its product with k is exact.
        const D low = S::negative_multiply_add(k, D(0x1.EF35793C76730p-45), correction);
        return k * D(-0x1.62E42FEFA3800p-1) - (x - low);
      },
      scale, f);
}

template <class A, std::size_t N>
XSOFTMAX_STEP values<A, double, N> negative_log_of_significand(const integers<A, double, N>& scale,
                                                               const values<A, double, N>& m) {
  using D = detail::batch<A, double>;
  return negative_log_of<A>(scale, detail::map([](D x) XSOFTMAX_STEP_LAMBDA { return x - D(1.0); }, m));
}

/// -log(x) for normal x > 0.
template <class A, class T, std::size_t N>
XSOFTMAX_STEP values<A, T, N> negative_log(const values<A, T, N>& x) {
  const integers<A, T, N> scale = scale_of<A, T>(x);
  const values<A, T, N> significand = detail::map(
      [](detail::batch<A, T> v, auto s) XSOFTMAX_STEP_LAMBDA {
        return detail::native<A>::from_bits(detail::native<A>::bits(v) - exponent_of<A, T>(s));
      },
      x, scale);
  return negative_log_of_significand<A>(scale, significand);
}

/// -log(1 - v) for v in (0, 1).
template <class A, class T, std::size_t N>
XSOFTMAX_STEP values<A, T, N> negative_log_of_complement(const values<A, T, N>& v) {
  using V = detail::batch<A, T>;
  using Bits = detail::batch<A, detail::bits_t<T>>;
  const integers<A, T, N> scale = scale_of<A, T>(detail::map([](V x) XSOFTMAX_STEP_LAMBDA { return V(T{1}) - x; }, v));
  const values<A, T, N> f = detail::map(
      [](V x, auto s) XSOFTMAX_STEP_LAMBDA {
        const V power = detail::native<A>::from_bits(Bits(noise_format<T>::one) - exponent_of<A, T>(s)); // 2^-k
        // 2^-k (1 - v) - 1 has no more digits than v: the product and both differences are exact.
        return detail::native<A>::negative_multiply_add(x, power, power - V(T{1}));
      },
      v, scale);
  return negative_log_of<A>(scale, f);
}

/// G = -log(-log(1 - v)): Gumbel(0, 1), and the larger the smaller v is.
template <class A, class T, std::size_t N>
XSOFTMAX_STEP values<A, T, N> gumbel(const values<A, T, N>& v) {
  return negative_log<A, T>(negative_log_of_complement<A, T>(v));
}

/// 64 random bits as a number below 2^64, truncated to 53 digits; at least 1.
template <class A>
XSOFTMAX_STEP detail::batch<A, double> joined_words(detail::batch<A, double> upper, detail::batch<A, double> lower) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  const D shifted = upper * D(0x1p32);
  const D nearest = shifted + lower;
  // What the sum lost, exactly, as |lower| < |shifted| or shifted = 0; where it is negative the sum was rounded up.
  const D lost = lower - (nearest - shifted);
  const D truncated = N::from_bits(N::bits(nearest) - N::template shift_right<63>(N::bits(lost)));
  return N::max_keeping_nan(truncated, D(1.0));
}

/// v of a batch of upper words in float, none of them below 2^23.
template <class A>
XSOFTMAX_STEP detail::batch<A, float> uniform_of_upper(detail::batch<A, std::int32_t> upper) {
  return detail::native<A>::truncate_unsigned(upper) * detail::batch<A, float>(0x1p-32f);
}

/// v of 64 bits in float.
template <class A>
XSOFTMAX_STEP float uniform_of_both(std::uint64_t bits) {
  bits = bits == 0 ? 1 : bits;
  const int beyond = 64 - 24 - __builtin_clzll(bits); // digits that float does not have
  bits = beyond > 0 ? bits >> beyond << beyond : bits;
  return static_cast<float>(bits) * 0x1p-64f;
}

/// v of a batch of words in double, in the order of the words.
template <class A>
XSOFTMAX_STEP void uniform_of_both(detail::batch<A, std::int32_t> upper, detail::batch<A, std::int32_t> lower,
                                   detail::pack<detail::batch<A, double>, 2>& v) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  D upper_first, upper_second, lower_first, lower_second;
  N::widen_unsigned(upper, upper_first, upper_second);
  N::widen_unsigned(lower, lower_first, lower_second);
  v.v[0] = joined_words<A>(upper_first, lower_first) * D(0x1p-64);
  v.v[1] = joined_words<A>(upper_second, lower_second) * D(0x1p-64);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

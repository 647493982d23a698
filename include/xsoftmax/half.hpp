// SPDX-License-Identifier: MIT
// Half-precision elements: two types of our own, and the trait through which foreign ones are recognised.
//   std::vector<xs::float16> p(n);            storage; p[i] converts to float by itself,
//   p[0] = xs::float16(0.1f);                 and from float when told to
// They are formats of memory, not of arithmetic: whatever is computed with them is computed in float and rounded once.
//
// Every function is force-inlined, so that units compiled for different architectures share no copy.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <xsoftmax/config.hpp>
#include <xsoftmax/detail/storage.hpp>
#if defined(__STDCPP_FLOAT16_T__) || defined(__STDCPP_BFLOAT16_T__)
#include <stdfloat>
#endif

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

// Conversions in integers, so that neither flush-to-zero nor denormals-are-zero reaches them; the vector ones of
// detail/simd give the same bits. NaN: sign and upper payload bits are kept, the result is quiet. The one exception is
// a bfloat16 on its way to float, which is a shift: a signalling NaN stays one until something is computed with it.

/// The float16 nearest to x, ties to even; infinity from 65520 on.
XSOFTMAX_INLINE constexpr std::uint16_t float16_bits(float x) noexcept {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  const std::uint32_t sign = bits >> 16 & 0x8000;
  const std::uint32_t magnitude = bits & 0x7FFFFFFF;
  std::uint32_t result = 0x7C00;
  if (magnitude > 0x7F800000) { // NaN
    result |= 0x0200 | (magnitude >> 13 & 0x03FF);
  } else if (magnitude < 0x38800000) { // below 2^-14: a multiple of 2^-24
    const std::uint32_t exponent = magnitude >> 23;
    const std::uint32_t significand = (magnitude & 0x007FFFFF) | 0x00800000;
    // Under half of 2^-24, where exponent < 101, nothing is left by any shift of 25 or more.
    const std::uint32_t shift = exponent < 101 ? 26 : 126 - exponent;
    const std::uint32_t odd = significand >> shift & 1;
    result = (significand + (1U << (shift - 1)) - 1 + odd) >> shift;
  } else if (magnitude < 0x47800000) { // below 2^16; rounding up from 65520 carries into the exponent of infinity
    const std::uint32_t odd = magnitude >> 13 & 1;
    result = (magnitude - (112U << 23) + 0x0FFF + odd) >> 13;
  }
  return static_cast<std::uint16_t>(sign | result);
}

/// Exact.
XSOFTMAX_INLINE constexpr float float16_value(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000U) << 16;
  const std::uint32_t magnitude = half & 0x7FFFU;
  std::uint32_t result = (magnitude << 13) + (112U << 23);
  if (magnitude > 0x7C00) {
    result = 0x7FC00000 | magnitude << 13;
  } else if (magnitude == 0x7C00) {
    result = 0x7F800000;
  } else if (magnitude < 0x0400) { // 0 or subnormal here, 0 or normal as a float
    result = __builtin_bit_cast(std::uint32_t, static_cast<float>(magnitude) * 0x1p-24F);
  }
  return __builtin_bit_cast(float, sign | result);
}

/// The bfloat16 nearest to x, ties to even; infinity from 2^128 - 2^119 on.
XSOFTMAX_INLINE constexpr std::uint16_t bfloat16_bits(float x) noexcept {
  const auto bits = __builtin_bit_cast(std::uint32_t, x);
  const bool nan = (bits & 0x7FFFFFFF) > 0x7F800000;
  const std::uint32_t odd = bits >> 16 & 1;
  return static_cast<std::uint16_t>((nan ? bits | 0x00400000 : bits + 0x7FFF + odd) >> 16);
}

/// Exact.
XSOFTMAX_INLINE constexpr float bfloat16_value(std::uint16_t half) noexcept {
  return __builtin_bit_cast(float, static_cast<std::uint32_t>(half) << 16);
}

/// A half of either format.
XSOFTMAX_INLINE constexpr float half_value(std::uint16_t half, storage_format format) noexcept {
  return format == storage_format::float16 ? float16_value(half) : bfloat16_value(half);
}

XSOFTMAX_INLINE constexpr std::uint16_t half_bits(float x, storage_format format) noexcept {
  return format == storage_format::float16 ? float16_bits(x) : bfloat16_bits(x);
}

/// The first element becomes x.
template <class T>
XSOFTMAX_INLINE void put(const destination& to, T x) noexcept {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (to.format != storage_format::native) {
      *static_cast<std::uint16_t*>(to.data) = half_bits(x, to.format);
      return;
    }
  }
  *static_cast<T*>(to.data) = x;
}

} // namespace detail

/// IEEE 754 binary16: 11 significant bits, 2^-24 to 65504.
///
/// Trivial, 2 bytes. To float implicitly, exactly; comparisons and arithmetic are therefore those of float. From float
/// explicitly, to nearest even, also where the result is subnormal; 65520 and above become infinity; NaN stays a quiet
/// NaN of the same sign. A double is rounded to float first.
class float16 {
public:
  float16() = default;

  XSOFTMAX_INLINE constexpr explicit float16(float x) noexcept : bits_(detail::float16_bits(x)) {}

  static XSOFTMAX_INLINE constexpr float16 from_bits(std::uint16_t bits) noexcept {
    float16 half;
    half.bits_ = bits;
    return half;
  }

  [[nodiscard]] XSOFTMAX_INLINE constexpr std::uint16_t bits() const noexcept { return bits_; }

  XSOFTMAX_INLINE constexpr operator float() const noexcept { return detail::float16_value(bits_); }

private:
  std::uint16_t bits_;
};

/// The upper half of a float: 8 significant bits, the range of float.
///
/// Trivial, 2 bytes. To float implicitly, exactly; comparisons and arithmetic are therefore those of float. From float
/// explicitly, to nearest even, also where the result is subnormal; 2^128 - 2^119 and above become infinity; NaN stays
/// a quiet NaN of the same sign. A double is rounded to float first.
class bfloat16 {
public:
  bfloat16() = default;

  XSOFTMAX_INLINE constexpr explicit bfloat16(float x) noexcept : bits_(detail::bfloat16_bits(x)) {}

  static XSOFTMAX_INLINE constexpr bfloat16 from_bits(std::uint16_t bits) noexcept {
    bfloat16 half;
    half.bits_ = bits;
    return half;
  }

  [[nodiscard]] XSOFTMAX_INLINE constexpr std::uint16_t bits() const noexcept { return bits_; }

  XSOFTMAX_INLINE constexpr operator float() const noexcept { return detail::bfloat16_value(bits_); }

private:
  std::uint16_t bits_;
};

/// What an element of type X is in memory. A specialisation for a type of your own says
///   static constexpr xsoftmax::storage_format format = xsoftmax::storage_format::float16;
/// (or bfloat16), and its objects are then read and written as those two bytes.
template <class X>
struct storage_traits {};

template <class X>
struct storage_traits<const X> : storage_traits<X> {};

template <>
struct storage_traits<float> {
  static constexpr storage_format format = storage_format::native;
};

template <>
struct storage_traits<double> {
  static constexpr storage_format format = storage_format::native;
};

template <>
struct storage_traits<float16> {
  static constexpr storage_format format = storage_format::float16;
};

template <>
struct storage_traits<bfloat16> {
  static constexpr storage_format format = storage_format::bfloat16;
};

// std::float16_t, where there is one, is the compiler's _Float16.
#if defined(__STDCPP_FLOAT16_T__)
template <>
struct storage_traits<std::float16_t> {
  static constexpr storage_format format = storage_format::float16;
};
#elif defined(XSOFTMAX_COMPILER_FLOAT16)
template <>
struct storage_traits<XSOFTMAX_COMPILER_FLOAT16> {
  static constexpr storage_format format = storage_format::float16;
};
#endif

#if defined(__STDCPP_BFLOAT16_T__)
template <>
struct storage_traits<std::bfloat16_t> {
  static constexpr storage_format format = storage_format::bfloat16;
};
#endif

namespace detail {

/// Does storage_traits know X, and say what can be true of it: two trivial bytes, or float or double itself?
template <class X>
concept has_storage_format = requires {
  { storage_traits<X>::format } -> std::convertible_to<storage_format>;
}
&&(storage_traits<X>::format == storage_format::native
       ? std::is_same_v<const X, const float> || std::is_same_v<const X, const double>
       : sizeof(X) == 2 && std::is_trivially_copyable_v<X>);

} // namespace detail

/// What is computed in where elements are X: float for halves and float, double for double.
template <detail::has_storage_format X>
using compute_type_t =
    std::conditional_t<storage_traits<X>::format == storage_format::native, std::remove_const_t<X>, float>;

namespace detail {

/// The limits of a half with that many significant bits and that exponent of the first power of two beyond its range.
/// What is not named here is as for float.
template <class Half, int Digits, int MaxExponent>
struct half_limits : std::numeric_limits<float> {
  static constexpr int digits = Digits;
  static constexpr int digits10 = (Digits - 1) * 301 / 1000;
  static constexpr int max_digits10 = Digits * 301 / 1000 + 2;
  static constexpr int min_exponent = 3 - MaxExponent;
  static constexpr int min_exponent10 = (min_exponent - 1) * 301 / 1000;
  static constexpr int max_exponent = MaxExponent;
  static constexpr int max_exponent10 = MaxExponent * 301 / 1000;

  static XSOFTMAX_INLINE constexpr Half min() noexcept { return of(1 << fraction_bits); }

  static XSOFTMAX_INLINE constexpr Half max() noexcept { return of(infinity_bits - 1); }

  static XSOFTMAX_INLINE constexpr Half lowest() noexcept { return of(0x8000 | (infinity_bits - 1)); }

  static XSOFTMAX_INLINE constexpr Half epsilon() noexcept { return power_of_two(-fraction_bits); }

  static XSOFTMAX_INLINE constexpr Half round_error() noexcept { return power_of_two(-1); }

  static XSOFTMAX_INLINE constexpr Half infinity() noexcept { return of(infinity_bits); }

  static XSOFTMAX_INLINE constexpr Half quiet_NaN() noexcept { return of(infinity_bits | 1 << (fraction_bits - 1)); }

  static XSOFTMAX_INLINE constexpr Half signaling_NaN() noexcept {
    return of(infinity_bits | 1 << (fraction_bits - 2));
  }

  static XSOFTMAX_INLINE constexpr Half denorm_min() noexcept { return of(1); }

private:
  static constexpr int fraction_bits = Digits - 1;
  static constexpr int infinity_bits = (2 * MaxExponent - 1) << fraction_bits;

  static XSOFTMAX_INLINE constexpr Half of(int bits) noexcept {
    return Half::from_bits(static_cast<std::uint16_t>(bits));
  }

  static XSOFTMAX_INLINE constexpr Half power_of_two(int exponent) noexcept {
    return of((MaxExponent - 1 + exponent) << fraction_bits);
  }
};

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

template <>
struct std::numeric_limits<xsoftmax::float16> : xsoftmax::detail::half_limits<xsoftmax::float16, 11, 16> {};

template <>
struct std::numeric_limits<xsoftmax::bfloat16> : xsoftmax::detail::half_limits<xsoftmax::bfloat16, 8, 128> {};

// SPDX-License-Identifier: MIT
// The distance of a float or double from an exact value, in units in the last place.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <type_traits>

namespace xsoftmax::test {

template <class T>
using bits_of =
    std::conditional_t<sizeof(T) == 2, std::uint16_t, std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>;

template <class T>
bits_of<T> bits(T x) {
  return std::bit_cast<bits_of<T>>(x);
}

/// The spacing of T's numbers at the exact value x: 2^(exponent of x - digits + 1), in the subnormal range its constant
/// spacing.
template <class T>
long double unit_in_last_place(long double x) {
  using limits = std::numeric_limits<T>;
  int exponent = limits::min_exponent - 1;
  if (x != 0) {
    exponent = std::max(exponent, std::ilogb(x));
  }
  return std::ldexp(1.0L, exponent - limits::digits + 1);
}

/// |computed - exact| in units in the last place of T at `exact`. Both NaN: 0; one of them: infinite. An exact value
/// that rounds to infinity and a computed infinity agree.
template <class T>
double ulp_distance(T computed, long double exact) {
  if (std::isnan(computed) || std::isnan(exact)) {
    return std::isnan(computed) && std::isnan(exact) ? 0 : std::numeric_limits<double>::infinity();
  }
  constexpr long double largest = std::numeric_limits<T>::max();
  const long double overflow = largest + unit_in_last_place<T>(largest) / 2;
  if (std::isinf(computed) || std::isinf(exact)) {
    const bool agree = computed > 0 ? exact >= overflow && computed > std::numeric_limits<T>::max()
                                    : exact <= -overflow && computed < std::numeric_limits<T>::lowest();
    if (agree) {
      return 0;
    }
    if (std::isinf(computed)) {
      return std::numeric_limits<double>::infinity();
    }
  }
  return static_cast<double>(std::fabs(static_cast<long double>(computed) - exact) / unit_in_last_place<T>(exact));
}

/// A number in a form that reads back to the same bits.
template <std::floating_point T>
std::string exact_text(T x) {
  char text[80];
  std::snprintf(text, sizeof text, "%.9Lg (%La)", static_cast<long double>(x), static_cast<long double>(x));
  return text;
}

} // namespace xsoftmax::test

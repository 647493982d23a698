// SPDX-License-Identifier: MIT
// The distance of a float or double from an exact value, in units in the last place.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstdio>
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
long double unit_in_last_place(long double x);

/// |computed - exact| in units in the last place of T at `exact`. Both NaN: 0; one of them: infinite. An exact value
/// that rounds to infinity and a computed infinity agree.
template <class T>
double ulp_distance(T computed, long double exact);

/// A number in a form that reads back to the same bits.
template <std::floating_point T>
std::string exact_text(T x) {
  char text[80];
  std::snprintf(text, sizeof text, "%.9Lg (%La)", static_cast<long double>(x), static_cast<long double>(x));
  return text;
}

} // namespace xsoftmax::test

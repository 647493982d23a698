// SPDX-License-Identifier: MIT
// The reference octave, to which the terms of a row are relative: that of its maximum, or one guessed from its first
// element, which saves the pass for the maximum.
#pragma once

#include <xsoftmax/math/exp.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// How far below its reference a row's maximum may lie before terms that still give a subnormal probability are cut
/// off.
template <class T>
inline constexpr std::int64_t reference_slack = sizeof(T) == 4 ? 5 : 10;

/// Does the floating-point reduction serve a row of this maximum? Then `octave` is its octave.
template <bool HasTemperature, class A, class T>
XSOFTMAX_STEP bool is_regular(const math::reduction<A, T>& reduction, T largest, std::int64_t& octave) {
  constexpr std::int64_t limit = math::reduction_octaves<A, T>;
  const auto k = native<A>::first_lane(math::reducer<A, T, HasTemperature>(reduction)(batch<A, T>(largest)).k);
  octave = math::octave_of<T>(k);
  return reduction.usable && octave >= -limit && octave <= limit;
}

/// The reference where logits are taken to be around 0.
template <class T>
inline constexpr std::int64_t usual_reference = sizeof(T) == 4 ? -30 : -360;

/// The larger of two elements of a row, b if a is NaN.
template <class T>
XSOFTMAX_INLINE T larger(T a, T b) {
  return a > b ? a : b;
}

/// A reference for a row of which only one element is known: so far below it that the row's maximum may lie tens of
/// octaves above (hundreds for double), and as that element is not above the maximum, every term that counts is above
/// the lower end. Where the element says nothing or is small, logits are taken to be around 0. Of the first and the
/// last element the larger is known, so that rows in order are no exception.
template <bool HasTemperature, class A, class T>
XSOFTMAX_STEP std::int64_t guessed_reference(const math::reduction<A, T>& reduction, T example) {
  if constexpr (!HasTemperature) {
    // The usual case as a branch, which is predicted, where the general one is a chain of thirty cycles. The element is
    // then at most 29 (347) octaves below 0.
    constexpr T usual = sizeof(T) == 4 ? 20 : 240;
    if (example > -usual && example < usual) [[likely]] {
      return usual_reference<T>;
    }
  }
  constexpr std::int64_t limit = math::reduction_octaves<A, T>;
  constexpr std::int64_t room = math::headroom<T> / 2;
  std::int64_t octave;
  const std::int64_t reference = (is_regular<HasTemperature>(reduction, example, octave) ? octave : 0) - room;
  return reference < -limit ? -limit : reference > limit - 2 * room ? limit - 2 * room : reference;
}

/// Can terms relative to `reference` stand for a row whose largest has this octave?
template <class A, class T>
XSOFTMAX_STEP bool holds(std::int64_t reference, std::int64_t octave) {
  constexpr std::int64_t limit = math::reduction_octaves<A, T>;
  return octave <= reference + math::headroom<T> && octave >= reference - reference_slack<T> && octave <= limit &&
         octave >= -limit;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

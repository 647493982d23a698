// SPDX-License-Identifier: MIT
// s(x) = x + 1 for x >= 0 and 1 / (1 - x) below, which StableMax has in the place of the exponential, as a quotient of
// which one part is 1 on either side:
//
//   s(x) = (1 + max(x, 0)) / (1 - min(x, 0))
#pragma once

#include <xsoftmax/detail/kernel/row_groups.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// 1 + max(x, 0)
template <class A, class V>
XSOFTMAX_STEP V stablemax_above(V x) {
  using T = typename V::value_type;
  return native<A>::max_keeping_nan(x, V(T{0})) + V(T{1});
}

/// 1 - min(x, 0)
template <class A, class V>
XSOFTMAX_STEP V stablemax_below(V x) {
  using T = typename V::value_type;
  return V(T{1}) - native<A>::min_keeping_nan(x, V(T{0}));
}

/// s(x) times a power of two. 0 for -inf; +inf and NaN stay. Rounded once for x >= 0, twice below: a relative error of
/// 1.5 * 2^-24 (double: 2^-53) at most.
template <class A, class T>
class stablemax_term {
public:
  using V = batch<A, T>;

  XSOFTMAX_STEP explicit stablemax_term(T unit) : unit_(unit) {}

  XSOFTMAX_STEP V operator()(V x) const { return native<A>::divide(above(x), stablemax_below<A>(x)); }

  /// The same, and the largest denominator so far, as bits: integers, since the pipes of floating point are the busier
  /// ones.
  XSOFTMAX_STEP V operator()(V x, batch<A, bits_t<T>>& largest) const {
    const V denominator = stablemax_below<A>(x);
    largest = native<A>::max(native<A>::bits(denominator), largest);
    return native<A>::divide(above(x), denominator);
  }

private:
  XSOFTMAX_STEP V above(V x) const {
    return native<A>::multiply_add(native<A>::max_keeping_nan(x, V(T{0})), unit_, unit_); // an exact product
  }

  V unit_;
};

/// The units of terms, and what sums say of them.
template <class T>
struct stablemax_units {
  static constexpr bool single = sizeof(T) == sizeof(float);

  /// s of the lowest finite number, 2^-128 (double: 2^-1024), becomes a normal number; of double, its lower half does,
  /// too, which fused multiply-add works with where it is emulated.
  static constexpr T usual = static_cast<T>(single ? 0x1p2 : 0x1p102);

  /// For a row that this does not serve: down from above, up from below.
  static XSOFTMAX_INLINE constexpr T for_maximum(T largest) {
    constexpr T down = static_cast<T>(single ? 0x1p-62 : 0x1p-200);
    constexpr T up = static_cast<T>(single ? 0x1p66 : 0x1p302);
    return largest > 0 ? down : up;
  }

  /// May a block's sum enter the accumulator, so that its value will be in range?
  static XSOFTMAX_INLINE constexpr bool may_add(double_pair sum) { return sum.high < (single ? 0x1p128 : 0x1p900); }

  /// Is 1 / S, lifted as normaliser does, in range, and no term of the row subnormal whose probability is not? Not if
  /// an element was +inf or NaN, or all were -inf.
  static XSOFTMAX_INLINE constexpr bool serves(double_pair sum) { return sum.high >= lowest && sum.high < highest; }

  static constexpr double lowest = 0x1p-60;
  static constexpr double highest = single ? 0x1p128 : 0x1p950;

  /// Where all 1 - x are below this and S below that, no part of a probability is subnormal.
  static constexpr T near = static_cast<T>(single ? 0x1p60 : 0x1p400);
  static constexpr double highest_near = single ? 0x1p40 : 0x1p500;
};

/// For row_groups.
template <class A, class T>
struct stablemax_group_terms {
  static constexpr bool has_near = false;
  static constexpr neighbour_sum neighbours = neighbour_sum::in_double;
  static constexpr bool sizes_apart = true;

  template <bool>
  XSOFTMAX_STEP auto step() const {
    return stablemax_term<A, T>(stablemax_units<T>::usual);
  }

  template <std::size_t>
  static constexpr double floor() {
    return stablemax_units<T>::lowest;
  }

  static constexpr double ceiling = stablemax_units<T>::highest;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Arithmetic in which every product and every sum is rounded by itself, so that an architecture without fused
// multiply-add gives the bits of one with it.
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

template <class A>
struct separate {
  /// a * b + c
  template <class B>
  static XSOFTMAX_STEP B multiply_add(B a, B b, B c) {
    return detail::uncontracted(a * b) + c;
  }

  /// c - a * b
  template <class B>
  static XSOFTMAX_STEP B negative_multiply_add(B a, B b, B c) {
    return c - detail::uncontracted(a * b);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

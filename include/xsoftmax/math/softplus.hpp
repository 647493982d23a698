// SPDX-License-Identifier: MIT
// The softplus function, accurate relative to itself: max(x, 0) + log(1 + exp(-|x|)).
#pragma once

#include <xsoftmax/math/log1p.hpp>
#include <xsoftmax/math/sigmoid.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// log(1 + exp(x)), whose derivative is sigmoid(x).
template <class A, class T>
XSOFTMAX_INLINE batch<A, T> softplus(batch<A, T> x) {
  using V = batch<A, T>;
  const decay<A, T> e(x);
  return log1p_of_ratio<A, T>(e.term, V(e.unit), native<A>::max_keeping_nan(x, V(T{0})));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

// SPDX-License-Identifier: MIT
// The arguments that the functions of the convergence radius share: logits, slopes, and a row of radii.
#pragma once

#include <xsoftmax/detail/convergence_task.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of the convergence radius. Members only ever join at the end.
struct convergence_radius_options {
  double temperature = 1.0; ///< T of a loss over z / T, in (0, inf): the radius grows with it
};

namespace detail {

inline constexpr double pi = 3.141592653589793238;

/// Is X one row, or a matrix?
template <class X>
concept one_row = viewable<std::remove_reference_t<X>> && is_vector<view_of<std::remove_reference_t<X>>>;

template <class X>
concept row_batch = viewable<std::remove_reference_t<X>> && !one_row<X>;

/// Logits and slopes of one row or of a batch.
template <class Z, class A>
XSOFTMAX_INLINE bool checked_logits(const char* function, const matrix_view<Z>& z, const matrix_view<A>& a) {
  static_assert(std::is_same_v<compute_type_t<std::remove_const_t<Z>>, compute_type_t<std::remove_const_t<A>>>,
                "xsoftmax: double does not mix with float or halves: logits and slopes must be computed in one type");
  return same_shape(function, "logits", z, "slopes", a);
}

/// A radius, a double, for each row of the slopes.
template <class A, class Out>
XSOFTMAX_INLINE bool checked_radii(const char* function, const matrix_view<A>& a, const matrix_view<Out>& out) {
  static_assert(std::is_same_v<Out, double>, "xsoftmax: radii are doubles");
  if (out.cols() != a.rows()) {
    raise_mismatch(function, "out must have one element for each row of the slopes", "rows of slopes", a.rows(),
                   "length of out", out.cols());
    return false;
  }
  return true;
}

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Would the usual softmax cross-entropy lose loss and gradient?
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/cross_entropy/cross_entropy.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// Binary digits of an element type.
template <class Value>
inline constexpr int significand_bits = storage_traits<Value>::format == storage_format::float16    ? 11
                                        : storage_traits<Value>::format == storage_format::bfloat16 ? 8
                                        : sizeof(Value) == 4                                        ? 24
                                                                                                    : 53;

} // namespace detail

/// Softmax collapse: does the type of z's elements absorb every class but the target in 1 + R, R = sum over the others
/// of exp(z_k - z_y)? That is R <= 2^-d for d binary digits (float 24, double 53, float16 11, bfloat16 8). An
/// evaluation in that type, even of the others first, then finds p_y = 1, loss 0 and no gradient for the target;
/// cross_entropy does not.
///
/// Of two classes it is a gap of d ln 2 or more: 16.6355 in float, 36.7368 in double, 7.6246 in float16, 5.5452 in
/// bfloat16; of 112 equal others ln 112 more. False for a target outside [0, n), for a row with NaN or +inf, and for n
/// = 1, where there is nothing to absorb.
///
/// z is a row (any contiguous sized range, or a vector_view). Cost: no allocation; the passes of log_softmax but its
/// last. R is known to the rounding of log_softmax.
///
/// Source: L. Prieto, M. Barsbey, P. Mediano, T. Birdal, "Grokking at the edge of numerical stability" (2025),
/// section 3.
template <class Arch = default_arch, class In, detail::integer Target>
[[nodiscard]] bool softmax_collapse(In&& z, Target target) {
  using T = detail::compute_of<In>;
  static_assert(detail::is_vector<detail::view_of<std::remove_reference_t<In>>>,
                "xsoftmax: softmax_collapse is asked of one row");
  constexpr int digits = detail::significand_bits<detail::value_of<std::remove_reference_t<In>>>;
  const auto& held = detail::evaluated(z);
  const auto in = detail::input_matrix(held);
  const auto y = static_cast<std::uint64_t>(target);
  if (y >= in.cols() || in.cols() < 2) {
    return false;
  }
  const T loss = cross_entropy<Arch>(held, y, {.reduction = loss_reduction::sum});
  return loss <= static_cast<T>(1.0 / static_cast<double>(std::uint64_t{1} << digits));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

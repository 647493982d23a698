// SPDX-License-Identifier: MIT
// The gradients of stablemax and log_stablemax with respect to the logits.
#pragma once

#include <xsoftmax/softmax/backward.hpp>
#include <xsoftmax/stablemax/stablemax.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

inline constexpr backward_names stablemax_backward_names{"stablemax_backward", "p", "dp"};
inline constexpr backward_names log_stablemax_backward_names{"log_stablemax_backward", "lp", "dlp"};

/// As checked_backward, with the logits.
template <template <class> class Task, class Z, class Y, class DY, class DZ, class Launch>
XSOFTMAX_INLINE void checked_stablemax_backward(const backward_names& name, Z&& z, Y&& y, DY&& dy, DZ&& dz,
                                                Launch&& launch) {
  check_types<Z, DZ>();
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto shape = output_matrix(dz);
  if (!same_shape(name.function, "z", in, "dz", shape) || !no_partial_overlap(name.function, "z", in, "dz", shape)) {
    return;
  }
  checked_backward<Task>(name, std::forward<Y>(y), std::forward<DY>(dy), std::forward<DZ>(dz), {},
                         [&](auto task, const auto& out) XSOFTMAX_LAMBDA {
                           task.z = source_of(in);
                           launch(task, out);
                         });
}

} // namespace detail

/// Gradient of stablemax: dz_i = p_i (dp_i - S) / (1 + |z_i|) with S = sum_k p_k dp_k, for p = stablemax(z) and dp =
/// dL/dp.
///
/// z, p, dp and dz are rows of the same length or matrices of the same shape, each row by itself. dz may be z, p or dp
/// itself (same first element, extents, strides and type); any other overlap with them is refused where both have the
/// same strides. p need not be normalised: the formula is applied to whatever numbers are given.
///
/// Special values, in this order of precedence:
///   length 0: nothing is written              | p_i = 0: masked: +0 there, and z_i and dp_i enter nothing
///   z_i infinite: 0 with the sign of the rest | NaN in z, p or dp, or S infinite or NaN: the formula in IEEE
///                                             |   arithmetic, as for softmax_backward
///
/// Accuracy: with M = sum_k |p_k dp_k|, dz_i is off by at most
///   float    0.51 ULP + |p_i| / (1 + |z_i|) 2^-45 M
///   double   4 ULP + |p_i| / (1 + |z_i|) 2^-89 M + 2^-1074 (n |p_i| + |dp_i - S|)
/// The bits depend on the row's values alone: not on strides, alignment, neighbours, masked elements to the right, nor,
/// with fused multiply-add, on the architecture or compiler.
///
/// Cost: no allocation; p and dp are read twice, z once, dz is written once.
/// Throws std::invalid_argument if shapes differ or the views overlap partially; nothing has been written then.
///
/// Source: as for stablemax; d log s(x) / dx = 1 / (1 + |x|).
template <class Arch = default_arch, class Z, class P, class DP, class DZ>
requires(!detail::executor<Z>) XSOFTMAX_INLINE void stablemax_backward(Z&& z, P&& p, DP&& dp, DZ&& dz) {
  detail::checked_stablemax_backward<detail::stablemax_backward_task>(
      detail::stablemax_backward_names, std::forward<Z>(z), std::forward<P>(p), std::forward<DP>(dp),
      std::forward<DZ>(dz),
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::stablemax_backward(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class Z, class P, class DP, class DZ>
void stablemax_backward(Executor&& executor, Z&& z, P&& p, DP&& dp, DZ&& dz) {
  detail::checked_stablemax_backward<detail::stablemax_backward_task>(
      detail::stablemax_backward_names, std::forward<Z>(z), std::forward<P>(p), std::forward<DP>(dp),
      std::forward<DZ>(dz), [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task,
                               [](const auto& part) { detail::call::stablemax_backward(Arch{}, part); });
      });
}

/// Gradient of log_stablemax: dz_i = (dlp_i - exp(lp_i) S) / (1 + |z_i|) with S = sum_k dlp_k, for lp =
/// log_stablemax(z) and dlp = dL/dlp.
///
/// Shapes, aliasing, cost and errors as for stablemax_backward.
///
/// Special values, in this order of precedence:
///   length 0: nothing is written              | lp_i = -inf: masked: +0 there, and z_i and dlp_i enter nothing
///   z_i infinite: 0 with the sign of the rest | NaN, or S infinite: the formula in IEEE arithmetic, as for
///                                             |   log_softmax_backward
///
/// Accuracy: with e_i = exp(lp_i) / (1 + |z_i|) and M = sum_k |dlp_k|, dz_i is off by at most
///   float    0.51 ULP + e_i 2^-45 M + 2^-1074 |S|
///   double   3 ULP + e_i (2^-51 |S| + 2^-89 M) + 2^-1074 (n e_i + |S|)
/// The bits depend on what those of stablemax_backward depend on.
template <class Arch = default_arch, class Z, class LP, class DLP, class DZ>
requires(!detail::executor<Z>) XSOFTMAX_INLINE void log_stablemax_backward(Z&& z, LP&& lp, DLP&& dlp, DZ&& dz) {
  detail::checked_stablemax_backward<detail::log_stablemax_backward_task>(
      detail::log_stablemax_backward_names, std::forward<Z>(z), std::forward<LP>(lp), std::forward<DLP>(dlp),
      std::forward<DZ>(dz),
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::log_stablemax_backward(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class Z, class LP, class DLP, class DZ>
void log_stablemax_backward(Executor&& executor, Z&& z, LP&& lp, DLP&& dlp, DZ&& dz) {
  detail::checked_stablemax_backward<detail::log_stablemax_backward_task>(
      detail::log_stablemax_backward_names, std::forward<Z>(z), std::forward<LP>(lp), std::forward<DLP>(dlp),
      std::forward<DZ>(dz), [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task,
                               [](const auto& part) { detail::call::log_stablemax_backward(Arch{}, part); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

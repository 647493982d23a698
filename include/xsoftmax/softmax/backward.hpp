// SPDX-License-Identifier: MIT
// The gradients of softmax and log_softmax with respect to the logits.
#pragma once

#include <utility>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of softmax_backward and log_softmax_backward. Members only ever join at the end.
struct softmax_backward_options {
  double temperature = 1.0; ///< T of the forward pass, in [0, inf)
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T, template <class> class Task>
requires std::is_base_of_v<backward_arguments, Task<T>> Task<T> rows_of(Task<T> task, std::size_t first,
                                                                        std::size_t count) {
  task.y = rows_from<T>(task.y, first);
  task.dy = rows_from<T>(task.dy, first);
  task.dz = rows_from<T>(task.dz, first);
  task.z = rows_from<T>(task.z, first);
  task.rows = count;
  return task;
}

/// One long row in parts: the sum of each, merged, and each is written by the sum of all.
template <class Arch, class Run, class T, template <class> class Task, class Kernel>
requires std::is_base_of_v<backward_arguments, Task<T>>
bool run_long_row(const Run& run, const Task<T>& row, const part_split& split, const Kernel& kernel) {
  if (row.temperature == 0) {
    return false;
  }
  signed_sum_digits sum[part_split::most];
  const auto step = [&](backward_step what, std::size_t part, signed_sum_digits& of, const signed_sum_digits* other) {
    Task<T> task = row;
    task.y = elements_from<T>(row.y, 0, split.first(part));
    task.dy = elements_from<T>(row.dy, 0, split.first(part));
    task.dz = elements_from<T>(row.dz, 0, split.first(part));
    task.z = elements_from<T>(row.z, 0, split.first(part));
    task.cols = split.count(part);
    task.step = what;
    task.sum = &of;
    task.other = other;
    kernel(task);
  };
  run([&](std::size_t part) { step(backward_step::reduce, part, sum[part], nullptr); });
  for (std::size_t part = 1; part < split.parts; ++part) {
    step(backward_step::merge, 0, sum[0], &sum[part]);
  }
  run([&](std::size_t part) { step(backward_step::write, part, sum[0], nullptr); });
  return true;
}

struct backward_names {
  const char* function;
  const char* y;
  const char* dy;
};

inline constexpr backward_names softmax_backward_names{"softmax_backward", "p", "dp"};
inline constexpr backward_names log_softmax_backward_names{"log_softmax_backward", "lp", "dlp"};

/// Checks the arguments and hands launch(task, output) what is to be done.
template <template <class> class Task, class Y, class DY, class DZ, class Launch>
XSOFTMAX_INLINE void checked_backward(const backward_names& name, Y&& y, DY&& dy, DZ&& dz,
                                      const softmax_backward_options& options, Launch&& launch) {
  check_types<Y, DZ>();
  check_types<DY, DZ>();
  using T = compute_of<DZ>;
  const auto& held_y = evaluated(y);
  const auto& held_dy = evaluated(dy);
  const auto result = input_matrix(held_y);
  const auto gradient = input_matrix(held_dy);
  const auto out = output_matrix(dz);
  if (!same_shape(name.function, name.y, result, name.dy, gradient) ||
      !same_shape(name.function, name.y, result, "dz", out) ||
      !no_partial_overlap(name.function, name.y, result, "dz", out) ||
      !no_partial_overlap(name.function, name.dy, gradient, "dz", out) ||
      !valid_temperature(name.function, options.temperature)) {
    return;
  }
  launch(Task<T>{{
             .y = source_of(result),
             .dy = source_of(gradient),
             .dz = destination_of(out),
             .rows = out.rows(),
             .cols = out.cols(),
             .temperature = options.temperature,
         }},
         out);
}

} // namespace detail

/// Gradient of softmax: dz_i = p_i (dp_i - S) / T with S = sum_k p_k dp_k, for p = softmax(z / T) and dp = dL/dp.
///
/// p, dp and dz are rows of the same length or matrices of the same shape, each row by itself. dz may be p or dp itself
/// (same first element, extents and strides); any other overlap with them is refused where both have the same strides.
/// p need not be normalised, nor below 1: the formula is applied to whatever numbers are given. With a sink in the
/// forward pass it is the same.
///
/// Special values, in this order of precedence:
///   length 0: nothing is written | T = 0: +0 everywhere      | p_i = 0: masked: +0 there, and dp_i enters nothing
///   NaN in p or dp, or S infinite or NaN: p_i (dp_i - S) in IEEE arithmetic. Infinite products p_k dp_k are added
///   among themselves (+inf and -inf give NaN), whatever their order; in double a finite product can overflow to one,
///   and so can S itself, though no sum on the way to it.
///
/// Accuracy: with M = sum_k |p_k dp_k|, dz_i is off by at most
///   float    0.51 ULP + |p_i| / T 2^-45 M
///   double   2 ULP (T = 1; otherwise 3) + |p_i| / T 2^-89 M + 2^-1074 (n |p_i| / T + |dp_i - S|)
/// so that S does not drift with the length, and what cancels in dp_i - S is not lost. Largest errors that searches
/// have found, the second terms apart: 0.5000 ULP for float; 1.46 for double at T = 1, and 2.25 at T = 2.05645595. The
/// bits depend on the row's values and T alone: not on strides, alignment, neighbours, masked elements to the right,
/// nor, with fused multiply-add, on the architecture or compiler.
///
/// Cost: no allocation; p and dp are read twice, dz is written once.
/// Throws std::invalid_argument if shapes differ, the views overlap partially, or T is negative, NaN or infinite;
/// nothing has been written then.
template <class Arch = default_arch, class P, class DP, class DZ>
XSOFTMAX_INLINE void softmax_backward(P&& p, DP&& dp, DZ&& dz, const softmax_backward_options& options = {}) {
  detail::checked_backward<detail::softmax_backward_task>(
      detail::softmax_backward_names, std::forward<P>(p), std::forward<DP>(dp), std::forward<DZ>(dz), options,
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::softmax_backward(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class P, class DP, class DZ>
void softmax_backward(Executor&& executor, P&& p, DP&& dp, DZ&& dz, const softmax_backward_options& options = {}) {
  detail::checked_backward<detail::softmax_backward_task>(
      detail::softmax_backward_names, std::forward<P>(p), std::forward<DP>(dp), std::forward<DZ>(dz), options,
      [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task,
                               [](const auto& part) { detail::call::softmax_backward(Arch{}, part); });
      });
}

/// Gradient of log_softmax: dz_i = (dlp_i - exp(lp_i) S) / T with S = sum_k dlp_k, for lp = log_softmax(z / T) and dlp
/// = dL/dlp.
///
/// Shapes, aliasing, cost and errors as for softmax_backward. lp need not be normalised, nor below 0.
///
/// Special values, in this order of precedence:
///   length 0: nothing is written | T = 0: +0 everywhere      | lp_i = -inf: masked: +0 there, and dlp_i enters nothing
///   NaN, or S infinite: dlp_i - exp(lp_i) S in IEEE arithmetic. Infinite dlp_k are added among themselves (+inf and
///   -inf give NaN), whatever their order; S can overflow in double, though no sum on the way to it.
///
/// Accuracy: with e_i = exp(lp_i) and M = sum_k |dlp_k|, dz_i is off by at most
///   float    0.51 ULP + e_i / T 2^-45 M + 2^-1074 |S| / T (the exponential is one of double)
///   double   1 ULP (T = 1; otherwise 2) + e_i / T (2^-51 |S| + 2^-89 M) + 2^-1074 (n e_i + |S|) / T
/// so that S does not drift with the length. Largest errors that searches have found, the second terms apart: 0.5000
/// ULP for float; 0.5000 for double at T = 1, and 1.48 at T = 4.07821057. The bits depend on what those of
/// softmax_backward depend on.
template <class Arch = default_arch, class LP, class DLP, class DZ>
XSOFTMAX_INLINE void log_softmax_backward(LP&& lp, DLP&& dlp, DZ&& dz, const softmax_backward_options& options = {}) {
  detail::checked_backward<detail::log_softmax_backward_task>(
      detail::log_softmax_backward_names, std::forward<LP>(lp), std::forward<DLP>(dlp), std::forward<DZ>(dz), options,
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::log_softmax_backward(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class LP, class DLP, class DZ>
void log_softmax_backward(Executor&& executor, LP&& lp, DLP&& dlp, DZ&& dz,
                          const softmax_backward_options& options = {}) {
  detail::checked_backward<detail::log_softmax_backward_task>(
      detail::log_softmax_backward_names, std::forward<LP>(lp), std::forward<DLP>(dlp), std::forward<DZ>(dz), options,
      [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task,
                               [](const auto& part) { detail::call::log_softmax_backward(Arch{}, part); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

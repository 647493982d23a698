// SPDX-License-Identifier: MIT
// The part of a gradient that is perpendicular to the weights.
#pragma once

#include <cmath>
#include <utility>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/perpendicular_task.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of perpendicular_gradient. Members only ever join at the end.
struct perpendicular_gradient_options {
  bool keep_norm = false; ///< lengthen what is left to the length that the gradient had
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
perpendicular_gradient_task<T> rows_of(perpendicular_gradient_task<T> task, std::size_t first, std::size_t count) {
  task.w = rows_from<T>(task.w, first);
  task.g = rows_from<T>(task.g, first);
  task.out = rows_from<T>(task.out, first);
  task.rows = count;
  return task;
}

/// The passes: each(f) calls f(part, sums) for parts of the task, each with three sums of its own, and has them merged
/// into the task's.
template <class Arch, class T, class Each>
void remove_component(perpendicular_gradient_task<T> task, const perpendicular_gradient_options& options, Each&& each) {
  const auto sums_of = [&](perpendicular_step step, double(&value)[3]) {
    signed_sum_digits sum[3];
    task.step = step;
    task.sum = sum;
    if (!each(task)) {
      return false;
    }
    perpendicular_gradient_task<T> values = task;
    values.step = perpendicular_step::values;
    values.value = value;
    call::perpendicular_gradient(Arch{}, values);
    return true;
  };
  double product[3];
  double rest[3];
  if (!sums_of(perpendicular_step::products, product) || product[0] == 0) { // no weights: all of it is perpendicular
    return;
  }
  task.coefficient = product[1] / product[0];
  if (!sums_of(perpendicular_step::rest, rest)) {
    return;
  }
  constexpr double noise = sizeof(T) == sizeof(float) ? 0x1p-40 : 0x1p-94; // of squares
  task.scale = rest[0] <= noise * product[2] ? 0.0 : options.keep_norm ? std::sqrt(product[2] / rest[0]) : 1.0;
  task.step = perpendicular_step::write;
  each(task);
}

template <class W, class G, class Launch>
XSOFTMAX_INLINE void checked_perpendicular_gradient(W&& weights, G&& gradient, Launch&& launch) {
  check_types<W, G>();
  const char* const function = "perpendicular_gradient";
  const auto& held = evaluated(weights);
  const auto w = input_matrix(held);
  const auto out = output_matrix(gradient);
  if (!same_shape(function, "weights", w, "gradient", out) ||
      !no_partial_overlap(function, "weights", w, "gradient", out)) {
    return;
  }
  launch(
      perpendicular_gradient_task<compute_of<G>>{
          .w = source_of(w),
          .g = source_of(input_matrix(std::as_const(gradient))),
          .out = destination_of(out),
          .rows = out.rows(),
          .cols = out.cols(),
      },
      out);
}

} // namespace detail

/// Removes from a gradient, in place, its component along the weights: g <- g - (w.g / w.w) w. With keep_norm what is
/// left is then multiplied by |g| / |what is left|, g as it was.
///
/// Along its weights a homogeneous network only scales its logits, which lowers the loss without learning anything and
/// drives softmax into its collapse (softmax_collapse). Apply it to each tensor of parameters before the optimizer sees
/// the gradient.
///
/// weights and gradient are rows of the same length or matrices of the same shape, taken as one vector. Elements are
/// float, double, or halves in any mix with float.
///
/// Special values: w = 0: g stays as it is. Where less than 2^-20 (double: 2^-47) of |g| is left, which is rounding
/// noise, g becomes 0: so for a single element. NaN or infinite elements make all of it NaN.
///
/// Accuracy: everything is in double and rounded once; float products are exact, sums are added as in softmax_backward.
/// In double no square may overflow. The bits do not depend on strides, or threads.
///
/// Cost: no allocation; weights and gradient are read three times, the gradient is written once.
/// Throws std::invalid_argument if shapes differ or the views overlap; nothing has been written then.
///
/// Source: L. Prieto, M. Barsbey, P. Mediano, T. Birdal, "Grokking at the edge of numerical stability" (2025), section
/// 5; keep_norm is what the authors' program does.
template <class Arch = default_arch, class W, class G>
requires(!detail::executor<W>) void perpendicular_gradient(W&& weights, G&& gradient,
                                                           const perpendicular_gradient_options& options = {}) {
  detail::checked_perpendicular_gradient(std::forward<W>(weights), std::forward<G>(gradient),
                                         [&](const auto& task, const auto&) {
                                           detail::remove_component<Arch>(task, options, [](const auto& step) {
                                             detail::call::perpendicular_gradient(Arch{}, step);
                                             return true;
                                           });
                                         });
}

/// The same with rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class W, class G>
void perpendicular_gradient(Executor&& executor, W&& weights, G&& gradient,
                            const perpendicular_gradient_options& options = {}) {
  detail::checked_perpendicular_gradient(
      std::forward<W>(weights), std::forward<G>(gradient), [&](const auto& task, const auto& out) {
        const detail::row_split split(out);
        detail::remove_component<Arch>(task, options, [&](const auto& step) {
          using task_type = std::remove_cvref_t<decltype(step)>;
          if (split.bodies <= 1) {
            detail::call::perpendicular_gradient(Arch{}, step);
            return true;
          }
          if (!detail::call::ready(Arch{})) {
            return false;
          }
          detail::signed_sum_digits sums[detail::most_bodies][3];
          detail::executor_traits<std::remove_reference_t<Executor>>::run(
              executor, split.bodies, [&](std::size_t body) {
                task_type part = detail::rows_of(step, split.first(body), split.count(body));
                part.sum = sums[body];
                detail::call::perpendicular_gradient(Arch{}, part);
              });
          if (step.step != detail::perpendicular_step::write) {
            for (std::size_t body = 0; body < split.bodies; ++body) {
              task_type merge = step;
              merge.step = detail::perpendicular_step::merge;
              merge.other = sums[body];
              detail::call::perpendicular_gradient(Arch{}, merge);
            }
          }
          return true;
        });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// The gradients of softmax and log_softmax with respect to the logits.
#pragma once

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
  task.rows = count;
  return task;
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
  const auto result = input_matrix(y);
  const auto gradient = input_matrix(dy);
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

/// TODO
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

/// TODO
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

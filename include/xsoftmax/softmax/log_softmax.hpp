// SPDX-License-Identifier: MIT
// Logarithm of the softmax of a row or of each row of a matrix.
#pragma once

#include <optional>
#include <vector>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of log_softmax. Members only ever join at the end.
struct log_softmax_options {
  double temperature = 1.0; ///< T of z / T, in [0, inf); 0 is 0 at the lowest index of the maximum, -inf elsewhere
  masked_row_policy masked_row = masked_row_policy::nan; ///< a row of only -inf: NaN, or (zero) -inf, the log of 0
  std::optional<double> sink = std::nullopt;             ///< an extra logit that counts in the denominator only
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T, template <class> class Task>
requires std::is_base_of_v<log_softmax_task<T>, Task<T>> Task<T> rows_of(Task<T> task, std::size_t first,
                                                                         std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.y = rows_from<T>(task.y, first);
  task.rows = count;
  return task;
}

/// One long row in parts: its maximum, the sum of the others by it, and each part is written by both.
template <class Arch, class Run, class T, template <class> class Task, class Kernel>
requires std::is_base_of_v<log_softmax_task<T>, Task<T>>
bool run_long_row(const Run& run, const Task<T>& row, const part_split& split, const Kernel& kernel) {
  if (row.temperature == 0) {
    return false;
  }
  log_softmax_summary summary[part_split::most];
  const auto step = [&](log_softmax_step what, std::size_t part, log_softmax_summary& of,
                        const log_softmax_summary* other = nullptr) {
    Task<T> task = row;
    task.z = elements_from<T>(row.z, 0, split.first(part));
    task.y = elements_from<T>(row.y, 0, split.first(part));
    task.cols = split.count(part);
    task.step = what;
    task.summary = &of;
    task.other = other;
    kernel(task);
  };
  run([&](std::size_t part) { step(log_softmax_step::largest, part, summary[part]); });
  double largest = summary[0].largest;
  for (std::size_t part = 1; part < split.parts; ++part) {
    largest = summary[part].largest > largest ? summary[part].largest : largest;
  }
  for (std::size_t part = 0; part < split.parts; ++part) {
    summary[part].largest = largest;
  }
  if (largest - largest == 0) {
    run([&](std::size_t part) { step(log_softmax_step::others, part, summary[part]); });
  }
  for (std::size_t part = 1; part < split.parts; ++part) {
    step(log_softmax_step::merge, 0, summary[0], &summary[part]);
  }
  // Each body has its own: they are handed over as something that a step may change.
  run([&](std::size_t part) {
    log_softmax_summary all = summary[0];
    step(log_softmax_step::write, part, all);
  });
  return true;
}

/// Checks the arguments of log_softmax and hands launch(task, output) what is to be done.
template <class In, class Out, class Launch>
XSOFTMAX_INLINE void checked_log_softmax(In&& z, Out&& y, const log_softmax_options& options, Launch&& launch) {
  check_types<In, Out>();
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto out = output_matrix(y);
  const double sink = options.sink.value_or(-__builtin_inf());
  if (!same_shape("log_softmax", "z", in, "y", out) || !no_partial_overlap("log_softmax", "z", in, "y", out) ||
      !valid_temperature("log_softmax", options.temperature) || !valid_sink("log_softmax", sink)) {
    return;
  }
  launch(
      log_softmax_task<compute_of<In>>{
          .z = source_of(in),
          .y = destination_of(out),
          .rows = in.rows(),
          .cols = in.cols(),
          .temperature = options.temperature,
          .sink = sink,
          .masked_row = options.masked_row,
      },
      out);
}

} // namespace detail

/// Log-softmax: y_i = z_i / T - log(sum_k exp(z_k / T)), with exp(sink / T) added to the sum where a sink is given.
///
/// z and y are rows (any contiguous sized range, or a vector_view) of the same length, or matrices (matrix_view) of the
/// same shape, where each row is normalised by itself. T and the sink are in the units of the logits. y may be z itself
/// (same first element, extents and strides); any other overlap is refused where both have the same strides.
///
/// Special values, in this order of precedence, at T = 0 too:
///   length 0: nothing is written             | any NaN: NaN in the whole row
///   one or more +inf: NaN in the whole row   | all -inf: NaN, or -inf with masked_row_policy::zero; -inf with a finite
///                                            |   sink
///   some -inf: -inf there                    | T = 0: 0 at the lowest index of the maximum, -inf elsewhere
///                                            |   (everywhere if the sink is above the maximum)
/// Below the lowest finite number the result is -inf.
///
/// Accuracy: each y_i is within 0.65 ULP of the exact value for float and within 1.25 for double, results near 0 and
/// subnormal ones included. Largest errors that searches of eight million rows have found: 0.569 ULP for float at
/// z = {0x1.8262b2p+6, 0x1.55c8eap+6, 0x1.2de1cep+6}, 0.963 for double in a row of 3 at T = 1.44474923.
/// The bits depend on the differences of the row's values and on T alone: adding a constant changes none where the sums
/// are exact, nor do strides, alignment, neighbours, trailing -inf, or, with fused multiply-add, architecture and
/// compiler.
///
/// Cost: no allocation; three passes over z, one over y.
/// Throws std::invalid_argument if shapes differ, the views overlap partially, T is negative, NaN or infinite, or the
/// sink is NaN or +inf; nothing has been written then.
template <class Arch = default_arch, class In, class Out>
requires(!std::is_same_v<std::remove_cvref_t<Out>, log_softmax_options>) XSOFTMAX_INLINE
    void log_softmax(In&& z, Out&& y, const log_softmax_options& options = {}) {
  detail::checked_log_softmax(std::forward<In>(z), std::forward<Out>(y), options,
                              [](const auto& task, const auto&)
                                  XSOFTMAX_LAMBDA { detail::call::log_softmax(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Out>
void log_softmax(Executor&& executor, In&& z, Out&& y, const log_softmax_options& options = {}) {
  detail::checked_log_softmax(
      std::forward<In>(z), std::forward<Out>(y), options, [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task, [](const auto& part) { detail::call::log_softmax(Arch{}, part); });
      });
}

/// The same, returning the logarithms of one row in a new std::vector.
template <class Arch = default_arch, class In>
[[nodiscard]] auto log_softmax(In&& z, const log_softmax_options& options = {}) {
  const auto& held = detail::evaluated(z);
  const auto in = as_view(held);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: log_softmax of a matrix needs an output; only a row is returned as a std::vector");
  std::vector<detail::value_of<std::remove_reference_t<In>>> y(in.size());
  log_softmax<Arch>(held, y, options);
  return y;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

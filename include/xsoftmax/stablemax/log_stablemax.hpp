// SPDX-License-Identifier: MIT
// Logarithm of the StableMax of a row or of each row of a matrix.
#pragma once

#include <vector>
#include <xsoftmax/softmax/log_softmax.hpp>
#include <xsoftmax/stablemax/stablemax.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of log_stablemax. Members only ever join at the end.
struct log_stablemax_options {
  masked_row_policy masked_row = masked_row_policy::nan; ///< a row of only -inf: NaN, or (zero) -inf, the log of 0
};

namespace detail {

/// Checks the arguments of log_stablemax and hands launch(task, output) what is to be done.
template <class In, class Out, class Launch>
XSOFTMAX_INLINE void checked_log_stablemax(In&& z, Out&& y, const log_stablemax_options& options, Launch&& launch) {
  check_types<In, Out>();
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto out = output_matrix(y);
  if (!same_shape("log_stablemax", "z", in, "y", out) || !no_partial_overlap("log_stablemax", "z", in, "y", out)) {
    return;
  }
  launch(log_stablemax_task<compute_of<In>>{{
             .z = source_of(in),
             .y = destination_of(out),
             .rows = in.rows(),
             .cols = in.cols(),
             .temperature = 1.0,
             .sink = -__builtin_inf(),
             .masked_row = options.masked_row,
         }},
         out);
}

} // namespace detail

/// Logarithm of stablemax: y_i = log s(z_i) - log(sum_k s(z_k)), with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below, so
/// that log s(x) = sign(x) log(1 + |x|).
///
/// z and y are rows (any contiguous sized range, or a vector_view) of the same length, or matrices (matrix_view) of the
/// same shape, where each row is normalised by itself. y may be z itself (same first element, extents, strides and
/// type); any other overlap is refused where both have the same strides. Elements are float, double, or halves in any
/// mix with float: computed as float, rounded once.
///
/// Special values, in this order of precedence:
///   length 0: nothing is written             | any NaN: NaN in the whole row
///   one or more +inf: NaN in the whole row   | all -inf: NaN, or -inf with masked_row_policy::zero
///   some -inf: -inf there
///
/// Accuracy: each y_i is within 1 ULP of the exact value for float and within 4 for double, results near 0 included:
/// with m the largest logit and c logits equal to it, y is -log(c + R) there, R the sum of s(z_k) / s(m) over the
/// others. The bits depend on the row's values alone: not on strides, alignment, neighbours, trailing -inf, nor, with
/// fused multiply-add, on the architecture or compiler.
///
/// Cost: no allocation; three passes over z, one over y, in double.
/// Throws std::invalid_argument if shapes differ or the views overlap partially; nothing has been written then.
///
/// Source: as for stablemax.
template <class Arch = default_arch, class In, class Out>
requires(!std::is_same_v<std::remove_cvref_t<Out>, log_stablemax_options>) XSOFTMAX_INLINE
    void log_stablemax(In&& z, Out&& y, const log_stablemax_options& options = {}) {
  detail::checked_log_stablemax(std::forward<In>(z), std::forward<Out>(y), options,
                                [](const auto& task, const auto&)
                                    XSOFTMAX_LAMBDA { detail::call::log_stablemax(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Out>
void log_stablemax(Executor&& executor, In&& z, Out&& y, const log_stablemax_options& options = {}) {
  detail::checked_log_stablemax(
      std::forward<In>(z), std::forward<Out>(y), options, [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task,
                               [](const auto& part) { detail::call::log_stablemax(Arch{}, part); });
      });
}

/// The same, returning the logarithms of one row in a new std::vector.
template <class Arch = default_arch, class In>
[[nodiscard]] auto log_stablemax(In&& z, const log_stablemax_options& options = {}) {
  const auto& held = detail::evaluated(z);
  const auto in = as_view(held);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: log_stablemax of a matrix needs an output; only a row is returned as a std::vector");
  std::vector<detail::value_of<std::remove_reference_t<In>>> y(in.size());
  log_stablemax<Arch>(held, y, options);
  return y;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

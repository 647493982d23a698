// SPDX-License-Identifier: MIT
// Softmax of a row or of each row of a matrix.
#pragma once

#include <optional>
#include <utility>
#include <vector>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/long_row.hpp>
#include <xsoftmax/detail/softmax_task.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of softmax. Members only ever join at the end.
struct softmax_options {
  double temperature = 1.0; ///< T of softmax(z / T), in [0, inf); 0 is one-hot at the lowest index of the maximum
  softmax_algorithm algorithm = softmax_algorithm::automatic; ///< speed only
  masked_row_policy masked_row = masked_row_policy::nan;      ///< a row of only -inf
  std::optional<double> sink = std::nullopt; ///< an extra logit that counts in the denominator only (0: softmax1)
  store_kind store = store_kind::automatic;  ///< speed only
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
softmax_task<T> rows_of(softmax_task<T> task, std::size_t first, std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.p = rows_from<T>(task.p, first);
  task.rows = count;
  return task;
}

/// One long row in parts: what each holds is summed up, the sums are merged, and each is written by them.
template <class Arch, class Run, class T, class Kernel>
bool run_long_row(const Run& run, const softmax_task<T>& row, const part_split& split, const Kernel&) {
  if (row.temperature == 0) {
    return false;
  }
  using step = typename log_sum_exp_state_task<T>::step;
  const part_summaries<T> summaries(Arch{}, run, step::push_terms, row.z, row.temperature, split);
  run([&](std::size_t part) {
    softmax_task<T> task = row;
    task.z = elements_from<T>(row.z, 0, split.first(part));
    task.p = elements_from<T>(row.p, 0, split.first(part));
    task.cols = split.count(part);
    task.whole = &summaries.part[0];
    call::softmax(Arch{}, task);
  });
  return true;
}

/// Checks the arguments of softmax and hands launch(task, output) what is to be done.
template <class In, class Out, class Launch>
XSOFTMAX_INLINE void checked_softmax(In&& z, Out&& p, const softmax_options& options, Launch&& launch) {
  check_types<In, Out>();
  using T = compute_of<In>;
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto out = output_matrix(p);
  const double sink = options.sink.value_or(-__builtin_inf());
  if (!same_shape("softmax", "z", in, "p", out) || !no_partial_overlap("softmax", "z", in, "p", out) ||
      !valid_temperature("softmax", options.temperature) || !valid_sink("softmax", sink)) {
    return;
  }
  launch(
      softmax_task<T>{
          .z = source_of(in),
          .p = destination_of(out),
          .rows = in.rows(),
          .cols = in.cols(),
          .temperature = options.temperature,
          .sink = sink,
          .algorithm = options.algorithm,
          .store = options.store,
          .masked_row = options.masked_row,
      },
      out);
}

} // namespace detail

/// Softmax: p_i = exp(z_i / T) / sum_k exp(z_k / T), with exp(sink / T) added to the denominator where a sink is given.
///
/// z and p are rows (any contiguous sized range, or a vector_view) of the same length, or matrices (matrix_view) of the
/// same shape, where each row is normalised by itself. T and the sink are in the units of the logits. p may be z itself
/// (same first element, extents, strides and type); any other overlap is refused where both have the same strides.
/// Elements are float, double, or halves (half.hpp) in any mix with float: computed in float, rounded once. Rows may
/// lie at any strides; rows that are neighbours element by element (the columns of a row-major matrix) have kernels of
/// their own.
///
/// Special values, in this order of precedence, at T = 0 too:
///   length 0: nothing is written             | any NaN: NaN in the whole row
///   one or more +inf: NaN in the whole row   | all -inf: NaN, or 0 with masked_row_policy::zero; 0 with a finite sink
///   some -inf: exactly 0 there               | T = 0: 1 at the lowest index of the maximum, 0 elsewhere (all 0 if the
///                                            |   sink is above the maximum)
/// Every finite row and every T in (0, inf) gives a finite, normalised result.
///
/// Accuracy: each p_i is within 4 ULP of the exact value, and |sum p - 1| (the sink's share counted) <= 4 * 2^-24 for
/// float, 4 * 2^-53 for double, whatever the length. Largest errors that searches have found (scripts/test
/// --exhaustive prints their rows): 2.93 ULP for float (a row of 23 with a sink); for double 2.97 at
/// z = {-32.7965, -25.4823, -31.0281}, T = 0.420191744, and 3.62 at z = {0x1.149B897BADF69p+4, -0x1.90E7E5A6FB918p-1},
/// T = 0x1.CC184AFC6074Ap-2; without fma 3.20. Each exponential has a relative error of at most 1.2 * 2^-24 (float;
/// math/exp.hpp names the input that comes nearest); float terms are added in pairs, everything beyond in double,
/// blocks exactly. The bits depend on the row's values and T alone: not on algorithm, stores, strides, alignment,
/// neighbours, trailing -inf, nor, with fused multiply-add, on the architecture or compiler.
///
/// Cost: no allocation; passes over memory as softmax_algorithm lists them.
/// Throws std::invalid_argument if shapes differ, the views overlap partially, T is negative, NaN or infinite, or the
/// sink is NaN or +inf; nothing has been written then.
///
/// Sources: M. Dukhan, A. Ablavatski, "Two-Pass Softmax Algorithm" (2020), Algorithms 1 to 3;
/// M. Milakov, N. Gimelshein, "Online normalizer calculation for softmax" (2018), Algorithm 3.
template <class Arch = default_arch, class In, class Out>
requires(!std::is_same_v<std::remove_cvref_t<Out>, softmax_options>) XSOFTMAX_INLINE
    void softmax(In&& z, Out&& p, const softmax_options& options = {}) {
  detail::checked_softmax(std::forward<In>(z), std::forward<Out>(p), options,
                          [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::softmax(Arch{}, task); });
}

/// The same with the rows shared out by an executor: any callable executor(count, body) that calls body(i) for each
/// std::size_t i below count exactly once, in any order and on any threads, and returns when all have returned; with
/// <xsoftmax/execution.hpp> also a standard execution policy. The bits are those of the call without it. Arguments are
/// checked, and errors raised, before the executor is called; work that is not worth sharing never reaches it.
template <class Arch = default_arch, detail::executor Executor, class In, class Out>
void softmax(Executor&& executor, In&& z, Out&& p, const softmax_options& options = {}) {
  detail::checked_softmax(std::forward<In>(z), std::forward<Out>(p), options, [&](const auto& task, const auto& out) {
    detail::run_rows<Arch>(executor, out, task, [](const auto& part) { detail::call::softmax(Arch{}, part); });
  });
}

/// The same, returning the probabilities of one row in a new std::vector.
template <class Arch = default_arch, class In>
[[nodiscard]] auto softmax(In&& z, const softmax_options& options = {}) {
  const auto& held = detail::evaluated(z);
  const auto in = as_view(held);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: softmax of a matrix needs an output; only a row is returned as a std::vector");
  std::vector<detail::value_of<std::remove_reference_t<In>>> p(in.size());
  softmax<Arch>(held, p, options);
  return p;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

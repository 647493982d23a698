// SPDX-License-Identifier: MIT
// StableMax of a row or of each row of a matrix.
#pragma once

#include <utility>
#include <vector>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/stablemax_task.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of stablemax. Members only ever join at the end.
struct stablemax_options {
  masked_row_policy masked_row = masked_row_policy::nan; ///< a row of only -inf
  store_kind store = store_kind::automatic;              ///< speed only
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
stablemax_task<T> rows_of(stablemax_task<T> task, std::size_t first, std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.p = rows_from<T>(task.p, first);
  task.rows = count;
  return task;
}

/// One long row in parts: the sum of each, merged, and each is written by the sum of all. Rows that need another unit
/// are left whole.
template <class Arch, class Run, class T, class Kernel>
bool run_long_row(const Run& run, const stablemax_task<T>& row, const part_split& split, const Kernel& kernel) {
  stablemax_summary summary[part_split::most];
  const auto step = [&](stablemax_step what, std::size_t part, stablemax_summary& of,
                        const stablemax_summary* other = nullptr) {
    stablemax_task<T> task = row;
    task.z = elements_from<T>(row.z, 0, split.first(part));
    task.p = elements_from<T>(row.p, 0, split.first(part));
    task.cols = split.count(part);
    task.step = what;
    task.summary = &of;
    task.other = other;
    kernel(task);
  };
  run([&](std::size_t part) { step(stablemax_step::sum, part, summary[part]); });
  for (std::size_t part = 1; part < split.parts; ++part) {
    step(stablemax_step::merge, 0, summary[0], &summary[part]);
  }
  step(stablemax_step::settle, 0, summary[0]);
  if (!summary[0].usual) {
    return false;
  }
  run([&](std::size_t part) {
    stablemax_summary all = summary[0]; // something that a step may change
    step(stablemax_step::write, part, all);
  });
  return true;
}

/// Checks the arguments of stablemax and hands launch(task, output) what is to be done.
template <class In, class Out, class Launch>
XSOFTMAX_INLINE void checked_stablemax(In&& z, Out&& p, const stablemax_options& options, Launch&& launch) {
  check_types<In, Out>();
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto out = output_matrix(p);
  if (!same_shape("stablemax", "z", in, "p", out) || !no_partial_overlap("stablemax", "z", in, "p", out)) {
    return;
  }
  launch(
      stablemax_task<compute_of<In>>{
          .z = source_of(in),
          .p = destination_of(out),
          .rows = in.rows(),
          .cols = in.cols(),
          .masked_row = options.masked_row,
          .store = options.store,
      },
      out);
}

} // namespace detail

/// StableMax: p_i = s(z_i) / sum_k s(z_k), with s(x) = x + 1 for x >= 0 and 1 / (1 - x) below.
///
/// s grows and falls off like a straight line and its inverse, where softmax has the exponential: in the sum no class
/// absorbs the others before the logits are thousands apart, so that gradients of cross-entropy do not vanish by
/// rounding. Adding a constant to all logits changes p; there is no temperature.
///
/// z and p are rows (any contiguous sized range, or a vector_view) of the same length, or matrices (matrix_view) of the
/// same shape, where each row is normalised by itself. p may be z itself (same first element, extents, strides and
/// type); any other overlap is refused where both have the same strides. Elements are float, double, or halves
/// (half.hpp) in any mix with float: computed in float, rounded once.
///
/// Special values, in this order of precedence:
///   length 0: nothing is written             | any NaN: NaN in the whole row
///   one or more +inf: NaN in the whole row   | all -inf: NaN, or 0 with masked_row_policy::zero
///   some -inf: exactly 0 there
/// Every finite row gives a finite, normalised result, up to the ends of the range.
///
/// Accuracy: each p_i is within 4 ULP of the exact value, and |sum p - 1| <= 4 * 2^-24 for float, 4 * 2^-53 for double,
/// whatever the length. Terms s are rounded once or twice; they are added in double (double: in pairs), blocks exactly.
/// Largest errors that searches have found: 3.06 ULP for float at z = {-0x1.cfffdep-5, -0x1.e502cep+3}, 2.85 for double
/// at z = {0x1.c0750ebc49b73p+2, -0x1.afd8a1fa61dc1p+4, -0x1.36a764a49a15p+3, -0x1.c5803546e2c0bp+2}.
/// The bits depend on the row's values alone: not on stores, strides, alignment, neighbours, trailing -inf, nor, with
/// fused multiply-add, on the architecture or compiler.
///
/// Cost: no allocation. Two passes; a row in the caches that is not overwritten takes one division for each element,
/// others take two.
/// Throws std::invalid_argument if shapes differ or the views overlap partially; nothing has been written then.
///
/// Source: L. Prieto, M. Barsbey, P. Mediano, T. Birdal, "Grokking at the edge of numerical stability" (2025),
/// section 4.
template <class Arch = default_arch, class In, class Out>
requires(!std::is_same_v<std::remove_cvref_t<Out>, stablemax_options>) XSOFTMAX_INLINE
    void stablemax(In&& z, Out&& p, const stablemax_options& options = {}) {
  detail::checked_stablemax(std::forward<In>(z), std::forward<Out>(p), options,
                            [](const auto& task, const auto&)
                                XSOFTMAX_LAMBDA { detail::call::stablemax(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Out>
void stablemax(Executor&& executor, In&& z, Out&& p, const stablemax_options& options = {}) {
  detail::checked_stablemax(std::forward<In>(z), std::forward<Out>(p), options, [&](const auto& task, const auto& out) {
    detail::run_rows<Arch>(executor, out, task, [](const auto& part) { detail::call::stablemax(Arch{}, part); });
  });
}

/// The same, returning the probabilities of one row in a new std::vector.
template <class Arch = default_arch, class In>
[[nodiscard]] auto stablemax(In&& z, const stablemax_options& options = {}) {
  const auto& held = detail::evaluated(z);
  const auto in = as_view(held);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: stablemax of a matrix needs an output; only a row is returned as a std::vector");
  std::vector<detail::value_of<std::remove_reference_t<In>>> p(in.size());
  stablemax<Arch>(held, p, options);
  return p;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Cross-entropy by class indices or distributions, with its gradient.
#pragma once

#include <concepts>
#include <ranges>
#include <utility>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/cross_entropy_task.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// How the losses of a batch become one number.
enum class loss_reduction : unsigned char {
  mean, ///< over the rows that are not ignored, by the weights of their targets; of distributions over all rows
  sum,
};

/// A weight for each class: any contiguous range of float or double, which must live as long as the call.
class class_weights {
public:
  /// All 1.
  constexpr class_weights() = default;

  template <std::ranges::contiguous_range Range>
  requires std::ranges::sized_range<Range> &&
      (std::same_as<std::ranges::range_value_t<Range>, float> ||
       std::same_as<std::ranges::range_value_t<Range>, double>)class_weights(const Range& weights)
      : row_{std::ranges::data(weights), 1, std::same_as<std::ranges::range_value_t<Range>, double>},
        size_(std::ranges::size(weights)) {}

  constexpr bool given() const { return row_.data != nullptr; }

  constexpr std::size_t size() const { return size_; }

  constexpr const detail::weight_row& row() const { return row_; }

private:
  detail::weight_row row_{};
  std::size_t size_ = 0;
};

/// Options of cross_entropy. Members only ever join at the end.
struct cross_entropy_options {
  loss_link link = loss_link::softmax;
  loss_reduction reduction = loss_reduction::mean;
  std::size_t ignore_index = npos; ///< rows of this target, a class or not, have no loss and no gradient
  class_weights weights = {};      ///< by which each class's part of loss and gradient is multiplied
  double label_smoothing = 0.0;    ///< in [0, 1]: the share of each target that is spread over all classes
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
cross_entropy_task<T> rows_of(cross_entropy_task<T> task, std::size_t first, std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.dz = rows_from<T>(task.dz, first);
  task.losses = elements_from<T>(task.losses, 0, first);
  task.targets = task.targets.from(first);
  task.distributions = rows_from<T>(task.distributions, first);
  task.rows = count;
  return task;
}

/// In the place of an output that is not wanted.
struct no_output {};

/// Are targets of this type distributions, a row for each row of z?
template <class Targets>
concept distributions =
    viewable<std::remove_reference_t<Targets>> && !std::integral<value_of<std::remove_reference_t<Targets>>>;

/// Indices, one for each row of z.
template <class T, class In, class Targets>
requires(viewable<const Targets> && !distributions<const Targets>) XSOFTMAX_INLINE
    bool take_targets(const char* function, const matrix_view<In>& z, const Targets& targets,
                      cross_entropy_task<T>& task) {
  using Integer = std::remove_const_t<element_of<const Targets>>;
  static_assert(is_vector<view_of<const Targets>>, "xsoftmax: targets are a row, one for each row of z");
  static_assert(!std::same_as<Integer, bool> && sizeof(Integer) <= 8, "xsoftmax: targets are integers");
  const auto view = input_matrix(targets);
  task.targets = {view.data(), view.col_stride(), sizeof(Integer), std::signed_integral<Integer>};
  if (view.cols() != z.rows()) {
    raise_mismatch(function, "targets must have one element for each row of z", "rows of z", z.rows(),
                   "length of targets", view.cols());
    return false;
  }
  return true;
}

/// Distributions.
template <class T, class In, distributions Targets>
XSOFTMAX_INLINE bool take_targets(const char* function, const matrix_view<In>& z, const Targets& targets,
                                  cross_entropy_task<T>& task) {
  static_assert(std::is_same_v<compute_of<const Targets>, T>,
                "xsoftmax: double does not mix with float or halves: z and the targets must be computed in one type");
  const auto view = input_matrix(targets);
  task.distributions = source_of(view);
  task.has_distributions = true;
  if (task.ignored != npos) {
    raise_out_of_range(function, "no row is ignored where targets are distributions", "ignore_index", task.ignored);
    return false;
  }
  return same_shape(function, "z", z, "targets", view);
}

/// The index of a single row.
struct one_target {
  std::uint64_t index;
};

template <class T, class In>
XSOFTMAX_INLINE bool take_targets(const char*, const matrix_view<In>&, const one_target& target,
                                  cross_entropy_task<T>& task) {
  task.targets = {&target.index, 0, sizeof target.index, false};
  return true;
}

/// An output may be the targets or share nothing with them.
template <class Targets, class Out>
XSOFTMAX_INLINE bool no_overlap_with_targets(const char* function, const Targets& targets,
                                             const matrix_view<Out>& out) {
  if constexpr (distributions<const Targets>) {
    return no_partial_overlap(function, "targets", input_matrix(targets), "dz", out);
  }
  return true;
}

/// By what the sum of losses is divided: the weights of all rows that are not ignored. Of a target that is no class it
/// is not known: without weights it counts as the others.
XSOFTMAX_NOINLINE inline double weight_of_batch(const integer_row& targets, std::size_t rows, std::size_t cols,
                                                std::uint64_t ignored, const weight_row& weights) {
  double sum = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::uint64_t y = targets.get(r);
    if (y == ignored) {
      continue;
    }
    if (y < cols) {
      sum += weights.get(static_cast<std::size_t>(y));
    } else if (weights.data == nullptr) {
      sum += 1;
    }
  }
  return sum;
}

/// Checks the arguments and hands launch(task, input) what is to be done. dz and losses may be no_output.
template <class In, class Targets, class Losses, class DZ, class Launch>
XSOFTMAX_INLINE void checked_cross_entropy(In&& z, const Targets& targets, Losses&& losses, DZ&& dz,
                                           const cross_entropy_options& options, Launch&& launch) {
  const char* const function = "cross_entropy";
  constexpr bool has_losses = !std::is_same_v<std::remove_cvref_t<Losses>, no_output>;
  using T = compute_of<In>;
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  cross_entropy_task<T> task{.z = source_of(in),
                             .dz = {},
                             .losses = {},
                             .targets = {},
                             .rows = in.rows(),
                             .cols = in.cols(),
                             .ignored = options.ignore_index,
                             .weights = options.weights.row(),
                             .scale = 1.0,
                             .link = options.link,
                             .total = nullptr,
                             .smoothing = options.label_smoothing};
  if (!take_targets(function, in, targets, task)) {
    return;
  }
  if (!(options.label_smoothing >= 0 && options.label_smoothing <= 1)) {
    raise_out_of_range(function, "the label smoothing must be in [0, 1]", "label_smoothing", options.label_smoothing);
    return;
  }
  if (options.weights.given() && options.weights.size() != in.cols()) {
    raise_mismatch(function, "there must be a weight for each class", "length of a row of z", in.cols(),
                   "number of weights", options.weights.size());
    return;
  }
  if constexpr (!std::is_same_v<std::remove_cvref_t<DZ>, no_output>) {
    check_types<In, DZ>();
    const auto out = output_matrix(dz);
    if (!same_shape(function, "z", in, "dz", out) || !no_partial_overlap(function, "z", in, "dz", out) ||
        !no_overlap_with_targets(function, targets, out)) {
      return;
    }
    task.dz = destination_of(out);
  }
  if constexpr (has_losses) {
    static_assert(std::is_lvalue_reference_v<Losses> || refers_to_elements<Losses>(),
                  "xsoftmax: the output is a temporary container: its result would be lost");
    static_assert(std::is_same_v<compute_type_t<value_of<std::remove_reference_t<Losses>>>, T>,
                  "xsoftmax: double does not mix with float or halves: z and the losses must be computed in one type");
    const auto out = output_matrix(losses);
    if (out.cols() != in.rows()) {
      raise_mismatch(function, "losses must have one element for each row of z", "rows of z", in.rows(),
                     "length of losses", out.cols());
      return;
    }
    task.losses = destination_of(out);
  }
  launch(task, in);
}

/// The reduced loss of a task whose arguments have been checked; run(task) does its rows and sums them up in
/// task.total.
template <class Arch, class T, class Run>
XSOFTMAX_INLINE T reduced_loss(cross_entropy_task<T> task, loss_reduction reduction, Run&& run) {
  signed_sum_digits total;
  T result{};
  task.total = &total;
  if (reduction == loss_reduction::mean) {
    task.divisor = task.has_distributions
                       ? static_cast<double>(task.rows)
                       : weight_of_batch(task.targets, task.rows, task.cols, task.ignored, task.weights);
    task.scale = task.divisor == 0 ? 0.0 : 1.0 / task.divisor;
  }
  if (run(task)) {
    task.step = cross_entropy_step::value;
    task.result = &result;
    call::cross_entropy(Arch{}, task);
  }
  return result;
}

/// Rows shared out by an executor, each body with a sum of its own.
template <class Arch, class Executor, class T, class In>
bool run_cross_entropy(Executor& executor, const matrix_view<In>& in, const cross_entropy_task<T>& task) {
  const row_split split(in);
  if (split.bodies <= 1) {
    call::cross_entropy(Arch{}, task);
    return true;
  }
  if (!call::ready(Arch{})) {
    return false;
  }
  signed_sum_digits totals[most_bodies];
  executor_traits<Executor>::run(executor, split.bodies, [&](std::size_t body) {
    cross_entropy_task<T> part = rows_of(task, split.first(body), split.count(body));
    part.total = &totals[body];
    call::cross_entropy(Arch{}, part);
  });
  cross_entropy_task<T> merge = task;
  merge.step = cross_entropy_step::merge;
  for (std::size_t body = 0; body < split.bodies; ++body) {
    merge.other = &totals[body];
    call::cross_entropy(Arch{}, merge);
  }
  return true;
}

template <class X>
concept integer = std::integral<std::remove_cvref_t<X>> && !std::same_as<std::remove_cvref_t<X>, bool>;

template <class Arch, class In, class DZ>
XSOFTMAX_INLINE auto cross_entropy_of_row(In&& z, std::uint64_t target, DZ&& dz, const cross_entropy_options& options) {
  static_assert(is_vector<view_of<std::remove_reference_t<In>>>,
                "xsoftmax: a matrix has a target for each of its rows");
  using T = compute_of<In>;
  T loss{};
  checked_cross_entropy(std::forward<In>(z), one_target{target}, no_output{}, std::forward<DZ>(dz), options,
                        [&](const auto& task, const auto&) XSOFTMAX_LAMBDA {
                          loss = reduced_loss<Arch>(task, options.reduction, [](const auto& whole) XSOFTMAX_LAMBDA {
                            call::cross_entropy(Arch{}, whole);
                            return true;
                          });
                        });
  return loss;
}

/// run(task, input) does the rows of a batch.
template <class Arch, class In, class Targets, class DZ, class Run>
XSOFTMAX_INLINE auto cross_entropy_of_rows(In&& z, const Targets& targets, DZ&& dz,
                                           const cross_entropy_options& options, Run&& run) {
  using T = compute_of<In>;
  T loss{};
  checked_cross_entropy(std::forward<In>(z), evaluated(targets), no_output{}, std::forward<DZ>(dz), options,
                        [&](const auto& task, const auto& in) XSOFTMAX_LAMBDA {
                          loss = reduced_loss<Arch>(task, options.reduction,
                                                    [&](const auto& whole) XSOFTMAX_LAMBDA { return run(whole, in); });
                        });
  return loss;
}

template <class Arch, class In, class Targets, class Losses, class DZ, class Run>
XSOFTMAX_INLINE void losses_of_rows(In&& z, const Targets& targets, Losses&& losses, DZ&& dz,
                                    const cross_entropy_options& options, Run&& run) {
  checked_cross_entropy(std::forward<In>(z), evaluated(targets), std::forward<Losses>(losses), std::forward<DZ>(dz),
                        options, run);
}

template <class X>
concept row_like = is_vector<view_of<std::remove_reference_t<X>>>;

/// Is X, which follows these targets, a row of losses? After a distribution for a single row comes its gradient.
template <class Targets, class X>
concept losses_like = row_like<X> && !(row_like<Targets> && distributions<Targets>);

template <class X>
concept option_like = std::same_as<std::remove_cvref_t<X>, cross_entropy_options>;

} // namespace detail

/// Cross-entropy of one row and its target y: loss = -log p_y, p = softmax(z) or stablemax(z) by options.link.
///
/// Softmax does not collapse: where p_y is above 1/2 the loss is -log(1 - R) and the gradient of the target -R, R = sum
/// of p_k over the others, down to the smallest number. z = (20, 0, -5), y = 0 gives 2.075e-9, where the usual formula
/// gives 0 in float.
///
/// z is a row (any contiguous sized range, or a vector_view) of float, double or halves, which are computed in float;
/// the target any integer. The mean of one row is its loss; the sum is multiplied by its class's weight. With label
/// smoothing the target is a distribution, as below.
///
/// Special values:
///   target not in [0, n): NaN; as ignore_index: sum 0, mean NaN (of no rows)
///   NaN or +inf in z, or only -inf: NaN    | z_y = -inf among others: +inf
///
/// Accuracy: with p within 4 ULP, the loss is off by at most 4 * 2^-24 (double: 4 * 2^-53) where p_y <= 1/2, by 8 ULP
/// above. (With flush-to-zero set, a loss of 2^-90 to 2^-70 may lack what subnormal probabilities add to it.) The bits
/// depend on the values alone: not on whether the gradient is asked for, strides, batch or threads, nor, with fused
/// multiply-add, on the architecture.
///
/// Cost: no allocation; the passes of softmax without its output, and one more over the exponentials where p_y is above
/// 1/2 or below 2^-100.
/// Throws std::invalid_argument if there are weights, but not one for each class, or a label smoothing outside [0, 1].
template <class Arch = default_arch, class In, detail::integer Target>
[[nodiscard]] XSOFTMAX_INLINE auto cross_entropy(In&& z, Target target, const cross_entropy_options& options = {}) {
  return detail::cross_entropy_of_row<Arch>(std::forward<In>(z), static_cast<std::uint64_t>(target),
                                            detail::no_output{}, options);
}

/// The same with its gradient: dz_i = p_i - [i = y], for stablemax divided by 1 + |z_i|.
///
/// dz is a row of the same length, which may be z itself (same first element, stride and type); any other overlap is
/// refused where both have the same strides. A row without a loss has the gradient 0 where it is ignored, NaN
/// otherwise. dz is off by at most 5 ULP (stablemax: 7) of each element.
///
/// Cost: no allocation; where z and dz are of the compute type, side by side and apart, softmax from z to dz and O(1),
/// and where p_y is above 1/2 one pass more that reads dz; otherwise p is computed block by block.
/// Throws std::invalid_argument also if the shapes differ or the views overlap partially; nothing has been written
/// then.
template <class Arch = default_arch, class In, detail::integer Target, class DZ>
requires(!detail::option_like<DZ>) XSOFTMAX_INLINE
    auto cross_entropy(In&& z, Target target, DZ&& dz, const cross_entropy_options& options = {}) {
  return detail::cross_entropy_of_row<Arch>(std::forward<In>(z), static_cast<std::uint64_t>(target),
                                            std::forward<DZ>(dz), options);
}

/// Cross-entropy of a batch: each row of z (matrix_view) by its target, reduced to the mean or the sum. targets is a
/// row of z.rows() integers of any type; -1 is npos.
///
/// mean: sum of w_y loss over sum of w_y, both over the rows that are not ignored; NaN if there are none. A target that
/// is no class makes the mean NaN; without weights its row counts. Losses are rounded to the compute type and added
/// exactly, so that the result does not depend on the order.
///
/// Targets that are floating-point numbers are distributions t, of the shape of z: a matrix for a matrix, a row for a
/// row. With them, and wherever labels are smoothed (eps = options.label_smoothing; t_y = 1 at an index),
///
///   q_i  = w_i ((1 - eps) t_i + eps / C)       C classes whose logit is above -inf; none of eps for the others
///   loss = sum of q_i (-log p_i)               nothing where q_i = 0, even where p_i is
///   dz_i = W p_i - q_i, W = sum of q_i         for stablemax divided by 1 + |z_i|
///
/// t need not sum to 1. The mean over distributions is that over all rows; over smoothed indices it is divided by the
/// weights w_y, as over others. Where an element m has p_m above 1/2, its gradient is (sum of q_i over the others) -
/// W R, R = 1 - p_m: it does not collapse either.
///
/// Special values:
///   t with NaN or infinities: NaN              | z_i = -inf with q_i > 0: the loss is +inf, dz_i = -q_i
///   NaN or +inf in z, or only -inf: NaN        | z_i = -inf with q_i = 0: no part, dz_i = 0
///   no class at all (n = 0): the loss of a distribution is 0
///   W beyond the range of the compute type: NaN; a log p_i beyond it: +inf
///
/// Accuracy, for t of the sign of the smoothing: the loss is off by at most 8 ULP (2 of them those of q), dz_i by 8
/// units in the last place of W p_i + q_i, that of a dominating element of (sum of q_i over the others) + W R
/// (stablemax: 10); where p, its logarithm or q are subnormal, by what they lack, times W or q. Largest found by
/// searches: 3.74 and 8.09 for float, 5.68 and 7.99 for double, all with StableMax; softmax 3.47 and 5.80, 4.59
/// and 6.26.
///
/// Cost of a row with a distribution: no allocation; the passes of softmax and two more, for the sums and the gradient;
/// with StableMax those of log_stablemax and, for the gradient, of stablemax.
/// Throws std::invalid_argument also if the shapes differ, and if there is an ignore_index for distributions.
template <class Arch = default_arch, class In, class Targets>
requires(!detail::integer<Targets> && !detail::executor<In>) [[nodiscard]] XSOFTMAX_INLINE
    auto cross_entropy(In&& z, Targets&& targets, const cross_entropy_options& options = {}) {
  return detail::cross_entropy_of_rows<Arch>(std::forward<In>(z), targets, detail::no_output{}, options,
                                             [](const auto& task, const auto&) XSOFTMAX_LAMBDA {
                                               detail::call::cross_entropy(Arch{}, task);
                                               return true;
                                             });
}

/// The same with the gradient of the reduced loss in dz, a matrix of the same shape, or the row that it is of. dz may
/// be z or the distributions themselves.
template <class Arch = default_arch, class In, class Targets, class DZ>
requires(!detail::integer<Targets> && !detail::executor<In> && !detail::option_like<DZ> &&
         !detail::losses_like<Targets, DZ>) XSOFTMAX_INLINE
    auto cross_entropy(In&& z, Targets&& targets, DZ&& dz, const cross_entropy_options& options = {}) {
  return detail::cross_entropy_of_rows<Arch>(std::forward<In>(z), targets, std::forward<DZ>(dz), options,
                                             [](const auto& task, const auto&) XSOFTMAX_LAMBDA {
                                               detail::call::cross_entropy(Arch{}, task);
                                               return true;
                                             });
}

/// The loss of each row of a matrix by itself, w_y times -log p_y, in a row of z.rows() elements: nothing is reduced.
template <class Arch = default_arch, class In, class Targets, class Losses>
requires(!detail::integer<Targets> && !detail::executor<In> && !detail::option_like<Losses> &&
         detail::losses_like<Targets, Losses>) XSOFTMAX_INLINE
    void cross_entropy(In&& z, Targets&& targets, Losses&& losses, const cross_entropy_options& options = {}) {
  detail::losses_of_rows<Arch>(std::forward<In>(z), targets, std::forward<Losses>(losses), detail::no_output{}, options,
                               [](const auto& task, const auto&)
                                   XSOFTMAX_LAMBDA { detail::call::cross_entropy(Arch{}, task); });
}

/// The same, with the gradient of each row's loss in dz.
template <class Arch = default_arch, class In, class Targets, class Losses, class DZ>
requires(!detail::integer<Targets> && !detail::executor<In> && !detail::option_like<DZ> &&
         detail::losses_like<Targets, Losses>) XSOFTMAX_INLINE
    void cross_entropy(In&& z, Targets&& targets, Losses&& losses, DZ&& dz, const cross_entropy_options& options = {}) {
  detail::losses_of_rows<Arch>(
      std::forward<In>(z), targets, std::forward<Losses>(losses), std::forward<DZ>(dz), options,
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::cross_entropy(Arch{}, task); });
}

/// The forms for a batch with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Targets>
[[nodiscard]] auto cross_entropy(Executor&& executor, In&& z, Targets&& targets,
                                 const cross_entropy_options& options = {}) {
  return detail::cross_entropy_of_rows<Arch>(
      std::forward<In>(z), targets, detail::no_output{}, options,
      [&](const auto& task, const auto& in) { return detail::run_cross_entropy<Arch>(executor, in, task); });
}

template <class Arch = default_arch, detail::executor Executor, class In, class Targets, class DZ>
requires(!detail::option_like<DZ> &&
         !detail::losses_like<Targets, DZ>) auto cross_entropy(Executor&& executor, In&& z, Targets&& targets, DZ&& dz,
                                                               const cross_entropy_options& options = {}) {
  return detail::cross_entropy_of_rows<Arch>(
      std::forward<In>(z), targets, std::forward<DZ>(dz), options,
      [&](const auto& task, const auto& in) { return detail::run_cross_entropy<Arch>(executor, in, task); });
}

template <class Arch = default_arch, detail::executor Executor, class In, class Targets, class Losses>
requires(!detail::option_like<Losses> && detail::losses_like<Targets, Losses>) void cross_entropy(
    Executor&& executor, In&& z, Targets&& targets, Losses&& losses, const cross_entropy_options& options = {}) {
  detail::losses_of_rows<Arch>(
      std::forward<In>(z), targets, std::forward<Losses>(losses), detail::no_output{}, options,
      [&](const auto& task, const auto& in) {
        detail::run_rows<Arch>(executor, in, task, [](const auto& part) { detail::call::cross_entropy(Arch{}, part); });
      });
}

template <class Arch = default_arch, detail::executor Executor, class In, class Targets, class Losses, class DZ>
requires(!detail::option_like<DZ> &&
         detail::losses_like<Targets, Losses>) void cross_entropy(Executor&& executor, In&& z, Targets&& targets,
                                                                  Losses&& losses, DZ&& dz,
                                                                  const cross_entropy_options& options = {}) {
  detail::losses_of_rows<Arch>(
      std::forward<In>(z), targets, std::forward<Losses>(losses), std::forward<DZ>(dz), options,
      [&](const auto& task, const auto& in) {
        detail::run_rows<Arch>(executor, in, task, [](const auto& part) { detail::call::cross_entropy(Arch{}, part); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

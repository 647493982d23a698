// SPDX-License-Identifier: MIT
// Draws from softmax(z / T).
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/key.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of sample. Members only ever join at the end.
struct sample_options {
  double temperature = 1.0; ///< T of softmax(z / T), in [0, inf); 0 takes the lowest index of the maximum
  std::size_t top_k = 0;    ///< only the k largest logits; 0: all
  double top_p = 1.0;       ///< of these only the fewest largest whose probabilities reach it, in [0, 1]; 1: all
  double min_p = 0.0;       ///< of these only those at least so probable as the largest, times this, in [0, 1]
};

/// Options of sample_many and sample_without_replacement. Members only ever join at the end.
struct sample_several_options {
  double temperature = 1.0; ///< T of softmax(z / T), in [0, inf); 0 takes the maximum
};

namespace detail {

XSOFTMAX_INLINE bool valid_share(const char* function, const char* name, double share) {
  if (share >= 0 && share <= 1) {
    return true;
  }
  raise_out_of_range(function, "a share of the probability must be in [0, 1]", name, share);
  return false;
}

/// Rows [first, first + count) of the task.
template <class T, template <class> class Task>
requires std::is_base_of_v<sample_task<T>, Task<T>> Task<T> rows_of(Task<T> task, std::size_t first,
                                                                    std::size_t count) {
  task.key.row += first;
  task.z = rows_from<T>(task.z, first);
  task.indices = task.indices.from(first);
  task.rows = count;
  return task;
}

/// One long row in parts: the largest of the largest, of equal ones the first.
template <class Arch, class Run, class T, class Kernel>
bool run_long_row(const Run& run, const sample_task<T>& row, const part_split& split, const Kernel& kernel) {
  std::size_t place[part_split::most];
  T value[part_split::most];
  run([&](std::size_t part) {
    sample_task<T> task = row;
    task.key.index += split.first(part);
    task.z = elements_from<T>(row.z, 0, split.first(part));
    task.cols = split.count(part);
    task.indices = {&place[part], 1};
    task.winner = &value[part];
    kernel(task);
  });
  std::size_t winner = npos;
  T largest = -__builtin_inff();
  for (std::size_t part = 0; part < split.parts; ++part) {
    if (value[part] != value[part]) {
      winner = npos;
      break;
    }
    if (value[part] > largest) {
      largest = value[part];
      winner = split.first(part) + place[part];
    }
  }
  row.indices.set(0, winner);
  return true;
}

/// Checks the arguments and hands launch(task, input) what is to be done.
template <class T, class In, class Launch>
XSOFTMAX_INLINE void checked_sample(const noise_key& key, const matrix_view<const In>& in, index_row indices,
                                    const sample_options& options, Launch&& launch) {
  if (!valid_key("sample", key, in.rows(), in.cols()) || !valid_temperature("sample", options.temperature) ||
      !valid_share("sample", "top_p", options.top_p) || !valid_share("sample", "min_p", options.min_p)) {
    return;
  }
  const sample_task<T> task{
      .key = key,
      .z = source_of(in),
      .rows = in.rows(),
      .cols = in.cols(),
      .temperature = options.temperature,
      .indices = indices,
  };
  if (options.temperature == 0 || (options.top_k == 0 && options.top_p == 1 && options.min_p == 0)) {
    launch(task, in);
  } else {
    launch(sample_truncated_task<T>{task, options.top_k, options.top_p, options.min_p}, in);
  }
}

template <class Arch, class T>
XSOFTMAX_INLINE void launch_sample(const sample_task<T>& task) {
  call::sample(Arch{}, task);
}

template <class Arch, class T>
XSOFTMAX_INLINE void launch_sample(const sample_truncated_task<T>& task) {
  call::sample_truncated(Arch{}, task);
}

/// The same for the public function over rows, with its shapes.
template <class In, class Indices, class Launch>
XSOFTMAX_INLINE void checked_sample_of_rows(const noise_key& key, In&& z, Indices&& indices,
                                            const sample_options& options, Launch&& launch) {
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  index_row out{};
  if (!checked_indices("sample", std::forward<Indices>(indices), in.rows(), out)) {
    return;
  }
  checked_sample<compute_of<In>>(key, in, out, options, launch);
}

} // namespace detail

/// One draw from the categorical distribution softmax(z / T): the index i with probability exp(z_i / T) / sum_k
/// exp(z_k / T).
///
/// It is the place of the largest perturbed logit, z_i + T G_i for T <= 1 and z_i / T + G_i above, with the Gumbel
/// noise G of the same key (gumbel_noise): each step rounded by itself in the compute type, so that every architecture,
/// chunk and number of threads gives the same index; a tie goes to the lowest. At T = 1 it is the index of
/// gumbel_softmax. Perturbed logits of finite z are finite.
///
/// z is a row (any contiguous sized range, or a vector_view) of float, double or halves, which are computed in float.
///
/// Special values, in this order of precedence, at T = 0 too:
///   length 0: npos               | any NaN: npos
///   one or more +inf: npos       | all -inf: npos
///   some -inf: never that index  | T = 0: the lowest index of the maximum
///
/// Truncation, in this order, over the logits sorted with the largest first and of equal ones the lowest index first:
///   top_k   the first k are left
///   top_p   of these the fewest first ones are left whose probabilities sum up to top_p or more: p = softmax(z / T) of
///           what top_k left, added in double; so the element that crosses top_p is kept
///   min_p   of these those are left with exp((z_i - max) / T) >= min_p
/// At least one is left always. The index is the place of the largest perturbed logit among them: the same noise, so
/// that a draw that truncation leaves is the draw without it.
///
/// Law: exact up to the rounding of the perturbed logits (relative 2^-24 of each in float) and the resolution of the
/// noise: a class with a probability of 1e-19 of another's is still drawn as often as it should.
///
/// Cost: no allocation; z is read once and nothing else is written. A word of Philox4x32-10 for each element; of most
/// no logarithm is taken. With truncation z is read several times (top_p: with a softmax's sum), but noise is drawn
/// only where something is left; where top_p leaves more than 64 elements, or top_k more than 1024, the values are
/// weighed in bins first, in two passes or three.
///
/// Throws std::invalid_argument if T is negative, NaN or infinite, top_p or min_p is not in [0, 1], and for keys as
/// gumbel_noise does.
///
/// Sources: A. Holtzman et al., "The curious case of neural text degeneration" (2019), for top-p; R. Yellott, "The
/// relationship between Luce's choice axiom, Thurstone's theory of comparative judgment, and the double exponential
/// distribution" (1977).
template <class Arch = default_arch, class In>
[[nodiscard]] XSOFTMAX_INLINE std::size_t sample(const noise_key& key, In&& z, const sample_options& options) {
  const auto& held = detail::evaluated(z);
  const auto in = as_view(held);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: samples of a matrix need an output; only that of a row is returned");
  std::size_t index = npos;
  detail::checked_sample<detail::compute_of<In>>(key, detail::input_matrix(held), {&index, 1}, options,
                                                 [](const auto& task, const auto&)
                                                     XSOFTMAX_LAMBDA { detail::launch_sample<Arch>(task); });
  return index;
}

/// The same at T = 1 without truncation: headers only, this compiles less.
template <class Arch = default_arch, class In>
[[nodiscard]] XSOFTMAX_INLINE std::size_t sample(const noise_key& key, In&& z) {
  const auto& held = detail::evaluated(z);
  static_assert(detail::is_vector<detail::view_of<std::remove_reference_t<In>>>,
                "xsoftmax: samples of a matrix need an output; only that of a row is returned");
  const auto in = detail::input_matrix(held);
  std::size_t index = npos;
  if (detail::valid_key("sample", key, 1, in.cols())) {
    detail::call::sample(Arch{}, detail::sample_task<detail::compute_of<In>>{.key = key,
                                                                             .z = detail::source_of(in),
                                                                             .rows = 1,
                                                                             .cols = in.cols(),
                                                                             .temperature = 1.0,
                                                                             .indices = {&index, 1}});
  }
  return index;
}

/// One draw from each row of a matrix (matrix_view): row r uses key.row + r. indices is a row of z.rows() std::size_t.
/// Throws std::invalid_argument also if it is not; nothing has been written then.
template <class Arch = default_arch, class In, class Indices>
requires(!std::is_same_v<std::remove_cvref_t<Indices>, sample_options>) XSOFTMAX_INLINE
    void sample(const noise_key& key, In&& z, Indices&& indices, const sample_options& options = {}) {
  detail::checked_sample_of_rows(key, std::forward<In>(z), std::forward<Indices>(indices), options,
                                 [](const auto& task, const auto&)
                                     XSOFTMAX_LAMBDA { detail::launch_sample<Arch>(task); });
}

/// The same with the rows, and a long row in parts where nothing is truncated, shared out by an executor, as softmax
/// does.
template <class Arch = default_arch, detail::executor Executor, class In, class Indices>
void sample(Executor&& executor, const noise_key& key, In&& z, Indices&& indices, const sample_options& options = {}) {
  detail::checked_sample_of_rows(
      key, std::forward<In>(z), std::forward<Indices>(indices), options, [&](const auto& task, const auto& in) {
        detail::run_rows<Arch>(executor, in, task, [](const auto& part) { detail::launch_sample<Arch>(part); });
      });
}

namespace detail {

/// Checks the arguments of many draws from one row and hands launch(z, indices) both.
template <class In, class Indices, class Launch>
XSOFTMAX_INLINE void checked_draws(const char* function, const noise_key& key, In&& z, Indices&& indices,
                                   double temperature, bool row_each, Launch&& launch) {
  static_assert(is_vector<view_of<std::remove_reference_t<In>>>, "xsoftmax: several draws are made from one row");
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  index_row out{};
  const std::size_t draws = output_matrix(indices).cols();
  if (!checked_indices(function, std::forward<Indices>(indices), draws, out) ||
      !valid_key(function, key, row_each ? draws : 1, in.cols()) || !valid_temperature(function, temperature)) {
    return;
  }
  launch(in, out, draws);
}

} // namespace detail

/// Independent draws from one row: indices (a row of std::size_t) gets as many as it has elements.
///
/// Draw j has the distribution of sample(key, z, options) and noise of its own: that of key.row + j, of a kind that
/// sample does not use. The same on every architecture with fused multiply-add; elsewhere a draw whose two best
/// candidates tie but for a rounding may differ. Special values as for sample: npos everywhere where there is nothing
/// to draw, at T = 0 the lowest index of the maximum everywhere.
///
/// Cost: no allocation; z is read for its maximum and for the log-sum-exp of each of up to 4096 blocks of 512 elements
/// or more, then each draw reads those numbers and one block.
/// Throws std::invalid_argument as sample does, with rows for the draws.
template <class Arch = default_arch, class In, class Indices>
XSOFTMAX_INLINE void sample_many(const noise_key& key, In&& z, Indices&& indices,
                                 const sample_several_options& options = {}) {
  using T = detail::compute_of<In>;
  detail::checked_draws("sample_many", key, std::forward<In>(z), std::forward<Indices>(indices), options.temperature,
                        true, [&](const auto& in, detail::index_row out, std::size_t draws) XSOFTMAX_LAMBDA {
                          detail::call::sample_many(Arch{}, detail::sample_many_task<T>{
                                                                .key = key,
                                                                .z = detail::source_of(in),
                                                                .cols = in.cols(),
                                                                .temperature = options.temperature,
                                                                .indices = out,
                                                                .draws = draws,
                                                            });
                        });
}

/// Draws without replacement (Gumbel top-k): as many different indices as `indices` (a row of std::size_t) has elements
/// and z has logits above -inf. Returns how many; the rest of `indices` is npos.
///
/// They are the places of the largest perturbed logits of sample with the same key and temperature, in descending
/// order, of equal ones the lowest first: the first is what sample draws, each next is distributed as softmax(z / T)
/// over those that are left (Plackett and Luce). A row with a NaN or +inf gives none. At T = 0 they are the largest
/// logits.
///
/// Cost: no allocation; z is read once for up to 1024 draws, and once more for each further 1024.
/// Throws std::invalid_argument as sample does.
///
/// Source: W. Kool, H. van Hoof, M. Welling, "Stochastic beams and where to find them" (2019), section 2.3.
template <class Arch = default_arch, class In, class Indices>
XSOFTMAX_INLINE std::size_t sample_without_replacement(const noise_key& key, In&& z, Indices&& indices,
                                                       const sample_several_options& options = {}) {
  using T = detail::compute_of<In>;
  std::size_t found = 0;
  detail::checked_draws("sample_without_replacement", key, std::forward<In>(z), std::forward<Indices>(indices),
                        options.temperature, false,
                        [&](const auto& in, detail::index_row out, std::size_t draws) XSOFTMAX_LAMBDA {
                          detail::call::sample_without_replacement(Arch{}, detail::sample_without_replacement_task<T>{
                                                                               .key = key,
                                                                               .z = detail::source_of(in),
                                                                               .cols = in.cols(),
                                                                               .temperature = options.temperature,
                                                                               .indices = out,
                                                                               .draws = draws,
                                                                               .found = &found,
                                                                           });
                        });
  return found;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// The Gumbel-Softmax and its gradients.
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/key.hpp>
#include <xsoftmax/softmax/backward.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of gumbel_softmax and its backward. Members only ever join at the end.
struct gumbel_softmax_options {
  double temperature = 1.0; ///< T of softmax((z + g) / T), in [0, inf); 0 is hard
  bool hard = false;        ///< y is 1 at the index and 0 elsewhere; the gradient is that of the soft y all the same
};

namespace detail {

/// Rows [first, first + count) of the task.
template <class T, template <class> class Task>
requires std::is_base_of_v<gumbel_softmax_task<T>, Task<T>> Task<T> rows_of(Task<T> task, std::size_t first,
                                                                            std::size_t count) {
  task.key.row += first;
  task.z = rows_from<T>(task.z, first);
  task.y = rows_from<T>(task.y, first);
  task.indices = task.indices.from(first);
  task.rows = count;
  return task;
}

template <class T>
gumbel_softmax_backward_task<T> rows_of(gumbel_softmax_backward_task<T> task, std::size_t first, std::size_t count) {
  task.key.row += first;
  task.z = rows_from<T>(task.z, first);
  task.dy = rows_from<T>(task.dy, first);
  task.dz = rows_from<T>(task.dz, first);
  task.rows = count;
  return task;
}

/// Checks the arguments of gumbel_softmax or log_gumbel_softmax and hands launch(task, output) what is to be done.
/// indices(rows, out): where the indices go, or false.
template <class In, class Out, class Indices, class Launch>
XSOFTMAX_INLINE void checked_gumbel_softmax(const char* function, const noise_key& key, In&& z, Out&& y,
                                            const gumbel_softmax_options& options, Indices&& indices, Launch&& launch) {
  check_types<In, Out>();
  const auto& held = evaluated(z);
  const auto in = input_matrix(held);
  const auto out = output_matrix(y);
  index_row places{};
  if (!same_shape(function, "z", in, "y", out) || !no_partial_overlap(function, "z", in, "y", out) ||
      !valid_key(function, key, in.rows(), in.cols()) || !valid_temperature(function, options.temperature) ||
      !indices(in.rows(), places)) {
    return;
  }
  launch(
      gumbel_softmax_task<compute_of<In>>{
          .key = key,
          .z = source_of(in),
          .y = destination_of(out),
          .rows = in.rows(),
          .cols = in.cols(),
          .temperature = options.temperature,
          .indices = places,
          .hard = options.hard,
      },
      out);
}

/// The same for one row, whose index is returned: launch(task).
template <class In, class Out, class Launch>
XSOFTMAX_INLINE std::size_t perturb_row(const char* function, const noise_key& key, In&& z, Out&& y,
                                        const gumbel_softmax_options& options, Launch&& launch) {
  static_assert(is_vector<view_of<std::remove_reference_t<In>>>,
                "xsoftmax: gumbel_softmax of a matrix needs indices; only that of a row is returned");
  std::size_t index = npos;
  checked_gumbel_softmax(
      function, key, std::forward<In>(z), std::forward<Out>(y), options,
      [&](std::size_t, index_row& out) XSOFTMAX_LAMBDA {
        out = {&index, 1};
        return true;
      },
      [&](const auto& task, const auto&) XSOFTMAX_LAMBDA { launch(task); });
  return index;
}

/// The same for rows, whose indices are written.
template <class In, class Out, class Indices, class Launch>
XSOFTMAX_INLINE void perturb_rows(const char* function, const noise_key& key, In&& z, Out&& y, Indices&& indices,
                                  const gumbel_softmax_options& options, Launch&& launch) {
  checked_gumbel_softmax(
      function, key, std::forward<In>(z), std::forward<Out>(y), options,
      [&](std::size_t rows, index_row& out)
          XSOFTMAX_LAMBDA { return checked_indices(function, std::forward<Indices>(indices), rows, out); },
      launch);
}

template <class T>
XSOFTMAX_INLINE log_gumbel_softmax_task<T> in_logarithms(const gumbel_softmax_task<T>& task) {
  return {task};
}

/// Checks the arguments of the backward from the key and hands launch(task, output) what is to be done.
template <class In, class DY, class DZ, class Launch>
XSOFTMAX_INLINE void checked_gumbel_softmax_backward(const noise_key& key, In&& z, DY&& dy, DZ&& dz,
                                                     const gumbel_softmax_options& options, Launch&& launch) {
  check_types<In, DZ>();
  check_types<DY, DZ>();
  const char* const function = "gumbel_softmax_backward";
  const auto& held_z = evaluated(z);
  const auto& held_dy = evaluated(dy);
  const auto in = input_matrix(held_z);
  const auto gradient = input_matrix(held_dy);
  const auto out = output_matrix(dz);
  if (!same_shape(function, "z", in, "dy", gradient) || !same_shape(function, "z", in, "dz", out) ||
      !no_partial_overlap(function, "z", in, "dz", out) || !no_partial_overlap(function, "dy", gradient, "dz", out) ||
      !valid_key(function, key, in.rows(), in.cols()) || !valid_temperature(function, options.temperature)) {
    return;
  }
  launch(
      gumbel_softmax_backward_task<compute_of<In>>{
          .key = key,
          .z = source_of(in),
          .dy = source_of(gradient),
          .dz = destination_of(out),
          .rows = in.rows(),
          .cols = in.cols(),
          .temperature = options.temperature,
      },
      out);
}

inline constexpr backward_names gumbel_softmax_backward_names{"gumbel_softmax_backward", "y", "dy"};

} // namespace detail

/// Gumbel-Softmax: y = softmax((z + g) / T) with the Gumbel noise g of the key (gumbel_noise), and the index of the
/// largest z + g, which is a draw from softmax(z) at every temperature.
///
/// z and y are rows (any contiguous sized range, or a vector_view) of the same length. y may be z itself (same first
/// element, extents, strides and type); any other overlap is refused where both have the same strides. Elements are
/// float, double, or halves in any mix with float: computed in float, rounded once.
/// z + g is rounded once, to the compute type, and y is the softmax of that number: to the bit what softmax gives for
/// z + gumbel_noise(key) at the same temperature. Hard, and at T = 0: exactly 1 at the index, exactly 0 elsewhere; a
/// tie goes to the lowest index.
///
/// Special values of y are those of softmax; the index is npos, and y NaN, where z holds a NaN or +inf or nothing but
/// -inf, and npos at length 0. -inf never wins and gets exactly 0.
///
/// Cost: no allocation; noise, then softmax in place in y. Into halves the noise of rows longer than 2048 is drawn
/// twice. Hard, only the words of the noise are drawn. Throws std::invalid_argument if shapes differ, the views overlap
/// partially, T is negative, NaN or infinite, and for keys as gumbel_noise does; nothing has been written then.
///
/// Sources: E. Jang, S. Gu, B. Poole, "Categorical reparameterization with Gumbel-Softmax" (2016), equation 2;
/// C. Maddison, A. Mnih, Y. W. Teh, "The Concrete distribution" (2016), equation 10.
template <class Arch = default_arch, class In, class Out>
XSOFTMAX_INLINE std::size_t gumbel_softmax(const noise_key& key, In&& z, Out&& y,
                                           const gumbel_softmax_options& options = {}) {
  return detail::perturb_row("gumbel_softmax", key, std::forward<In>(z), std::forward<Out>(y), options,
                             [](const auto& task) XSOFTMAX_LAMBDA { detail::call::gumbel_softmax(Arch{}, task); });
}

/// The same for each row of a matrix (matrix_view): row r uses key.row + r. indices is a row of z.rows() std::size_t.
/// Throws std::invalid_argument also if it is not.
template <class Arch = default_arch, class In, class Out, class Indices>
requires(!std::is_same_v<std::remove_cvref_t<Indices>, gumbel_softmax_options>) XSOFTMAX_INLINE
    void gumbel_softmax(const noise_key& key, In&& z, Out&& y, Indices&& indices,
                        const gumbel_softmax_options& options = {}) {
  detail::perturb_rows(
      "gumbel_softmax", key, std::forward<In>(z), std::forward<Out>(y), std::forward<Indices>(indices), options,
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::gumbel_softmax(Arch{}, task); });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Out, class Indices>
void gumbel_softmax(Executor&& executor, const noise_key& key, In&& z, Out&& y, Indices&& indices,
                    const gumbel_softmax_options& options = {}) {
  detail::perturb_rows("gumbel_softmax", key, std::forward<In>(z), std::forward<Out>(y), std::forward<Indices>(indices),
                       options, [&](const auto& task, const auto& out) {
                         detail::run_rows<Arch>(executor, out, task,
                                                [](const auto& part) { detail::call::gumbel_softmax(Arch{}, part); });
                       });
}

/// Gumbel-Softmax in logarithms: y = log_softmax((z + g) / T), to the bit what log_softmax gives for z +
/// gumbel_noise(key), and the index of the largest z + g: a draw of the Exp-Concrete distribution
/// (exp_concrete_log_density), for small temperatures, where the elements of y themselves underflow. Hard, and at T =
/// 0: 0 at the index, -inf elsewhere.
///
/// Special values of y are those of log_softmax, those of the index of gumbel_softmax. The gradient is that of
/// log_softmax: log_softmax_backward(y, dy, dz, {.temperature}).
///
/// Cost: no allocation; noise, then log_softmax in place in y. Into halves the noise of rows longer than 2048 is drawn
/// three times. Shapes, types, errors and everything else as for gumbel_softmax.
///
/// Source: C. Maddison, A. Mnih, Y. W. Teh, "The Concrete distribution" (2016).
template <class Arch = default_arch, class In, class Out>
XSOFTMAX_INLINE std::size_t log_gumbel_softmax(const noise_key& key, In&& z, Out&& y,
                                               const gumbel_softmax_options& options = {}) {
  return detail::perturb_row(
      "log_gumbel_softmax", key, std::forward<In>(z), std::forward<Out>(y), options,
      [](const auto& task) XSOFTMAX_LAMBDA { detail::call::log_gumbel_softmax(Arch{}, detail::in_logarithms(task)); });
}

/// The same for each row of a matrix (matrix_view): row r uses key.row + r. indices is a row of z.rows() std::size_t.
/// Throws std::invalid_argument also if it is not.
template <class Arch = default_arch, class In, class Out, class Indices>
requires(!std::is_same_v<std::remove_cvref_t<Indices>, gumbel_softmax_options>) XSOFTMAX_INLINE
    void log_gumbel_softmax(const noise_key& key, In&& z, Out&& y, Indices&& indices,
                            const gumbel_softmax_options& options = {}) {
  detail::perturb_rows("log_gumbel_softmax", key, std::forward<In>(z), std::forward<Out>(y),
                       std::forward<Indices>(indices), options, [](const auto& task, const auto&) XSOFTMAX_LAMBDA {
                         detail::call::log_gumbel_softmax(Arch{}, detail::in_logarithms(task));
                       });
}

/// The same with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class In, class Out, class Indices>
void log_gumbel_softmax(Executor&& executor, const noise_key& key, In&& z, Out&& y, Indices&& indices,
                        const gumbel_softmax_options& options = {}) {
  detail::perturb_rows("log_gumbel_softmax", key, std::forward<In>(z), std::forward<Out>(y),
                       std::forward<Indices>(indices), options, [&](const auto& task, const auto& out) {
                         detail::run_rows<Arch>(executor, out, detail::in_logarithms(task), [](const auto& part) {
                           detail::call::log_gumbel_softmax(Arch{}, part);
                         });
                       });
}

/// Gradient of the soft gumbel_softmax with respect to the logits: dz_i = y_i (dy_i - S) / T with S = sum_k y_k dy_k,
/// from its result y and dy = dL/dy. The noise is a constant. Everything else as for softmax_backward.
template <class Arch = default_arch, class Y, class DY, class DZ>
XSOFTMAX_INLINE void gumbel_softmax_backward(Y&& y, DY&& dy, DZ&& dz, const gumbel_softmax_options& options = {}) {
  detail::checked_backward<detail::softmax_backward_task>(
      detail::gumbel_softmax_backward_names, std::forward<Y>(y), std::forward<DY>(dy), std::forward<DZ>(dz),
      {.temperature = options.temperature},
      [](const auto& task, const auto&) XSOFTMAX_LAMBDA { detail::call::softmax_backward(Arch{}, task); });
}

/// The same from the key and the logits, for a hard forward pass (straight-through) or one whose y was not kept: the
/// soft y is computed again, in the compute type, from the same noise. dz may be z or dy itself. At T = 0, +0
/// everywhere.
///
/// Cost: no allocation. Where dz has the compute type and is not dy: noise once, softmax and softmax_backward in dz;
/// otherwise noise three times, block by block.
/// Throws std::invalid_argument as gumbel_softmax does.
template <class Arch = default_arch, class In, class DY, class DZ>
XSOFTMAX_INLINE void gumbel_softmax_backward(const noise_key& key, In&& z, DY&& dy, DZ&& dz,
                                             const gumbel_softmax_options& options = {}) {
  detail::checked_gumbel_softmax_backward(key, std::forward<In>(z), std::forward<DY>(dy), std::forward<DZ>(dz), options,
                                          [](const auto& task, const auto&)
                                              XSOFTMAX_LAMBDA { detail::call::gumbel_softmax_backward(Arch{}, task); });
}

/// Both with the rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class Y, class DY, class DZ>
void gumbel_softmax_backward(Executor&& executor, Y&& y, DY&& dy, DZ&& dz, const gumbel_softmax_options& options = {}) {
  detail::checked_backward<detail::softmax_backward_task>(
      detail::gumbel_softmax_backward_names, std::forward<Y>(y), std::forward<DY>(dy), std::forward<DZ>(dz),
      {.temperature = options.temperature}, [&](const auto& task, const auto& out) {
        detail::run_rows<Arch>(executor, out, task,
                               [](const auto& part) { detail::call::softmax_backward(Arch{}, part); });
      });
}

template <class Arch = default_arch, detail::executor Executor, class In, class DY, class DZ>
void gumbel_softmax_backward(Executor&& executor, const noise_key& key, In&& z, DY&& dy, DZ&& dz,
                             const gumbel_softmax_options& options = {}) {
  detail::checked_gumbel_softmax_backward(key, std::forward<In>(z), std::forward<DY>(dy), std::forward<DZ>(dz), options,
                                          [&](const auto& task, const auto& out) {
                                            detail::run_rows<Arch>(executor, out, task, [](const auto& part) {
                                              detail::call::gumbel_softmax_backward(Arch{}, part);
                                            });
                                          });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

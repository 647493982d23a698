// SPDX-License-Identifier: MIT
// The lower bound pi / (max a - min a) of the convergence radius.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/radius_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
slope_spread_task<T> rows_of(slope_spread_task<T> task, std::size_t first, std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.a = rows_from<T>(task.a, first);
  task.out += static_cast<std::ptrdiff_t>(first) * task.out_stride;
  task.rows = count;
  return task;
}

template <class A>
slope_spread_task<compute_type_t<std::remove_const_t<A>>> task_of_slopes(const matrix_view<A>& a, double temperature) {
  return {.z = {},
          .a = source_of(a),
          .rows = a.rows(),
          .cols = a.cols(),
          .temperature = temperature,
          .out = nullptr,
          .out_stride = 1};
}

/// launch(task, slopes) fills a row of radii.
template <class Slopes, class Out, class Launch>
XSOFTMAX_INLINE void bounds_of_rows(const Slopes& slopes, Out&& out, const convergence_radius_options& options,
                                    Launch&& launch) {
  const char* const function = "convergence_radius_bound";
  const auto& held = evaluated(slopes);
  const auto a = input_matrix(held);
  const auto radii = output_matrix(out);
  if (!checked_radii(function, a, radii) || !positive_temperature(function, options.temperature)) {
    return;
  }
  auto task = task_of_slopes(a, options.temperature);
  task.out = radii.data();
  task.out_stride = radii.col_stride();
  launch(task, a);
}

/// The same with logits.
template <class Logits, class Slopes, class Out, class Launch>
XSOFTMAX_INLINE void bounds_of_rows(const Logits& logits, const Slopes& slopes, Out&& out,
                                    const convergence_radius_options& options, Launch&& launch) {
  const auto& held = evaluated(logits);
  const auto z = input_matrix(held);
  bounds_of_rows(slopes, std::forward<Out>(out), options, [&](auto task, const auto& a) {
    if (checked_logits("convergence_radius_bound", z, a)) {
      task.z = source_of(z);
      launch(task, a);
    }
  });
}

/// The least bound of all rows of a task.
template <class Arch, class T>
double least_bound(const slope_spread_task<T>& task) {
  double least = std::numeric_limits<double>::infinity();
  constexpr std::size_t group = 512; // more than the caches hold, of long rows: the kernel fetches ahead then
  double radius[group];
  for (std::size_t r = 0; r < task.rows; r += group) {
    auto part = rows_of(task, r, std::min(group, task.rows - r));
    part.out = radius;
    part.out_stride = 1;
    call::slope_spread(Arch{}, part);
    least = std::min(least, *std::min_element(radius, radius + part.rows));
  }
  return least;
}

} // namespace detail

/// The convergence radius of two classes: sqrt(gap^2 + pi^2) / |slope_gap|, exact; with a temperature, sqrt(gap^2 +
/// (pi T)^2) / |slope_gap|. gap is the difference of their logits, slope_gap that of their slopes; only magnitudes
/// matter.
///
/// Special values: slope_gap = 0: +inf | gap infinite (one class is masked): +inf | NaN, or slope_gap infinite: 0
/// Accuracy: 3 ULP. Largest error found: 1.68 ULP at gap 0x1.471c20926804ep+1, slope_gap 0x1.078e9d1ab7872p+0; with a
/// temperature 2.69 at gap 0x1.dd08d30b31798p-3, slope_gap 0x1.0d35a1026536ap+0, T 0x1.4c6f941ba31ep+0, with glibc's
/// hypot. Throws std::invalid_argument if T is not in (0, inf).
///
/// Source: P. Sao, "Ghosts of softmax" (2026), for the loss log(w_1 exp(a_1 t) + w_2 exp(a_2 t)).
[[nodiscard]] inline double binary_convergence_radius(double gap, double slope_gap,
                                                      const convergence_radius_options& options = {}) {
  if (!detail::positive_temperature("binary_convergence_radius", options.temperature)) {
    return 0.0;
  }
  if (std::isnan(gap) || std::isnan(slope_gap) || std::isinf(slope_gap)) {
    return 0.0;
  }
  if (slope_gap == 0 || std::isinf(gap)) {
    return std::numeric_limits<double>::infinity();
  }
  return std::hypot(gap, detail::pi * options.temperature) / std::fabs(slope_gap);
}

/// A lower bound of the convergence radius of a row: pi T / (max a - min a).
///
/// Along a direction of unit length in the space of parameters the logits of a sample are z_k + a_k t to first order,
/// and its loss is a linear term and log F(t), F(t) = sum_k exp((z_k + a_k t) / T). The Taylor series of the loss
/// converges for |t| below the modulus of the nearest complex zero of F (convergence_radius); no zero is nearer than
/// this bound. The target does not matter.
///
/// slopes is a row (any contiguous sized range, or a vector_view) of float, double or halves, in logits per unit of
/// length; T in the units of the logits. Best they come from a Jacobian-vector product; see finite_difference_slopes.
///
/// Special values: no spread (one class, all slopes equal, none): +inf | NaN or infinite slopes: 0, so that no step
/// passes.
/// Accuracy: 1 ULP at T = 1, with max - min rounded to double; largest error found: 0.852 ULP where that is
/// 0x1.927e6ad24b0dep+0. 2 ULP for other T; found: 1.635 at 0x1.6b07a197e8ee7p+0, T 0x1.cdaef8a2635f2p+0. Cost: no
/// allocation; one read of the slopes, at the speed of memory. Throws std::invalid_argument if T is not in (0, inf).
///
/// Source: P. Sao, "Ghosts of softmax: complex singularities that limit safe step sizes in cross-entropy" (2026).
template <class Arch = default_arch, detail::one_row Slopes>
[[nodiscard]] double convergence_radius_bound(const Slopes& slopes, const convergence_radius_options& options = {}) {
  double radius = 0.0;
  detail::bounds_of_rows(slopes, vector_view<double>(&radius, 1), options,
                         [](const auto& task, const auto&) { detail::call::slope_spread(Arch{}, task); });
  return radius;
}

/// The same over the classes whose logit is not -inf, whatever the slopes of the others. A logit NaN or +inf gives 0.
/// Throws std::invalid_argument also if the lengths differ.
template <class Arch = default_arch, detail::one_row Logits, detail::one_row Slopes>
[[nodiscard]] double convergence_radius_bound(const Logits& logits, const Slopes& slopes,
                                              const convergence_radius_options& options = {}) {
  double radius = 0.0;
  detail::bounds_of_rows(logits, slopes, vector_view<double>(&radius, 1), options,
                         [](const auto& task, const auto&) { detail::call::slope_spread(Arch{}, task); });
  return radius;
}

/// The bound of each row of a batch into a row of doubles. Throws std::invalid_argument also if out does not have one
/// element for each row; nothing has been written then.
template <class Arch = default_arch, detail::row_batch Slopes, class Out>
void convergence_radius_bound(const Slopes& slopes, Out&& out, const convergence_radius_options& options = {}) {
  detail::bounds_of_rows(slopes, std::forward<Out>(out), options,
                         [](const auto& task, const auto&) { detail::call::slope_spread(Arch{}, task); });
}

template <class Arch = default_arch, detail::row_batch Logits, detail::row_batch Slopes, class Out>
void convergence_radius_bound(const Logits& logits, const Slopes& slopes, Out&& out,
                              const convergence_radius_options& options = {}) {
  detail::bounds_of_rows(logits, slopes, std::forward<Out>(out), options,
                         [](const auto& task, const auto&) { detail::call::slope_spread(Arch{}, task); });
}

/// The same with rows shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, detail::row_batch Slopes, class Out>
void convergence_radius_bound(Executor&& executor, const Slopes& slopes, Out&& out,
                              const convergence_radius_options& options = {}) {
  detail::bounds_of_rows(slopes, std::forward<Out>(out), options, [&](const auto& task, const auto& a) {
    detail::run_rows<Arch>(executor, a, task, [](const auto& part) { detail::call::slope_spread(Arch{}, part); });
  });
}

template <class Arch = default_arch, detail::executor Executor, detail::row_batch Logits, detail::row_batch Slopes,
          class Out>
void convergence_radius_bound(Executor&& executor, const Logits& logits, const Slopes& slopes, Out&& out,
                              const convergence_radius_options& options = {}) {
  detail::bounds_of_rows(logits, slopes, std::forward<Out>(out), options, [&](const auto& task, const auto& a) {
    detail::run_rows<Arch>(executor, a, task, [](const auto& part) { detail::call::slope_spread(Arch{}, part); });
  });
}

/// The bound of a whole batch: the least of its rows, +inf of none. That of a training set is at most that of any of
/// its mini-batches. Mask a sample that is to be left out by logits of -inf.
template <class Arch = default_arch, detail::row_batch Slopes>
[[nodiscard]] double min_convergence_radius_bound(const Slopes& slopes,
                                                  const convergence_radius_options& options = {}) {
  const auto& held = detail::evaluated(slopes);
  if (!detail::positive_temperature("min_convergence_radius_bound", options.temperature)) {
    return 0.0;
  }
  return detail::least_bound<Arch>(detail::task_of_slopes(detail::input_matrix(held), options.temperature));
}

template <class Arch = default_arch, detail::row_batch Logits, detail::row_batch Slopes>
[[nodiscard]] double min_convergence_radius_bound(const Logits& logits, const Slopes& slopes,
                                                  const convergence_radius_options& options = {}) {
  const auto& held_logits = detail::evaluated(logits);
  const auto& held = detail::evaluated(slopes);
  const auto z = detail::input_matrix(held_logits);
  const auto a = detail::input_matrix(held);
  const char* const function = "min_convergence_radius_bound";
  if (!detail::positive_temperature(function, options.temperature) || !detail::checked_logits(function, z, a)) {
    return 0.0;
  }
  auto task = detail::task_of_slopes(a, options.temperature);
  task.z = detail::source_of(z);
  return detail::least_bound<Arch>(task);
}

/// Of the radii of a batch that one below which at most the share q of them lies: q = 0 gives the least, 0.01 passes
/// over the outliers of one sample in a hundred. Reorders the radii; +inf of none.
/// Throws std::invalid_argument if q is not in [0, 1].
template <class Radii>
requires std::same_as < detail::element_of<std::remove_reference_t<Radii>>,
double > [[nodiscard]] double convergence_radius_quantile(Radii&& radii, double q) {
  if (!(q >= 0 && q <= 1)) {
    detail::raise_out_of_range("convergence_radius_quantile", "the share must be in [0, 1]", "q", q);
    return 0.0;
  }
  const auto values = as_view(radii);
  static_assert(detail::is_vector<std::remove_const_t<decltype(values)>>, "xsoftmax: radii are a row");
  if (values.size() == 0) {
    return std::numeric_limits<double>::infinity();
  }
  if (values.stride() != 1) {
    detail::raise_mismatch("convergence_radius_quantile", "the radii must lie side by side", "stride", values.stride(),
                           "expected", std::ptrdiff_t{1});
    return 0.0;
  }
  const auto n = static_cast<double>(values.size());
  const auto below = std::min(values.size() - 1, static_cast<std::size_t>(q * n));
  double* const first = values.data();
  double* const last = first + values.size();
  for (double* radius = first; radius != last; ++radius) {
    *radius = std::isnan(*radius) ? 0.0 : *radius; // lets no step pass
  }
  std::nth_element(first, first + below, last);
  return first[below];
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

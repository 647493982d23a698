// SPDX-License-Identifier: MIT
// A rigorous lower bound of the convergence radius that knows the logits.
#pragma once

#include <utility>
#include <xsoftmax/detail/tight_bound.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

template <class Arch, class T>
double tight_bound_of_row(const source& z, const source& a, std::size_t classes, double temperature) {
  partition_line<Arch, T> line(z, a, classes, temperature);
  if (!line.has_zeros()) {
    return line.valid() ? std::numeric_limits<double>::infinity() : 0.0;
  }
  return line.unscaled(tight_bound<Arch, T>(line).value());
}

/// of_row(z, a, classes, temperature) of the one row, or 0 after an error.
template <class Logits, class Slopes, class OfRow>
auto radius_of_row(const char* function, const Logits& logits, const Slopes& slopes,
                   const convergence_radius_options& options, OfRow&& of_row) {
  const auto& held_logits = evaluated(logits);
  const auto& held = evaluated(slopes);
  const auto z = input_matrix(held_logits);
  const auto a = input_matrix(held);
  if (!checked_logits(function, z, a) || !positive_temperature(function, options.temperature)) {
    return decltype(of_row(source_of(z), source_of(a), a.cols(), options.temperature)){};
  }
  return of_row(source_of(z), source_of(a), a.cols(), options.temperature);
}

/// Rows of a batch, one after the other.
template <class T, class OfRow>
struct radii_task {
  source z;
  source a;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  double* out;
  std::ptrdiff_t out_stride;
  OfRow of_row;

  void run() const {
    for (std::size_t r = 0; r < rows; ++r) {
      out[static_cast<std::ptrdiff_t>(r) * out_stride] =
          of_row(rows_from<T>(z, r), rows_from<T>(a, r), cols, temperature);
    }
  }
};

template <class T, class OfRow>
radii_task<T, OfRow> rows_of(radii_task<T, OfRow> task, std::size_t first, std::size_t count) {
  task.z = rows_from<T>(task.z, first);
  task.a = rows_from<T>(task.a, first);
  task.out += static_cast<std::ptrdiff_t>(first) * task.out_stride;
  task.rows = count;
  return task;
}

/// launch(task, slopes) does the rows of a batch.
template <class Logits, class Slopes, class Out, class OfRow, class Launch>
void radii_of_rows(const char* function, const Logits& logits, const Slopes& slopes, Out&& out,
                   const convergence_radius_options& options, OfRow of_row, Launch&& launch) {
  const auto& held_logits = evaluated(logits);
  const auto& held = evaluated(slopes);
  const auto z = input_matrix(held_logits);
  const auto a = input_matrix(held);
  const auto radii = output_matrix(out);
  if (!checked_logits(function, z, a) || !checked_radii(function, a, radii) ||
      !positive_temperature(function, options.temperature)) {
    return;
  }
  launch(radii_task<compute_of<Slopes>, OfRow>{source_of(z), source_of(a), a.rows(), a.cols(), options.temperature,
                                               radii.data(), radii.col_stride(), of_row},
         a);
}

} // namespace detail

/// A lower bound of the convergence radius of a row, between convergence_radius_bound and convergence_radius: no
/// complex zero of F(t) = sum_k exp((z_k + a_k t) / T) is nearer to 0. Of two classes, or two different slopes, it is
/// exact.
///
///   radius = sqrt(u^2 + (pi T / (max a - min a))^2)
///
/// with the nearest real point u at which the classes of the slope that dominates at 0, with more than half of all
/// weight, have no more than half; 0 if none dominates.
///
/// logits z and slopes a are rows of one length (contiguous sized ranges, or vector_views) of one type, float, double
/// or halves. Classes whose logit is -inf take no part.
///
/// Special values: no spread among the slopes: +inf | NaN, a logit +inf, infinite slopes: 0
/// Accuracy: rigorous but for rounding, in double, of which 2^-46 T / (max a - min a) and 2^-50 of u are taken off. It
/// is below the formula by about 2^-42 of u; of more than two classes, where u is some 2^40 times T / (max a - min a)
/// and more, by up to log n / 700 of it. The last bit may depend on the logarithm of the C library.
///
/// Cost: no allocation; two to four passes, and where a slope dominates mostly two or three more, one of them in
/// double.
/// Throws std::invalid_argument if the lengths differ, or T is not in (0, inf).
///
/// The bound extends the margin of two classes in P. Sao, "Ghosts of softmax" (2026), to any number of them.
template <class Arch = default_arch, detail::one_row Logits, detail::one_row Slopes>
[[nodiscard]] double convergence_radius_tight_bound(const Logits& logits, const Slopes& slopes,
                                                    const convergence_radius_options& options = {}) {
  return detail::radius_of_row("convergence_radius_tight_bound", logits, slopes, options, [](const auto&... arguments) {
    return detail::tight_bound_of_row<Arch, detail::compute_of<Slopes>>(arguments...);
  });
}

/// Of each row of a batch into a row of doubles.
template <class Arch = default_arch, detail::row_batch Logits, detail::row_batch Slopes, class Out>
void convergence_radius_tight_bound(const Logits& logits, const Slopes& slopes, Out&& out,
                                    const convergence_radius_options& options = {}) {
  detail::radii_of_rows(
      "convergence_radius_tight_bound", logits, slopes, std::forward<Out>(out), options,
      [](const auto&... arguments) {
        return detail::tight_bound_of_row<Arch, detail::compute_of<Slopes>>(arguments...);
      },
      [](const auto& task, const auto&) { task.run(); });
}

/// With rows shared out by an executor.
template <class Arch = default_arch, detail::executor Executor, detail::row_batch Logits, detail::row_batch Slopes,
          class Out>
void convergence_radius_tight_bound(Executor&& executor, const Logits& logits, const Slopes& slopes, Out&& out,
                                    const convergence_radius_options& options = {}) {
  detail::radii_of_rows(
      "convergence_radius_tight_bound", logits, slopes, std::forward<Out>(out), options,
      [](const auto&... arguments) {
        return detail::tight_bound_of_row<Arch, detail::compute_of<Slopes>>(arguments...);
      },
      [&](const auto& task, const auto& a) {
        detail::run_rows<Arch>(executor, a, task, [](const auto& part) { part.run(); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

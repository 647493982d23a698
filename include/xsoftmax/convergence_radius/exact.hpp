// SPDX-License-Identifier: MIT
// The convergence radius itself: the nearest complex zero of the partition function along a line.
#pragma once

#include <cmath>
#include <complex>
#include <limits>
#include <utility>
#include <xsoftmax/convergence_radius/tight_bound.hpp>
#include <xsoftmax/detail/zero_search.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

template <class Arch, class T>
std::complex<double> nearest_zero_of_row(const source& z, const source& a, std::size_t classes, double temperature) {
  partition_line<Arch, T> line(z, a, classes, temperature);
  if (!line.has_zeros()) {
    return {line.valid() ? std::numeric_limits<double>::infinity() : 0.0, 0.0};
  }
  const std::complex<double> zero = zero_search<Arch, T>(line).run();
  return {line.unscaled(zero.real()), line.unscaled(zero.imag())};
}

/// Its modulus.
template <class Arch, class T>
double radius_of_zero(const source& z, const source& a, std::size_t classes, double temperature) {
  const std::complex<double> zero = nearest_zero_of_row<Arch, T>(z, a, classes, temperature);
  return std::hypot(zero.real(), zero.imag());
}

} // namespace detail

/// The complex zero of F(t) = sum_k exp((z_k + a_k t) / T) that is nearest to 0, of a conjugate pair the one with Im t
/// > 0: the ghost of the class that would take over at Re t, which ends the Taylor series of log F.
///
/// logits z and slopes a are rows of one length (contiguous sized ranges, or vector_views) of one type, float, double
/// or halves. Classes whose logit is -inf take no part.
///
/// Special values: no spread among the slopes: (inf, 0), there is none | NaN, a logit +inf, infinite slopes: (0, 0)
/// Accuracy: that no zero is nearer than 0.999 of it is proved by a winding number. The zero is polished by Newton's
/// method in double; the error is that of rounding F, below 1e-12 of it where F' is not small. m zeros that meet are
/// taken as one at their middle, known to about the m-th root of that rounding; of many that meet, as of logits beyond
/// all measure, it may be a point below which there is certainly no zero. The last bits may depend on the C library.
/// Cost: no allocation; some hundred evaluations of F, more where logits are far apart in units of the slopes.
/// Throws std::invalid_argument if the lengths differ, or T is not in (0, inf).
///
/// Source: P. Sao, "Ghosts of softmax: complex singularities that limit safe step sizes in cross-entropy" (2026).
template <class Arch = default_arch, detail::one_row Logits, detail::one_row Slopes>
[[nodiscard]] std::complex<double> nearest_partition_zero(const Logits& logits, const Slopes& slopes,
                                                          const convergence_radius_options& options = {}) {
  return detail::radius_of_row("nearest_partition_zero", logits, slopes, options, [](const auto&... arguments) {
    return detail::nearest_zero_of_row<Arch, detail::compute_of<Slopes>>(arguments...);
  });
}

/// The convergence radius of a row: the modulus of nearest_partition_zero, with its special values, accuracy and cost.
/// Within it the Taylor series of the loss along the line converges, beyond it diverges.
template <class Arch = default_arch, detail::one_row Logits, detail::one_row Slopes>
[[nodiscard]] double convergence_radius(const Logits& logits, const Slopes& slopes,
                                        const convergence_radius_options& options = {}) {
  return detail::radius_of_row("convergence_radius", logits, slopes, options, [](const auto&... arguments) {
    return detail::radius_of_zero<Arch, detail::compute_of<Slopes>>(arguments...);
  });
}

/// Of each row of a batch into a row of doubles.
template <class Arch = default_arch, detail::row_batch Logits, detail::row_batch Slopes, class Out>
void convergence_radius(const Logits& logits, const Slopes& slopes, Out&& out,
                        const convergence_radius_options& options = {}) {
  detail::radii_of_rows(
      "convergence_radius", logits, slopes, std::forward<Out>(out), options,
      [](const auto&... arguments) { return detail::radius_of_zero<Arch, detail::compute_of<Slopes>>(arguments...); },
      [](const auto& task, const auto&) { task.run(); });
}

/// With rows shared out by an executor.
template <class Arch = default_arch, detail::executor Executor, detail::row_batch Logits, detail::row_batch Slopes,
          class Out>
void convergence_radius(Executor&& executor, const Logits& logits, const Slopes& slopes, Out&& out,
                        const convergence_radius_options& options = {}) {
  detail::radii_of_rows(
      "convergence_radius", logits, slopes, std::forward<Out>(out), options,
      [](const auto&... arguments) { return detail::radius_of_zero<Arch, detail::compute_of<Slopes>>(arguments...); },
      [&](const auto& task, const auto& a) {
        detail::run_rows<Arch>(executor, a, task, [](const auto& part) { part.run(); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

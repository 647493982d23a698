// SPDX-License-Identifier: MIT
// Slopes of logits along a direction, where there is no Jacobian-vector product.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <xsoftmax/detail/radius_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of finite_difference_slopes. Members only ever join at the end.
struct finite_difference_options {
  double length = 1.0; ///< over which logits change noticeably along the direction: the norm of the parameters, say
};

/// Slopes a = dz / dt at t = 0 by a central difference, for a direction of unit length:
///
///   a_k = (z_k(h) - z_k(-h)) / (2 h)      h = length * cbrt(epsilon of the element type), rounded to a power of two
///
/// logits_at(t, out) writes the logits at the parameters moved by t along the direction into `out`, which is slopes or
/// scratch: two matrices (or rows) of float or double of one shape, of which the first holds the slopes in the end.
/// Evaluate without dropout, and with the statistics of a batch norm fixed.
///
/// Returns by how much rounding may have changed a slope: 2 epsilon max |z| / h, if the logits are right to about their
/// last places. In float that is some 1e-4 of the logits: take (spread + twice the noise), or compute in double; with a
/// Jacobian-vector product there is none. Of kinks between the ends (ReLU) it knows nothing.
///
/// Special values: -inf at both ends, a masked class: slope 0 | NaN or other infinities: NaN, which lets no step pass
/// Cost: no allocation; two evaluations.
/// Throws std::invalid_argument if the shapes differ, or the length is not in (0, inf).
template <class LogitsAt, class Slopes, class Scratch>
double finite_difference_slopes(LogitsAt&& logits_at, Slopes&& slopes, Scratch&& scratch,
                                const finite_difference_options& options = {}) {
  const char* const function = "finite_difference_slopes";
  const auto a = detail::output_matrix(slopes);
  const auto below = detail::output_matrix(scratch);
  using T = typename decltype(a)::element_type;
  static_assert(std::is_same_v<T, typename decltype(below)::element_type> &&
                    (std::is_same_v<T, float> || std::is_same_v<T, double>),
                "xsoftmax: slopes and scratch are both float or both double");
  if (!detail::same_shape(function, "slopes", a, "scratch", below)) {
    return 0.0;
  }
  if (!(options.length > 0 && options.length <= std::numeric_limits<double>::max())) {
    detail::raise_out_of_range(function, "the length must be in (0, inf)", "length", options.length);
    return 0.0;
  }
  constexpr auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  const double h = std::exp2(std::round(std::log2(options.length * std::cbrt(epsilon))));
  logits_at(h, std::forward<Slopes>(slopes));
  logits_at(-h, std::forward<Scratch>(scratch));
  double largest = 0.0;
  for (std::size_t r = 0; r < a.rows(); ++r) {
    for (std::size_t c = 0; c < a.cols(); ++c) {
      T& slope =
          a.data()[static_cast<std::ptrdiff_t>(r) * a.row_stride() + static_cast<std::ptrdiff_t>(c) * a.col_stride()];
      const auto z = static_cast<double>(slope);
      const auto other = static_cast<double>(below.data()[static_cast<std::ptrdiff_t>(r) * below.row_stride() +
                                                          static_cast<std::ptrdiff_t>(c) * below.col_stride()]);
      constexpr double masked = -std::numeric_limits<double>::infinity();
      if (z == masked && other == masked) {
        slope = T{};
        continue;
      }
      slope = static_cast<T>((z - other) / (2 * h));
      slope = std::isfinite(slope) ? slope : std::numeric_limits<T>::quiet_NaN();
      largest = std::fmax(largest, std::fmax(std::fabs(z), std::fabs(other)));
    }
  }
  return 2 * epsilon * largest / h;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

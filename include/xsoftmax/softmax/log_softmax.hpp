// SPDX-License-Identifier: MIT
// Logarithm of the softmax of a row or of each row of a matrix.
#pragma once

#include <optional>
#include <vector>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of log_softmax. Members only ever join at the end.
struct log_softmax_options {
  double temperature = 1.0; ///< T of z / T, in [0, inf); 0 is 0 at the lowest index of the maximum, -inf elsewhere
  masked_row_policy masked_row = masked_row_policy::nan; ///< a row of only -inf: NaN, or (zero) -inf, the log of 0
  std::optional<double> sink = std::nullopt;             ///< an extra logit that counts in the denominator only
};

/// Log-softmax: y_i = z_i / T - log(sum_k exp(z_k / T)), with exp(sink / T) added to the sum where a sink is given.
///
/// z and y are rows (any contiguous sized range, or a vector_view) of the same length, or matrices (matrix_view) of the
/// same shape, where each row is normalised by itself. T and the sink are in the units of the logits. y may be z itself
/// (same first element, extents and strides); any other overlap is refused where both have the same strides.
///
/// Special values, in this order of precedence, at T = 0 too:
///   length 0: nothing is written             | any NaN: NaN in the whole row
///   one or more +inf: NaN in the whole row   | all -inf: NaN, or -inf with masked_row_policy::zero; -inf with a finite
///                                            |   sink
///   some -inf: -inf there                    | T = 0: 0 at the lowest index of the maximum, -inf elsewhere (all -inf
///   if
///                                            |   the sink is above the maximum)
/// Below the lowest finite number the result is -inf.
///
/// Accuracy: each y_i is within 0.65 ULP of the exact value for float and within 1.25 for double, results near 0 and
/// subnormal ones included. Largest errors that searches of eight million rows have found: 0.569 ULP for float at
/// z = {0x1.8262b2p+6, 0x1.55c8eap+6, 0x1.2de1cep+6}, 0.963 for double in a row of 3 at T = 1.44474923.
/// The bits depend on the differences of the row's values and on T alone: adding a constant changes none where the sums
/// are exact, nor do strides, alignment, neighbours, trailing -inf, or, with fused multiply-add, architecture and
/// compiler.
///
/// Cost: no allocation; three passes over z, one over y.
/// Throws std::invalid_argument if shapes differ, the views overlap partially, T is negative, NaN or infinite, or the
/// sink is NaN or +inf; nothing has been written then.
template <class Arch = default_arch, class In, class Out>
requires(!std::is_same_v<std::remove_cvref_t<Out>, log_softmax_options>) XSOFTMAX_INLINE
    void log_softmax(In&& z, Out&& y, const log_softmax_options& options = {}) {
  detail::check_types<In, Out>();
  using T = detail::value_of<std::remove_reference_t<In>>;
  const matrix_view<const T> in = detail::as_matrix(as_view(z));
  const matrix_view<T> out = detail::as_matrix(as_view(y));
  const double sink = options.sink.value_or(-__builtin_inf());
  if (!detail::same_shape("log_softmax", "z", in, "y", out) ||
      !detail::no_partial_overlap("log_softmax", "z", in, "y", out) ||
      !detail::valid_temperature("log_softmax", options.temperature) || !detail::valid_sink("log_softmax", sink)) {
    return;
  }
  detail::call::log_softmax(Arch{}, detail::log_softmax_task<T>{
                                        .z = detail::source_of(in),
                                        .y = detail::destination_of(out),
                                        .rows = in.rows(),
                                        .cols = in.cols(),
                                        .temperature = options.temperature,
                                        .sink = sink,
                                        .masked_row = options.masked_row,
                                    });
}

/// The same, returning the logarithms of one row in a new std::vector.
template <class Arch = default_arch, class In>
[[nodiscard]] auto log_softmax(In&& z, const log_softmax_options& options = {}) {
  const auto in = as_view(z);
  static_assert(detail::is_vector<std::remove_const_t<decltype(in)>>,
                "xsoftmax: log_softmax of a matrix needs an output; only a row is returned as a std::vector");
  std::vector<detail::value_of<std::remove_reference_t<In>>> y(in.size());
  log_softmax<Arch>(z, y, options);
  return y;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

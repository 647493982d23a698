// SPDX-License-Identifier: MIT
// Perturbed logits given their maximum, for sampling from the top down.
#pragma once

#include <cmath>
#include <xsoftmax/detail/elements.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Perturbed logits conditioned on their maximum: x are logits with Gumbel noise (z + gumbel_noise), Z is the largest
/// of them, and y has the distribution that x has where the largest is `maximum`:
///   y_i = -log(exp(-maximum) - exp(-Z) + exp(-x_i))
/// So the children of a node, perturbed by themselves, get the maximum that their parent was drawn with (stochastic
/// beam search). The order of the elements stays, and the largest becomes `maximum`.
///
/// x and y are rows of the same length; y may be x itself. Special values: a NaN or +inf in x, or a maximum that is NaN
/// or +inf, gives NaN in the whole row; x_i = -inf, and maximum = -inf, give -inf.
/// Accuracy: that of double in logarithms that do not cancel, rounded once.
/// Cost: no allocation; two passes in double, one element at a time.
/// Throws std::invalid_argument if the lengths differ or the rows overlap partially.
///
/// Source: W. Kool, H. van Hoof, M. Welling, "Stochastic beams and where to find them" (2019), appendix B.3.
template <class In, class Out>
void condition_on_maximum(const In& x, double maximum, Out&& y) {
  detail::check_types<const In&, Out>();
  static_assert(detail::is_vector<detail::view_of<const In>>, "xsoftmax: perturbed logits are conditioned row by row");
  const auto& held = detail::evaluated(x);
  const auto in = detail::input_matrix(held);
  const auto out = detail::output_matrix(y);
  const char* const function = "condition_on_maximum";
  if (!detail::same_shape(function, "x", in, "y", out) || !detail::no_partial_overlap(function, "x", in, "y", out)) {
    return;
  }
  const double infinity = __builtin_inf();
  double largest = -infinity;
  bool regular = maximum < infinity;
  for (std::size_t i = 0; i < in.cols(); ++i) {
    const double value = detail::element_value(in, i);
    regular = regular && value < infinity;
    largest = value > largest ? value : largest;
  }
  for (std::size_t i = 0; i < in.cols(); ++i) {
    const double value = detail::element_value(in, i);
    double result = regular ? -infinity : __builtin_nan("");
    if (regular && value != -infinity && maximum != -infinity) {
      // v = maximum - x + log(1 - exp(x - Z)), y = maximum - max(0, v) - log(1 + exp(-|v|)), and maximum - v written
      // out
      const double gap = value - largest;
      const double log_of_complement =
          gap > -0.693147180559945309 ? std::log(-std::expm1(gap)) : std::log1p(-std::exp(gap));
      const double v = maximum - value + log_of_complement;
      result = (v > 0 ? value - log_of_complement : maximum) - std::log1p(std::exp(-std::fabs(v)));
    }
    detail::set_element(out, i, result);
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

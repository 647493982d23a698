// SPDX-License-Identifier: MIT
// The density of Gumbel-Softmax samples, and the gradient with respect to their temperature. In double, one element at
// a time.
#pragma once

#include <cmath>
#include <xsoftmax/detail/elements.hpp>
#include <xsoftmax/detail/validate.hpp>
#include <xsoftmax/gumbel/gumbel_softmax.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// A sum that keeps what each addition rounds away (Neumaier).
class compensated_sum {
public:
  void add(double x) {
    const double sum = sum_ + x;
    rest_ += std::fabs(sum_) >= std::fabs(x) ? (sum_ - sum) + x : (x - sum) + sum_;
    sum_ = sum;
  }

  double value() const { return sum_ - sum_ == 0 ? sum_ + rest_ : sum_; }

private:
  double sum_ = 0;
  double rest_ = 0;
};

/// log((n - 1)!). std::lgamma writes a global variable.
inline double log_gamma(std::size_t n) {
  if (n < 32) {
    compensated_sum sum;
    for (std::size_t k = 2; k < n; ++k) {
      sum.add(std::log(static_cast<double>(k)));
    }
    return sum.value();
  }
  // Stirling's series; what is left out is below 1 / (1188 n^9).
  const auto x = static_cast<double>(n);
  const double t = 1 / (x * x);
  const double series = (1.0 / 12 - t * (1.0 / 360 - t * (1.0 / 1260 - t / 1680))) / x;
  return ((x - 0.5) * std::log(x) - x) + (0.918938533204672742 + series); // log(2 pi) / 2
}

/// log of the density of y, or of exp(y) where Logarithms, with respect to the coordinates of its simplex.
template <bool Logarithms, class Z, class Y>
double concrete_log_density(const matrix_view<Z>& z, const matrix_view<Y>& y, double temperature) {
  const std::size_t n = z.cols();
  const double infinity = __builtin_inf();
  const auto log_of = [&](std::size_t i) {
    const double value = element_value(y, i);
    return Logarithms ? value : std::log(value);
  };
  // a_k = z_k - T log y_k
  std::size_t classes = 0;
  std::size_t zeros = 0;
  double largest = -infinity;          // of the a_k
  double largest_of_zeros = -infinity; // of the z_k
  for (std::size_t i = 0; i < n; ++i) {
    const double logit = element_value(z, i);
    const double log_y = log_of(i);
    if (!(logit < infinity) || !(log_y < infinity)) {
      return __builtin_nan("");
    }
    if (logit == -infinity) {
      if (log_y != -infinity) {
        return -infinity; // a class that cannot be has got something
      }
      continue;
    }
    ++classes;
    if (log_y == -infinity) {
      ++zeros;
      largest_of_zeros = logit > largest_of_zeros ? logit : largest_of_zeros;
    } else {
      const double a = logit - temperature * log_y;
      largest = a > largest ? a : largest;
    }
  }
  if (classes == 0) {
    return __builtin_nan("");
  }
  const auto count = static_cast<double>(classes);
  if (zeros != 0) {
    // At the boundary, as the limit where all of them vanish alike: by the power of y that is left.
    const double power = Logarithms ? (static_cast<double>(zeros) - count) * temperature
                                    : static_cast<double>(zeros) * (temperature + 1) - count * temperature;
    if (power != 0) {
      return power > 0 ? infinity : -infinity;
    }
    largest = largest_of_zeros;
  }
  // sum (a_k - M) - n log sum exp(a_k - M), with the zeros alone in the second sum where there are any.
  compensated_sum sum;
  compensated_sum exponentials;
  for (std::size_t i = 0; i < n; ++i) {
    const double logit = element_value(z, i);
    if (logit == -infinity) {
      continue;
    }
    const double log_y = log_of(i);
    if (log_y == -infinity) {
      sum.add(logit - largest);
      exponentials.add(std::exp(logit - largest));
      continue;
    }
    const double gap = (logit - temperature * log_y) - largest;
    sum.add(gap);
    if constexpr (!Logarithms) {
      sum.add(-log_y);
    }
    if (zeros == 0) {
      exponentials.add(std::exp(gap));
    }
  }
  sum.add(-count * std::log(exponentials.value()));
  sum.add(log_gamma(classes));
  sum.add((count - 1) * std::log(temperature));
  return sum.value();
}

template <bool Logarithms, class In, class Out>
double checked_log_density(const char* function, const In& z, const Out& y, double temperature) {
  static_assert(is_vector<view_of<const In>> && is_vector<view_of<const Out>>,
                "xsoftmax: densities are those of one row");
  const auto& held_z = evaluated(z);
  const auto& held_y = evaluated(y);
  const auto logits = input_matrix(held_z);
  const auto sample = input_matrix(held_y);
  if (!same_shape(function, "z", logits, "y", sample) || !positive_temperature(function, temperature)) {
    return __builtin_nan("");
  }
  return concrete_log_density<Logarithms>(logits, sample, temperature);
}

} // namespace detail

/// Logarithm of the density of y = softmax((z + g) / T) at y, with respect to n - 1 of its coordinates (the Concrete
/// distribution):
///   log (n-1)! + (n-1) log T + sum_k (z_k - (T + 1) log y_k) - n log sum_k exp(z_k - T log y_k)
/// z and y are rows of the same length; classes with z_k = -inf and y_k = 0 are left out, n counts the others.
///
/// Special values, in this order: NaN, or +inf in z or y, or y_k < 0: NaN | z_k = -inf and y_k > 0: -inf | no class:
/// NaN | y_k = 0 elsewhere: the limit where all these y_k vanish alike, which is +inf, -inf or finite.
/// Where y has underflowed, exp_concrete_log_density of its logarithms says more.
///
/// Accuracy: that of double in the terms' sum, which is compensated.
/// Throws std::invalid_argument if the lengths differ or T is not in (0, inf).
///
/// Source: C. Maddison, A. Mnih, Y. W. Teh, "The Concrete distribution" (2016), equation 22.
template <class In, class Y>
[[nodiscard]] double gumbel_softmax_log_density(const In& z, const Y& y, const gumbel_softmax_options& options = {}) {
  return detail::checked_log_density<false>("gumbel_softmax_log_density", z, y, options.temperature);
}

/// The same for y = log softmax((z + g) / T), with respect to n - 1 of these logarithms (ExpConcrete):
///   log (n-1)! + (n-1) log T + sum_k (z_k - T y_k) - n log sum_k exp(z_k - T y_k)
/// Nothing in it underflows: use it with log_softmax of the perturbed logits. Source: the same, equation 23.
template <class In, class Y>
[[nodiscard]] double exp_concrete_log_density(const In& z, const Y& y, const gumbel_softmax_options& options = {}) {
  return detail::checked_log_density<true>("exp_concrete_log_density", z, y, options.temperature);
}

/// Gradient of a soft gumbel_softmax with respect to its temperature, from its result y and dy = dL/dy:
///   dL/dT = -1/T sum_i y_i (dy_i - S) log y_i,   S = sum_k y_k dy_k
/// (the perturbed logits are T log y_i and a constant, which drops out). y_i = 0 counts nothing, whatever dy_i is.
/// Throws std::invalid_argument if the lengths differ or T is not in (0, inf).
template <class Y, class DY>
[[nodiscard]] double gumbel_softmax_temperature_gradient(const Y& y, const DY& dy,
                                                         const gumbel_softmax_options& options = {}) {
  static_assert(detail::is_vector<detail::view_of<const Y>> && detail::is_vector<detail::view_of<const DY>>,
                "xsoftmax: the gradient with respect to the temperature is that of one row");
  const auto& held_y = detail::evaluated(y);
  const auto& held_dy = detail::evaluated(dy);
  const auto result = detail::input_matrix(held_y);
  const auto gradient = detail::input_matrix(held_dy);
  const char* const function = "gumbel_softmax_temperature_gradient";
  if (!detail::same_shape(function, "y", result, "dy", gradient) ||
      !detail::positive_temperature(function, options.temperature)) {
    return __builtin_nan("");
  }
  const auto for_each = [&](auto&& body) {
    for (std::size_t i = 0; i < result.cols(); ++i) {
      if (const double p = detail::element_value(result, i); p != 0) {
        body(p, detail::element_value(gradient, i));
      }
    }
  };
  detail::compensated_sum mean;
  for_each([&](double p, double d) { mean.add(p * d); });
  detail::compensated_sum sum;
  for_each([&](double p, double d) { sum.add(p * (d - mean.value()) * std::log(p)); });
  return -sum.value() / options.temperature;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Steps that stay below the convergence radius.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <xsoftmax/convergence_radius/bound.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// min(step, factor * radius). A radius or a factor that is negative or NaN gives 0, so that no unchecked step passes;
/// so does a step that is.
[[nodiscard]] inline double radius_limited_step(double step, double radius, double factor = 1.0) {
  const double most = factor * radius;
  const bool sound = step >= 0 && radius >= 0 && factor >= 0 && most >= 0; // 0 * inf is NaN
  return !sound ? 0.0 : step < most ? step : most;
}

/// Options of radius_controller. Members only ever join at the end.
struct radius_controller_options {
  double factor = 1.0;      ///< the greatest step, in radii
  double temperature = 1.0; ///< of the loss, in (0, inf)
};

/// Scales the steps of any optimizer so that none is longer than the convergence radius: p becomes s p, s = min(1,
/// factor * radius / |p|). It knows nothing but what it has counted.
///
///   direction = update / |update|                         p: momentum, weight decay and learning rate included
///   slopes    = d logits / d t along it, for each sample  a Jacobian-vector product, dropout off
///   update   *= controller.scale(slopes, |update|)
///
/// Nothing has to be computed again after the scaling: the direction is the same. Where all r = |p| / radius are below
/// 1 it changes nothing.
///
/// Source: P. Sao, "Ghosts of softmax" (2026), the controller of the experiments with learning rates that spike.
class radius_controller {
public:
  radius_controller() = default;

  explicit radius_controller(const radius_controller_options& options) : options_(options) {}

  /// For a step of this length and a radius, however it was found: s. A length 0 gives 1 and is not counted; a length
  /// that is no finite number, or a radius that is NaN or negative, gives 0.
  double scale_for(double radius, double length) {
    if (length == 0) {
      return 1.0;
    }
    const bool sound = length >= 0 && radius >= 0 && (length < radius || std::isfinite(length));
    ratio_ = sound ? length / std::fabs(radius) : std::numeric_limits<double>::infinity();
    largest_ = ratio_ > largest_ ? ratio_ : largest_;
    const double step = std::isfinite(length) ? radius_limited_step(length, radius, options_.factor) : 0.0;
    const double scale = step == 0 ? 0.0 : step / length;
    ++steps_;
    limited_ += scale < 1 ? 1U : 0U;
    return scale;
  }

  /// By the bound of a batch: a row of slopes for each sample, along the unit vector of the step.
  template <class Arch = default_arch, class Slopes>
  double scale(const Slopes& slopes, double length) {
    return scale_for(min_convergence_radius_bound<Arch>(slopes, {.temperature = options_.temperature}), length);
  }

  /// The same without the classes whose logit is -inf.
  template <class Arch = default_arch, class Logits, class Slopes>
  double scale(const Logits& logits, const Slopes& slopes, double length) {
    return scale_for(min_convergence_radius_bound<Arch>(logits, slopes, {.temperature = options_.temperature}), length);
  }

  /// r = |p| / radius of the last step, before it was scaled; +inf where there was no radius.
  double ratio() const { return ratio_; }

  /// The largest r so far.
  double largest_ratio() const { return largest_; }

  /// Steps so far, and how many of them were shortened.
  std::size_t steps() const { return steps_; }
  std::size_t limited_steps() const { return limited_; }

private:
  radius_controller_options options_;
  double ratio_ = 0.0;
  double largest_ = 0.0;
  std::size_t steps_ = 0;
  std::size_t limited_ = 0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// The tight lower bound of the convergence radius: no zero u + iy of F has |y| < pi / spread, and none lies where one
// slope has more than half of all weight, since the other terms cannot cancel it.
//
//   h(u) = (weight of the others at u) / (weight of the dominating slope) < 1    for u in (u_-, u_+), 0 among them
//   every zero has |t| >= sqrt(min(-u_-, u_+)^2 + (pi / spread)^2)
//
// log h is convex, so that Newton's method closes in on a root from where h > 1. It does so roughly first; a step from
// there at full precision is off by no more than the curvature of log h allows, which is the variance of slopes.
#pragma once

#include <xsoftmax/detail/partition_line.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// A root of h = 1, in units of partition_line, and the slope of log h there.
struct weight_root {
  double u = std::numeric_limits<double>::infinity(); ///< signed; infinite: there is none on this side
  double slope = 0.0;
};

template <class Arch, class T>
class tight_bound {
public:
  using line_type = partition_line<Arch, T>;

  /// Needs zeros.
  explicit tight_bound(line_type& line) : height_(pi / line.spread()) {
    if (!line.find_dominating()) {
      return;
    }
    const auto start = line.find_crossings();
    const bool right_first = start.right <= start.left;
    weight_root& near = right_first ? right_ : left_;
    weight_root& far = right_first ? left_ : right_;
    const double sign = right_first ? 1.0 : -1.0;
    const double near_start = right_first ? start.right : start.left;
    const double far_start = right_first ? start.left : start.right;
    near = root(line, sign * near_start);
    gap_ = std::fabs(near.u);
    if (std::isfinite(far_start) && far_start > 0) {
      // Is the other one nearer after all? There h is above 1 at the same distance.
      const double mirrored = line.rough_tail(-sign * gap_).value;
      if (mirrored > -line_type::rough_error) {
        far = root(line, -sign * far_start);
        gap_ = std::fmin(gap_, std::fabs(far.u));
      }
    }
  }

  /// In units of partition_line.
  double value() const { return std::hypot(gap_, height_); }

  double height() const { return height_; }

  const weight_root& right() const { return right_; }

  const weight_root& left() const { return left_; }

private:
  /// The root that is reached from `start`, where a class alone reaches the weight of the dominating slope, or from
  /// another point where h > 1; or a little nearer to 0.
  static weight_root root(line_type& line, double start) {
    if (!std::isfinite(start)) {
      return {};
    }
    double u = start;
    for (int step = 0; step < 60; ++step) {
      const log_tail tail = line.rough_tail(u);
      const double next = u - tail.value / tail.slope;
      if (!(next * u > 0) || !std::isfinite(next)) {
        break;
      }
      u = next;
      if (std::fabs(tail.value) < 0x1p-12) {
        break;
      }
    }
    const double curvature = 0.25 * line.spread() * line.spread();
    for (int step = 0; step < 60 && std::isfinite(u); ++step) {
      const log_tail tail = line.tail(u);
      const double move = tail.value / tail.slope;
      const double next = u - move;
      // The slope of log h on the way is at least this, and Newton's step too long by no more than that.
      const double steepness = std::fabs(tail.slope) - curvature * std::fabs(move);
      const double error = 0.5 * curvature * move * move / steepness;
      const bool stuck = step > 8 && std::fabs(move) <= 0x1p-40 * std::fabs(u);
      if ((steepness > 0 && error <= 0x1p-43 * std::fabs(next)) || stuck) {
        const double rounding = (0x1p-46 + 0x1p-50 * line.spread() * std::fabs(next)) / std::fabs(tail.slope);
        const double distance = std::fabs(next) - (stuck ? std::fabs(move) : error) - rounding;
        return {std::copysign(std::fmax(distance, 0.0), u), tail.slope};
      }
      u = next;
    }
    // Logits so far apart that rounding is all there is. The chord of log h from 0 to the start, where each of the
    // other classes is below the dominating weight, is above it.
    const double below = std::fmin(std::fabs(line.tail(0.0).value), 700.0);
    const double above = std::log(static_cast<double>(line.classes() - 1));
    return {start * (below / (below + above)) * (1 - 0x1p-45), std::copysign(line.spread(), start)};
  }

  double height_;
  double gap_ = 0.0;
  weight_root right_;
  weight_root left_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// The tight lower bound of the convergence radius: no zero u + iy of F has |y| < pi / spread, and none lies where one
// slope has more than half of all weight, since the other terms cannot cancel it.
//
//   h(u) = (weight of the others at u) / (weight of the dominating slope) < 1    for u in (u_-, u_+), 0 among them
//   every zero has |t| >= sqrt(min(-u_-, u_+)^2 + (pi / spread)^2)
//
// log h is convex; its derivatives are the cumulants of the slopes of the others. Steps lead to the root of the cubic
// that the first three make, roughly at first; a step from there at full precision, by two of them, is off by no more
// than the third cumulant of slopes that spread so far allows.
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
    const auto start = line.find_rough_crossings();
    const bool right_first = start.right <= start.left;
    weight_root& near = right_first ? right_ : left_;
    weight_root& far = right_first ? left_ : right_;
    const double sign = right_first ? 1.0 : -1.0;
    const double near_start = right_first ? start.right : start.left;
    const double far_start = right_first ? start.left : start.right;
    near = root(line, sign * near_start);
    gap_ = std::fabs(near.u);
    // Is the other one nearer after all? There h is above 1 at the same distance.
    if (std::isfinite(far_start) && far_start > 0 && chord(line, gap_ / far_start) > -line_type::rough_error &&
        line.rough_tail(-sign * gap_).value > -line_type::rough_error) {
      far = root(line, -sign * far_start);
      gap_ = std::fmin(gap_, std::fabs(far.u));
    }
  }

  /// In units of partition_line.
  double value() const { return std::hypot(gap_, height_); }

  double height() const { return height_; }

  const weight_root& right() const { return right_; }

  const weight_root& left() const { return left_; }

private:
  /// log h is below this one, a part of the way from 0 to where a class first has the weight of the dominating slope:
  /// the chord, on whose end no other class has more.
  static double chord(const line_type& line, double part) {
    const double end = std::log(static_cast<double>(line.classes() - 1));
    return line.log_others() + (end - line.log_others()) * part * (1 + 2 * line_type::crossings_error);
  }

  static double tangent_step(const log_tail& tail) { return -tail.value / tail.slope; }

  /// To the nearer root of the parabola; where there is none, far from the root, that of the tangent.
  static double parabola_step(const log_tail& tail) {
    const double discriminant = tail.slope * tail.slope - 2 * tail.curvature * tail.value;
    return discriminant > 0 ? -2 * tail.value / (tail.slope + std::copysign(std::sqrt(discriminant), tail.slope))
                            : tangent_step(tail);
  }

  /// From the root of the parabola to that of the cubic, by a step of Newton's method.
  static double cubic_correction(const rough_log_tail& tail, double parabola) {
    const double cube = parabola * parabola * (1 / 6.0) * tail.third;
    const double slope = tail.slope + parabola * tail.curvature + 3 * cube;
    return slope * tail.slope > 0 ? -parabola * cube / slope : 0.0;
  }

  /// The root that is reached from `start`, where a class alone reaches the weight of the dominating slope, or from
  /// another point where h > 1; or a little nearer to 0.
  static weight_root root(line_type& line, double start) {
    if (!std::isfinite(start)) {
      return {};
    }
    double u = start;
    for (int step = 0; step < 60; ++step) {
      const rough_log_tail tail = line.rough_tail(u);
      const double tangent = tangent_step(tail);
      const double parabola = parabola_step(tail);
      const double twist = cubic_correction(tail, parabola);
      const double move = parabola + twist;
      const double next = u + move;
      if (!(next * u > 0) || !std::isfinite(next)) {
        break;
      }
      u = next;
      // The next derivative would add about as much less than this one as this one has added less than the one before.
      const bool bent = parabola != tangent || tail.curvature == 0.0;
      const bool close = bent && std::fabs(twist * (parabola - tangent)) < 0x1p-17 * std::fabs(move);
      if (close || std::fabs(tail.value) < 0x1p-12) {
        break;
      }
    }
    const double spread = line.spread();
    for (int step = 0; step < 60 && std::isfinite(u); ++step) {
      const log_tail tail = line.tail(u);
      const double move = parabola_step(tail);
      const double next = u + move;
      // On the way, and once more as far, the slope of log h is at least this; its third derivative is a third central
      // moment, at most spread^3 / (6 sqrt(3)).
      const double steepness = std::fabs(tail.slope) - 0.5 * spread * spread * std::fabs(move);
      const double reach = spread * std::fabs(move);
      const double error = reach * reach * reach * (1 / 62.0) / steepness;
      const bool close = steepness > 0 && error <= std::fabs(move) && error <= 0x1p-43 * std::fabs(next);
      const bool stuck = step > 8 && std::fabs(move) <= 0x1p-40 * std::fabs(u);
      if (close || stuck) {
        const double rounding = (0x1p-46 + 0x1p-50 * spread * std::fabs(next)) / std::fabs(tail.slope);
        const double distance = std::fabs(next) - (close ? error : std::fabs(move)) - rounding;
        return {std::copysign(std::fmax(distance, 0.0), u), tail.slope};
      }
      u = next;
    }
    // Logits so far apart that rounding is all there is.
    const auto crossings = line.find_crossings();
    const double end = start > 0 ? crossings.right : crossings.left;
    const double below = std::fmin(std::fabs(line.tail(0.0).value), 700.0);
    const double above = std::log(static_cast<double>(line.classes() - 1));
    return {std::copysign(end * (below / (below + above)) * (1 - 0x1p-45), start), std::copysign(spread, start)};
  }

  double height_;
  double gap_ = 0.0;
  weight_root right_;
  weight_root left_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// The tight lower bound of the convergence radius: no zero u + iy of F has |y| < pi / spread, and none lies where one
// slope has more than half of all weight, since the other terms cannot cancel it.
//
//   h(u) = (weight of the others at u) / (weight of the dominating slope) < 1    for u in (u_-, u_+), 0 among them
//   every zero has |t| >= sqrt(min(-u_-, u_+)^2 + (pi / spread)^2)
//
// log h is convex, so that Newton's steps from the side where h > 1 never pass the root, and the chord from u = 0 to
// the last of them ends before it.
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
    group_ = line.find_dominating();
    if (!group_.exists) {
      return;
    }
    typename line_type::crossing right;
    typename line_type::crossing left;
    line.find_crossings(group_.weight, right, left);
    // A side is left out if the other root is certainly nearer.
    if (right.least < left.most) {
      right_ = root(line, right.most);
    }
    if (left.least < right.most) {
      left_ = root(line, -left.most);
    }
    gap_ = std::fmin(std::fabs(right_.u), std::fabs(left_.u));
  }

  /// In units of partition_line.
  double value() const { return std::hypot(gap_, height_); }

  double height() const { return height_; }

  const weight_root& right() const { return right_; }

  const weight_root& left() const { return left_; }

private:
  /// From a point where a single class has the weight of the dominating slope.
  weight_root root(line_type& line, double u) const {
    if (!std::isfinite(u)) {
      return {};
    }
    const double at_zero = std::log(std::fmax(group_.others, std::numeric_limits<double>::min()) / group_.weight);
    const double rounding = 0x1p-50 * (1.0 - at_zero);
    log_tail tail = line.tail(u, group_.weight);
    for (int step = 0; step < 100 && tail.value > rounding; ++step) {
      const double next = u - tail.value / tail.slope;
      if (!(std::fabs(next) < std::fabs(u))) {
        break;
      }
      u = next;
      tail = line.tail(u, group_.weight);
    }
    const double above = std::fmax(tail.value, 0.0) + rounding;
    return {u * (at_zero / (at_zero - above)), tail.slope};
  }

  double height_;
  double gap_ = 0.0;
  dominating_slope group_;
  weight_root right_;
  weight_root left_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

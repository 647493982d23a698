// SPDX-License-Identifier: MIT
// The complex zero of F(t) = sum of exp((z_k + a_k t) / T) that is nearest to 0.
//
//   candidates   Newton's method, from where |F| is small on a circle, and from the zero that the dominating slope and
//                the classes which overtake it would have by themselves
//   proof        the winding number of F along |t| = R counts the zeros inside: there must be none just below the
//                candidate's modulus. F is real on the real axis, so that half a circle is enough.
//
// Everything in units of partition_line, in the upper half plane: zeros come in conjugate pairs, none of them real.
#pragma once

#include <cmath>
#include <complex>
#include <cstddef>
#include <limits>
#include <xsoftmax/detail/tight_bound.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

template <class Arch, class T>
class zero_search {
public:
  using complex = std::complex<double>;

  /// Needs zeros.
  explicit zero_search(partition_line<Arch, T>& line) : line_(line), bound_(line) {}

  /// The nearest zero. If it cannot be told, among many zeros that meet or with logits beyond all measure, a point at
  /// the greatest radius below which there is certainly none.
  complex run() {
    double inside = bound_.value(); // no zero below
    double outside = std::numeric_limits<double>::infinity();
    complex best(std::numeric_limits<double>::infinity(), 0.0);
    double modulus = std::numeric_limits<double>::infinity();
    const auto offer = [&](complex t) {
      if (polish(t) && std::abs(t) < modulus && std::abs(t) >= inside * (1 - tolerance)) {
        best = t;
        modulus = std::abs(t);
      }
    };
    for (const weight_root& root : {bound_.right(), bound_.left()}) {
      if (std::isfinite(root.u)) {
        offer(complex(root.u, pi / std::fabs(root.slope)));
      }
    }
    offer(complex(0.0, bound_.height()));
    for (int circle = 0; circle < 200; ++circle) {
      if (modulus * (1 - tolerance) <= inside) {
        polish(best); // the steps from far away may have ended before
        return best;
      }
      // Just below the candidate, unless there is a zero still nearer. A candidate far away is no guide: a circle costs
      // as much as it is long.
      double radius = std::fmin(modulus * (1 - tolerance), inside * 1.5);
      if (!(radius < outside)) {
        radius = std::sqrt(inside * outside);
        if (outside - inside < 0.25 * tolerance * outside) {
          break;
        }
      }
      if (!(radius * line_.spread() < most_reach)) {
        break;
      }
      const winding turns = turns_along(radius);
      if (turns.known && turns.zeros == 0) {
        inside = radius;
      } else {
        outside = radius; // or it passes through zeros
      }
      for (std::size_t i = 0; i < turns.lows; ++i) {
        offer(turns.low[i]);
      }
    }
    return std::isfinite(modulus) ? best * (inside / modulus) : complex(0.0, inside);
  }

private:
  /// How far below a zero the proof may lie, relative to it.
  static constexpr double tolerance = 1e-3;

  /// Beyond this many radians between the classes of a circle nothing is proved.
  static constexpr double most_reach = 0x1p19;

  struct sample {
    double angle;
    complex t;
    complex f;
    complex rate; ///< t F' / F: its real part is d arg F / d angle
  };

  struct winding {
    static constexpr std::size_t most = 6;
    bool known = false;
    long zeros = 0;
    std::size_t lows = 0;
    complex low[most]; ///< where |F| is least among neighbours, the least of them
    double height[most];

    void add(const sample& s) {
      const double h = std::abs(s.f);
      std::size_t at = lows < most ? lows++ : most;
      if (at == most) {
        if (!(h < height[most - 1])) {
          return;
        }
        at = most - 1;
      }
      for (; at > 0 && height[at - 1] > h; --at) {
        low[at] = low[at - 1];
        height[at] = height[at - 1];
      }
      low[at] = s.t;
      height[at] = h;
    }
  };

  static partition_point point_at(complex t) {
    partition_point p;
    p.u = t.real();
    p.y = t.imag();
    return p;
  }

  static complex f_of(const partition_point& p) { return {p.f[0], p.f[1]}; }

  static complex slope_of(const partition_point& p) { return {p.slope[0], p.slope[1]}; }

  /// Newton's method; where it turns out slow, at zeros that meet, that of the secant for F / F', whose zeros are all
  /// simple.
  bool polish(complex& t) {
    const double most = 4 * bound_.height(); // a step
    complex before;
    complex quotient_before;
    double least = std::numeric_limits<double>::infinity();
    complex best = t;
    int worse = 0;
    double slope = 0.0;
    for (int step = 0; step < 60; ++step) {
      partition_point p = point_at(t);
      line_.evaluate(&p, 1);
      const complex f = f_of(p);
      const complex derivative = slope_of(p);
      if (f == 0.0) {
        best = t;
        least = 0.0;
        slope = std::abs(derivative);
        break;
      }
      const complex quotient = f / derivative;
      const double size = std::abs(quotient);
      if (!std::isfinite(size)) {
        return false;
      }
      if (size < least) {
        worse = size < 0.9 * least ? 0 : worse + 1;
        least = size;
        best = t;
        slope = std::abs(derivative);
      } else {
        ++worse;
      }
      if (size <= 0x1p-52 * std::abs(t) || (worse > 3 && least < 1e-9 * std::abs(t)) || worse > 20) {
        break;
      }
      complex move = -quotient;
      if (step > 2 && size > 0.3 * std::abs(quotient_before) && quotient != quotient_before) {
        move = -quotient * (t - before) / (quotient - quotient_before);
      }
      const double length = std::abs(move);
      if (!std::isfinite(length)) {
        return false;
      }
      before = t;
      quotient_before = quotient;
      t += length > most ? move * (most / length) : move;
      if (t.imag() < 0) {
        t = std::conj(t);
      }
    }
    t = best;
    const bool met = slope * std::abs(t) < 1e-3 && least < 0.1 * std::abs(t) && center(t);
    return (met || least <= 1e-6 * std::abs(t)) && t.imag() > 0;
  }

  /// Zeros that rounding cannot tell apart, m of them, are taken as one at their middle. Rounding splits them by about
  /// its m-th root; their middle is best seen from further away.
  bool center(complex& t) {
    for (int m = 2; m <= 8; ++m) {
      const double split = 16 * std::pow(1e-15, 1.0 / m) * std::abs(t);
      complex middle;
      if (zeros_around(t, split, middle) == m) {
        t = middle;
        for (double radius = 0.1 * bound_.height(); radius > split; radius *= 0.25) {
          if (zeros_around(t, radius, middle) == m) {
            t = middle;
            break;
          }
        }
        return true;
      }
    }
    return false;
  }

  /// How many there are within the radius of t, and their middle, by the trapezoidal rule for F' / F on the circle; -1:
  /// one of them is too near to it.
  int zeros_around(complex t, double radius, complex& middle) {
    constexpr std::size_t count = 48;
    partition_point points[count];
    complex way[count];
    for (std::size_t i = 0; i < count; ++i) {
      way[i] = std::polar(radius, 2 * pi * (static_cast<double>(i) + 0.5) / static_cast<double>(count));
      points[i] = point_at(t + way[i]);
    }
    line_.evaluate(points, count);
    complex zeros;
    complex sum;
    for (std::size_t i = 0; i < count; ++i) {
      const complex term = way[i] * (slope_of(points[i]) / f_of(points[i])) / static_cast<double>(count);
      zeros += term;
      sum += term * way[i];
    }
    const double whole = std::round(zeros.real());
    if (!(std::abs(zeros - whole) < 1e-3) || whole < 1) {
      return -1;
    }
    middle = t + sum / whole;
    return static_cast<int>(whole);
  }

  static sample sample_of(double angle, const partition_point& p) {
    const complex t(p.u, p.y);
    return {angle, t, f_of(p), t * slope_of(p) / f_of(p)};
  }

  static partition_point on_circle(double radius, double angle) {
    return point_at({radius * std::cos(angle), radius * std::sin(angle)});
  }

  /// Along the upper half of |t| = radius. A step is halved until it is shorter than the way to the nearest zero, which
  /// is about |F / F'|, and the turn of F is small and what its derivative promises.
  winding turns_along(double radius) {
    winding result;
    constexpr std::size_t group = 8;
    const auto groups = static_cast<std::size_t>(radius * line_.spread() / static_cast<double>(group)) + 6;
    const double width = pi / static_cast<double>(groups * group);
    double total = 0.0;
    partition_point first = on_circle(radius, 0.0);
    line_.evaluate(&first, 1);
    sample last = sample_of(0.0, first);
    double falling = std::numeric_limits<double>::infinity(); // |F| before `last`
    std::size_t halvings = 64 * groups * group;
    for (std::size_t g = 0; g < groups; ++g) {
      partition_point points[group];
      for (std::size_t i = 0; i < group; ++i) {
        points[i] = on_circle(radius, static_cast<double>(g * group + i + 1) * width);
      }
      line_.evaluate(points, group);
      for (std::size_t i = 0; i < group; ++i) {
        // The samples still to come, the nearest on top.
        constexpr std::size_t depth = 40;
        sample ahead[depth];
        std::size_t pending = 1;
        ahead[0] = sample_of(static_cast<double>(g * group + i + 1) * width, points[i]);
        while (pending != 0) {
          const sample& next = ahead[pending - 1];
          const double turn = std::arg(next.f * std::conj(last.f));
          const double step = next.angle - last.angle;
          const double promised = 0.5 * step * (last.rate.real() + next.rate.real());
          const double way = step * std::fmax(std::abs(last.rate), std::abs(next.rate));
          if (way < 1.0 && std::fabs(turn) < 0.7 && std::fabs(turn - promised) < 0.3) {
            total += turn;
            if (std::abs(last.f) < falling && std::abs(last.f) <= std::abs(next.f)) {
              result.add(last);
            }
            falling = std::abs(last.f);
            last = next;
            --pending;
          } else if (pending == depth || halvings-- == 0 || !std::isfinite(way)) {
            return result; // a zero on the circle
          } else {
            const double angle = 0.5 * (last.angle + next.angle);
            partition_point between = on_circle(radius, angle);
            line_.evaluate(&between, 1);
            ahead[pending++] = sample_of(angle, between);
          }
        }
      }
    }
    result.zeros = std::lround(total / pi);
    result.known = true;
    return result;
  }

  partition_line<Arch, T>& line_;
  tight_bound<Arch, T> bound_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// The partition function of a line of logits in long double, without a line of the library's: its bounds by bisection,
// its zeros by the argument principle, the Taylor series of its logarithm.
#pragma once

#include <complex>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace xsoftmax::test {

/// F(t) = sum of exp((z_k + a_k t) / T) over the classes whose logit is not -inf. Inside, t / T is the variable, logits
/// are relative to the largest, and slopes to the middle: neither moves a zero.
class partition_reference {
public:
  using real = long double;
  using complex = std::complex<long double>;

  static constexpr real pi = 3.14159265358979323846264338327950288L;

  template <class T>
  partition_reference(const std::vector<T>& z, const std::vector<T>& a, double temperature = 1.0);

  real spread() const { return spread_; }

  /// How far the logits that count are below the largest, at most, in units of T.
  real gap() const { return gap_; }

  /// pi T / spread.
  real bound() const { return pi * temperature_ / spread_; }

  /// The roots of h = 1, by bisection, and what they give.
  struct tight {
    real radius; ///< sqrt(u^2 + bound^2)
    real u;      ///< the nearer root; 0 if no slope dominates
    real log_h;  ///< at 0, negative
    real rate;   ///< d log h / du at the root
  };

  tight tight_bound() const;

  /// F and F' relative to the largest term at Re t, for t in the caller's units.
  struct point {
    complex f;
    complex slope;      ///< F' by t / T
    real curvature = 0; ///< at least |F''| by t / T
  };

  point at(complex t) const;

  /// One of Newton's steps from t: how far a zero is off.
  real step_at(complex t) const;

  /// Zeros with |t| < radius, by how often F turns around 0 along the upper half of the circle: F is real on the real
  /// axis, and zeros come in pairs. On the way d from one point to the next, by Taylor's formula,
  ///
  ///   |F(t + d) / F(t) - 1| <= (|F'| |d| + max |F''| |d|^2 / 2) / |F| <= 0.7
  ///
  /// so that no turn is overlooked, however zeros lie. (Conditions on F' / F at both ends alone do overlook some:
  /// between two zeros it is 0.) Nothing if that takes too many steps: a zero is on the circle.
  std::optional<long> zeros_inside(real radius, std::size_t most_points = 200000) const;

  /// The first n coefficients c_j of F'(t) / F(t) = sum of c_j t^j in units of `radius`: the derivative of the loss
  /// along the line, but for a constant. Of zeros z_i, c_j = -sum of (radius / z_i)^(j + 1).
  std::vector<real> taylor(real radius, std::size_t n) const;

private:
  struct tail {
    real value;
    real rate;
  };

  /// log of the weight of the others by that of the classes of slope a, at a real u.
  tail log_h(real a, real u) const;

  real temperature_;
  real spread_ = 0;
  real gap_ = 0;
  std::vector<real> logits_;
  std::vector<real> slopes_;
};

/// A row of logits and slopes.
template <class T>
struct radius_problem {
  std::vector<T> z;
  std::vector<T> a;
  double temperature = 1.0;
};

/// So that it can be typed in again.
template <class T>
std::string text_of(const radius_problem<T>& problem);

} // namespace xsoftmax::test

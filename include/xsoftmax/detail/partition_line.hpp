// SPDX-License-Identifier: MIT
// The partition function along a line, F(t) = sum of exp((z_k + a_k t) / T), as the tight bound and the exact radius
// look at it: scaled so that the slopes spread over [1, 2), seen from one of them.
#pragma once

#include <cmath>
#include <limits>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/radius_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// At a real point: the logarithm of the weight of all other classes by that of those whose slope is the origin, and
/// its derivative.
struct log_tail {
  double value;
  double slope;
};

template <class Arch, class T>
class partition_line {
public:
  partition_line(const source& z, const source& a, std::size_t classes, double temperature)
      : task_{.z = z, .a = a, .cols = classes, .temperature = temperature} {
    double range[5] = {0.0, 0.0, 0.0, 0.0, 1.0};
    if (classes != 0) {
      ask(partition_step::range, range);
    }
    valid_ = range[4] != 0.0;
    has_zeros_ = valid_ && range[0] < range[1];
    if (!has_zeros_) {
      return;
    }
    task_.largest = range[2];
    int octave = 0;
    const double width = range[1] - range[0];
    std::frexp(std::isfinite(width) ? width : std::numeric_limits<double>::max(), &octave);
    octave = octave > 1000 ? 1000 : octave < -1000 ? -1000 : octave;
    task_.scale = std::ldexp(1.0, -octave);
    octave_ = octave;
    least_ = range[0] * task_.scale;
    greatest_ = range[1] * task_.scale;
    heaviest_ = range[3] * task_.scale;
  }

  /// Are all slopes and logits that count numbers?
  bool valid() const { return valid_; }

  /// Do the slopes differ, so that F has zeros?
  bool has_zeros() const { return has_zeros_; }

  std::size_t classes() const { return task_.cols; }

  double spread() const { return greatest_ - least_; }

  /// What t means in the units of the caller.
  double unscaled(double t) const { return std::ldexp(t * task_.temperature, -octave_); }

  /// Is there a slope whose classes together have more than half of all weight at t = 0? It is the origin then; if
  /// there is none, the middle of all slopes.
  bool find_dominating() {
    if (dominates(heaviest_)) {
      return true;
    }
    double winner[1];
    task_.origin = 0.0;
    ask(partition_step::vote, winner);
    if (winner[0] != heaviest_ && dominates(winner[0])) {
      return true;
    }
    task_.origin = least_ * 0.5 + greatest_ * 0.5;
    return false;
  }

  log_tail tail(double u) { return tail(partition_step::tail, u); }

  /// The same off by less than rough_error.
  log_tail rough_tail(double u) { return tail(partition_step::rough, u); }

  static constexpr double rough_error = 0x1p-13;

  /// About how far to the right, and to the left, one of the other classes first has the weight of the origin's.
  struct crossings {
    double right;
    double left;
  };

  crossings find_crossings() {
    double result[2];
    task_.level = std::log(weight_);
    ask(partition_step::crossings, result);
    return {result[0], result[1]};
  }

  void evaluate(partition_point* points, std::size_t count) {
    task_.points = points;
    task_.count = count;
    ask(partition_step::values, nullptr);
  }

private:
  log_tail tail(partition_step step, double u) {
    double sums[3];
    task_.u = u;
    ask(step, sums);
    weight_ = sums[0];
    return {std::log(sums[1] / sums[0]), sums[2] / sums[1]};
  }

  bool dominates(double slope) {
    task_.origin = slope;
    double log_others = rough_tail(0.0).value;
    if (std::fabs(log_others) < rough_error) {
      log_others = tail(0.0).value;
    }
    return log_others < 0;
  }

  void ask(partition_step step, double* result) {
    task_.step = step;
    task_.result = result;
    call::partition_function(Arch{}, task_);
  }

  partition_function_task<T> task_;
  bool valid_ = false;
  bool has_zeros_ = false;
  int octave_ = 0;
  double weight_ = 1.0; ///< of the classes at the origin
  double least_ = 0.0;
  double greatest_ = 0.0;
  double heaviest_ = 0.0; ///< the slope of the largest logit
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

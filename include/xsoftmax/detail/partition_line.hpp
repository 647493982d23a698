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
/// its derivatives, the cumulants of their slopes.
struct log_tail {
  double value;
  double slope;
  double curvature; ///< the variance
};

/// The same off by less than partition_line::rough_error, and one more.
struct rough_log_tail : log_tail {
  double third; ///< the third central moment
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

  log_tail tail(double u) {
    double sums[4];
    task_.u = u;
    ask(partition_step::tail, sums);
    weight_ = task_.single ? 1.0 : sums[3];
    return of_sums(sums, weight_);
  }

  rough_log_tail rough_tail(double u) {
    double sums[4];
    task_.u = u;
    ask(partition_step::rough, sums);
    const log_tail tail = of_sums(sums, weight_);
    const double square = sums[2] / sums[0];
    return {tail, sums[3] / sums[0] - tail.slope * (square + 2 * tail.curvature)};
  }

  static constexpr double rough_error = 0x1p-13;

  // Once a slope dominates:

  /// log_tail::value at 0, or a little more.
  double log_others() const { return log_others_; }

  /// How far to the right, and to the left, one of the other classes first has the weight of the origin's; about.
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

  /// The same to crossings_error of them.
  crossings find_rough_crossings() {
    // What is known is where one first reaches 1, the weight of the heaviest class.
    const auto known = [](double distance, bool exists) { return exists ? distance < 0x1p64 : distance > 0x1p64; };
    const bool serves =
        task_.single && known(start_.right, greatest_ > task_.origin) && known(start_.left, least_ < task_.origin);
    return serves ? start_ : find_crossings();
  }

  static constexpr double crossings_error = 0x1p-20;

  void evaluate(partition_point* points, std::size_t count) {
    task_.points = points;
    task_.count = count;
    ask(partition_step::values, nullptr);
  }

private:
  /// weight: of the classes at the origin
  static log_tail of_sums(const double* sums, double weight) {
    const double mean = sums[1] / sums[0];
    return {std::log(sums[0] / weight), mean, std::fmax(sums[2] / sums[0] - mean * mean, 0.0)};
  }

  bool dominates(double slope) {
    double result[6];
    task_.origin = slope;
    task_.u = 0.0;
    ask(partition_step::start, result);
    task_.single = slope == heaviest_ && result[3] <= origin_cap * (1 + 0x1p-20);
    start_ = {result[4], result[5]};
    weight_ = 1.0;
    double value = of_sums(result, weight_).value;
    log_others_ = value + rough_error;
    if (!task_.single || std::fabs(value) < rough_error) {
      value = tail(0.0).value;
      log_others_ = value;
    }
    return value < 0;
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
  double log_others_ = 0.0;
  crossings start_{};
  double least_ = 0.0;
  double greatest_ = 0.0;
  double heaviest_ = 0.0; ///< the slope of the largest logit
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

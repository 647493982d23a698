// SPDX-License-Identifier: MIT
// The partition function along a line, F(t) = sum of exp((z_k + a_k t) / T), as the tight bound and the exact radius
// look at it: scaled so that the slopes spread over [1, 2), seen from one of them.
#pragma once

#include <cmath>
#include <limits>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/radius_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// Classes of one slope that together have more than half of the weight at t = 0.
struct dominating_slope {
  bool exists = false;
  double weight = 0.0; ///< theirs, relative to the heaviest class
  double others = 0.0; ///< of all others
};

/// The weight of the others at a real point, by that of the dominating slope: log h and its derivative.
struct log_tail {
  double value;
  double slope;
};

template <class Arch, class T>
class partition_line {
public:
  partition_line(const source& z, const source& a, std::size_t classes, double temperature)
      : task_{.z = z, .a = a, .cols = classes, .temperature = temperature} {
    double range[4] = {0.0, 0.0, 0.0, 1.0};
    if (classes != 0) {
      ask(partition_step::range, range);
    }
    valid_ = range[3] != 0.0;
    has_zeros_ = valid_ && range[0] < range[1];
    if (!has_zeros_) {
      return;
    }
    task_.largest = range[2];
    // exactly, whatever the sizes
    int octave = 0;
    std::frexp(range[1] * 0.5 - range[0] * 0.5, &octave);
    octave = octave > 1000 ? 1000 : octave < -1000 ? -1000 : octave;
    task_.scale = std::ldexp(1.0, -octave);
    least_ = range[0] * task_.scale;
    greatest_ = range[1] * task_.scale;
  }

  /// Are all slopes and logits that count numbers?
  bool valid() const { return valid_; }

  /// Do the slopes differ, so that F has zeros?
  bool has_zeros() const { return has_zeros_; }

  std::size_t classes() const { return task_.cols; }

  double spread() const { return greatest_ - least_; }

  /// What t means in the units of the caller.
  double unscaled(double t) const { return t * task_.scale * task_.temperature; }

  /// Looks for it, and measures slopes from it; from the middle if there is none.
  dominating_slope find_dominating() {
    double result[4];
    ask(partition_step::vote, result);
    task_.origin = result[0] * task_.scale;
    task_.u = 0.0;
    ask(partition_step::tail, result);
    dominating_slope found{result[0] > result[1], result[0], result[1]};
    if (!found.exists) {
      task_.origin = least_ * 0.5 + greatest_ * 0.5;
    }
    return found;
  }

  /// At a real u, by the weight of the dominating slope.
  log_tail tail(double u, double weight) {
    double result[4];
    task_.u = u;
    ask(partition_step::tail, result);
    return {std::log(result[1] / weight), result[2] / result[1]};
  }

  /// How far to the right, and to the left, a class reaches the dominating slope's weight; and up to where all of them
  /// together certainly do not.
  struct crossing {
    double most;
    double least;
  };

  void find_crossings(double weight, crossing& right, crossing& left) {
    double result[4];
    task_.level = std::log(weight);
    task_.margin = std::log(static_cast<double>(task_.cols));
    ask(partition_step::crossings, result);
    right = {result[0], result[1]};
    left = {result[2], result[3]};
  }

  void evaluate(partition_point* points, std::size_t count) {
    task_.points = points;
    task_.count = count;
    ask(partition_step::values, nullptr);
  }

private:
  void ask(partition_step step, double* result) {
    task_.step = step;
    task_.result = result;
    call::partition_function(Arch{}, task_);
  }

  partition_function_task<T> task_;
  bool valid_ = false;
  bool has_zeros_ = false;
  double least_ = 0.0;
  double greatest_ = 0.0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
#include "reference.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace xsoftmax::test {

namespace wide {

pair sum(long double a, long double b) {
  const long double high = a + b;
  const long double part = high - a;
  return {high, (a - (high - part)) + (b - part)};
}

pair quotient(pair x, long double divisor) {
  const long double high = x.high / divisor;
  if (!std::isfinite(high)) {
    return {high, 0};
  }
  return {high, (std::fma(-high, divisor, x.high) + x.low) / divisor};
}

long double exp(pair x) {
  const long double high = std::exp(x.high);
  return high == 0 ? 0 : high + high * x.low;
}

pair shifted(long double x, long double shift, long double temperature) {
  const pair gap = sum(x, -shift);
  return temperature == 1 ? gap : quotient(gap, temperature);
}

long double shifted_exp(long double x, long double shift, long double temperature) {
  return std::isinf(x) ? 0 : exp(shifted(x, shift, temperature));
}

void accumulator::add(long double x) {
  const pair s = sum(total_, x);
  total_ = s.high;
  rest_ += s.low;
}

} // namespace wide

template <class T>
reference_softmax<T>::reference_softmax(const T* z, std::size_t n, const reference_options& options)
    : z_(z), temperature_(options.temperature) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double sink = options.sink.value_or(-infinity);
  bool nan = false;
  bool plus_infinity = false;
  maximum_ = -infinity;
  for (std::size_t i = 0; i < n; ++i) {
    nan = nan || std::isnan(z[i]);
    plus_infinity = plus_infinity || z[i] == std::numeric_limits<T>::infinity();
    if (static_cast<long double>(z[i]) > maximum_) {
      maximum_ = z[i];
      first_ = i;
    }
  }
  if (nan || plus_infinity) {
    kind_ = kind::nan;
  } else if (std::isinf(maximum_)) {
    kind_ = options.masked_row_is_zero || !std::isinf(sink) ? kind::zero : kind::nan;
    sink_share_ = std::isinf(sink) ? 0 : 1;
  } else if (temperature_ == 0) {
    kind_ = static_cast<long double>(sink) > maximum_ ? kind::zero : kind::one_hot;
    sink_share_ = kind_ == kind::zero ? 1 : 0;
  } else {
    kind_ = kind::ordinary;
    maximum_ = std::max(maximum_, static_cast<long double>(sink));
    wide::accumulator others; // than those equal to the maximum, which are counted
    long double count = 0;
    const auto add = [&](long double x) {
      if (x == maximum_) {
        ++count;
      } else {
        others.add(wide::shifted_exp(x, maximum_, temperature_));
      }
    };
    for (std::size_t i = 0; i < n; ++i) {
      add(z[i]);
    }
    add(sink);
    total_ = count + others.value();
    log_total_ = count == 1 ? std::log1p(others.value()) : std::log(total_);
    sink_share_ = wide::shifted_exp(sink, maximum_, temperature_) / total_;
  }
}

template <class T>
long double reference_softmax<T>::probability(std::size_t i) const {
  switch (kind_) {
  case kind::nan:
    return std::numeric_limits<long double>::quiet_NaN();
  case kind::zero:
    return 0;
  case kind::one_hot:
    return i == first_ ? 1 : 0;
  default:
    return wide::shifted_exp(z_[i], maximum_, temperature_) / total_;
  }
}

template <class T>
long double reference_softmax<T>::log_probability(std::size_t i) const {
  if (kind_ == kind::ordinary && !std::isinf(z_[i])) {
    const wide::pair gap = wide::shifted(z_[i], maximum_, temperature_);
    return (gap.high - log_total_) + gap.low;
  }
  return std::log(probability(i));
}

template <class T>
std::pair<long double, long double> reference_softmax<T>::log_sum_exp() const {
  const wide::pair q = wide::quotient({maximum_, 0}, temperature_);
  const long double result = (q.high + log_total_) + q.low;
  return {result, std::max(std::fabs(q.high), std::fabs(result))};
}

template <class T>
bool reference_softmax<T>::normalised() const {
  return kind_ == kind::ordinary || kind_ == kind::one_hot || (kind_ == kind::zero && sink_share_ == 1);
}

template class reference_softmax<float>;
template class reference_softmax<double>;

} // namespace xsoftmax::test

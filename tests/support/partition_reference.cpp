// SPDX-License-Identifier: MIT
#include "partition_reference.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "ulp.hpp"

namespace xsoftmax::test {

template <class T>
partition_reference::partition_reference(const std::vector<T>& z, const std::vector<T>& a, double temperature)
    : temperature_(temperature) {
  real largest = -std::numeric_limits<real>::infinity();
  real least = std::numeric_limits<real>::infinity();
  real greatest = -std::numeric_limits<real>::infinity();
  for (std::size_t k = 0; k < z.size(); ++k) {
    if (!(z[k] == -std::numeric_limits<T>::infinity())) {
      largest = std::max(largest, static_cast<real>(z[k]));
      least = std::min(least, static_cast<real>(a[k]));
      greatest = std::max(greatest, static_cast<real>(a[k]));
    }
  }
  spread_ = greatest - least;
  for (std::size_t k = 0; k < z.size(); ++k) {
    if (!(z[k] == -std::numeric_limits<T>::infinity())) {
      logits_.push_back((static_cast<real>(z[k]) - largest) / temperature_);
      slopes_.push_back((static_cast<real>(a[k]) - least) - spread_ / 2);
      gap_ = std::max(gap_, -logits_.back());
    }
  }
}

partition_reference::tight partition_reference::tight_bound() const {
  const auto dominating = std::find_if(slopes_.begin(), slopes_.end(), [&](real a) { return log_h(a, 0).value < 0; });
  if (dominating == slopes_.end()) {
    return {bound(), 0, 0, 0};
  }
  const real a = *dominating;
  const real start = log_h(a, 0).value;
  real nearest = std::numeric_limits<real>::infinity();
  for (const real side : {real(1), real(-1)}) {
    const bool overtaken = std::any_of(slopes_.begin(), slopes_.end(), [&](real b) { return side * (b - a) > 0; });
    if (!overtaken) {
      continue;
    }
    real low = 0;
    real high = 1 / spread_;
    while (log_h(a, side * high).value < 0) {
      low = high;
      high *= 2;
    }
    for (int i = 0; i < 70; ++i) {
      const real middle = low + (high - low) / 2;
      (log_h(a, side * middle).value < 0 ? low : high) = middle;
    }
    nearest = high < std::fabs(nearest) ? side * high : nearest;
  }
  return {std::hypot(nearest * temperature_, bound()), std::fabs(nearest) * temperature_, start,
          log_h(a, nearest).rate / temperature_};
}

partition_reference::point partition_reference::at(complex t) const {
  const real u = t.real() / temperature_;
  const real y = t.imag() / temperature_;
  real largest = -std::numeric_limits<real>::infinity();
  for (std::size_t k = 0; k < logits_.size(); ++k) {
    largest = std::max(largest, logits_[k] + slopes_[k] * u);
  }
  point p{};
  for (std::size_t k = 0; k < logits_.size(); ++k) {
    const real exponent = logits_[k] + slopes_[k] * u - largest;
    if (exponent > -80) { // 1e-35
      const complex term = std::polar(std::exp(exponent), slopes_[k] * y);
      p.f += term;
      p.slope += slopes_[k] * term;
      p.curvature += slopes_[k] * slopes_[k] * std::exp(exponent);
    }
  }
  return p;
}

partition_reference::real partition_reference::step_at(complex t) const {
  const point p = at(t);
  return std::abs(p.f / p.slope) * temperature_;
}

std::optional<long> partition_reference::zeros_inside(real radius, std::size_t most_points) const {
  const real most_step = 1 / spread_; // no term grows by more than exp(1/2) on the way
  const real size = radius / temperature_;
  real angle = 0;
  real turn = 0;
  point last = at(radius);
  for (std::size_t points = 0; points < most_points; ++points) {
    const real curvature = last.curvature * std::exp(0.5L);
    const real value = std::abs(last.f);
    const real rate = std::abs(last.slope);
    const real step = std::min(most_step, 1.4L * value / (rate + std::sqrt(rate * rate + 1.4L * value * curvature)));
    const bool ends = angle + step / size >= pi;
    angle = ends ? pi : angle + step / size;
    const point next = at(std::polar(radius, angle));
    turn += std::arg(next.f * std::conj(last.f) / (value * value));
    last = next;
    if (ends) {
      const real zeros = turn / pi;
      const real whole = std::round(zeros);
      return std::fabs(zeros - whole) < 1e-6L ? std::optional<long>(static_cast<long>(whole)) : std::nullopt;
    }
  }
  return std::nullopt;
}

std::vector<partition_reference::real> partition_reference::taylor(real radius, std::size_t n) const {
  std::vector<real> f(n + 1);
  for (std::size_t k = 0; k < logits_.size(); ++k) {
    real term = std::exp(logits_[k]);
    const real x = slopes_[k] * radius / temperature_;
    for (std::size_t j = 0; j <= n; ++j) {
      f[j] += term;
      term *= x / static_cast<real>(j + 1);
    }
  }
  std::vector<real> c(n);
  for (std::size_t j = 0; j < n; ++j) {
    real sum = static_cast<real>(j + 1) * f[j + 1];
    for (std::size_t i = 0; i < j; ++i) {
      sum -= c[i] * f[j - i];
    }
    c[j] = sum / f[0];
  }
  return c;
}

partition_reference::tail partition_reference::log_h(real a, real u) const {
  real largest = -std::numeric_limits<real>::infinity();
  for (std::size_t k = 0; k < logits_.size(); ++k) {
    if (slopes_[k] != a) {
      largest = std::max(largest, logits_[k] + (slopes_[k] - a) * u);
    }
  }
  real own = 0;
  real others = 0;
  real moment = 0;
  for (std::size_t k = 0; k < logits_.size(); ++k) {
    if (slopes_[k] == a) {
      own += std::exp(logits_[k]);
    } else {
      const real term = std::exp(logits_[k] + (slopes_[k] - a) * u - largest);
      others += term;
      moment += (slopes_[k] - a) * term;
    }
  }
  return {std::log(others) + largest - std::log(own), moment / others};
}

template <class T>
std::string text_of(const radius_problem<T>& problem) {
  std::string text = "T = " + exact_text(problem.temperature);
  for (std::size_t k = 0; k < problem.z.size(); ++k) {
    char pair[80];
    std::snprintf(pair, sizeof pair, ", {%a, %a}", static_cast<double>(problem.z[k]),
                  static_cast<double>(problem.a[k]));
    text += pair;
  }
  return text;
}

template partition_reference::partition_reference(const std::vector<float>&, const std::vector<float>&, double);
template std::string text_of(const radius_problem<float>&);
template partition_reference::partition_reference(const std::vector<double>&, const std::vector<double>&, double);
template std::string text_of(const radius_problem<double>&);

} // namespace xsoftmax::test

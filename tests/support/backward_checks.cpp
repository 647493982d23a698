// SPDX-License-Identifier: MIT
#include "backward_checks.hpp"

#include <cmath>
#include <limits>

namespace xsoftmax::test {

template <class Of, class T>
std::vector<T> forward(const std::vector<T>& z) {
  const reference_softmax<T> exact(z.data(), z.size());
  std::vector<T> y(z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    y[i] = std::isinf(z[i]) ? Of::template masked<T> : Of::template forward<T>(exact.probability(i));
  }
  return y;
}

template <class T>
std::vector<T> make_gradient(gradient_kind kind, std::size_t n, std::uint64_t seed) {
  generator random(seed * 7919 + n * 3 + static_cast<std::uint64_t>(kind));
  const double end = std::is_same_v<T, float> ? 1e37 : 1e306;
  const double tiny = std::is_same_v<T, float> ? 1e-30 : 1e-250;
  std::vector<T> dy(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double x = random.normal();
    switch (kind) {
    case gradient_kind::normal:
      dy[i] = static_cast<T>(x);
      break;
    case gradient_kind::huge:
      dy[i] = static_cast<T>(x * end);
      break;
    case gradient_kind::small:
      dy[i] = static_cast<T>(x * tiny);
      break;
    case gradient_kind::one_hot:
      dy[i] = i == n / 2 ? T(1) : T(0);
      break;
    case gradient_kind::equal:
      dy[i] = T(0.7);
      break;
    case gradient_kind::near_equal:
      dy[i] = static_cast<T>(0.7 + x * 1e-6);
      break;
    case gradient_kind::opposite:
      dy[i] = static_cast<T>((i % 2 == 0 ? 1e6 : -1e6) + x);
      break;
    }
  }
  return dy;
}

template <class Of, class T>
reference_backward<Of, T>::reference_backward(const std::vector<T>& y, const std::vector<T>& dy, double temperature)
    : y_(y), dy_(dy), temperature_(temperature) {
  wide::accumulator sum;
  wide::accumulator magnitude;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (y[i] == Of::template masked<T>) {
      continue;
    }
    const long double factor = logarithmic ? 1 : y[i];
    const long double product = factor * dy[i];
    sum.add(product);
    sum.add(std::fma(factor, static_cast<long double>(dy[i]), -product));
    magnitude.add(std::fabs(product));
  }
  sum_ = sum.parts();
  magnitude_ = magnitude.value();
}

template <class Of, class T>
long double reference_backward<Of, T>::value(std::size_t i) const {
  if (y_[i] == Of::template masked<T> || temperature_ == 0) {
    return 0;
  }
  const auto dy = static_cast<long double>(dy_[i]);
  if constexpr (logarithmic) {
    return std::fma(-weight(i), sum_.high, dy) / temperature_;
  } else {
    const wide::pair difference = wide::sum(dy, -sum_.high);
    return y_[i] * (difference.high + (difference.low - sum_.low)) / temperature_;
  }
}

template <class Of, class T>
long double reference_backward<Of, T>::allowance(std::size_t i) const {
  const long double scale = weight(i) / temperature_;
  const long double unit = single ? 0x1p-45L : 0x1p-89L;
  const long double exponential = logarithmic && !single ? 0x1p-51L * std::fabs(sum_.high) : 0.0L;
  // Products, an exponential or p / T below the range of double.
  constexpr long double smallest = std::numeric_limits<double>::denorm_min();
  long double lost = smallest * static_cast<long double>(y_.size()) * scale;
  if constexpr (logarithmic) {
    lost += smallest * std::fabs(sum_.high) / temperature_;
  } else if constexpr (!single) {
    lost += smallest * std::fabs(dy_[i] - sum_.high);
  }
  return scale * (unit * magnitude_ + exponential) + lost;
}

template <class Of, class T>
long double reference_backward<Of, T>::weight(std::size_t i) const {
  return logarithmic ? std::exp(static_cast<long double>(y_[i])) : static_cast<long double>(std::fabs(y_[i]));
}

template <class T>
std::string describe_gradient(const std::vector<T>& y, const std::vector<T>& dy, double temperature) {
  return describe(y, {.temperature = temperature}) + "; dy = " + (dy.empty() ? "" : exact_text(dy[0])) + " ...";
}

template <class Of, class T>
double expect_right_gradient(findings& found, const std::vector<T>& y, const std::vector<T>& dy, double temperature,
                             const std::vector<T>& dz, const std::string& what) {
  const reference_backward<Of, T> exact(y, dy, temperature);
  double largest = 0;
  std::size_t where = 0;
  bool masked_is_zero = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const long double value = exact.value(i);
    double error = ulp_distance(dz[i], value);
    if (temperature == 0 || y[i] == Of::template masked<T>) {
      masked_is_zero = masked_is_zero && bits(dz[i]) == 0;
    } else {
      error = std::fmax(0.0, error - static_cast<double>(exact.allowance(i) / unit_in_last_place<T>(value)));
    }
    if (error > largest || !(error <= largest)) {
      largest = error;
      where = i;
    }
  }
  found.expect(largest <= exact.ulp(), [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(dz[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.value(where)) +
           "; y, dy there = " + exact_text(y[where]) + ", " + exact_text(dy[where]) + "; " +
           describe_gradient(y, dy, temperature);
  });
  found.expect(masked_is_zero, [&] { return what + ": a masked element's gradient is not +0"; });
  return largest;
}

template std::vector<float> make_gradient(gradient_kind, std::size_t, std::uint64_t);
template std::string describe_gradient(const std::vector<float>&, const std::vector<float>&, double);
template std::vector<float> forward<of_softmax>(const std::vector<float>&);
template class reference_backward<of_softmax, float>;
template double expect_right_gradient<of_softmax>(findings&, const std::vector<float>&, const std::vector<float>&,
                                                  double, const std::vector<float>&, const std::string&);
template std::vector<float> forward<of_log_softmax>(const std::vector<float>&);
template class reference_backward<of_log_softmax, float>;
template double expect_right_gradient<of_log_softmax>(findings&, const std::vector<float>&, const std::vector<float>&,
                                                      double, const std::vector<float>&, const std::string&);
template std::vector<double> make_gradient(gradient_kind, std::size_t, std::uint64_t);
template std::string describe_gradient(const std::vector<double>&, const std::vector<double>&, double);
template std::vector<double> forward<of_softmax>(const std::vector<double>&);
template class reference_backward<of_softmax, double>;
template double expect_right_gradient<of_softmax>(findings&, const std::vector<double>&, const std::vector<double>&,
                                                  double, const std::vector<double>&, const std::string&);
template std::vector<double> forward<of_log_softmax>(const std::vector<double>&);
template class reference_backward<of_log_softmax, double>;
template double expect_right_gradient<of_log_softmax>(findings&, const std::vector<double>&, const std::vector<double>&,
                                                      double, const std::vector<double>&, const std::string&);

} // namespace xsoftmax::test

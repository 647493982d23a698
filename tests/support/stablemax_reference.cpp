// SPDX-License-Identifier: MIT
#include "stablemax_reference.hpp"

#include <cmath>
#include <limits>

namespace xsoftmax::test {

const char* name(stable_row_kind kind) {
  constexpr const char* names[] = {"positive",        "negative",        "near_zero",       "points",   "exponents",
                                   "exponents_above", "exponents_below", "largest",         "lowest",   "both_ends",
                                   "masked_lowest",   "dominated",       "dominated_below", "absorbed", "near_ties"};
  return names[static_cast<int>(kind)];
}

template <class T>
std::vector<T> make_row(stable_row_kind kind, std::size_t n, std::uint64_t seed) {
  using limits = std::numeric_limits<T>;
  constexpr bool single = std::is_same_v<T, float>;
  generator random(seed * 1000033 + n * 37 + static_cast<std::uint64_t>(kind));
  constexpr double lowest_octave = limits::min_exponent - limits::digits;
  constexpr double highest_octave = limits::max_exponent - 0.5;
  const T points[] = {T(0),
                      T(-0.0),
                      T(1),
                      T(-1),
                      limits::denorm_min(),
                      -limits::denorm_min(),
                      limits::min(),
                      -limits::min(),
                      limits::epsilon(),
                      -limits::epsilon()};
  const auto near_end = [&] {
    return random.below(4) == 0 ? limits::max() : limits::max() * static_cast<T>(random.uniform(0.5, 1));
  };
  const double centre = random.uniform(-20, 20);
  std::vector<T> z(n);
  for (T& x : z) {
    switch (kind) {
    case stable_row_kind::positive:
      x = static_cast<T>(random.uniform(0, 50));
      break;
    case stable_row_kind::negative:
      x = static_cast<T>(random.uniform(-50, 0));
      break;
    case stable_row_kind::near_zero:
      x = static_cast<T>(random.normal() * (single ? 0x1p-12 : 0x1p-30));
      break;
    case stable_row_kind::points:
      x = points[random.below(std::size(points))];
      break;
    case stable_row_kind::exponents:
      x = random_size<T>(random, lowest_octave, highest_octave) * (random.below(2) == 0 ? T(1) : T(-1));
      break;
    case stable_row_kind::exponents_above:
      x = random_size<T>(random, lowest_octave, highest_octave);
      break;
    case stable_row_kind::exponents_below:
      x = -random_size<T>(random, lowest_octave, highest_octave);
      break;
    case stable_row_kind::largest:
      x = near_end();
      break;
    case stable_row_kind::lowest:
      x = -near_end();
      break;
    case stable_row_kind::both_ends: {
      const T ends[] = {limits::max(), limits::lowest(), T(0)};
      x = ends[random.below(3)];
      break;
    }
    case stable_row_kind::masked_lowest:
      x = random.below(2) == 0 ? -limits::infinity() : -near_end();
      break;
    case stable_row_kind::dominated:
      x = static_cast<T>(3 * random.normal());
      break;
    case stable_row_kind::dominated_below:
      x = -random_size<T>(random, 0, highest_octave / 4);
      break;
    case stable_row_kind::absorbed: // s = 2^-12 (2^-27)
      x = single ? T(-0x1p12 + 1) : T(-0x1p27 + 1);
      break;
    case stable_row_kind::near_ties:
      x = static_cast<T>(centre);
      for (std::size_t step = random.below(4); step > 0; --step) {
        x = std::nextafter(x, limits::max());
      }
      break;
    }
  }
  if (n != 0) {
    switch (kind) {
    case stable_row_kind::dominated:
      z[random.below(n)] = random_size<T>(random, 0, highest_octave);
      break;
    case stable_row_kind::dominated_below:
      z[random.below(n)] = random_size<T>(random, 0, highest_octave / 2);
      break;
    case stable_row_kind::absorbed: // s = 2^13 (2^27)
      z[random.below(n)] = single ? T(0x1p13 - 1) : T(0x1p27 - 1);
      break;
    case stable_row_kind::masked_lowest:
      z[random.below(n)] = -near_end();
      break;
    default:
      break;
    }
  }
  return z;
}

template <class T>
std::vector<T> make_any_row(std::uint64_t number, std::size_t n, std::uint64_t seed) {
  const auto kind = static_cast<std::size_t>(number % (std::size(row_kinds) + std::size(stable_row_kinds)));
  return kind < std::size(row_kinds) ? make_row<T>(row_kinds[kind], n, seed)
                                     : make_row<T>(stable_row_kinds[kind - std::size(row_kinds)], n, seed);
}

namespace wide {

long double stable_weight(long double x) {
  return x < 0 ? 1 / (1 - x) : x + 1;
}

} // namespace wide

template <class T>
reference_stablemax<T>::reference_stablemax(const std::vector<T>& z, masked_row_policy policy) : z_(z) {
  bool invalid = false;
  for (const T x : z) {
    invalid = invalid || std::isnan(x) || x == std::numeric_limits<T>::infinity();
    maximum_ = static_cast<long double>(x) > maximum_ ? static_cast<long double>(x) : maximum_;
  }
  if (invalid) {
    kind_ = kind::nan;
  } else if (std::isinf(maximum_)) {
    kind_ = policy == masked_row_policy::zero ? kind::zero : kind::nan;
  } else {
    kind_ = kind::ordinary;
    wide::accumulator others; // than those equal to the maximum, which are counted
    for (const T x : z) {
      if (static_cast<long double>(x) == maximum_) {
        ++count_;
      } else {
        others.add(wide::stable_weight(x));
      }
    }
    rest_ = others.value() / wide::stable_weight(maximum_);
    total_ = others.value() + count_ * wide::stable_weight(maximum_);
  }
}

template <class T>
long double reference_stablemax<T>::probability(std::size_t i) const {
  switch (kind_) {
  case kind::nan:
    return std::numeric_limits<long double>::quiet_NaN();
  case kind::zero:
    return 0;
  default:
    return wide::stable_weight(z_[i]) / total_;
  }
}

template <class T>
long double reference_stablemax<T>::log_probability(std::size_t i) const {
  return kind_ == kind::ordinary && count_ == 1 && static_cast<long double>(z_[i]) == maximum_
             ? -std::log1p(rest_)
             : std::log(probability(i));
}

template <class T>
std::string describe_row(const std::vector<T>& z) {
  std::string text = scalar_name<T>() + ", n = " + std::to_string(z.size()) + ", z =";
  for (std::size_t i = 0; i < z.size() && i < 8; ++i) {
    text += ' ' + exact_text(z[i]);
  }
  return z.size() > 8 ? text + " ..." : text;
}

template <class T>
void expect_same_row(findings& found, const std::vector<T>& z, const T* expected, const T* got,
                     const std::string& what) {
  const std::size_t i = first_difference(expected, got, z.size());
  found.expect(i == z.size(), [&] {
    return what + ": element " + std::to_string(i) + " is " + exact_text(got[i]) + ", not " + exact_text(expected[i]) +
           "; " + describe_row(z);
  });
}

template <class Of, class T>
void expect_right_stablemax(findings& found, const std::vector<T>& z, const T* y, masked_row_policy policy,
                            const std::string& what, worst_errors* worst) {
  const reference_stablemax<T> exact(z, policy);
  double largest = 0;
  std::size_t where = 0;
  bool masked = true;
  wide::accumulator total;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double error = ulp_distance(y[i], exact.template value<Of>(i));
    if (!(error <= largest)) {
      largest = error;
      where = i;
    }
    if (z[i] == -std::numeric_limits<T>::infinity() && exact.probability(i) == 0) {
      masked = masked && bits(y[i]) == bits(Of::template masked<T>);
    }
    total.add(y[i]);
  }
  found.expect(largest <= Of::template bound<T>, [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(y[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.template value<Of>(where)) +
           "; z there = " + exact_text(z[where]) + "; " + describe_row(z);
  });
  found.expect(masked, [&] { return what + ": a logit of -inf has weight; " + describe_row(z); });
  if (worst != nullptr && largest > worst->ulp) {
    worst->ulp = largest;
    worst->ulp_witness =
        what + ", element " + std::to_string(where) + ", z there = " + exact_text(z[where]) + ", " + describe_row(z);
  }
  if (!Of::logarithmic && exact.normalised() && !z.empty()) {
    total.add(-1);
    const double off = static_cast<double>(std::fabs(total.value()) * std::ldexp(1.0L, std::numeric_limits<T>::digits));
    found.expect(off <= sum_bound,
                 [&] { return what + ": the sum is off by " + std::to_string(off) + " units; " + describe_row(z); });
    if (worst != nullptr && off > worst->sum) {
      worst->sum = off;
      worst->sum_witness = what + ", " + describe_row(z);
    }
  }
}

template <class Of, class T>
std::vector<T> exact_results(const std::vector<T>& z) {
  const reference_stablemax<T> exact(z);
  std::vector<T> y(z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    y[i] = std::isinf(z[i]) ? Of::template masked<T> : static_cast<T>(exact.template value<Of>(i));
  }
  return y;
}

template <class Of, class T>
reference_stablemax_backward<Of, T>::reference_stablemax_backward(const std::vector<T>& z, const std::vector<T>& y,
                                                                  const std::vector<T>& dy)
    : z_(z), y_(y), dy_(dy) {
  wide::accumulator sum;
  wide::accumulator magnitude;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (is_masked(i)) {
      continue;
    }
    const long double factor = Of::logarithmic ? 1 : y[i];
    const long double product = factor * dy[i];
    sum.add(product);
    sum.add(std::fma(factor, static_cast<long double>(dy[i]), -product));
    magnitude.add(std::fabs(product));
  }
  sum_ = sum.parts();
  magnitude_ = magnitude.value();
}

template <class Of, class T>
long double reference_stablemax_backward<Of, T>::value(std::size_t i) const {
  if (is_masked(i)) {
    return 0;
  }
  const auto dy = static_cast<long double>(dy_[i]);
  if constexpr (Of::logarithmic) {
    const long double p = std::exp(static_cast<long double>(y_[i]));
    return (std::fma(-p, sum_.high, dy) - p * sum_.low) / denominator(i);
  } else {
    const wide::pair difference = wide::sum(dy, -sum_.high);
    return y_[i] * (difference.high + (difference.low - sum_.low)) / denominator(i);
  }
}

template <class Of, class T>
long double reference_stablemax_backward<Of, T>::allowance(std::size_t i) const {
  constexpr long double smallest = std::numeric_limits<double>::denorm_min();
  const auto n = static_cast<long double>(y_.size());
  const long double sum = std::fabs(sum_.high);
  if constexpr (Of::logarithmic) {
    const long double e = std::exp(static_cast<long double>(y_[i])) / denominator(i);
    return single ? e * 0x1p-45L * magnitude_ + smallest * sum
                  : e * (0x1p-51L * sum + 0x1p-89L * magnitude_) + smallest * (n * e + sum);
  } else {
    const long double p = std::fabs(static_cast<long double>(y_[i]));
    return single ? p / denominator(i) * 0x1p-45L * magnitude_
                  : p / denominator(i) * 0x1p-89L * magnitude_ +
                        smallest * (n * p + std::fabs(static_cast<long double>(dy_[i]) - sum_.high));
  }
}

template <class Of, class T>
void expect_right_stablemax_gradient(findings& found, const std::vector<T>& z, const std::vector<T>& y,
                                     const std::vector<T>& dy, const std::vector<T>& dz, const std::string& what,
                                     worst_errors* worst) {
  const reference_stablemax_backward<Of, T> exact(z, y, dy);
  double largest = 0;
  std::size_t where = 0;
  bool masked_is_zero = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const long double value = exact.value(i);
    if (exact.is_masked(i)) {
      masked_is_zero = masked_is_zero && bits(dz[i]) == 0;
      continue;
    }
    double error = ulp_distance(dz[i], value);
    if (error > 0) {
      error = std::fmax(0.0, error - static_cast<double>(exact.allowance(i) / unit_in_last_place<T>(value)));
    }
    if (!(error <= largest)) {
      largest = error;
      where = i;
    }
  }
  const auto text = [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(dz[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.value(where)) +
           "; z, y, dy there = " + exact_text(z[where]) + ", " + exact_text(y[where]) + ", " + exact_text(dy[where]) +
           "; " + describe_row(z);
  };
  found.expect(largest <= exact.ulp, text);
  found.expect(masked_is_zero, [&] { return what + ": a masked element's gradient is not +0; " + describe_row(z); });
  if (worst != nullptr && largest > worst->ulp) {
    worst->ulp = largest;
    worst->ulp_witness = text();
  }
}

template std::vector<float> make_row(stable_row_kind, std::size_t, std::uint64_t);
template std::vector<float> make_any_row(std::uint64_t, std::size_t, std::uint64_t);
template class reference_stablemax<float>;
template std::string describe_row(const std::vector<float>&);
template void expect_same_row(findings&, const std::vector<float>&, const float*, const float*, const std::string&);
template void expect_right_stablemax<of_stablemax>(findings&, const std::vector<float>&, const float*,
                                                   masked_row_policy, const std::string&, worst_errors*);
template std::vector<float> exact_results<of_stablemax>(const std::vector<float>&);
template class reference_stablemax_backward<of_stablemax, float>;
template void expect_right_stablemax_gradient<of_stablemax>(findings&, const std::vector<float>&,
                                                            const std::vector<float>&, const std::vector<float>&,
                                                            const std::vector<float>&, const std::string&,
                                                            worst_errors*);
template void expect_right_stablemax<of_log_stablemax>(findings&, const std::vector<float>&, const float*,
                                                       masked_row_policy, const std::string&, worst_errors*);
template std::vector<float> exact_results<of_log_stablemax>(const std::vector<float>&);
template class reference_stablemax_backward<of_log_stablemax, float>;
template void expect_right_stablemax_gradient<of_log_stablemax>(findings&, const std::vector<float>&,
                                                                const std::vector<float>&, const std::vector<float>&,
                                                                const std::vector<float>&, const std::string&,
                                                                worst_errors*);
template std::vector<double> make_row(stable_row_kind, std::size_t, std::uint64_t);
template std::vector<double> make_any_row(std::uint64_t, std::size_t, std::uint64_t);
template class reference_stablemax<double>;
template std::string describe_row(const std::vector<double>&);
template void expect_same_row(findings&, const std::vector<double>&, const double*, const double*, const std::string&);
template void expect_right_stablemax<of_stablemax>(findings&, const std::vector<double>&, const double*,
                                                   masked_row_policy, const std::string&, worst_errors*);
template std::vector<double> exact_results<of_stablemax>(const std::vector<double>&);
template class reference_stablemax_backward<of_stablemax, double>;
template void expect_right_stablemax_gradient<of_stablemax>(findings&, const std::vector<double>&,
                                                            const std::vector<double>&, const std::vector<double>&,
                                                            const std::vector<double>&, const std::string&,
                                                            worst_errors*);
template void expect_right_stablemax<of_log_stablemax>(findings&, const std::vector<double>&, const double*,
                                                       masked_row_policy, const std::string&, worst_errors*);
template std::vector<double> exact_results<of_log_stablemax>(const std::vector<double>&);
template class reference_stablemax_backward<of_log_stablemax, double>;
template void expect_right_stablemax_gradient<of_log_stablemax>(findings&, const std::vector<double>&,
                                                                const std::vector<double>&, const std::vector<double>&,
                                                                const std::vector<double>&, const std::string&,
                                                                worst_errors*);

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
#include "log_checks.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

namespace xsoftmax::test {

template <class T>
std::vector<std::optional<double>> sinks(const std::vector<T>& z) {
  std::vector<std::optional<double>> list = {std::nullopt, 0.0, -1e308};
  const double largest = *std::max_element(z.begin(), z.end());
  if (std::isfinite(largest)) {
    list.insert(list.end(), {largest, largest - 2.5, largest + 1.25, largest + 90});
  }
  return list;
}

template <class T>
std::string describe(const std::vector<T>& z, const log_softmax_options& options) {
  return describe(z, softmax_options{.temperature = options.temperature, .sink = options.sink});
}

template <class T>
double expect_right_log(findings& found, const std::vector<T>& z, const T* y, const log_softmax_options& options,
                        const std::string& what, double bound) {
  const reference_softmax<T> exact(z.data(), z.size(),
                                   {options.temperature, options.masked_row == masked_row_policy::zero, options.sink});
  double largest = 0;
  std::size_t where = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double error = ulp_distance(y[i], exact.log_probability(i));
    if (!(error <= largest)) {
      largest = error;
      where = i;
    }
  }
  found.expect(largest <= bound, [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(y[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.log_probability(where)) +
           "; z there = " + exact_text(z[where]) + "; " + describe(z, options);
  });
  return largest;
}

template <class T>
double expect_right_log_sum_exp(findings& found, const std::vector<T>& z, T value, const log_sum_exp_options& options,
                                const std::string& what, double bound) {
  const reference_softmax<T> reference(z.data(), z.size(), {options.temperature, false, options.sink});
  // clang 14 captures no structured binding.
  const std::pair<long double, long double> exact_and_size = reference.log_sum_exp();
  const long double exact = exact_and_size.first;
  const long double size = exact_and_size.second;
  const double error = std::isinf(value) ? ulp_distance(value, exact)
                                         : static_cast<double>(std::fabs(value - exact) / unit_in_last_place<T>(size));
  found.expect(error <= bound, [&] {
    return what + ": " + exact_text(value) + ", off by " + std::to_string(error) + " units from " + exact_text(exact) +
           "; " + describe(z, log_softmax_options{.temperature = options.temperature, .sink = options.sink});
  });
  return error;
}

template std::vector<std::optional<double>> sinks(const std::vector<float>&);
template std::string describe(const std::vector<float>&, const log_softmax_options&);
template double expect_right_log(findings&, const std::vector<float>&, const float*, const log_softmax_options&,
                                 const std::string&, double);
template double expect_right_log_sum_exp(findings&, const std::vector<float>&, float, const log_sum_exp_options&,
                                         const std::string&, double);
template std::vector<std::optional<double>> sinks(const std::vector<double>&);
template std::string describe(const std::vector<double>&, const log_softmax_options&);
template double expect_right_log(findings&, const std::vector<double>&, const double*, const log_softmax_options&,
                                 const std::string&, double);
template double expect_right_log_sum_exp(findings&, const std::vector<double>&, double, const log_sum_exp_options&,
                                         const std::string&, double);

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
#include "ulp.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace xsoftmax::test {

template <class T>
long double unit_in_last_place(long double x) {
  using limits = std::numeric_limits<T>;
  int exponent = limits::min_exponent - 1;
  if (x != 0) {
    exponent = std::max(exponent, std::ilogb(x));
  }
  return std::ldexp(1.0L, exponent - limits::digits + 1);
}

template <class T>
double ulp_distance(T computed, long double exact) {
  if (std::isnan(computed) || std::isnan(exact)) {
    return std::isnan(computed) && std::isnan(exact) ? 0 : std::numeric_limits<double>::infinity();
  }
  constexpr long double largest = std::numeric_limits<T>::max();
  const long double overflow = largest + unit_in_last_place<T>(largest) / 2;
  if (std::isinf(computed) || std::isinf(exact)) {
    const bool agree = computed > 0 ? exact >= overflow && computed > std::numeric_limits<T>::max()
                                    : exact <= -overflow && computed < std::numeric_limits<T>::lowest();
    if (agree) {
      return 0;
    }
    if (std::isinf(computed)) {
      return std::numeric_limits<double>::infinity();
    }
  }
  return static_cast<double>(std::fabs(static_cast<long double>(computed) - exact) / unit_in_last_place<T>(exact));
}

template long double unit_in_last_place<float>(long double);
template long double unit_in_last_place<double>(long double);
template double ulp_distance(float, long double);
template double ulp_distance(double, long double);

} // namespace xsoftmax::test

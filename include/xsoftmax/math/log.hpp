// SPDX-License-Identifier: MIT
// The logarithm of a sum in which the terms equal to the largest have been counted and the others added up: log(c + r),
// accurate relative to its result even where that is tiny, c = 1 and r -> 0.
//
//   c + r = 2^k (1 + f)            1 + f in [sqrt(1/2), sqrt(2)), f as a pair; k = 0 and f = r where r is small
//   log(1 + f) = u + u^3 P(u^2)    u = f / (1 + f / 2) as a pair: 2 atanh(u / 2)
//
// P was made by cmake/coeffs/log.sollya, which also prints its error.
#pragma once

#include <xsoftmax/detail/sum.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

/// P(t) for t = u^2 <= 0.1179; t times its error is below 2^-65. Arithmetic: what multiplies and adds.
template <class A, class Arithmetic = detail::native<A>>
XSOFTMAX_STEP detail::batch<A, double> atanh_remainder(detail::batch<A, double> t) {
  using D = detail::batch<A, double>;
  const D t2 = t * t;
  const D c01 = Arithmetic::multiply_add(D(0x1.9999999999d58p-7), t, D(0x1.5555555555555p-4));
  const D c23 = Arithmetic::multiply_add(D(0x1.c71c725c1a961p-12), t, D(0x1.249249242f0ap-9));
  const D c45 = Arithmetic::multiply_add(D(0x1.3b2153e77202fp-16), t, D(0x1.745cdb8fdb8c7p-14));
  const D c67 = Arithmetic::multiply_add(D(0x1.101ea8cd72d77p-20), t, D(0x1.0f4a99b645efap-18));
  const D c0123 = Arithmetic::multiply_add(c23, t2, c01);
  const D c4567 = Arithmetic::multiply_add(c67, t2, c45);
  return Arithmetic::multiply_add(c4567, t2 * t2, c0123);
}

/// k of x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), in the place of the exponent.
template <class A>
XSOFTMAX_STEP detail::batch<A, std::int64_t> nearest_exponent(detail::batch<A, double> x) {
  using L = detail::batch<A, std::int64_t>;
  return (detail::native<A>::bits(x) - L(0x3FE6A09E667F3BCD)) & L(~((std::int64_t{1} << 52) - 1));
}

/// log(c + r) as a pair (its `sum` the rounded logarithm) for whole c from 1 on and a pair r = r_high + r_low >= 0, c +
/// r < 2^1000. Relative error of the pair below 2^-56, subnormal r apart, where the result is r, as log(1 + r)
/// is to the last place; largest found: 1.10 * 2^-57 at c = 1, r = 0x1.bbf85424c2535p-2, without fma 1.21 * 2^-57 at
/// c = 1, r = 0x1.a8b4f14b3dcbbp-2.
template <class A>
XSOFTMAX_STEP detail::two_sum_result<detail::batch<A, double>>
log_of_sum(detail::batch<A, double> c, detail::batch<A, double> r_high, detail::batch<A, double> r_low) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  using L = detail::batch<A, std::int64_t>;
  constexpr std::int64_t one = std::int64_t{1023} << 52;
  const auto s = detail::two_sum(c, r_high);
  const L exponent = nearest_exponent<A>(s.sum);
  const D scale = N::from_bits(L(one) - exponent);
  const D k = N::from_bits(N::template shift_right<52>(exponent) + N::bits(D(0x1p52))) - D(0x1p52);
  const auto f = detail::two_sum(N::multiply_add(s.sum, scale, D(-1.0)), s.error * scale);
  const D f_low = N::multiply_add(r_low, scale, f.error);
  const auto g = detail::two_sum(D(1.0), f.sum * D(0.5)); // exact products: no harm if they are contracted
  const D g_low = N::multiply_add(f_low, D(0.5), g.error);
  const D u = f.sum / g.sum;
  const D u_low = (N::fused_multiply_add(u, D(0.0) - g.sum, f.sum) + N::negative_multiply_add(u, g_low, f_low)) / g.sum;
  const D t = u * u;
  const D rest = N::multiply_add(u * t, atanh_remainder<A>(t), u_low);
  // The upper part of ln 2 has 42 digits: its product with k is exact.
  const auto high = detail::two_sum(k * D(0x1.62E42FEFA3800p-1), u);
  const D low = high.error + N::multiply_add(k, D(0x1.EF35793C76730p-45), rest);
  const D sum = high.sum + low;
  return {sum, low - (sum - high.sum)};
}

/// log(x) for positive normal x; of 0 and +inf some number. Within 1.5 ULP of the larger of 1 and the result; 0 at 1.
template <class A>
XSOFTMAX_STEP detail::batch<A, double> log(detail::batch<A, double> x) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  using L = detail::batch<A, std::int64_t>;
  constexpr std::int64_t bias = 1024; // so that k is not negative while it is an integer
  const L exponent = nearest_exponent<A>(x);
  const L biased = exponent + L(bias << 52);
  const D k =
      N::from_bits(N::template shift_right<52>(biased) + N::bits(D(0x1p52))) - D(0x1p52 + static_cast<double>(bias));
  const D f = N::from_bits(N::bits(x) - exponent) - D(1.0);
  const D u = f / N::multiply_add(f, D(0.5), D(1.0)); // an exact product
  const D t = u * u;
  const D rest = N::multiply_add(u * t, atanh_remainder<A>(t), k * D(0x1.EF35793C76730p-45));
  return N::multiply_add(k, D(0x1.62E42FEFA3800p-1), u + rest);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

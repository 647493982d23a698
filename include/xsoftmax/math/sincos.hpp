// SPDX-License-Identifier: MIT
// Cosine and sine together, in double:
//
//   x = 2 pi k + 4 r               |r| <= pi / 4: the product with k is exact in three parts
//   cos r, sin r                   by their Taylor series; what is left out is below 2^-61
//   cos 2v = cos^2 v - sin^2 v     twice, so that no quadrant has to be told apart
//   sin 2v = 2 sin v cos v
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

template <class V>
struct sincos_result {
  V cos;
  V sin;
};

/// |x| <= 2^20, or NaN. Absolute error below 2^-49; largest of 5 * 10^7 found: 1.30 * 2^-50, of the cosine at
/// 0x1.43aab88c811ccp+18, without fma 1.62 * 2^-50 at 0x1.3abe63ebb06aap+19.
template <class A>
XSOFTMAX_STEP sincos_result<detail::batch<A, double>> sincos(detail::batch<A, double> x) {
  using N = detail::native<A>;
  using D = detail::batch<A, double>;
  const D round(0x1.8p52);
  const D k = N::multiply_add(x, D(0x1.45f306dc9c883p-3), round) - round;
  // The first two parts of 2 pi have 33 digits.
  const D above = N::negative_multiply_add(k, D(0x1.921fb54400000p+2), x);
  const D middle = N::negative_multiply_add(k, D(0x1.0b4611a600000p-32), above);
  const D r = N::negative_multiply_add(k, D(0x1.3198a2e037073p-67), middle) * D(0.25);
  const D t = r * r;
  // 1 / n!, from n = 17 and 16 down
  D s(0x1.952c77030ad4ap-49);
  s = N::multiply_add(s, t, D(-0x1.ae7f3e733b81fp-41));
  s = N::multiply_add(s, t, D(0x1.6124613a86d09p-33));
  s = N::multiply_add(s, t, D(-0x1.ae64567f544e4p-26));
  s = N::multiply_add(s, t, D(0x1.71de3a556c734p-19));
  s = N::multiply_add(s, t, D(-0x1.a01a01a01a01ap-13));
  s = N::multiply_add(s, t, D(0x1.1111111111111p-7));
  s = N::multiply_add(s, t, D(-0x1.5555555555555p-3));
  D c(0x1.ae7f3e733b81fp-45);
  c = N::multiply_add(c, t, D(-0x1.93974a8c07c9dp-37));
  c = N::multiply_add(c, t, D(0x1.1eed8eff8d898p-29));
  c = N::multiply_add(c, t, D(-0x1.27e4fb7789f5cp-22));
  c = N::multiply_add(c, t, D(0x1.a01a01a01a01ap-16));
  c = N::multiply_add(c, t, D(-0x1.6c16c16c16c17p-10));
  c = N::multiply_add(c, t, D(0x1.5555555555555p-5));
  c = N::multiply_add(c, t, D(-0.5));
  const D sin_r = N::multiply_add(s * t, r, r);
  const D cos_r = N::multiply_add(c, t, D(1.0));
  // cos 2v = 1 - 2 sin^2 v
  const D cos_2r = N::negative_multiply_add(sin_r + sin_r, sin_r, D(1.0));
  const D sin_2r = detail::uncontracted((sin_r + sin_r) * cos_r);
  return {N::negative_multiply_add(sin_2r + sin_2r, sin_2r, D(1.0)), detail::uncontracted((sin_2r + sin_2r) * cos_2r)};
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

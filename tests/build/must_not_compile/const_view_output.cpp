// SPDX-License-Identifier: MIT
// expect: the output's elements are const
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using output = xsoftmax::matrix_view<float>;
#else
using output = xsoftmax::matrix_view<const float>;
#endif

void f(xsoftmax::matrix_view<const float> z, output p) {
  xsoftmax::softmax(z, p);
}

// SPDX-License-Identifier: MIT
// expect: one argument is a row and the other a matrix
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using output = std::vector<float>;
#else
using output = xsoftmax::matrix_view<float>;
#endif

void f(const std::vector<float>& z, output& p) {
  xsoftmax::softmax(z, p);
}

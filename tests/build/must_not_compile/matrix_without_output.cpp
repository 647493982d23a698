// SPDX-License-Identifier: MIT
// expect: only a row is returned as a std::vector
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using input = std::vector<float>;
#else
using input = xsoftmax::matrix_view<const float>;
#endif

auto f(const input& z) {
  return xsoftmax::softmax(z);
}

// SPDX-License-Identifier: MIT
// expect: the output's elements are const
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using output = std::vector<float>;
#else
using output = const std::vector<float>;
#endif

void f(const std::vector<float>& z, output& p) {
  xsoftmax::softmax(z, p);
}

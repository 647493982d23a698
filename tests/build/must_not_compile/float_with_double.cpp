// SPDX-License-Identifier: MIT
// expect: input and output must have the same element type
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using output = float;
#else
using output = double;
#endif

void f(const std::vector<float>& z, std::vector<output>& p) {
  xsoftmax::softmax(z, p);
}

// SPDX-License-Identifier: MIT
// expect: input and output must be computed in one type
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

// SPDX-License-Identifier: MIT
// expect: the types of the arguments have different lengths
// flags:
#include <array>
#include <xsoftmax/softmax.hpp>

void f(const std::array<float, 4>& z) {
#ifdef CORRECTED
  std::array<float, 4> p;
#else
  std::array<float, 5> p;
#endif
  xsoftmax::softmax(z, p);
}

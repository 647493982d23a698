// SPDX-License-Identifier: MIT
// expect: elements must be float, double or a half type
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using element = float;
#else
using element = int;
#endif

void f(const std::vector<element>& z, std::vector<element>& p) {
  xsoftmax::softmax(z, p);
}

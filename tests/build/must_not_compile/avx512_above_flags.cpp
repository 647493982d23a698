// SPDX-License-Identifier: MIT
// expect: the compiler flags of this file do not allow this architecture tag
// flags: -mavx2 -mfma
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using tag = xsoftmax::arch::avx2;
#else
using tag = xsoftmax::arch::avx512;
#endif

void f(const std::vector<float>& z, std::vector<float>& p) {
  xsoftmax::softmax<tag>(z, p);
}

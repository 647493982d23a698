// SPDX-License-Identifier: MIT
// expect: the compiler flags of this file do not allow this architecture tag
// flags: -mavx2
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using tag = xsoftmax::arch::sse2; // flags between two tags take the lower one
static_assert(std::is_same_v<xsoftmax::default_arch, tag>);
#else
using tag = xsoftmax::arch::avx2;
#endif

void f(const std::vector<float>& z, std::vector<float>& p) {
  xsoftmax::softmax<tag>(z, p);
}

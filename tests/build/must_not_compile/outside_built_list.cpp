// SPDX-License-Identifier: MIT
// expect: this architecture tag is not in the list that xsoftmax::dispatch was built for
// flags: -DXSOFTMAX_DISPATCH=1 -DXSOFTMAX_DISPATCH_SSE2=1 -DXSOFTMAX_DISPATCH_AVX2=1
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using tag = xsoftmax::arch::avx2;
#else
using tag = xsoftmax::arch::avx512;
#endif

void f(const std::vector<float>& z, std::vector<float>& p) {
  xsoftmax::softmax<tag>(z, p);
}

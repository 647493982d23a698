// SPDX-License-Identifier: MIT
// expect: this architecture tag is not in the list that xsoftmax::dispatch was built for
// flags: -DXSOFTMAX_DISPATCH=1 -DXSOFTMAX_DISPATCH_SSE2=1
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using tag = xsoftmax::arch::sse2;
#else
using tag = xsoftmax::arch::avx2;
#endif

const char* f() {
  return xsoftmax::active_architecture<tag>();
}

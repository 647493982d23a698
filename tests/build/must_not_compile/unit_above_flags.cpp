// SPDX-License-Identifier: MIT
// expect: compiler flags do not allow its XSOFTMAX_TARGET_ARCH
// flags:
#if defined(CORRECTED)
#define XSOFTMAX_TARGET_ARCH sse2
#else
#define XSOFTMAX_TARGET_ARCH avx2
#endif
#include <xsoftmax/dispatch_unit.hpp>

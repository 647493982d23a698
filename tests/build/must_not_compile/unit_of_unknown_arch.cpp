// SPDX-License-Identifier: MIT
// expect: XSOFTMAX_TARGET_ARCH must be sse2, avx2, avx512, neon64 or runtime
// flags:
#if defined(CORRECTED)
#define XSOFTMAX_TARGET_ARCH runtime
#else
#define XSOFTMAX_TARGET_ARCH avx
#endif
#include <xsoftmax/dispatch_unit.hpp>

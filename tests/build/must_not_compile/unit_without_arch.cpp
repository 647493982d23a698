// SPDX-License-Identifier: MIT
// expect: define XSOFTMAX_TARGET_ARCH
// flags:
#if defined(CORRECTED)
#define XSOFTMAX_TARGET_ARCH runtime
#endif
#include <xsoftmax/dispatch_unit.hpp>

// SPDX-License-Identifier: MIT
// expect: dispatch.hpp needs the CMake target xsoftmax::dispatch
// flags:
#if defined(CORRECTED)
#define XSOFTMAX_DISPATCH 1
#endif
#include <xsoftmax/dispatch.hpp>

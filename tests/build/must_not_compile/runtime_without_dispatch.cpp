// SPDX-License-Identifier: MIT
// expect: the tag xsoftmax::runtime needs the CMake target xsoftmax::dispatch
// flags:
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using tag = xsoftmax::default_arch;
#else
using tag = xsoftmax::runtime;
#endif

void f(const std::vector<float>& z, std::vector<float>& p) {
  xsoftmax::softmax<tag>(z, p);
}

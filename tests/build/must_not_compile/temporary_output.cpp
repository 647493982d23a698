// SPDX-License-Identifier: MIT
// expect: the output is a temporary container
// flags:
#include <xsoftmax/xsoftmax.hpp>

void f(const std::vector<float>& z, std::vector<float>& p) {
#if defined(CORRECTED)
  xsoftmax::softmax(z, std::span<float>(p)); // a temporary that only refers to its elements is fine
#else
  p.clear();
  xsoftmax::softmax(z, std::vector<float>(z.size()));
#endif
}

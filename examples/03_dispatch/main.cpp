// SPDX-License-Identifier: MIT
// A program built for any x86-64 processor (-O2 and no -m flag) whose softmax runs on the best instruction set of the
// machine it meets. The environment can force a lower one:
//   XSOFTMAX_ARCH=sse2 build/03_dispatch
//
// Build it alone, with xsoftmax installed (-DCMAKE_PREFIX_PATH=PREFIX if it is not in a standard place):
//   cmake -B build && cmake --build build && build/03_dispatch
#include <cstdio>
#include <exception>
#include <limits>
#include <vector>
#include <xsoftmax/softmax.hpp>

namespace xs = xsoftmax;

int main() try {
  std::printf("architecture: %s\n", xs::active_architecture());

  const float masked = -std::numeric_limits<float>::infinity();
  const std::vector<float> z = {1.0f, 2.0f, masked, 4.0f, 4.0f};
  const std::vector<float> p = xs::softmax(z);
  double sum = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    std::printf("  softmax(%4g) = %.9g\n", static_cast<double>(z[i]), static_cast<double>(p[i]));
    sum += static_cast<double>(p[i]);
  }
  const bool ok = sum > 1 - 4 / 16777216.0 && sum < 1 + 4 / 16777216.0 && p[2] == 0.0f && p[3] == p[4] && p[0] < p[1];
  return ok ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what()); // XSOFTMAX_ARCH names something unknown, or more than this machine has
  return 2;
}

// SPDX-License-Identifier: MIT
// Softmax of one vector by every algorithm: the choice changes the time and not a single bit.
//
// Build it alone, with xsoftmax installed (-DCMAKE_PREFIX_PATH=PREFIX if it is not in a standard place):
//   cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build && build/01_algorithms [length]
#include <algorithm>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include <xsoftmax/softmax.hpp>

namespace xs = xsoftmax;

int main(int argc, char** argv) {
  const std::size_t n = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 151936; // a language model's vocabulary
  std::vector<float> z(n);
  std::uint32_t state = 1;
  for (float& logit : z) {
    state = state * 1664525u + 1013904223u; // any logits will do: these are uniform in [-10, 10)
    logit = static_cast<float>(state >> 8) * (20.0f / 16777216.0f) - 10.0f;
  }

  struct algorithm {
    const char* name;
    xs::softmax_algorithm value;
  };
  const algorithm algorithms[] = {
      {"automatic", xs::softmax_algorithm::automatic},
      {"three_pass_recompute", xs::softmax_algorithm::three_pass_recompute},
      {"three_pass_reload", xs::softmax_algorithm::three_pass_reload},
      {"two_pass", xs::softmax_algorithm::two_pass},
      {"online", xs::softmax_algorithm::online},
  };

  std::printf("softmax of %zu floats on %s, fastest of 20 runs\n", n, xs::active_architecture());
  const std::vector<float> expected = xs::softmax(z);
  bool all_equal = true;
  for (const auto& [name, value] : algorithms) {
    std::vector<float> p(n);
    double best = 1e300;
    for (int run = 0; run < 20; ++run) {
      const auto start = std::chrono::steady_clock::now();
      xs::softmax(z, p, {.algorithm = value});
      const std::chrono::duration<double, std::micro> elapsed = std::chrono::steady_clock::now() - start;
      best = std::min(best, elapsed.count());
    }
    const bool equal = std::equal(p.begin(), p.end(), expected.begin(), expected.end(), [](float a, float b) {
      return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
    });
    std::printf("  %-22s %10.1f us   %s\n", name, best, equal ? "same bits" : "DIFFERENT BITS");
    all_equal = all_equal && equal;
  }

  double sum = 0;
  for (const float p : expected) {
    sum += static_cast<double>(p);
  }
  std::printf("  sum of the probabilities - 1 = %.2g\n", sum - 1);
  const bool normalised = n == 0 || (sum > 1 - 4 / 16777216.0 && sum < 1 + 4 / 16777216.0);
  return all_equal && normalised ? 0 : 1;
}

// SPDX-License-Identifier: MIT
// main [EXPECTED ARCHITECTURE]
#include <cmath>
#include <cstdio>
#include <cstring>
#include <vector>
#include <xsoftmax/xsoftmax.hpp>

int main(int argc, char** argv) {
  std::vector<double> z(1000);
  double sum = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    z[i] = 0.01 * static_cast<double>(i);
    sum += std::exp(z[i]);
  }
  const std::vector<double> p = xsoftmax::softmax(z);
  for (std::size_t i = 0; i < z.size(); ++i) {
    const double exact = std::exp(z[i]) / sum;
    if (!(std::fabs(p[i] - exact) <= 1e-13 * exact)) { // the sum above is good to a few hundred ULP
      std::printf("p[%zu] = %.17g instead of %.17g\n", i, p[i], exact);
      return 1;
    }
  }
  // A masked logit and a row of nothing else: what -ffast-math would break first.
  const float infinity = HUGE_VALF;
  const std::vector<float> masked = xsoftmax::softmax(std::vector<float>{1, -infinity, 1});
  const std::vector<float> nothing = xsoftmax::softmax(std::vector<float>(100, -infinity));
  unsigned bits = 0;
  std::memcpy(&bits, &nothing[50], sizeof bits);
  if (masked[0] != 0.5F || masked[1] != 0.0F || (bits & 0x7fffffffU) <= 0x7f800000U) {
    std::puts("wrong special values");
    return 1;
  }
  const char* active = xsoftmax::active_architecture();
  std::printf("architecture: %s\n", active);
  return argc > 1 && std::strcmp(active, argv[1]) != 0 ? 1 : 0;
}

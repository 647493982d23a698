// SPDX-License-Identifier: MIT
// Built with -fno-exceptions and an own handler: a bad XSOFTMAX_ARCH reaches the handler of this program although the
// dispatch library was built without it, and a handler that returns leaves the output alone.
#include <cstring>

namespace {

int reports = 0;

void report(const char* message) {
  if (std::strstr(message, "XSOFTMAX_ARCH=avx1024") != nullptr) {
    ++reports;
  }
}

} // namespace

#define XSOFTMAX_ON_ERROR(message) ::report(message)
#include <cstdlib>
#include <vector>
#include <xsoftmax/xsoftmax.hpp>

int main() {
  setenv("XSOFTMAX_ARCH", "avx1024", 1);
  const std::vector<float> z = {1, 2, 3};
  std::vector<float> p(3, 7.0F);
  xsoftmax::softmax(z, p);
  xsoftmax::softmax(z, p);
  xsoftmax::log_softmax(z, p);
  xsoftmax::softmax_backward(z, z, p);
  xsoftmax::log_softmax_backward(z, z, p);
  xsoftmax::softmax([](std::size_t, auto&&) {}, z, p);
  xsoftmax::log_sum_exp_state<float> state;
  state.push(z);
  const float sum = xsoftmax::log_sum_exp(z);
  if (sum == sum || state.summary().count != 0) {
    return 2;
  }
  const char* name = xsoftmax::active_architecture();
  return reports == 9 && p == std::vector<float>(3, 7.0F) && std::strcmp(name, "none") == 0 ? 0 : 1;
}

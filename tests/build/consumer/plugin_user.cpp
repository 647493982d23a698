// SPDX-License-Identifier: MIT
#include "plugin.hpp"

int main() {
  const std::vector<float> p = plugin_softmax({1, 1, 1, 1});
  return p == std::vector<float>{0.25F, 0.25F, 0.25F, 0.25F} ? 0 : 1;
}

// SPDX-License-Identifier: MIT
// A shared library with run-time dispatch inside.
#define PLUGIN_IS_BUILT
#include "plugin.hpp"
#include <xsoftmax/xsoftmax.hpp>

std::vector<float> plugin_softmax(const std::vector<float>& z) {
  return xsoftmax::softmax(z);
}

// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#if defined(PLUGIN_IS_BUILT)
__attribute__((visibility("default")))
#endif
std::vector<float>
plugin_softmax(const std::vector<float>& z);

// SPDX-License-Identifier: MIT
// The user's own logits: NumPy's .npy (little-endian float32 or float64, C order, one or two dimensions) or raw
// little-endian float32, which is one row.
#pragma once

#include <cstddef>
#include <string>
#include <variant>
#include <vector>

namespace bench {

struct logits {
  std::size_t rows;
  std::size_t cols;
  std::variant<std::vector<float>, std::vector<double>> values;
};

/// Throws std::runtime_error that names the file and what is wrong with it.
logits read_logits(const std::string& path);

} // namespace bench

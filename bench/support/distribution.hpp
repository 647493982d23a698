// SPDX-License-Identifier: MIT
// The generated logits.
#pragma once

#include <cstddef>
#include <random>

namespace bench {

inline constexpr const char* distribution_name = "independent, normal, mean 0, standard deviation 2, fixed seed";

/// Fills x with logits; shorter rows are the beginnings of longer ones.
template <class T>
void fill_with_logits(T* x, std::size_t size) {
  std::mt19937_64 engine(20200109);
  std::normal_distribution<T> normal(T(0), T(2));
  for (std::size_t i = 0; i < size; ++i) {
    x[i] = normal(engine);
  }
}

} // namespace bench

// SPDX-License-Identifier: MIT
// The textbook loop. Two units include it with different flags, so everything here has internal linkage.
#pragma once

#include "../support/peer.hpp"
#include <algorithm>
#include <cmath>

namespace {

template <class T>
void softmax_loop(const T* z, T* p, std::size_t rows, std::size_t cols) {
  for (std::size_t r = 0; r < rows; ++r, z += cols, p += cols) {
    T maximum = z[0];
    for (std::size_t i = 1; i < cols; ++i) {
      maximum = z[i] > maximum ? z[i] : maximum;
    }
    T sum = 0;
    for (std::size_t i = 0; i < cols; ++i) {
      p[i] = std::exp(z[i] - maximum);
      sum += p[i];
    }
    for (std::size_t i = 0; i < cols; ++i) {
      p[i] /= sum;
    }
  }
}

template <class T>
bench::runner loop_rows(const T* z, T* p, std::size_t rows, std::size_t cols) {
  return [=] { softmax_loop(z, p, rows, cols); };
}

} // namespace

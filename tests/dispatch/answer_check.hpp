// SPDX-License-Identifier: MIT
// Whether the library's answers are right, for programs that run where no test framework should: in static
// initialisers, under emulators, without exceptions.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <vector>
#include <xsoftmax/xsoftmax.hpp>

/// A row of ordinary logits, one of them masked, the same on every machine.
template <class T>
std::vector<T> example_row(std::size_t n) {
  std::vector<T> z(n);
  std::uint32_t state = 12345;
  for (T& x : z) {
    state = state * 1664525U + 1013904223U;
    x = static_cast<T>(static_cast<double>(state >> 8) * 0x1p-24 * 30.0 - 15.0);
  }
  if (n > 2) {
    z[1] = -std::numeric_limits<T>::infinity();
  }
  return z;
}

/// Is p = softmax(z), each probability within 4 ULP?
template <class T>
bool is_softmax_of(const std::vector<T>& z, const std::vector<T>& p) {
  long double sum = 0;
  for (const T x : z) {
    sum += std::exp(static_cast<long double>(x));
  }
  for (std::size_t i = 0; i < z.size(); ++i) {
    const long double exact = std::exp(static_cast<long double>(z[i])) / sum;
    const T near = static_cast<T>(exact);
    const long double ulp = static_cast<long double>(std::nextafter(near, std::numeric_limits<T>::infinity())) - near;
    const long double error = p[i] - exact;
    if (!(std::fabs(error) <= 4 * ulp) || (exact == 0 && p[i] != 0)) {
      std::printf("wrong: n = %zu, i = %zu: %.17g instead of %.17Lg\n", z.size(), i, static_cast<double>(p[i]), exact);
      return false;
    }
  }
  return true;
}

/// Do calls with Arch give right answers for both types at lengths around every vector width?
template <class Arch>
bool answers_are_right() {
  for (const int length : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257, 2047, 2049, 5000}) {
    const auto n = static_cast<std::size_t>(length);
    const std::vector<float> zf = example_row<float>(n);
    const std::vector<double> zd = example_row<double>(n);
    if (!is_softmax_of(zf, xsoftmax::softmax<Arch>(zf)) || !is_softmax_of(zd, xsoftmax::softmax<Arch>(zd))) {
      return false;
    }
  }
  return true;
}

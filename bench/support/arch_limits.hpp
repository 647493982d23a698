// SPDX-License-Identifier: MIT
// What an architecture cannot do without, or do more of. Compiled once for each (arch_limits.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <xsoftmax/arch.hpp>

namespace bench {

struct arch_limits {
  /// What a draw cannot do without, a random word for each logit: exclusive or of the upper words of the first n
  /// elements of a row, n a multiple of 64.
  std::uint32_t (*draw_words)(std::uint64_t seed, std::size_t n);

  /// The arithmetic alone: multiply-adds of floats in so many registers that none waits for another, and no memory.
  /// Returns how many these were, at least `wanted`; the sums themselves have counted them.
  double (*multiply_adds)(double wanted);
};

namespace limits {

extern const arch_limits sse2;
extern const arch_limits avx2;
extern const arch_limits avx512;

} // namespace limits

template <class Arch>
const arch_limits& limits_of() {
  if constexpr (std::is_same_v<Arch, xsoftmax::arch::avx512>) {
    return limits::avx512;
  } else if constexpr (std::is_same_v<Arch, xsoftmax::arch::avx2>) {
    return limits::avx2;
  } else {
    return limits::sse2;
  }
}

} // namespace bench

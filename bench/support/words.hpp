// SPDX-License-Identifier: MIT
// What a draw cannot do without: a random word for each logit. Compiled once per architecture (words.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <xsoftmax/arch.hpp>

namespace bench {

namespace words {

/// Exclusive or of the upper words of the first n elements of a row, n a multiple of 64.
std::uint32_t sse2(std::uint64_t seed, std::size_t n);
std::uint32_t avx2(std::uint64_t seed, std::size_t n);
std::uint32_t avx512(std::uint64_t seed, std::size_t n);

} // namespace words

template <class Arch>
std::uint32_t draw_words(std::uint64_t seed, std::size_t n) {
  if constexpr (std::is_same_v<Arch, xsoftmax::arch::avx512>) {
    return words::avx512(seed, n);
  } else if constexpr (std::is_same_v<Arch, xsoftmax::arch::avx2>) {
    return words::avx2(seed, n);
  } else {
    return words::sse2(seed, n);
  }
}

} // namespace bench

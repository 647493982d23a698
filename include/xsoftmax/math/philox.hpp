// SPDX-License-Identifier: MIT
// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC11): four random words
// from a counter of four words and a key of two, by ten rounds of
//   (c0, c1, c2, c3) <- (upper(M1 c2) ^ c1 ^ k0, lower(M1 c2), upper(M0 c0) ^ c3 ^ k1, lower(M0 c0)),
//   (k0, k1) <- (k0 + W0, k1 + W1).
//
// A lane of 64 bits holds a word of one block in its lower half; what lies above is of no account, since the product
// reads lower halves only. So a round is two products, two shifts and two exclusive ors, and nothing is taken apart or
// put together until the end. The blocks of a call differ in c0 alone: its first product advances by additions, and
// what the other words give in the first three rounds is computed once for all of them.
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math {

struct philox_constants {
  static constexpr std::uint32_t multiplier[2] = {0xD2511F53, 0xCD9E8D57};
  static constexpr std::uint32_t key_step[2] = {0x9E3779B9, 0xBB67AE85};
  static constexpr int rounds = 10;
};

/// The blocks of one key whose counters differ in c0.
template <class A>
class philox {
public:
  using I = detail::batch<A, std::int32_t>;
  using L = detail::batch<A, std::int64_t>;
  /// Blocks of a call.
  static constexpr std::size_t blocks = detail::lanes<A, float>;

  XSOFTMAX_STEP philox(std::uint64_t key, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3) {
    auto k0 = static_cast<std::uint32_t>(key);
    auto k1 = static_cast<std::uint32_t>(key >> 32);
    for (int r = 0; r < philox_constants::rounds; ++r) {
      key_[r][0] = k0;
      key_[r][1] = k1;
      k0 += philox_constants::key_step[0];
      k1 += philox_constants::key_step[1];
    }
    for (std::size_t j = 0; j < L::size; ++j) {
      stride_[j] = static_cast<std::int64_t>(2 * j * m0);
    }
    counter(c1, c2, c3);
  }

  /// Other words than c0, of the same key.
  XSOFTMAX_STEP void counter(std::uint32_t c1, std::uint32_t c2, std::uint32_t c3) {
    // Round 1: c0 and c1 become constants a and b; c2 = upper(M0 c0) ^ c3 ^ k1 and c3 = lower(M0 c0) do not.
    const std::uint64_t first = m1 * c2;
    const std::uint64_t a = (first >> 32) ^ c1 ^ key_[0][0];
    const std::uint64_t b = first & 0xFFFFFFFF;
    first_c3_ = c3 ^ key_[0][1];
    // Round 2: upper(M0 a) joins c2, lower(M0 a) becomes c3.
    const std::uint64_t second = m0 * (a & 0xFFFFFFFF);
    second_c1_ = b ^ key_[1][0];
    second_c2_ = (second >> 32) ^ key_[1][1];
    third_c3_ = (second & 0xFFFFFFFF) ^ key_[2][1];
  }

  /// word[s][w], lane l: word w of the block with c0 = first + s * blocks + l. first is a multiple of `blocks`. Several
  /// sets at once wait less for their products.
  template <std::size_t Sets>
  XSOFTMAX_STEP void operator()(std::uint32_t first, I (&word)[Sets][4]) const {
    using N = detail::native<A>;
    const auto upper = [](L v) XSOFTMAX_STEP_LAMBDA { return N::template shift_right<32>(v); };
    const auto constant = [](std::uint64_t v) XSOFTMAX_STEP_LAMBDA { return L(static_cast<std::int64_t>(v)); };
    const L multiplier0 = constant(m0);
    const L multiplier1 = constant(m1);
    L c[2 * Sets][4]; // of each set the blocks at even places, then those at odd ones
    detail::unroll<2 * Sets>([&](auto part) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t p = decltype(part)::value;
      constexpr std::size_t offset = p / 2 * blocks + p % 2;
      const L p0 =
          constant(m0 * (static_cast<std::uint64_t>(first) + offset)) + N::template load<std::int64_t>(stride_);
      const L c2 = upper(p0) ^ constant(first_c3_);
      const L p1 = N::multiply_lower_halves(multiplier1, c2);
      c[p][0] = upper(p1) ^ constant(second_c1_);
      c[p][1] = p1;
      c[p][2] = p0 ^ constant(second_c2_);
    });
    detail::unroll<philox_constants::rounds - 2>([&](auto round) XSOFTMAX_STEP_LAMBDA {
      constexpr int r = static_cast<int>(decltype(round)::value) + 2;
      detail::unroll<2 * Sets>([&](auto part) XSOFTMAX_STEP_LAMBDA {
        L(&x)[4] = c[decltype(part)::value];
        const L p0 = N::multiply_lower_halves(multiplier0, x[0]);
        const L p1 = N::multiply_lower_halves(multiplier1, x[2]);
        x[0] = N::exclusive_or(upper(p1), x[1], constant(key_[r][0]));
        x[1] = p1;
        if constexpr (r == 2) {
          x[2] = upper(p0) ^ constant(third_c3_);
        } else {
          x[2] = N::exclusive_or(upper(p0), x[3], constant(key_[r][1]));
        }
        x[3] = p0;
      });
    });
    detail::unroll<4 * Sets>([&](auto w) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t s = decltype(w)::value / 4;
      constexpr std::size_t i = decltype(w)::value % 4;
      word[s][i] = N::join_lower_halves(c[2 * s][i], c[2 * s + 1][i]);
    });
  }

  /// Word w of one block of the key.
  XSOFTMAX_STEP std::uint32_t word(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3,
                                   std::size_t w) const {
    std::uint32_t c[4] = {c0, c1, c2, c3};
    for (int r = 0; r < philox_constants::rounds; ++r) {
      const std::uint64_t p0 = m0 * c[0];
      const std::uint64_t p1 = m1 * c[2];
      c[0] = static_cast<std::uint32_t>(p1 >> 32 ^ c[1] ^ key_[r][0]);
      c[1] = static_cast<std::uint32_t>(p1);
      c[2] = static_cast<std::uint32_t>(p0 >> 32 ^ c[3] ^ key_[r][1]);
      c[3] = static_cast<std::uint32_t>(p0);
    }
    return c[w];
  }

private:
  static constexpr std::uint64_t m0 = philox_constants::multiplier[0];
  static constexpr std::uint64_t m1 = philox_constants::multiplier[1];

  std::uint64_t key_[philox_constants::rounds][2];
  std::uint64_t first_c3_;
  std::uint64_t second_c1_;
  std::uint64_t second_c2_;
  std::uint64_t third_c3_;
  alignas(64) std::int64_t stride_[L::size]; ///< products of m0 with the places of the blocks at even ones
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::math

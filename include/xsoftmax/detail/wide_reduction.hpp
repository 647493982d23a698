// SPDX-License-Identifier: MIT
// The argument reduction for logits of any size, in integers: x / T = (k / steps) * ln 2 + t for every finite x and
// every T in (0, inf). Slow (some tens of operations an element) and exact to 2^-64 of an octave; it serves the rare
// rows whose largest logit lies beyond the range in which the floating-point reduction is exact.
#pragma once

#include <xsoftmax/detail/sum.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

__extension__ typedef unsigned __int128 uint128;

/// x / T in steps: k whole ones (saturated at +-2^63 steps) and the rest t, |t| <= ln 2 / (2 * steps).
struct wide_reduced {
  std::int64_t k;
  double t;
  bool saturated;
  double fraction_high; ///< t / ln 2 to 2^-64, in two parts
  double fraction_low;
};

/// Holds log2(e) / T to more than 200 bits.
class wide_reduction {
public:
  XSOFTMAX_INLINE explicit wide_reduction(double temperature) {
    // log2(e) = 0x1.71547652b82fe... = these 256 bits * 2^-255, most significant limb last.
    constexpr std::uint64_t log2e[4] = {0x8B25166CD1A13247u, 0xEB577AA8DD695A58u, 0xBE87FED0691D3E88u,
                                        0xB8AA3B295C17F0BBu};
    const decoded t = decode(temperature);
    exponent_ = -255 - t.exponent;
    // Schoolbook division by one limb.
    std::uint64_t rest = 0;
    for (int i = 3; i >= 0; --i) {
      const uint128 part = (static_cast<uint128>(rest) << 64) | log2e[i];
      quotient_[i] = static_cast<std::uint64_t>(part / t.significand);
      rest = static_cast<std::uint64_t>(part % t.significand);
    }
  }

  /// x finite; 2^StepBits steps to the octave.
  template <int StepBits>
  XSOFTMAX_INLINE wide_reduced operator()(double x) const {
    const auto x_bits = __builtin_bit_cast(std::uint64_t, x);
    const bool negative = (x_bits >> 63) != 0;
    const decoded v = decode(__builtin_bit_cast(double, x_bits & ~(std::uint64_t{1} << 63)));
    // |x| / T * log2(e) = product * 2^(exponent)
    std::uint64_t product[6] = {};
    std::uint64_t carry = 0;
    for (int i = 0; i < 4; ++i) {
      const uint128 part = static_cast<uint128>(v.significand) * quotient_[i] + carry;
      product[i] = static_cast<std::uint64_t>(part);
      carry = static_cast<std::uint64_t>(part >> 64);
    }
    product[4] = carry;
    // 64 bits before and 64 after the binary point.
    const std::int64_t shift = -(v.exponent + exponent_ + 64);
    std::uint64_t integer = 0;
    std::uint64_t fraction = 0;
    bool saturated = false;
    if (v.significand == 0 || shift >= 320) {
      // x / T is below 2^-64 octaves
    } else if (shift < 0) {
      saturated = true;
    } else {
      fraction = limb(product, shift);
      integer = limb(product, shift + 64);
      saturated = limb(product, shift + 128) != 0 || limb(product, shift + 192) != 0 ||
                  limb(product, shift + 256) != 0 || integer >= (std::uint64_t{1} << (63 - StepBits)) - 4096;
    }
    if (saturated) {
      return {negative ? INT64_MIN : INT64_MAX, 0.0, true, 0.0, 0.0};
    }
    // To the nearest step; what remains is a signed fraction.
    const std::uint64_t half = std::uint64_t{1} << (63 - StepBits);
    const std::uint64_t rounded = fraction + half;
    integer += rounded < fraction ? 1 : 0;
    std::uint64_t k = integer << StepBits;
    std::uint64_t whole = 0;
    if constexpr (StepBits != 0) {
      k |= rounded >> (64 - StepBits);
      whole = (rounded >> (64 - StepBits)) << (64 - StepBits);
    }
    const auto rest = static_cast<std::int64_t>(fraction - whole);
    constexpr double ln2_scaled = 0x1.62E42FEFA39EFp-1 * 0x1p-64;
    const double t = static_cast<double>(rest) * ln2_scaled;
    const auto steps = static_cast<std::int64_t>(k);
    const double unit = negative ? -0x1p-64 : 0x1p-64;
    return {negative ? -steps : steps, negative ? -t : t, false,
            static_cast<double>(rest & ~std::int64_t{0x7FF}) * unit, static_cast<double>(rest & 0x7FF) * unit};
  }

private:
  /// 64 bits of the 320 from bit position `from` up.
  static XSOFTMAX_INLINE std::uint64_t limb(const std::uint64_t (&v)[6], std::int64_t from) {
    const std::int64_t index = from >> 6;
    const auto bit = static_cast<unsigned>(from & 63);
    const std::uint64_t low = index < 5 ? v[index] : 0;
    const std::uint64_t high = index < 4 ? v[index + 1] : 0;
    return bit == 0 ? low : (low >> bit) | (high << (64 - bit));
  }

  std::uint64_t quotient_[4];
  std::int64_t exponent_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

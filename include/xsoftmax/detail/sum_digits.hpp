// SPDX-License-Identifier: MIT
// What an exact sum (sum.hpp) consists of, the same on every architecture: a state that users hold can contain one.
#pragma once

#include <cstdint>
#include <xsoftmax/config.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

struct sum_digits {
  static constexpr std::int64_t digits = 5;
  static constexpr std::int64_t lowest = -(std::int64_t{1} << 62);

  std::int64_t top_ = lowest; ///< place of the leading digit, in units of 32 binary digits; lowest: no number yet
  std::uint64_t digit_[digits] = {}; ///< most significant first; carries wait in the upper halves
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

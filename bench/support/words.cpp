// SPDX-License-Identifier: MIT
// With -DXSOFTMAX_TARGET_ARCH and that architecture's flags: everything is instantiated for a type of this unit's own.
#include "words.hpp"
#include <xsoftmax/detail/kernel/noise.hpp>

namespace {

struct unit_arch : xsoftmax::arch::XSOFTMAX_TARGET_ARCH {};

} // namespace

std::uint32_t bench::words::XSOFTMAX_TARGET_ARCH(std::uint64_t seed, std::size_t n) {
  using namespace xsoftmax::detail;
  using words_type = kernel::row_words<unit_arch>;
  using I = batch<unit_arch, std::int32_t>;
  words_type words({.seed = seed}, xsoftmax::detail::noise_kind::gumbel);
  I all(0);
  const std::size_t groups = n / kernel::noise_group;
  for (std::size_t g = 0; g < groups; ++g) {
    const kernel::group_words<unit_arch>& drawn = words.upper(g, g + 1 < groups);
    for (const I& v : drawn.v) {
      all = all ^ v;
    }
  }
  alignas(64) std::int32_t lane[I::size];
  all.store_aligned(lane);
  std::uint32_t result = 0;
  for (const std::int32_t x : lane) {
    result ^= static_cast<std::uint32_t>(x);
  }
  return result;
}

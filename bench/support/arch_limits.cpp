// SPDX-License-Identifier: MIT
// With -DXSOFTMAX_TARGET_ARCH and that architecture's flags: everything is instantiated for a type of this unit's own.
#include "arch_limits.hpp"
#include <xsoftmax/detail/kernel/noise.hpp>

namespace {

using namespace xsoftmax::detail;

struct unit_arch : xsoftmax::arch::XSOFTMAX_TARGET_ARCH {};

std::uint32_t draw_words(std::uint64_t seed, std::size_t n) {
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

double multiply_adds(double wanted) {
  using F = batch<unit_arch, float>;
  // More than two a cycle, five cycles each: no sum waits. The two factors need registers too, and there are 32 with
  // AVX-512, else 16.
  constexpr std::size_t sums = F::size == 16 ? 24 : 12;
  constexpr std::size_t exact = std::size_t{1} << 20; // additions of 1 that a float counts without error
  const F one = uncontracted(F(1));                   // the compiler does not know that it is 1
  const auto steps = static_cast<std::size_t>(wanted / static_cast<double>(sums * F::size)) + 1;
  double done = 0;
  for (std::size_t first = 0; first < steps; first += exact) {
    F sum[sums];
    unroll<sums>([&](auto s) { sum[s.value] = uncontracted(F(0)); }); // nor that they are all the same sum
    const std::size_t last = first + exact < steps ? first + exact : steps;
    for (std::size_t i = first; i < last; ++i) {
      unroll<sums>([&](auto s) { sum[s.value] = native<unit_arch>::multiply_add(sum[s.value], one, one); });
    }
    alignas(64) float counted[sums * F::size];
    unroll<sums>([&](auto s) { sum[s.value].store_aligned(counted + s.value * F::size); });
    for (const float x : counted) {
      done += static_cast<double>(x);
    }
  }
  return done;
}

} // namespace

const bench::arch_limits bench::limits::XSOFTMAX_TARGET_ARCH{draw_words, multiply_adds};

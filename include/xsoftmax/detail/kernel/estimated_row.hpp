// SPDX-License-Identifier: MIT
// The last pass of softmax from bfloat16 to bfloat16. An estimate that saves the pair of 1 / S and the careful rounding
// decides nearly every result; the few that it leaves within its error of the middle between two numbers are computed
// in full, and so are those that are not normal numbers (A. Ziv, "Fast evaluation of elementary mathematical functions
// with correctly rounded last bit", 1991). The bits are those of the full computation.
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Does the architecture have what this takes?
template <class A>
inline constexpr bool has_estimates = requires {
  typename native<A>::words;
};

/// p = estimate(z), or step(z) where that does not decide; `stream`: past the caches.
template <class A, class Step, class In, class Out>
__attribute__((noinline)) void write_estimated(math::probability_estimate<A> estimate, Step step, In z, Out p,
                                               std::size_t n, bool stream) {
  using N = native<A>;
  using F = batch<A, float>;
  constexpr std::size_t width = 2 * lanes<A, float>;
  constexpr std::size_t chunk = 2 * width;
  const auto in_full = [&](std::size_t first, std::size_t last) XSOFTMAX_LAMBDA {
    const auto offset = static_cast<std::ptrdiff_t>(first);
    transform<A, float>(step, z.from(offset), p.from(offset), last - first);
  };
  const std::uint16_t* const from = z.halves();
  std::uint16_t* const to = p.halves();
  const auto address = reinterpret_cast<std::uintptr_t>(to);
  const bool aligns = address % sizeof(*to) == 0;
  const std::size_t head = (width - address / sizeof(*to) % width) % width;
  std::size_t i = stream && aligns ? (head < n ? head : n) : 0;
  in_full(0, i);
  const auto pass = [&](auto streams) XSOFTMAX_LAMBDA {
    for (; n - i >= chunk; i += chunk) {
      typename N::words rounded[2];
      typename N::words margin = N::widest_margin();
      F smallest(infinity<float>);
      unroll<2>([&](auto b) XSOFTMAX_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        F even;
        F odd;
        N::load_bfloat16_apart(from + i + at * width, even, odd);
        smallest = N::min_keeping_nan(N::min_keeping_nan(even, odd), smallest);
        rounded[at] = N::round_bfloat16(estimate(even), estimate(odd), margin);
      });
      if (N::any_unsure(margin) || N::any_not_above(smallest, estimate.lowest())) [[unlikely]] {
        const auto offset = static_cast<std::ptrdiff_t>(i);
        store_chunk<A, false, float>(p.from(offset), 0, full_chunk<chunk>{},
                                     map(step, load_chunk<A, float>(z.from(offset), 0, full_chunk<chunk>{}, 0.0f)));
        continue;
      }
      unroll<2>([&](auto b) XSOFTMAX_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        if constexpr (decltype(streams)::value != 0) {
          N::stream_words(to + i + at * width, rounded[at]);
        } else {
          N::store_words(to + i + at * width, rounded[at]);
        }
      });
    }
  };
  if (stream && aligns) {
    pass(index_constant<1>{});
    N::fence();
  } else {
    pass(index_constant<0>{});
  }
  in_full(i, n);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

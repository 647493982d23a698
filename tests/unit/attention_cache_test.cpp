// SPDX-License-Identifier: MIT
// Caches that are filled differently for each entry of the batch, and one workspace for all calls.

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/types.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

TEMPLATE_LIST_TEST_CASE("attention: queries at the end of each entry's keys have the bits of the entry alone",
                        "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const std::array<int, 3> lengths{300, 100, 3};
  constexpr std::size_t capacity = 320, depth = 20;
  for (const std::size_t q_len : {1u, 3u}) {
    const auto p = make_attention<T>({3, 2, 1, q_len, capacity, depth, depth}, q_len);
    const xs::attention_view<const T> q(p.q.data(), 3, 2, q_len, depth);
    const xs::attention_view<const T> k(p.k.data(), 3, 1, capacity, depth);
    const xs::attention_view<const T> v(p.v.data(), 3, 1, capacity, depth);
    const std::array<T, 2> slopes{T(0.25), T(0.5)};
    const auto compare = [&](const std::string& kind, const auto& attend) {
      std::vector<T> together(3 * 2 * q_len * depth), alone(2 * q_len * depth);
      attend(q, k, v, xs::attention_view<T>(together.data(), 3, 2, q_len, depth), xs::count_view(lengths),
             xs::causal_alignment::key_lengths);
      for (std::size_t b = 0; b < 3; ++b) {
        const auto entry = [&](const auto& x) {
          return xs::attention_view<const T>(x.data() + static_cast<std::ptrdiff_t>(b) * x.batch_stride(), 1, x.heads(),
                                             x.length(), x.depth());
        };
        attend(entry(q), entry(k).positions(0, lengths[b]), entry(v).positions(0, lengths[b]),
               xs::attention_view<T>(alone.data(), 1, 2, q_len, depth), xs::count_view(),
               xs::causal_alignment::bottom_right);
        found.expect(
            std::equal(alone.begin(), alone.end(), together.begin() + static_cast<std::ptrdiff_t>(b * alone.size())),
            [&] { return kind + ": entry " + std::to_string(b) + " of " + std::to_string(q_len) + " queries"; });
      }
    };
    compare("softmax", [&](auto a, auto b, auto c, auto out, auto counts, auto alignment) {
      xs::softmax_attention<Arch>(
          a, b, c, out,
          {.causal = true, .alignment = alignment, .window_left = 40, .key_lengths = counts, .alibi_slopes = slopes});
    });
    compare("sigmoid", [&](auto a, auto b, auto c, auto out, auto counts, auto alignment) {
      xs::sigmoid_attention<Arch>(
          a, b, c, out, {.alignment = alignment, .window_left = 40, .window_right = 0, .key_lengths = counts});
    });
    compare("softplus", [&](auto a, auto b, auto c, auto out, auto counts, auto alignment) {
      xs::softplus_attention<Arch>(
          a, b, c, out,
          {.causal = true, .alignment = alignment, .window_left = 40, .key_lengths = counts, .reweight_power = 3.0});
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention: the workspace of a problem serves every smaller one", "[attention][unit]") {
  const float none = 0;
  const auto in_order = [](std::size_t count, const auto& body) {
    for (std::size_t i = 0; i < count; ++i) {
      body(i);
    }
  };
  const auto needed = [&](std::size_t queries, std::size_t keys, std::size_t heads, bool shared) {
    const xs::attention_view<const float> q(&none, 2, 4 * heads, queries, 64);
    const xs::attention_view<const float> k(&none, 2, heads, keys, 64);
    return shared ? xs::attention_workspace(in_order, q, k, k) : xs::attention_workspace(q, k, k);
  };
  findings found;
  for (const bool shared : {false, true}) {
    for (const std::size_t heads : {1u, 2u, 8u}) {
      std::size_t before = 0;
      for (std::size_t queries = 0; queries <= 520; ++queries) {
        const std::size_t most = needed(queries, 5000, heads, shared);
        found.expect(most >= before,
                     [&] { return std::to_string(queries) + " queries need less than one query less"; });
        before = most;
        std::size_t shorter = 0;
        for (std::size_t keys = 0; keys <= 5000; keys += 1 + keys / 7) {
          const std::size_t bytes = needed(queries, keys, heads, shared);
          found.expect(bytes >= shorter && bytes <= most, [&] { return std::to_string(keys) + " keys need more"; });
          shorter = bytes;
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// What must not be visible in the bits of attention: batch, heads, the other queries, decoding or prefill, keys that
// are not seen and how they are hidden, layout, executor, flushed subnormal numbers and (with fused multiply-add) the
// architecture.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/flushing.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();

/// Options by which no result depends on the number of keys that a query does not see.
template <class T>
attention_problem<T> rich_problem(const attention_shape& s, std::uint64_t seed) {
  attention_problem<T> p = make_attention<T>(s, seed);
  generator random(seed);
  p.bias = -3.5;
  p.causal = seed % 2 == 0;
  if (seed % 3 == 0) {
    set_mask(p, seed % 2 == 0 ? mask_kind::additive : mask_kind::boolean,
             {s.batch, seed % 4 == 0 ? 1 : s.heads, s.q_len, s.kv_len}, 0.8, seed);
  }
  if (seed % 4 == 1) {
    p.key_bias.resize(s.kv_len * (seed % 8 == 1 ? 1 : s.batch));
    fill_normal(p.key_bias, random, 1);
  }
  if (seed % 5 == 2) {
    p.alibi_slopes.resize(s.heads);
    for (T& x : p.alibi_slopes) {
      x = static_cast<T>(random.uniform(0, 0.05));
    }
  }
  if (seed % 3 == 1) {
    p.sink.resize(s.heads);
    fill_normal(p.sink, random, 1);
  }
  if (seed % 4 == 2) {
    p.softcap = 5;
  }
  if (seed % 5 == 3) {
    p.window_left = 70;
  }
  set_random_weights(p, random, seed % 3 == 2, seed % 2 == 0);
  return p;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("attention: a batch has the bits of its heads alone", "[attention][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const attention_shape& s : {attention_shape{3, 4, 2, 5, 70, 12, 9},
                                   {2, 6, 1, 1, 200, 16, 16},
                                   {1, 6, 3, 50, 66, 8, 40},
                                   {2, 3, 3, 130, 129, 5, 3},
                                   {1, 8, 1, 70, 40, 33, 17}}) {
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      const attention_problem<T> p = rich_problem<T>(s, seed);
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        const attention_result<T> all = attend<Arch, Of>(variant);
        for (std::size_t b = 0; b < s.batch; ++b) {
          for (std::size_t h = 0; h < s.heads; ++h) {
            attention_part part = whole(s);
            part.first_batch = b;
            part.last_batch = b + 1;
            part.first_head = h;
            part.last_head = h + 1;
            expect_bits_of_part<Of>(found, variant, all, part, attend<Arch, Of>(part_of(variant, part)),
                                    std::string(Arch::name) + ", " + kind + ", a head alone");
          }
        }
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: decoding has the bits of prefill", "[attention][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr std::size_t n = 2300;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const attention_shape s{1, seed == 1 ? std::size_t{4} : std::size_t{1},  1, n,
                            n, seed == 2 ? std::size_t{40} : std::size_t{8}, 12};
    attention_problem<T> p = make_attention<T>(s, seed);
    p.causal = true;
    p.bias = -7.6;
    if (seed == 1) {
      p.alibi_slopes = {T(0.01), T(0.02), T(0.5), T(0)};
      p.sink = {T(0), T(1), T(2), T(3)};
    }
    generator random(seed);
    if (seed == 3) {
      p.window_left = 1500;
      set_random_weights(p, random, true, true);
    }
    std::vector<std::size_t> positions = {0, 1, 2, 3, 4, 5, 31, 62, 63, 64, 65, 127, 128, 129, 191, 192, 255, 256, 511};
    for (const std::size_t around : {1024u, 1088u, 2048u, 2112u}) {
      for (std::size_t i = around - 2; i <= around + 2; ++i) {
        positions.push_back(i);
      }
    }
    positions.push_back(n - 1);
    for (int i = 0; i < 15; ++i) {
      positions.push_back(random.below(n));
    }
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      const attention_result<T> prefill = attend<Arch, Of>(variant);
      for (const std::size_t i : positions) {
        attention_part part = whole(s);
        part.first_query = i;
        part.last_query = i + 1;
        part.keys = i + 1;
        expect_bits_of_part<Of>(found, variant, prefill, part, attend<Arch, Of>(part_of(variant, part)),
                                std::string(Arch::name) + ", " + kind + ", decoded");
      }
      // In chunks: some queries at a time, as of speculative decoding.
      for (const auto& [first, last] : {std::pair<std::size_t, std::size_t>{60, 67}, {1000, 1300}, {2000, 2300}}) {
        attention_part part = whole(s);
        part.first_query = first;
        part.last_query = last;
        part.keys = last;
        expect_bits_of_part<Of>(found, variant, prefill, part, attend<Arch, Of>(part_of(variant, part)),
                                std::string(Arch::name) + ", " + kind + ", a chunk");
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: a query has its bits in any company", "[attention][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // The last queries of a sequence keep their positions at the bottom right, the first ones at the top left.
  findings found;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    const std::size_t heads = 1 + seed % 3;
    const attention_shape s{1, heads, 1, seed % 2 == 0 ? std::size_t{300} : std::size_t{80}, 131, 10, 7};
    for (const bool top_left : {false, true}) {
      attention_problem<T> p = rich_problem<T>(s, seed);
      p.top_left = top_left;
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        const attention_result<T> all = attend<Arch, Of>(variant);
        for (const std::size_t cut : {1u, 2u, 5u, 6u, 7u, 40u, 63u, 64u, 71u, 79u}) {
          attention_part part = whole(s);
          (top_left ? part.last_query : part.first_query) = cut;
          expect_bits_of_part<Of>(found, variant, all, part, attend<Arch, Of>(part_of(variant, part)),
                                  std::string(Arch::name) + ", " + kind + (top_left ? ", up to " : ", from ") +
                                      std::to_string(cut));
        }
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: every layout has the bits of the contiguous one", "[attention][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 0;
  for (const attention_shape& s : {attention_shape{2, 4, 2, 5, 70, 12, 9},
                                   {1, 2, 1, 1, 130, 64, 64},
                                   {1, 1, 1, 67, 65, 17, 33},
                                   {2, 2, 2, 3, 3, 1, 1},
                                   {1, 1, 1, 7, 64, 129, 20}}) {
    const attention_problem<T> p = rich_problem<T>(s, ++seed);
    const std::size_t count = heads_layouts(1, 1, 1).size();
    for (std::size_t l = 0; l < count; ++l) {
      for (const std::size_t shift : {std::size_t{0}, 3 + l % 5}) { // all the same layout, or different ones
        const auto of = [&](std::size_t which, std::size_t heads, std::size_t length, std::size_t depth) {
          return heads_layouts(heads, length, depth)[(l + which * shift) % count];
        };
        laid_out_heads<T> q(p.q, s.batch, s.heads, s.q_len, s.depth, of(0, s.heads, s.q_len, s.depth), 1);
        laid_out_heads<T> k(p.k, s.batch, s.kv_heads, s.kv_len, s.depth, of(1, s.kv_heads, s.kv_len, s.depth), 2);
        laid_out_heads<T> v(p.v, s.batch, s.kv_heads, s.kv_len, s.value_depth,
                            of(2, s.kv_heads, s.kv_len, s.value_depth), 3);
        const heads_layout to = of(3, s.heads, s.q_len, s.value_depth);
        for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
          const attention_result<T> expected = attend<Arch, Of>(variant);
          laid_out_heads<T> out(s.batch, s.heads, s.q_len, s.value_depth, to, 5);
          attention_result<T> result(s);
          Of::template run<Arch>(q.view(), k.view(), v.view(), out.view(),
                                 options_with_log_sum_exp<Of>(variant, result));
          result.out = out.elements();
          const std::string what =
              std::string(Arch::name) + ", " + kind + ", from " + of(0, 1, 1, 1).what + " to " + to.what;
          expect_same_bits<Of>(found, variant, expected, result, what);
          found.expect(out.untouched_between(), [&] { return what + ": wrote between the elements"; });
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: whoever runs the bodies, the bits of the call without",
                        "[attention][invariance][executor][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 0;
  // One query and many keys, whose segments are split; few queries; many; many heads; too little to share out; segments
  // that do not divide into parts.
  for (const attention_shape& s : {attention_shape{1, 1, 1, 1, 5000, 128, 100},
                                   {1, 8, 1, 1, 3000, 64, 64},
                                   {1, 1, 1, 3, 2048, 200, 30},
                                   {1, 1, 1, 20, 2050, 16, 16},
                                   {1, 2, 2, 49, 1025, 20, 12},
                                   {1, 2, 1, 300, 300, 24, 24},
                                   {8, 4, 2, 30, 70, 16, 16},
                                   {1, 1, 1, 600, 40, 64, 8},
                                   {1, 1, 1, 4, 30, 8, 8},
                                   {4, 1, 1, 1, 7000, 32, 16}}) {
    attention_problem<T> p = rich_problem<T>(s, ++seed);
    if (seed % 3 == 2) { // segments without a key that anyone sees, too
      set_mask(p, mask_kind::boolean, {1, 1, s.q_len, s.kv_len}, 0.5, seed);
      for (std::size_t i = 0; i < s.q_len; ++i) {
        for (std::size_t j = s.kv_len / 3; j < s.kv_len; ++j) {
          p.mask.sees[i * s.kv_len + j] = false;
        }
      }
    }
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      const attention_result<T> expected = attend<Arch, Of>(variant);
      expect_right<Of>(found, variant, expected, kind, 3);
      for (const named_executor& e : every_executor()) {
        expect_same_bits<Of>(found, variant, expected, attend<Arch, Of>(variant, e.run),
                             std::string(Arch::name) + ", " + kind + ", " + e.name);
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention: an executor is called for what is worth it, once, and not for mistakes",
          "[attention][executor][unit]") {
  std::size_t calls = 0;
  std::size_t bodies = 0;
  const auto counting = [&](std::size_t count, const executor_body& body) {
    ++calls;
    bodies = count;
    run_in_order(count, body, [](std::size_t i) { return i; });
  };
  const auto run = [&](const attention_shape& s) {
    calls = 0;
    const attention_problem<float> p = make_attention<float>(s, 1);
    (void)attend<xs::default_arch, of_softmax_attention>(p, counting);
    return calls;
  };
  CHECK(run({1, 1, 1, 1, 100, 16, 16}) == 0);
  CHECK(run({1, 1, 1, 0, 100, 16, 16}) == 0);
  CHECK(run({1, 1, 1, 1, 5000, 128, 128}) == 1); // keys are split
  CHECK(bodies > 1);
  CHECK(run({1, 1, 1, 1000, 1000, 16, 16}) == 1);
  CHECK(bodies > 1);
  CHECK(bodies <= 64);
  CHECK(run({100, 2, 1, 64, 64, 32, 32}) == 1);
  CHECK(bodies == 64);
  calls = 0;
  attention_problem<float> p = make_attention<float>({1, 1, 1, 1000, 1000, 16, 16}, 1);
  p.scale = inf<double>;
  CHECK_THROWS_AS((attend<xs::default_arch, of_softmax_attention>(p, counting)), std::invalid_argument);
  CHECK(calls == 0);
}

TEMPLATE_LIST_TEST_CASE("attention: keys to the right that are masked change no bit", "[attention][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t kv_len : {1u, 5u, 63u, 64u, 65u, 200u, 1023u, 1024u, 1100u}) {
    for (const std::size_t more : {1u, 3u, 60u, 64u, 130u, 1030u}) {
      const attention_problem<T> p = [&] {
        attention_problem<T> q = make_attention<T>({1, 2, 1, 5, kv_len, 9, 7}, kv_len);
        q.bias = -2;
        return q;
      }();
      attention_problem<T> longer = make_attention<T>({1, 2, 1, 5, kv_len + more, 9, 7}, kv_len + 1);
      longer.bias = -2;
      longer.q = p.q;
      std::copy(p.k.begin(), p.k.end(), longer.k.begin());
      std::copy(p.v.begin(), p.v.end(), longer.v.begin());
      // Hidden in each way: they are all the same to the result.
      const auto check = [&](const char* what, const auto& hide) {
        attention_problem<T> hidden = longer;
        hide(hidden);
        for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
          hidden.reweight_power = variant.reweight_power;
          expect_same_bits<Of>(found, variant, attend<Arch, Of>(variant), attend<Arch, Of>(hidden),
                               std::string(Arch::name) + ", " + kind + ", " + std::to_string(more) + " more, " + what);
        });
      };
      check("key_lengths", [&](auto& x) { x.key_lengths = {static_cast<long>(kv_len)}; });
      check("boolean mask", [&](auto& x) {
        set_mask(x, mask_kind::boolean, {1, 1, 1, kv_len + more}, 2, 1);
        for (std::size_t j = kv_len; j < kv_len + more; ++j) {
          x.mask.sees[j] = false;
        }
      });
      check("additive mask", [&](auto& x) {
        set_mask(x, mask_kind::additive, {1, 1, 1, kv_len + more}, 0, 1);
        std::fill_n(x.mask.added.begin(), kv_len, T(0));
      });
      check("key_bias", [&](auto& x) {
        x.key_bias.assign(kv_len + more, -inf<T>);
        std::fill_n(x.key_bias.begin(), kv_len, T(0));
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: it is the same how keys are hidden", "[attention][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const auto& [q_len, kv_len] : {std::pair<std::size_t, std::size_t>{9, 150}, {70, 66}, {3, 1200}}) {
    const attention_shape s{2, 2, 1, q_len, kv_len, 10, 7};
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      attention_problem<T> closed = make_attention<T>(s, seed);
      closed.bias = -1;
      closed.causal = seed % 2 == 0;
      closed.top_left = seed % 3 == 0;
      if (seed % 4 >= 2) {
        closed.window_left = seed * 7;
      }
      if (seed % 3 == 1) {
        closed.window_right = seed;
      }
      if (seed % 5 == 0) {
        closed.key_lengths = {static_cast<long>(kv_len * 2 / 3), static_cast<long>(kv_len)};
      }
      // The same as a mask of each kind.
      attention_problem<T> masked = closed;
      masked.causal = false;
      masked.window_left.reset();
      masked.window_right.reset();
      masked.key_lengths.clear();
      attention_problem<T> added = masked;
      set_mask(masked, mask_kind::boolean, {2, 1, q_len, kv_len}, 2, 1);
      set_mask(added, mask_kind::additive, {2, 1, q_len, kv_len}, 2, 1);
      for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t i = 0; i < q_len; ++i) {
          for (std::size_t j = 0; j < kv_len; ++j) {
            const std::size_t m = masked.mask.index(b, 0, i, j);
            masked.mask.sees[m] = closed.sees(b, 0, i, j);
            added.mask.added[m] = closed.sees(b, 0, i, j) ? T(0) : -inf<T>;
          }
        }
      }
      for_each_variant(closed, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        const attention_result<T> expected = attend<Arch, Of>(variant);
        for (attention_problem<T>* other : {&masked, &added}) {
          other->reweight_power = variant.reweight_power;
          expect_same_bits<Of>(found, variant, expected, attend<Arch, Of>(*other),
                               std::string(Arch::name) + ", " + kind + ", as a mask");
        }
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: other queries, heads and entries may hold anything",
                        "[attention][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const attention_shape s{2, 4, 2, 9, 140, 12, 9};
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    const attention_problem<T> p = rich_problem<T>(s, seed);
    const std::size_t b = seed % 2;
    const std::size_t h = seed % 4;
    const std::size_t i = seed % 9;
    for (const T garbage : {std::numeric_limits<T>::quiet_NaN(), inf<T>, std::numeric_limits<T>::max()}) {
      attention_problem<T> bad = p;
      bad.q.assign(bad.q.size(), garbage);
      std::copy_n(p.query(b, h, i), s.depth, bad.query(b, h, i));
      for (std::size_t other_b = 0; other_b < s.batch; ++other_b) {
        for (std::size_t other_h = 0; other_h < s.kv_heads; ++other_h) {
          if (other_b != b || other_h != p.kv_head(h)) {
            std::fill_n(bad.key(other_b, other_h, 0), s.kv_len * s.depth, garbage);
            std::fill_n(bad.value(other_b, other_h, 0), s.kv_len * s.value_depth, garbage);
          }
        }
      }
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        bad.reweight_power = variant.reweight_power;
        const attention_result<T> expected = attend<Arch, Of>(variant);
        const attention_result<T> result = attend<Arch, Of>(bad);
        const std::size_t row = p.row_of(b, h, i);
        found.expect(
            first_difference(&expected.out[row * s.value_depth], &result.out[row * s.value_depth], s.value_depth) ==
                    s.value_depth &&
                (!is_softmax_attention<Of> || bits(expected.log_sum_exp[row]) == bits(result.log_sum_exp[row])),
            [&] {
              return std::string(Arch::name) + ", " + kind + ", among " + exact_text(garbage) + "; " + text_of(p);
            });
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: flush-to-zero takes subnormal results and nothing else",
                        "[attention][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    attention_problem<T> p = rich_problem<T>({1, 2, 1, 9, 200, 16, 8}, seed);
    for (T& x : p.q) { // weights from 1 down to nothing
      x *= T(8);
    }
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      attention_result<T> expected = attend<Arch, Of>(variant);
      attention_result<T> flushed = [&] {
        const flushing scope(flush_to_zero | denormals_are_zero);
        return attend<Arch, Of>(variant);
      }();
      for (attention_result<T>* r : {&expected, &flushed}) {
        for (T& x : r->out) {
          x = std::fabs(x) < std::numeric_limits<T>::min() ? T(0) : x;
        }
      }
      expect_same_bits<Of>(found, variant, expected, flushed, std::string(Arch::name) + ", " + kind + ", flushing");
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(XSOFTMAX_DISPATCH_AVX2) && defined(XSOFTMAX_DISPATCH_AVX512)

TEMPLATE_LIST_TEST_CASE("attention: avx2 and avx512 give the same bits", "[attention][invariance][unit]", scalars) {
  using T = TestType;
  if (!runnable<xs::arch::avx2>() || !runnable<xs::arch::avx512>()) {
    return;
  }
  findings found;
  generator random(5);
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    const std::size_t kv_heads = 1 + random.below(2);
    attention_problem<T> p =
        make_attention<T>({1 + random.below(2), kv_heads * (1 + random.below(3)), kv_heads, 1 + random.below(70),
                           1 + random.below(seed % 9 == 0 ? 2300 : 200), 1 + random.below(140), 1 + random.below(140)},
                          seed);
    set_random_options(p, seed);
    const double size = random.uniform(0.1, 6);
    for (T& x : p.q) {
      x *= static_cast<T>(size);
    }
    for_each_attention([&]<class Of>(Of) {
      const attention_result<T> expected = attend<xs::arch::avx2, Of>(p);
      expect_same_bits<Of>(found, p, expected, attend<xs::arch::avx512, Of>(p), "avx512, after avx2");
      if (std::string(xs::active_architecture<xs::runtime>()) != xs::arch::sse2::name) { // by the environment
        expect_same_bits<Of>(found, p, expected, attend<xs::runtime, Of>(p), "runtime, after avx2");
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#endif

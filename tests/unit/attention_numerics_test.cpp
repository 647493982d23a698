// SPDX-License-Identifier: MIT
// How accurate attention is: against known answers, over grids of lengths and depths, on rows made to go wrong, and
// when results over parts of the keys are put together.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <vector>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// The queries, keys and values of tests/data/kat_sigmoid_attention.json; all exact in float.
template <class T>
attention_problem<T> three_by_three() {
  attention_problem<T> p;
  p.shape = {1, 1, 1, 3, 3, 2, 2};
  p.q = {T(1), T(0.5), T(-0.25), T(1.5), T(0.75), T(-1)};
  p.k = {T(0.5), T(-0.5), T(1), T(0.25), T(-1.5), T(0.75)};
  p.v = {T(1), T(2), T(-0.5), T(0.25), T(0.75), T(-1.25)};
  return p;
}

/// Those of tests/data/kat_lssar.json.
template <class T>
attention_problem<T> six_by_six() {
  attention_problem<T> p;
  p.shape = {1, 1, 1, 6, 6, 4, 4};
  p.q = {T(-1.5), T(0),   T(1.5),  T(-0.5), T(1),   T(-1),   T(0.5), T(-1.5), T(0),   T(1.5), T(-0.5), T(1),
         T(-1),   T(0.5), T(-1.5), T(0),    T(1.5), T(-0.5), T(1),   T(-1),   T(0.5), T(1),   T(0.25), T(-0.75)};
  p.k = {T(-0.5), T(0.75), T(-0.25), T(1),     T(0.25),  T(-0.75), T(0.5),  T(-0.5),  T(1),   T(0),    T(-1),   T(0.25),
         T(0.75), T(0.5),  T(0.25),  T(-0.25), T(-0.25), T(1),     T(-0.5), T(-0.75), T(0.5), T(0.25), T(0.75), T(1)};
  p.v = {T(-1),   T(0.75),  T(-0.25), T(-1.25), T(0),     T(-1),  T(0.75), T(-0.25),
         T(1),    T(0),     T(-1),    T(0.75),  T(-0.75), T(1),   T(0),    T(-1),
         T(0.25), T(-0.75), T(1),     T(0),     T(1.25),  T(0.5), T(-0.5), T(0.25)};
  p.causal = true;
  return p;
}

using answers = std::vector<std::vector<const char*>>;

/// The reference gives the answers, and the library what the reference allows.
template <class Arch, class Of, class T>
void expect_answers(findings& found, const attention_problem<T>& p, const answers& out, const std::string& what,
                    const std::vector<const char*>& log_sum_exp = {}) {
  for (std::size_t i = 0; i < p.shape.q_len; ++i) {
    const exact_query e = exact_attention(Of::kind, p, 0, 0, i);
    for (std::size_t c = 0; c < p.shape.value_depth; ++c) {
      const long double answer = std::strtold(out[i][c], nullptr);
      found.expect(std::fabs(e.out[c] - answer) <= 0x1p-58L,
                   [&] { return "the reference, " + what + ": " + exact_text(e.out[c]) + " is not " + out[i][c]; });
    }
    if (!log_sum_exp.empty()) {
      found.expect(std::fabs(e.log_sum_exp - std::strtold(log_sum_exp[i], nullptr)) <= 0x1p-58L,
                   [&] { return "the reference, " + what + ": log_sum_exp"; });
    }
  }
  expect_right<Of>(found, p, attend<Arch, Of>(p), what);
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax_attention: scaled and shifted weights", "[attention][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // One query of 1, so that scores are the keys; inputs are rounded to T.
  struct answer {
    std::vector<long double> scores;
    std::vector<long double> values;
    long double scale;
    long double sum;
    std::vector<long double> out;
  };
  const answer known[] = {
      {{0.2L, 0.8L, -0.5L}, {1, 0, 0, 2, 3, 1}, 0.7L, 0.55L, {0.325153518738175775L, 0.723405986857396108L}},
      {{std::log(0.1L), std::log(0.9L)}, {1, 0, 0, 1}, 0.8L, 0.4L, {-0.12L, 0.52L}}};
  const auto rounded_to = [](const std::vector<long double>& x) { return std::vector<T>(x.begin(), x.end()); };
  for (const answer& a : known) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 1, a.scores.size(), 1, 2}, 1);
    p.q = {T(1)};
    p.k = rounded_to(a.scores);
    p.v = rounded_to(a.values);
    p.weight_scale = {static_cast<T>(a.scale)};
    p.weight_sum = {static_cast<T>(a.sum)};
    const std::vector<T> out = attend<Arch, of_softmax_attention>(p).out;
    for (std::size_t c = 0; c < 2; ++c) {
      // A unit for each number that was rounded on the way in, of sizes around 1, and for each step.
      found.expect(std::fabs(out[c] - a.out[c]) <= 8 * std::numeric_limits<T>::epsilon(),
                   [&] { return "column " + std::to_string(c) + ": " + exact_text(out[c]); });
    }
  }
  // With values of 1, out is what the weights add up to, whatever is seen; without shift it is their scale.
  for (std::uint64_t seed = 0; seed < 6; ++seed) {
    attention_problem<T> p = make_attention<T>({2, 4, 2, 9, 150 + 700 * seed, 8, 5}, seed);
    generator random(seed);
    set_random_weights(p, random, true, seed % 2 == 0);
    p.causal = seed % 3 == 0;
    set_mask(p, mask_kind::boolean, {2, 1, 9, p.shape.kv_len}, 0.7, seed);
    p.v.assign(p.v.size(), T(1));
    const std::vector<T> out = attend<Arch, of_softmax_attention>(p).out;
    for (std::size_t n = 0; n < out.size(); ++n) {
      const std::size_t row = n / 5;
      const T sum = seed % 2 == 0 ? p.weight_sum[row / 9 % 4] : p.weight_scale[row];
      // The weights' own sum is off by less than 16 units, that of the shifts by as much of 1 + |scale|.
      found.expect(std::fabs(out[n] - sum) <= 64 * std::numeric_limits<T>::epsilon(), [&] {
        return "row " + std::to_string(row) + ": " + exact_text(out[n]) + ", not " + exact_text(sum) + "; " +
               text_of(p);
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: known answers", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // Computed with 25 digits and more.
  attention_problem<T> p = three_by_three<T>();
  expect_answers<Arch, of_softmax_attention>(
      found, p,
      {{"0.109866694254128532192624", "0.615610469767799880888722"},
       {"0.477645803417086384631915", "-0.50006923713008102514649"},
       {"0.378900391959599113179183", "1.053829997746141974525520"}},
      "softmax", {"1.350734533721953624197129", "1.508362355559586395353473", "1.265890693734370837483311"});
  expect_answers<Arch, of_sigmoid_attention>(found, p,
                                             {{"0.1702688446391614870196", "0.5118958990306178861350"},
                                              {"0.3866321214599796039334", "-0.241976773820097596821"},
                                              {"0.2823238150863412560355", "0.7433689837327198362998"}},
                                             "sigmoid, full");
  p.alibi_slopes = {T(0.5)};
  expect_answers<Arch, of_sigmoid_attention>(found, p,
                                             {{"0.1692386837848527553001", "0.5809508047411823830795"},
                                              {"0.2412350057790697529552", "-0.197686230617939223002"},
                                              {"0.1346612048681241234026", "0.3251159445278159783054"}},
                                             "sigmoid, alibi slope 0.5");
  p.alibi_slopes.clear();
  p.key_lengths = {2};
  expect_answers<Arch, of_sigmoid_attention>(found, p,
                                             {{"0.1109189890771905583193", "0.8787938217976274107143"},
                                              {"0.0355469748299116281685", "0.5126635796583361657071"},
                                              {"0.2734473213902034452537", "1.0667798349198603201695"}},
                                             "sigmoid, padded nk=2");
  p.key_lengths.clear();
  p.causal = true;
  expect_answers<Arch, of_sigmoid_attention>(found, p,
                                             {{"0.2845840271787325304098", "0.5691680543574650608196"},
                                              {"0.0187472893615484455294", "0.3711646130106210005187"},
                                              {"0.2823238150863412560355", "0.7433689837327198362998"}},
                                             "sigmoid, causal");
  expect_answers<Arch, of_softmax_attention>(
      found, p,
      {{"1", "2"},
       {"-0.00464232398998538842519", "0.827917288678350380170608"},
       {"0.378900391959599113179183", "1.053829997746141974525520"}},
      "softmax, causal", {"0.176776695296636881100211", "0.489221874119020812388035", "1.265890693734370837483311"});
  p.causal = false;
  p.sink = {T(0.5)};
  expect_answers<Arch, of_softmax_attention>(
      found, p,
      {{"0.076985922385063106580083", "0.431371310174786198527050"},
       {"0.349970859161758422385985", "-0.36640049866817086357860"},
       {"0.258649266618281565932345", "0.719377339906390014415186"}},
      "softmax, sink", {"1.706379715217668805591646", "1.819381924862299656444224", "1.647691085201322872044127"});
  attention_problem<T> l = six_by_six<T>();
  expect_answers<Arch, of_softplus_attention>(
      found, l,
      {{"-1.000000000000000000000", "0.7500000000000000000000", "-0.250000000000000000000", "-1.250000000000000000000"},
       {"-0.212747957835720132227", "-0.627691073787489768602", "0.5372520421642798677726", "-0.462747957835720132227"},
       {"-0.236970315817869571228", "0.3559582890859913092717", "-0.428230552222589130850", "-0.486970315817869571228"},
       {"-0.231350117795957076399", "0.3854960651142576329635", "-0.377906856348025948020", "-0.481350117795957076399"},
       {"-0.102199591090170940684", "-0.089868803111939112263", "0.2151338044692242428690", "-0.352199591090170940684"},
       {"-0.022679749129558238185", "0.1379747370837183548821", "0.1752392143968317897117",
        "-0.346745488726595110561"}},
      "LSSA");
  l.reweight_power = 3;
  expect_answers<Arch, of_softplus_attention>(
      found, l,
      {{"-1.000000000000000000000", "0.7500000000000000000000", "-0.250000000000000000000", "-1.250000000000000000000"},
       {"-0.019353839912674368149", "-0.966130780152819855738", "0.7306461600873256318506", "-0.269353839912674368149"},
       {"-0.656582107586475922971", "0.6183896432450284087058", "-0.375953062555171466477", "-0.906582107586475922971"},
       {"-0.916063453840742499108", "0.7185237951902784371656", "-0.281476204809721562834", "-1.166063453840742499108"},
       {"-0.238091999918283368357", "-0.365088000217911017713", "0.5119080000817166316425", "-0.488091999918283368357"},
       {"-0.483964212921089952214", "0.5344373726119074163756", "0.2660357870789100477853",
        "-0.733964212921089952214"}},
      "LSSAR 3");
  l.reweight_power = 15;
  expect_answers<Arch, of_softplus_attention>(
      found, l,
      {{"-1.000000000000000000000", "0.7500000000000000000000", "-0.250000000000000000000", "-1.250000000000000000000"},
       {"-2.994153492240056070584184e-9", "-0.999999994760231388579", "0.7499999970058465077599",
        "-0.250000002994153492240"},
       {"-0.999252573174777745978", "0.7497197149404109461469", "-0.250280285059327636663", "-1.249252573174777745978"},
       {"-0.999999677346810551838", "0.7499998790050539569394", "-0.250000120994946043060", "-1.249999677346810551838"},
       {"-0.015976239040687779678", "-0.957396695891499254190", "0.7340237609593122203213", "-0.265976239040687779678"},
       {"-0.743782479576929628135", "0.9891193392596268492365", "0.0062175204230703718648",
        "-0.993782479576929628135"}},
      "LSSAR 15");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: the grid of lengths and depths", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr std::size_t lengths[] = {1, 2, 3, 7, 15, 33, 64, 113, 128, 203, 257, 1024};
  constexpr std::size_t depths[] = {1, 4, 16, 32, 40, 59, 64, 80, 96, 111, 128, 256};
  findings found;
  std::uint64_t seed = 0;
  for (std::size_t l = 0; l < std::size(lengths); ++l) {
    for (std::size_t d = 0; d < std::size(depths); ++d) {
      // Every length with every depth of queries; of values, the same or a neighbour's. The longest with some.
      const std::size_t partner =
          (l + d % 3 + std::size(lengths) - 1) % std::size(lengths); // the one before, itself, the next
      const std::size_t q_len = lengths[l];
      const std::size_t kv_len = lengths[partner];
      const std::size_t dv = depths[(d + (l + d) % 2 * 5) % std::size(depths)];
      if (q_len * kv_len * (depths[d] + dv) > 60000000 && (l + d) % 4 != 0) {
        continue;
      }
      attention_problem<T> p = make_attention<T>({1, 1, 1, q_len, kv_len, depths[d], dv}, ++seed);
      p.causal = seed % 3 == 0;
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        expect_right<Of>(found, variant, attend<Arch, Of>(variant), std::string(Arch::name) + ", " + kind, 6);
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

namespace {

/// A problem whose scores are exactly these numbers, for each query: keys of one component, or a bias.
template <class T>
attention_problem<T> with_scores(const std::vector<T>& scores, std::size_t queries, std::size_t dv, std::uint64_t seed,
                                 bool by_bias) {
  attention_problem<T> p = make_attention<T>({1, 1, 1, queries, scores.size(), 1, dv}, seed);
  p.scale = 1;
  p.bias = 0;
  p.q.assign(queries, by_bias ? T(0) : T(1));
  (by_bias ? p.key_bias : p.k) = scores;
  return p;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("attention: scores of every kind", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const row_kind kind : row_kinds) {
    for (const std::size_t n : {1u, 2u, 5u, 63u, 64u, 65u, 300u, 1500u, 2100u}) {
      const std::vector<T> scores = make_row<T>(kind, n, 3);
      const std::string what = std::string(Arch::name) + ", " + name(kind);
      for (const bool by_bias : {false, true}) {
        const attention_problem<T> p = with_scores(scores, 3, 5, n, by_bias);
        expect_right<of_softmax_attention>(found, p, attend<Arch, of_softmax_attention>(p), what);
        expect_right<of_sigmoid_attention>(found, p, attend<Arch, of_sigmoid_attention>(p), what);
      }
      // Softplus is no more than its argument, whose sums overflow, or than an exponential, which vanishes.
      const T largest = *std::max_element(scores.begin(), scores.end());
      if (largest > T(-80) && largest < std::numeric_limits<T>::max() / 4000) {
        attention_problem<T> b = with_scores(scores, 3, 5, n, true);
        expect_right<of_softplus_attention>(found, b, attend<Arch, of_softplus_attention>(b), what);
        b.reweight_power = 15;
        expect_right<of_softplus_attention>(found, b, attend<Arch, of_softplus_attention>(b), what);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: rows made to go wrong", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t kv_len : {5u, 64u, 130u, 1100u}) {
    for (const std::size_t d : {4u, 59u, 256u}) {
      const attention_problem<T> plain = make_attention<T>({1, 1, 1, 7, kv_len, d, 9}, kv_len + d);
      const auto check = [&](const char* what, const auto& change) {
        attention_problem<T> p = plain;
        generator random(kv_len * 7 + d);
        change(p, random);
        for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
          expect_right<Of>(found, variant, attend<Arch, Of>(variant),
                           std::string(Arch::name) + ", " + kind + ", " + what);
        });
      };
      const auto times = [](std::vector<T>& x, double factor) {
        for (T& y : x) {
          y = static_cast<T>(y * factor);
        }
      };
      check("all scores equal", [&](auto& p, auto&) {
        for (std::size_t n = d; n < p.k.size(); ++n) {
          p.k[n] = p.k[n % d];
        }
      });
      check("nearly equal", [&](auto& p, auto&) { times(p.k, 1e-4); });
      check("one dominates", [&](auto& p, auto&) {
        for (std::size_t c = 0; c < d; ++c) {
          p.key(0, 0, kv_len / 2)[c] = 5 * p.q[c];
        }
      });
      check("scores of 1e4", [&](auto& p, auto&) {
        times(p.q, 100);
        times(p.k, 100);
      });
      check("a large constant in every product", [&](auto& p, auto&) {
        for (std::size_t i = 0; i < 7; ++i) {
          p.query(0, 0, i)[0] = 100;
        }
        for (std::size_t j = 0; j < kv_len; ++j) {
          p.key(0, 0, j)[0] = T(100 * std::sqrt(static_cast<double>(d)));
        }
      });
      check("a large constant in every bias", [&](auto& p, auto&) {
        p.key_bias.assign(kv_len, T(1e4));
        p.bias = -1e4;
      });
      check("a constant in the mask", [&](auto& p, auto&) {
        set_mask(p, mask_kind::additive, {1, 1, 7, kv_len}, 2, 1);
        p.mask.added.assign(p.mask.size(), T(-60));
      });
      check("products that cancel", [&](auto& p, auto&) {
        for (std::size_t c = 0; c + 1 < d; c += 2) {
          for (std::size_t i = 0; i < 7; ++i) {
            p.query(0, 0, i)[c] *= 30;
            p.query(0, 0, i)[c + 1] = p.query(0, 0, i)[c];
          }
          for (std::size_t j = 0; j < kv_len; ++j) {
            p.key(0, 0, j)[c + 1] = -p.key(0, 0, j)[c];
          }
        }
      });
      check("values that cancel", [&](auto& p, auto&) {
        for (std::size_t n = 0; n < p.v.size(); ++n) {
          p.v[n] = static_cast<T>(n % 2 == 0 ? 1e6 : -1e6) + p.v[n];
        }
      });
      check("values of every size", [&](auto& p, generator& random) {
        for (T& x : p.v) {
          x = std::ldexp(x, static_cast<int>(random.below(200)) - 120);
        }
      });
      check("tiny values", [&](auto& p, auto&) { times(p.v, std::numeric_limits<T>::min()); });
      check("huge queries, tiny keys", [&](auto& p, auto&) {
        times(p.q, 0x1p100);
        times(p.k, 0x1p-100);
      });
      check("tiny queries, huge keys", [&](auto& p, auto&) {
        times(p.q, 0x1p-100);
        times(p.k, 0x1p100);
      });
      check("negative scale", [&](auto& p, auto&) { p.scale = -1.5; });
      check("small softcap", [&](auto& p, auto&) { p.softcap = 1e-3; });
      check("softcap", [&](auto& p, auto&) {
        p.softcap = 30;
        times(p.q, 10);
      });
      check("large softcap", [&](auto& p, auto&) { p.softcap = 1e9; });
      check("sink far above", [&](auto& p, auto&) { p.sink = {T(60)}; });
      check("sink far below", [&](auto& p, auto&) { p.sink = {T(-1e5)}; });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: values of which a sum of all is near the largest number",
                        "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t kv_len : {5u, 130u, 1100u}) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 7, kv_len, 16, 9}, kv_len);
    for (T& x : p.v) {
      x = std::copysign(std::numeric_limits<T>::max() / static_cast<T>(2 * kv_len), x);
    }
    p.bias = 0.0;
    expect_right_in_every_kind<Arch>(found, p);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: a scale beyond the range of a float", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const int size : {-80, 80}) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 7, 130, 16, 9}, 1);
    for (std::vector<T>* x : {&p.q, &p.k}) {
      for (T& y : *x) {
        y = std::ldexp(y, size);
      }
    }
    p.scale = std::ldexp(1.0, -2 * size);
    expect_right<of_softmax_attention>(found, p, attend<Arch, of_softmax_attention>(p), Arch::name);
    expect_right<of_sigmoid_attention>(found, p, attend<Arch, of_sigmoid_attention>(p), Arch::name);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: scores far below 0", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // Down to where the softplus of all scores of a row vanishes, which the docstring says.
  const double lowest_softplus = std::is_same_v<T, float> ? -80.0 : -690.0;
  const auto expect_as_promised = [&](const attention_problem<T>& p, double below) {
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      const std::vector<T> out = attend<Arch, Of>(variant).out;
      if (!std::is_same_v<Of, of_softplus_attention> || below + 8 > lowest_softplus) {
        expect_right<Of>(found, variant, attend<Arch, Of>(variant), std::string(Arch::name) + ", " + kind);
      }
      for (const T x : out) {
        found.expect(std::isfinite(x), [&] { return kind + ": a result is not finite"; });
      }
    });
  };
  for (const double below : {-70.0, -88.0, -95.0, -104.0, -680.0, -720.0, -3000.0}) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 7, 130, 16, 9}, 1);
    p.key_bias.assign(130, static_cast<T>(below));
    expect_as_promised(p, below);
  }
  // Positions count the keys that are there, not those that key_lengths leaves.
  attention_problem<T> p = make_attention<T>({1, 1, 1, 7, 1100, 16, 9}, 1);
  p.alibi_slopes = {T(0.7)};
  p.key_lengths = {500};
  expect_as_promised(p, -0.7 * 600);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention: vectors of every length", "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Cosines know no lengths: from the smallest number to the largest, also where squares overflow or vanish.
  findings found;
  using limits = std::numeric_limits<T>;
  const int lowest = limits::min_exponent - limits::digits;
  for (const std::size_t d : {1u, 3u, 16u, 59u, 200u}) {
    for (const std::size_t kv_len : {4u, 70u}) {
      for (std::uint64_t seed = 0; seed < 8; ++seed) {
        attention_problem<T> p = make_attention<T>({1, 1, 1, 5, kv_len, d, 6}, seed);
        generator random(seed);
        const auto resize = [&](T* x) {
          const int size =
              lowest + static_cast<int>(random.below(static_cast<std::size_t>(limits::max_exponent - 3 - lowest)));
          for (std::size_t c = 0; c < d; ++c) {
            x[c] = std::ldexp(x[c], seed % 2 == 0          ? size
                                    : random.below(2) == 0 ? limits::max_exponent - 4
                                                           : lowest + 4);
          }
        };
        for (std::size_t i = 0; i < 5; ++i) {
          resize(p.query(0, 0, i));
        }
        for (std::size_t j = 0; j < kv_len; ++j) {
          resize(p.key(0, 0, j));
        }
        if (seed == 6) {
          p.q.assign(p.q.size(), limits::max());
          p.k.assign(p.k.size(), limits::lowest());
          p.k[0] = limits::max();
        }
        if (seed == 7) {
          p.k.assign(p.k.size(), limits::denorm_min());
          p.k[0] = -limits::denorm_min();
        }
        for (const std::optional<double> power : {std::optional<double>(), std::optional<double>(15)}) {
          p.reweight_power = power;
          expect_right<of_softplus_attention>(found, p, attend<Arch, of_softplus_attention>(p),
                                              std::string(Arch::name) + ", seed " + std::to_string(seed));
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("sigmoid_attention: both tails are accurate relative to themselves",
                        "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const double end = std::is_same_v<T, float> ? -87 : -708;
  for (double score = end; score < 40; score += 0.0937) {
    attention_problem<T> p;
    p.shape = {1, 1, 1, 1, 1, 1, 1};
    p.q = {static_cast<T>(score)};
    p.k = {T(1)};
    p.v = {T(1)};
    p.scale = 1;
    p.bias = 0;
    const exact_query e = exact_attention(attention_kind::sigmoid, p, 0, 0, 0);
    const T out = attend<Arch, of_sigmoid_attention>(p).out[0];
    // The bound of the docstring without what it grants every result; the score is exact here. What would be near the
    // subnormal numbers is 0.
    const bool vanishes = out == 0 && e.out[0] < 1.6L * std::numeric_limits<T>::min();
    found.expect(vanishes || std::fabs(out - e.out[0]) <= attention_unit<T> * e.out[0], [&] {
      return "score " + exact_text(p.q[0]) + ": " + exact_text(out) + ", not " + exact_text(e.out[0]);
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax_attention: results over parts of the keys merge by log_sum_exp",
                        "[attention][numerics][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t kv_len : {2u, 9u, 64u, 200u, 1500u}) {
    for (const double size : {1.0, 5.0}) {
      for (std::size_t cut : {std::size_t{1}, kv_len / 3, kv_len / 2, kv_len - 1}) {
        cut = std::max<std::size_t>(cut, 1);
        attention_problem<T> p = make_attention<T>({1, 2, 1, 3, kv_len, 16, 8}, kv_len);
        for (T& x : p.q) {
          x *= static_cast<T>(size);
        }
        attention_problem<T> parts[2] = {p, p};
        for (int part = 0; part < 2; ++part) {
          set_mask(parts[part], mask_kind::boolean, {1, 1, 1, kv_len}, 2, 1);
          for (std::size_t j = 0; j < kv_len; ++j) {
            parts[part].mask.sees[j] = (j < cut) == (part == 0);
          }
        }
        const attention_result<T> a = attend<Arch, of_softmax_attention>(parts[0]);
        const attention_result<T> b = attend<Arch, of_softmax_attention>(parts[1]);
        for (std::size_t h = 0; h < 2; ++h) {
          for (std::size_t i = 0; i < 3; ++i) {
            const exact_query e = exact_attention(attention_kind::softmax, p, 0, h, i);
            const std::size_t row = p.row_of(0, h, i);
            const long double la = a.log_sum_exp[row];
            const long double lb = b.log_sum_exp[row];
            const long double total = std::max(la, lb) + std::log1p(std::exp(-std::fabs(la - lb)));
            const auto where = [&] { return std::to_string(kv_len) + " keys, cut at " + std::to_string(cut); };
            found.expect(std::fabs(total - e.log_sum_exp) <= e.log_sum_exp_bound, where);
            for (std::size_t c = 0; c < 8; ++c) {
              const long double merged =
                  std::exp(la - total) * a.out[row * 8 + c] + std::exp(lb - total) * b.out[row * 8 + c];
              // Once for the parts, twice for the errors of their weights, and the rounding of the logarithms.
              const long double rounding = 4 * std::numeric_limits<T>::epsilon() * (1 + std::fabs(e.log_sum_exp));
              found.expect(std::fabs(merged - e.out[c]) <=
                               3 * e.bound[c] + rounding * std::fabs(e.bound[c] / attention_unit<T>),
                           where);
            }
          }
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

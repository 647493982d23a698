// SPDX-License-Identifier: MIT
// NaN, infinity and nothing in attention: what a query sees reaches exactly its own results, what it does not see
// reaches none; weights of 0; rows without keys and uniform ones.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

/// Problems that hide keys in every way: each has blocks of which a query sees all, some, and nothing.
template <class T>
std::vector<std::pair<std::string, attention_problem<T>>> partly_hidden() {
  std::vector<std::pair<std::string, attention_problem<T>>> list;
  const attention_shape s{2, 2, 1, 9, 150, 12, 7};
  const auto add = [&](const char* what, const auto& change) {
    attention_problem<T> p = make_attention<T>(s, list.size() + 1);
    change(p);
    list.emplace_back(what, std::move(p));
  };
  add("all seen", [](auto&) {});
  add("causal", [](auto& p) { p.causal = true; });
  add("causal, top left", [](auto& p) { p.causal = p.top_left = true; });
  add("window", [](auto& p) {
    p.window_left = 70;
    p.window_right = 2;
  });
  add("narrow window", [](auto& p) { p.window_left = p.window_right = 1; });
  add("key_lengths", [](auto& p) { p.key_lengths = {131, 64}; });
  add("boolean mask", [&](auto& p) { set_mask(p, mask_kind::boolean, {2, 2, 9, 150}, 0.5, 1); });
  add("sparse boolean mask", [&](auto& p) { set_mask(p, mask_kind::boolean, {2, 1, 9, 150}, 0.03, 2); });
  add("additive mask", [&](auto& p) { set_mask(p, mask_kind::additive, {2, 2, 9, 150}, 0.5, 3); });
  add("mask of keys", [&](auto& p) { set_mask(p, mask_kind::boolean, {2, 1, 1, 150}, 0.5, 4); });
  add("mask of queries", [&](auto& p) { set_mask(p, mask_kind::boolean, {1, 2, 9, 1}, 0.5, 5); });
  add("key_bias", [](auto& p) {
    p.key_bias.assign(300, T(0.5));
    for (std::size_t n = 0; n < 300; n += 1 + n % 3) {
      p.key_bias[n] = -inf<T>;
    }
  });
  add("everything", [&](auto& p) {
    p.causal = true;
    p.window_left = 100;
    p.key_lengths = {150, 140};
    set_mask(p, mask_kind::additive, {2, 2, 9, 150}, 0.8, 6);
    p.key_bias.assign(150, T(0));
    p.key_bias[140] = -inf<T>;
    p.alibi_slopes = {T(0.01), T(0.02)};
    p.sink = {T(0), T(1)};
  });
  return list;
}

/// Does query i take value j, given the exact weights without re-weighting and with it? It takes all that it sees, but
/// with re-weighting those alone that keep a weight. Neither, where rounding decides.
enum class taken { yes, no, unsure };

template <class T>
taken takes_value(const exact_query& plain, const exact_query& reweighted, std::size_t j) {
  const auto at = static_cast<std::size_t>(std::find(plain.keys.begin(), plain.keys.end(), j) - plain.keys.begin());
  const auto n = static_cast<long double>(plain.keys.size());
  const long double r = plain.weights[at] * n - (n <= 3 ? 0 : 1);
  if (std::fabs(r) < 100 * attention_unit<T> * (1 + plain.reach)) {
    return taken::unsure;
  }
  // A power that underflows is no weight either; the docstring speaks of r.
  const long double largest = *std::max_element(reweighted.weights.begin(), reweighted.weights.end());
  const bool tiny = reweighted.weights[at] < largest * 4 * std::numeric_limits<T>::min();
  return r < 0 ? taken::no : tiny ? taken::unsure : taken::yes;
}

/// What one argument that became NaN or infinite may change: given the bits before and after, for each query either
/// every bit is as before, or the columns that saw it are NaN.
template <class Of, class T, class Sees>
void expect_poisoned(findings& found, const attention_problem<T>& p, const attention_result<T>& before,
                     const attention_result<T>& after, bool poisons_scores, const Sees& sees, const std::string& what) {
  const std::size_t dv = p.shape.value_depth;
  for (std::size_t b = 0; b < p.shape.batch; ++b) {
    for (std::size_t h = 0; h < p.shape.heads; ++h) {
      for (std::size_t i = 0; i < p.shape.q_len; ++i) {
        const std::size_t row = p.row_of(b, h, i);
        const auto where = [&] {
          return what + ", " + scalar_name<T>() + ", " + Of::name + ", query " + std::to_string(b) + " " +
                 std::to_string(h) + " " + std::to_string(i);
        };
        for (std::size_t c = 0; c < dv; ++c) {
          const T old = before.out[row * dv + c];
          const T now = after.out[row * dv + c];
          const bool right = sees(b, h, i, c) ? std::isnan(now) : bits(now) == bits(old);
          found.expect(right, [&] {
            return where() + ", column " + std::to_string(c) + (sees(b, h, i, c) ? ", which sees it: " : ": ") +
                   exact_text(now) + ", before " + exact_text(old) + "; " + text_of(p);
          });
        }
        if constexpr (is_softmax_attention<Of>) {
          const T old = before.log_sum_exp[row];
          const T now = after.log_sum_exp[row];
          found.expect(poisons_scores && sees(b, h, i, 0) ? std::isnan(now) : bits(now) == bits(old), [&] {
            return where() + ", log_sum_exp " + exact_text(now) + ", before " + exact_text(old) + "; " + text_of(p);
          });
        }
      }
    }
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("attention: NaN reaches exactly who sees it", "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const auto& [name, problem] : partly_hidden<T>()) {
    for_each_variant(problem, [&, name = name]<class Of>(Of, const attention_problem<T>& p, const std::string& kind) {
      const std::string what = std::string(Arch::name) + ", " + kind + ", " + name;
      const attention_result<T> before = attend<Arch, Of>(p);
      expect_right<Of>(found, p, before, what);
      for (const std::size_t j : {0u, 1u, 62u, 63u, 64u, 65u, 100u, 127u, 128u, 139u, 140u, 148u, 149u}) {
        const std::size_t batch = j % 2;
        const auto sees_key = [&](std::size_t b, std::size_t h, std::size_t i) {
          return b == batch && p.sees(b, h, i, j);
        };
        attention_problem<T> bad = p;
        bad.key(batch, 0, j)[j % 12] = j % 3 == 0 ? -not_a_number<T> : not_a_number<T>; // arithmetic makes either
        expect_poisoned<Of>(
            found, p, before, attend<Arch, Of>(bad), true,
            [&](std::size_t b, std::size_t h, std::size_t i, std::size_t) { return sees_key(b, h, i); },
            what + ", NaN in key " + std::to_string(j));
        bad = p;
        const std::size_t column = j % 7;
        bad.value(batch, 0, j)[column] = j % 3 == 0 ? -not_a_number<T> : not_a_number<T>;
        bool sure = true;
        const auto takes = [&](std::size_t b, std::size_t h, std::size_t i, std::size_t c) {
          if (c != column || !sees_key(b, h, i)) {
            return false;
          }
          if (Of::kind != attention_kind::softplus || !p.reweight_power) {
            return true;
          }
          attention_problem<T> plain = p;
          plain.reweight_power.reset();
          const taken t =
              takes_value<T>(exact_attention(Of::kind, plain, b, h, i), exact_attention(Of::kind, p, b, h, i), j);
          sure = sure && t != taken::unsure;
          return t == taken::yes;
        };
        findings here;
        expect_poisoned<Of>(here, p, before, attend<Arch, Of>(bad), false, takes,
                            what + ", NaN in value " + std::to_string(j));
        found.expect(here.failures() == 0 || !sure, [&] { return here.text(); });
      }
      for (const std::size_t i : {0u, 4u, 8u}) {
        attention_problem<T> bad = p;
        bad.query(1, i % 2, i)[i] = i == 4 ? -not_a_number<T> : not_a_number<T>;
        expect_poisoned<Of>(
            found, p, before, attend<Arch, Of>(bad), true,
            [&](std::size_t b, std::size_t h, std::size_t ii, std::size_t) {
              return b == 1 && h == i % 2 && ii == i && !exact_attention(Of::kind, p, b, h, i).keys.empty();
            },
            what + ", NaN in query " + std::to_string(i));
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: what no query sees leaves no trace", "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  using limits = std::numeric_limits<T>;
  for (const auto& [name, problem] : partly_hidden<T>()) {
    // All that no query of the entry sees: keys, values, and what is added to their scores.
    for (const T garbage : {not_a_number<T>, inf<T>, -inf<T>, limits::max(), limits::lowest(), limits::denorm_min()}) {
      attention_problem<T> bad = problem;
      for (std::size_t b = 0; b < 2; ++b) {
        for (std::size_t j = 0; j < problem.shape.kv_len; ++j) {
          bool seen = false;
          for (std::size_t h = 0; h < 2; ++h) {
            for (std::size_t i = 0; i < problem.shape.q_len; ++i) {
              seen = seen || problem.sees(b, h, i, j);
            }
          }
          if (!seen) {
            std::fill_n(bad.key(b, 0, j), problem.shape.depth, garbage);
            std::fill_n(bad.value(b, 0, j), problem.shape.value_depth, garbage);
          }
        }
      }
      for_each_variant(problem, [&, name = name]<class Of>(Of, const attention_problem<T>& p, const std::string& kind) {
        attention_problem<T> with_garbage = bad;
        with_garbage.reweight_power = p.reweight_power;
        expect_same_bits<Of>(found, p, attend<Arch, Of>(p), attend<Arch, Of>(with_garbage),
                             std::string(Arch::name) + ", " + kind + ", " + name + ", unseen " + exact_text(garbage));
      });
    }
  }
  // What is added to scores of keys that are hidden otherwise.
  attention_problem<T> p = make_attention<T>({1, 2, 1, 9, 150, 8, 6}, 3);
  p.causal = true;
  p.window_left = 66;
  p.key_lengths = {147};
  set_mask(p, mask_kind::additive, {1, 1, 9, 150}, 2, 1);
  p.key_bias.assign(150, T(0.5));
  for (const T garbage : {not_a_number<T>, inf<T>, limits::lowest()}) {
    attention_problem<T> bad = p;
    for (std::size_t j = 0; j < 150; ++j) {
      bool seen = false;
      for (std::size_t i = 0; i < 9; ++i) {
        seen = seen || p.sees(0, 0, i, j);
        bad.mask.added[i * 150 + j] = p.sees(0, 0, i, j) ? bad.mask.added[i * 150 + j] : garbage;
      }
      bad.key_bias[j] = seen ? bad.key_bias[j] : garbage;
    }
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      bad.reweight_power = variant.reweight_power;
      expect_same_bits<Of>(found, variant, attend<Arch, Of>(variant), attend<Arch, Of>(bad),
                           std::string(Arch::name) + ", " + kind + ", unseen in mask and key_bias " +
                               exact_text(garbage));
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: a query that sees no key gives 0", "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const T content : {T(1), not_a_number<T>, inf<T>, -inf<T>, std::numeric_limits<T>::max()}) {
    for (const std::size_t kv_len : {1u, 64u, 130u}) {
      for (const bool with_sink : {false, true}) {
        attention_problem<T> all = make_attention<T>({2, 2, 1, 5, kv_len, 6, 4}, 4);
        all.q.assign(all.q.size(), content);
        if (with_sink) {
          all.sink = {T(1.25), T(-300.5)};
        }
        const auto check = [&](const char* what, const auto& change) {
          attention_problem<T> p = all;
          change(p);
          for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
            const attention_result<T> result = attend<Arch, Of>(variant);
            const auto where = [&] { return kind + ", " + what + ", q " + exact_text(content); };
            const bool zero =
                std::all_of(result.out.begin(), result.out.end(), [](T x) { return x == 0 && !std::signbit(x); });
            found.expect(zero, where);
            if constexpr (is_softmax_attention<Of>) {
              for (std::size_t n = 0; n < result.log_sum_exp.size(); ++n) {
                const T expected = with_sink ? variant.sink[n / 5 % 2] : -inf<T>;
                found.expect(result.log_sum_exp[n] == expected, where);
              }
            }
          });
        };
        check("key_lengths", [](auto& p) { p.key_lengths = {0, -3}; });
        check("boolean mask", [&](auto& p) { set_mask(p, mask_kind::boolean, {2, 2, 5, kv_len}, 0, 1); });
        check("additive mask", [&](auto& p) { set_mask(p, mask_kind::additive, {1, 1, 1, 1}, 0, 1); });
        check("key_bias", [&](auto& p) { p.key_bias.assign(kv_len, -inf<T>); });
        check("window", [&](auto& p) {
          p.top_left = p.causal = true;
          p.window_left = 2;
          set_mask(p, mask_kind::boolean, {1, 1, 5, kv_len}, 0, 1);
        });
        if (kv_len == 1 && !(std::fabs(content) > 1)) {
          // Of five queries at positions -4 to 0 the last one sees the key.
          attention_problem<T> p = all;
          p.causal = true;
          expect_right<of_softmax_attention>(found, p, attend<Arch, of_softmax_attention>(p), "before the keys");
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: a value whose weight is nearly or wholly 0 is seen", "[attention][special][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Weights that underflow by a score far below the others, one key or whole blocks of them.
  findings found;
  for (const T below : {T(-80), T(-110), T(-800), T(-1e4), T(-1e30), std::numeric_limits<T>::lowest()}) {
    for (const std::size_t width : {1u, 64u, 150u}) {
      for (const std::size_t first : {0u, 5u, 64u, 128u}) {
        attention_problem<T> p = make_attention<T>({1, 1, 1, 3, 290, 8, 6}, 5);
        p.key_bias.assign(290, T(0));
        for (std::size_t j = first; j < first + width; ++j) {
          p.key_bias[j] = below;
        }
        const std::size_t j = first + width / 2;
        for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
          if (Of::kind == attention_kind::softplus && variant.reweight_power) {
            return; // below the average: the next test
          }
          const attention_result<T> before = attend<Arch, Of>(variant);
          attention_problem<T> bad = variant;
          bad.value(0, 0, j)[4] = not_a_number<T>;
          expect_poisoned<Of>(
              found, variant, before, attend<Arch, Of>(bad), false,
              [](std::size_t, std::size_t, std::size_t, std::size_t c) { return c == 4; },
              kind + ", key " + std::to_string(j) + " of " + std::to_string(width) + " below by " + exact_text(below));
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention: re-weighting sees what is above the average", "[attention][special][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {5u, 64u, 200u, 1100u}) {
    for (const double power : {0.5, 1.0, 3.0, 15.0, 200.0}) {
      // Key 0 dominates, key n - 1 is a little above the average, key 2 a little below, the others below.
      attention_problem<T> p = make_attention<T>({1, 1, 1, 1, n, 4, 3}, 6);
      p.reweight_power = power;
      p.k.assign(p.k.size(), T(0));
      p.key_bias.assign(n, T(-4));
      p.key_bias[0] = T(5);
      attention_problem<T> plain = p;
      plain.reweight_power.reset();
      const auto above_average = [&](T bias) {
        plain.key_bias[n - 1] = bias;
        const exact_query e = exact_attention(attention_kind::softplus, plain, 0, 0, 0);
        return static_cast<double>(e.weights[n - 1] * static_cast<long double>(n) - 1);
      };
      T bias = -4;
      while (above_average(bias) < 1e-3) {
        bias += T(0.01);
      }
      p.key_bias[n - 1] = bias;
      const attention_result<T> before = attend<Arch, of_softplus_attention>(p);
      expect_right<of_softplus_attention>(found, p, before, "one above the average");
      const auto poison = [&](std::size_t j, bool seen) {
        attention_problem<T> bad = p;
        bad.value(0, 0, j)[1] = not_a_number<T>;
        expect_poisoned<of_softplus_attention>(
            found, p, before, attend<Arch, of_softplus_attention>(bad), false,
            [&](std::size_t, std::size_t, std::size_t, std::size_t c) { return seen && c == 1; },
            "n = " + std::to_string(n) + ", value " + std::to_string(j));
      };
      poison(0, true);
      if (std::pow(1e-3 / static_cast<double>(n), power) > static_cast<double>(std::numeric_limits<T>::min())) {
        poison(n - 1, true);
      }
      for (const std::size_t j : {1u, 2u, 3u}) {
        poison(j, false);
      }
      if (n > 70) {
        // A block without weight, all of it.
        attention_problem<T> bad = p;
        for (std::size_t j = 1; j < n - 1; ++j) {
          std::fill_n(bad.value(0, 0, j), 3, j % 2 == 0 ? not_a_number<T> : inf<T>);
        }
        expect_same_bits<of_softplus_attention>(found, p, before, attend<Arch, of_softplus_attention>(bad),
                                                "all values below the average");
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention: uniform rows", "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u, 2u, 3u, 4u, 5u, 63u, 64u, 65u, 200u, 1500u}) {
    const auto check = [&](const std::string& what, std::size_t depth, const auto& change) {
      attention_problem<T> p = make_attention<T>({1, 1, 1, 3, n, depth, 4}, n);
      change(p);
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        if (Of::kind != attention_kind::softplus) {
          return;
        }
        const attention_result<T> result = attend<Arch, Of>(variant);
        expect_right<Of>(found, variant, result, kind + ", " + what + ", n = " + std::to_string(n));
        // Every key has its part.
        attention_problem<T> bad = variant;
        bad.value(0, 0, n / 2)[2] = not_a_number<T>;
        expect_poisoned<Of>(
            found, variant, result, attend<Arch, Of>(bad), false,
            [](std::size_t, std::size_t, std::size_t, std::size_t c) { return c == 2; }, kind + ", " + what);
      });
    };
    check("keys of 0", 8, [](auto& p) { p.k.assign(p.k.size(), T(0)); });
    check("queries of 0", 8, [](auto& p) { p.q.assign(p.q.size(), T(-0.0)); });
    check("scale of 0", 8, [](auto& p) { p.scale = 0; });
    check("depth 1", 1, [](auto&) {});
    check("depth 0", 0, [](auto&) {});
    check("one key again and again", 8, [](auto& p) {
      for (std::size_t m = 8; m < p.k.size(); ++m) {
        p.k[m] = p.k[m % 8];
      }
    });
    check("one direction", 8, [n](auto& p) {
      for (std::size_t m = 0; m < p.k.size(); ++m) {
        // Powers of two: the cosines are the same to the last bit.
        p.k[m] = std::ldexp(p.k[m % 8], static_cast<int>(m / 8 % 40) - 20);
      }
      (void)n;
    });
    check("a common bias", 8, [n](auto& p) {
      p.k.assign(p.k.size(), T(0));
      p.key_bias.assign(n, T(-30));
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention: rows that are uniform within the tolerance, and outside of it",
                        "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Below the average by a rounding or two, a key counts in a row that is uniform; by more, in none.
  findings found;
  for (const std::size_t n : {5u, 64u, 200u}) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 2, n, 4, 3}, n);
    p.q.assign(p.q.size(), T(0));
    const auto check = [&](T others, bool uniform) {
      p.key_bias.assign(n, others);
      p.key_bias[n / 2] = T(10);
      p.reweight_power.reset();
      const attention_result<T> plain = attend<Arch, of_softplus_attention>(p);
      for (const double power : {0.5, 3.0, 15.0}) {
        p.reweight_power = power;
        const auto where = [&] { return std::to_string(n) + " keys, the others at " + exact_text(others); };
        const attention_result<T> result = attend<Arch, of_softplus_attention>(p);
        found.expect((result.out == plain.out) == uniform, where);
        attention_problem<T> bad = p;
        bad.value(0, 0, 0)[1] = not_a_number<T>;
        const attention_result<T> after = attend<Arch, of_softplus_attention>(bad);
        found.expect(std::isnan(after.out[1]) == uniform && std::isnan(after.out[4]) == uniform, where);
      }
    };
    constexpr T unit = std::numeric_limits<T>::epsilon();
    check(T(10) - 8 * unit, true);
    check(T(10) - 24 * unit, true);
    check(T(10) - 4000 * unit, false);
    check(T(10) - 40000 * unit, false);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: infinities", "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t kv_len : {3u, 64u, 130u, 1030u}) {
    attention_problem<T> clean = make_attention<T>({1, 2, 1, 5, kv_len, 6, 4}, 7);
    clean.causal = true;
    for (const std::size_t j : {std::size_t{0}, kv_len / 2, kv_len - 3}) {
      const auto check = [&](const std::string& what, const auto& change) {
        attention_problem<T> p = clean;
        change(p);
        for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
          expect_right<Of>(found, variant, attend<Arch, Of>(variant),
                           std::string(Arch::name) + ", " + kind + ", " + what + ", key " + std::to_string(j));
        });
      };
      // An infinite component of a key: scores of +inf and -inf, by the sign of the query; NaN for cosines.
      check("infinite key", [&](auto& p) { p.key(0, 0, j)[2] = inf<T>; });
      check("infinite key", [&](auto& p) { p.key(0, 0, j)[5] = -inf<T>; });
      check("infinite query", [&](auto& p) { p.query(0, 1, 3)[1] = inf<T>; });
      check("infinity times 0", [&](auto& p) {
        p.key(0, 0, j)[2] = inf<T>;
        for (std::size_t i = 0; i < 5; ++i) {
          p.query(0, 0, i)[2] = 0;
        }
      });
      check("infinities that cancel", [&](auto& p) {
        p.key(0, 0, j)[2] = inf<T>;
        p.key(0, 0, j)[3] = -inf<T>;
      });
      check("+inf in a mask", [&](auto& p) {
        set_mask(p, mask_kind::additive, {1, 1, 5, kv_len}, 2, 1);
        p.mask.added[2 * kv_len + j] = inf<T>;
      });
      check("NaN in a mask", [&](auto& p) {
        set_mask(p, mask_kind::additive, {1, 1, 5, kv_len}, 2, 1);
        p.mask.added[2 * kv_len + j] = not_a_number<T>;
      });
      check("+inf in key_bias", [&](auto& p) {
        p.key_bias.assign(kv_len, T(0));
        p.key_bias[j] = inf<T>;
      });
    }
  }
  // Values: an infinity among ordinary weights, and both.
  attention_problem<T> p = make_attention<T>({1, 1, 1, 5, 130, 6, 4}, 8);
  p.value(0, 0, 70)[1] = inf<T>;
  p.value(0, 0, 3)[2] = -inf<T>;
  p.value(0, 0, 3)[3] = inf<T>;
  p.value(0, 0, 100)[3] = -inf<T>;
  for_each_attention([&]<class Of>(Of) { expect_right<Of>(found, p, attend<Arch, Of>(p), "infinite values"); });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax_attention: a sink of -inf is none", "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  attention_problem<T> p = make_attention<T>({1, 3, 1, 70, 130, 8, 6}, 9);
  p.causal = true;
  p.top_left = true;
  const attention_result<T> without = attend<Arch, of_softmax_attention>(p);
  p.sink = {-inf<T>, -inf<T>, T(40)};
  const attention_result<T> with = attend<Arch, of_softmax_attention>(p);
  const attention_part first_two{0, 1, 0, 2, 0, 70, 130};
  attention_result<T> part({1, 2, 1, 70, 130, 8, 6});
  std::copy_n(with.out.begin(), part.out.size(), part.out.begin());
  std::copy_n(with.log_sum_exp.begin(), part.log_sum_exp.size(), part.log_sum_exp.begin());
  expect_bits_of_part<of_softmax_attention>(found, p, without, first_two, part, "sink of -inf");
  expect_right<of_softmax_attention>(found, p, with, "a sink of 40");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax_attention: what a sink takes wholly is 0, and no zero is negative",
                        "[attention][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t kv_len : {3u, 130u, 1100u}) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 4, kv_len, 8, 5}, 10);
    p.v.assign(p.v.size(), T(-1));
    p.sink = {T(2000)};
    const attention_result<T> result = attend<Arch, of_softmax_attention>(p);
    for (const T x : result.out) {
      found.expect(x == 0 && !std::signbit(x), [&] { return std::to_string(kv_len) + " keys: " + exact_text(x); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

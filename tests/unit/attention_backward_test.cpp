// SPDX-License-Identifier: MIT
// Gradients of attention of all kinds: the formulas against finite differences and known answers, the library against
// the formulas, special values, equal bits, layouts, halves, workspace, mistakes.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/attention_backward_checks.hpp"
#include "../support/catch.hpp"
#include "../support/executors.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// sum dout . out of a problem, from the formulas.
long double loss_of(attention_kind kind, const attention_problem<long double>& p,
                    const std::vector<long double>& dout) {
  long double loss = 0;
  for (std::size_t b = 0; b < p.shape.batch; ++b) {
    for (std::size_t h = 0; h < p.shape.heads; ++h) {
      for (std::size_t i = 0; i < p.shape.q_len; ++i) {
        const exact_query e = exact_attention(kind, p, b, h, i);
        for (std::size_t c = 0; c < p.shape.value_depth; ++c) {
          loss += dout[p.row_of(b, h, i) * p.shape.value_depth + c] * e.out[c];
        }
      }
    }
  }
  return loss;
}

/// Its derivatives with respect to each of x, a member of p.
template <class Loss>
void expect_differences(findings& found, const Loss& loss, std::vector<long double>& x,
                        const std::vector<long double>& gradient, const std::string& what) {
  constexpr long double step = 1e-5L;
  for (std::size_t n = 0; n < x.size(); ++n) {
    const long double before = x[n];
    const auto at = [&](long double steps) {
      x[n] = before + steps * step;
      return loss();
    };
    const long double difference = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step);
    x[n] = before;
    found.expect(std::fabs(difference - gradient[n]) <= 1e-10L * (1 + std::fabs(difference)), [&] {
      return what + " number " + std::to_string(n) + ": " + exact_text(gradient[n]) + ", but differences " +
             exact_text(difference);
    });
  }
}

/// Some shapes that make blocks, tiles and segments of all sorts.
template <class T, class Body>
void for_problems(std::size_t count, Body&& body) {
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    generator random(seed + 5);
    const std::size_t kv_heads = 1 + random.below(2);
    attention_problem<T> p = make_attention<T>({1 + random.below(2), kv_heads * (1 + random.below(3)), kv_heads,
                                                1 + random.below(seed % 5 == 0 ? 210 : 70), 1 + random.below(150),
                                                1 + random.below(70), 1 + random.below(70)},
                                               seed);
    if (seed % 3 != 0) {
      set_random_options(p, seed);
    }
    body(p, make_dout<T>(p.shape, seed), "seed " + std::to_string(seed));
  }
}

std::string refusal(const std::function<void()>& body) {
  try {
    body();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

template <class T>
std::vector<T> numbers_of(std::initializer_list<double> list) {
  std::vector<T> x;
  for (const double v : list) {
    x.push_back(static_cast<T>(v));
  }
  return x;
}

template <class T>
void expect_answers(findings& found, const std::vector<T>& x, const std::vector<long double>& answer,
                    const std::string& what) {
  for (std::size_t n = 0; n < x.size(); ++n) {
    found.expect(std::fabs(static_cast<long double>(x[n]) - answer[n]) <=
                     32 * std::numeric_limits<T>::epsilon() * (1 + std::fabs(answer[n])),
                 [&] { return what + " number " + std::to_string(n) + ": " + exact_text(x[n]); });
  }
}

} // namespace

TEST_CASE("attention_backward: the formulas are those of finite differences", "[attention][backward][unit]") {
  findings found;
  for (std::uint64_t seed = 0; seed < 24; ++seed) {
    generator random(seed);
    attention_problem<long double> p =
        make_attention<long double>({1 + seed % 2, 2, 1 + random.below(2), 3, 2 + random.below(5), 3, 2}, seed);
    p.shape.heads = 2;
    set_random_options(p, seed);
    if (p.reweight_power && *p.reweight_power < 1) {
      p.reweight_power = 2.5; // differences across the kink are not smooth
    }
    const auto dout = make_dout<long double>(p.shape, seed);
    for_each_attention([&]<class Of>(Of) {
      const exact_gradients g = gradients_of_attention(Of::kind, p, dout);
      const auto loss = [&] { return loss_of(Of::kind, p, dout); };
      const std::string what = std::string(Of::name) + ", " + text_of(p) + ": ";
      expect_differences(found, loss, p.q, g.dq.value, what + "dq");
      expect_differences(found, loss, p.k, g.dk.value, what + "dk");
      expect_differences(found, loss, p.v, g.dv.value, what + "dv");
      if (Of::kind == attention_kind::softmax) {
        expect_differences(found, loss, p.sink, g.sink.value, what + "sink");
        expect_differences(found, loss, p.weight_scale, g.scale.value, what + "weight_scale");
      }
      if (p.key_bias.size() == g.key_bias.value.size() &&
          std::none_of(p.key_bias.begin(), p.key_bias.end(), [](long double x) { return std::isinf(x); })) {
        expect_differences(found, loss, p.key_bias, g.key_bias.value, what + "key_bias");
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: known answers", "[attention][backward][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  attention_problem<T> p;
  p.shape = {1, 1, 1, 3, 3, 2, 2};
  p.q = numbers_of<T>({1, .5, -.25, 1.5, .75, -1});
  p.k = numbers_of<T>({.5, -.5, 1, .25, -1.5, .75});
  p.v = numbers_of<T>({1, 2, -.5, .25, .75, -1.25});
  const auto dout = numbers_of<T>({1, -1, .5, .25, -.75, 1.5});
  const auto sigmoid = differentiate<Arch, of_sigmoid_attention>(p, dout);
  expect_answers<T>(found, sigmoid.dq,
                    {-0.442704714790526639L, 0.160156025955563042L, 0.00311382798406148944L, -0.0438271335217976994L,
                     0.496771837765564333L, -0.255490224946033593L},
                    "sigmoid dq");
  expect_answers<T>(found, sigmoid.dk,
                    {0.114997554704718030L, -0.310806867656635582L, -0.0362768232380234675L, -0.219467874487210720L,
                     0.0614174983844695396L, 0.225721429912804605L},
                    "sigmoid dk");
  expect_answers<T>(found, sigmoid.dv,
                    {0.0739837861349672473L, 0.326885583754495647L, 0.316839488142614488L, 0.124786702961378985L,
                     0.315037335987647125L, 0.113843568108718858L},
                    "sigmoid dv");
  found.expect(std::fabs(sigmoid.bias - 0.461382340726883072) < 1e-6, [] { return std::string("sigmoid bias"); });
  p.key_lengths = {2};
  const auto padded = differentiate<Arch, of_sigmoid_attention>(p, dout);
  expect_answers<T>(found, {padded.dk[4], padded.dk[5], padded.dv[4], padded.dv[5]}, {0, 0, 0, 0}, "sigmoid, padded");
  expect_answers<T>(found, {padded.dq[0], padded.dq[1]}, {-0.2149846148962328066L, 0.04968971131606311855L},
                    "sigmoid, padded, dq");
  p.key_lengths.clear();
  p.causal = true;
  const auto causal = differentiate<Arch, of_sigmoid_attention>(p, dout);
  found.expect(std::fabs(causal.bias - 0.401672658719373324) < 1e-6, [] { return std::string("causal bias"); });
  expect_answers<T>(found, {causal.dq[0], causal.dq[1]}, {-0.07198204149302121750L, 0.07198204149302121750L},
                    "causal dq");

  attention_problem<T> l;
  l.shape = {1, 1, 1, 6, 6, 4, 4};
  l.causal = true;
  l.q = numbers_of<T>(
      {-1.5, 0, 1.5, -.5, 1, -1, .5, -1.5, 0, 1.5, -.5, 1, -1, .5, -1.5, 0, 1.5, -.5, 1, -1, .5, 1, .25, -.75});
  l.k = numbers_of<T>(
      {-.5, .75, -.25, 1, .25, -.75, .5, -.5, 1, 0, -1, .25, .75, .5, .25, -.25, -.25, 1, -.5, -.75, .5, .25, .75, 1});
  l.v = numbers_of<T>(
      {-1, .75, -.25, -1.25, 0, -1, .75, -.25, 1, 0, -1, .75, -.75, 1, 0, -1, .25, -.75, 1, 0, 1.25, .5, -.5, .25});
  const auto l_dout =
      numbers_of<T>({1, 0, -1, .5, -.5, 1, 0, -1, .5, -.5, 1, 0, -1, .5, -.5, 1, 0, -1, .5, -.5, .75, .25, -1, .5});
  l.reweight_power = 3;
  const auto cubed = differentiate<Arch, of_softplus_attention>(l, l_dout);
  expect_answers<T>(found, {cubed.dq[20], cubed.dq[21], cubed.dq[22], cubed.dq[23]},
                    {0.173435452166326845L, -0.0609124691633231178L, 0.117670371605150232L, 0.0736304664281704839L},
                    "LSSAR 3, dq of query 6");
  l.reweight_power = 15;
  const auto fifteen = differentiate<Arch, of_softplus_attention>(l, l_dout);
  expect_answers<T>(found, {fifteen.dk[4], fifteen.dk[5], fifteen.dk[6], fifteen.dk[7]},
                    {0.693050425545235652L, 0.416307058780971198L, 0.138769037681050386L, -0.139166337717788585L},
                    "LSSAR 15, dk of key 2");
  // Query 1 sees one key; both survivors of query 4 have the same derivative.
  expect_answers<T>(found, {fifteen.dq[0], fifteen.dq[1], fifteen.dq[2], fifteen.dq[3]}, {0, 0, 0, 0},
                    "LSSAR 15, dq 1");
  expect_answers<T>(found, {fifteen.dq[12], fifteen.dq[13], fifteen.dq[14], fifteen.dq[15]}, {0, 0, 0, 0},
                    "LSSAR 15, dq 4");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: options and shapes in every combination",
                        "[attention][backward][accuracy]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for_problems<T>(25, [&](const attention_problem<T>& p, const std::vector<T>& dout, const std::string& what) {
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      expect_right_gradients<Of>(found, variant, dout, differentiate<Arch, Of>(variant, dout),
                                 std::string(Arch::name) + ", " + kind + ", " + what);
    });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: depths, lengths and segments", "[attention][backward][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const attention_shape shapes[] = {
      {1, 1, 1, 1, 1, 1, 1},    {1, 1, 1, 48, 64, 16, 16}, {1, 1, 1, 49, 65, 17, 15}, {1, 2, 1, 47, 63, 1, 33},
      {1, 1, 1, 1, 200, 8, 8},  {1, 1, 1, 200, 1, 8, 8},   {1, 6, 2, 30, 20, 5, 129}, {1, 1, 1, 9, 9, 300, 1},
      {1, 1, 1, 3, 2100, 4, 4}, {1, 3, 1, 300, 20, 4, 4},
  };
  for (const attention_shape& s : shapes) {
    attention_problem<T> p = make_attention<T>(s, 3);
    generator random(3);
    p.sink.resize(s.heads);
    fill_normal(p.sink, random, 1);
    const auto dout = make_dout<T>(s, 3);
    for (const bool causal : {false, true}) {
      p.causal = causal;
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
        expect_right_gradients<Of>(found, variant, dout, differentiate<Arch, Of>(variant, dout),
                                   std::string(Arch::name) + ", " + kind);
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("sigmoid_attention_backward: slopes are accurate in both tails",
                        "[attention][backward][accuracy]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  attention_problem<T> p = make_attention<T>({1, 1, 1, 7, 70, 8, 5}, 15);
  const auto dout = make_dout<T>(p.shape, 15);
  for (const double bias : {-60.0, -25.0, -8.0, 8.0, 14.0, 25.0, 60.0}) {
    p.bias = bias;
    expect_right_gradients<of_sigmoid_attention>(found, p, dout, differentiate<Arch, of_sigmoid_attention>(p, dout),
                                                 Arch::name);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention_backward: vectors whose squares overflow or vanish",
                        "[attention][backward][accuracy]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const int far = std::numeric_limits<T>::max_exponent * 3 / 4;
  for (const int size_of_q : {-far, 0, far}) {
    for (const int size_of_k : {-far, 0, far}) {
      attention_problem<T> p = make_attention<T>({1, 2, 1, 5, 70, 8, 4}, 16);
      for (T& x : p.q) {
        x = std::ldexp(x, size_of_q);
      }
      for (T& x : p.k) {
        x = std::ldexp(x, size_of_k);
      }
      const auto dout = make_dout<T>(p.shape, 16);
      expect_right_gradients<of_softplus_attention>(found, p, dout, differentiate<Arch, of_softplus_attention>(p, dout),
                                                    Arch::name);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention_backward: re-weighting by any power", "[attention][backward][accuracy]",
                        subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const double power : {0.5, 1.0, 1.5, 2.0, 3.0, 40.0}) {
    for (const attention_shape& s : {attention_shape{1, 2, 1, 9, 70, 8, 5}, {1, 1, 1, 5, 3, 6, 4}}) {
      attention_problem<T> p = make_attention<T>(s, 12);
      p.reweight_power = power;
      for (const bool causal : {false, true}) {
        p.causal = causal;
        const auto dout = make_dout<T>(s, 12);
        expect_right_gradients<of_softplus_attention>(found, p, dout,
                                                      differentiate<Arch, of_softplus_attention>(p, dout), Arch::name);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention_backward: a uniform row has the gradient without re-weighting",
                        "[attention][backward][special][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {5u, 64u, 200u}) {
    attention_problem<T> p = make_attention<T>({1, 1, 1, 3, n, 6, 4}, n);
    p.q.assign(p.q.size(), T(0));
    p.key_bias.assign(n, T(10) - 8 * std::numeric_limits<T>::epsilon()); // a rounding below
    p.key_bias[n / 2] = T(10);
    const auto dout = make_dout<T>(p.shape, n);
    const auto plain = differentiate<Arch, of_softplus_attention>(p, dout);
    for (const double power : {0.5, 1.0, 15.0}) {
      p.reweight_power = power;
      expect_same_gradients<of_softplus_attention>(found, p, plain, differentiate<Arch, of_softplus_attention>(p, dout),
                                                   std::to_string(n) + " keys");
    }
    p.reweight_power.reset();
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softplus_attention_backward: a key without weight counts as unseen in v",
                        "[attention][backward][special][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  using Of = of_softplus_attention;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  constexpr std::size_t n = 70;
  attention_problem<T> p = make_attention<T>({1, 1, 1, 5, n, 6, 4}, 17);
  p.scale = 0.1;
  p.key_bias.assign(n, T(-4));
  p.key_bias[0] = p.key_bias[7] = T(5); // alone above the average
  const auto dout = make_dout<T>(p.shape, 17);
  std::vector<T> spoilt_dout = dout;
  std::fill_n(spoilt_dout.data() + 2 * 4, 4, nan);
  for (const double power : {0.5, 1.0, 3.0, 15.0}) {
    p.reweight_power = power;
    const std::string what = "power " + std::to_string(power);
    const auto clean = differentiate<Arch, Of>(p, dout);
    attention_problem<T> spoilt = p;
    std::fill_n(spoilt.value(0, 0, 3), 4, nan);
    std::fill_n(spoilt.value(0, 0, 66), 4, nan);
    expect_same_gradients<Of>(found, p, clean, differentiate<Arch, Of>(spoilt, dout), what);
    const auto g = differentiate<Arch, Of>(p, spoilt_dout);
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t c = 0; c < 4; ++c) {
        const T x = g.dv[j * 4 + c];
        found.expect(j == 0 || j == 7 ? std::isnan(x) : x == 0,
                     [&] { return what + ", NaN in dout, dv of key " + std::to_string(j) + ": " + exact_text(x); });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax_attention_backward: scores that are all -inf leave gradients of 0",
                        "[attention][backward][special][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  // Finite numbers whose products overflow. No 0 is negative, whatever the sign of the scale.
  findings found;
  attention_problem<T> p = make_attention<T>({1, 1, 1, 3, 70, 4, 3}, 13);
  const T huge = std::sqrt(std::numeric_limits<T>::max()) * T(16);
  p.q.assign(p.q.size(), huge);
  p.k.assign(p.k.size(), huge);
  p.scale = -0.5;
  const auto g = differentiate<Arch, of_softmax_attention>(p, make_dout<T>(p.shape, 13));
  for (const std::vector<T>* const x : {&g.dq, &g.dk, &g.dv, &g.key_bias}) {
    found.expect(std::all_of(x->begin(), x->end(), [](T y) { return y == 0 && !std::signbit(y); }),
                 [&] { return "first number " + exact_text(x->front()); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: what the forward left has the bits of what is found again",
                        "[attention][backward][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for_problems<T>(20, [&](const attention_problem<T>& p, const std::vector<T>& dout, const std::string& what) {
    const auto expect = [&]<class Of>(Of, const attention_problem<T>& variant) {
      const attention_shape& s = p.shape;
      attention_result<T> left(s);
      auto forward = Of::options(variant);
      const xs::attention_view<T> numbers(left.log_sum_exp.data(), s.batch, s.heads, s.q_len, 1);
      if constexpr (is_softmax_attention<Of>) {
        forward.log_sum_exp = numbers;
      } else {
        forward.denominator = numbers;
      }
      Of::template run<Arch>(query_view(variant), key_view(variant), value_view(variant),
                             xs::attention_view<T>(left.out.data(), s.batch, s.heads, s.q_len, s.value_depth), forward);
      const attention_gradients<T> expected = differentiate<Arch, Of>(variant, dout);
      const auto again = [&](const auto&... executor) {
        attention_gradients<T> g(s);
        call_backward<Arch, Of>(executor..., query_view(variant), key_view(variant), value_view(variant),
                                out_shaped(s, left.out), xs::attention_view<const T>(numbers), out_shaped(s, dout),
                                query_shaped(s, g.dq), key_shaped(s, g.dk), value_shaped(s, g.dv),
                                backward_options<Of>(variant, g));
        expect_same_gradients<Of>(found, variant, expected, g, what);
      };
      again();
      again([](std::size_t count, const executor_body& body) {
        run_in_order(count, body, [](std::size_t i) { return i; });
      });
    };
    expect(of_softmax_attention{}, p);
    attention_problem<T> plain = p;
    plain.reweight_power.reset();
    expect(of_softplus_attention{}, plain);
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: whoever runs the bodies, the bits of the call without",
                        "[attention][backward][invariance][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // Few units whose queries are split, many units, and one that is not worth it.
  const attention_shape shapes[] = {
      {1, 2, 1, 700, 130, 9, 5}, {2, 8, 4, 100, 130, 16, 16}, {1, 1, 1, 3, 4, 5, 6}, {1, 1, 1, 1200, 70, 7, 7}};
  for (const attention_shape& s : shapes) {
    attention_problem<T> p = make_attention<T>(s, 11);
    p.causal = s.q_len == 700;
    p.sink = std::vector<T>(s.heads, T(0.5));
    generator random(s.q_len);
    set_random_weights(p, random, s.q_len != 100, s.q_len != 3);
    const auto dout = make_dout<T>(s, 11);
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      const auto expected = differentiate<Arch, Of>(variant, dout);
      for (const named_executor& e : every_executor()) {
        expect_same_gradients<Of>(found, variant, expected, differentiate<Arch, Of>(variant, dout, e.run),
                                  kind + ", " + e.name);
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: a batch has the bits of its heads alone",
                        "[attention][backward][invariance][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for_problems<T>(20, [&](const attention_problem<T>& p, const std::vector<T>& dout, const std::string& what) {
    const attention_shape& s = p.shape;
    const std::size_t group = s.heads / s.kv_heads;
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      const auto expected = differentiate<Arch, Of>(variant, dout);
      for (std::size_t b = 0; b < s.batch; ++b) {
        for (std::size_t h = 0; h < s.kv_heads; ++h) {
          const auto alone = part_of(variant, {b, b + 1, h * group, (h + 1) * group, 0, s.q_len, s.kv_len});
          const std::size_t queries = group * s.q_len;
          const std::size_t row = p.row_of(b, h * group, 0);
          const auto from = dout.begin() + static_cast<std::ptrdiff_t>(row * s.value_depth);
          const std::vector<T> part(from, from + static_cast<std::ptrdiff_t>(queries * s.value_depth));
          const auto got = differentiate<Arch, Of>(alone, part);
          const std::size_t key = (b * s.kv_heads + h) * s.kv_len;
          const auto same = [&](const std::vector<T>& all, std::size_t first, const std::vector<T>& one) {
            return first_difference(all.data() + first, one.data(), one.size()) == one.size();
          };
          found.expect(same(expected.dq, row * s.depth, got.dq) && same(expected.dk, key * s.depth, got.dk) &&
                           same(expected.dv, key * s.value_depth, got.dv),
                       [&] { return what + ", " + kind + ", head " + std::to_string(h) + ": " + text_of(variant); });
        }
      }
    });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: dq depends on the query and the keys that it sees alone",
                        "[attention][backward][invariance][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  attention_problem<T> p = make_attention<T>({1, 1, 1, 260, 260, 20, 12}, 4);
  p.causal = true;
  const auto dout = make_dout<T>(p.shape, 4);
  for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
    const auto expected = differentiate<Arch, Of>(variant, dout);
    for (const std::size_t last : {1u, 49u, 100u, 193u}) { // the first positions alone, and the last of those alone
      for (const std::size_t first : {std::size_t{0}, std::size_t{last - 1}}) {
        auto part = part_of(variant, {0, 1, 0, 1, first, last, last});
        if (Of::kind == attention_kind::sigmoid) {
          part.bias = -std::log(260.0);
        }
        const auto at = dout.begin() + static_cast<std::ptrdiff_t>(first * 12);
        const auto got =
            differentiate<Arch, Of>(part, std::vector<T>(at, at + static_cast<std::ptrdiff_t>((last - first) * 12)));
        found.expect(first_difference(expected.dq.data() + first * 20, got.dq.data(), got.dq.size()) == got.dq.size(),
                     [&] { return kind + ", queries to " + std::to_string(last); });
      }
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: dq of a query whose window begins within a segment of keys",
                        "[attention][backward][invariance][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  // Others in its company see keys from an earlier block on.
  findings found;
  constexpr std::size_t n = 2300;
  attention_problem<T> p = make_attention<T>({1, 1, 1, 300, n, 6, 5}, 14);
  p.causal = true;
  p.window_left = 1500;
  p.bias = -7;
  const auto dout = make_dout<T>(p.shape, 14);
  for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
    const auto expected = differentiate<Arch, Of>(variant, dout);
    for (const std::size_t i : {0u, 70u, 191u, 299u}) {
      const auto part = part_of(variant, {0, 1, 0, 1, i, i + 1, n - 299 + i});
      const auto at = dout.begin() + static_cast<std::ptrdiff_t>(i * 5);
      const auto got = differentiate<Arch, Of>(part, std::vector<T>(at, at + 5));
      found.expect(first_difference(expected.dq.data() + i * 6, got.dq.data(), got.dq.size()) == got.dq.size(),
                   [&] { return kind + ", query " + std::to_string(i); });
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: what is not seen leaves no trace", "[attention][backward][special][unit]",
                        subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  for_problems<T>(40, [&](attention_problem<T> p, std::vector<T> dout, const std::string& what) {
    const attention_shape& s = p.shape;
    attention_problem<T> spoilt = p;
    std::vector<T> spoilt_dout = dout;
    std::vector<bool> key_seen(s.batch * s.kv_heads * s.kv_len);
    for (std::size_t b = 0; b < s.batch; ++b) {
      for (std::size_t h = 0; h < s.heads; ++h) {
        for (std::size_t i = 0; i < s.q_len; ++i) {
          bool any = false;
          for (std::size_t j = 0; j < s.kv_len; ++j) {
            const bool sees = p.sees(b, h, i, j);
            any = any || sees;
            key_seen[(b * s.kv_heads + p.kv_head(h)) * s.kv_len + j] =
                key_seen[(b * s.kv_heads + p.kv_head(h)) * s.kv_len + j] || sees;
          }
          if (!any) {
            std::fill_n(spoilt.query(b, h, i), s.depth, nan);
            std::fill_n(spoilt_dout.data() + p.row_of(b, h, i) * s.value_depth, s.value_depth, nan);
          }
        }
      }
      for (std::size_t h = 0; h < s.kv_heads; ++h) {
        for (std::size_t j = 0; j < s.kv_len; ++j) {
          if (!key_seen[(b * s.kv_heads + h) * s.kv_len + j]) {
            std::fill_n(spoilt.key(b, h, j), s.depth, nan);
            std::fill_n(spoilt.value(b, h, j), s.value_depth, nan);
          }
        }
      }
    }
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      attention_problem<T> other = spoilt;
      other.reweight_power = variant.reweight_power;
      const auto clean = differentiate<Arch, Of>(variant, dout);
      expect_same_gradients<Of>(found, variant, clean, differentiate<Arch, Of>(other, spoilt_dout), kind + ", " + what);
      for (std::size_t n = 0; n < key_seen.size(); ++n) {
        for (std::size_t c = 0; c < s.depth && !key_seen[n]; ++c) {
          found.expect(clean.dk[n * s.depth + c] == 0, [&] { return kind + ", " + what + ": dk of an unseen key"; });
        }
      }
    });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: NaN reaches exactly whom it enters",
                        "[attention][backward][special][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const T nan = std::numeric_limits<T>::quiet_NaN();
  attention_problem<T> p = make_attention<T>({1, 2, 1, 60, 90, 10, 10}, 8);
  p.causal = true; // query i sees keys 0 to i + 30
  const auto dout = make_dout<T>(p.shape, 8);
  const auto all_nan = [](const T* x, std::size_t n) { return std::all_of(x, x + n, [](T v) { return v != v; }); };
  const auto no_nan = [](const T* x, std::size_t n) { return std::none_of(x, x + n, [](T v) { return v != v; }); };
  const auto expect = [&](const attention_gradients<T>& g, const auto& query_spoilt, const auto& key_spoilt,
                          const std::string& what) {
    for (std::size_t h = 0; h < 2; ++h) {
      for (std::size_t i = 0; i < 60; ++i) {
        const T* const dq = g.dq.data() + (h * 60 + i) * 10;
        found.expect(query_spoilt(h, i) ? all_nan(dq, 10) : no_nan(dq, 10),
                     [&] { return what + ", dq " + std::to_string(h) + " " + std::to_string(i); });
      }
    }
    for (std::size_t j = 0; j < 90; ++j) {
      const T* const dk = g.dk.data() + j * 10;
      found.expect(key_spoilt(j) ? all_nan(dk, 10) : no_nan(dk, 10),
                   [&] { return what + ", dk " + std::to_string(j); });
    }
  };
  for_each_attention([&]<class Of>(Of) {
    attention_problem<T> spoilt = p;
    spoilt.query(0, 1, 20)[3] = nan;
    expect(
        differentiate<Arch, Of>(spoilt, dout), [](std::size_t h, std::size_t i) { return h == 1 && i == 20; },
        [](std::size_t j) { return j <= 50; }, std::string(Of::name) + ", NaN in a query");
    spoilt = p;
    spoilt.key(0, 0, 70)[3] = nan;
    const bool alone = Of::kind == attention_kind::sigmoid; // pairs of other keys know nothing of it
    expect(
        differentiate<Arch, Of>(spoilt, dout), [](std::size_t, std::size_t i) { return i >= 40; },
        [&](std::size_t j) { return !alone || j == 70; }, std::string(Of::name) + ", NaN in a key");
    spoilt = p;
    std::fill_n(spoilt.value(0, 0, 70), 10, nan);
    expect(
        differentiate<Arch, Of>(spoilt, dout), [](std::size_t, std::size_t i) { return i >= 40; },
        [&](std::size_t j) { return !alone || j == 70; }, std::string(Of::name) + ", NaN in a value");
    std::vector<T> spoilt_dout = dout;
    std::fill_n(spoilt_dout.data() + p.row_of(0, 1, 20) * 10, 10, nan);
    const auto g = differentiate<Arch, Of>(p, spoilt_dout);
    expect(
        g, [](std::size_t h, std::size_t i) { return h == 1 && i == 20; }, [](std::size_t j) { return j <= 50; },
        std::string(Of::name) + ", NaN in dout");
    for (std::size_t j = 0; j < 90; ++j) {
      const T* const dv = g.dv.data() + j * 10;
      found.expect(j <= 50 ? all_nan(dv, 10) : no_nan(dv, 10),
                   [&] { return std::string(Of::name) + ", NaN in dout, dv " + std::to_string(j); });
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: every layout has the bits of the contiguous one",
                        "[attention][backward][invariance][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const attention_shape s{2, 4, 2, 53, 70, 18, 20};
  attention_problem<T> p = make_attention<T>(s, 9);
  p.causal = true;
  const auto dout = make_dout<T>(s, 9);
  for_each_attention([&]<class Of>(Of) {
    const auto expected = differentiate<Arch, Of>(p, dout);
    const std::size_t layouts = heads_layouts(s.heads, s.q_len, s.depth).size();
    for (std::size_t n = 0; n < layouts; ++n) {
      const auto layout = [&](std::size_t heads, std::size_t length, std::size_t depth) {
        return heads_layouts(heads, length, depth)[n];
      };
      const laid_out_heads<T> q(p.q, s.batch, s.heads, s.q_len, s.depth, layout(s.heads, s.q_len, s.depth));
      const laid_out_heads<T> k(p.k, s.batch, s.kv_heads, s.kv_len, s.depth, layout(s.kv_heads, s.kv_len, s.depth));
      const laid_out_heads<T> v(p.v, s.batch, s.kv_heads, s.kv_len, s.value_depth,
                                layout(s.kv_heads, s.kv_len, s.value_depth));
      const laid_out_heads<T> d(dout, s.batch, s.heads, s.q_len, s.value_depth,
                                layout(s.heads, s.q_len, s.value_depth));
      laid_out_heads<T> dq(s.batch, s.heads, s.q_len, s.depth, layout(s.heads, s.q_len, s.depth));
      laid_out_heads<T> dk(s.batch, s.kv_heads, s.kv_len, s.depth, layout(s.kv_heads, s.kv_len, s.depth));
      laid_out_heads<T> dv(s.batch, s.kv_heads, s.kv_len, s.value_depth, layout(s.kv_heads, s.kv_len, s.value_depth));
      attention_gradients<T> got(s);
      call_backward<Arch, Of>(q.view(), k.view(), v.view(), d.view(), dq.view(), dk.view(), dv.view(),
                              backward_options<Of>(p, got));
      got.dq = dq.elements();
      got.dk = dk.elements();
      got.dv = dv.elements();
      const std::string what = layout(1, 1, 1).what;
      expect_same_gradients<Of>(found, p, expected, got, what);
      found.expect(dq.untouched_between() && dk.untouched_between() && dv.untouched_between(),
                   [&] { return what + ": written between the elements"; });
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_backward: halves are computed in float and rounded once",
                        "[attention][backward][half][unit]", architectures) {
  using Arch = TestType;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const attention_shape s{1, 2, 1, 53, 70, 18, 20};
  const auto with_halves = [&]<class Half>(Half) {
    attention_problem<float> p = make_attention<float>(s, 10);
    std::vector<float> dout = make_dout<float>(s, 10);
    for (std::vector<float>* x : {&p.q, &p.k, &p.v, &dout}) {
      for (float& y : *x) {
        y = static_cast<float>(static_cast<Half>(y));
      }
    }
    const auto halves = [](const std::vector<float>& x) {
      std::vector<Half> y;
      for (const float v : x) {
        y.push_back(static_cast<Half>(v));
      }
      return y;
    };
    const auto q = halves(p.q);
    const auto v = halves(p.v);
    const auto d = halves(dout);
    for_each_attention([&]<class Of>(Of) {
      const auto expected = differentiate<Arch, Of>(p, dout);
      std::vector<Half> dq(p.q.size());
      std::vector<float> dk(p.k.size());
      std::vector<Half> dv(p.v.size());
      attention_gradients<float> other(s);
      call_backward<Arch, Of>(xs::attention_view(q.data(), s.batch, s.heads, s.q_len, s.depth), key_view(p),
                              xs::attention_view(v.data(), s.batch, s.kv_heads, s.kv_len, s.value_depth),
                              out_shaped(s, d), query_shaped(s, dq), key_shaped(s, dk), value_shaped(s, dv),
                              backward_options<Of>(p, other));
      found.expect(dk == expected.dk, [] { return std::string(Of::name) + ": dk"; });
      for (std::size_t n = 0; n < dq.size(); ++n) {
        found.expect(static_cast<float>(dq[n]) == static_cast<float>(static_cast<Half>(expected.dq[n])),
                     [&] { return std::string(Of::name) + ": dq " + std::to_string(n); });
      }
      for (std::size_t n = 0; n < dv.size(); ++n) {
        found.expect(static_cast<float>(dv[n]) == static_cast<float>(static_cast<Half>(expected.dv[n])),
                     [&] { return std::string(Of::name) + ": dv " + std::to_string(n); });
      }
    });
  };
  with_halves(xs::float16{});
  with_halves(xs::bfloat16{});
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(XSOFTMAX_DISPATCH_AVX2) && defined(XSOFTMAX_DISPATCH_AVX512)
TEMPLATE_LIST_TEST_CASE("attention_backward: avx2 and avx512 give the same bits",
                        "[attention][backward][invariance][unit]", scalars) {
  using T = TestType;
  if (!runnable<xs::arch::avx2>() || !runnable<xs::arch::avx512>()) {
    return;
  }
  findings found;
  for_problems<T>(60, [&](const attention_problem<T>& p, const std::vector<T>& dout, const std::string& what) {
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
      expect_same_gradients<Of>(found, variant, differentiate<xs::arch::avx2, Of>(variant, dout),
                                differentiate<xs::arch::avx512, Of>(variant, dout), kind + ", " + what);
    });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}
#endif

TEMPLATE_LIST_TEST_CASE("attention_backward_workspace: what is asked for, at any alignment, and no more",
                        "[attention][backward][unit]", subjects) {
  using T = typename TestType::scalar;
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const attention_shape& s :
       {attention_shape{1, 2, 1, 53, 70, 18, 20}, {2, 2, 2, 1, 1, 1, 1}, {1, 1, 1, 800, 200, 3, 2}}) {
    const attention_problem<T> p = make_attention<T>(s, 2);
    const auto dout = make_dout<T>(s, 2);
    const auto run = [](std::size_t count, const executor_body& body) {
      run_in_order(count, body, [](std::size_t i) { return i; });
    };
    for_each_attention([&]<class Of>(Of) {
      const auto expected = differentiate<Arch, Of>(p, dout);
      const auto with = [&](std::size_t bytes, std::size_t offset, auto... executor) {
        std::vector<std::byte> room(bytes + 256, std::byte{0xA5});
        attention_gradients<T> g(s);
        auto options = backward_options<Of>(p, g);
        options.workspace = std::span(room).subspan(64 + offset, bytes);
        const std::string message = refusal([&] {
          call_backward<Arch, Of>(executor..., query_view(p), key_view(p), value_view(p), out_shaped(s, dout),
                                  query_shaped(s, g.dq), key_shaped(s, g.dk), value_shaped(s, g.dv), options);
        });
        const auto margin = [&](auto first, auto last) {
          return std::all_of(first, last, [](std::byte x) { return x == std::byte{0xA5}; });
        };
        const auto begin = room.begin() + static_cast<std::ptrdiff_t>(64 + offset);
        found.expect(margin(room.begin(), begin) && margin(begin + static_cast<std::ptrdiff_t>(bytes), room.end()),
                     [&] { return std::string(Of::name) + ": written beside the workspace"; });
        return std::pair(message, g);
      };
      const std::size_t bytes = xs::attention_backward_workspace(query_view(p), key_view(p), value_view(p));
      const std::size_t shared = xs::attention_backward_workspace(run, query_view(p), key_view(p), value_view(p));
      for (const std::size_t offset : {0u, 1u, 63u}) {
        const auto [message, g] = with(bytes, offset);
        found.expect(message == "nothing", [&, &text = message] { return text; });
        expect_same_gradients<Of>(found, p, expected, g, "given workspace");
        const auto [message2, g2] = with(shared, offset, run);
        found.expect(message2 == "nothing", [&, &text = message2] { return text; });
        expect_same_gradients<Of>(found, p, expected, g2, "given workspace, executor");
      }
      const auto [message, g] = with(bytes - 1, 0);
      found.expect(message.find("workspace is too small") != std::string::npos && g.dq[0] == -7,
                   [&, &text = message] { return "a byte less: " + text; });
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention_backward: nothing to do", "[attention][backward][unit]") {
  const attention_shape shapes[] = {{0, 1, 1, 3, 4, 5, 6}, {1, 0, 1, 3, 4, 5, 6}, {1, 1, 1, 0, 4, 5, 6},
                                    {1, 1, 1, 3, 0, 5, 6}, {1, 1, 1, 3, 4, 0, 6}, {1, 1, 1, 3, 4, 5, 0}};
  for (const attention_shape& s : shapes) {
    attention_problem<float> p = make_attention<float>(s, 1);
    const auto dout = make_dout<float>(s, 1);
    for_each_variant(p, [&]<class Of>(Of, const attention_problem<float>& variant, const std::string& kind) {
      INFO(kind << ", " << text_of(s));
      const auto g = differentiate<xs::default_arch, Of>(variant, dout);
      const auto finite = [](float x) { return std::isfinite(x) && x != -7; };
      CHECK(std::all_of(g.dq.begin(), g.dq.end(), finite));
      CHECK(std::all_of(g.dk.begin(), g.dk.end(), finite));
      CHECK(std::all_of(g.dv.begin(), g.dv.end(), finite));
    });
  }
}

TEST_CASE("attention_backward: mistakes are named and nothing is written", "[attention][backward][errors][unit]") {
  std::vector<float> elements(4000, 0.5f);
  std::vector<float> results(4000, -7.0f);
  using input = xs::attention_view<const float>;
  using output = xs::attention_view<float>;
  const input q(elements.data(), 2, 6, 4, 7);
  const input k(elements.data(), 2, 3, 5, 7);
  const input v(elements.data(), 2, 3, 5, 8);
  const input dout(elements.data(), 2, 6, 4, 8);
  const output dq(results.data(), 2, 6, 4, 7);
  const output dk(results.data() + 1000, 2, 3, 5, 7);
  const output dv(results.data() + 2000, 2, 3, 5, 8);
  const auto of = [](auto&&... arguments) { return refusal([&] { xs::softmax_attention_backward(arguments...); }); };
  const auto expect = [&](const std::string& message, const char* part) {
    INFO(message);
    CHECK(message.find("softmax_attention_backward") != std::string::npos);
    CHECK(message.find(part) != std::string::npos);
  };
  CHECK(of(q, k, v, dout, dq, dk, dv) == "nothing");
  std::fill(results.begin(), results.end(), -7.0f);
  expect(of(q, k, v, input(elements.data(), 2, 6, 4, 7), dq, dk, dv), "dout");
  expect(of(q, k, v, dout, output(results.data(), 2, 6, 3, 7), dk, dv), "dq");
  expect(of(q, k, v, dout, dq, output(results.data(), 2, 6, 5, 7), dv), "dk");
  expect(of(q, k, v, dout, dq, dk, output(results.data(), 2, 3, 5, 7)), "dv");
  expect(of(q, k, v, dout, dq, output(results.data(), 2, 3, 5, 7), dv), "share no element");
  expect(of(q, input(results.data(), 2, 3, 5, 7), v, dout, dq, dk, dv), "share no element");
  expect(of(q, input(results.data() + 1000, 2, 3, 5, 7), v, dout, dq, dk, dv), "dk must share no element with k");
  expect(of(q, k, input(results.data() + 2000, 2, 3, 5, 8), dout, dq, dk, dv), "dv must share no element with v");
  expect(of(q, k, v, input(results.data() + 2000, 2, 6, 4, 8), dq, dk, dv), "dv must share no element with dout");
  expect(of(q, k, v, dout, dq, dk, output(results.data(), 2, 3, 5, 8)), "dv must share no element with dq");
  expect(of(q, k, v, dout, dq, dk, output(results.data() + 1000, 2, 3, 5, 8)), "dv must share no element with dk");
  expect(of(q, k, v, dout, dq, dk, dv, xs::softmax_attention_options{.softcap = -1.0}), "softcap");
  std::vector<double> doubles(100);
  std::vector<float> floats(100);
  expect(of(q, k, v, dout, dq, dk, dv,
            xs::softmax_attention_options{.key_bias_gradient = xs::matrix_view(doubles.data(), 2, 5)}),
         "key_bias_gradient");
  expect(of(q, k, v, dout, dq, dk, dv,
            xs::softmax_attention_options{.key_bias_gradient = xs::matrix_view(floats.data(), 2, 4)}),
         "key_bias_gradient");
  expect(of(q, k, v, dout, dq, dk, dv,
            xs::softmax_attention_options{.weight_scale_gradient = xs::attention_view(floats.data(), 2, 6, 4, 2)}),
         "weight_scale_gradient");
  expect(of(q, k, v, dout, dq, dk, dv, xs::softmax_attention_options{.sink_gradient = std::span(floats).first(5)}),
         "sink_gradient");
  const input l(elements.data(), 2, 6, 4, 1);
  expect(of(q, k, v, input(elements.data(), 2, 6, 4, 7), l, dout, dq, dk, dv), "out");
  expect(of(q, k, v, dout, input(elements.data(), 2, 6, 3, 1), dout, dq, dk, dv), "log_sum_exp");
  expect(of(q, k, v, input(results.data(), 2, 6, 4, 8), l, dout, dq, dk, dv), "share no element");
  std::string message =
      refusal([&] { xs::softplus_attention_backward(q, k, v, dout, l, dout, dq, dk, dv, {.reweight_power = 3.0}); });
  CHECK(message == "xsoftmax::softplus_attention_backward: out and denominator do not suffice with re-weighting "
                   "(reweight_power = 3)");
  message = refusal(
      [&] { xs::softplus_attention_backward(q, k, v, dout, input(elements.data(), 2, 6, 3, 1), dout, dq, dk, dv); });
  CHECK(message.find("denominator = 3, q_len = 4") != std::string::npos);
  CHECK(std::all_of(results.begin(), results.end(), [](float x) { return x == -7; }));
}

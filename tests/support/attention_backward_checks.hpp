// SPDX-License-Identifier: MIT
// The calls of attention's backward for tests over all kinds, and what each test asks of their results.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "attention_backward_reference.hpp"
#include "attention_checks.hpp"

namespace xsoftmax::test {

/// Contiguous gradients of one call; -7: nothing that could be left behind unnoticed.
template <class T>
struct attention_gradients {
  explicit attention_gradients(const attention_shape& s)
      : dq(s.batch * s.heads * s.q_len * s.depth, T(-7)), dk(s.batch * s.kv_heads * s.kv_len * s.depth, T(-7)),
        dv(s.batch * s.kv_heads * s.kv_len * s.value_depth, T(-7)), key_bias(s.batch * s.kv_len, T(-7)),
        sink(s.heads, T(-7)), scale(s.batch * s.heads * s.q_len, T(-7)) {}

  std::vector<T> dq;
  std::vector<T> dk;
  std::vector<T> dv;
  std::vector<T> key_bias;
  std::vector<T> sink;
  std::vector<T> scale;
  double bias = -7;
};

template <class T>
attention_view<T> key_shaped(const attention_shape& s, std::vector<T>& x) {
  return {x.data(), s.batch, s.kv_heads, s.kv_len, s.depth};
}

template <class T>
attention_view<T> value_shaped(const attention_shape& s, std::vector<T>& x) {
  return {x.data(), s.batch, s.kv_heads, s.kv_len, s.value_depth};
}

template <class T>
attention_view<T> query_shaped(const attention_shape& s, std::vector<T>& x) {
  return {x.data(), s.batch, s.heads, s.q_len, s.depth};
}

template <class T>
attention_view<const T> out_shaped(const attention_shape& s, const std::vector<T>& x) {
  return {x.data(), s.batch, s.heads, s.q_len, s.value_depth};
}

/// The options of a kind, with everything that the backward can write.
template <class Of, class T>
auto backward_options(const attention_problem<T>& p, attention_gradients<T>& g) {
  auto o = Of::options(p);
  o.key_bias_gradient = matrix_view(g.key_bias.data(), p.shape.batch, p.shape.kv_len);
  if constexpr (Of::kind == attention_kind::softmax) {
    if (!p.sink.empty()) {
      o.sink_gradient = g.sink;
    }
    if (!p.weight_scale.empty()) {
      o.weight_scale_gradient = attention_view(g.scale.data(), p.shape.batch, p.shape.heads, p.shape.q_len, 1);
    }
  } else if constexpr (Of::kind == attention_kind::sigmoid) {
    o.bias_gradient = &g.bias;
  }
  return o;
}

template <class Arch, class Of, class... Arguments>
void call_backward(Arguments&&... arguments) {
  if constexpr (Of::kind == attention_kind::softmax) {
    softmax_attention_backward<Arch>(std::forward<Arguments>(arguments)...);
  } else if constexpr (Of::kind == attention_kind::sigmoid) {
    sigmoid_attention_backward<Arch>(std::forward<Arguments>(arguments)...);
  } else {
    softplus_attention_backward<Arch>(std::forward<Arguments>(arguments)...);
  }
}

/// `executor...` is one executor or none.
template <class Arch, class Of, class T, class... Executor>
attention_gradients<T> differentiate(const attention_problem<T>& p, const std::vector<T>& dout,
                                     Executor&&... executor) {
  attention_gradients<T> g(p.shape);
  call_backward<Arch, Of>(std::forward<Executor>(executor)..., query_view(p), key_view(p), value_view(p),
                          out_shaped(p.shape, dout), query_shaped(p.shape, g.dq), key_shaped(p.shape, g.dk),
                          value_shaped(p.shape, g.dv), backward_options<Of>(p, g));
  return g;
}

/// The largest error seen, as a part of what is permitted.
struct worst_gradient {
  double part = 0;
  std::string witness;
};

template <class T>
void expect_right_array(findings& found, const exact_array& exact, const std::vector<T>& x, const std::string& what,
                        const attention_shape& shape, worst_gradient* worst) {
  for (std::size_t n = 0; n < x.size(); ++n) {
    const auto value = static_cast<long double>(x[n]);
    const long double off = std::fabs(value - exact.value[n]);
    const bool finite = std::isfinite(exact.value[n]);
    const bool right = exact.bound[n] == 0 ? x[n] == 0 && !std::signbit(x[n])
                       : finite            ? off <= exact.bound[n]
                                : value == exact.value[n] || (std::isnan(value) && std::isnan(exact.value[n]));
    found.expect(right, [&] {
      return what + " number " + std::to_string(n) + ": " + exact_text(x[n]) + ", not " + exact_text(exact.value[n]) +
             " +- " + std::to_string(exact.bound[n]) + ", off by " + std::to_string(off / exact.bound[n]) +
             " bounds; " + text_of(shape);
    });
    const auto part = static_cast<double>(off / exact.bound[n]);
    if (worst != nullptr && finite && exact.bound[n] != 0 && !(part <= worst->part)) {
      worst->part = part;
      worst->witness = what + " number " + std::to_string(n) + "; " + text_of(shape);
    }
  }
}

/// All gradients against the formulas.
template <class Of, class T>
void expect_right_gradients(findings& found, const attention_problem<T>& p, const std::vector<T>& dout,
                            const attention_gradients<T>& g, const std::string& what, worst_gradient* worst = nullptr) {
  const exact_gradients e = gradients_of_attention(Of::kind, p, dout);
  const std::string where = what + ", " + scalar_name<T>() + ", " + Of::name + ", " + text_of(p) + ": ";
  expect_right_array(found, e.dq, g.dq, where + "dq", p.shape, worst);
  expect_right_array(found, e.dk, g.dk, where + "dk", p.shape, worst);
  expect_right_array(found, e.dv, g.dv, where + "dv", p.shape, worst);
  expect_right_array(found, e.key_bias, g.key_bias, where + "key_bias", p.shape, worst);
  if (Of::kind == attention_kind::softmax && !p.sink.empty()) {
    expect_right_array(found, e.sink, g.sink, where + "sink", p.shape, worst);
  }
  if (Of::kind == attention_kind::softmax && !p.weight_scale.empty()) {
    expect_right_array(found, e.scale, g.scale, where + "weight_scale", p.shape, worst);
  }
  if (Of::kind == attention_kind::sigmoid) {
    expect_right_array(found, e.bias, std::vector<double>{g.bias}, where + "bias", p.shape, worst);
  }
}

/// The same bits everywhere.
template <class Of, class T>
void expect_same_gradients(findings& found, const attention_problem<T>& p, const attention_gradients<T>& expected,
                           const attention_gradients<T>& got, const std::string& what) {
  const auto compare = [&](const std::vector<T>& a, const std::vector<T>& b, const char* name) {
    const std::size_t at = first_difference(a.data(), b.data(), a.size());
    found.expect(at == a.size(), [&] {
      return what + ", " + scalar_name<T>() + ", " + Of::name + ": " + name + " number " + std::to_string(at) + ": " +
             exact_text(b[at]) + ", not " + exact_text(a[at]) + "; " + text_of(p);
    });
  };
  compare(expected.dq, got.dq, "dq");
  compare(expected.dk, got.dk, "dk");
  compare(expected.dv, got.dv, "dv");
  compare(expected.key_bias, got.key_bias, "key_bias");
  compare(expected.sink, got.sink, "sink");
  compare(expected.scale, got.scale, "weight_scale");
  found.expect(first_difference(&expected.bias, &got.bias, 1) == 1,
               [&] { return what + ", " + Of::name + ": bias; " + text_of(p); });
}

/// Gradients of the output, as models have them.
template <class T>
std::vector<T> make_dout(const attention_shape& s, std::uint64_t seed) {
  generator random(seed * 7 + 3);
  std::vector<T> dout(s.batch * s.heads * s.q_len * s.value_depth);
  fill_normal(dout, random, 1);
  return dout;
}

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
// What every attention test asks: is this result right, and are these two results the same bits? And the calls, for
// tests over all kinds.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>
#include <xsoftmax/half.hpp>

#include "attention_reference.hpp"
#include "findings.hpp"
#include "kernels_once.hpp"
#include "softmax_checks.hpp"
#include "types.hpp"
#include "ulp.hpp"

namespace xsoftmax::test {

/// The options that all kinds have. They refer to the problem.
template <class Options, class T>
Options common_options(const attention_problem<T>& p) {
  const attention_shape& s = p.shape;
  Options o;
  o.scale = p.scale;
  o.causal = p.causal;
  o.alignment = p.top_left ? causal_alignment::top_left : causal_alignment::bottom_right;
  o.window_left = p.window_left;
  o.window_right = p.window_right;
  if (!p.key_lengths.empty()) {
    o.key_lengths = p.key_lengths;
  }
  const std::size_t* const extent = p.mask.extent;
  if (p.mask.kind == mask_kind::boolean) {
    o.mask = attention_view(std::size(p.mask.sees) == 0 ? nullptr : &p.mask.sees[0], extent[0], extent[1], extent[2],
                            extent[3]);
  } else if (p.mask.kind == mask_kind::additive) {
    o.mask = attention_view(p.mask.added.data(), extent[0], extent[1], extent[2], extent[3]);
  }
  if (!p.key_bias.empty()) {
    o.key_bias = matrix_view(p.key_bias.data(), p.key_bias.size() / s.kv_len, s.kv_len);
  }
  if (!p.alibi_slopes.empty()) {
    o.alibi_slopes = p.alibi_slopes;
  }
  return o;
}

struct of_softmax_attention {
  static constexpr const char* name = "softmax_attention";
  static constexpr attention_kind kind = attention_kind::softmax;

  template <class T>
  static softmax_attention_options options(const attention_problem<T>& p) {
    auto o = common_options<softmax_attention_options>(p);
    if (!p.sink.empty()) {
      o.sink = p.sink;
    }
    o.softcap = p.softcap;
    if (!p.weight_scale.empty()) {
      o.weight_scale = attention_view(p.weight_scale.data(), p.shape.batch, p.shape.heads, p.shape.q_len, 1);
    }
    if (!p.weight_sum.empty()) {
      o.weight_sum = p.weight_sum;
    }
    return o;
  }

  template <class Arch, class... Arguments>
  static void run(Arguments&&... arguments) {
    softmax_attention<Arch>(std::forward<Arguments>(arguments)...);
  }
};

struct of_sigmoid_attention {
  static constexpr const char* name = "sigmoid_attention";
  static constexpr attention_kind kind = attention_kind::sigmoid;

  template <class T>
  static sigmoid_attention_options options(const attention_problem<T>& p) {
    auto o = common_options<sigmoid_attention_options>(p);
    o.bias = p.bias;
    return o;
  }

  template <class Arch, class... Arguments>
  static void run(Arguments&&... arguments) {
    sigmoid_attention<Arch>(std::forward<Arguments>(arguments)...);
  }
};

struct of_softplus_attention {
  static constexpr const char* name = "softplus_attention";
  static constexpr attention_kind kind = attention_kind::softplus;

  template <class T>
  static softplus_attention_options options(const attention_problem<T>& p) {
    auto o = common_options<softplus_attention_options>(p);
    o.reweight_power = p.reweight_power;
    return o;
  }

  template <class Arch, class... Arguments>
  static void run(Arguments&&... arguments) {
    softplus_attention<Arch>(std::forward<Arguments>(arguments)...);
  }
};

template <class Of>
inline constexpr bool is_softmax_attention = Of::kind == attention_kind::softmax;

/// body(Of{}) for each kind.
template <class Body>
void for_each_attention(Body&& body) {
  body(of_softmax_attention{});
  body(of_sigmoid_attention{});
  body(of_softplus_attention{});
}

/// body(Of{}, problem, what) for each kind, softplus with and without re-weighting.
template <class T, class Body>
void for_each_variant(attention_problem<T> p, Body&& body) {
  body(of_softmax_attention{}, std::as_const(p), std::string("softmax"));
  body(of_sigmoid_attention{}, std::as_const(p), std::string("sigmoid"));
  p.reweight_power.reset();
  body(of_softplus_attention{}, std::as_const(p), std::string("LSSA"));
  p.reweight_power = 15;
  body(of_softplus_attention{}, std::as_const(p), std::string("LSSAR 15"));
  p.reweight_power = 2.5;
  body(of_softplus_attention{}, std::as_const(p), std::string("LSSAR 2.5"));
}

template <class T>
attention_view<const T> query_view(const attention_problem<T>& p) {
  return {p.q.data(), p.shape.batch, p.shape.heads, p.shape.q_len, p.shape.depth};
}

template <class T>
attention_view<const T> key_view(const attention_problem<T>& p) {
  return {p.k.data(), p.shape.batch, p.shape.kv_heads, p.shape.kv_len, p.shape.depth};
}

template <class T>
attention_view<const T> value_view(const attention_problem<T>& p) {
  return {p.v.data(), p.shape.batch, p.shape.kv_heads, p.shape.kv_len, p.shape.value_depth};
}

/// [batch, heads, q_len, value_depth], and [batch, heads, q_len] for softmax.
template <class T>
struct attention_result {
  explicit attention_result(const attention_shape& s)
      : out(s.batch * s.heads * s.q_len * s.value_depth, T(-7)), log_sum_exp(s.batch * s.heads * s.q_len, T(-7)) {}

  std::vector<T> out; // -7: nothing that could be left behind unnoticed
  std::vector<T> log_sum_exp;
};

template <class Of, class T>
auto options_with_log_sum_exp(const attention_problem<T>& p, attention_result<T>& result) {
  auto options = Of::options(p);
  if constexpr (is_softmax_attention<Of>) {
    options.log_sum_exp = attention_view(result.log_sum_exp.data(), p.shape.batch, p.shape.heads, p.shape.q_len, 1);
  }
  return options;
}

/// The problem as it lies; `executor...` is one executor or none.
template <class Arch, class Of, class T, class... Executor>
attention_result<T> attend(const attention_problem<T>& p, Executor&&... executor) {
  attention_result<T> result(p.shape);
  Of::template run<Arch>(
      std::forward<Executor>(executor)..., query_view(p), key_view(p), value_view(p),
      attention_view(result.out.data(), p.shape.batch, p.shape.heads, p.shape.q_len, p.shape.value_depth),
      options_with_log_sum_exp<Of>(p, result));
  return result;
}

/// Batch entries, query heads and queries [first, last) with their first `keys` keys. Heads are those of whole groups,
/// or all of one.
struct attention_part {
  std::size_t first_batch, last_batch;
  std::size_t first_head, last_head;
  std::size_t first_query, last_query;
  std::size_t keys;
};

inline attention_part whole(const attention_shape& s) {
  return {0, s.batch, 0, s.heads, 0, s.q_len, s.kv_len};
}

/// A problem of its own. Where the part does not end where the whole does, the positions of queries may be others.
template <class T>
attention_problem<T> part_of(const attention_problem<T>& p, const attention_part& part) {
  attention_problem<T> r = p;
  const std::size_t first_kv_head = p.kv_head(part.first_head);
  r.shape.batch = part.last_batch - part.first_batch;
  r.shape.heads = part.last_head - part.first_head;
  r.shape.kv_heads = p.kv_head(part.last_head - 1) + 1 - first_kv_head;
  r.shape.q_len = part.last_query - part.first_query;
  r.shape.kv_len = part.keys;
  for (std::vector<T>* x :
       {&r.q, &r.k, &r.v, &r.alibi_slopes, &r.sink, &r.weight_scale, &r.weight_sum, &r.key_bias, &r.mask.added}) {
    x->clear();
  }
  r.key_lengths.clear();
  const auto append = [](std::vector<T>& to, const T* from, std::size_t count) {
    to.insert(to.end(), from, from + count);
  };
  for (std::size_t b = part.first_batch; b < part.last_batch; ++b) {
    for (std::size_t h = part.first_head; h < part.last_head; ++h) {
      append(r.q, p.query(b, h, part.first_query), r.shape.q_len * p.shape.depth);
      if (!p.weight_scale.empty()) {
        append(r.weight_scale, p.weight_scale.data() + p.row_of(b, h, part.first_query), r.shape.q_len);
      }
    }
    for (std::size_t h = first_kv_head; h < first_kv_head + r.shape.kv_heads; ++h) {
      append(r.k, p.key(b, h, 0), part.keys * p.shape.depth);
      append(r.v, p.value(b, h, 0), part.keys * p.shape.value_depth);
    }
    if (!p.key_lengths.empty()) {
      r.key_lengths.push_back(p.key_lengths[b]);
    }
    if (p.key_bias.size() > p.shape.kv_len || b == part.first_batch) {
      const std::size_t row = p.key_bias.size() > p.shape.kv_len ? b * p.shape.kv_len : 0;
      append(r.key_bias, p.key_bias.data() + row, p.key_bias.empty() ? 0 : part.keys);
    }
  }
  for (std::size_t h = part.first_head; h < part.last_head; ++h) {
    append(r.alibi_slopes, p.alibi_slopes.data() + h, p.alibi_slopes.empty() ? 0 : 1);
    append(r.sink, p.sink.data() + h, p.sink.empty() ? 0 : 1);
    append(r.weight_sum, p.weight_sum.data() + h, p.weight_sum.empty() ? 0 : 1);
  }
  const std::size_t first[4] = {part.first_batch, part.first_head, part.first_query, 0};
  const std::size_t count[4] = {r.shape.batch, r.shape.heads, r.shape.q_len, r.shape.kv_len};
  for (int i = 0; i < 4; ++i) {
    r.mask.extent[i] = p.mask.extent[i] == 1 ? 1 : count[i];
  }
  const std::size_t* const extent = r.mask.extent;
  r.mask.sees.resize(p.mask.kind == mask_kind::boolean ? r.mask.size() : 0);
  r.mask.added.resize(p.mask.kind == mask_kind::additive ? r.mask.size() : 0);
  for (std::size_t m = 0; m < r.mask.size() && p.mask.kind != mask_kind::none; ++m) {
    const std::size_t j = m % extent[3];
    const std::size_t i = m / extent[3] % extent[2];
    const std::size_t h = m / extent[3] / extent[2] % extent[1];
    const std::size_t b = m / extent[3] / extent[2] / extent[1];
    const std::size_t from = p.mask.index(b + first[0], h + first[1], i + first[2], j + first[3]);
    if (p.mask.kind == mask_kind::boolean) {
      r.mask.sees[m] = p.mask.sees[from];
    } else {
      r.mask.added[m] = p.mask.added[from];
    }
  }
  return r;
}

/// Expects for each query of `part` (of the problem `p` with the result `of_whole`) the bits of the part's own result.
template <class Of, class T>
void expect_bits_of_part(findings& found, const attention_problem<T>& p, const attention_result<T>& of_whole,
                         const attention_part& part, const attention_result<T>& of_part, const std::string& what) {
  const std::size_t heads = part.last_head - part.first_head;
  const std::size_t queries = part.last_query - part.first_query;
  for (std::size_t b = part.first_batch; b < part.last_batch; ++b) {
    for (std::size_t h = part.first_head; h < part.last_head; ++h) {
      for (std::size_t i = part.first_query; i < part.last_query; ++i) {
        const std::size_t row = p.row_of(b, h, i);
        const std::size_t row_of_part =
            ((b - part.first_batch) * heads + (h - part.first_head)) * queries + (i - part.first_query);
        const std::size_t dv = p.shape.value_depth;
        const T* const expected = of_whole.out.data() + row * dv;
        const T* const got = of_part.out.data() + row_of_part * dv;
        const std::size_t c = first_difference(expected, got, dv);
        const auto where = [&] {
          return what + ", " + scalar_name<T>() + ", " + Of::name + ", query " + std::to_string(b) + " " +
                 std::to_string(h) + " " + std::to_string(i);
        };
        found.expect(c == dv, [&] {
          return where() + ", column " + std::to_string(c) + ": " + exact_text(got[c]) + ", not " +
                 exact_text(expected[c]) + "; " + text_of(p);
        });
        if constexpr (is_softmax_attention<Of>) {
          const T l = of_whole.log_sum_exp[row];
          const T m = of_part.log_sum_exp[row_of_part];
          found.expect(first_difference(&l, &m, 1) == 1, [&] {
            return where() + ", log_sum_exp: " + exact_text(m) + ", not " + exact_text(l) + "; " + text_of(p);
          });
        }
      }
    }
  }
}

template <class Of, class T>
void expect_same_bits(findings& found, const attention_problem<T>& p, const attention_result<T>& a,
                      const attention_result<T>& b, const std::string& what) {
  expect_bits_of_part<Of>(found, p, a, whole(p.shape), b, what);
}

/// The largest error seen, as a part of what is permitted.
struct worst_attention {
  double out = 0;
  double log_sum_exp = 0;
  std::string witness;
};

/// Compares one query with the exact result. `rounding(x)`: what storing x may take from it.
template <class Of, class T, class Number, class Rounding>
void expect_right_query(findings& found, const attention_problem<T>& p, std::size_t b, std::size_t h, std::size_t i,
                        const Number* out, const T* log_sum_exp, const std::string& what, const Rounding& rounding,
                        worst_attention* worst = nullptr) {
  const exact_query e = exact_attention(Of::kind, p, b, h, i);
  const auto where = [&] {
    return what + ", " + scalar_name<T>() + ", " + Of::name + ", query " + std::to_string(b) + " " + std::to_string(h) +
           " " + std::to_string(i) + ", sees " + std::to_string(e.keys.size());
  };
  for (std::size_t c = 0; c < p.shape.value_depth; ++c) {
    const auto x = static_cast<long double>(out[c]);
    const long double exact = e.out[c];
    long double bound = e.bound[c] + rounding(exact);
    bool right =
        std::isfinite(exact) ? std::fabs(x - exact) <= bound : x == exact || (std::isnan(x) && std::isnan(exact));
    if (e.keys.empty()) {
      right = x == 0;
    } else if (e.any_mean) {
      bound = attention_unit<T> * (1 + std::max(std::fabs(e.least[c]), std::fabs(e.largest[c]))) + rounding(exact);
      right = x >= e.least[c] - bound && x <= e.largest[c] + bound;
    } else if (worst != nullptr && std::isfinite(exact)) {
      const auto part = static_cast<double>(std::fabs(x - exact) / bound);
      if (!(part <= worst->out)) {
        worst->out = part;
        worst->witness = where() + ", column " + std::to_string(c) + "; " + text_of(p);
      }
    }
    found.expect(right, [&] {
      return where() + ", column " + std::to_string(c) + ": " + exact_text(x) + ", not " + exact_text(exact) +
             (e.any_mean ? " or any mean" : " +- " + std::to_string(bound)) + ", off by " +
             std::to_string(std::fabs(x - exact) / bound) + " bounds; " + text_of(p);
    });
  }
  if (is_softmax_attention<Of> && log_sum_exp != nullptr) {
    const auto x = static_cast<long double>(*log_sum_exp);
    const bool right = std::isfinite(e.log_sum_exp)
                           ? std::fabs(x - e.log_sum_exp) <= e.log_sum_exp_bound
                           : x == e.log_sum_exp || (std::isnan(x) && std::isnan(e.log_sum_exp));
    found.expect(right, [&] {
      return where() + ", log_sum_exp: " + exact_text(x) + ", not " + exact_text(e.log_sum_exp) + " +- " +
             std::to_string(e.log_sum_exp_bound) + "; " + text_of(p);
    });
    if (worst != nullptr && std::isfinite(e.log_sum_exp)) {
      worst->log_sum_exp =
          std::max(worst->log_sum_exp, static_cast<double>(std::fabs(x - e.log_sum_exp) / e.log_sum_exp_bound));
    }
  }
}

/// About `count` of the n first integers, among them both ends.
inline std::vector<std::size_t> some_of(std::size_t n, std::size_t count) {
  std::vector<std::size_t> some;
  for (std::size_t i = 0; i < n; i += std::max<std::size_t>(1, n / count)) {
    some.push_back(i);
  }
  if (n != 0 && some.back() != n - 1) {
    some.push_back(n - 1);
  }
  return some;
}

/// Compares about `count` queries of each head with the exact results.
template <class Of, class T>
void expect_right(findings& found, const attention_problem<T>& p, const attention_result<T>& result,
                  const std::string& what, std::size_t count = 1000, worst_attention* worst = nullptr) {
  for (std::size_t b = 0; b < p.shape.batch; ++b) {
    for (std::size_t h = 0; h < p.shape.heads; ++h) {
      for (const std::size_t i : some_of(p.shape.q_len, count)) {
        const std::size_t row = p.row_of(b, h, i);
        expect_right_query<Of>(
            found, p, b, h, i, result.out.data() + row * p.shape.value_depth, &result.log_sum_exp[row], what,
            [](long double) { return 0.0L; }, worst);
      }
    }
  }
}

/// One problem through every kind, all or some of its queries against the formulas.
template <class Arch, class T>
void expect_right_in_every_kind(findings& found, const attention_problem<T>& p, std::size_t queries = 1000,
                                const std::string& what = {}) {
  for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& kind) {
    expect_right<Of>(found, variant, attend<Arch, Of>(variant), std::string(Arch::name) + ", " + kind + ", " + what,
                     queries);
  });
}

/// Where the elements of [batch, heads, length, depth] lie.
struct heads_layout {
  const char* what;
  std::ptrdiff_t stride[4];
};

/// The dense one first.
inline std::vector<heads_layout> heads_layouts(std::size_t heads, std::size_t length, std::size_t depth) {
  const auto h = static_cast<std::ptrdiff_t>(heads);
  const auto l = static_cast<std::ptrdiff_t>(length);
  const auto d = static_cast<std::ptrdiff_t>(depth);
  return {
      {"dense", {h * l * d, l * d, d, 1}},
      {"[batch, length, heads, depth]", {l * h * d, d, h * d, 1}},
      {"column block", {l * (h * d + 7), d, h * d + 7, 1}},
      {"padded", {h * l * (d + 3) + 5, l * (d + 3) + 1, d + 3, 1}},
      {"transposed", {h * l * d, l * d, 1, l}},
      {"every other column", {h * l * 2 * d, l * 2 * d, 2 * d, 2}},
      {"upside down", {h * l * d, l * d, -d, 1}},
      {"mirrored", {h * l * d, l * d, d, -1}},
      {"all backwards", {-h * l * d, -l * d, -d, -1}},
      {"heads innermost", {l * d * h, 1, d * h, h}},
  };
}

/// Heads in a layout, with sentinels wherever no element lies.
template <class X>
class laid_out_heads {
public:
  laid_out_heads(std::size_t batch, std::size_t heads, std::size_t length, std::size_t depth,
                 const heads_layout& layout, std::size_t margin = 0)
      : extent_{batch, heads, length, depth}, layout_(layout) {
    std::ptrdiff_t before = 0;
    std::ptrdiff_t after = 0;
    for (int i = 0; i < 4; ++i) {
      const std::ptrdiff_t reach = layout.stride[i] * (static_cast<std::ptrdiff_t>(extent_[i]) - 1);
      (reach < 0 ? before : after) += std::abs(reach);
    }
    storage_.assign(static_cast<std::size_t>(before + after + 1) + 2 * margin, sentinel());
    first_ = storage_.data() + margin + before;
  }

  /// From a contiguous array.
  template <class T>
  laid_out_heads(const std::vector<T>& elements, std::size_t batch, std::size_t heads, std::size_t length,
                 std::size_t depth, const heads_layout& layout, std::size_t margin = 0)
      : laid_out_heads(batch, heads, length, depth, layout, margin) {
    for (std::size_t n = 0; n < elements.size(); ++n) {
      element(n) = static_cast<X>(elements[n]);
    }
  }

  /// Number n of a contiguous array.
  X& element(std::size_t n) {
    std::ptrdiff_t at = 0;
    for (int i = 3; i >= 0; --i) {
      at += static_cast<std::ptrdiff_t>(n % extent_[i]) * layout_.stride[i];
      n /= extent_[i];
    }
    return first_[at];
  }

  attention_view<X> view() const {
    return {first_,           extent_[0],        extent_[1],        extent_[2],
            extent_[3],       layout_.stride[0], layout_.stride[1], layout_.stride[2],
            layout_.stride[3]};
  }

  std::vector<X> elements() {
    std::vector<X> list;
    for (std::size_t n = 0; n < extent_[0] * extent_[1] * extent_[2] * extent_[3]; ++n) {
      list.push_back(element(n));
    }
    return list;
  }

  /// Is everything between and beside the elements as it was? Clears the elements.
  bool untouched_between() {
    for (std::size_t n = 0; n < extent_[0] * extent_[1] * extent_[2] * extent_[3]; ++n) {
      element(n) = sentinel();
    }
    return std::all_of(storage_.begin(), storage_.end(),
                       [](X x) { return static_cast<float>(x) == static_cast<float>(sentinel()); });
  }

private:
  static X sentinel() { return static_cast<X>(-77.0f); }

  std::size_t extent_[4];
  heads_layout layout_;
  std::vector<X> storage_;
  X* first_;
};

} // namespace xsoftmax::test

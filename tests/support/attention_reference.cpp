// SPDX-License-Identifier: MIT
#include "attention_reference.hpp"

#include <cmath>
#include <cstdlib>

namespace xsoftmax::test {

namespace wide {

long double softplus(long double s) {
  return std::max(s, 0.0L) + std::log1p(std::exp(-std::fabs(s)));
}

long double sigmoid(long double s) {
  return s >= 0 ? 1 / (1 + std::exp(-s)) : std::exp(s) / (1 + std::exp(s));
}

template <class T>
long double norm(const T* x, std::size_t n) {
  long double squares = 0;
  for (std::size_t c = 0; c < n; ++c) {
    squares += static_cast<long double>(x[c]) * x[c];
  }
  return std::sqrt(squares);
}

template long double norm(const float*, std::size_t);
template long double norm(const double*, std::size_t);
template long double norm(const long double*, std::size_t);

} // namespace wide

template <class T>
bool attention_problem<T>::sees(std::size_t b, std::size_t h, std::size_t i, std::size_t j) const {
  constexpr long double masked = -std::numeric_limits<long double>::infinity();
  const std::ptrdiff_t ahead = static_cast<std::ptrdiff_t>(j) - position(i);
  const auto within = [](std::ptrdiff_t distance, const std::optional<std::size_t>& window) {
    return !window || distance <= 0 || static_cast<std::size_t>(distance) <= *window;
  };
  if (j >= keys_of(b) || (causal && ahead > 0) || !within(ahead, window_right) || !within(-ahead, window_left)) {
    return false;
  }
  if (mask.kind == mask_kind::boolean && !mask.sees[mask.index(b, h, i, j)]) {
    return false;
  }
  if (mask.kind == mask_kind::additive && static_cast<long double>(mask.added[mask.index(b, h, i, j)]) == masked) {
    return false;
  }
  return added_to_key(b, j) != masked;
}

namespace {

/// Re-weights A, and says by how much a result may be off if every A_j is by `relative` of itself: the errors of r_j^p
/// are carried through both sums.
void reweight(exact_query& e, long double power, long double tau, long double relative,
              std::vector<long double>& weight_bound) {
  const auto n = static_cast<long double>(e.weights.size());
  const long double offset = e.weights.size() <= 3 ? 0 : 1;
  long double largest = 0;
  for (const long double a : e.weights) {
    largest = std::max(largest, n * a - 1);
  }
  const long double slack = relative * (1 + largest);
  if (largest <= tau + slack) {
    // Uniform or, for all that may be known, not.
    const bool certain = largest <= tau - slack || largest == 0;
    for (std::size_t j = 0; j < e.weights.size(); ++j) {
      weight_bound[j] = relative * e.weights[j];
    }
    e.any_mean = !certain;
    return;
  }
  long double top = 0;
  for (const long double a : e.weights) {
    top = std::max(top, n * a - offset);
  }
  std::vector<long double> b;
  std::vector<long double> off;
  long double sum = 0;
  long double sum_off = 0;
  for (const long double a : e.weights) {
    const long double r = std::max(n * a - offset, 0.0L);
    const long double margin = relative * n * a;
    const auto raised = [&](long double x) { return std::pow(std::max(x, 0.0L) / top, power); };
    b.push_back(raised(r));
    off.push_back(std::max(raised(n * a - offset + margin) - b.back(), b.back() - raised(n * a - offset - margin)));
    sum += b.back();
    sum_off += off.back();
  }
  e.any_mean = sum_off > sum / 2;
  for (std::size_t j = 0; j < b.size(); ++j) {
    weight_bound[j] = (off[j] + b[j] / sum * sum_off) / (sum - std::min(sum_off, sum / 2));
    e.weights[j] = b[j] / sum;
  }
}

} // namespace

template <class T>
exact_query exact_attention(attention_kind kind, const attention_problem<T>& p, std::size_t b, std::size_t h,
                            std::size_t i) {
  constexpr long double infinity = std::numeric_limits<long double>::infinity();
  const attention_shape& s = p.shape;
  const std::size_t kv_head = p.kv_head(h);
  const T* const q = p.query(b, h, i);
  exact_query e;
  for (std::size_t j = 0; j < s.kv_len; ++j) {
    if (p.sees(b, h, i, j)) {
      e.keys.push_back(j);
    }
  }
  const auto n = static_cast<long double>(e.keys.size());
  const auto depth = static_cast<long double>(s.depth);
  const long double scale = p.scale                            ? static_cast<long double>(*p.scale)
                            : kind != attention_kind::softplus ? 1 / std::sqrt(depth)
                                                               : std::log(depth) * std::log(n);
  const long double norm_q = wide::norm(q, s.depth);

  // Scores.
  for (const std::size_t j : e.keys) {
    const T* const k = p.key(b, kv_head, j);
    wide::accumulator dot;
    long double sizes = 0;
    for (std::size_t c = 0; c < s.depth; ++c) {
      const long double product = static_cast<long double>(q[c]) * k[c];
      if (std::isfinite(product)) {
        dot.add(product);
        sizes += std::fabs(product);
      } else {
        dot.add(0);
        sizes += product; // inf or NaN, whichever the sum of all is
      }
    }
    long double score = s.depth == 0 ? 0 : scale * dot.value();
    if (!std::isfinite(sizes)) {
      score = 0;
      for (std::size_t c = 0; c < s.depth; ++c) {
        score += static_cast<long double>(q[c]) * k[c];
      }
      score *= scale;
    }
    if (kind == attention_kind::softplus && s.depth != 0) {
      const long double norms = norm_q * wide::norm(k, s.depth);
      score = norms == 0 ? 0 : std::isinf(norms) ? std::numeric_limits<long double>::quiet_NaN() : score / norms;
    }
    if (kind == attention_kind::softmax && p.softcap) {
      score = *p.softcap * std::tanh(score / *p.softcap);
    }
    // A score is rounded as a T: its error is a part of all that it is made of.
    long double size = kind == attention_kind::softplus ? std::fabs(score)
                       : s.depth == 0                   ? 0
                                                        : std::fabs(scale) * sizes;
    const auto add = [&](long double x) {
      score += x;
      size += std::fabs(x);
    };
    if (kind == attention_kind::sigmoid) {
      add(p.bias ? static_cast<long double>(*p.bias) : -std::log(static_cast<long double>(p.keys_of(b))));
    }
    if (p.mask.kind == mask_kind::additive) {
      add(p.mask.added[p.mask.index(b, h, i, j)]);
    }
    add(p.added_to_key(b, j));
    if (!p.alibi_slopes.empty()) {
      add(-static_cast<long double>(p.alibi_slopes[h]) *
          static_cast<long double>(std::abs(p.position(i) - static_cast<std::ptrdiff_t>(j))));
    }
    e.scores.push_back(score);
    e.reach = std::max(e.reach, size);
  }

  // Weights.
  const long double unit = attention_unit<T>;
  std::vector<long double> weight_bound(e.keys.size(), 0.0L);
  const long double sink =
      p.sink.empty() || kind != attention_kind::softmax ? -infinity : static_cast<long double>(p.sink[h]);
  if (kind == attention_kind::sigmoid) {
    for (const long double score : e.scores) {
      e.weights.push_back(wide::sigmoid(score));
    }
  } else {
    long double top = sink;
    for (const long double score : e.scores) {
      top = std::isnan(score) || score > top ? score : top;
    }
    wide::accumulator total;
    for (const long double score : e.scores) {
      const long double above = score == -infinity ? -infinity : score - top; // all of them may be -inf
      e.weights.push_back(kind == attention_kind::softmax ? std::exp(above) : wide::softplus(score));
      total.add(e.weights.back());
    }
    if (!std::isinf(sink)) {
      total.add(std::exp(sink - top));
    }
    for (long double& w : e.weights) {
      w = kind == attention_kind::softmax && top == -infinity ? 0 : w / total.value();
    }
    e.log_sum_exp = top == -infinity ? top : top + std::log(total.value());
    // As exact as the scores are, and then written as a T.
    const long double size = std::max(std::isfinite(top) ? std::fabs(top) : 0, std::fabs(e.log_sum_exp));
    e.log_sum_exp_bound =
        unit * (1 + e.reach) + (std::isfinite(size) ? size : 0) * 4 * std::numeric_limits<T>::epsilon();
  }
  if (kind == attention_kind::softmax) {
    if (!p.weight_scale.empty()) {
      e.scale = p.weight_scale[p.row_of(b, h, i)];
    }
    if (!p.weight_sum.empty() && !e.keys.empty()) {
      e.shift = (static_cast<long double>(p.weight_sum[h]) - e.scale) / n;
    }
  }
  const bool reweighted = kind == attention_kind::softplus && p.reweight_power && !e.keys.empty();
  const std::vector<long double> before = e.weights;
  if (reweighted) {
    reweight(e, *p.reweight_power, uniform_row<T>, unit * (1 + e.reach), weight_bound);
  }

  // Values.
  for (std::size_t c = 0; c < s.value_depth; ++c) {
    wide::accumulator sum;
    long double special = 0; // NaN and infinities, which a compensated sum does not take
    long double magnitude = 0;
    long double magnified = 0;
    long double least = infinity;
    long double largest = -infinity;
    for (std::size_t n_j = 0; n_j < e.keys.size(); ++n_j) {
      if (reweighted && e.weights[n_j] == 0 && before[n_j] * n <= 1) {
        continue;
      }
      const long double v = p.value(b, kv_head, e.keys[n_j])[c];
      const auto add = [&](long double term) {
        if (std::isfinite(term)) {
          sum.add(term);
        } else {
          special += term;
        }
        magnitude += std::fabs(term);
      };
      add(e.weights[n_j] * e.scale * v);
      if (!p.weight_sum.empty()) {
        add(e.shift * v);
      }
      magnified += weight_bound[n_j] * std::fabs(v);
    }
    for (const std::size_t j : e.keys) {
      least = std::min(least, static_cast<long double>(p.value(b, kv_head, j)[c]));
      largest = std::max(largest, static_cast<long double>(p.value(b, kv_head, j)[c]));
    }
    e.out.push_back(special + sum.value());
    e.bound.push_back(unit * (1 + e.reach) * (1 + magnitude) + magnified);
    e.least.push_back(least);
    e.largest.push_back(largest);
  }
  return e;
}

template <class T>
void fill_normal(std::vector<T>& x, generator& random, double deviation) {
  for (T& y : x) {
    y = static_cast<T>(deviation * random.normal());
  }
}

template <class T>
attention_problem<T> make_attention(const attention_shape& s, std::uint64_t seed) {
  generator random(seed * 1000003 + s.q_len * 31 + s.kv_len);
  attention_problem<T> p;
  p.shape = s;
  p.q.resize(s.batch * s.heads * s.q_len * s.depth);
  p.k.resize(s.batch * s.kv_heads * s.kv_len * s.depth);
  p.v.resize(s.batch * s.kv_heads * s.kv_len * s.value_depth);
  fill_normal(p.q, random, 1);
  fill_normal(p.k, random, 1);
  fill_normal(p.v, random, 1);
  return p;
}

template <class T>
void set_mask(attention_problem<T>& p, mask_kind kind, const std::size_t (&extent)[4], double share,
              std::uint64_t seed) {
  generator random(seed + 99);
  std::copy(std::begin(extent), std::end(extent), std::begin(p.mask.extent));
  p.mask.kind = kind;
  p.mask.sees.resize(kind == mask_kind::boolean ? p.mask.size() : 0);
  p.mask.added.resize(kind == mask_kind::additive ? p.mask.size() : 0);
  for (std::size_t m = 0; m < p.mask.size(); ++m) {
    const bool sees = random.unit() < share;
    if (kind == mask_kind::boolean) {
      p.mask.sees[m] = sees;
    } else {
      p.mask.added[m] = sees ? static_cast<T>(random.normal()) : -std::numeric_limits<T>::infinity();
    }
  }
}

template <class T>
void set_random_weights(attention_problem<T>& p, generator& random, bool scales, bool shifts) {
  p.weight_scale.resize(scales ? p.shape.batch * p.shape.heads * p.shape.q_len : 0);
  p.weight_sum.resize(shifts ? p.shape.heads : 0);
  for (std::vector<T>* const x : {&p.weight_scale, &p.weight_sum}) {
    for (T& y : *x) {
      y = static_cast<T>(random.uniform(-0.5, 1.5));
    }
  }
}

template <class T>
void set_random_options(attention_problem<T>& p, std::uint64_t seed) {
  generator random(seed * 7919 + 17);
  const attention_shape& s = p.shape;
  const auto chance = [&](std::size_t one_in) { return random.below(one_in) == 0; };
  p.causal = chance(3);
  p.top_left = chance(3);
  if (chance(4)) {
    p.window_left = random.below(s.kv_len + 3);
  }
  if (chance(4)) {
    p.window_right = random.below(s.kv_len + 3);
  }
  if (chance(4) && s.batch != 0) {
    for (std::size_t b = 0; b < s.batch; ++b) {
      p.key_lengths.push_back(static_cast<long>(random.below(s.kv_len + 6)) - 2);
    }
  }
  if (chance(2)) {
    const std::size_t extent[4] = {chance(2) ? 1 : s.batch, chance(2) ? 1 : s.heads, chance(3) ? 1 : s.q_len,
                                   chance(4) ? 1 : s.kv_len};
    const mask_kind kind = chance(2) ? mask_kind::boolean : mask_kind::additive;
    set_mask(p, kind, extent, chance(2) ? 0.5 : 0.9, seed);
  }
  if (chance(4)) {
    p.key_bias.resize(chance(2) ? s.kv_len : s.batch * s.kv_len);
    fill_normal(p.key_bias, random, 1);
    for (T& x : p.key_bias) {
      x = chance(9) ? -std::numeric_limits<T>::infinity() : x;
    }
  }
  if (chance(4)) {
    p.alibi_slopes.resize(s.heads);
    for (T& x : p.alibi_slopes) {
      x = static_cast<T>(random.uniform(0, 0.1));
    }
  }
  if (chance(4)) {
    p.sink.resize(s.heads);
    fill_normal(p.sink, random, 2);
  }
  if (chance(4)) {
    p.softcap = random.uniform(0.5, 30);
  }
  if (chance(3)) {
    p.scale = random.uniform(-0.5, 1);
  }
  if (chance(2)) {
    p.bias = random.uniform(-10, 2);
  }
  if (chance(2)) {
    const double powers[] = {15, 3, 1, 2, 2.5, 0.5, 40};
    p.reweight_power = powers[random.below(std::size(powers))];
  }
  set_random_weights(p, random, chance(3), chance(3));
}

std::string text_of(const attention_shape& s) {
  return std::to_string(s.batch) + " x " + std::to_string(s.heads) + "/" + std::to_string(s.kv_heads) + " heads, " +
         std::to_string(s.q_len) + " queries, " + std::to_string(s.kv_len) + " keys, depths " +
         std::to_string(s.depth) + " and " + std::to_string(s.value_depth);
}

template <class T>
std::string text_of(const attention_problem<T>& p) {
  std::string text = text_of(p.shape);
  const auto say = [&](bool given, const std::string& what) { text += given ? ", " + what : std::string(); };
  const auto number = [](auto option) { return option ? std::to_string(*option) : std::string(); };
  say(p.scale.has_value(), "scale " + number(p.scale));
  say(p.causal, "causal");
  say(p.top_left, "top left");
  say(p.window_left.has_value(), "window_left " + number(p.window_left));
  say(p.window_right.has_value(), "window_right " + number(p.window_right));
  for (const long length : p.key_lengths) {
    say(true, "key length " + std::to_string(length));
  }
  say(p.mask.kind != mask_kind::none, p.mask.kind == mask_kind::boolean ? "boolean mask" : "additive mask");
  for (const std::size_t extent : p.mask.extent) {
    if (p.mask.kind != mask_kind::none) {
      text.append(" ").append(std::to_string(extent));
    }
  }
  say(!p.key_bias.empty(), "key_bias of " + std::to_string(p.key_bias.size()));
  say(!p.alibi_slopes.empty(), "alibi");
  say(!p.sink.empty(), "sink");
  say(p.softcap.has_value(), "softcap " + number(p.softcap));
  say(!p.weight_scale.empty(), "weight_scale");
  say(!p.weight_sum.empty(), "weight_sum");
  say(p.bias.has_value(), "bias " + number(p.bias));
  say(p.reweight_power.has_value(), "power " + number(p.reweight_power));
  return text;
}

template struct attention_problem<float>;
template exact_query exact_attention(attention_kind, const attention_problem<float>&, std::size_t, std::size_t,
                                     std::size_t);
template void fill_normal(std::vector<float>&, generator&, double);
template attention_problem<float> make_attention(const attention_shape&, std::uint64_t);
template void set_mask(attention_problem<float>&, mask_kind, const std::size_t (&)[4], double, std::uint64_t);
template void set_random_weights(attention_problem<float>&, generator&, bool, bool);
template void set_random_options(attention_problem<float>&, std::uint64_t);
template std::string text_of(const attention_problem<float>&);
template struct attention_problem<double>;
template exact_query exact_attention(attention_kind, const attention_problem<double>&, std::size_t, std::size_t,
                                     std::size_t);
template void fill_normal(std::vector<double>&, generator&, double);
template attention_problem<double> make_attention(const attention_shape&, std::uint64_t);
template void set_mask(attention_problem<double>&, mask_kind, const std::size_t (&)[4], double, std::uint64_t);
template void set_random_weights(attention_problem<double>&, generator&, bool, bool);
template void set_random_options(attention_problem<double>&, std::uint64_t);
template std::string text_of(const attention_problem<double>&);
template struct attention_problem<long double>;
template exact_query exact_attention(attention_kind, const attention_problem<long double>&, std::size_t, std::size_t,
                                     std::size_t);
template void fill_normal(std::vector<long double>&, generator&, double);
template attention_problem<long double> make_attention(const attention_shape&, std::uint64_t);
template void set_mask(attention_problem<long double>&, mask_kind, const std::size_t (&)[4], double, std::uint64_t);
template void set_random_weights(attention_problem<long double>&, generator&, bool, bool);
template void set_random_options(attention_problem<long double>&, std::uint64_t);
template std::string text_of(const attention_problem<long double>&);

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
#include "attention_costs.hpp"
#include "arch_limits.hpp"
#include "cost_variants.hpp"
#include "distribution.hpp"
#include "limits.hpp"
#include "row_buffer.hpp"
#include "two_threads.hpp"
#include <cmath>
#include <map>
#include <xsoftmax/attention.hpp>
#include <xsoftmax/half.hpp>

namespace bench {

namespace {

namespace xs = xsoftmax;

// ---------------------------------------------------------------- the answers, in double and from the formulas

/// What is made of the scores.
enum class weighting { softmax, causal_softmax, sigmoid, softplus, reweighted_softplus, none };

constexpr double reweight_power = 15; // the paper's

/// One head: rows of `depth` numbers.
template <class Cache>
struct head {
  const float* q;
  const Cache* k;
  const Cache* v;
  std::size_t queries;
  std::size_t keys;
  std::size_t depth;

  double query(std::size_t i, std::size_t c) const { return q[i * depth + c]; }

  double key(std::size_t j, std::size_t c) const { return static_cast<double>(static_cast<float>(k[j * depth + c])); }

  double value(std::size_t j, std::size_t c) const { return static_cast<double>(static_cast<float>(v[j * depth + c])); }

  double scale() const { return 1 / std::sqrt(static_cast<double>(depth)); }
};

struct score {
  double sum;   ///< scaled product of a query and a key
  double reach; ///< the same of their magnitudes
};

template <class Cache>
score score_of(const head<Cache>& h, std::size_t i, std::size_t j) {
  score s{};
  for (std::size_t c = 0; c < h.depth; ++c) {
    const double product = h.scale() * h.query(i, c) * h.key(j, c);
    s.sum += product;
    s.reach += std::fabs(product);
  }
  return s;
}

/// The weights of the values that a query sees, and what its output may be off by its docstring:
/// |error_c| <= unit * reach * (1 + sum_j error_j |v_jc| + common_error |out_c|).
struct query_weights {
  std::vector<double> weight;
  std::vector<double> error;
  double common_error = 0;
  double reach = 1;
};

void divide_by_sum(std::vector<double>& x) {
  double sum = 0;
  for (const double y : x) {
    sum += y;
  }
  for (double& y : x) {
    y /= sum;
  }
}

template <class Element>
double norm(std::size_t depth, const Element& element) {
  double squares = 0;
  for (std::size_t c = 0; c < depth; ++c) {
    squares += element(c) * element(c);
  }
  return std::sqrt(squares);
}

template <class Cache>
double norm_of_query(const head<Cache>& h, std::size_t i) {
  return norm(h.depth, [&](std::size_t c) { return h.query(i, c); });
}

template <class Cache>
double norm_of_key(const head<Cache>& h, std::size_t j) {
  return norm(h.depth, [&](std::size_t c) { return h.key(j, c); });
}

template <class Cache>
double factor_of_cosines(const head<Cache>& h, double keys_seen) {
  return std::log(static_cast<double>(h.depth)) * std::log(keys_seen);
}

template <class Cache>
query_weights weights_of(weighting kind, const head<Cache>& h, std::size_t i) {
  const std::size_t seen = kind == weighting::causal_softmax ? i + 1 + h.keys - h.queries : h.keys;
  const auto count = static_cast<double>(seen);
  query_weights w;
  std::vector<double>& x = w.weight;
  double reach = 0;
  for (std::size_t j = 0; j < seen; ++j) {
    const score s = score_of(h, i, j);
    x.push_back(s.sum);
    reach = std::max(reach, s.reach);
  }
  if (kind == weighting::softplus || kind == weighting::reweighted_softplus) { // of cosines
    const double factor = factor_of_cosines(h, count) / (h.scale() * norm_of_query(h, i));
    reach = 0;
    for (std::size_t j = 0; j < seen; ++j) {
      x[j] *= factor / norm_of_key(h, j);
      reach = std::max(reach, std::fabs(x[j]));
    }
  }
  w.reach += reach;
  const double largest = *std::max_element(x.begin(), x.end());
  for (double& s : x) {
    switch (kind) {
    case weighting::softmax:
    case weighting::causal_softmax:
      s = std::exp(s - largest);
      break;
    case weighting::sigmoid:
      s = 1 / (1 + std::exp(std::log(count) - s));
      break;
    case weighting::softplus:
    case weighting::reweighted_softplus:
      s = std::log1p(std::exp(s));
      break;
    case weighting::none:
      break;
    }
  }
  if (kind != weighting::sigmoid && kind != weighting::none) {
    divide_by_sum(x);
  }
  w.error = x;
  if (kind == weighting::none) {
    std::transform(x.begin(), x.end(), w.error.begin(), [](double s) { return 1 + std::fabs(s); });
  } else if (kind == weighting::reweighted_softplus) {
    const std::vector<double> share = x;
    for (double& s : x) {
      s = std::pow(std::max(count * s - 1, 0.0), reweight_power);
    }
    divide_by_sum(x);
    for (std::size_t j = 0; j < seen; ++j) { // errors of a share grow, and those of all are in the sum
      const double above = share[j] - 1 / count;
      const double grown = above > 0 ? x[j] * reweight_power * share[j] / above : 0;
      w.error[j] = x[j] + grown;
      w.common_error += grown;
    }
  }
  return w;
}

/// body(i) for a few of n, from end to end, until one returns what is wrong: that, or nothing.
template <class Body>
std::string first_wrong_of(const char* what, std::size_t n, const Body& body) {
  constexpr std::size_t sample = 8;
  const std::size_t looked_at = std::min(sample, n);
  for (std::size_t t = 0; t < looked_at; ++t) {
    const std::size_t i = looked_at == 1 ? 0 : t * (n - 1) / (looked_at - 1);
    const std::string wrong = body(i);
    if (!wrong.empty()) {
      return what + (" " + std::to_string(i)) + ", " + wrong;
    }
  }
  return "";
}

constexpr double unit_of_output = 2e-6;
constexpr double unit_of_gradient = 4e-6;

/// In words, what is wrong with the outputs of a head; empty where nothing is.
template <class Cache>
std::string wrong_output(weighting kind, const head<Cache>& h, const float* out, double unit = unit_of_output) {
  return first_wrong_of("query", h.queries, [&](std::size_t i) {
    const query_weights w = weights_of(kind, h, i);
    std::vector<double> exact(h.depth), allowed(h.depth, 1.0);
    for (std::size_t j = 0; j < w.weight.size(); ++j) {
      for (std::size_t c = 0; c < h.depth; ++c) {
        exact[c] += w.weight[j] * h.value(j, c);
        allowed[c] += w.error[j] * std::fabs(h.value(j, c));
      }
    }
    return first_wrong(
        out + i * h.depth, h.depth, [&](std::size_t c) { return static_cast<long double>(exact[c]); },
        [&](std::size_t c) {
          return static_cast<long double>(unit * w.reach * (allowed[c] + w.common_error * std::fabs(exact[c])));
        });
  });
}

/// What a backward reads and writes besides the head.
struct gradients {
  const float* out;    ///< of the forward
  const float* number; ///< log_sum_exp or denominator of each query
  const float* dout;
  float* dq;
  float* dk;
  float* dv;
};

/// In words, what is wrong with the gradients of a head. Its outputs and sums are the forward's: the sums are looked at
/// here, for the outputs have been.
std::string wrong_gradients(weighting kind, const head<float>& h, const gradients& g) {
  const double largest_value = std::fabs(
      *std::max_element(h.v, h.v + h.keys * h.depth, [](float x, float y) { return std::fabs(x) < std::fabs(y); }));
  struct pair {
    double weight;
    double slope; ///< gradient of the score
    double error; ///< w of the docstring or more
    double reach;
  };
  const bool cosines = kind == weighting::softplus;
  const double scale = cosines ? factor_of_cosines(h, static_cast<double>(h.keys)) : h.scale();
  const auto pair_of = [&](std::size_t i, std::size_t j) {
    double dp = 0, magnitude = 0, from_above = 0, common = 0;
    for (std::size_t c = 0; c < h.depth; ++c) {
      const double above = g.dout[i * h.depth + c];
      const double product = above * h.value(j, c);
      dp += product;
      magnitude += std::fabs(product);
      from_above += std::fabs(above);
      common += above * static_cast<double>(g.out[i * h.depth + c]);
    }
    const score s = score_of(h, i, j);
    if (kind == weighting::sigmoid) {
      const double w = 1 / (1 + std::exp(std::log(static_cast<double>(h.keys)) - s.sum));
      return pair{w, w * (1 - w) * dp, w * (1 - w) * magnitude, s.reach};
    }
    const double number = g.number[i];
    if (cosines) {
      const double of_cosine = scale * s.sum / (h.scale() * norm_of_query(h, i) * norm_of_key(h, j));
      const double slope = 1 / (1 + std::exp(-of_cosine)) / number;
      return pair{std::log1p(std::exp(of_cosine)) / number, slope * (dp - common),
                  slope * (magnitude + from_above * largest_value), scale};
    }
    const double w = std::exp(s.sum - number);
    return pair{w, w * (dp - common), w * (magnitude + from_above * largest_value), s.reach};
  };
  // A row of gradients: the sum over `count` others of their slopes or weights times a row of theirs, of cosines
  // through x / |x| for the row's own x.
  const auto check_row = [&](const float* row, std::size_t count, const auto& pair_with, bool of_values,
                             const auto& element, const auto& own) {
    std::vector<double> exact(h.depth), allowed(h.depth, 1.0);
    double reach = 1;
    for (std::size_t o = 0; o < count; ++o) {
      const pair x = pair_with(o);
      reach = std::max(reach, 1 + x.reach);
      for (std::size_t c = 0; c < h.depth; ++c) {
        exact[c] += (of_values ? x.weight : scale * x.slope) * element(o, c);
        allowed[c] += (of_values ? x.weight : scale * x.error) * std::fabs(element(o, c));
      }
    }
    if (cosines && !of_values) {
      const double length = norm(h.depth, own);
      double along = 0, allowed_along = 0;
      for (std::size_t c = 0; c < h.depth; ++c) {
        along += own(c) / length * exact[c];
        allowed_along += std::fabs(own(c) / length) * allowed[c];
      }
      for (std::size_t c = 0; c < h.depth; ++c) {
        exact[c] = (exact[c] - own(c) / length * along) / length;
        allowed[c] = (allowed[c] + std::fabs(own(c) / length) * allowed_along) / length;
      }
    }
    return first_wrong(
        row, h.depth, [&](std::size_t c) { return static_cast<long double>(exact[c]); },
        [&](std::size_t c) { return static_cast<long double>(unit_of_gradient * reach * allowed[c]); });
  };
  const std::string wrong = first_wrong_of("gradient of query", h.queries, [&](std::size_t i) -> std::string {
    const auto with_key = [&](std::size_t j) { return pair_of(i, j); };
    if (kind != weighting::sigmoid) {
      double sum = 0, reach = 1;
      for (std::size_t j = 0; j < h.keys; ++j) {
        const pair x = with_key(j);
        sum += x.weight;
        reach = std::max(reach, 1 + x.reach);
      }
      if (!(std::fabs(sum - 1) <= unit_of_output * reach)) {
        return "its log_sum_exp or the logarithm of its denominator is off by " + std::to_string(std::log(sum));
      }
    }
    return check_row(
        g.dq + i * h.depth, h.keys, with_key, false,
        [&](std::size_t j, std::size_t c) { return h.key(j, c) / (cosines ? norm_of_key(h, j) : 1); },
        [&](std::size_t c) { return h.query(i, c); });
  });
  return !wrong.empty() ? wrong : first_wrong_of("gradient of key", h.keys, [&](std::size_t j) {
    const auto with_query = [&](std::size_t i) { return pair_of(i, j); };
    const auto own = [&](std::size_t c) { return h.key(j, c); };
    const std::string of_key = check_row(
        g.dk + j * h.depth, h.queries, with_query, false,
        [&](std::size_t i, std::size_t c) { return h.query(i, c) / (cosines ? norm_of_query(h, i) : 1); }, own);
    return !of_key.empty()
               ? of_key
               : check_row(
                     g.dv + j * h.depth, h.queries, with_query, true,
                     [&](std::size_t i, std::size_t c) { return static_cast<double>(g.dout[i * h.depth + c]); }, own);
  });
}

// ---------------------------------------------------------------- one head of n queries and n keys

/// The memory of a comparison of attention.
struct prefill {
  explicit prefill(const shape& s)
      : n(s.rows), depth(s.cols), inputs(4 * n * depth), outputs(6 * n * depth, output_offset), numbers(2 * n) {
    fill_with_logits(inputs.data(), inputs.size());
  }

  float* input(std::size_t which) const { return inputs.data() + which * n * depth; }

  float* output(std::size_t which) const { return outputs.data() + which * n * depth; }

  xs::matrix_view<const float> in(std::size_t which) const { return {input(which), n, depth}; }

  xs::matrix_view<float> out(std::size_t which) const { return {output(which), n, depth}; }

  head<float> as_head() const { return {input(queries), input(keys), input(values), n, n, depth}; }

  enum { queries, keys, values, from_above };
  enum { result, of_forward, of_queries, of_keys, of_values, of_softplus };

  std::size_t n;
  std::size_t depth;
  row_buffer<float> inputs;
  row_buffer<float> outputs;
  row_buffer<float> numbers; ///< log_sum_exp and denominator of each query
};

/// ns per element of n x depth at so many operations per ns, of which there are 4 n for each element in the forward and
/// 10 n in the backward.
double guess_of_prefill(std::size_t n, double operations, double rate) {
  return operations * static_cast<double>(n) / rate;
}

constexpr double guessed_rate = 60;

/// The operations of one architecture, each checked. With fused multiply-add the bits are the same on all, those of the
/// first are in `first`.
template <class Arch>
void add_prefill(std::vector<variant>& all, const prefill& p, std::map<std::string, std::uint64_t>& first) {
  constexpr bool fused = !std::is_same_v<Arch, xs::arch::sse2>;
  const double rate = fused ? guessed_rate : guessed_rate / 4;
  const auto q = p.in(p.queries), k = p.in(p.keys), v = p.in(p.values), dout = p.in(p.from_above);
  const auto out = p.out(p.result), saved = p.out(p.of_forward);
  const auto dq = p.out(p.of_queries), dk = p.out(p.of_keys), dv = p.out(p.of_values);
  const auto check_bits = [&](variant& w, const std::string& name, const float* y, std::size_t size) {
    const std::uint64_t hash = hash_bits(y, size * sizeof(float));
    if (fused && first.emplace(name, hash).first->second != hash && w.found.failure.empty()) {
      w.found.failure = "its bits differ from those of another architecture";
    }
  };
  const auto add = [&](const std::string& name, weighting kind, runner run) {
    all.push_back(own<Arch>(name, std::move(run), guess_of_prefill(p.n, 4, rate)));
    run_once(all.back(), out.data(), p.n * p.depth);
    all.back().found.failure = wrong_output(kind, p.as_head(), out.data());
    check_bits(all.back(), name, out.data(), p.n * p.depth);
  };
  const auto softmax = [=](bool causal) {
    return [=] { xs::softmax_attention<Arch>(q, k, v, out, {.causal = causal}); };
  };
  add("softmax", weighting::softmax, softmax(false));
  add("softmax_causal", weighting::causal_softmax, softmax(true));
  add("sigmoid", weighting::sigmoid, [=] { xs::sigmoid_attention<Arch>(q, k, v, out); });
  add("lssa", weighting::softplus, [=] { xs::softplus_attention<Arch>(q, k, v, out); });
  add("lssar", weighting::reweighted_softplus,
      [=] { xs::softplus_attention<Arch>(q, k, v, out, {.reweight_power = reweight_power}); });

  const xs::vector_view<float> sums(p.numbers.data(), p.n), denominators(p.numbers.data() + p.n, p.n);
  const auto softplus_saved = p.out(p.of_softplus);
  xs::softmax_attention<Arch>(q, k, v, saved, {.log_sum_exp = sums});
  xs::softplus_attention<Arch>(q, k, v, softplus_saved, {.denominator = denominators});
  const auto add_backward = [&](const std::string& name, weighting kind, runner run) {
    all.push_back(own<Arch>(name, std::move(run), guess_of_prefill(p.n, 10, rate)));
    const std::size_t size = 3 * p.n * p.depth;
    run_once(all.back(), dq.data(), size);
    const bool cosines = kind == weighting::softplus;
    all.back().found.failure =
        wrong_gradients(kind, p.as_head(),
                        {cosines ? softplus_saved.data() : saved.data(), cosines ? denominators.data() : sums.data(),
                         dout.data(), dq.data(), dk.data(), dv.data()});
    check_bits(all.back(), name, dq.data(), size);
  };
  add_backward("softmax_backward", weighting::softmax,
               [=] { xs::softmax_attention_backward<Arch>(q, k, v, saved, sums, dout, dq, dk, dv); });
  add_backward("sigmoid_backward", weighting::sigmoid,
               [=] { xs::sigmoid_attention_backward<Arch>(q, k, v, dout, dq, dk, dv); });
  add_backward("lssa_backward", weighting::softplus,
               [=] { xs::softplus_attention_backward<Arch>(q, k, v, softplus_saved, denominators, dout, dq, dk, dv); });

  // The arithmetic alone: as many multiply-adds as the two products have.
  const double wanted = 2 * static_cast<double>(p.n) * static_cast<double>(p.n * p.depth);
  all.push_back(own<Arch>(
      "multiply_adds", [=] { benchmark::DoNotOptimize(limits_of<Arch>().multiply_adds(wanted)); },
      guess_of_prefill(p.n, 4, rate)));
  const double done = limits_of<Arch>().multiply_adds(wanted);
  if (!(done >= wanted && done < wanted + 1000)) {
    all.back().found.failure = "these are " + std::to_string(done) + " multiply-adds";
  }
}

void add_peers_of_prefill(std::vector<variant>& all, const prefill& p) {
  for (const peer& other : available_peers()) {
    const auto add = [&](const char* what, weighting kind, const attention_preparation& prepare) {
      if (prepare) {
        float* const out = p.output(p.result);
        all.push_back({other.name + "/-/" + what + "/-", false, false, guess_of_prefill(p.n, 4, guessed_rate),
                       prepare(p.input(p.queries), p.input(p.keys), p.input(p.values), out, p.n, p.depth)});
        run_once(all.back(), out, p.n * p.depth);
        all.back().found.failure = wrong_output(kind, p.as_head(), out, expected_of_peer<float>(p.n + p.depth).row_sum);
      }
    };
    add("attention", weighting::softmax, other.float_attention);
    add("attention_causal", weighting::causal_softmax, other.float_causal_attention);
    add("products", weighting::none, other.float_products);
  }
}

/// Attention of all kinds, its gradients, the arithmetic alone, and peers. The baseline is slow and no target: it is
/// left out where it would take longer than all others together.
int run_prefill(const session& run, const shape& s) {
  constexpr std::size_t longest_of_baseline = 1024;
  const prefill p(s);
  std::vector<variant> all;
  std::map<std::string, std::uint64_t> first;
  for_each_architecture([&]<class Arch>(Arch) {
    if (!std::is_same_v<Arch, xs::arch::sse2> || !supported<xs::arch::avx2>() || p.n <= longest_of_baseline) {
      add_prefill<Arch>(all, p, first);
    }
  });
  if (run.p.with_peers) {
    add_peers_of_prefill(all, p);
  }
  return time_variants(run, s, "float", p.inputs.size() * sizeof(float), all);
}

/// The same call with an executor of two threads.
template <class Arch>
int run_prefill_threads(const session& run, const shape& s, int second_core) {
  two_threads executor(second_core);
  const prefill p(s);
  const auto q = p.in(p.queries), k = p.in(p.keys), v = p.in(p.values);
  const auto out = p.out(p.result);
  const double guess = guess_of_prefill(p.n, 4, guessed_rate);
  std::vector<variant> all{
      own<Arch>(
          "one_thread", [=] { xs::softmax_attention<Arch>(q, k, v, out); }, guess),
      own<Arch>(
          "two_threads", [=, &executor] { xs::softmax_attention<Arch>(executor, q, k, v, out); }, guess / 2),
  };
  all[0].real_time = all[1].real_time = true;
  const std::size_t size = p.n * p.depth;
  run_once(all[0], out.data(), size);
  all[0].found.failure = wrong_output(weighting::softmax, p.as_head(), out.data());
  const std::uint64_t hash = hash_bits(out.data(), size * sizeof(float));
  run_once(all[1], out.data(), size);
  if (hash != hash_bits(out.data(), size * sizeof(float))) {
    all[1].found.failure = "its bits differ from those of one thread";
  }
  return time_variants(run, s, "float", p.inputs.size() * sizeof(float), all);
}

// ---------------------------------------------------------------- one query of each head and its cache

constexpr std::size_t heads_of_decode = 8;
constexpr std::size_t heads_that_share = 4;
constexpr double guess_of_decode = 3; // ns per element of a head's keys

/// Softmax attention of a token, and a read pass over the keys and values that it sees; each with a cache for every
/// head and with one for every four.
template <class Arch, class Cache>
void add_decode(std::vector<variant>& all, const shape& s, const std::string& name, const float* q,
                const row_buffer<Cache>& key_cache, const row_buffer<Cache>& value_cache, float* out) {
  for (const bool shared : {false, true}) {
    const std::size_t sharing = shared ? heads_that_share : 1;
    const std::size_t key_heads = heads_of_decode / sharing;
    const std::size_t of_head = s.rows * s.cols;
    const Cache* const k = key_cache.data();
    const Cache* const v = value_cache.data();
    const std::string cache = name + (shared ? "_shared" : "");
    const auto view = [&](auto* x, std::size_t heads, std::size_t length) {
      return xs::attention_view(x, 1, heads, length, s.cols);
    };
    const auto queries = view(q, heads_of_decode, 1);
    const auto keys = view(k, key_heads, s.rows), values = view(v, key_heads, s.rows);
    const auto results = view(out, heads_of_decode, 1);
    const double guess = guess_of_decode * sizeof(Cache) / sizeof(float) / static_cast<double>(sharing);
    all.push_back(own<Arch>(
        cache, [=] { xs::softmax_attention<Arch>(queries, keys, values, results); }, guess));
    run_once(all.back(), out, heads_of_decode * s.cols);
    for (std::size_t h = 0; h < heads_of_decode && all.back().found.failure.empty(); ++h) {
      const std::size_t at = h / sharing * of_head;
      const head<Cache> one{q + h * s.cols, k + at, v + at, 1, s.rows, s.cols};
      all.back().found.failure = wrong_output(weighting::softmax, one, out + h * s.cols);
    }
    const std::size_t bytes = key_heads * of_head * sizeof(Cache);
    all.push_back(own<Arch>(
        "read_" + cache,
        [=] {
          benchmark::DoNotOptimize(read_pass(k, bytes));
          benchmark::DoNotOptimize(read_pass(v, bytes));
        },
        guess));
  }
}

template <class Arch>
int run_decode(const session& run, const shape& s) {
  const std::size_t size = heads_of_decode * s.cols;
  const std::size_t cached = size * s.rows;
  const row_buffer<float> q(size), out(size, output_offset), k(cached), v(cached, output_offset);
  const row_buffer<xs::bfloat16> half_k(cached), half_v(cached, output_offset);
  fill_with_logits(v.data(), cached);
  std::reverse_copy(v.data(), v.data() + cached, k.data());
  std::copy_n(v.data(), size, q.data());
  const auto to_half = [](float x) { return xs::bfloat16(x); };
  std::transform(k.data(), k.data() + cached, half_k.data(), to_half);
  std::transform(v.data(), v.data() + cached, half_v.data(), to_half);
  std::vector<variant> all;
  add_decode<Arch>(all, s, "float", q.data(), k, v, out.data());
  add_decode<Arch>(all, s, "bfloat16", q.data(), half_k, half_v, out.data());
  return time_variants(run, s, "float", 2 * cached * sizeof(float), all);
}

} // namespace

bool is_of_attention(const shape& s) {
  return s.section == "attention" || s.section == "attention_threads" || s.section == "decode";
}

double expected_seconds_of_attention(const plan& p, const shape& s) {
  const double guess = s.section == "decode" ? guess_of_decode : guess_of_prefill(s.rows, 4, guessed_rate);
  const int benchmarks = s.section == "decode" ? 4 : s.section == "attention" ? 20 : 2;
  return benchmarks * expected_seconds(p, guess, s.rows * s.cols, s.rows * s.cols * sizeof(float));
}

int run_attention_cost(const session& run, const shape& s, int second_core) {
  if (s.section == "attention") {
    return run_prefill(run, s);
  }
  return on_the_best_architecture([&]<class Arch>(Arch) {
    if (s.section == "decode") {
      return run_decode<Arch>(run, s);
    }
    return second_core < 0 ? 0 : run_prefill_threads<Arch>(run, s, second_core);
  });
}

} // namespace bench

// SPDX-License-Identifier: MIT
#include "attention_backward_reference.hpp"

#include <algorithm>
#include <cmath>

namespace xsoftmax::test {

namespace {

/// Of the keys that a query sees: weights, slopes of the loss with respect to scores, and what they may be off.
struct slopes_of_query {
  std::vector<long double> weight;
  std::vector<long double> weight_off;
  std::vector<long double> slope;
  std::vector<long double> slope_off;

  explicit slopes_of_query(std::size_t n) : weight(n), weight_off(n), slope(n), slope_off(n) {}
};

/// Slopes of LSSA and, re-weighted, LSSAR from u and the derivatives with respect to weights. `size`: of the sums that
/// derivatives are; what slopes are off is counted in the sizes of all that they are made of.
slopes_of_query softplus_slopes(const std::vector<long double>& scores, const std::vector<long double>& u,
                                const std::vector<long double>& dp, const std::vector<long double>& size,
                                long double power, bool reweighted) {
  const std::size_t n = u.size();
  slopes_of_query r(n);
  long double sum = 0;
  long double top = 0;
  for (const long double x : u) {
    sum += x;
    top = std::max(top, x);
  }
  const long double mean = reweighted && n > 3 ? sum / static_cast<long double>(n) : 0;
  std::vector<long double> x(n);
  long double total = 0;
  for (std::size_t j = 0; j < n; ++j) {
    x[j] = std::max(u[j] - mean, 0.0L) / (top - mean);
    r.weight[j] = !reweighted ? u[j] : x[j] == 0 ? 0 : std::pow(x[j], power);
    total += r.weight[j];
  }
  long double d = 0;
  long double d_size = 0;
  for (std::size_t j = 0; j < n; ++j) {
    r.weight[j] /= total;
    d += reweighted && x[j] == 0 ? 0 : r.weight[j] * dp[j];
    d_size += reweighted && x[j] == 0 ? 0 : r.weight[j] * size[j];
  }
  long double all = 0;
  long double all_size = 0;
  for (std::size_t j = 0; j < n; ++j) {
    const long double factor = !reweighted ? 1 / sum
                               : x[j] == 0 ? 0
                                           : power * std::pow(x[j], power - 1) / (total * (top - mean));
    r.slope[j] = factor == 0 ? 0 : factor * (dp[j] - d);
    r.slope_off[j] = factor == 0 ? 0 : factor * (size[j] + d_size);
    all += r.slope[j];
    all_size += r.slope_off[j];
  }
  const long double share = reweighted && n > 3 ? 1 / static_cast<long double>(n) : 0;
  for (std::size_t j = 0; j < n; ++j) {
    const long double sigma = wide::sigmoid(scores[j]);
    r.slope[j] = sigma * (r.slope[j] - share * all);
    r.slope_off[j] = sigma * (r.slope_off[j] + share * all_size);
  }
  return r;
}

/// From the gradient of x / |x| to that of x.
template <class T>
void project(const T* x, long double norm, std::vector<long double>& g, std::vector<long double>& off) {
  long double along = 0;
  long double along_off = 0;
  for (std::size_t c = 0; c < g.size(); ++c) {
    along += norm == 0 ? 0 : x[c] / norm * g[c];
    along_off += norm == 0 ? 0 : std::fabs(x[c] / norm) * off[c];
  }
  for (std::size_t c = 0; c < g.size(); ++c) {
    g[c] = norm == 0 ? 0 : (g[c] - x[c] / norm * along) / norm;
    off[c] = norm == 0 ? 0 : (off[c] + std::fabs(x[c] / norm) * along_off) / norm;
  }
}

} // namespace

template <class T>
exact_gradients gradients_of_attention(attention_kind kind, const attention_problem<T>& p, const std::vector<T>& dout) {
  const attention_shape& s = p.shape;
  exact_gradients g(s);
  const long double unit = gradient_unit<T>;
  const long double least = std::numeric_limits<T>::min();
  const auto wide_of = [](T x) { return static_cast<long double>(x); };
  for (std::size_t b = 0; b < s.batch; ++b) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      for (std::size_t i = 0; i < s.q_len; ++i) {
        const exact_query e = exact_attention(kind, p, b, h, i);
        const std::size_t n = e.keys.size();
        if (n == 0) {
          continue;
        }
        const std::size_t kv_head = p.kv_head(h);
        const T* const q = p.query(b, h, i);
        const T* const of_out = dout.data() + p.row_of(b, h, i) * s.value_depth;
        const long double depth = static_cast<long double>(s.depth);
        const long double scale = p.scale ? static_cast<long double>(*p.scale)
                                  : kind != attention_kind::softplus
                                      ? 1 / std::sqrt(depth)
                                      : std::log(depth) * std::log(static_cast<long double>(n));

        // Derivatives with respect to weights, and the sizes of what they are sums of.
        std::vector<long double> dp(n);
        std::vector<long double> size(n);
        for (std::size_t j = 0; j < n; ++j) {
          const T* const v = p.value(b, kv_head, e.keys[j]);
          for (std::size_t c = 0; c < s.value_depth; ++c) {
            dp[j] += wide_of(of_out[c]) * v[c];
            size[j] += std::fabs(wide_of(of_out[c]) * v[c]);
          }
        }
        long double mean = 0;
        long double mean_size = 0;
        for (std::size_t j = 0; j < n; ++j) {
          mean += e.weights[j] == 0 ? 0 : e.weights[j] * dp[j];
          mean_size += e.weights[j] == 0 ? 0 : e.weights[j] * size[j];
        }

        // Weights and slopes.
        long double reach = 1 + e.reach;
        for (const long double score : e.scores) {
          reach = std::max(reach, 1 + e.reach + (std::isfinite(score) ? std::fabs(score) : 0));
        }
        if (kind == attention_kind::softplus) {
          reach += std::fabs(scale);
        }
        slopes_of_query r(n);
        if (kind != attention_kind::softplus) {
          for (std::size_t j = 0; j < n; ++j) {
            const long double w = e.weights[j];
            const bool softmax = kind == attention_kind::softmax;
            const long double spread = softmax ? w * e.scale : w * wide::sigmoid(-e.scores[j]);
            r.weight[j] = w * e.scale + e.shift;
            r.weight_off[j] = unit * reach * (w * std::fabs(e.scale) + std::fabs(e.shift)) + least;
            r.slope[j] = spread * (softmax ? dp[j] - mean : dp[j]);
            r.slope_off[j] = (unit * reach * std::fabs(spread) + least) * (size[j] + (softmax ? mean_size : 0));
          }
        } else {
          std::vector<long double> u;
          for (const long double score : e.scores) {
            u.push_back(wide::softplus(score));
          }
          const auto power = static_cast<long double>(p.reweight_power.value_or(0));
          long double sum = 0;
          long double top = 0;
          for (const long double x : u) {
            sum += x;
            top = std::max(top, x);
          }
          const long double average = sum / static_cast<long double>(n);
          const bool uniform = n > 3 && top - average <= uniform_row<T> * average;
          const bool reweighted = p.reweight_power && !uniform;
          r = softplus_slopes(e.scores, u, dp, size, power, reweighted);
          for (std::size_t j = 0; j < n; ++j) {
            r.weight_off[j] = unit * reach * r.weight[j] + least;
            r.slope_off[j] = unit * reach * r.slope_off[j] + least * (size[j] + mean_size);
          }
          if (p.reweight_power) {
            // By how much errors of u within its own bound move weights and slopes.
            const long double relative = attention_unit<T> * reach;
            generator random(n + i);
            for (int trial = 0; trial < 24; ++trial) {
              std::vector<long double> moved = u;
              for (long double& x : moved) {
                x *= 1 + relative * static_cast<long double>(random.uniform(-1, 1));
              }
              const auto other = softplus_slopes(e.scores, moved, dp, size, power, reweighted);
              for (std::size_t j = 0; j < n; ++j) {
                r.weight_off[j] = std::max(r.weight_off[j], 4 * std::fabs(other.weight[j] - r.weight[j]));
                r.slope_off[j] = std::max(r.slope_off[j], 4 * std::fabs(other.slope[j] - r.slope[j]));
              }
            }
            if (e.any_mean) {
              r.slope_off.assign(n, anything);
              r.weight_off.assign(n, anything);
            }
          }
        }

        // What options add.
        for (std::size_t j = 0; j < n; ++j) {
          g.key_bias.add(b * s.kv_len + e.keys[j], r.slope[j], r.slope_off[j] + least);
          g.bias.add(0, r.slope[j], r.slope_off[j] + least);
        }
        if (!p.sink.empty() && kind == attention_kind::softmax) {
          const long double weight = std::exp(static_cast<long double>(p.sink[h]) - e.log_sum_exp);
          const long double off =
              unit * (reach + std::fabs(static_cast<long double>(p.sink[h])) + std::fabs(e.log_sum_exp));
          g.sink.add(h, -weight * e.scale * mean, weight * std::fabs(e.scale) * mean_size * off + least);
        }

        if (kind == attention_kind::softmax) {
          long double of_shift = 0;
          long double of_shift_size = 0;
          for (std::size_t j = 0; !p.weight_sum.empty() && j < n; ++j) {
            of_shift += dp[j] / static_cast<long double>(n);
            of_shift_size += size[j] / static_cast<long double>(n);
          }
          g.scale.add(p.row_of(b, h, i), mean - of_shift, unit * (reach * mean_size + of_shift_size) + least);
        }

        // Through scores to queries and keys.
        const long double norm_q = wide::norm(q, s.depth);
        std::vector<long double> through_q(s.depth);
        std::vector<long double> through_q_off(s.depth);
        for (std::size_t j = 0; j < n; ++j) {
          const T* const k = p.key(b, kv_head, e.keys[j]);
          const std::size_t key_row = (b * s.kv_heads + kv_head) * s.kv_len + e.keys[j];
          long double slope = r.slope[j] * scale;
          long double off = r.slope_off[j] * std::fabs(scale);
          if (kind == attention_kind::softmax && p.softcap) {
            long double dot = 0;
            for (std::size_t c = 0; c < s.depth; ++c) {
              dot += wide_of(q[c]) * k[c];
            }
            // 1 - tanh^2, of which errors of the score move up to twice their size, in caps.
            const long double t = 2 * scale * dot / *p.softcap;
            const long double factor = 4 * wide::sigmoid(t) * wide::sigmoid(-t);
            off = (off + std::fabs(slope) * 2 * unit * (1 + e.reach / *p.softcap)) * factor + std::fabs(slope) * least;
            slope *= factor;
          }
          const long double norm_k = wide::norm(k, s.depth);
          const bool cosine = kind == attention_kind::softplus;
          std::vector<long double> to_k(s.depth);
          std::vector<long double> to_k_off(s.depth);
          for (std::size_t c = 0; c < s.depth; ++c) {
            const long double from_k = cosine ? (norm_k == 0 ? 0 : k[c] / norm_k) : wide_of(k[c]);
            const long double from_q = cosine ? (norm_q == 0 ? 0 : q[c] / norm_q) : wide_of(q[c]);
            through_q[c] += slope * from_k;
            through_q_off[c] += off * std::fabs(from_k) + least;
            to_k[c] = slope * from_q;
            to_k_off[c] = off * std::fabs(from_q) + least;
          }
          if (cosine) {
            project(k, norm_k, to_k, to_k_off);
          }
          for (std::size_t c = 0; c < s.depth; ++c) {
            g.dk.add(key_row * s.depth + c, to_k[c], to_k_off[c]);
          }
          for (std::size_t c = 0; c < s.value_depth; ++c) {
            g.dv.add(key_row * s.value_depth + c, r.weight[j] * of_out[c],
                     r.weight_off[j] * std::fabs(wide_of(of_out[c])));
          }
        }
        if (kind == attention_kind::softplus) {
          project(q, norm_q, through_q, through_q_off);
        }
        for (std::size_t c = 0; c < s.depth; ++c) {
          g.dq.add(p.row_of(b, h, i) * s.depth + c, through_q[c], through_q_off[c]);
        }
      }
    }
  }
  return g;
}

template exact_gradients gradients_of_attention(attention_kind, const attention_problem<float>&,
                                                const std::vector<float>&);
template exact_gradients gradients_of_attention(attention_kind, const attention_problem<double>&,
                                                const std::vector<double>&);
template exact_gradients gradients_of_attention(attention_kind, const attention_problem<long double>&,
                                                const std::vector<long double>&);

} // namespace xsoftmax::test

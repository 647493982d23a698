// SPDX-License-Identifier: MIT
// A small decoder of the usual kind (RMS norms, rotary positions, grouped-query attention, a gated unit) with a KV
// cache in bfloat16. The same function takes a prompt of many tokens and a single token: what differs is the number of
// rows.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstddef>
#include <random>
#include <span>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>
#include <xsoftmax/attention.hpp>

namespace decoder {

namespace xs = xsoftmax;

/// A row is a token, and in it head after head: row-major, so that attention reads and writes it where it lies.
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct sizes {
  Eigen::Index blocks = 4;
  Eigen::Index heads = 8;    ///< of queries
  Eigen::Index kv_heads = 2; ///< of keys and values: four heads of queries share one
  Eigen::Index depth = 64;
  Eigen::Index hidden = 1024;
  Eigen::Index vocabulary = 4096;
  Eigen::Index capacity = 1024; ///< tokens that a cache has room for

  Eigen::Index width() const { return heads * depth; }
};

/// An executor: whatever runs body(0) to body(count - 1), on any threads and in any order, and returns when all are
/// done. A program that has a pool of threads hands the bodies to that; these threads are started for each call.
/// Attention asks for bodies only where there is enough to do: hardly ever for one token.
struct team {
  std::size_t threads = 1;

  void operator()(std::size_t count, const auto& body) const {
    const auto run = [&](std::size_t first) {
      for (std::size_t i = first; i < count; i += threads) {
        body(i);
      }
    };
    std::vector<std::jthread> others; // the end of its life waits for them
    for (std::size_t t = 1; t < threads && t < count; ++t) {
      others.emplace_back(run, t);
    }
    run(0);
  }
};

/// Keys and values of a block, [kv_heads, capacity, depth] each: room for all positions from the start, so that nothing
/// moves when a token comes. In bfloat16, as decoding is bound by reading them: they are half as many bytes, computed
/// with in float.
class kv_cache {
public:
  explicit kv_cache(const sizes& s)
      : sizes_(s), keys_(static_cast<std::size_t>(s.kv_heads * s.capacity * s.depth)), values_(keys_.size()) {}

  Eigen::Index length() const { return length_; }

  /// The tokens that follow: a row of k and v each.
  void append(const matrix& k, const matrix& v) {
    if (k.rows() > sizes_.capacity - length_) {
      throw std::length_error("the cache has no room for so many tokens");
    }
    for (Eigen::Index t = 0; t < k.rows(); ++t) {
      for (Eigen::Index c = 0; c < k.cols(); ++c) {
        const Eigen::Index head = c / sizes_.depth;
        const auto at =
            static_cast<std::size_t>((head * sizes_.capacity + length_ + t) * sizes_.depth + c % sizes_.depth);
        keys_[at] = xs::bfloat16(k(t, c));
        values_[at] = xs::bfloat16(v(t, c));
      }
    }
    length_ += k.rows();
  }

  /// The filled part. The strides are those of the whole, so nothing is copied.
  xs::attention_view<const xs::bfloat16> keys() const { return whole(keys_).positions(0, length_); }

  xs::attention_view<const xs::bfloat16> values() const { return whole(values_).positions(0, length_); }

private:
  sizes sizes_;
  std::vector<xs::bfloat16> keys_, values_;
  Eigen::Index length_ = 0;

  xs::attention_view<const xs::bfloat16> whole(const std::vector<xs::bfloat16>& x) const {
    return {x.data(), 1, sizes_.kv_heads, sizes_.capacity, sizes_.depth};
  }
};

/// Bytes of workspace that serve every call of a decoder: those of the largest one.
inline std::size_t workspace_bytes(const sizes& s, const team& threads) {
  const float* const none = nullptr; // shapes and types count, not what is there
  const xs::bfloat16* const no_half = nullptr;
  const xs::attention_view q(none, 1, s.heads, s.capacity, s.depth);
  const xs::attention_view kv(no_half, 1, s.kv_heads, s.capacity, s.depth);
  return xs::attention_workspace(threads, q, kv, kv);
}

/// Standard normal numbers, divided so that products keep their size.
inline matrix random_weights(Eigen::Index inputs, Eigen::Index outputs, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(inputs)));
  return matrix::NullaryExpr(inputs, outputs, [&] { return normal(random); });
}

inline matrix rms_norm(const matrix& x) {
  const auto scale = (x.array().square().rowwise().mean() + 1e-6f).rsqrt().eval();
  return x.array().colwise() * scale;
}

/// Rotary positions: number c and number c + depth / 2 of each head are turned by position * 10000^(-2 c / depth).
inline void rotate(matrix& x, Eigen::Index first_position, Eigen::Index depth) {
  for (Eigen::Index t = 0; t < x.rows(); ++t) {
    for (Eigen::Index c = 0; c < depth / 2; ++c) {
      const double frequency = std::pow(10000.0, -2.0 * static_cast<double>(c) / static_cast<double>(depth));
      const double angle = static_cast<double>(first_position + t) * frequency;
      const auto cosine = static_cast<float>(std::cos(angle));
      const auto sine = static_cast<float>(std::sin(angle));
      for (Eigen::Index head = 0; head < x.cols(); head += depth) {
        const float a = x(t, head + c);
        const float b = x(t, head + c + depth / 2);
        x(t, head + c) = a * cosine - b * sine;
        x(t, head + c + depth / 2) = b * cosine + a * sine;
      }
    }
  }
}

class block {
public:
  block(const sizes& s, std::mt19937& random)
      : cache(s), sizes_(s), query_(random_weights(s.width(), s.width(), random)),
        key_(random_weights(s.width(), s.kv_heads * s.depth, random)),
        value_(random_weights(s.width(), s.kv_heads * s.depth, random)),
        out_(random_weights(s.width(), s.width(), random)), gate_(random_weights(s.width(), s.hidden, random)),
        up_(random_weights(s.width(), s.hidden, random)), down_(random_weights(s.hidden, s.width(), random)) {}

  /// x: the tokens that follow those in the cache, one or many; becomes what the next block takes.
  void operator()(matrix& x, const team& threads, std::span<std::byte> workspace) {
    const Eigen::Index first = cache.length();
    matrix normalised = rms_norm(x);
    q.noalias() = normalised * query_;
    k.noalias() = normalised * key_;
    v.noalias() = normalised * value_;
    rotate(q, first, sizes_.depth);
    rotate(k, first, sizes_.depth);
    cache.append(k, v);

    // The queries are the last of the sequence, which is what causal means by default (bottom_right): the same call
    // does for the first prompt, for one token, and for a prompt that goes on.
    mixed.resize(x.rows(), sizes_.width());
    using view = xs::attention_view<float>;
    xs::softmax_attention(threads, view::from_blhd(q.data(), 1, x.rows(), sizes_.heads, sizes_.depth), cache.keys(),
                          cache.values(), view::from_blhd(mixed.data(), 1, x.rows(), sizes_.heads, sizes_.depth),
                          {.causal = true, .workspace = workspace});
    x.noalias() += mixed * out_;

    normalised = rms_norm(x);
    gated.noalias() = normalised * gate_;
    up.noalias() = normalised * up_;
    gated.array() *= up.array() / (1 + (-gated.array()).exp()); // silu(gate) * up
    x.noalias() += gated * down_;
  }

  kv_cache cache;
  matrix q, k, v, mixed, gated, up; ///< of the last call; kept, so that single tokens allocate little

private:
  sizes sizes_;
  matrix query_, key_, value_, out_, gate_, up_, down_;
};

class model {
public:
  model(const sizes& s, const team& threads, unsigned seed)
      : threads_(threads), workspace_(workspace_bytes(s, threads)) {
    std::mt19937 random(seed);
    embedding_ = random_weights(s.width(), s.vocabulary, random).transpose();
    for (Eigen::Index i = 0; i < s.blocks; ++i) {
      blocks.emplace_back(s, random);
    }
  }

  /// The logits of what comes after these tokens, which follow those that were given before.
  Eigen::RowVectorXf operator()(std::span<const std::size_t> tokens) {
    matrix x(static_cast<Eigen::Index>(tokens.size()), embedding_.cols());
    for (Eigen::Index t = 0; t < x.rows(); ++t) {
      x.row(t) = embedding_.row(static_cast<Eigen::Index>(tokens[static_cast<std::size_t>(t)]));
    }
    for (block& b : blocks) {
      b(x, threads_, workspace_);
    }
    return rms_norm(x.bottomRows(1)) * embedding_.transpose();
  }

  std::vector<block> blocks;

private:
  team threads_;
  std::vector<std::byte> workspace_; // allocated once, for all blocks and tokens: they take turns
  matrix embedding_;
};

} // namespace decoder

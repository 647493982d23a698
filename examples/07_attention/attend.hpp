// SPDX-License-Identifier: MIT
// The kinds of attention that are compared, and a sequence in which it is known where they should look.
#pragma once

#include <cstddef>
#include <random>
#include <vector>
#include <xsoftmax/attention.hpp>

namespace attention {

namespace xs = xsoftmax;

enum class kind { softmax, sigmoid, lssa, lssar_3, lssar_15 };

inline constexpr kind kinds[] = {kind::softmax, kind::sigmoid, kind::lssa, kind::lssar_3, kind::lssar_15};

inline const char* name_of(kind which) {
  constexpr const char* names[] = {"softmax", "sigmoid", "LSSA", "LSSAR, p = 3", "LSSAR, p = 15"};
  return names[static_cast<std::size_t>(which)];
}

/// Do the weights of a row add up to 1?
inline bool is_normalised(kind which) {
  return which != kind::sigmoid;
}

using input = xs::matrix_view<const float>;
using output = xs::matrix_view<float>;

/// Causal attention of one head. The queries are the last of the sequence, where there are fewer of them than keys.
inline void attend(kind which, const input& q, const input& k, const input& v, const output& out) {
  switch (which) {
  case kind::softmax:
    return xs::softmax_attention(q, k, v, out, {.causal = true});
  case kind::sigmoid:
    return xs::sigmoid_attention(q, k, v, out, {.causal = true});
  case kind::lssa:
    return xs::softplus_attention(q, k, v, out, {.causal = true});
  case kind::lssar_3:
    return xs::softplus_attention(q, k, v, out, {.causal = true, .reweight_power = 3});
  case kind::lssar_15:
    return xs::softplus_attention(q, k, v, out, {.causal = true, .reweight_power = 15});
  }
}

/// Rows of numbers.
struct matrix {
  std::size_t rows, cols;
  std::vector<float> data = std::vector<float>(rows * cols);

  float& operator()(std::size_t r, std::size_t c) { return data[r * cols + c]; }

  float operator()(std::size_t r, std::size_t c) const { return data[r * cols + c]; }

  operator input() const { return {data.data(), rows, cols}; }

  operator output() { return {data.data(), rows, cols}; }
};

inline constexpr std::size_t depth = 64;

/// What each token looks like: standard normal vectors. Those of different tokens are nearly orthogonal.
inline matrix random_vectors(std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  matrix m{count, depth};
  for (float& x : m.data) {
    x = normal(random);
  }
  return m;
}

/// Row r shows token number tokens[r], with noise: two pictures of a token have a cosine of about 0.8.
inline matrix show(const std::vector<std::size_t>& tokens, const matrix& looks, std::mt19937& random) {
  matrix m = random_vectors(tokens.size(), random);
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t c = 0; c < depth; ++c) {
      m(r, c) = looks(tokens[r], c) + 0.5f * m(r, c);
    }
  }
  return m;
}

/// A sequence in which a phrase comes three times, with other tokens in between. Each position asks for its own token,
/// and each key shows the token before its own: the right keys are those whose value came after this token earlier, so
/// that it can be continued ("induction").
struct sequence {
  static constexpr std::size_t phrase = 12, others = 6, times = 3, length = (phrase + others) * times;

  std::vector<std::size_t> tokens;
  matrix q, k;

  explicit sequence(std::mt19937& random) : tokens(length), q{0, depth}, k{0, depth} {
    std::vector<std::size_t> before(length, 0); // token 0 comes before the first
    std::size_t next = phrase + 1;
    for (std::size_t i = 0; i < length; ++i) {
      const std::size_t place = i % (phrase + others);
      tokens[i] = place < phrase ? place + 1 : next++;
      if (i > 0) {
        before[i] = tokens[i - 1];
      }
    }
    const matrix looks = random_vectors(next, random);
    q = show(tokens, looks, random);
    k = show(before, looks, random);
  }

  bool is_right(std::size_t query, std::size_t key) const {
    return key <= query && key > 0 && tokens[key - 1] == tokens[query];
  }
};

/// The weights themselves: values that are the unit vectors bring them into the output.
inline matrix weights(kind which, const matrix& q, const matrix& k) {
  matrix unit{k.rows, k.rows};
  for (std::size_t j = 0; j < k.rows; ++j) {
    unit(j, j) = 1;
  }
  matrix w{q.rows, k.rows};
  attend(which, q, k, unit, w);
  return w;
}

/// Of a sequence of any length: the share of their weight that its last queries give to the one key that shows their
/// token, among as many others as there are positions; the mean.
inline double found(kind which, std::size_t length, std::mt19937& random) {
  const std::size_t queries = length < 64 ? length : 64;
  std::vector<std::size_t> shown(length), asked(queries);
  for (std::size_t j = 0; j < length; ++j) {
    shown[j] = j;
  }
  for (std::size_t& token : asked) {
    token = random() % (length - queries + 1); // a key that all queries see
  }
  const matrix looks = random_vectors(length, random);
  const matrix k = show(shown, looks, random);
  const matrix q = show(asked, looks, random);

  // Value j has a 1 in column i if query i looks for it, and in the last column always: the sum of the weights.
  matrix v{length, queries + 1};
  for (std::size_t i = 0; i < queries; ++i) {
    v(asked[i], i) = 1;
  }
  for (std::size_t j = 0; j < length; ++j) {
    v(j, queries) = 1;
  }
  matrix out{queries, queries + 1};
  attend(which, q, k, v, out);
  double sum = 0;
  for (std::size_t i = 0; i < queries; ++i) {
    sum += static_cast<double>(out(i, i)) / static_cast<double>(out(i, queries));
  }
  return sum / static_cast<double>(queries);
}

} // namespace attention

// SPDX-License-Identifier: MIT
// Attention of all three kinds from its formulas, one query at a time in long double, sharing nothing with the library;
// and problems to try it on.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <valarray>
#include <vector>

#include "reference.hpp"
#include "rows.hpp"

namespace xsoftmax::test {

enum class attention_kind { softmax, sigmoid, softplus };

struct attention_shape {
  std::size_t batch = 1;
  std::size_t heads = 1;
  std::size_t kv_heads = 1;
  std::size_t q_len = 1;
  std::size_t kv_len = 1;
  std::size_t depth = 1;
  std::size_t value_depth = 1;
};

enum class mask_kind { none, boolean, additive };

/// [batch, heads, q_len, kv_len], or 1 where it is the same for all.
template <class T>
struct problem_mask {
  mask_kind kind = mask_kind::none;
  std::size_t extent[4] = {1, 1, 1, 1};
  std::valarray<bool> sees; // which lies in memory as an array of bool does
  std::vector<T> added;

  [[nodiscard]] std::size_t size() const { return extent[0] * extent[1] * extent[2] * extent[3]; }

  [[nodiscard]] std::size_t index(std::size_t b, std::size_t h, std::size_t i, std::size_t j) const {
    const auto at = [this](int which, std::size_t x) { return extent[which] == 1 ? 0 : x; };
    return ((at(0, b) * extent[1] + at(1, h)) * extent[2] + at(2, i)) * extent[3] + at(3, j);
  }
};

/// Arguments and options of one call. Arrays are contiguous: q [batch, heads, q_len, depth], k and v likewise.
template <class T>
struct attention_problem {
  attention_shape shape;
  std::vector<T> q;
  std::vector<T> k;
  std::vector<T> v;

  std::optional<double> scale;
  bool causal = false;
  bool top_left = false;
  std::optional<std::size_t> window_left;
  std::optional<std::size_t> window_right;
  std::vector<long> key_lengths; ///< none: empty
  problem_mask<T> mask;
  std::vector<T> key_bias;     ///< kv_len, or batch x kv_len; none: empty
  std::vector<T> alibi_slopes; ///< none: empty
  std::vector<T> sink;         ///< none: empty; softmax
  std::optional<double> softcap;
  std::vector<T> weight_scale;          ///< batch x heads x q_len; none: empty; softmax
  std::vector<T> weight_sum;            ///< one per head; none: empty; softmax
  std::optional<double> bias;           ///< sigmoid
  std::optional<double> reweight_power; ///< softplus

  [[nodiscard]] std::size_t kv_head(std::size_t h) const { return h / (shape.heads / shape.kv_heads); }

  T* query(std::size_t b, std::size_t h, std::size_t i) {
    return q.data() + ((b * shape.heads + h) * shape.q_len + i) * shape.depth;
  }

  T* key(std::size_t b, std::size_t kv_head, std::size_t j) {
    return k.data() + ((b * shape.kv_heads + kv_head) * shape.kv_len + j) * shape.depth;
  }

  T* value(std::size_t b, std::size_t kv_head, std::size_t j) {
    return v.data() + ((b * shape.kv_heads + kv_head) * shape.kv_len + j) * shape.value_depth;
  }

  [[nodiscard]] const T* query(std::size_t b, std::size_t h, std::size_t i) const {
    return const_cast<attention_problem*>(this)->query(b, h, i);
  }

  [[nodiscard]] const T* key(std::size_t b, std::size_t kv_head, std::size_t j) const {
    return const_cast<attention_problem*>(this)->key(b, kv_head, j);
  }

  [[nodiscard]] const T* value(std::size_t b, std::size_t kv_head, std::size_t j) const {
    return const_cast<attention_problem*>(this)->value(b, kv_head, j);
  }

  /// Where the first number of a query is in the output.
  [[nodiscard]] std::size_t row_of(std::size_t b, std::size_t h, std::size_t i) const {
    return (b * shape.heads + h) * shape.q_len + i;
  }

  /// i' of the docstring.
  [[nodiscard]] std::ptrdiff_t position(std::size_t i) const {
    const auto query = static_cast<std::ptrdiff_t>(i);
    return top_left ? query
                    : query + static_cast<std::ptrdiff_t>(shape.kv_len) - static_cast<std::ptrdiff_t>(shape.q_len);
  }

  /// How many keys the batch entry has.
  [[nodiscard]] std::size_t keys_of(std::size_t b) const {
    if (key_lengths.empty()) {
      return shape.kv_len;
    }
    return key_lengths[b] < 0 ? 0 : std::min(static_cast<std::size_t>(key_lengths[b]), shape.kv_len);
  }

  [[nodiscard]] long double added_to_key(std::size_t b, std::size_t j) const {
    return key_bias.empty() ? 0 : key_bias[key_bias.size() == shape.kv_len ? j : b * shape.kv_len + j];
  }

  [[nodiscard]] bool sees(std::size_t b, std::size_t h, std::size_t i, std::size_t j) const;
};

/// What a result for T may be off, in the docstrings' measure. They state it for float; double has 29 bits more.
template <class T>
inline constexpr long double attention_unit = std::is_same_v<T, float> ? 2e-6L : 2e-6L * 0x1p-29L;

/// The deviation from uniform up to which there is no re-weighting.
template <class T>
inline constexpr long double uniform_row = std::is_same_v<T, float> ? 1e-6L : 1e-14L;

/// The exact result for one query, and what the library may make of it.
struct exact_query {
  std::vector<std::size_t> keys; ///< that it sees
  std::vector<long double> scores;
  std::vector<long double> weights;
  long double scale = 1; ///< of the weights (weight_scale)
  long double shift = 0; ///< of those then
  long double reach = 0; ///< max_j of scale sum_c |q_c k_jc| (softplus: |s_j|) and the sizes of what is added to it
  long double log_sum_exp = 0;
  long double log_sum_exp_bound = 0;
  std::vector<long double> out;
  std::vector<long double> bound;
  /// Re-weighting that magnifies the permitted error of A beyond bounds: any weights will do.
  bool any_mean = false;
  std::vector<long double> least; ///< visible value
  std::vector<long double> largest;
};

namespace wide {

long double softplus(long double s);

/// Its relative error is that of s alone, also where it is small.
long double sigmoid(long double s);

/// |x|
template <class T>
long double norm(const T* x, std::size_t n);

} // namespace wide

/// Query i of head h of entry b.
template <class T>
exact_query exact_attention(attention_kind kind, const attention_problem<T>& p, std::size_t b, std::size_t h,
                            std::size_t i);

/// Fills with numbers of mean 0 and that deviation.
template <class T>
void fill_normal(std::vector<T>& x, generator& random, double deviation);

/// Queries, keys and values as models have them.
template <class T>
attention_problem<T> make_attention(const attention_shape& s, std::uint64_t seed);

/// A mask over the named extents that lets `share` of the pairs pass. An additive one adds something to each of those.
template <class T>
void set_mask(attention_problem<T>& p, mask_kind kind, const std::size_t (&extent)[4], double share,
              std::uint64_t seed);

/// weight_scale and weight_sum.
template <class T>
void set_random_weights(attention_problem<T>& p, generator& random, bool scales, bool shifts);

/// Options of every kind, one or several of them by chance.
template <class T>
void set_random_options(attention_problem<T>& p, std::uint64_t seed);

std::string text_of(const attention_shape& s);

/// So that a failure can be set up again.
template <class T>
std::string text_of(const attention_problem<T>& p);

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
// Gradients of attention of all three kinds from their formulas, one query at a time in long double, with what a result
// may be off. Scores, weights and outputs are those of attention_reference.hpp.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "attention_reference.hpp"

namespace xsoftmax::test {

/// A gradient and how far a result may be from it.
struct exact_array {
  std::vector<long double> value;
  std::vector<long double> bound;

  explicit exact_array(std::size_t n) : value(n), bound(n) {}

  void add(std::size_t at, long double x, long double off) {
    value[at] += x;
    bound[at] += off;
  }
};

struct exact_gradients {
  exact_array dq;
  exact_array dk;
  exact_array dv;
  exact_array key_bias; ///< [batch, kv_len]
  exact_array sink;     ///< one per head
  exact_array scale;    ///< of the weights of each query
  exact_array bias;     ///< one

  explicit exact_gradients(const attention_shape& s)
      : dq(s.batch * s.heads * s.q_len * s.depth), dk(s.batch * s.kv_heads * s.kv_len * s.depth),
        dv(s.batch * s.kv_heads * s.kv_len * s.value_depth), key_bias(s.batch * s.kv_len), sink(s.heads),
        scale(s.batch * s.heads * s.q_len), bias(1) {}
};

/// What the promises about gradients count in, for float; double has 29 bits more.
template <class T>
inline constexpr long double gradient_unit = 2 * attention_unit<T>;

/// Off by this, a number says nothing.
inline constexpr long double anything = 1e30L;

/// Gradients of a loss whose gradient with respect to the output is dout, contiguous [batch, heads, q_len,
/// value_depth].
template <class T>
exact_gradients gradients_of_attention(attention_kind kind, const attention_problem<T>& p, const std::vector<T>& dout);

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
// What log_sum_exp and its state ask of their kernels, and what the state holds.
#pragma once

#include <xsoftmax/detail/storage.hpp>
#include <xsoftmax/detail/sum_digits.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// All that is known of the logits seen so far: enough for log(sum exp(z / T)) to the last place without their maximum
/// in advance. Parts join in any order and association.
struct log_sum_exp_summary {
  double maximum = -__builtin_inf(); ///< M, infinities and NaN left out
  std::uint64_t count = 0;           ///< elements equal to M
  sum_digits others;                 ///< sum of exp(z / T) over all others, from unrounded terms
  sum_digits all;                    ///< sum of softmax's own terms, M's included, block by block as softmax adds them
  bool nan = false;                  ///< a NaN was seen
  bool plus_infinity = false;        ///< +inf was seen
};

/// For each row r of z: out[r] = log(sum_k exp(z_rk / T) + exp(sink / T)).
template <class T>
struct log_sum_exp_task {
  source z;
  destination out; ///< one row of `rows` elements
  std::size_t rows;
  std::size_t cols;
  double temperature;
  double sink; ///< -inf: none
};

/// One step of a state; what it does not need is null or 0.
template <class T>
struct log_sum_exp_state_task {
  enum class step : unsigned char {
    push,
    push_terms, ///< only for softmax: no value comes of it
    merge,
    value,
  };

  step what = step::push;
  log_sum_exp_summary* state = nullptr; ///< changed
  double temperature = 1.0;
  source z = {};                              ///< push: a row
  std::size_t cols = 0;                       ///< of that many elements
  const log_sum_exp_summary* other = nullptr; ///< merge: joins the state; value: what to evaluate
  double sink = 0.0;                          ///< value: -inf: none
  T* value = nullptr;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

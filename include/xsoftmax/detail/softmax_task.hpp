// SPDX-License-Identifier: MIT
// What crosses the border between a public function and a kernel: plain numbers and pointers, no functions. A kernel
// may lie in an object built for another architecture, so nothing here may ever need code.
#pragma once

#include <cstddef>
#include <xsoftmax/detail/log_sum_exp_task.hpp>
#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// How softmax goes over a row. The choice changes the speed and never a bit of the result.
enum class softmax_algorithm : unsigned char {
  automatic, ///< by length and type: out of the caches two_pass (float with FMA); otherwise reload, without its pass
             ///< for the maximum wherever an exponent guessed from the first logit serves: 2 reads, 2 writes
  three_pass_recompute, ///< maximum; sum of exponentials; exponentials again and scale: 3 reads, 1 write
  three_pass_reload,    ///< maximum; exponentials stored and summed; scale in place: 3 reads, 2 writes
  two_pass, ///< sum of (mantissa, exponent) pairs, no maximum; exponentials again and scale: 2 reads, 1 write
  online,   ///< running maximum, block by block; exponentials again and scale: 2 reads, 1 write
};

/// What a row that holds nothing but -inf gives.
enum class masked_row_policy : unsigned char {
  nan,  ///< NaN everywhere, as the formula does
  zero, ///< 0 everywhere, as attention wants it
};

/// How the last pass writes. The choice changes the speed and never a bit of the result.
enum class store_kind : unsigned char {
  automatic, ///< streaming where the output is larger than the caches
  cached,    ///< ordinary stores: the output will be read soon
  streaming, ///< past the caches: the output will not be read soon
};

namespace detail {

/// Softmax of each row, computed in T.
template <class T>
struct softmax_task {
  source z;
  destination p;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  double sink; ///< -inf: none
  // Not in the order of the options: neighbours there would be copied together, which has to wait for both to be
  // stored.
  softmax_algorithm algorithm;
  store_kind store;
  masked_row_policy masked_row;
  const log_sum_exp_summary* whole = nullptr; ///< the row of which z is a part; null: z itself
};

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

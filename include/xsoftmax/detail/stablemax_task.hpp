// SPDX-License-Identifier: MIT
// What StableMax asks of its kernels.
#pragma once

#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// What is known of a part of a row, or of all of it.
struct stablemax_summary {
  sum_digits sum;    ///< of s(z), in the unit of usual rows
  bool usual = true; ///< does that unit serve?
};

/// What is done of a row that is cut into parts.
enum class stablemax_step : unsigned char {
  all,
  sum,    ///< the part's terms join `summary`
  merge,  ///< `other` joins `summary`
  settle, ///< does the unit serve the row that `summary` is of?
  write,  ///< the part's probabilities, by the `summary` of all
};

/// StableMax of each row, computed in T.
template <class T>
struct stablemax_task {
  source z;
  destination p;
  std::size_t rows;
  std::size_t cols;
  masked_row_policy masked_row;
  store_kind store;
  stablemax_step step = stablemax_step::all;
  stablemax_summary* summary = nullptr;
  const stablemax_summary* other = nullptr;
};

/// Its logarithm: temperature 1, no sink; in the summaries, s stands for the exponential.
template <class T>
struct log_stablemax_task : log_softmax_task<T> {};

/// With z.
template <class T>
struct stablemax_backward_task : backward_arguments {};

template <class T>
struct log_stablemax_backward_task : backward_arguments {};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

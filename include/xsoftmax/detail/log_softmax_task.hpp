// SPDX-License-Identifier: MIT
// What log_softmax asks of its kernels.
#pragma once

#include <xsoftmax/detail/softmax_task.hpp>
#include <xsoftmax/detail/storage.hpp>
#include <xsoftmax/detail/sum_digits.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// What is known of a part of a row, or of all of it.
struct log_softmax_summary {
  double largest = -__builtin_inf(); ///< infinite or the maximum of the row; NaN is passed over
  bool nan = false;                  ///< a NaN was seen
  std::uint64_t count = 0;           ///< elements equal to it
  sum_digits others;                 ///< sum of exp((z - largest) / T) over the others
};

/// What is done of a row that is cut into parts.
enum class log_softmax_step : unsigned char {
  all,
  largest, ///< the part's maximum enters `summary`
  others,  ///< its elements, by the maximum of all
  merge,   ///< `other`, of the same maximum, joins `summary`
  write,   ///< its logarithms, by the `summary` of all
};

template <class T>
struct log_softmax_task {
  source z;
  destination y;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  double sink; ///< -inf: none
  masked_row_policy masked_row;
  log_softmax_step step = log_softmax_step::all;
  log_softmax_summary* summary = nullptr;
  const log_softmax_summary* other = nullptr;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// What log_softmax asks of its kernels.
#pragma once

#include <xsoftmax/detail/softmax_task.hpp>
#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

template <class T>
struct log_softmax_task {
  source z;
  destination y;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  double sink; ///< -inf: none
  masked_row_policy masked_row;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// What crosses the border to the backward kernels.
#pragma once

#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// What a backward pass of rows works on: the forward pass' results, their gradients, and the gradients of the logits.
struct backward_arguments {
  source y;
  source dy;
  destination dz;
  std::size_t rows;
  std::size_t cols;
  double temperature;
};

template <class T>
struct softmax_backward_task : backward_arguments {};

template <class T>
struct log_softmax_backward_task : backward_arguments {};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

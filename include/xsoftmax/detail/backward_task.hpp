// SPDX-License-Identifier: MIT
// What crosses the border to the backward kernels.
#pragma once

#include <xsoftmax/detail/storage.hpp>
#include <xsoftmax/detail/sum_digits.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// A sum of numbers of either sign (signed_sum.hpp).
struct signed_sum_digits {
  sum_digits positive;
  sum_digits negative;
  double special = 0.0; ///< the sum of infinities and NaN
};

/// What is done of a row that is cut into parts.
enum class backward_step : unsigned char {
  all,
  reduce, ///< the part's terms join `sum`
  merge,  ///< `other` joins `sum`
  write,  ///< the part's gradients, by the `sum` of all
};

/// What a backward pass of rows works on: the forward pass' results, their gradients, and the gradients of the logits.
struct backward_arguments {
  source y;
  source dy;
  destination dz;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  source z = {}; ///< the logits, for a formula that takes them
  backward_step step = backward_step::all;
  signed_sum_digits* sum = nullptr;
  const signed_sum_digits* other = nullptr;
};

template <class T>
struct softmax_backward_task : backward_arguments {};

template <class T>
struct log_softmax_backward_task : backward_arguments {};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

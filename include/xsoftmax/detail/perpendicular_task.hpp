// SPDX-License-Identifier: MIT
// What perpendicular_gradient asks of its kernels.
#pragma once

#include <xsoftmax/detail/backward_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

enum class perpendicular_step : unsigned char {
  products, ///< the sums of w w, w g and g g join `sum`
  rest,     ///< that of (g - c w)^2 joins sum[0]
  merge,    ///< `other` joins `sum`
  values,   ///< `sum` as numbers
  write,    ///< g = (g - c w) * scale
};

/// Weights w and their gradient g, which is read and written.
template <class T>
struct perpendicular_gradient_task {
  source w;
  source g;
  destination out; ///< g
  std::size_t rows;
  std::size_t cols;
  perpendicular_step step = perpendicular_step::products;
  signed_sum_digits* sum = nullptr; ///< three
  const signed_sum_digits* other = nullptr;
  double* value = nullptr; ///< three
  double coefficient = 0.0;
  double scale = 1.0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

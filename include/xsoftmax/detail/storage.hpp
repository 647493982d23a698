// SPDX-License-Identifier: MIT
// As what the elements of a matrix lie in memory.
#pragma once

#include <cstddef>
#include <xsoftmax/config.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// How a number is stored. Kernels compute in float or double; what is stored narrower is widened when it is read and
/// rounded once, to nearest even, when it is written.
enum class storage_format : unsigned char {
  native,   ///< as the type that is computed in
  float16,  ///< IEEE 754 binary16, computed in float
  bfloat16, ///< the upper half of a float, computed in float
};

namespace detail {

/// A matrix as it crosses the border between a public function and a kernel: element (r, c) is number r * row_stride +
/// c * col_stride from `data`, of the format.
template <class Void>
struct elements {
  Void* data;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t col_stride;
  storage_format format;
};

using source = elements<const void>;
using destination = elements<void>;

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

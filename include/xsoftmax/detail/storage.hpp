// SPDX-License-Identifier: MIT
// As what the elements of a matrix lie in memory.
#pragma once

#include <cstddef>
#include <type_traits>
#include <xsoftmax/config.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// How a number is stored. Kernels compute in float or double; what is stored narrower is widened when it is read and
/// rounded once, to nearest even, when it is written.
enum class storage_format : unsigned char {
  native,   ///< as the type that is computed in
  float16,  ///< IEEE 754 binary16, computed in float
  bfloat16, ///< the upper half of a float, computed in float
};

/// No element.
inline constexpr std::size_t npos = static_cast<std::size_t>(-1);

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

/// The same matrix from row `row` and column `col` on, computed in T. One without elements may lie nowhere.
template <class T, class Void>
XSOFTMAX_INLINE elements<Void> elements_from(elements<Void> m, std::size_t row, std::size_t col) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const unsigned char, unsigned char>;
  const std::ptrdiff_t size = m.format == storage_format::native ? static_cast<std::ptrdiff_t>(sizeof(T)) : 2;
  const std::ptrdiff_t offset =
      static_cast<std::ptrdiff_t>(row) * m.row_stride + static_cast<std::ptrdiff_t>(col) * m.col_stride;
  if (m.data != nullptr) {
    m.data = static_cast<Byte*>(m.data) + offset * size;
  }
  return m;
}

template <class T, class Void>
XSOFTMAX_INLINE elements<Void> rows_from(const elements<Void>& m, std::size_t row) {
  return elements_from<T>(m, row, 0);
}

using source = elements<const void>;
using destination = elements<void>;

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

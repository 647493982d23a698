// SPDX-License-Identifier: MIT
// Single elements of rows of any storage, for what is computed in double and not in a kernel.
#pragma once

#include <cstring>
#include <xsoftmax/half.hpp>
#include <xsoftmax/view.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// Element i of a row.
template <class T>
double element_value(const matrix_view<T>& row, std::size_t i) {
  using Value = std::remove_const_t<T>;
  const Value& x = row.data()[static_cast<std::ptrdiff_t>(i) * row.col_stride()];
  if constexpr (storage_traits<Value>::format == storage_format::native) {
    return static_cast<double>(x);
  } else {
    std::uint16_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return static_cast<double>(half_value(bits, storage_traits<Value>::format));
  }
}

/// Rounded to the compute type, and then to that of the element.
template <class T>
void set_element(const matrix_view<T>& row, std::size_t i, double value) {
  T& x = row.data()[static_cast<std::ptrdiff_t>(i) * row.col_stride()];
  if constexpr (storage_traits<T>::format == storage_format::native) {
    x = static_cast<T>(value);
  } else {
    const std::uint16_t bits = half_bits(static_cast<float>(value), storage_traits<T>::format);
    std::memcpy(&x, &bits, sizeof bits);
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

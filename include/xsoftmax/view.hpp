// SPDX-License-Identifier: MIT
// What the functions read and write: views of one row or of a matrix, and the one door through which foreign types
// enter.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <xsoftmax/detail/error.hpp>
#include <xsoftmax/detail/storage.hpp>
#include <xsoftmax/half.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// An extent from any integral type; negative ones are refused.
template <std::integral Integer>
constexpr std::size_t checked_extent(const char* type, const char* name, Integer extent) {
  if constexpr (std::signed_integral<Integer>) {
    if (extent < 0) {
      raise_out_of_range(type, "an extent must not be negative", name, extent);
      return 0;
    }
  }
  return static_cast<std::size_t>(extent);
}

} // namespace detail

/// One row: `size` elements of type T, `stride` elements apart.
template <class T>
class vector_view {
public:
  using element_type = T;

  template <std::integral Size>
  constexpr vector_view(T* data, Size size, std::ptrdiff_t stride = 1)
      : data_(data), size_(detail::checked_extent("vector_view", "size", size)), stride_(stride) {}

  /// A view of mutable elements reads as a view of constant ones.
  template <class Mutable>
  requires std::is_same_v<const Mutable, T>
  constexpr vector_view(const vector_view<Mutable>& other) noexcept
      : data_(other.data()), size_(other.size()), stride_(other.stride()) {}

  constexpr T* data() const noexcept { return data_; }

  constexpr std::size_t size() const noexcept { return size_; }

  constexpr std::ptrdiff_t stride() const noexcept { return stride_; }

private:
  T* data_;
  std::size_t size_;
  std::ptrdiff_t stride_;
};

/// A matrix of rows x cols elements: element (r, c) lies at data + r * row_stride + c * col_stride. Strides count
/// elements, may be negative, and default to row-major without padding.
template <class T>
class matrix_view {
public:
  using element_type = T;

  template <std::integral Rows, std::integral Cols>
  constexpr matrix_view(T* data, Rows rows, Cols cols)
      : data_(data), rows_(detail::checked_extent("matrix_view", "rows", rows)),
        cols_(detail::checked_extent("matrix_view", "cols", cols)), row_stride_(static_cast<std::ptrdiff_t>(cols_)),
        col_stride_(1) {}

  template <std::integral Rows, std::integral Cols, std::integral RowStride>
  constexpr matrix_view(T* data, Rows rows, Cols cols, RowStride row_stride, std::ptrdiff_t col_stride = 1)
      : data_(data), rows_(detail::checked_extent("matrix_view", "rows", rows)),
        cols_(detail::checked_extent("matrix_view", "cols", cols)),
        row_stride_(static_cast<std::ptrdiff_t>(row_stride)), col_stride_(col_stride) {}

  /// A view of mutable elements reads as a view of constant ones.
  template <class Mutable>
  requires std::is_same_v<const Mutable, T>
  constexpr matrix_view(const matrix_view<Mutable>& other) noexcept
      : data_(other.data()), rows_(other.rows()), cols_(other.cols()), row_stride_(other.row_stride()),
        col_stride_(other.col_stride()) {}

  constexpr T* data() const noexcept { return data_; }

  constexpr std::size_t rows() const noexcept { return rows_; }

  constexpr std::size_t cols() const noexcept { return cols_; }

  constexpr std::ptrdiff_t row_stride() const noexcept { return row_stride_; }

  constexpr std::ptrdiff_t col_stride() const noexcept { return col_stride_; }

  /// The same elements with rows and columns exchanged; nothing is moved.
  constexpr matrix_view transposed() const noexcept {
    matrix_view t = *this;
    t.rows_ = cols_;
    t.cols_ = rows_;
    t.row_stride_ = col_stride_;
    t.col_stride_ = row_stride_;
    return t;
  }

private:
  T* data_;
  std::size_t rows_;
  std::size_t cols_;
  std::ptrdiff_t row_stride_;
  std::ptrdiff_t col_stride_;
};

/// Extents that a type fixes; unknown ones are `unknown`. A row has one row.
struct known_shape {
  static constexpr std::size_t unknown = static_cast<std::size_t>(-1);
  std::size_t rows = unknown;
  std::size_t cols = unknown;
};

/// The customisation point. A specialisation for X (without const or reference) offers
///   `static auto view(X& x)` and, if inputs are to be accepted, `static auto view(const X& x)`,
/// each returning a vector_view or a matrix_view, and `static constexpr bool owns`: true for a container, false for a
/// type that only refers to its elements (a temporary of the latter may be an output). It may also offer
///   `static auto evaluate(const X& x)`    for an expression whose elements are nowhere yet: an object to view instead
///   `static constexpr known_shape shape`  what the type says of the number of rows and columns
template <class X>
struct view_traits;

namespace detail {

template <class X>
struct is_view : std::false_type {};
template <class T>
struct is_view<vector_view<T>> : std::true_type {};
template <class T>
struct is_view<matrix_view<T>> : std::true_type {};

template <class X>
concept has_view_traits = requires(X& x) {
  view_traits<std::remove_const_t<X>>::view(x);
};

/// Any contiguous sized range: what std::span accepts.
template <class X>
concept contiguous_range = requires(X& x) {
  std::span(x);
};

template <class X>
concept viewable = is_view<std::remove_const_t<X>>::value || has_view_traits<X> || contiguous_range<X>;

/// May a temporary of this type be an output? Yes where it only refers to its elements.
template <class X>
consteval bool refers_to_elements() {
  using Plain = std::remove_cvref_t<X>;
  if constexpr (is_view<Plain>::value) {
    return true;
  } else if constexpr (has_view_traits<Plain>) {
    return !view_traits<Plain>::owns;
  } else {
    return std::ranges::borrowed_range<Plain>;
  }
}

} // namespace detail

/// The view of x: itself for a view, what `view_traits` says for a type that has one, and otherwise one row for any
/// contiguous sized range (std::vector, std::array, std::span, an array, ...).
template <class X>
constexpr auto as_view(X&& x) {
  using Value = std::remove_reference_t<X>;
  static_assert(
      detail::viewable<Value>,
      "xsoftmax: this type is neither a contiguous sized range nor a view; specialise xsoftmax::view_traits for it "
      "(Eigen: include <xsoftmax/eigen.hpp>)");
  if constexpr (detail::is_view<std::remove_const_t<Value>>::value) {
    return x;
  } else if constexpr (detail::has_view_traits<Value>) {
    return view_traits<std::remove_const_t<Value>>::view(x);
  } else if constexpr (detail::contiguous_range<Value>) {
    const auto elements = std::span(x);
    return vector_view<typename decltype(elements)::element_type>(elements.data(), elements.size());
  }
}

namespace detail {

template <class X>
using view_of = decltype(as_view(std::declval<X&>()));
template <class X>
using element_of = typename view_of<X>::element_type;
template <class X>
using value_of = std::remove_const_t<element_of<X>>;
/// What is computed in.
template <class X>
using compute_of = compute_type_t<value_of<std::remove_reference_t<X>>>;

/// One row is a matrix of one row: below the public door there are only matrices.
template <class T>
constexpr matrix_view<T> as_matrix(vector_view<T> v) {
  return {v.data(), std::size_t{1}, v.size(), std::ptrdiff_t{0}, v.stride()};
}

template <class T>
constexpr matrix_view<T> as_matrix(matrix_view<T> m) {
  return m;
}

/// x, or the object that an expression evaluates to, which happens here and once: the caller holds it (by const
/// reference) as long as its elements are looked at.
template <class X>
constexpr decltype(auto) evaluated(const X& x) {
  if constexpr (requires { view_traits<X>::evaluate(x); }) {
    return view_traits<X>::evaluate(x);
  } else {
    return (x);
  }
}

/// What the type of an argument says of its shape.
template <class X>
consteval known_shape shape_of() {
  using Plain = std::remove_cvref_t<X>;
  if constexpr (is_view<Plain>::value) {
    return {};
  } else if constexpr (has_view_traits<Plain>) {
    if constexpr (requires { view_traits<Plain>::shape; }) {
      return view_traits<Plain>::shape;
    } else {
      return {};
    }
  } else {
    constexpr std::size_t extent = decltype(std::span(std::declval<std::remove_reference_t<X>&>()))::extent;
    return {1, extent == std::dynamic_extent ? known_shape::unknown : extent};
  }
}

/// The matrix of an input: its elements are const.
template <class X>
constexpr matrix_view<const value_of<X>> input_matrix(X& x) {
  return as_matrix(as_view(x));
}

/// The matrix of an output.
template <class X>
constexpr matrix_view<element_of<X>> output_matrix(X& x) {
  return as_matrix(as_view(x));
}

/// A matrix for the kernels.
template <class X>
XSOFTMAX_INLINE constexpr source source_of(const matrix_view<X>& m) {
  return {m.data(), m.row_stride(), m.col_stride(), storage_traits<X>::format};
}

template <class X>
XSOFTMAX_INLINE constexpr destination destination_of(const matrix_view<X>& m) {
  return {m.data(), m.row_stride(), m.col_stride(), storage_traits<X>::format};
}

template <class X>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<vector_view<T>> = true;

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

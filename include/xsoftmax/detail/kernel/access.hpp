// SPDX-License-Identifier: MIT
// How the kernels over rows reach elements that lie anywhere, in any format: block by block through a buffer of T,
// which stays in the first-level cache. A row of T side by side is its own buffer.
//
// A row type offers
//   x.block<A>(first, last, buffer)     the elements [first, last) as a contiguous_row, read if they must be
//   y.target(first, buffer)             where to write the elements from `first` on
//   y.commit<A>(first, last, buffer)    puts them in their places
#pragma once

#include <xsoftmax/detail/storage.hpp>
#include <xsoftmax/detail/sum.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Room for a block.
template <class T>
struct block_buffer {
  alignas(64) T element[block_size<T>];
};

/// What a row that is its own buffer has in its place.
struct no_buffer {};

/// Elements of T side by side.
template <class T>
struct plain_row : contiguous_row<T> {
  static constexpr bool plain = true;
  using buffer = no_buffer;

  template <class A>
  XSOFTMAX_INLINE contiguous_row<T> block(std::size_t first, std::size_t, no_buffer&) const {
    return {this->data + first};
  }

  XSOFTMAX_INLINE contiguous_row<T> target(std::size_t first, no_buffer&) const { return {this->data + first}; }

  template <class A>
  XSOFTMAX_INLINE void commit(std::size_t, std::size_t, no_buffer&) const {}
};

/// Elements at any stride and of any format. Void: const void or void.
template <class T, class Void>
struct any_row {
  static constexpr bool plain = false;
  using buffer = block_buffer<T>;

  Void* data;
  std::ptrdiff_t stride;
  storage_format format;

  /// [first, last) of at most a block
  template <class A>
  XSOFTMAX_INLINE contiguous_row<const T> block(std::size_t first, std::size_t last, buffer& room) const {
    if (format == storage_format::native && stride == 1) {
      return {static_cast<const T*>(data) + first};
    }
    gather<A>(first, last, room);
    return {room.element};
  }

  XSOFTMAX_INLINE contiguous_row<T> target(std::size_t first, buffer& room) const {
    if (format == storage_format::native && stride == 1) {
      return {static_cast<T*>(data) + first};
    }
    return {room.element};
  }

  template <class A>
  XSOFTMAX_INLINE void commit(std::size_t first, std::size_t last, const buffer& room) const {
    if (format != storage_format::native || stride != 1) {
      scatter<A>(first, last, room);
    }
  }

private:
  template <class A>
  __attribute__((noinline)) void gather(std::size_t first, std::size_t last, buffer& room) const {
    const T* from = static_cast<const T*>(data) + static_cast<std::ptrdiff_t>(first) * stride;
    for (std::size_t i = 0; i < last - first; ++i) {
      room.element[i] = from[static_cast<std::ptrdiff_t>(i) * stride];
    }
  }

  template <class A>
  __attribute__((noinline)) void scatter(std::size_t first, std::size_t last, const buffer& room) const {
    T* to = static_cast<T*>(data) + static_cast<std::ptrdiff_t>(first) * stride;
    for (std::size_t i = 0; i < last - first; ++i) {
      to[static_cast<std::ptrdiff_t>(i) * stride] = room.element[i];
    }
  }
};

/// Row r of a matrix.
template <class T, class Void>
XSOFTMAX_INLINE any_row<T, Void> row_of(const elements<Void>& m, std::size_t r) {
  return {rows_from<T>(m, r).data, m.col_stride, m.format};
}

/// The same where its elements are T side by side.
template <class T, class Void>
XSOFTMAX_INLINE auto plain_row_of(const elements<Void>& m, std::size_t r) {
  using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
  return plain_row<Element>{{static_cast<Element*>(m.data) + static_cast<std::ptrdiff_t>(r) * m.row_stride}};
}

/// Are the rows of a matrix of `cols` columns T side by side?
template <class T, class Void>
XSOFTMAX_INLINE bool has_plain_rows(const elements<Void>& m, std::size_t cols) {
  return m.format == storage_format::native && (m.col_stride == 1 || cols == 1);
}

/// body(first, last) over [0, n): once where the row is its own buffer, otherwise block by block.
template <class T, class Row, class Body>
XSOFTMAX_INLINE void for_each_piece(Row, std::size_t n, Body&& body) {
  if constexpr (Row::plain) {
    body(std::size_t{0}, n);
  } else {
    for (std::size_t first = 0; first < n; first += block_size<T>) {
      body(first, n - first > block_size<T> ? first + block_size<T> : n);
    }
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

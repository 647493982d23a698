// SPDX-License-Identifier: MIT
// The product of a few rows with a block of columns, held in registers: what attention spends its time in. Scores are
// the product of queries with keys that lie transposed, outputs the product of weights with values, so that one kernel
// serves both.
#pragma once

#include <xsoftmax/detail/chunk.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Rows and batches of columns of a full tile. With 32 registers 24 sums, 4 batches of b and a broadcast fit, with 16
/// 12 sums and 2: chains enough to hide the latency of the multiply-add, and every batch of b that is loaded serves 6.
inline constexpr std::size_t tile_rows = 6;
template <class A>
inline constexpr std::size_t tile_batches = native<A>::registers == 32 ? 4 : 2;

/// A matrix in memory, rows `stride` elements apart.
template <class T>
struct matrix_rows {
  T* data;
  std::size_t stride;

  XSOFTMAX_INLINE matrix_rows from(std::size_t row, std::size_t col = 0) const {
    return {data + row * stride + col, stride};
  }
};

/// c_rj = sum_k a_rk b_kj, or c_rj * scale_r + that sum where scales are given, for Rows rows and N batches of columns.
/// Each sum is one chain over k = 0, 1, ... from zero: its bits depend on nothing but its row and column.
template <class A, class T, std::size_t Rows, std::size_t N>
__attribute__((noinline)) void tile_product(matrix_rows<const T> a, matrix_rows<const T> b, std::size_t depth,
                                            const T* scale, matrix_rows<T> c) {
  using V = batch<A, T>;
  constexpr std::size_t width = lanes<A, T>;
  V sum[Rows][N];
  unroll<Rows>([&](auto r) XSOFTMAX_LAMBDA {
    unroll<N>([&](auto n) XSOFTMAX_LAMBDA { sum[decltype(r)::value][decltype(n)::value] = V(T{}); });
  });
  const T* at = b.data;
  for (std::size_t k = 0; k < depth; ++k) {
    const auto row = make_pack<N>(
        [&](auto n) XSOFTMAX_LAMBDA { return native<A>::template load<T>(at + decltype(n)::value * width); });
    unroll<Rows>([&](auto r) XSOFTMAX_LAMBDA {
      const V factor(a.data[decltype(r)::value * a.stride + k]);
      unroll<N>([&](auto n) XSOFTMAX_LAMBDA {
        V& s = sum[decltype(r)::value][decltype(n)::value];
        s = native<A>::multiply_add(factor, row.v[decltype(n)::value], s);
      });
    });
    at += b.stride;
  }
  unroll<Rows>([&](auto r) XSOFTMAX_LAMBDA {
    unroll<N>([&](auto n) XSOFTMAX_LAMBDA {
      T* const to = c.data + decltype(r)::value * c.stride + decltype(n)::value * width;
      V s = sum[decltype(r)::value][decltype(n)::value];
      if (scale != nullptr) {
        s = native<A>::multiply_add(native<A>::template load<T>(to), V(scale[decltype(r)::value]), s);
      }
      native<A>::store(to, s);
    });
  });
}

/// The same for any number of batches of columns.
template <class A, class T, std::size_t Rows>
__attribute__((noinline)) void row_product(matrix_rows<const T> a, matrix_rows<const T> b, std::size_t depth,
                                           const T* scale, matrix_rows<T> c, std::size_t batches) {
  constexpr std::size_t width = lanes<A, T>;
  // A single row has registers left for more chains, and then reads whole rows of b.
  constexpr std::size_t wide = Rows == 1 ? 2 * tile_batches<A> : tile_batches<A>;
  std::size_t n = 0;
  for (; batches - n >= wide; n += wide) {
    tile_product<A, T, Rows, wide>(a, b.from(0, n * width), depth, scale, c.from(0, n * width));
  }
  if constexpr (wide > 4) {
    for (; batches - n >= 4; n += 4) {
      tile_product<A, T, Rows, 4>(a, b.from(0, n * width), depth, scale, c.from(0, n * width));
    }
  }
  for (; batches - n >= 2; n += 2) {
    tile_product<A, T, Rows, 2>(a, b.from(0, n * width), depth, scale, c.from(0, n * width));
  }
  for (; batches != n; ++n) {
    tile_product<A, T, Rows, 1>(a, b.from(0, n * width), depth, scale, c.from(0, n * width));
  }
}

/// The same for `rows` rows, at most tile_rows.
template <class A, class T>
XSOFTMAX_INLINE void product(std::size_t rows, matrix_rows<const T> a, matrix_rows<const T> b, std::size_t depth,
                             const T* scale, matrix_rows<T> c, std::size_t batches) {
  switch (rows) {
  case 6:
    return row_product<A, T, 6>(a, b, depth, scale, c, batches);
  case 5:
    return row_product<A, T, 5>(a, b, depth, scale, c, batches);
  case 4:
    return row_product<A, T, 4>(a, b, depth, scale, c, batches);
  case 3:
    return row_product<A, T, 3>(a, b, depth, scale, c, batches);
  case 2:
    return row_product<A, T, 2>(a, b, depth, scale, c, batches);
  default:
    return row_product<A, T, 1>(a, b, depth, scale, c, batches);
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

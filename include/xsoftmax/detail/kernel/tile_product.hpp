// SPDX-License-Identifier: MIT
// The product of a few rows with a block of columns, held in registers: what attention spends its time in. Scores are
// the product of queries with keys that lie transposed, outputs the product of weights with values, so that one kernel
// serves both.
#pragma once

#include <xsoftmax/detail/attention_task.hpp>
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

  template <class A>
  XSOFTMAX_STEP auto load(std::size_t row, std::size_t col) const {
    return native<A>::load(static_cast<const T*>(data) + row * stride + col);
  }
};

/// c_rj = sum_k a_rk b_kj, or c_rj * scale_r + that sum where scales are given, for Rows rows and N batches of columns.
/// Each sum is one chain over k = 0, 1, ... from zero: its bits depend on nothing but its row and column. B is a
/// matrix_rows, or what else loads batches of rows.
template <class A, class T, std::size_t Rows, std::size_t N, class B>
__attribute__((noinline)) XSOFTMAX_FLATTEN void tile_product(matrix_rows<const T> a, B b, std::size_t depth,
                                                             const T* scale, matrix_rows<T> c) {
  using V = batch<A, T>;
  constexpr std::size_t width = lanes<A, T>;
  V sum[Rows][N];
  unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA {
    unroll<N>([&](auto n) XSOFTMAX_STEP_LAMBDA { sum[decltype(r)::value][decltype(n)::value] = V(T{}); });
  });
  for (std::size_t k = 0; k < depth; ++k) {
    const auto row =
        make_pack<N>([&](auto n) XSOFTMAX_STEP_LAMBDA { return b.template load<A>(k, decltype(n)::value * width); });
    unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA {
      const V factor(a.data[decltype(r)::value * a.stride + k]);
      unroll<N>([&](auto n) XSOFTMAX_STEP_LAMBDA {
        V& s = sum[decltype(r)::value][decltype(n)::value];
        s = native<A>::multiply_add(factor, row.v[decltype(n)::value], s);
      });
    });
  }
  unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA {
    unroll<N>([&](auto n) XSOFTMAX_STEP_LAMBDA {
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
template <class A, class T, std::size_t Rows, class B>
__attribute__((noinline)) XSOFTMAX_FLATTEN void row_product(matrix_rows<const T> a, B b, std::size_t depth,
                                                            const T* scale, matrix_rows<T> c, std::size_t batches) {
  // A single row has registers left for more chains.
  constexpr std::size_t wide = Rows == 1 ? 4 : tile_batches<A>;
  std::size_t n = 0;
  const auto in_steps_of = [&](auto step) XSOFTMAX_STEP_LAMBDA {
    constexpr std::size_t N = decltype(step)::value;
    for (; batches - n >= N; n += N) {
      const std::size_t col = n * lanes<A, T>;
      tile_product<A, T, Rows, N>(a, b.from(0, col), depth, scale, c.from(0, col));
    }
  };
  in_steps_of(index_constant<wide>{});
  if constexpr (wide > 2) {
    in_steps_of(index_constant<2>{});
  }
  in_steps_of(index_constant<1>{});
}

/// f(index_constant<rows>{}) for 1 to tile_rows rows.
template <class A, class F>
XSOFTMAX_STEP void with_rows(std::size_t rows, F&& f) {
  switch (rows) {
  case 6:
    return f(index_constant<6>{});
  case 5:
    return f(index_constant<5>{});
  case 4:
    return f(index_constant<4>{});
  case 3:
    return f(index_constant<3>{});
  case 2:
    return f(index_constant<2>{});
  default:
    return f(index_constant<1>{});
  }
}

/// The same for `rows` rows, at most tile_rows.
template <class A, class T, class B>
__attribute__((noinline)) XSOFTMAX_FLATTEN void product(std::size_t rows, matrix_rows<const T> a, B b,
                                                        std::size_t depth, const T* scale, matrix_rows<T> c,
                                                        std::size_t batches) {
  with_rows<A>(rows, [&](auto r) XSOFTMAX_STEP_LAMBDA {
    row_product<A, T, decltype(r)::value>(a, b, depth, scale, c, batches);
  });
}

/// Scales of 1: what is there stays as it is.
template <class A, class T>
struct unit_scales {
  T entry[tile_rows];

  consteval unit_scales() : entry() {
    for (T& x : entry) {
      x = T{1};
    }
  }
};

template <class A, class T>
inline constexpr unit_scales<A, T> unchanged;

/// c_rj = sum_k a_rk b_kj in pieces of depth_block, each a chain of its own, added one after the other; 0 if there is
/// no k.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void deep_product(std::size_t rows, matrix_rows<const T> a,
                                                             matrix_rows<const T> b, std::size_t depth,
                                                             matrix_rows<T> c, std::size_t batches) {
  for (std::size_t k = 0; k == 0 || k < depth; k += depth_block) {
    const std::size_t piece = depth - k < depth_block ? depth - k : depth_block;
    product<A, T>(rows, a.from(0, k), b.from(k), piece, k == 0 ? nullptr : unchanged<A, T>.entry, c, batches);
  }
}

/// c = c scale + weight_0 row_0 + weight_1 row_1 + ... over the set bits of `seen`: the chain of a product without the
/// other rows, which may be NaN. Weights are `apart` elements apart.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void careful_product(const T* weight, std::size_t apart, std::uint64_t seen,
                                                                matrix_rows<const T> rows, T scale, T* c,
                                                                std::size_t batches) {
  using V = batch<A, T>;
  for (std::size_t n = 0; n < batches * lanes<A, T>; n += lanes<A, T>) {
    V sum(T{});
    for (std::uint64_t left = seen; left != 0; left &= left - 1) {
      const auto j = static_cast<std::size_t>(__builtin_ctzll(left));
      sum = native<A>::multiply_add(V(weight[j * apart]), rows.template load<A>(j, n), sum);
    }
    native<A>::store(c + n, native<A>::multiply_add(native<A>::template load<T>(c + n), V(scale), sum));
  }
}

/// x = 0, n a multiple of a line.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void clear(T* x, std::size_t n) {
  for (std::size_t i = 0; i < n; i += lanes<A, T>) {
    native<A>::store(x + i, batch<A, T>(T{}));
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

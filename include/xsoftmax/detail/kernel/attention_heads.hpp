// SPDX-License-Identifier: MIT
// Queries, keys and values on their way into the products of attention: read at any stride and of any format, laid out
// as the products want them.
#pragma once

#include <xsoftmax/detail/attention_task.hpp>
#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/tile_product.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Position i of head h of entry b.
template <class T, class Void>
XSOFTMAX_INLINE any_row<T, Void> position_of(const head_elements<Void>& x, std::size_t b, std::size_t h,
                                             std::size_t i) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const unsigned char, unsigned char>;
  const std::ptrdiff_t size = x.format == storage_format::native ? static_cast<std::ptrdiff_t>(sizeof(T)) : 2;
  const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(b) * x.batch_stride +
                                static_cast<std::ptrdiff_t>(h) * x.head_stride +
                                static_cast<std::ptrdiff_t>(i) * x.length_stride;
  return {static_cast<Byte*>(x.data) + offset * size, x.depth_stride, x.format};
}

/// Are the elements of a position T side by side?
template <class Void>
XSOFTMAX_INLINE bool has_plain_positions(const head_elements<Void>& x) {
  return x.format == storage_format::native && x.depth_stride == 1;
}

/// Keys [first, first + count) of a head, transposed: element c of key j is block[c * key_block + j]. What is missing
/// to a batch of keys is 0. `staging` has room for a batch of keys.
template <class A, class T>
__attribute__((noinline)) void pack_keys(const head_elements<const void>& k, std::size_t b, std::size_t h,
                                         std::size_t first, std::size_t count, std::size_t depth, T* staging,
                                         T* block) {
  using V = batch<A, T>;
  constexpr std::size_t width = lanes<A, T>;
  const bool plain = has_plain_positions(k);
  const std::size_t padded = attention_room::padded(depth);
  for (std::size_t j = 0; j < count; j += width) {
    const T* row[width];
    for (std::size_t l = 0; l < width; ++l) {
      if (plain && j + l < count) {
        row[l] = static_cast<const T*>(position_of<T>(k, b, h, first + j + l).data);
        continue;
      }
      T* const copy = staging + l * padded;
      if (j + l < count) {
        position_of<T>(k, b, h, first + j + l).template read<A>(0, depth, copy);
      } else {
        for (std::size_t c = 0; c < depth; ++c) {
          copy[c] = T{};
        }
      }
      row[l] = copy;
    }
    std::size_t c = 0;
    for (; depth - c >= width; c += width) {
      V square[width];
      unroll<width>([&](auto l) XSOFTMAX_LAMBDA {
        square[decltype(l)::value] = native<A>::template load<T>(row[decltype(l)::value] + c);
      });
      native<A>::transpose(square);
      unroll<width>([&](auto l) XSOFTMAX_LAMBDA {
        native<A>::store(block + (c + decltype(l)::value) * key_block + j, square[decltype(l)::value]);
      });
    }
    for (; c < depth; ++c) {
      for (std::size_t l = 0; l < width; ++l) {
        block[c * key_block + j + l] = row[l][c];
      }
    }
  }
}

/// Values [first, first + count) of a head, rows of a multiple of the batch: where they lie, if that is asked for and
/// they lie so, or copied to `block`.
template <class A, class T>
__attribute__((noinline)) matrix_rows<const T> value_rows(const head_elements<const void>& v, std::size_t b,
                                                          std::size_t h, std::size_t first, std::size_t count,
                                                          std::size_t depth, bool in_place, T* block) {
  if (in_place && has_plain_positions(v) && depth % lanes<A, T> == 0 && v.length_stride >= 0) {
    return {static_cast<const T*>(position_of<T>(v, b, h, first).data), static_cast<std::size_t>(v.length_stride)};
  }
  const std::size_t padded = attention_room::padded(depth);
  const bool plain = has_plain_positions(v);
  for (std::size_t j = 0; j < count; ++j) {
    T* const to = block + j * padded;
    const auto from = position_of<T>(v, b, h, first + j);
    std::size_t c = 0;
    if (plain) {
      for (; depth - c >= lanes<A, T>; c += lanes<A, T>) {
        native<A>::store(to + c, native<A>::template load<T>(static_cast<const T*>(from.data) + c));
      }
    }
    if (c != depth) {
      from.template read<A>(c, depth, to + c);
    }
    for (c = depth; c < padded; ++c) {
      to[c] = T{};
    }
  }
  return {block, padded};
}

/// Is there no NaN and no infinity in the first `batches` batches of the rows?
template <class A, class T>
__attribute__((noinline)) bool all_finite(matrix_rows<const T> rows, std::size_t count, std::size_t batches) {
  using V = batch<A, T>;
  V zero(T{});
  for (std::size_t j = 0; j < count; ++j) {
    for (std::size_t n = 0; n < batches; ++n) {
      const V v = native<A>::template load<T>(rows.data + j * rows.stride + n * lanes<A, T>);
      zero = native<A>::multiply_add(v, V(T{}), zero);
    }
  }
  return !native<A>::any_nan(zero);
}

/// sum_c x_c^2 of a vector whose largest magnitude is 1, in double, one chain: squares of floats are exact there.
template <class A, class T>
XSOFTMAX_INLINE double sum_of_squares(const T* x, std::size_t n) {
  using D = batch<A, double>;
  D sum(0.0);
  for (std::size_t c = 0; c < n; ++c) {
    const D value(static_cast<double>(x[c]));
    sum = native<A>::multiply_add(value, value, sum);
  }
  return sum.get(0);
}

/// x / |x| * factor; 0 of a zero vector. By the largest magnitude first, so that no square overflows or vanishes.
template <class A, class T>
__attribute__((noinline)) void normalise(T* x, std::size_t n, double factor) {
  T largest = 0;
  for (std::size_t c = 0; c < n; ++c) {
    const T magnitude = x[c] < 0 ? -x[c] : x[c];
    largest = magnitude > largest ? magnitude : largest;
  }
  if (largest == 0) {
    largest = 1; // zeros stay, as does NaN
  }
  for (std::size_t c = 0; c < n; ++c) {
    x[c] = x[c] / largest;
  }
  const double square = sum_of_squares<A>(x, n);
  const T scale = square == 0 ? T{} : static_cast<T>(factor / native<A>::square_root(batch<A, double>(square)).get(0));
  for (std::size_t c = 0; c < n; ++c) {
    x[c] = x[c] * scale;
  }
}

/// The same for each key of a block of pack_keys, factor 1.
template <class A, class T>
__attribute__((noinline)) void normalise_keys(T* block, std::size_t depth, std::size_t count) {
  using N = native<A>;
  using V = batch<A, T>;
  for (std::size_t j = 0; j < count; j += lanes<A, T>) {
    V largest(T{});
    for (std::size_t c = 0; c < depth; ++c) {
      largest = N::max_magnitude(N::template load<T>(block + c * key_block + j), largest);
    }
    largest = N::where_equal(largest, V(T{}), V(T{1}), largest);
    V square(T{});
    for (std::size_t c = 0; c < depth; ++c) {
      T* const at = block + c * key_block + j;
      const V x = N::divide(N::template load<T>(at), largest);
      N::store(at, x);
      square = N::multiply_add(x, x, square);
    }
    const V length = N::where_equal(square, V(T{}), V(T{1}), N::square_root(square));
    for (std::size_t c = 0; c < depth; ++c) {
      T* const at = block + c * key_block + j;
      N::store(at, N::divide(N::template load<T>(at), length));
    }
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

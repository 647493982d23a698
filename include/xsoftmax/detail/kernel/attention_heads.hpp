// SPDX-License-Identifier: MIT
// Queries, keys and values on their way into the products of attention: read at any stride and of any format, laid out
// as the products want them.
#pragma once

#include <xsoftmax/detail/attention_task.hpp>
#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/tile_product.hpp>
#include <xsoftmax/math/exp.hpp>

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
__attribute__((noinline)) XSOFTMAX_FLATTEN void pack_keys(const head_elements<const void>& k, std::size_t b,
                                                          std::size_t h, std::size_t first, std::size_t count,
                                                          std::size_t depth, T* staging, T* block) {
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
      unroll<width>([&](auto l) XSOFTMAX_STEP_LAMBDA {
        square[decltype(l)::value] = native<A>::template load<T>(row[decltype(l)::value] + c);
      });
      native<A>::transpose(square);
      unroll<width>([&](auto l) XSOFTMAX_STEP_LAMBDA {
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

/// Elements [0, depth) of a row, zeros up to the end of a line.
template <class A, class T, class Row>
XSOFTMAX_STEP void read_padded(const Row& row, std::size_t depth, T* to) {
  const std::size_t padded = attention_room::padded(depth);
  if (padded != depth) {
    clear<A>(to + padded - attention_room::line, attention_room::line);
  }
  row.template read<A>(0, depth, to);
}

/// The same of a position.
template <class A, class T>
XSOFTMAX_STEP void read_position(const head_elements<const void>& x, std::size_t b, std::size_t h, std::size_t i,
                                 std::size_t depth, T* to) {
  read_padded<A>(position_of<T>(x, b, h, i), depth, to);
}

/// Values [first, first + count) of a head, rows of a multiple of the batch: where they lie, if they lie so, side by
/// side or with `in_place` at any distance, or copied to `block`. (Rows far apart may take each other's place in the
/// cache.)
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN matrix_rows<const T>
value_rows(const head_elements<const void>& v, std::size_t b, std::size_t h, std::size_t first, std::size_t count,
           std::size_t depth, bool in_place, T* block) {
  const bool dense = v.length_stride == static_cast<std::ptrdiff_t>(depth);
  if ((in_place || dense) && has_plain_positions(v) && depth % lanes<A, T> == 0 && v.length_stride >= 0) {
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
__attribute__((noinline)) XSOFTMAX_FLATTEN bool all_finite(matrix_rows<const T> rows, std::size_t count,
                                                           std::size_t batches) {
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

/// f of v in double, rounded once.
template <class A, class T, class F>
XSOFTMAX_STEP batch<A, T> through_double(batch<A, T> v, F&& f) {
  const auto y = map(f, in_doubles<A>(pack<batch<A, T>, 1>{{v}}));
  if constexpr (sizeof(T) == sizeof(double)) {
    return y.v[0];
  } else {
    return native<A>::narrow(y.v[0], y.v[1]);
  }
}

/// x times a factor that may lie outside the range of T, rounded once; n a multiple of a line.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void scale_line(T* x, std::size_t n, double factor) {
  using D = batch<A, double>;
  for (std::size_t c = 0; c < n; c += lanes<A, T>) {
    const auto v = native<A>::template load<T>(x + c);
    native<A>::store(x + c, through_double<A, T>(v, [&](D d) XSOFTMAX_STEP_LAMBDA { return d * D(factor); }));
  }
}

/// A power of two, the product of which with a magnitude in the range of T is in [2^-22, 4) (double: [2^-51, 4)), and
/// in [1, 2) if neither is near the end of the range.
template <class A, class T>
XSOFTMAX_STEP batch<A, T> inverse_octave(batch<A, T> magnitude) {
  using N = native<A>;
  using Int = bits_t<T>;
  using I = batch<A, Int>;
  using format = math::exp_format<T>;
  constexpr Int one = Int{1} << format::fraction_bits;
  const I octave = N::bits(magnitude) & I(~(one - 1));
  return N::from_bits(N::max(I(2 * format::exponent_bias * one) - octave, I(one)));
}

/// x / |x| * factor; 0 of a zero vector; n a multiple of a line. By a power of two first, so that no square overflows
/// or vanishes. Squares, exact ones for float, are summed in 16 chains that are folded by halves.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void normalise(T* x, std::size_t n, double factor) {
  using N = native<A>;
  using V = batch<A, T>;
  using D = batch<A, double>;
  V largest(T{});
  for (std::size_t c = 0; c < n; c += lanes<A, T>) {
    largest = N::max_magnitude(N::template load<T>(x + c), largest);
  }
  const V unit = inverse_octave<A, T>(V(N::largest_lane(largest)));
  constexpr std::size_t chains = attention_room::line / lanes<A, double>;
  auto square = make_pack<chains>([](auto) XSOFTMAX_STEP_LAMBDA { return D(0.0); });
  for (std::size_t c = 0; c < n; c += attention_room::line) {
    unroll<attention_room::line / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value * lanes<A, T>;
      const auto wide = in_doubles<A>(pack<V, 1>{{N::template load<T>(x + c + at) * unit}});
      unroll<decltype(wide)::size>([&](auto half) XSOFTMAX_STEP_LAMBDA {
        const D d = wide.v[decltype(half)::value];
        D& chain = square.v[at / lanes<A, double> + decltype(half)::value];
        chain = N::multiply_add(d, d, chain);
      });
    });
  }
  const double sum = N::fold_sum(fold_batches(square, [](D a, D b) XSOFTMAX_STEP_LAMBDA { return a + b; }));
  const T scale = sum == 0 ? T{} : static_cast<T>(factor / N::square_root(D(sum)).get(0));
  for (std::size_t c = 0; c < n; c += lanes<A, T>) {
    N::store(x + c, N::template load<T>(x + c) * unit * V(scale));
  }
}

/// The same for each key of a block of pack_keys, factor 1.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void normalise_keys(T* block, std::size_t depth, std::size_t count) {
  using N = native<A>;
  using V = batch<A, T>;
  for (std::size_t j = 0; j < count; j += lanes<A, T>) {
    V largest(T{});
    for (std::size_t c = 0; c < depth; ++c) {
      largest = N::max_magnitude(N::template load<T>(block + c * key_block + j), largest);
    }
    const V unit = inverse_octave<A, T>(largest);
    V square(T{});
    for (std::size_t c = 0; c < depth; ++c) {
      const V x = N::template load<T>(block + c * key_block + j) * unit;
      square = N::multiply_add(x, x, square);
    }
    const V length = N::where_equal(square, V(T{}), V(T{1}), N::square_root(square));
    const V inverse = N::divide(V(T{1}), length);
    for (std::size_t c = 0; c < depth; ++c) {
      T* const at = block + c * key_block + j;
      N::store(at, N::template load<T>(at) * unit * inverse);
    }
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

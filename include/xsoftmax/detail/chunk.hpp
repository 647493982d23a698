// SPDX-License-Identifier: MIT
// The loop of every kernel: a row in chunks of a few batches, and one padded chunk at its end. A kernel is a step on a
// chunk; it never sees a tail, because the missing lanes hold a neutral element and are not stored.
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// N batches that are worked on together.
template <class B, std::size_t N>
struct pack {
  static constexpr std::size_t size = N;
  B v[N];
};

/// f(index_constant<0>{}), ..., f(index_constant<N - 1>{}).
template <std::size_t N, class F>
XSOFTMAX_STEP auto make_pack(F&& f) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) XSOFTMAX_STEP_LAMBDA {
    return pack<decltype(f(index_constant<0>{})), N>{{f(index_constant<I>{})...}};
  }
  (std::make_index_sequence<N>{});
}

/// f on each batch of x and those beside it in y...
template <class F, class B, std::size_t N, class... C>
XSOFTMAX_STEP auto map(F&& f, const pack<B, N>& x, const pack<C, N>&... y) {
  return make_pack<N>([&](auto b)
                          XSOFTMAX_STEP_LAMBDA { return f(x.v[decltype(b)::value], y.v[decltype(b)::value]...); });
}

/// Batches folded into one, the upper half onto the lower.
template <class B, std::size_t N, class F>
XSOFTMAX_STEP B fold_batches(const pack<B, N>& x, F&& f) {
  if constexpr (N == 1) {
    return x.v[0];
  } else {
    return fold_batches(make_pack<N / 2>([&](auto n) XSOFTMAX_STEP_LAMBDA {
                          return f(x.v[decltype(n)::value], x.v[decltype(n)::value + N / 2]);
                        }),
                        f);
  }
}

/// Elements of a row, side by side. Other kinds of rows have the same members, but `at` only if they are addressable.
template <class T>
struct contiguous_row {
  static constexpr bool addressable = true;
  T* data;

  static constexpr std::size_t element_bytes() { return sizeof(T); }

  XSOFTMAX_INLINE T* at(std::size_t i) const { return data + i; }

  XSOFTMAX_INLINE T get(std::size_t i) const { return data[i]; }

  XSOFTMAX_INLINE void set(std::size_t i, T x) const { data[i] = x; }

  /// The row that begins `offset` further.
  XSOFTMAX_INLINE contiguous_row from(std::ptrdiff_t offset) const { return {data + offset}; }

  template <class A, class Value>
  XSOFTMAX_STEP batch<A, Value> load(std::size_t i) const {
    return native<A>::template load<Value>(at(i));
  }

  template <class A>
  XSOFTMAX_STEP void store(std::size_t i, batch<A, T> v) const {
    native<A>::store(at(i), v);
  }

  /// Past the caches; the address is aligned to the batch.
  template <class A>
  XSOFTMAX_STEP void stream(std::size_t i, batch<A, T> v) const {
    native<A>::stream(at(i), v);
  }
};

/// A chunk that is all there, of a size known at compile time.
template <std::size_t Size>
struct full_chunk {
  static constexpr std::size_t padded = Size;
  static constexpr bool full = true;
  static constexpr std::size_t size = Size;
};

/// The last chunk of a row: `size` elements, padded to Size.
template <std::size_t Size>
struct partial_chunk {
  static constexpr std::size_t padded = Size;
  static constexpr bool full = false;
  std::size_t size;
};

/// How many of the chunk's elements batch b holds.
template <class A, class T, class Extent>
XSOFTMAX_STEP std::size_t lanes_of_batch(Extent extent, std::size_t b) {
  const std::size_t before = b * lanes<A, T>;
  const std::size_t rest = extent.size > before ? extent.size - before : 0;
  return rest < lanes<A, T> ? rest : lanes<A, T>;
}

/// The chunk that begins at element i; lanes that are not there hold `fill`.
template <class A, class T, class Row, class Extent>
XSOFTMAX_STEP auto load_chunk(Row row, std::size_t i, Extent extent, T fill) {
  constexpr std::size_t width = lanes<A, T>;
  pack<batch<A, T>, Extent::padded / width> x;
  if constexpr (Extent::full && requires { row.template load_pack<A, Extent::padded / width>(i); }) {
    x = row.template load_pack<A, Extent::padded / width>(i);
  } else if constexpr (Extent::full) {
    unroll<Extent::padded / width>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      x.v[decltype(b)::value] = row.template load<A, T>(i + decltype(b)::value * width);
    });
  } else if constexpr (native<A>::masks && Row::addressable) {
    unroll<Extent::padded / width>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t count = lanes_of_batch<A, T>(extent, decltype(b)::value);
      x.v[decltype(b)::value] = native<A>::load_partial(row.at(i + decltype(b)::value * width), count, fill);
    });
  } else {
    unroll<Extent::padded / width>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t first = i + decltype(b)::value * width;
      const std::size_t count = lanes_of_batch<A, T>(extent, decltype(b)::value);
      if (count == width) {
        x.v[decltype(b)::value] = row.template load<A, T>(first);
      } else {
        alignas(64) T lane[width];
        native<A>::store(lane, batch<A, T>(fill));
        for (std::size_t l = 0; l < count; ++l) {
          lane[l] = row.get(first + l);
        }
        x.v[decltype(b)::value] = native<A>::template load<T>(lane);
      }
    });
  }
  return x;
}

/// Writes the chunk that begins at element i; lanes that are not there are not written. With Stream, past the caches:
/// the chunk's address is then aligned to the batch.
template <class A, bool Stream = false, class T, class Row, class Extent, class Pack>
XSOFTMAX_STEP void store_chunk(Row row, std::size_t i, Extent extent, const Pack& y) {
  constexpr std::size_t width = lanes<A, T>;
  if constexpr (Extent::full) {
    unroll<Pack::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t offset = decltype(b)::value * width;
      if constexpr (Stream) {
        row.template stream<A>(i + offset, y.v[decltype(b)::value]);
      } else {
        row.template store<A>(i + offset, y.v[decltype(b)::value]);
      }
    });
  } else if constexpr (native<A>::masks && Row::addressable) {
    unroll<Pack::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t count = lanes_of_batch<A, T>(extent, decltype(b)::value);
      if (count != 0) { // which a masked store takes longer to find out
        native<A>::store_partial(row.at(i + decltype(b)::value * width), count, y.v[decltype(b)::value]);
      }
    });
  } else {
    unroll<Pack::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t first = i + decltype(b)::value * width;
      const std::size_t count = lanes_of_batch<A, T>(extent, decltype(b)::value);
      if (count == width) {
        row.template store<A>(first, y.v[decltype(b)::value]);
      } else {
        alignas(64) T lane[width];
        native<A>::store(lane, y.v[decltype(b)::value]);
        for (std::size_t l = 0; l < count; ++l) {
          row.set(first + l, lane[l]);
        }
      }
    });
  }
}

/// step(i, extent) over [first, last): full chunks of Wide elements while they fit, then full chunks of Narrow
/// elements, then one partial chunk padded to Narrow.
template <std::size_t Wide, std::size_t Narrow, class Step>
XSOFTMAX_STEP void for_each_chunk(std::size_t first, std::size_t last, Step&& step) {
  static_assert(Wide % Narrow == 0);
  std::size_t i = first;
  for (; last - i >= Wide; i += Wide) {
    step(i, full_chunk<Wide>{});
  }
  if constexpr (Wide != Narrow) {
    for (; last - i >= Narrow; i += Narrow) {
      step(i, full_chunk<Narrow>{});
    }
  }
  if (i != last) {
    step(i, partial_chunk<Narrow>{last - i});
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

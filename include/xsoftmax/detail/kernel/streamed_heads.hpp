// SPDX-License-Identifier: MIT
// Keys and values for a few queries, as in decoding: each is read once, where it lies, at the speed of memory.
#pragma once

#include <xsoftmax/detail/kernel/attention_heads.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Positions of a head, `bytes` of each.
struct position_bytes {
  const char* first;
  std::ptrdiff_t stride;
  std::ptrdiff_t bytes;
};

/// Elements side by side of each position?
template <class A, class T>
XSOFTMAX_STEP bool can_stream(const head_elements<const void>& x, std::size_t depth) {
  return x.depth_stride == 1 && depth % lanes<A, T> == 0 && depth != 0;
}

template <class T>
XSOFTMAX_INLINE position_bytes bytes_of(const head_elements<const void>& x, std::size_t b, std::size_t h,
                                        std::size_t first, std::size_t depth) {
  const std::ptrdiff_t size = x.format == storage_format::native ? static_cast<std::ptrdiff_t>(sizeof(T)) : 2;
  return {static_cast<const char*>(position_of<T>(x, b, h, first).data), x.length_stride * size,
          static_cast<std::ptrdiff_t>(depth) * size};
}

/// What is fetched while a block of positions is read: eight kilobytes further in the order of reading, which is the
/// rest of the block and then the block that comes next. Processors fetch ahead by themselves, but not across the turns
/// between keys and values.
struct fetch_ahead {
  position_bytes now;
  position_bytes next;
  std::ptrdiff_t distance; ///< in positions

  XSOFTMAX_INLINE fetch_ahead(const position_bytes& block, const position_bytes& after)
      : now(block), next(after), distance(far / block.bytes < keys ? far / block.bytes : keys) {}

  /// The position that is fetched while position `row` of the block is read.
  XSOFTMAX_INLINE const char* position(std::size_t row) const {
    const std::ptrdiff_t ahead = static_cast<std::ptrdiff_t>(row) + distance;
    return ahead < keys ? now.first + ahead * now.stride : next.first + (ahead - keys) * next.stride;
  }

  /// Fetches what comes after a block is read: the memory would be idle while scores become weights, or while the next
  /// block is set up. No more than some lines, for they take the place of loads.
  XSOFTMAX_INLINE void beyond() const {
    constexpr std::ptrdiff_t line = 64;
    const char* const first = position(key_block);
    for (std::ptrdiff_t at = 0; is_dense() && at < 32 * line; at += line) {
      __builtin_prefetch(first + at);
    }
  }

  /// Do positions lie one after the other?
  XSOFTMAX_INLINE bool is_dense() const { return now.stride == now.bytes && next.stride == next.bytes; }

  /// Nothing but what is read.
  XSOFTMAX_INLINE void stop() { distance = 0; }

private:
  static constexpr auto keys = static_cast<std::ptrdiff_t>(key_block);
  static constexpr std::ptrdiff_t far = 8192; ///< bytes: nearer, reading waits; further, the first-level cache is short
};

/// Positions of a head of a format known at compile time, as rows of tile_product.
template <class T, storage_format Format>
struct head_stream {
  using element = std::conditional_t<Format == storage_format::native, T, std::uint16_t>;

  const element* data;
  std::ptrdiff_t stride;
  fetch_ahead fetch;

  XSOFTMAX_INLINE head_stream from(std::size_t row, std::size_t col) const {
    head_stream s = *this;
    s.data += static_cast<std::ptrdiff_t>(row) * stride + static_cast<std::ptrdiff_t>(col);
    s.fetch.now.first += col * sizeof(element);
    s.fetch.next.first += col * sizeof(element);
    return s;
  }

  template <class A>
  XSOFTMAX_STEP batch<A, T> load(std::size_t row, std::size_t col) const {
    const element* const at = data + static_cast<std::ptrdiff_t>(row) * stride + static_cast<std::ptrdiff_t>(col);
    __builtin_prefetch(fetch.position(row) + col * sizeof(element));
    return load<A>(at);
  }

  template <class A>
  static XSOFTMAX_STEP batch<A, T> load(const element* at) {
    if constexpr (Format == storage_format::native) {
      return native<A>::template load<T>(at);
    } else if constexpr (Format == storage_format::float16) {
      return native<A>::load_float16(at);
    } else {
      return native<A>::load_bfloat16(at);
    }
  }
};

template <storage_format Format>
struct format_constant {
  static constexpr storage_format value = Format;
};

/// f(format_constant<format>{}); double has but one.
template <class T, class F>
XSOFTMAX_STEP void with_format(storage_format format, F&& f) {
  if constexpr (sizeof(T) == sizeof(float)) {
    if (format == storage_format::float16) {
      return f(format_constant<storage_format::float16>{});
    }
    if (format == storage_format::bfloat16) {
      return f(format_constant<storage_format::bfloat16>{});
    }
  }
  f(format_constant<storage_format::native>{});
}

/// Keeps the compiler from computing addresses of a loop before it, of which there are more than registers.
template <class P>
XSOFTMAX_INLINE void step_by_step(P*& at) {
  __asm__("" : "+r"(at));
}

/// Scores of Rows queries with a block of keys of a stream, which are transposed in registers: the chains of
/// tile_product over keys that pack_keys has laid out, in pieces of depth_block.
template <class A, class T, std::size_t Rows, class Stream>
__attribute__((noinline)) XSOFTMAX_FLATTEN void streamed_scores(matrix_rows<const T> q, Stream keys, std::size_t depth,
                                                                matrix_rows<T> score) {
  using V = batch<A, T>;
  using element = typename Stream::element;
  constexpr std::size_t width = lanes<A, T>;
  // A batch of pieces is read, one of each key; as many are fetched, in the order of memory where that is one.
  const std::size_t pieces = depth / width; // of a key
  const bool dense = keys.fetch.is_dense() && width % pieces == 0;
  const std::ptrdiff_t apart = dense ? static_cast<std::ptrdiff_t>(width * sizeof(element)) : keys.fetch.next.stride;
  const std::size_t rows_per_batch = dense ? width / pieces : 0;
  for (std::size_t j = 0; j < key_block; j += width) {
    V total[Rows];
    unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA { total[decltype(r)::value] = V(T{}); });
    for (std::size_t piece = 0; piece < depth; piece += depth_block) {
      const std::size_t end = depth - piece < depth_block ? depth : piece + depth_block;
      V sum[Rows];
      unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA { sum[decltype(r)::value] = V(T{}); });
      std::size_t fetched = j + piece / width * rows_per_batch;
      for (std::size_t c = piece; c < end; c += width) {
        const element* const first = keys.data + static_cast<std::ptrdiff_t>(j) * keys.stride + c;
        const char* ahead = keys.fetch.position(fetched) + (dense ? 0 : c * sizeof(element));
        fetched += rows_per_batch;
        V square[width];
        const element* at = first;
        unroll<width>([&](auto l) XSOFTMAX_STEP_LAMBDA {
          square[decltype(l)::value] = Stream::template load<A>(at);
          at += keys.stride;
          step_by_step(at);
        });
        native<A>::transpose(square);
        unroll<width>([&](auto l) XSOFTMAX_STEP_LAMBDA {
          constexpr std::size_t lane = decltype(l)::value;
          // One at a time: a burst would keep loads waiting.
          __builtin_prefetch(ahead);
          ahead += apart;
          step_by_step(ahead);
          unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA {
            V& s = sum[decltype(r)::value];
            s = native<A>::multiply_add(V(q.data[decltype(r)::value * q.stride + c + lane]), square[lane], s);
          });
        });
      }
      unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA {
        V& t = total[decltype(r)::value];
        t = piece == 0 ? sum[decltype(r)::value] : t + sum[decltype(r)::value];
      });
    }
    unroll<Rows>([&](auto r) XSOFTMAX_STEP_LAMBDA {
      native<A>::store(score.data + decltype(r)::value * score.stride + j, total[decltype(r)::value]);
    });
  }
}

/// Sums that fit into the registers beside a few batches of values.
template <class A>
inline constexpr std::size_t stream_sums = native<A>::registers == 32 ? 24 : 8;

/// The product of `rows` rows with values of a stream: whole rows of values at once, in the order of memory, again for
/// each few of the rows where not all sums fit, which find them in the cache.
template <class A, class T, class Stream>
__attribute__((noinline)) XSOFTMAX_FLATTEN void streamed_product(std::size_t rows, matrix_rows<const T> a,
                                                                 Stream values, std::size_t depth, const T* scale,
                                                                 matrix_rows<T> c, std::size_t batches) {
  const std::size_t fitting = stream_sums<A> / (batches <= 4 ? 4 : 8);
  for (std::size_t r = 0; r < rows; r += fitting) {
    with_rows<A>(rows - r < fitting ? rows - r : fitting, [&](auto height) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t Rows = decltype(height)::value;
      std::size_t n = 0;
      const auto in_steps_of = [&](auto step) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t N = decltype(step)::value;
        if constexpr (Rows * N <= stream_sums<A>) {
          for (; batches - n >= N; n += N) {
            const std::size_t col = n * lanes<A, T>;
            tile_product<A, T, Rows, N>(a.from(r), values.from(0, col), depth, scale + r, c.from(r, col));
          }
        }
      };
      in_steps_of(index_constant<8>{});
      in_steps_of(index_constant<4>{});
      in_steps_of(index_constant<1>{});
    });
    values.fetch.stop();
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

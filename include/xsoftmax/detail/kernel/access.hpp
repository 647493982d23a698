// SPDX-License-Identifier: MIT
// How the kernels over rows reach elements that lie anywhere, in any format: block by block through a buffer of T,
// which stays in the first-level cache. A row of T side by side is its own buffer.
//
// A row type offers
//   x.block<A>(first, last, buffer)           the elements [first, last) as a contiguous_row, copied if they must be
//   x.element<A>(i)                           element i
//   y.target(first, buffer)                   where to write the elements from `first` on
//   y.commit<A>(first, last, buffer, stream)  puts them in their places, on request past the caches
//   y.direct()                                is the target the place itself?
//   plain                                     is there only one block?
// and, where terms can wait between passes, unrounded,
//   y.terms()                                 where
//   y.holds_terms(n)                          can a row of n?
//   terms_apart                               not in y, which may then be x?
#pragma once

#include <xsoftmax/detail/storage.hpp>
#include <xsoftmax/detail/sum.hpp>
#include <xsoftmax/half.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A batch of halves side by side; `stream`: past the caches, p is aligned to the batch.
template <class A>
XSOFTMAX_STEP batch<A, float> load_half(const std::uint16_t* p, storage_format format) {
  return format == storage_format::float16 ? native<A>::load_float16(p) : native<A>::load_bfloat16(p);
}

template <class A>
XSOFTMAX_STEP void store_half(std::uint16_t* p, storage_format format, batch<A, float> v, bool stream) {
  if (format == storage_format::float16) {
    stream ? native<A>::stream_float16(p, v) : native<A>::store_float16(p, v);
  } else {
    stream ? native<A>::stream_bfloat16(p, v) : native<A>::store_bfloat16(p, v);
  }
}

/// Room for a block.
template <class T>
struct block_buffer {
  alignas(64) T element[block_size<T>];
};

/// Room for the terms of a row of halves between its passes, which stays in the caches.
struct terms_room {
  static constexpr std::size_t size = 4 * block_size<float>;
  alignas(64) float element[size];
};

/// What a row that is its own buffer has in its place.
struct no_buffer {};

/// Elements of T side by side.
template <class T>
struct plain_row : contiguous_row<T> {
  static constexpr bool plain = true;
  static constexpr bool terms_apart = false;
  using buffer = no_buffer;

  template <class A>
  XSOFTMAX_STEP contiguous_row<T> block(std::size_t first, std::size_t, no_buffer&) const {
    return {this->data + first};
  }

  template <class A>
  XSOFTMAX_STEP T element(std::size_t i) const {
    return this->data[i];
  }

  XSOFTMAX_INLINE contiguous_row<T> target(std::size_t first, no_buffer&) const { return {this->data + first}; }

  template <class A>
  XSOFTMAX_STEP void commit(std::size_t, std::size_t, no_buffer&, bool = false) const {}

  static constexpr bool direct() { return true; }

  XSOFTMAX_INLINE plain_row terms() const { return *this; }

  static constexpr bool holds_terms(std::size_t) { return true; }
};

/// Elements at any stride and of any format. Void: const void or void.
template <class T, class Void>
struct any_row {
  static constexpr bool plain = false;
  static constexpr bool terms_apart = false;
  using buffer = block_buffer<T>;

  Void* data;
  std::ptrdiff_t stride;
  storage_format format;

  /// [first, last) of at most a block
  template <class A>
  XSOFTMAX_STEP contiguous_row<const T> block(std::size_t first, std::size_t last, buffer& room) const {
    if (direct()) {
      return {static_cast<const T*>(data) + first};
    }
    read<A>(first, last, room.element);
    return {room.element};
  }

  template <class A>
  XSOFTMAX_STEP T element(std::size_t i) const {
    buffer room;
    return *block<A>(i, i + 1, room).data;
  }

  XSOFTMAX_INLINE contiguous_row<T> target(std::size_t first, buffer& room) const {
    return {direct() ? static_cast<T*>(data) + first : room.element};
  }

  template <class A>
  XSOFTMAX_STEP void commit(std::size_t first, std::size_t last, const buffer& room, bool stream = false) const {
    if (!direct()) {
      write<A>(first, last, room.element, stream);
    }
  }

  XSOFTMAX_INLINE bool direct() const { return format == storage_format::native && stride == 1; }

  /// [first, last) to where T lie side by side
  template <class A>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void read(std::size_t first, std::size_t last, T* to) const {
    const std::size_t n = last - first;
    const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(first) * stride;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (format != storage_format::native) {
        const auto* const from = static_cast<const std::uint16_t*>(data) + offset;
        const std::size_t whole = stride == 1 ? n - n % lanes<A, float> : 0;
        for (std::size_t i = 0; i < whole; i += lanes<A, float>) {
          native<A>::store(to + i, load_half<A>(from + i, format));
        }
        for (std::size_t i = whole; i < n; ++i) {
          to[i] = half_value(from[static_cast<std::ptrdiff_t>(i) * stride], format);
        }
        return;
      }
    }
    const T* const from = static_cast<const T*>(data) + offset;
    const std::size_t whole = stride == 1 ? n - n % lanes<A, T> : 0;
    for (std::size_t i = 0; i < whole; i += lanes<A, T>) {
      native<A>::store(to + i, native<A>::template load<T>(from + i));
    }
    for (std::size_t i = whole; i < n; ++i) {
      to[i] = from[static_cast<std::ptrdiff_t>(i) * stride];
    }
  }

  /// [first, last) from there
  template <class A>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write(std::size_t first, std::size_t last, const T* x,
                                                        bool stream = false) const {
    const std::size_t n = last - first;
    const std::ptrdiff_t offset = static_cast<std::ptrdiff_t>(first) * stride;
    if constexpr (sizeof(T) == sizeof(float)) {
      if (format != storage_format::native) {
        auto* const to = static_cast<std::uint16_t*>(data) + offset;
        const bool aligned = reinterpret_cast<std::uintptr_t>(to) % (2 * lanes<A, float>) == 0;
        const std::size_t whole = stride == 1 ? n - n % lanes<A, float> : 0;
        for (std::size_t i = 0; i < whole; i += lanes<A, float>) {
          store_half<A>(to + i, format, native<A>::load(x + i), stream && aligned);
        }
        for (std::size_t i = whole; i < n; ++i) {
          to[static_cast<std::ptrdiff_t>(i) * stride] = half_bits(x[i], format);
        }
        return;
      }
    }
    T* const to = static_cast<T*>(data) + offset;
    const std::size_t whole = stride == 1 ? n - n % lanes<A, T> : 0;
    for (std::size_t i = 0; i < whole; i += lanes<A, T>) {
      native<A>::store(to + i, native<A>::template load<T>(x + i));
    }
    for (std::size_t i = whole; i < n; ++i) {
      to[static_cast<std::ptrdiff_t>(i) * stride] = x[i];
    }
  }
};

/// A row of T side by side as any row.
template <class T>
XSOFTMAX_INLINE any_row<T, void> as_any_row(plain_row<T> row) {
  return {row.data, 1, storage_format::native};
}

template <class T>
XSOFTMAX_INLINE any_row<T, const void> as_any_row(plain_row<const T> row) {
  return {row.data, 1, storage_format::native};
}

template <class T, class Void>
XSOFTMAX_INLINE any_row<T, Void> as_any_row(any_row<T, Void> row) {
  return row;
}

/// Does the architecture handle registers full of halves?
template <class A>
inline constexpr bool has_words = requires {
  typename native<A>::words;
};

/// Elements side by side of a format known at run time, converted as they are read and written. Void: const void or
/// void.
template <class Void>
struct formatted_row {
  static constexpr bool addressable = false;
  static constexpr bool plain = true;
  static constexpr bool terms_apart = true;
  using buffer = no_buffer;

  Void* data;
  storage_format format;
  terms_room* room = nullptr; ///< for the terms of a row of halves

  XSOFTMAX_INLINE auto* floats() const {
    return static_cast<std::conditional_t<std::is_const_v<Void>, const float, float>*>(data);
  }

  XSOFTMAX_INLINE auto* halves() const {
    return static_cast<std::conditional_t<std::is_const_v<Void>, const std::uint16_t, std::uint16_t>*>(data);
  }

  XSOFTMAX_INLINE bool is_native() const { return format == storage_format::native; }

  XSOFTMAX_INLINE std::size_t element_bytes() const { return is_native() ? sizeof(float) : sizeof(std::uint16_t); }

  XSOFTMAX_INLINE float get(std::size_t i) const { return is_native() ? floats()[i] : half_value(halves()[i], format); }

  XSOFTMAX_INLINE void set(std::size_t i, float x) const {
    if (is_native()) {
      floats()[i] = x;
    } else {
      halves()[i] = half_bits(x, format);
    }
  }

  XSOFTMAX_INLINE formatted_row from(std::ptrdiff_t offset) const {
    return is_native() ? formatted_row{floats() + offset, format} : formatted_row{halves() + offset, format};
  }

  template <class A, class>
  XSOFTMAX_STEP batch<A, float> load(std::size_t i) const {
    return is_native() ? native<A>::template load<float>(floats() + i) : load_half<A>(halves() + i, format);
  }

  /// Batches side by side: the format is looked at once.
  template <class A, std::size_t N>
  XSOFTMAX_STEP pack<batch<A, float>, N> load_pack(std::size_t i) const {
    const auto each = [&](auto&& load) XSOFTMAX_STEP_LAMBDA {
      return make_pack<N>([&](auto b) XSOFTMAX_STEP_LAMBDA { return load(i + decltype(b)::value * lanes<A, float>); });
    };
    if (is_native()) {
      return each([&](std::size_t at) XSOFTMAX_STEP_LAMBDA { return native<A>::template load<float>(floats() + at); });
    }
    if (format == storage_format::float16) {
      return each([&](std::size_t at) XSOFTMAX_STEP_LAMBDA { return native<A>::load_float16(halves() + at); });
    }
    if constexpr (N % 2 == 0 && has_words<A>) {
      pack<batch<A, float>, N> x;
      unroll<N / 2>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t at = 2 * decltype(b)::value;
        native<A>::widen_bfloat16(native<A>::load_words(halves() + i + at * lanes<A, float>), x.v[at], x.v[at + 1]);
      });
      return x;
    } else {
      return each([&](std::size_t at) XSOFTMAX_STEP_LAMBDA { return native<A>::load_bfloat16(halves() + at); });
    }
  }

  template <class A>
  XSOFTMAX_STEP void store(std::size_t i, batch<A, float> v) const {
    if (is_native()) {
      native<A>::store(floats() + i, v);
    } else {
      store_half<A>(halves() + i, format, v, false);
    }
  }

  template <class A>
  XSOFTMAX_STEP void stream(std::size_t i, batch<A, float> v) const {
    if (is_native()) {
      native<A>::stream(floats() + i, v);
    } else {
      store_half<A>(halves() + i, format, v, true);
    }
  }

  template <class A>
  XSOFTMAX_STEP formatted_row block(std::size_t first, std::size_t, no_buffer&) const {
    return from(static_cast<std::ptrdiff_t>(first));
  }

  template <class A>
  XSOFTMAX_STEP float element(std::size_t i) const {
    return get(i);
  }

  XSOFTMAX_INLINE formatted_row target(std::size_t first, no_buffer&) const {
    return from(static_cast<std::ptrdiff_t>(first));
  }

  template <class A>
  XSOFTMAX_STEP void commit(std::size_t, std::size_t, no_buffer&, bool = false) const {}

  static constexpr bool direct() { return true; }

  XSOFTMAX_INLINE plain_row<float> terms() const { return {{is_native() ? floats() : room->element}}; }

  XSOFTMAX_INLINE bool holds_terms(std::size_t n) const { return is_native() || n <= terms_room::size; }
};

template <class Void>
XSOFTMAX_INLINE any_row<float, Void> as_any_row(formatted_row<Void> row) {
  return {row.data, 1, row.format};
}

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

/// Bytes of a matrix that needs no prefetching: it lies in the second-level cache.
inline constexpr std::size_t cached_bytes = std::size_t{384} << 10;

/// Asks memory for the chunk so many bytes after that of element i; it may lie beyond the row, and all that there is.
template <std::size_t Size, class T>
XSOFTMAX_INLINE void fetch_chunk(contiguous_row<T> row, std::size_t i, std::size_t ahead) {
  const auto address = reinterpret_cast<std::uintptr_t>(row.at(i)) + ahead;
  for (std::size_t b = 0; b < Size * sizeof(T); b += 64) {
    __builtin_prefetch(reinterpret_cast<const void*>(address + b), 0, 3);
  }
}

/// body(from, to) over [first, last): once where the row is its own buffer, otherwise block by block.
template <class T, class Row, class Body>
XSOFTMAX_STEP void for_each_piece(Row, std::size_t first, std::size_t last, Body&& body) {
  if constexpr (Row::plain) {
    body(first, last);
  } else {
    for (; first < last; first += block_size<T>) {
      body(first, last - first > block_size<T> ? first + block_size<T> : last);
    }
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

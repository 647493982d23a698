// SPDX-License-Identifier: MIT
// Which keys a query sees, and what is added to its scores: windows, lengths, masks and biases.
#pragma once

#include <xsoftmax/detail/attention_task.hpp>
#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/row.hpp>
#include <xsoftmax/math/tanh.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The kinds of number_kind (attention/view.hpp), which a kernel does not include.
enum class array_kind : unsigned char { none, boolean, float32, float64, float16, bfloat16 };

/// A bit for each key of a block.
using key_bits = std::uint64_t;
inline constexpr key_bits all_keys = ~key_bits{0};
static_assert(key_block == 64);

/// The bits [first, last), both at most 64.
template <class A>
XSOFTMAX_STEP key_bits bits_between(std::size_t first, std::size_t last) {
  const key_bits below = last == 64 ? all_keys : (key_bits{1} << last) - 1;
  return first >= last ? 0 : below & (all_keys << first);
}

/// How many bits are set, by adding neighbours; the compiler's own may be a call.
template <class A>
XSOFTMAX_STEP std::size_t count_of(key_bits bits) {
  bits -= (bits >> 1) & 0x5555555555555555;
  bits = (bits & 0x3333333333333333) + ((bits >> 2) & 0x3333333333333333);
  bits = (bits + (bits >> 4)) & 0x0F0F0F0F0F0F0F0F;
  return static_cast<std::size_t>((bits * 0x0101010101010101) >> 56);
}

/// Keys [first, last).
struct key_range {
  std::size_t first;
  std::size_t last;
};

/// How many keys of entry b there are.
template <class A>
XSOFTMAX_STEP std::size_t keys_of_entry(const count_array& lengths, std::size_t b, std::size_t kv_len) {
  const auto limited = [&]<class Integer>(Integer) XSOFTMAX_STEP_LAMBDA {
    const Integer n = static_cast<const Integer*>(lengths.data)[b];
    return n < Integer{} ? std::size_t{0} : static_cast<std::size_t>(n) < kv_len ? static_cast<std::size_t>(n) : kv_len;
  };
  switch (lengths.bytes) {
  case 0:
    return kv_len;
  case 1:
    return lengths.is_signed ? limited(std::int8_t{}) : limited(std::uint8_t{});
  case 2:
    return lengths.is_signed ? limited(std::int16_t{}) : limited(std::uint16_t{});
  case 4:
    return lengths.is_signed ? limited(std::int32_t{}) : limited(std::uint32_t{});
  default:
    return lengths.is_signed ? limited(std::int64_t{}) : limited(std::uint64_t{});
  }
}

/// The position of query 0 among the keys of entry b, of which there are `keys`.
template <class A, class T>
XSOFTMAX_STEP std::ptrdiff_t diagonal_of(const attention_task<T>& task, std::size_t keys) {
  return task.diagonal_by_length ? static_cast<std::ptrdiff_t>(keys) - static_cast<std::ptrdiff_t>(task.q_len)
                                 : task.diagonal;
}

/// The keys among the first `keys` that lie within the window of query i.
template <class A, class T>
XSOFTMAX_STEP key_range window_of(const attention_task<T>& task, std::size_t i, std::size_t keys) {
  const std::ptrdiff_t position = static_cast<std::ptrdiff_t>(i) + diagonal_of<A>(task, keys);
  const auto end = static_cast<std::ptrdiff_t>(keys);
  std::ptrdiff_t first = 0;
  std::ptrdiff_t last = end;
  // Windows beyond all keys, whose sums might overflow, end where the keys do.
  if (task.bounded_left && position > 0 && task.window_left < static_cast<std::size_t>(position)) {
    first = position - static_cast<std::ptrdiff_t>(task.window_left);
  }
  if (task.bounded_right) {
    const bool reaches_end = position < end && task.window_right >= static_cast<std::size_t>(end - position);
    last = position >= end || reaches_end ? end : position + static_cast<std::ptrdiff_t>(task.window_right) + 1;
  }
  last = last < end ? last : end;
  return last <= first ? key_range{0, 0} : key_range{static_cast<std::size_t>(first), static_cast<std::size_t>(last)};
}

/// The bits of the keys of a range among the `count` keys from `first` on.
template <class A>
XSOFTMAX_STEP key_bits bits_of_range(const key_range& range, std::size_t first, std::size_t count) {
  const std::size_t from = range.first <= first ? 0 : range.first - first;
  const std::size_t to = range.last <= first ? 0 : range.last - first < count ? range.last - first : count;
  return from < to ? bits_between<A>(from, to) : 0;
}

/// Number `index` of an option.
template <class A, class T>
XSOFTMAX_STEP T number_at(const option_array& x, std::ptrdiff_t index) {
  switch (static_cast<array_kind>(x.kind)) {
  case array_kind::boolean:
    return static_cast<const bool*>(x.data)[index] ? T{} : -infinity<T>;
  case array_kind::float32:
    return static_cast<T>(static_cast<const float*>(x.data)[index]);
  case array_kind::float64:
    return static_cast<T>(static_cast<const double*>(x.data)[index]);
  case array_kind::float16:
    return static_cast<T>(float16_value(static_cast<const std::uint16_t*>(x.data)[index]));
  default:
    return static_cast<T>(bfloat16_value(static_cast<const std::uint16_t*>(x.data)[index]));
  }
}

/// Numbers [offset, ...) of an option for the `count` keys of a block: where they lie, if they are T side by side and
/// all there, or copied to `room`, the rest 0.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN const T* block_numbers(const option_array& x, std::ptrdiff_t offset,
                                                                  std::ptrdiff_t stride, std::size_t count, T* room) {
  constexpr array_kind native_kind = sizeof(T) == sizeof(float) ? array_kind::float32 : array_kind::float64;
  if (static_cast<array_kind>(x.kind) == native_kind && stride == 1 && count == key_block) {
    return static_cast<const T*>(x.data) + offset;
  }
  for (std::size_t j = 0; j < key_block; ++j) {
    room[j] = j < count ? number_at<A, T>(x, offset + static_cast<std::ptrdiff_t>(j) * stride) : T{};
  }
  return room;
}

/// The bits of the numbers that are -inf.
template <class A, class T>
XSOFTMAX_STEP key_bits infinite_bits(const T* x) {
  key_bits bits = 0;
  unroll<key_block / lanes<A, T>>([&](auto n) XSOFTMAX_STEP_LAMBDA {
    constexpr std::size_t at = decltype(n)::value * lanes<A, T>;
    const unsigned found = native<A>::equal_bits(native<A>::template load<T>(x + at), batch<A, T>(-infinity<T>));
    bits |= key_bits{found} << at;
  });
  return bits;
}

/// Booleans of a block as bits.
template <class A>
XSOFTMAX_STEP key_bits boolean_bits(const bool* x, std::ptrdiff_t stride, std::size_t count) {
  key_bits bits = 0;
  for (std::size_t j = 0; j < count; ++j) {
    bits |= key_bits{x[static_cast<std::ptrdiff_t>(j) * stride]} << j;
  }
  return bits;
}

/// The options of an attention that act on single keys, for the queries of one entry of the batch.
template <class A, class T>
class score_options {
public:
  using N = native<A>;
  using V = batch<A, T>;

  XSOFTMAX_STEP score_options(const attention_task<T>& task, std::size_t b)
      : task_(task), entry_(b), diagonal_(diagonal_of<A>(task, keys_of_entry<A>(task.key_lengths, b, task.kv_len))) {}

  /// Can a key be hidden that lies within the window?
  XSOFTMAX_STEP bool hide() const { return task_.mask.kind != 0 || task_.key_bias.kind != 0; }

  /// Do scores change?
  XSOFTMAX_STEP bool any() const { return hide() || task_.alibi_slopes.kind != 0 || task_.softcap != 0; }

  /// The bits of the keys from `first` on, `count` of them, that mask and bias leave visible to query i of head h.
  __attribute__((noinline)) XSOFTMAX_FLATTEN key_bits visible(std::size_t h, std::size_t i, std::size_t first,
                                                              std::size_t count) const {
    alignas(64) T room[key_block];
    key_bits bits = all_keys;
    if (static_cast<array_kind>(task_.mask.kind) == array_kind::boolean) {
      bits = boolean_bits<A>(static_cast<const bool*>(task_.mask.data) + mask_offset(h, i, first), task_.mask.stride[3],
                             count);
    } else if (task_.mask.kind != 0) {
      bits =
          ~infinite_bits<A>(block_numbers<A>(task_.mask, mask_offset(h, i, first), task_.mask.stride[3], count, room));
    }
    if (task_.key_bias.kind != 0) {
      bits &= ~infinite_bits<A>(
          block_numbers<A>(task_.key_bias, bias_offset(first), task_.key_bias.stride[3], count, room));
    }
    return bits;
  }

  /// A block of scores of query i of head h: softcap, then what is added.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void apply(std::size_t h, std::size_t i, std::size_t first,
                                                        std::size_t count, T* score) const {
    alignas(64) T room[key_block];
    if (task_.softcap != 0) {
      const V cap(static_cast<T>(task_.softcap));
      const V inverse(static_cast<T>(1.0 / task_.softcap));
      each(score, [&](V s, std::size_t)
                      XSOFTMAX_STEP_LAMBDA { return uncontracted(cap * math::tanh<A, T>(uncontracted(s * inverse))); });
    }
    if (task_.mask.kind != 0 && static_cast<array_kind>(task_.mask.kind) != array_kind::boolean) {
      add(block_numbers<A>(task_.mask, mask_offset(h, i, first), task_.mask.stride[3], count, room), score);
    }
    if (task_.key_bias.kind != 0) {
      add(block_numbers<A>(task_.key_bias, bias_offset(first), task_.key_bias.stride[3], count, room), score);
    }
    if (task_.alibi_slopes.kind != 0) {
      const V slope(number_at<A, T>(task_.alibi_slopes, static_cast<std::ptrdiff_t>(h) * task_.alibi_slopes.stride[1]));
      const std::ptrdiff_t nearest = static_cast<std::ptrdiff_t>(i) + diagonal_ - static_cast<std::ptrdiff_t>(first);
      each(score, [&](V s, std::size_t at) XSOFTMAX_STEP_LAMBDA {
        const V offset =
            N::template load<T>(numbers<A, T>.entry) + V(static_cast<T>(static_cast<std::ptrdiff_t>(at) - nearest));
        return N::negative_multiply_add(slope, N::max_magnitude(offset, V(T{})), s);
      });
    }
  }

private:
  template <class B, class Number>
  struct lane_numbers {
    Number entry[lanes<B, Number>];

    consteval lane_numbers() : entry() {
      for (std::size_t l = 0; l < lanes<B, Number>; ++l) {
        entry[l] = static_cast<Number>(l);
      }
    }
  };

  /// 0, 1, 2, ...
  template <class B, class Number>
  static constexpr lane_numbers<B, Number> numbers{};

  template <class F>
  static XSOFTMAX_STEP void each(T* score, F&& f) {
    for (std::size_t at = 0; at < key_block; at += lanes<A, T>) {
      N::store(score + at, f(N::template load<T>(score + at), at));
    }
  }

  static XSOFTMAX_STEP void add(const T* x, T* score) {
    each(score, [&](V s, std::size_t at) XSOFTMAX_STEP_LAMBDA { return s + N::template load<T>(x + at); });
  }

  XSOFTMAX_STEP std::ptrdiff_t mask_offset(std::size_t h, std::size_t i, std::size_t first) const {
    return static_cast<std::ptrdiff_t>(entry_) * task_.mask.stride[0] +
           static_cast<std::ptrdiff_t>(h) * task_.mask.stride[1] +
           static_cast<std::ptrdiff_t>(i) * task_.mask.stride[2] +
           static_cast<std::ptrdiff_t>(first) * task_.mask.stride[3];
  }

  XSOFTMAX_STEP std::ptrdiff_t bias_offset(std::size_t first) const {
    return static_cast<std::ptrdiff_t>(entry_) * task_.key_bias.stride[0] +
           static_cast<std::ptrdiff_t>(first) * task_.key_bias.stride[3];
  }

  const attention_task<T>& task_;
  std::size_t entry_;
  std::ptrdiff_t diagonal_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

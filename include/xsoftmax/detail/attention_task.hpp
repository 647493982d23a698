// SPDX-License-Identifier: MIT
// What crosses the border between the public functions of attention and their kernels (see softmax_task.hpp), and what
// both must agree on: the blocks and the room for them.
#pragma once

#include <cstddef>
#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Which key lies at the position of query i, where there are more or fewer queries than keys.
enum class causal_alignment : unsigned char {
  bottom_right, ///< key i + kv_len - q_len: the queries are the last of the sequence, as in decoding
  top_left,     ///< key i: the queries are the first
  key_lengths,  ///< key i + n - q_len for the n keys that key_lengths leaves the entry: the last of each entry
};

namespace detail {

/// Keys are taken in blocks of this many, from key 0 on: the tree of every sum is built over them.
inline constexpr std::size_t key_block = 64;

/// Blocks are summed up in segments of this many keys, and segments one after the other. Keys can be split between
/// threads where segments meet.
inline constexpr std::size_t key_segment = 1024;

/// The longest chain of a score: products of deeper queries are summed in pieces of this many.
inline constexpr std::size_t depth_block = 128;

/// Rows of queries that share a packed block of keys.
inline constexpr std::size_t most_query_rows = 528;

/// Batch x heads x length x depth elements: (b, h, i, c) is number b * batch_stride + h * head_stride + i *
/// length_stride + c * depth_stride from `data`, of the format.
template <class Void>
struct head_elements {
  Void* data = nullptr;
  std::ptrdiff_t batch_stride = 0;
  std::ptrdiff_t head_stride = 0;
  std::ptrdiff_t length_stride = 0;
  std::ptrdiff_t depth_stride = 0;
  storage_format format = storage_format::native;
};

/// Numbers of an option: [batch, heads, q_len, kv_len] at strides of which some may be 0.
struct option_array {
  const void* data = nullptr;
  std::ptrdiff_t stride[4] = {};
  unsigned char kind = 0; ///< number_kind; 0: not given
};

/// Counts of an option.
struct count_array {
  const void* data = nullptr;
  unsigned char bytes = 0; ///< of one; 0: not given
  bool is_signed = false;
};

/// What all kinds of attention are asked. Computed in T.
template <class T>
struct attention_task {
  head_elements<const void> q;
  head_elements<const void> k;
  head_elements<const void> v;
  head_elements<void> out;
  std::size_t batch = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;
  std::size_t q_len = 0;
  std::size_t kv_len = 0;
  std::size_t depth = 0;
  std::size_t value_depth = 0;
  double scale = 0;           ///< of the products; NaN: the default of the kind
  bool bounded_left = false;  ///< is there a window_left?
  bool bounded_right = false; ///< is there a window_right? A causal one has width 0 at most.
  std::size_t window_left = 0;
  std::size_t window_right = 0;
  std::ptrdiff_t diagonal = 0;     ///< position of query 0 among the keys
  bool diagonal_by_length = false; ///< it follows from the entry's number of keys
  count_array key_lengths;
  option_array mask;
  option_array key_bias;                  ///< strides: batch, -, -, key
  option_array alibi_slopes;              ///< strides: -, head, -, -
  option_array sink;                      ///< the same
  double softcap = 0;                     ///< 0: none
  double bias = 0;                        ///< of sigmoid attention; NaN: the default
  double reweight_power = 0;              ///< of softplus attention; 0: none
  head_elements<void> query_number;       ///< log_sum_exp or denominator: depth 1; without data: not wanted
  head_elements<const void> weight_scale; ///< depth 1; without data: 1
  option_array weight_sum;                ///< strides: -, head, -, -

  // What of it, and where.
  bool keeps_terms = false;      ///< of the first sweep for the second, behind the rest of the workspace
  std::size_t rows_per_tile = 0; ///< a unit is a tile of the queries that share a head of keys
  std::size_t first_unit = 0;
  std::size_t last_unit = 0;
  std::size_t first_segment = 0; ///< with partial sums: the segments whose sums are wanted
  std::size_t last_segment = 0;
  T* partial = nullptr; ///< sums of segments: written by a call that has a range of them, then read by one without
  T* workspace = nullptr;
};

template <class T>
struct softmax_attention_task : attention_task<T> {};
template <class T>
struct sigmoid_attention_task : attention_task<T> {};
template <class T>
struct softplus_attention_task : attention_task<T> {};

/// Are the values that a query sees added up as they are, too?
template <class T>
XSOFTMAX_INLINE constexpr bool sums_seen_values(const attention_task<T>& task) {
  return task.weight_sum.kind != 0;
}

/// Room in the workspace, in elements; every part begins at a cache line where the workspace does.
struct attention_room {
  static constexpr std::size_t line = 16;
  static constexpr std::size_t states = 8; ///< numbers kept of each row

  std::size_t rows;
  std::size_t depth;
  std::size_t value_depth; ///< padded
  std::size_t sum_depth;   ///< of the sums of a row: those of weighted values, then perhaps those of seen values

  static XSOFTMAX_INLINE constexpr std::size_t padded(std::size_t n) { return (n + line - 1) / line * line; }

  XSOFTMAX_INLINE constexpr attention_room(std::size_t rows_per_tile, std::size_t d, std::size_t dv, bool sums_seen)
      : rows(padded(rows_per_tile)), depth(padded(d)), value_depth(padded(dv)),
        sum_depth(sums_seen ? 2 * value_depth : value_depth) {}

  XSOFTMAX_INLINE constexpr std::size_t queries() const { return 0; }

  XSOFTMAX_INLINE constexpr std::size_t keys() const { return queries() + rows * depth; }

  XSOFTMAX_INLINE constexpr std::size_t values() const { return keys() + key_block * depth; }

  XSOFTMAX_INLINE constexpr std::size_t staging() const { return values() + key_block * value_depth; }

  XSOFTMAX_INLINE constexpr std::size_t block_sum() const { return staging() + line * depth; }

  XSOFTMAX_INLINE constexpr std::size_t sums() const { return block_sum() + value_depth; }

  XSOFTMAX_INLINE constexpr std::size_t totals() const { return sums() + rows * sum_depth; }

  XSOFTMAX_INLINE constexpr std::size_t state() const { return totals() + rows * sum_depth; }

  XSOFTMAX_INLINE constexpr std::size_t total() const { return state() + states * rows; }

  /// Of a segment's partial sums: those of values, then states.
  XSOFTMAX_INLINE constexpr std::size_t partial() const { return rows * (sum_depth + states); }
};

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// What crosses the border between the backward functions of attention and their kernels (see attention_task.hpp).
#pragma once

#include <xsoftmax/detail/attention_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// Queries are taken in blocks of this many, from the first of those that share a head of keys: the tree of every sum
/// over queries is built over them.
inline constexpr std::size_t query_block = 48;

/// What the forward knew of queries is found again for this many at a time.
inline constexpr std::size_t query_tile = 4 * query_block;
static_assert(query_tile <= most_query_rows);

/// Blocks are summed up in segments, and segments one after the other; queries can be split between threads where they
/// meet. They are of at least this many tiles, and longer where there would be more than the most.
inline constexpr std::size_t least_segment_tiles = 2;
inline constexpr std::size_t most_query_segments = 16;

/// What the backward of all kinds of attention is asked.
template <class T>
struct attention_backward_task : attention_task<T> {
  head_elements<const void> dout;
  head_elements<void> dq;
  head_elements<void> dk;
  head_elements<void> dv;
  bool saved = false; ///< are out and a number of each query given, as the forward left them?
  head_elements<const void> saved_out;
  head_elements<const void> saved_number;    ///< log_sum_exp or denominator
  head_elements<void> weight_scale_gradient; ///< depth 1; without data: not wanted

  // A unit is all queries that share a head of keys. segments: of queries. partial: sums of its segments, written by
  // calls that have a range of them, then read by calls that have a range of blocks of keys.
  std::size_t tiles_per_segment = 0;
  std::size_t segments = 0;
  std::size_t first_block = 0;
  std::size_t last_block = 0;
  T* key_sums = nullptr;       ///< for each unit and key, if wanted: the sum of its scores' gradients
  double* head_sums = nullptr; ///< for each unit, segment and head, if wanted: gradients of what a head has
};

template <class T>
struct softmax_attention_backward_task : attention_backward_task<T> {};
template <class T>
struct sigmoid_attention_backward_task : attention_backward_task<T> {};
template <class T>
struct softplus_attention_backward_task : attention_backward_task<T> {};

/// Where things lie in the workspace of a call, in elements of `bytes` bytes; each begins at a cache line.
struct attention_backward_room {
  static constexpr std::size_t numbers_per_query = 8;

  std::size_t depth;       ///< of rows, padded
  std::size_t value_depth; ///< the same
  std::size_t record;      ///< sums of a block of keys: dk, dv, and of the gradients of its scores
  std::size_t total = 0;

  std::size_t queries;        ///< of a segment, as they enter the products
  std::size_t gradients;      ///< of their outputs
  std::size_t sums;           ///< of dq over a segment of keys
  std::size_t totals;         ///< of dq
  std::size_t numbers;        ///< what is known of each query
  std::size_t windows;        ///< the keys that each query may see
  std::size_t facts;          ///< what is known of each block of queries
  std::size_t keys;           ///< of a block, transposed
  std::size_t values;         ///< the same
  std::size_t key_rows;       ///< not transposed
  std::size_t staging;        ///< for pack_keys
  std::size_t block_sums;     ///< a record
  std::size_t weights;        ///< scores and then weights of a block of queries with a block of keys
  std::size_t slopes;         ///< the gradients of weights and then of scores
  std::size_t turned_weights; ///< transposed
  std::size_t turned_slopes;
  std::size_t out;        ///< of a tile of queries
  std::size_t state;      ///< of the forward's link
  std::size_t forward;    ///< its workspace
  std::size_t key_totals; ///< a record for each block of keys

  XSOFTMAX_INLINE constexpr attention_backward_room(std::size_t rows, std::size_t d, std::size_t dv,
                                                    std::size_t key_blocks, std::size_t bytes)
      : depth(attention_room::padded(d)), value_depth(attention_room::padded(dv)),
        record(key_block * (depth + value_depth + 1)) {
    const auto take = [this](std::size_t n) XSOFTMAX_LAMBDA {
      const std::size_t first = total;
      total += attention_room::padded(n);
      return first;
    };
    const std::size_t longer = depth > value_depth ? depth : value_depth;
    const std::size_t words = (sizeof(std::size_t) + bytes - 1) / bytes;
    queries = take(rows * depth);
    gradients = take(rows * value_depth);
    sums = take(rows * depth);
    totals = take(rows * depth);
    numbers = take(rows * numbers_per_query);
    windows = take(rows * 2 * words);
    facts = take((rows / query_block + 1) * 6 * words);
    keys = take(key_block * depth);
    values = take(key_block * value_depth);
    key_rows = take(key_block * depth);
    staging = take(attention_room::line * longer);
    block_sums = take(record);
    weights = take(query_block * key_block);
    slopes = take(query_block * key_block);
    turned_weights = take(query_block * key_block);
    turned_slopes = take(query_block * key_block);
    out = take(query_tile * value_depth);
    state = take(query_tile * attention_room::states);
    forward = take(attention_room(query_tile, d, dv, false).total());
    key_totals = take(key_blocks * record);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

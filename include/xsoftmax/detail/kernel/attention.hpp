// SPDX-License-Identifier: MIT
// Attention, tile by tile: scores of a few queries with a block of keys, the link function on them while they are hot,
// and their product with the block's values. What the kinds of attention differ in is the link, which sets up the state
// of each row and answers to:
//   prepare_query(row, q), prepare_keys(block, count)   what enters the products
//   begin_sweep(n), end_sweep(n)          it may want all scores more than once
//   start_totals(), begin_segment()       sums over all keys, and over a segment of them, start
//   link_rows(first, rows, scores, visible)  scores become weights; leaves in `visible` the keys whose values are seen
//   scales(row)                           what the segment's sums are multiplied by then, from this row on
//   end_segment(sums, ...)                the segment's sums join those of the segments before
//   finish(row)                           what the sums are multiplied by in the end
//   shift(row)                            with scales_weights: what all weights are shifted by then
//
// The result of a query is built from blocks of 64 keys that begin at key 0, whatever else is in the tile: each score
// is one chain over the depth (in pieces of 128), each sum of a block one chain over its keys, blocks of a segment and
// segments follow one another. A key that a query does not see adds an exact zero to its chains, or nothing.
#pragma once

#include <xsoftmax/detail/kernel/attention_heads.hpp>
#include <xsoftmax/detail/kernel/attention_mask.hpp>
#include <xsoftmax/detail/kernel/streamed_heads.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Rows whose scores with a block of keys are there at a time.
inline constexpr std::size_t group_rows = 8 * tile_rows;

/// Scores or weights of a row with a block of keys.
template <class A, class T>
using block_pack = pack<batch<A, T>, key_block / lanes<A, T>>;

template <class A, class T>
XSOFTMAX_STEP block_pack<A, T> load_block(const T* x) {
  return make_pack<block_pack<A, T>::size>(
      [&](auto n) XSOFTMAX_STEP_LAMBDA { return native<A>::template load<T>(x + decltype(n)::value * lanes<A, T>); });
}

template <class A, class T>
XSOFTMAX_STEP void store_block(T* x, const block_pack<A, T>& block) {
  unroll<block_pack<A, T>::size>([&](auto n) XSOFTMAX_STEP_LAMBDA {
    native<A>::store(x + decltype(n)::value * lanes<A, T>, block.v[decltype(n)::value]);
  });
}

/// `fill` for the keys whose bit is not set.
template <class A, class T>
XSOFTMAX_STEP block_pack<A, T> only_visible(const block_pack<A, T>& x, key_bits visible, T fill) {
  return make_pack<block_pack<A, T>::size>([&](auto n) XSOFTMAX_STEP_LAMBDA {
    constexpr std::size_t i = decltype(n)::value;
    return native<A>::select(static_cast<unsigned>(visible >> (i * lanes<A, T>)), x.v[i], batch<A, T>(fill));
  });
}

/// Foldings: of batches, lane by lane, and of the lanes of one by halves.
template <class A, class T>
struct fold_by_sum {
  using V = batch<A, T>;

  XSOFTMAX_STEP V operator()(V a, V b) const { return a + b; }

  static XSOFTMAX_STEP T across(V v) { return native<A>::fold_sum(v); }
};

template <class A, class T>
struct fold_by_largest { // that is not NaN
  using V = batch<A, T>;

  XSOFTMAX_STEP V operator()(V a, V b) const { return native<A>::max_dropping_nan(a, b); }

  static XSOFTMAX_STEP T across(V v) { return native<A>::largest_lane(v); }
};

/// Lane l: the lanes of row(l) folded by f, for `count` rows; no matter what in the other lanes.
template <class A, class T, class F, class Row>
XSOFTMAX_STEP batch<A, T> fold_rows(std::size_t count, F f, Row&& row) {
  using V = batch<A, T>;
  if (count == 1) {
    return V(f.across(row(0)));
  }
  auto x = make_pack<lanes<A, T>>([&](auto) XSOFTMAX_STEP_LAMBDA { return V(T{}); });
  for (std::size_t l = 0; l < count; ++l) {
    x.v[l] = row(l);
  }
  native<A>::transpose(x.v);
  return fold_batches(x, f);
}

/// The sums of `count` blocks, each by halves: element l + element l + 32, and so on, a tree that does not depend on
/// the batch. block(l) is called once for each, in turn.
template <class A, class T, class Block>
XSOFTMAX_STEP batch<A, T> sums_of_blocks(std::size_t count, Block&& block) {
  constexpr fold_by_sum<A, T> add;
  return fold_rows<A, T>(count, add, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA { return fold_batches(block(l), add); });
}

/// Their largest elements that are not NaN.
template <class A, class T, class Block>
XSOFTMAX_STEP batch<A, T> largest_of_blocks(std::size_t count, Block&& block) {
  using V = batch<A, T>;
  constexpr fold_by_largest<A, T> larger;
  return fold_rows<A, T>(count, larger, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA {
    const block_pack<A, T> x = block(l);
    V largest(-infinity<T>);
    unroll<block_pack<A, T>::size>([&](auto n)
                                       XSOFTMAX_STEP_LAMBDA { largest = larger(x.v[decltype(n)::value], largest); });
    return largest;
  });
}

/// exp(x) for x <= 0 that are differences of scores: 0 below the normal numbers; relative error at most 1.6 * 2^-24.
template <class A, class T>
using weight_exp = math::extended_exp<A, T, false, math::power_bits<A, T, math::power_table>>;

template <class A, class T>
XSOFTMAX_STEP weight_exp<A, T> make_weight_exp() {
  return weight_exp<A, T>(math::unit_reduction<A, T>(), math::octave_bias<T>);
}

/// The queries of one unit: rows of those that share a head of keys, query head by query head.
template <class A, class T>
class attention_rows {
public:
  XSOFTMAX_STEP attention_rows(const attention_task<T>& task, std::size_t unit)
      : group_(task.heads / task.kv_heads), q_len_(task.q_len) {
    const std::size_t all = group_ * q_len_;
    const std::size_t tiles = all / task.rows_per_tile + (all % task.rows_per_tile != 0 ? 1 : 0);
    first_ = unit % tiles * task.rows_per_tile;
    count_ = all - first_ < task.rows_per_tile ? all - first_ : task.rows_per_tile;
    kv_head_ = unit / tiles % task.kv_heads;
    entry_ = unit / tiles / task.kv_heads;
    const std::size_t keys = keys_of_entry<A>(task.key_lengths, entry_, task.kv_len);
    keys_ = {keys, 0};
    common_ = {0, keys};
    for (std::size_t r = 0; r < count_; ++r) {
      seen_[r] = window_of<A>(task, query(r), keys);
      common_.first = seen_[r].first > common_.first ? seen_[r].first : common_.first;
      common_.last = seen_[r].last < common_.last ? seen_[r].last : common_.last;
      if (seen_[r].first != seen_[r].last) {
        keys_.first = seen_[r].first < keys_.first ? seen_[r].first : keys_.first;
        keys_.last = seen_[r].last > keys_.last ? seen_[r].last : keys_.last;
      }
    }
  }

  XSOFTMAX_STEP std::size_t entry() const { return entry_; }

  XSOFTMAX_STEP std::size_t kv_head() const { return kv_head_; }

  XSOFTMAX_STEP std::size_t count() const { return count_; }

  /// Head and position among the queries of row r.
  XSOFTMAX_STEP std::size_t head(std::size_t r) const { return kv_head_ * group_ + (first_ + r) / q_len_; }

  XSOFTMAX_STEP std::size_t query(std::size_t r) const { return (first_ + r) % q_len_; }

  /// The keys within the window of row r, and of any row.
  XSOFTMAX_STEP const key_range& seen(std::size_t r) const { return seen_[r]; }

  XSOFTMAX_STEP const key_range& keys() const { return keys_; }

  /// The keys within the windows of all rows.
  XSOFTMAX_STEP const key_range& common() const { return common_; }

private:
  std::size_t group_;
  std::size_t q_len_;
  std::size_t first_;
  std::size_t count_;
  std::size_t kv_head_;
  std::size_t entry_;
  key_range keys_;
  key_range common_;
  key_range seen_[most_query_rows];
};

/// How many keys row r sees.
template <class A, class T>
XSOFTMAX_STEP std::size_t visible_keys(const attention_rows<A, T>& rows, const score_options<A, T>& options,
                                       std::size_t r) {
  const key_range& seen = rows.seen(r);
  if (!options.hide()) {
    return seen.last - seen.first;
  }
  std::size_t n = 0;
  for (std::size_t first = seen.first / key_block * key_block; first < seen.last; first += key_block) {
    const std::size_t rest = seen.last - first;
    const std::size_t count = rest < key_block ? rest : key_block;
    const std::size_t from = seen.first <= first ? 0 : seen.first - first;
    n += count_of<A>(bits_between<A>(from, count) & options.visible(rows.head(r), rows.query(r), first, count));
  }
  return n;
}

/// The keys from `first` to `last` of a block that a group of rows sees, row by row.
struct block_view {
  key_bits row[group_rows];
  std::size_t first; ///< below it, no row sees a key
  std::size_t last;  ///< from it on, none

  XSOFTMAX_INLINE bool any() const { return first < last; }
};

/// Blocks of keys and then of values that are read one after the other, where they are read where they lie: turns from
/// one to the other cost.
inline constexpr std::size_t stream_blocks = group_rows / tile_rows;

/// One unit: a tile of queries against all their keys.
template <class A, class T, class Link>
class attention_unit {
public:
  using N = native<A>;
  using V = batch<A, T>;

  XSOFTMAX_STEP attention_unit(const attention_task<T>& task, std::size_t unit)
      : task_(task), unit_(unit), rows_(task, unit), options_(task, rows_.entry()),
        room_(task.rows_per_tile, task.depth, task.value_depth, sums_seen_values(task)),
        link_(task, rows_, options_, state()) {}

  XSOFTMAX_STEP void run() {
    const std::size_t segments = task_.kv_len / key_segment + (task_.kv_len % key_segment != 0 ? 1 : 0);
    const bool sums_only = task_.last_segment != 0;
    if (!sums_only && task_.partial != nullptr) {
      start_totals();
      for (std::size_t s = 0; s < segments; ++s) {
        if (sees_segment(s)) {
          T* const partial = partial_of(s, segments);
          link_.end_segment(partial, room_.sum_depth, totals(), partial + room_.rows * room_.sum_depth);
        }
      }
      write();
      return;
    }
    pack_queries();
    for (std::size_t sweep = 0; sweep < Link::sweeps; ++sweep) {
      link_.begin_sweep(sweep);
      const bool with_values = sweep + 1 == Link::sweeps;
      has_terms_ = task_.keeps_terms && sweep != 0;
      if (sums_only) {
        for (std::size_t s = task_.first_segment; s < task_.last_segment; ++s) {
          if (sees_segment(s)) {
            T* const partial = partial_of(s, segments);
            sum_segment(s, partial, with_values);
            link_.copy_state(partial + room_.rows * room_.sum_depth);
          }
        }
        return;
      }
      start_totals();
      for (std::size_t s = 0; s < segments; ++s) {
        if (sees_segment(s)) {
          sum_segment(s, sums(), with_values);
          link_.end_segment(with_values ? sums() : nullptr, room_.sum_depth, totals(), state());
        }
      }
      link_.end_sweep(sweep);
    }
    write();
  }

private:
  XSOFTMAX_STEP T* state() const { return task_.workspace + room_.state(); }

  XSOFTMAX_STEP T* sums() const { return task_.workspace + room_.sums(); }

  XSOFTMAX_STEP T* totals() const { return task_.workspace + room_.totals(); }

  XSOFTMAX_STEP T* partial_of(std::size_t segment, std::size_t segments) const {
    return task_.partial + (unit_ * segments + segment) * room_.partial();
  }

  XSOFTMAX_STEP bool sees_segment(std::size_t s) const {
    return rows_.keys().first < (s + 1) * key_segment && rows_.keys().last > s * key_segment;
  }

  /// Batches of value columns.
  XSOFTMAX_STEP std::size_t value_batches() const {
    return task_.value_depth / lanes<A, T> + (task_.value_depth % lanes<A, T> != 0 ? 1 : 0);
  }

  XSOFTMAX_STEP void start_totals() {
    clear<A>(totals(), rows_.count() * room_.sum_depth);
    link_.start_totals();
  }

  /// Queries side by side, with what the link multiplies them by.
  XSOFTMAX_STEP void pack_queries() {
    T* const queries = task_.workspace + room_.queries();
    for (std::size_t r = 0; r < rows_.count(); ++r) {
      T* const to = queries + r * room_.depth;
      read_position<A>(task_.q, rows_.entry(), rows_.head(r), rows_.query(r), task_.depth, to);
      link_.prepare_query(r, to);
    }
  }

  /// Sums of the keys of a segment: those of values into `sums`, others into the link's state.
  XSOFTMAX_STEP void sum_segment(std::size_t s, T* sums, bool with_values) {
    clear<A>(sums, rows_.count() * room_.sum_depth);
    link_.begin_segment();
    std::size_t first = s * key_segment;
    std::size_t last = first + key_segment;
    first = first < rows_.keys().first ? rows_.keys().first / key_block * key_block : first;
    last = last < rows_.keys().last ? last : rows_.keys().last;
    const bool streams = !Link::changes_keys && is_small() && can_stream<A, T>(task_.k, task_.depth);
    while (first < last) {
      const std::size_t whole = (last - first) / key_block;
      streams_keys_ = streams && whole != 0;
      pass_.first = first;
      pass_.blocks = !streams_keys_ ? 1 : whole < stream_blocks ? whole : stream_blocks;
      sum_blocks(sums, with_values);
      first += pass_.blocks * key_block;
    }
  }

  /// The blocks of a pass: all scores, all weights, all values.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_blocks(T* sums, bool with_values) {
    if (!streams_keys_ && !has_terms_) {
      const std::size_t count = keys_of_block(pass_.first);
      T* const keys = task_.workspace + room_.keys();
      pack_keys<A>(task_.k, rows_.entry(), rows_.kv_head(), pass_.first, count, task_.depth,
                   task_.workspace + room_.staging(), keys);
      link_.prepare_keys(keys, count);
    }
    for (std::size_t r = 0; r < rows_.count(); r += group_rows) {
      const std::size_t rows = rows_.count() - r < group_rows ? rows_.count() - r : group_rows;
      block_view views[stream_blocks];
      T scales[stream_blocks][tile_rows]; // of sums, from one block of the pass to the next
      for (std::size_t b = 0; b < pass_.blocks; ++b) {
        const std::size_t first = pass_.first + b * key_block;
        if (sees(r, rows, first, keys_of_block(first), views[b]) && !has_terms_) {
          set_scores(r, rows, first, views[b], scores_of(r, b));
        }
      }
      for (std::size_t b = 0; b < pass_.blocks; ++b) {
        if (views[b].any()) {
          set_weights(r, rows, pass_.first + b * key_block, views[b], scores_of(r, b), sums);
          for (std::size_t i = 0; pass_.blocks != 1 && i < rows; ++i) {
            scales[b][i] = link_.scales(r)[i];
          }
        }
      }
      for (std::size_t b = 0; with_values && b < pass_.blocks; ++b) {
        const T* const scale = pass_.blocks == 1 ? link_.scales(r) : scales[b];
        for (std::size_t i = 0; views[b].any() && i < rows; i += tile_rows) {
          add_values(r + i, rows - i < tile_rows ? rows - i : tile_rows, scores_of(r, b) + i * key_block,
                     pass_.first + b * key_block, views[b].row + i, scale + i, sums);
        }
      }
    }
  }

  /// Scores of a group of rows with a block of keys.
  XSOFTMAX_STEP void set_scores(std::size_t r, std::size_t rows, std::size_t first, const block_view& view, T* scores) {
    score_group(r, rows, first, view, scores);
    for (std::size_t i = 0; options_.any() && i < rows; ++i) {
      options_.apply(rows_.head(r + i), rows_.query(r + i), first, keys_of_block(first), scores + i * key_block);
    }
  }

  /// They become weights.
  XSOFTMAX_STEP void set_weights(std::size_t r, std::size_t rows, std::size_t first, block_view& view, T* scores,
                                 T* sums) {
    if constexpr (Link::scales_weights) {
      if (sums_seen_values(task_)) {
        turn_to_values(first);
        add_seen(r, rows, first, keys_of_block(first), view.row, sums);
      }
    }
    link_.link_rows(r, rows, scores, view.row);
  }

  /// Forgets the values of another block.
  XSOFTMAX_STEP void turn_to_values(std::size_t first) {
    if (first != values_of_) {
      values_of_ = first;
      values_ = {nullptr, 0};
      finite_ = finiteness::unknown;
    }
  }

  XSOFTMAX_STEP std::size_t keys_of_block(std::size_t first) const {
    const std::size_t rest = rows_.keys().last - first;
    return rest < key_block ? rest : key_block;
  }

  /// Where the scores of a group of rows with block b of the pass are, or their terms from the first sweep on.
  XSOFTMAX_STEP T* scores_of(std::size_t r, std::size_t b) {
    return task_.keeps_terms ? task_.workspace + room_.total() + pass_.first * task_.rows_per_tile + r * key_block
                             : score_ + b * tile_rows * key_block;
  }

  /// So few queries that keys and values are used once where they lie, not copied first.
  XSOFTMAX_STEP bool is_small() const { return rows_.count() <= tile_rows; }

  XSOFTMAX_STEP position_bytes key_bytes(std::size_t first) const {
    return bytes_of<T>(task_.k, rows_.entry(), rows_.kv_head(), first, task_.depth);
  }

  XSOFTMAX_STEP position_bytes value_bytes(std::size_t first) const {
    return bytes_of<T>(task_.v, rows_.entry(), rows_.kv_head(), first, task_.value_depth);
  }

  /// What is read so many blocks after the keys of block `first`: those of the pass, its values, the keys of the next.
  XSOFTMAX_STEP position_bytes read_after(std::size_t first, std::size_t blocks) const {
    const std::size_t at = (first - pass_.first) / key_block + blocks;
    if (at >= pass_.blocks && at < 2 * pass_.blocks) {
      return value_bytes(pass_.first + (at - pass_.blocks) * key_block);
    }
    return key_bytes(pass_.first + (at < pass_.blocks ? at : at - pass_.blocks) * key_block);
  }

  XSOFTMAX_STEP bool streams_values() const { return is_small() && can_stream<A, T>(task_.v, task_.value_depth); }

  /// What rows [r, r + rows) see of the block; false if nothing.
  XSOFTMAX_STEP bool sees(std::size_t r, std::size_t rows, std::size_t first, std::size_t count,
                          block_view& view) const {
    if (!options_.hide() && rows_.common().first <= first && first + count <= rows_.common().last) {
      for (std::size_t i = 0; i < rows; ++i) {
        view.row[i] = bits_between<A>(0, count);
      }
      view.first = 0;
      view.last = count;
      return true;
    }
    view.first = key_block;
    view.last = 0;
    key_bits any = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      view.row[i] = bits_of_range<A>(rows_.seen(r + i), first, count);
      if (options_.hide() && view.row[i] != 0) {
        view.row[i] &= options_.visible(rows_.head(r + i), rows_.query(r + i), first, count);
      }
      any |= view.row[i];
    }
    if (any == 0) {
      return false;
    }
    view.first = static_cast<std::size_t>(__builtin_ctzll(any));
    view.last = 64 - static_cast<std::size_t>(__builtin_clzll(any));
    return true;
  }

  /// Scores of a group of rows with the keys of a block that any of them sees.
  XSOFTMAX_STEP void score_group(std::size_t r, std::size_t rows, std::size_t first, const block_view& view,
                                 T* scores) {
    const matrix_rows<const T> queries{task_.workspace + room_.queries() + r * room_.depth, room_.depth};
    const std::size_t from = view.first / lanes<A, T> * lanes<A, T>;
    if (streams_keys_) {
      const position_bytes keys = key_bytes(first);
      const fetch_ahead fetch(keys, read_after(first, 1));
      with_format<T>(task_.k.format, [&](auto format) XSOFTMAX_STEP_LAMBDA {
        using stream = head_stream<T, decltype(format)::value>;
        const auto* const data = static_cast<const typename stream::element*>(static_cast<const void*>(keys.first));
        with_rows<A>(rows, [&](auto height) XSOFTMAX_STEP_LAMBDA {
          streamed_scores<A, T, decltype(height)::value>(queries, stream{data, task_.k.length_stride, fetch},
                                                         task_.depth, matrix_rows<T>{scores, key_block});
        });
      });
      fetch.beyond();
      return;
    }
    const T* const keys = task_.workspace + room_.keys() + from;
    const std::size_t batches = (view.last - from + lanes<A, T> - 1) / lanes<A, T>;
    for (std::size_t i = 0; i < rows; i += tile_rows) {
      const std::size_t height = rows - i < tile_rows ? rows - i : tile_rows;
      deep_product<A, T>(height, queries.from(i), {keys, key_block}, task_.depth,
                         {scores + i * key_block + from, key_block}, batches);
    }
  }

  /// Weights of rows [r, r + height) times the values that they see, onto their sums.
  XSOFTMAX_STEP void add_values(std::size_t r, std::size_t height, const T* weight, std::size_t first,
                                const key_bits* seen, const T* scales, T* sums) {
    const std::size_t count = keys_of_block(first);
    turn_to_values(first);
    key_bits any = 0;
    for (std::size_t l = 0; l < height; ++l) {
      any |= seen[l];
    }
    if (any == 0) {
      return; // nor has a maximum moved
    }
    const auto begin = static_cast<std::size_t>(__builtin_ctzll(any));
    const std::size_t end = key_block - static_cast<std::size_t>(__builtin_clzll(any));
    bool all = true;
    for (std::size_t l = 0; l < height; ++l) {
      all = all && seen[l] == bits_between<A>(begin, end);
    }
    const matrix_rows<const T> weights{weight + begin, key_block};
    const matrix_rows<T> to{sums + r * room_.sum_depth, room_.sum_depth};
    if (all && streams_values()) {
      const position_bytes values = value_bytes(first + begin);
      const fetch_ahead fetch(values, read_after(first, pass_.blocks + 1));
      with_format<T>(task_.v.format, [&](auto format) XSOFTMAX_STEP_LAMBDA {
        using stream = head_stream<T, decltype(format)::value>;
        const auto* const data = static_cast<const typename stream::element*>(static_cast<const void*>(values.first));
        streamed_product<A, T>(height, weights, stream{data, task_.v.length_stride, fetch}, end - begin, scales, to,
                               value_batches());
      });
      fetch.beyond();
      return;
    }
    look_up_values(first, count);
    if (all || finite(count)) {
      product<A, T>(height, weights, values_.from(begin), end - begin, scales, to, value_batches());
      return;
    }
    for (std::size_t l = 0; l < height; ++l) {
      careful_product<A>(weight + l * key_block, 1, seen[l], values_, scales[l], to.from(l).data, value_batches());
    }
  }

  XSOFTMAX_STEP void look_up_values(std::size_t first, std::size_t count) {
    if (values_.data == nullptr) {
      values_ = value_rows<A>(task_.v, rows_.entry(), rows_.kv_head(), first, count, task_.value_depth, is_small(),
                              task_.workspace + room_.values());
    }
  }

  /// The values of a block that rows [r, r + rows) see, as they are, onto their second sums. A chain over those of the
  /// block that a row sees; it is the same for rows that see all.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void add_seen(std::size_t r, std::size_t rows, std::size_t first,
                                                           std::size_t count, const key_bits* seen, T* sums) {
    look_up_values(first, count);
    T* const whole = task_.workspace + room_.block_sum();
    bool has_whole = false;
    for (std::size_t i = 0; i < rows; ++i) {
      T* const sum = sums + (r + i) * room_.sum_depth + room_.value_depth;
      if (seen[i] != bits_between<A>(0, count)) {
        careful_product<A>(unchanged<A, T>.entry, 0, seen[i], values_, T{1}, sum, value_batches());
        continue;
      }
      if (!has_whole) {
        clear<A>(whole, room_.value_depth);
        careful_product<A>(unchanged<A, T>.entry, 0, seen[i], values_, T{}, whole, value_batches());
        has_whole = true;
      }
      for (std::size_t n = 0; n < value_batches() * lanes<A, T>; n += lanes<A, T>) {
        N::store(sum + n, N::template load<T>(sum + n) + N::template load<T>(whole + n));
      }
    }
  }

  /// Are all values of the block finite? Looked up once.
  XSOFTMAX_STEP bool finite(std::size_t count) {
    if (finite_ == finiteness::unknown) {
      finite_ = all_finite<A>(values_, count, value_batches()) ? finiteness::yes : finiteness::no;
    }
    return finite_ == finiteness::yes;
  }

  /// Sums times what is left to multiply them by; + 0 makes no zero negative.
  XSOFTMAX_STEP void write() {
    for (std::size_t r = 0; r < rows_.count(); ++r) {
      T* const sum = totals() + r * room_.sum_depth;
      const V factor(link_.finish(r));
      const auto out = position_of<T>(task_.out, rows_.entry(), rows_.head(r), rows_.query(r));
      for (std::size_t n = 0; n < value_batches() * lanes<A, T>; n += lanes<A, T>) {
        N::store(sum + n, N::multiply_add(N::template load<T>(sum + n), factor, V(T{})));
      }
      if constexpr (Link::scales_weights) {
        const V shift(sums_seen_values(task_) ? link_.shift(r) : T{});
        for (std::size_t n = 0; sums_seen_values(task_) && n < room_.value_depth; n += lanes<A, T>) {
          const V seen = N::template load<T>(sum + room_.value_depth + n);
          N::store(sum + n, N::multiply_add(seen, shift, N::template load<T>(sum + n)));
        }
      }
      out.template write<A>(0, task_.value_depth, sum);
    }
  }

  enum class finiteness : unsigned char { unknown, yes, no };

  const attention_task<T>& task_;
  std::size_t unit_;
  attention_rows<A, T> rows_;
  score_options<A, T> options_;
  attention_room room_;
  Link link_;
  matrix_rows<const T> values_{nullptr, 0}; ///< of the block; looked up when first wanted
  finiteness finite_ = finiteness::unknown;
  bool streams_keys_ = false;

  struct blocks_of_pass {
    std::size_t first = 0; ///< key
    std::size_t blocks = 1;
  };

  blocks_of_pass pass_;
  std::size_t values_of_ = ~std::size_t{0}; ///< the block whose values are looked up
  bool has_terms_ = false;
  alignas(64) T score_[group_rows * key_block] = {};
};

/// All units of a task.
template <class A, class T, class Link>
XSOFTMAX_FLATTEN void run_attention_units(const attention_task<T>& task) {
  for (std::size_t unit = task.first_unit; unit < task.last_unit; ++unit) {
    attention_unit<A, T, Link>(task, unit).run();
  }
}

/// The factor of the products, by default 1 / sqrt(depth).
template <class A, class T>
XSOFTMAX_STEP double product_scale(const attention_task<T>& task) {
  const double depth = static_cast<double>(task.depth == 0 ? 1 : task.depth);
  const double root = native<A>::square_root(batch<A, double>(depth)).get(0);
  return task.scale == task.scale ? task.scale : 1.0 / root;
}

/// What links share: arrays of a number for each row, and sums that simply add up.
template <class A, class T>
class link_state {
public:
  using N = native<A>;
  using V = batch<A, T>;

  XSOFTMAX_STEP link_state(const attention_task<T>& task, const attention_rows<A, T>& rows, T* state)
      : task_(task), rows_(rows), padded_(attention_room::padded(task.rows_per_tile)), state_(state) {}

  XSOFTMAX_STEP T* array(std::size_t which) const { return state_ + which * padded_; }

  XSOFTMAX_STEP void fill(std::size_t which, T value) const {
    for (std::size_t r = 0; r < rows_.count(); ++r) {
      array(which)[r] = value;
    }
  }

  /// f(i, count) for the rows from i on that share a batch.
  template <class F>
  XSOFTMAX_STEP void for_batches_of_rows(std::size_t rows, F&& f) const {
    static_assert(group_rows % lanes<A, T> == 0); // no batch is shared with another group
    for (std::size_t i = 0; i < rows; i += lanes<A, T>) {
      f(i, rows - i < lanes<A, T> ? rows - i : lanes<A, T>);
    }
  }

  /// x += v, a number for each row.
  XSOFTMAX_STEP void add(T* x, V v) const { N::store(x, N::template load<T>(x) + v); }

  XSOFTMAX_STEP void copy_state(T* to) const {
    for (std::size_t i = 0; i < attention_room::states * padded_; i += lanes<A, T>) {
      N::store(to + i, N::template load<T>(state_ + i));
    }
  }

  /// What is left of a query for the caller: `count` numbers.
  XSOFTMAX_STEP void write_numbers(std::size_t r, const T* numbers, std::size_t count = 1) const {
    position_of<T>(task_.query_number, rows_.entry(), rows_.head(r), rows_.query(r))
        .template write<A>(0, count, numbers);
  }

  /// Rounded once; the factor may lie outside the range of T.
  XSOFTMAX_STEP void scale_query(T* q, double scale) const {
    scale_line<A>(q, attention_room::padded(task_.depth), scale);
  }

  /// total * of_total + sum * of_sum for the values of row r; total + sum for those that are not weighted.
  XSOFTMAX_STEP void merge_values(std::size_t r, const T* sums, std::size_t stride, T* totals, T of_sum,
                                  T of_total) const {
    const std::size_t weighted = attention_room::padded(task_.value_depth);
    for (std::size_t n = 0; n < weighted; n += lanes<A, T>) {
      const V sum = uncontracted(N::template load<T>(sums + r * stride + n) * V(of_sum));
      T* const total = totals + r * stride + n;
      N::store(total, N::multiply_add(N::template load<T>(total), V(of_total), sum));
    }
    for (std::size_t n = weighted; n < stride; n += lanes<A, T>) {
      add(totals + r * stride + n, N::template load<T>(sums + r * stride + n));
    }
  }

protected:
  const attention_task<T>& task_;
  const attention_rows<A, T>& rows_;
  std::size_t padded_;
  T* state_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

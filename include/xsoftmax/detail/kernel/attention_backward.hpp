// SPDX-License-Identifier: MIT
// The gradients of attention, tile by tile: scores of a block of queries with a block of keys once more, the products
// of the outputs' gradients with values, from both the weights p and the slopes ds while they are hot, and three
// products:
//   dq += ds k        dk += ds^T q        dv += p^T dout
// What the kinds of attention differ in is the link:
//   forward                      the forward's link, which prepares queries and keys
//   recall(tile)                 finds again what the forward knew of each query: a few numbers
//   slopes(rows, numbers, scores, dp, visible)   scores become weights and dp slopes; leaves in `visible` the keys
//   whose
//                                values are seen
//   write_number(...)            a query's gradient of what an option has for each
//   finish_query(...), finish_key(...)   from the gradient of what entered the product to that of the argument
//
// Every sum is built from blocks of 64 keys that begin at key 0 or of 48 queries that begin at the first of the heads
// that share keys: a block is one chain, blocks of a segment and segments follow one another. Who sums up which segment
// leaves no trace. A pair that is not seen adds an exact zero to its chains, or nothing.
#pragma once

#include <xsoftmax/detail/attention_backward_task.hpp>
#include <xsoftmax/detail/kernel/attention.hpp>
#include <xsoftmax/math/sigmoid.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The whole block [row][col] as [col][row]; extents are multiples of a line.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void turn(matrix_rows<const T> from, std::size_t rows, std::size_t cols,
                                                     matrix_rows<T> to) {
  using V = batch<A, T>;
  constexpr std::size_t width = lanes<A, T>;
  for (std::size_t r = 0; r < rows; r += width) {
    for (std::size_t c = 0; c < cols; c += width) {
      V square[width];
      unroll<width>([&](auto l) XSOFTMAX_STEP_LAMBDA {
        square[decltype(l)::value] = native<A>::template load<T>(from.from(r + decltype(l)::value, c).data);
      });
      native<A>::transpose(square);
      unroll<width>([&](auto l) XSOFTMAX_STEP_LAMBDA {
        native<A>::store(to.from(c + decltype(l)::value, r).data, square[decltype(l)::value]);
      });
    }
  }
}

/// y += x, n a multiple of a line.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void add_to(T* y, const T* x, std::size_t n) {
  for (std::size_t i = 0; i < n; i += lanes<A, T>) {
    native<A>::store(y + i, native<A>::template load<T>(y + i) + native<A>::template load<T>(x + i));
  }
}

/// x . y over a multiple of a line: 16 chains that are folded by halves.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN T line_product(const T* x, const T* y, std::size_t n) {
  using V = batch<A, T>;
  constexpr std::size_t batches = attention_room::line / lanes<A, T>;
  auto sum = make_pack<batches>([](auto) XSOFTMAX_STEP_LAMBDA { return V(T{}); });
  for (std::size_t i = 0; i < n; i += attention_room::line) {
    unroll<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t at = i + decltype(b)::value * lanes<A, T>;
      V& s = sum.v[decltype(b)::value];
      s = native<A>::multiply_add(native<A>::template load<T>(x + at), native<A>::template load<T>(y + at), s);
    });
  }
  return native<A>::fold_sum(fold_batches(sum, [](V a, V b) XSOFTMAX_STEP_LAMBDA { return a + b; }));
}

/// The sum of a block by halves.
template <class A, class T>
XSOFTMAX_STEP T sum_of_block(const block_pack<A, T>& x) {
  return native<A>::fold_sum(fold_batches(x, [](batch<A, T> a, batch<A, T> b) XSOFTMAX_STEP_LAMBDA { return a + b; }));
}

/// A tile of queries of which the link finds again what the forward knew.
template <class A, class T>
struct recalled_tile {
  const attention_backward_task<T>& task;
  const attention_task<T>& forward; ///< the same with tiles of query_tile queries and a workspace
  std::size_t unit;                 ///< of it
  const attention_rows<A, T>& rows;
  matrix_rows<T> number;         ///< to be set
  matrix_rows<const T> gradient; ///< of the outputs
  matrix_rows<T> out;            ///< room for outputs

  /// The tile's rows of an array, as the forward writes them.
  XSOFTMAX_STEP head_elements<void> addressed(matrix_rows<T> array) const {
    const auto step = static_cast<std::ptrdiff_t>(array.stride);
    const auto head_step = static_cast<std::ptrdiff_t>(task.q_len) * step;
    const std::ptrdiff_t before =
        static_cast<std::ptrdiff_t>(rows.head(0)) * head_step + static_cast<std::ptrdiff_t>(rows.query(0)) * step;
    return {array.data - before, 0, head_step, step, 1, storage_format::native};
  }

  /// Runs the forward's tile, outputs into `out` and what Link leaves of a query into its numbers.
  template <class Link>
  XSOFTMAX_STEP void run(double reweight_power) const {
    attention_task<T> again = forward;
    again.out = addressed(out);
    again.query_number = addressed(number);
    again.reweight_power = reweight_power;
    again.weight_scale = {};
    again.weight_sum = {};
    for (std::size_t r = 0; r < rows.count(); ++r) {
      clear<A>(out.from(r).data, out.stride);
    }
    attention_unit<A, T, Link>(again, unit).run();
  }

  /// What the forward left of row r: its output, and a number.
  XSOFTMAX_STEP void read_saved(std::size_t r, T* to) const {
    const std::size_t b = rows.entry();
    const std::size_t h = rows.head(r);
    const std::size_t i = rows.query(r);
    position_of<T>(task.saved_number, b, h, i).template read<A>(0, 1, to);
    read_position<A>(task.saved_out, b, h, i, task.value_depth, out.from(r).data);
  }

  /// The gradient of the output times the output.
  XSOFTMAX_STEP T gradient_times_out(std::size_t r) const {
    return line_product<A>(gradient.from(r).data, out.from(r).data, out.stride);
  }
};

/// What is known of a block of queries.
struct query_facts {
  key_range some; ///< outside of it no query sees a key
  key_range all;  ///< in it all do, if nothing is hidden
  bool finite_queries;
  bool finite_gradients;
};

/// A block of queries with a block of keys.
struct pair_view {
  key_bits row[query_block]; ///< the keys that a query sees
  std::size_t first_key;     ///< below it no key is seen, and so on
  std::size_t last_key;
  std::size_t first_row;
  std::size_t last_row;
};

/// The queries that share a head of keys.
template <class A, class T, class Link>
class attention_gradients {
public:
  using N = native<A>;
  using V = batch<A, T>;

  XSOFTMAX_STEP attention_gradients(const attention_backward_task<T>& task, std::size_t unit)
      : task_(task), forward_(task), unit_(unit), entry_(unit / task.kv_heads), kv_head_(unit % task.kv_heads),
        group_(task.heads / task.kv_heads), rows_(group_ * task.q_len), tiles_(quotient_up(rows_, query_tile)),
        blocks_(quotient_up(task.kv_len, key_block)), options_(task, entry_),
        room_(longest_segment(), task.depth, task.value_depth, 0, sizeof(T)), link_(task, entry_) {
    forward_.rows_per_tile = query_tile;
    forward_.workspace = at(room_.forward);
    forward_.partial = nullptr;
    forward_.last_segment = 0;
  }

  XSOFTMAX_STEP void run() {
    const std::size_t all = blocks_ * room_.record;
    if (task_.partial == nullptr) {
      T* const totals = at(room_.key_totals);
      clear<A>(totals, all);
      for (std::size_t s = 0; s < task_.segments; ++s) {
        sum_segment(s, totals, true);
      }
      for (std::size_t block = 0; block < blocks_; ++block) {
        write_keys(block, totals + block * room_.record);
      }
    } else if (task_.last_segment != 0) {
      for (std::size_t s = task_.first_segment; s < task_.last_segment; ++s) {
        clear<A>(task_.partial + s * all, all);
        sum_segment(s, task_.partial + s * all, false);
      }
    } else {
      T* const totals = at(room_.block_sums);
      for (std::size_t block = task_.first_block; block < task_.last_block; ++block) {
        clear<A>(totals, room_.record);
        for (std::size_t s = 0; s < task_.segments; ++s) {
          add_to<A>(totals, task_.partial + s * all + block * room_.record, room_.record);
        }
        write_keys(block, totals);
      }
    }
  }

private:
  static XSOFTMAX_STEP std::size_t quotient_up(std::size_t a, std::size_t b) { return a / b + (a % b != 0 ? 1 : 0); }

  XSOFTMAX_STEP std::size_t longest_segment() const {
    const std::size_t longest = task_.tiles_per_segment * query_tile;
    return rows_ < longest ? rows_ : longest;
  }

  XSOFTMAX_STEP T* at(std::size_t offset) const { return task_.workspace + offset; }

  template <class X>
  XSOFTMAX_STEP X* at_as(std::size_t offset) const {
    return reinterpret_cast<X*>(task_.workspace + offset);
  }

  XSOFTMAX_STEP key_range* windows() const { return at_as<key_range>(room_.windows); }

  XSOFTMAX_STEP query_facts* facts() const { return at_as<query_facts>(room_.facts); }

  static_assert(sizeof(key_range) <= 2 * sizeof(std::size_t) && sizeof(query_facts) <= 6 * sizeof(std::size_t));

  // Rows of the segment.
  XSOFTMAX_STEP matrix_rows<T> queries() const { return {at(room_.queries), room_.depth}; }

  XSOFTMAX_STEP matrix_rows<T> gradients() const { return {at(room_.gradients), room_.value_depth}; }

  XSOFTMAX_STEP matrix_rows<T> sums() const { return {at(room_.sums), room_.depth}; }

  XSOFTMAX_STEP matrix_rows<T> totals() const { return {at(room_.totals), room_.depth}; }

  XSOFTMAX_STEP matrix_rows<T> numbers() const {
    return {at(room_.numbers), attention_backward_room::numbers_per_query};
  }

  // The blocks at work.
  XSOFTMAX_STEP matrix_rows<T> weights() const { return {at(room_.weights), key_block}; }

  XSOFTMAX_STEP matrix_rows<T> slopes() const { return {at(room_.slopes), key_block}; }

  XSOFTMAX_STEP matrix_rows<T> turned_weights() const { return {at(room_.turned_weights), query_block}; }

  XSOFTMAX_STEP matrix_rows<T> turned_slopes() const { return {at(room_.turned_slopes), query_block}; }

  static XSOFTMAX_STEP matrix_rows<const T> read_only(matrix_rows<T> x) { return {x.data, x.stride}; }

  XSOFTMAX_STEP std::size_t head(std::size_t row) const { return kv_head_ * group_ + (first_ + row) / task_.q_len; }

  XSOFTMAX_STEP std::size_t query(std::size_t row) const { return (first_ + row) % task_.q_len; }

  static XSOFTMAX_STEP std::size_t batches_of(std::size_t depth) { return quotient_up(depth, lanes<A, T>); }

  XSOFTMAX_STEP std::size_t rows_of_block(std::size_t block) const {
    const std::size_t rest = count_ - block * query_block;
    return rest < query_block ? rest : query_block;
  }

  XSOFTMAX_STEP std::size_t keys_of_block(std::size_t first) const {
    const std::size_t rest = task_.kv_len - first;
    return rest < key_block ? rest : key_block;
  }

  /// All keys with a segment of queries. Records of blocks of keys are summed up in `to`, where they join what is there
  /// or where there are zeros.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_segment(std::size_t s, T* to, bool joins) {
    first_ = s * task_.tiles_per_segment * query_tile;
    count_ = rows_ - first_ < longest_segment() ? rows_ - first_ : longest_segment();
    head_sums_ = task_.head_sums == nullptr ? nullptr : task_.head_sums + (unit_ * task_.segments + s) * group_;
    for (std::size_t h = 0; head_sums_ != nullptr && h < group_; ++h) {
      head_sums_[h] = 0;
    }
    for (std::size_t row = 0; row < count_; row += query_tile) {
      prepare_tile(row);
    }
    const key_range keys = find_facts();
    clear<A>(totals().data, count_ * room_.depth);
    std::size_t first = keys.first / key_block * key_block;
    while (first < keys.last) {
      const std::size_t end = (first / key_segment + 1) * key_segment;
      clear<A>(sums().data, count_ * room_.depth);
      for (; first < end && first < keys.last; first += key_block) {
        T* const total = to + first / key_block * room_.record;
        if (joins) {
          clear<A>(at(room_.block_sums), room_.record);
          sum_block(first, at(room_.block_sums));
          add_to<A>(total, at(room_.block_sums), room_.record);
        } else {
          sum_block(first, total);
        }
      }
      add_to<A>(totals().data, sums().data, count_ * room_.depth);
    }
    write_queries();
  }

  /// Reads queries and gradients, and has the link find its numbers again.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void prepare_tile(std::size_t row) {
    const std::size_t unit = unit_ * tiles_ + (first_ + row) / query_tile;
    const attention_rows<A, T> rows(forward_, unit);
    typename Link::forward link(forward_, rows, options_, at(room_.state));
    for (std::size_t r = 0; r < rows.count(); ++r) {
      T* const q = queries().from(row + r).data;
      read_position<A>(task_.q, entry_, rows.head(r), rows.query(r), task_.depth, q);
      link.prepare_query(r, q);
      read_position<A>(task_.dout, entry_, rows.head(r), rows.query(r), task_.value_depth,
                       gradients().from(row + r).data);
      windows()[row + r] = rows.seen(r);
    }
    link_.recall(recalled_tile<A, T>{task_,
                                     forward_,
                                     unit,
                                     rows,
                                     numbers().from(row),
                                     read_only(gradients().from(row)),
                                     {at(room_.out), room_.value_depth}});
    for (std::size_t r = 0; r < rows.count(); ++r) {
      numbers().from(row + r).data[sees_any] = T{};
    }
  }

  /// Facts of each block; the keys that any query of the segment may see.
  __attribute__((noinline)) XSOFTMAX_FLATTEN key_range find_facts() {
    key_range keys{task_.kv_len, 0};
    for (std::size_t block = 0; block * query_block < count_; ++block) {
      const std::size_t row = block * query_block;
      const std::size_t rows = rows_of_block(block);
      query_facts& fact = facts()[block];
      fact.some = {task_.kv_len, 0};
      fact.all = {0, task_.kv_len};
      for (std::size_t r = row; r < row + rows; ++r) {
        const key_range& seen = windows()[r];
        fact.all.first = seen.first > fact.all.first ? seen.first : fact.all.first;
        fact.all.last = seen.last < fact.all.last ? seen.last : fact.all.last;
        if (seen.first != seen.last) {
          fact.some.first = seen.first < fact.some.first ? seen.first : fact.some.first;
          fact.some.last = seen.last > fact.some.last ? seen.last : fact.some.last;
        }
      }
      fact.finite_queries = all_finite<A>(read_only(queries().from(row)), rows, batches_of(task_.depth));
      fact.finite_gradients = all_finite<A>(read_only(gradients().from(row)), rows, batches_of(task_.value_depth));
      keys.first = fact.some.first < keys.first ? fact.some.first : keys.first;
      keys.last = fact.some.last > keys.last ? fact.some.last : keys.last;
    }
    return keys;
  }

  /// A block of keys with all queries of the segment.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_block(std::size_t first, T* record) {
    const std::size_t count = keys_of_block(first);
    pack_keys<A>(task_.k, entry_, kv_head_, first, count, task_.depth, at(room_.staging), at(room_.keys));
    pack_keys<A>(task_.v, entry_, kv_head_, first, count, task_.value_depth, at(room_.staging), at(room_.values));
    link_.prepare_keys(at(room_.keys), task_.depth, count);
    clear<A>(at(room_.keys) + task_.depth * key_block, (room_.depth - task_.depth) * key_block);
    const std::size_t padded = attention_room::padded(count);
    turn<A>(matrix_rows<const T>{at(room_.keys), key_block}, room_.depth, padded,
            matrix_rows<T>{at(room_.key_rows), room_.depth});
    finite_keys_ = all_finite<A>(key_rows(), count, batches_of(task_.depth));
    for (std::size_t block = 0; block * query_block < count_; ++block) {
      pair_view view;
      if (sees(block, first, count, view)) {
        sum_pair(block, first, count, view, record);
      }
    }
  }

  XSOFTMAX_STEP matrix_rows<const T> key_rows() const { return {at(room_.key_rows), room_.depth}; }

  /// What a block of queries sees of a block of keys; false if nothing.
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool sees(std::size_t block, std::size_t first, std::size_t count,
                                                       pair_view& view) const {
    const query_facts& fact = facts()[block];
    if (fact.some.last <= first || fact.some.first >= first + count) {
      return false;
    }
    const std::size_t rows = rows_of_block(block);
    if (!options_.hide() && fact.all.first <= first && fact.all.last >= first + count) {
      for (std::size_t i = 0; i < rows; ++i) {
        view.row[i] = bits_between<A>(0, count);
      }
      view.first_key = 0;
      view.last_key = count;
      view.first_row = 0;
      view.last_row = rows;
      return true;
    }
    key_bits any = 0;
    view.first_row = rows;
    view.last_row = 0;
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t row = block * query_block + i;
      view.row[i] = bits_of_range<A>(windows()[row], first, count);
      if (options_.hide() && view.row[i] != 0) {
        view.row[i] &= options_.visible(head(row), query(row), first, count);
      }
      if (view.row[i] != 0) {
        view.first_row = i < view.first_row ? i : view.first_row;
        view.last_row = i + 1;
        any |= view.row[i];
      }
    }
    if (any == 0) {
      return false;
    }
    view.first_key = static_cast<std::size_t>(__builtin_ctzll(any));
    view.last_key = key_block - static_cast<std::size_t>(__builtin_clzll(any));
    return true;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_pair(std::size_t block, std::size_t first, std::size_t count,
                                                           pair_view& view, T* record) {
    const std::size_t row = block * query_block;
    const std::size_t rows = rows_of_block(block);
    multiply_with_keys(queries().from(row), task_.depth, at(room_.keys), view, weights());
    multiply_with_keys(gradients().from(row), task_.value_depth, at(room_.values), view, slopes());
    const bool capped = task_.softcap != 0;
    for (std::size_t i = 0; options_.any() && i < rows; ++i) {
      T* const score = weights().from(i).data;
      if (capped) {
        cap_slopes(score, turned_slopes_of(i));
      }
      options_.apply(head(row + i), query(row + i), first, count, score);
    }
    key_bits seen[query_block]; // of values
    for (std::size_t i = 0; i < rows; ++i) {
      seen[i] = view.row[i];
    }
    const std::size_t top = view.first_row;
    link_.slopes(view.last_row - top, numbers().from(row + top), weights().from(top).data, slopes().from(top).data,
                 seen + top);
    if (task_.key_sums != nullptr) {
      for (std::size_t i = view.first_row; i < view.last_row; ++i) {
        add_to<A>(record + key_block * (room_.depth + room_.value_depth), slopes().from(i).data, key_block);
      }
    }
    if (head_sums_ != nullptr) {
      add_head_sums(row, view);
    }
    for (std::size_t i = 0; capped && i < rows; ++i) {
      multiply_slopes(slopes().from(i).data, turned_slopes_of(i), view.row[i]);
    }
    add_to_queries(row, view);
    add_to_keys(view.row, rows, slopes(), turned_slopes(), queries().from(row), facts()[block].finite_queries,
                {record, room_.depth}, task_.depth);
    add_to_keys(seen, rows, weights(), turned_weights(), gradients().from(row), facts()[block].finite_gradients,
                {record + key_block * room_.depth, room_.value_depth}, task_.value_depth);
  }

  /// Room that is free until slopes are turned.
  XSOFTMAX_STEP T* turned_slopes_of(std::size_t i) const { return at(room_.turned_slopes) + i * key_block; }

  /// The products of rows with the keys or values of a block, where any is seen: a chain over the depth, in pieces.
  XSOFTMAX_STEP void multiply_with_keys(matrix_rows<T> rows, std::size_t depth, const T* keys, const pair_view& view,
                                        matrix_rows<T> to) const {
    const std::size_t from = view.first_key / lanes<A, T> * lanes<A, T>;
    const std::size_t batches = quotient_up(view.last_key - from, lanes<A, T>);
    for (std::size_t i = view.first_row; i < view.last_row; i += tile_rows) {
      const std::size_t height = view.last_row - i < tile_rows ? view.last_row - i : tile_rows;
      deep_product<A, T>(height, read_only(rows.from(i)), {keys + from, key_block}, depth, to.from(i, from), batches);
    }
  }

  /// The slope of c tanh(s / c): 1 - tanh(s / c)^2 = 4 sigma(2 s / c) (1 - sigma(2 s / c)).
  __attribute__((noinline)) XSOFTMAX_FLATTEN void cap_slopes(const T* score, T* to) const {
    const V inverse(static_cast<T>(2.0 / task_.softcap));
    store_block<A>(to, map(
                           [&](V s) XSOFTMAX_STEP_LAMBDA {
                             const auto sigma = math::sigmoid_with_complement<A, T>(uncontracted(s * inverse));
                             return V(T{4}) * sigma.value * sigma.complement;
                           },
                           load_block<A, T>(score)));
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void multiply_slopes(T* slope, const T* factor, key_bits visible) const {
    const auto product_of = [](V a, V b) XSOFTMAX_STEP_LAMBDA { return uncontracted(a * b); };
    const auto x = map(product_of, load_block<A, T>(slope), load_block<A, T>(factor));
    store_block<A>(slope, only_visible<A>(x, visible, T{}));
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void add_head_sums(std::size_t row, const pair_view& view) const {
    for (std::size_t i = view.first_row; i < view.last_row; ++i) {
      if (view.row[i] != 0) {
        numbers().from(row + i).data[sees_any] = T{1};
        if constexpr (Link::has_bias) {
          const T sum = sum_of_block<A>(load_block<A, T>(slopes().from(i).data));
          head_sums_[(first_ + row + i) / task_.q_len] += static_cast<double>(sum);
        }
      }
    }
  }

  /// dq += ds k
  XSOFTMAX_STEP void add_to_queries(std::size_t row, const pair_view& view) const {
    for (std::size_t i = view.first_row; i < view.last_row; i += tile_rows) {
      const std::size_t height = view.last_row - i < tile_rows ? view.last_row - i : tile_rows;
      const matrix_rows<T> to = sums().from(row + i);
      if (finite_keys_) {
        product<A, T>(height, read_only(slopes().from(i, view.first_key)), key_rows().from(view.first_key),
                      view.last_key - view.first_key, unchanged<A, T>.entry, to, batches_of(task_.depth));
        continue;
      }
      for (std::size_t l = 0; l < height; ++l) {
        careful_product<A>(slopes().from(i + l).data, 1, view.row[i + l], key_rows(), T{1}, to.from(l).data,
                           batches_of(task_.depth));
      }
    }
  }

  /// to += x^T rows, for x the slopes or the weights of the pairs that are seen.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void add_to_keys(const key_bits* seen, std::size_t count, matrix_rows<T> x,
                                                              matrix_rows<T> turned, matrix_rows<T> rows, bool finite,
                                                              matrix_rows<T> to, std::size_t depth) const {
    key_bits any = 0;
    std::size_t first_row = count;
    std::size_t last_row = 0;
    for (std::size_t i = 0; i < count; ++i) {
      any |= seen[i];
      first_row = seen[i] != 0 && first_row == count ? i : first_row;
      last_row = seen[i] != 0 ? i + 1 : last_row;
    }
    if (any == 0) {
      return;
    }
    const auto first_key = static_cast<std::size_t>(__builtin_ctzll(any));
    const std::size_t last_key = key_block - static_cast<std::size_t>(__builtin_clzll(any));
    if (!finite) {
      for (std::size_t j = first_key; j < last_key; ++j) {
        std::uint64_t by = 0;
        for (std::size_t i = first_row; i < last_row; ++i) {
          by |= (seen[i] >> j & 1) << i;
        }
        careful_product<A>(x.data + j, x.stride, by, read_only(rows), T{1}, to.from(j).data, batches_of(depth));
      }
      return;
    }
    constexpr std::size_t line = attention_room::line;
    const std::size_t top = first_row / line * line;
    const std::size_t left = first_key / line * line;
    turn<A>(read_only(x.from(top, left)), attention_room::padded(last_row) - top,
            attention_room::padded(last_key) - left, turned.from(left, top));
    for (std::size_t j = first_key; j < last_key; j += tile_rows) {
      const std::size_t height = last_key - j < tile_rows ? last_key - j : tile_rows;
      product<A, T>(height, read_only(turned.from(j, first_row)), read_only(rows.from(first_row)), last_row - first_row,
                    unchanged<A, T>.entry, to.from(j), batches_of(depth));
    }
  }

  /// dq of the segment.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write_queries() const {
    for (std::size_t row = 0; row < count_; ++row) {
      T* const total = totals().from(row).data;
      const auto number = numbers().from(row).data;
      const auto q = position_of<T>(task_.q, entry_, head(row), query(row));
      link_.finish_query(q, queries().from(row).data, total, at(room_.staging));
      position_of<T>(task_.dq, entry_, head(row), query(row)).template write<A>(0, task_.depth, total);
      link_.write_number(task_, entry_, head(row), query(row), number);
      if (head_sums_ != nullptr && number[sees_any] != 0) {
        head_sums_[(first_ + row) / task_.q_len] += link_.head_sum(head(row), number);
      }
    }
  }

  /// dk and dv of a block of keys from their sums.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write_keys(std::size_t block, T* record) const {
    const std::size_t first = block * key_block;
    for (std::size_t j = 0; j < keys_of_block(first); ++j) {
      T* const dk = record + j * room_.depth;
      link_.finish_key(position_of<T>(task_.k, entry_, kv_head_, first + j), dk, at(room_.staging));
      position_of<T>(task_.dk, entry_, kv_head_, first + j).template write<A>(0, task_.depth, dk);
      position_of<T>(task_.dv, entry_, kv_head_, first + j)
          .template write<A>(0, task_.value_depth, record + key_block * room_.depth + j * room_.value_depth);
    }
    if (task_.key_sums != nullptr) {
      T* const to = task_.key_sums + (unit_ * blocks_ + block) * key_block;
      store_block<A>(to, load_block<A, T>(record + key_block * (room_.depth + room_.value_depth)));
    }
  }

  /// Number of a query that the links leave to this class: does it see a key?
  static constexpr std::size_t sees_any = attention_backward_room::numbers_per_query - 1;

  const attention_backward_task<T>& task_;
  attention_task<T> forward_;
  std::size_t unit_;
  std::size_t entry_;
  std::size_t kv_head_;
  std::size_t group_;
  std::size_t rows_; ///< all queries of the unit, head by head
  std::size_t tiles_;
  std::size_t blocks_;    ///< of keys
  std::size_t first_ = 0; ///< of the segment
  std::size_t count_ = 0;
  double* head_sums_ = nullptr;
  score_options<A, T> options_;
  attention_backward_room room_;
  Link link_;
  bool finite_keys_ = false;
};

/// All units of a task.
template <class A, class T, class Link>
XSOFTMAX_FLATTEN void run_attention_gradients(const attention_backward_task<T>& task) {
  for (std::size_t unit = task.first_unit; unit < task.last_unit; ++unit) {
    attention_gradients<A, T, Link>(task, unit).run();
  }
}

/// What the links of products that are only scaled share.
template <class A, class T>
class scaled_gradients {
public:
  using N = native<A>;
  using V = batch<A, T>;
  static constexpr bool has_bias = false;

  XSOFTMAX_STEP explicit scaled_gradients(const attention_backward_task<T>& task)
      : scale_(static_cast<T>(product_scale<A, T>(task))), depth_(task.depth) {}

  XSOFTMAX_STEP void prepare_keys(T*, std::size_t, std::size_t) const {}

  /// + 0 makes no zero negative.
  template <class Row>
  XSOFTMAX_STEP void finish_query(const Row&, const T*, T* sum, T*) const {
    for (std::size_t c = 0; c < depth_; c += lanes<A, T>) {
      N::store(sum + c, N::multiply_add(N::template load<T>(sum + c), V(scale_), V(T{})));
    }
  }

  template <class Row>
  XSOFTMAX_STEP void finish_key(const Row&, T*, T*) const {}

  XSOFTMAX_STEP double head_sum(std::size_t, const T*) const { return 0; }

  XSOFTMAX_STEP void write_number(const attention_backward_task<T>&, std::size_t, std::size_t, std::size_t,
                                  const T*) const {}

private:
  T scale_;
  std::size_t depth_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

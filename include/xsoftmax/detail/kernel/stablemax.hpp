// SPDX-License-Identifier: MIT
// StableMax of rows:
//
//   e_i = u s(z_i)          s of stablemax_term.hpp, u a power of two
//   S   = sum of e_i        the tree of softmax (sum.hpp)
//   p_i = e_i * (1 / S)     1 / S as a pair, one rounding
//
// u commutes with every rounding but those of subnormal numbers. The usual one keeps s of the lowest finite z normal;
// where S shows that all of a row lies far out on one side, another takes the whole row into range. So there is nothing
// to find out beforehand, and a row takes two passes: terms stored and scaled, or computed twice.
#pragma once

#include <xsoftmax/detail/kernel/deferred_rows.hpp>
#include <xsoftmax/detail/kernel/stablemax_columns.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// p = e / S as normaliser has it, without the detour that keeps subnormal numbers out.
template <class A, class T>
class unlifted_normaliser {
public:
  XSOFTMAX_STEP explicit unlifted_normaliser(double_pair sum)
      : normalise_(double_pair{sum.high * lift, sum.low * lift}) {}

  XSOFTMAX_STEP batch<A, T> operator()(batch<A, T> e) const { return normalise_.of_lowered(e); }

private:
  static constexpr double lift = power_of_two(normaliser<A, T>::lift_octaves);

  normaliser<A, T> normalise_;
};

/// What the last pass needs to know of a row.
template <class T>
struct stablemax_state {
  double_pair sum; ///< in the unit
  T unit;
  bool is_filled = false; ///< with the value
  T value = T{};

  /// f(step): from a batch of logits to probabilities.
  template <class A, class F>
  XSOFTMAX_STEP void with_step(F&& f) const {
    if (is_filled) [[unlikely]] {
      f([all = batch<A, T>(value)](batch<A, T>) XSOFTMAX_STEP_LAMBDA { return all; });
    } else {
      f([term = stablemax_term<A, T>(unit), normalise = normaliser<A, T>(sum)](batch<A, T> x)
            XSOFTMAX_STEP_LAMBDA { return normalise(term(x)); });
    }
  }
};

/// The passes over one row. In and Out as access.hpp has them.
template <class A, class T, class In, class Out>
class stablemax_row {
public:
  XSOFTMAX_STEP stablemax_row(const stablemax_task<T>& task, In z, Out p) : task_(task), z_(z), p_(p) {}

  XSOFTMAX_STEP void run(bool reload, bool stream) const {
    if constexpr (has_terms) {
      if (reload) {
        stored row;
        if (store_terms(row)) [[likely]] {
          scale(row, stream);
        } else {
          finish_unusual(stream);
        }
        return;
      }
    }
    finish(state(), stream);
  }

  /// What is known of a row whose terms are stored in p.
  struct stored {
    double_pair sum;
    bool is_near; ///< is no part of a probability subnormal?
  };

  /// The first half of run with reload: false if the usual unit does not serve.
  XSOFTMAX_STEP bool store_terms(stored& row) const {
    I farthest(0);
    row.sum = sum_row<true>(Units::usual, farthest);
    row.is_near =
        native<A>::all_below(native<A>::from_bits(farthest), Units::near) && row.sum.high < Units::highest_near;
    return Units::serves(row.sum);
  }

  /// The second half.
  XSOFTMAX_STEP void scale(const stored& row, bool stream) const {
    if (row.is_near) [[likely]] {
      write(unlifted_normaliser<A, T>(row.sum), p_.terms(), stream);
    } else {
      write(normaliser<A, T>(row.sum), p_.terms(), stream);
    }
  }

  XSOFTMAX_STEP void finish_unusual(bool stream) const { finish(unusual(), stream); }

  XSOFTMAX_STEP stablemax_state<T> state() const {
    const double_pair sum = sum_row(Units::usual);
    return Units::serves(sum) ? stablemax_state<T>{sum, Units::usual} : unusual();
  }

  /// One step over a part of a row.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void run(stablemax_step step, stablemax_summary& summary,
                                                      const stablemax_summary* other, bool stream) const {
    exact_sum sum(summary.sum);
    I unused;
    switch (step) {
    case stablemax_step::sum:
      summary.usual = add_blocks<false>(Units::usual, sum, unused) && summary.usual;
      break;
    case stablemax_step::merge:
      summary.usual = summary.usual && other->usual;
      sum.merge(exact_sum(other->sum));
      break;
    case stablemax_step::settle:
      summary.usual = summary.usual && Units::serves(value(sum));
      break;
    default:
      finish({value(sum), Units::usual}, stream);
      break;
    }
    summary.sum = sum.stored();
  }

private:
  using V = batch<A, T>;
  using I = batch<A, bits_t<T>>;
  using Term = stablemax_term<A, T>;
  using Units = stablemax_units<T>;

  /// Terms are off by more than softmax's: their sum must not add to it.
  static constexpr neighbour_sum Neighbours = neighbour_sum::in_double;

  static constexpr bool has_terms = requires(Out p) { p.terms(); };

  /// The sum, and the terms in p if they are stored.
  template <bool Store>
  XSOFTMAX_STEP double_pair sum_row(T unit, I& farthest) const {
    if (task_.cols <= block_size<T>) { // the accumulator would give the same pair
      return block<Store>(Term(unit), 0, task_.cols, farthest);
    }
    exact_sum sum;
    return add_blocks<Store>(unit, sum, farthest) ? value(sum) : double_pair{not_a_number<double>, 0.0};
  }

  XSOFTMAX_STEP double_pair sum_row(T unit) const {
    I farthest;
    return sum_row<false>(unit, farthest);
  }

  /// Of a row without any, 0.
  static XSOFTMAX_STEP double_pair value(const exact_sum& sum) {
    return sum.empty() ? double_pair{0.0, 0.0} : sum.value(0);
  }

  /// False if a block's sum is beyond what may be added.
  template <bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool add_blocks(T unit, exact_sum& sum, I& farthest) const {
    const Term term(unit);
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      const std::size_t last = task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols;
      const double_pair v = block<Store>(term, first, last, farthest);
      if (!Units::may_add(v)) {
        return false;
      }
      sum.add(v, 0);
    }
    return true;
  }

  /// With Store, 1 - z of the lowest z joins `farthest`, as bits.
  template <bool Store>
  XSOFTMAX_STEP double_pair block(const Term& term, std::size_t first, std::size_t last, I& farthest) const {
    typename In::buffer room;
    const auto z = z_.template block<A>(first, last, room);
    if constexpr (Store) {
      I so_far = farthest;
      const double_pair sum =
          add_terms<true, A, T, Neighbours>([&](V x) XSOFTMAX_STEP_LAMBDA { return term(x, so_far); }, z,
                                            p_.terms().from(static_cast<std::ptrdiff_t>(first)), last - first);
      farthest = so_far;
      return sum;
    } else {
      return add_terms<false, A, T, Neighbours>(term, z, contiguous_row<T>{nullptr}, last - first);
    }
  }

  /// The last pass, the terms computed again.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void finish(const stablemax_state<T>& state, bool stream) const {
    state.template with_step<A>([&](const auto& step) XSOFTMAX_STEP_LAMBDA { write(step, z_, stream); });
  }

  template <class Step, class From>
  XSOFTMAX_STEP void write(const Step& step, From from, bool stream) const {
    write_row<A, T>(step, from, p_, task_.cols, stream);
  }

  /// Of a row that the usual unit does not serve. (Its terms may lie in p, but z is still there.)
  __attribute__((noinline)) XSOFTMAX_FLATTEN stablemax_state<T> unusual() const {
    const T largest = maximum<A, T>(z_, 0, task_.cols);
    const T unit = Units::for_maximum(largest);
    const double_pair sum = largest == infinity<T> ? double_pair{not_a_number<double>, 0.0} : sum_row(unit);
    if (sum.high > 0 && Units::may_add(sum)) {
      return {sum, unit};
    }
    const bool is_masked = sum.high == 0;
    const bool zero = is_masked && task_.masked_row == masked_row_policy::zero;
    return {sum, unit, true, zero ? T{} : not_a_number<T>};
  }

  const stablemax_task<T>& task_;
  In z_;
  Out p_;
};

/// Bytes of a row, input and output together, up to which terms are stored: a division less for an element, for one
/// more pass over p, which must stay in the caches.
inline constexpr std::size_t stablemax_reload_bytes = std::size_t{16} << 20;

template <class A, class T>
struct stablemax {
  XSOFTMAX_FLATTEN static void run(const stablemax_task<T>& task) noexcept {
    if (task.cols == 0) {
      return;
    }
    if (has_plain_rows<T>(task.z, task.cols) && has_plain_rows<T>(task.p, task.cols)) {
      rows(task, [](const auto& matrix, std::size_t r) XSOFTMAX_STEP_LAMBDA { return plain_row_of<T>(matrix, r); });
    } else if (are_columns(task.rows, task.z, task.p)) {
      columns(task);
    } else {
      rows(task, [](const auto& matrix, std::size_t r) XSOFTMAX_STEP_LAMBDA { return row_of<T>(matrix, r); });
    }
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void columns(const stablemax_task<T>& task) noexcept {
    for_each_strip<T>(
        task.rows, task.cols,
        [&](std::size_t, std::size_t rows, auto z, auto p)
            XSOFTMAX_STEP_LAMBDA { return stablemax_strip<A, T, decltype(z), decltype(p)>(task, z, p, rows).run(); },
        [&](std::size_t r) XSOFTMAX_STEP_LAMBDA { row(task, row_of<T>(task.z, r), row_of<T>(task.p, r)); }, task.z,
        task.p);
  }

  template <class Access>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void rows(const stablemax_task<T>& task, Access access) noexcept {
    using groups = row_groups<A, T, stablemax_group_terms<A, T>>;
    bool is_grouped = std::is_same_v<decltype(access(task.z, 0)), plain_row<const T>> &&
                      task.cols <= groups::capacity && task.store != store_kind::streaming &&
                      task.step == stablemax_step::all;
    if constexpr (std::is_same_v<decltype(access(task.z, 0)), plain_row<const T>>) {
      if (!is_grouped && task.cols <= block_size<T> && reloads(task) && task.store != store_kind::streaming &&
          task.step == stablemax_step::all) {
        using passes = stablemax_row<A, T, plain_row<const T>, plain_row<T>>;
        using stored = typename passes::stored;
        const auto of_row = [&](std::size_t r)
                                XSOFTMAX_STEP_LAMBDA { return passes(task, access(task.z, r), access(task.p, r)); };
        deferred_rows<stored>(
            task.rows, [&](std::size_t r, stored& row) XSOFTMAX_STEP_LAMBDA { return of_row(r).store_terms(row); },
            [&](std::size_t r, const stored& row) XSOFTMAX_STEP_LAMBDA { of_row(r).scale(row, false); },
            [&](std::size_t r) XSOFTMAX_STEP_LAMBDA { of_row(r).finish_unusual(false); });
        return;
      }
    }
    for (std::size_t r = 0; r < task.rows; ++r) {
      if (is_grouped) {
        r = groups::run(task, stablemax_group_terms<A, T>(), r);
        if (r == task.rows) {
          break;
        }
      }
      row(task, access(task.z, r), access(task.p, r));
    }
  }

  /// Where the row is overwritten, z would be gone if the terms in its place turned out not to serve.
  static XSOFTMAX_STEP bool reloads(const stablemax_task<T>& task) {
    return task.cols * sizeof(T) <= stablemax_reload_bytes / 2 && task.z.data != task.p.data;
  }

  template <class In, class Out>
  static XSOFTMAX_STEP void row(const stablemax_task<T>& task, In z, Out p) noexcept {
    const stablemax_row<A, T, In, Out> passes(task, z, p);
    const bool reload = reloads(task);
    const bool stream = task.store == store_kind::streaming ||
                        (task.store == store_kind::automatic && !reload && task.cols * sizeof(T) >= stream_bytes);
    if (task.step == stablemax_step::all) [[likely]] {
      passes.run(reload, stream);
    } else {
      passes.run(task.step, *task.summary, task.other, stream);
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Softmax down the columns of a row-major matrix, a strip of them at a time: the passes of kernel/softmax.hpp with a
// row to each lane, hence the same bits. Where all logits of a strip are near 0, its terms are all relative to one
// reference, and nothing is clamped: a strip is tried so first.
#pragma once

#include <xsoftmax/detail/kernel/columns.hpp>
#include <xsoftmax/detail/kernel/near_zero.hpp>
#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// One strip of at most strip_rows rows. In and Out give access to elements side by side.
template <class A, class T, class In, class Out>
class softmax_strip {
public:
  XSOFTMAX_STEP softmax_strip(const softmax_task<T>& task, const math::reduction<A, T>& reduction, In z, Out p,
                              std::size_t row, std::size_t rows)
      : task_(task), reduction_(reduction), z_(z), p_(p), row_(row), rows_(rows) {}

  /// state_of_row(r): the state of a row for which no guess serves. False if a row is such that the general passes must
  /// have it; nothing has been overwritten in place then. try_near: is the strip likely to be near 0? Set to false if
  /// it is not.
  template <class State>
  XSOFTMAX_STEP bool run(State&& state_of_row, bool& try_near) {
    // The terms wait in p for the last pass where they stay in a cache, and p is not z.
    stored_ = may_store && (bytes() < streamed_bytes || task_.cols * strip_rows<T> * sizeof(T) <= stored_bytes) &&
              task_.z.data != task_.p.data && task_.store != store_kind::streaming;
    if constexpr (has_near) {
      try_near = try_near && may_be_near_zero() && sum_rows<true>();
      if (try_near) {
        write<true>();
        return true;
      }
    }
    guess();
    sum_rows<false>();
    for (std::size_t r = 0; r < rows_; ++r) {
      if (!settled_[r] && !adopt(r, state_of_row(row_ + r))) {
        return false;
      }
    }
    write<false>();
    return true;
  }

private:
  using V = batch<A, T>;
  using Int = bits_t<T>;
  using I = batch<A, Int>;
  using Power = math::lane_power_bits<A, T, math::balanced_power_table>;
  using Term = math::extended_exp<A, T, true, Power>;
  using NearTerm = math::extended_exp<A, T, false>;
  using Normaliser = normaliser<A, T>;

  static constexpr bool has_near = may_be_near<NearTerm, In>;

  /// Terms are stored as T or not at all.
  static constexpr bool may_store = std::is_same_v<Out, contiguous_row<T>>;

  /// Of a strip's terms, so many that reading them again costs less than computing them again.
  static constexpr std::size_t stored_bytes =
      sizeof(T) == 4 && native<A>::fused ? std::size_t{3} << 19 : std::numeric_limits<std::size_t>::max();

  /// Of a matrix whose last pass goes past the caches.
  static constexpr std::size_t streamed_bytes = std::size_t{8} << 20;

  /// Does the last pass go past the caches? If every batch lies where a streaming store accepts it.
  XSOFTMAX_STEP bool may_stream() const {
    if constexpr (may_store) {
      constexpr std::size_t batch_bytes = lanes<A, T> * sizeof(T);
      const std::size_t stride = static_cast<std::size_t>(task_.p.col_stride) * sizeof(T);
      const bool wanted =
          task_.store == store_kind::streaming || (task_.store == store_kind::automatic && bytes() >= streamed_bytes);
      return wanted && (reinterpret_cast<std::uintptr_t>(p_.data) | stride) % batch_bytes == 0;
    }
    return false;
  }

  /// Of the matrix.
  XSOFTMAX_STEP std::size_t bytes() const { return task_.cols * task_.rows * sizeof(T); }

  /// |z| below which a logit is near 0.
  XSOFTMAX_STEP T reach() const {
    return static_cast<T>(near_octaves<A, T>(task_.cols)) * math::unit_reduction<A, T>().ln2_high;
  }

  /// Is it worth a trial? As far as the rows' first elements say.
  XSOFTMAX_STEP bool may_be_near_zero() const {
    V farthest(T{});
    for_each_chunk<lanes<A, T>, lanes<A, T>>(0, rows_, [&](std::size_t r, auto extent) XSOFTMAX_STEP_LAMBDA {
      farthest = largest_magnitude<A>(load_chunk<A, T>(z_, r, extent, T{}), farthest);
    });
    return task_.temperature == 1.0 && task_.sink == -infinity<double> && native<A>::all_below(farthest, reach());
  }

  /// Each row's terms are relative to its first element's octave, as in any other way over a row.
  XSOFTMAX_STEP void guess() {
    const std::size_t end = whole_batches<A, T>(rows_);
    for (std::size_t r = 0; r < end; ++r) {
      const T first = r < rows_ ? z_.get(r) : T{};
      refer(r, task_.temperature == 1.0 ? guessed_reference<false>(reduction_, first)
                                        : guessed_reference<true>(reduction_, first));
    }
  }

  XSOFTMAX_STEP void refer(std::size_t r, std::int64_t reference) {
    using Bits = std::make_unsigned_t<Int>;
    reference_[r] = reference;
    power_[r] =
        static_cast<Int>(static_cast<Bits>(math::octave_bias<T> - reference) << math::exp_format<T>::fraction_bits);
    lowest_[r] = Term::lowest_logit(reduction_, reference);
    highest_[r] = Term::highest_logit(reduction_, reference);
  }

  /// False if the state is of a kind that has no place here.
  XSOFTMAX_STEP bool adopt(std::size_t r, const row_state<T>& state) {
    if (state.kind == row_kind::filled) {
      reciprocal_high_[r] = state.value;
      reciprocal_low_[r] = state.value;
      return true;
    }
    stored_ = stored_ && reference_[r] == state.reference;
    refer(r, state.reference);
    set_sum(r, state.sum);
    return state.kind == row_kind::regular;
  }

  XSOFTMAX_STEP void set_sum(std::size_t r, double_pair sum) {
    const reciprocal<T> inverse = Normaliser::reciprocal_of(sum);
    reciprocal_high_[r] = inverse.high;
    reciprocal_low_[r] = inverse.low;
  }

  template <class Row, class Void>
  XSOFTMAX_STEP strip_matrix<Row> matrix(Row front, const elements<Void>& m) const {
    return matrix_of<T>(front, m, task_.rows, task_.cols);
  }

  /// What gives the terms of the rows from r on. Near 0 they are lowered, as normaliser has it.
  template <bool Near, std::size_t Rows>
  XSOFTMAX_STEP auto terms_of(std::size_t r) const {
    if constexpr (Near) {
      return NearTerm(math::unit_reduction<A, T>(), usual_reference<T> + Normaliser::lift_octaves);
    } else {
      return make_pack<Rows / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        const std::size_t first = r + decltype(b)::value * lanes<A, T>;
        return Term(reduction_, Power(I::load_unaligned(power_ + first)), native<A>::load(lowest_ + first),
                    native<A>::load(highest_ + first));
      });
    }
  }

  template <std::size_t N>
  static XSOFTMAX_STEP pack<V, N> terms_from(const NearTerm& term, const pack<V, N>& x) {
    return term.above_lowest(x);
  }

  template <std::size_t N>
  static XSOFTMAX_STEP pack<V, N> terms_from(const pack<Term, N>& terms, const pack<V, N>& x) {
    return map([](const Term& term, V v) XSOFTMAX_STEP_LAMBDA { return term.clamped(v); }, terms, x);
  }

  /// What is not there: far away as a term, near as a logit.
  template <bool Near>
  static constexpr T absent = Near ? T{} : -infinity<T>;

  /// The first pass: the sums of all rows, and which of them a guess served. Near: false if a row is not near 0.
  template <bool Near>
  XSOFTMAX_STEP bool sum_rows() {
    return stored_ ? sum_rows<Near, may_store>() : sum_rows<Near, false>();
  }

  template <bool Near, bool Store>
  XSOFTMAX_STEP bool sum_rows() {
    for (std::size_t r = 0; r < rows_; ++r) {
      settled_[r] = reduction_.usable;
    }
    if (task_.cols > block_size<T> || task_.sink != -infinity<double>) {
      return sum_blocks<Near, Store>();
    }
    return sum_only_block<Near, Store>();
  }

  // Out of line: the lanes of a strip take half of the stack that is needed.

  template <bool Near, bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool sum_only_block() {
    column_sum<A, T> block;
    if (!sum_block<Near, Store>(block, 0, task_.cols)) {
      return false;
    }
    if constexpr (Near) {
      return set_sums(block);
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      const double_pair total = block.total(r);
      settled_[r] = settled_[r] && is_low_enough(total.high) && is_high_enough(total.high);
      if (settled_[r]) {
        set_sum(r, total);
      }
    }
    return true;
  }

  /// Several rows at a time; false if one holds a NaN, which is all that near terms can leave outside.
  XSOFTMAX_STEP bool set_sums(const column_sum<A, T>& block) {
    constexpr std::size_t together = lanes<A, double>;
    bool settled = true;
    for (std::size_t r = 0; r < rows_; r += together) {
      const row_totals<batch<A, double>> lowered = block.totals(r);
      const row_totals<batch<A, double>> sum = {lowered.high * near_lift, lowered.low * near_lift};
      settled = settled && native<A>::all_between(sum.high, batch<A, double>(0.0), batch<A, double>(ceiling));
      alignas(64) T inverse[2 * together];
      Normaliser::reciprocals_of(sum, inverse);
      __builtin_memcpy(reciprocal_high_ + r, inverse, sizeof(inverse) / 2);
      __builtin_memcpy(reciprocal_low_ + r, inverse + together, sizeof(inverse) / 2);
    }
    return settled;
  }

  /// The same for rows of several blocks, or with a sink.
  template <bool Near, bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool sum_blocks() {
    column_sum<A, T> block;
    row_sum<A, T> sum[strip_rows<T>];
    double largest[strip_rows<T>] = {}; // of a row's block sums
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      const std::size_t last = task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols;
      if (!sum_block<Near, Store>(block, first, last)) {
        return false;
      }
      for (std::size_t r = 0; r < rows_; ++r) {
        const double_pair in_block = block.total(r);
        const double_pair total = Near ? double_pair{in_block.high * near_lift, in_block.low * near_lift} : in_block;
        settled_[r] = settled_[r] && is_low_enough(total.high);
        if (settled_[r]) {
          sum[r].add(total, Near ? usual_reference<T> : reference_[r]);
          largest[r] = total.high > largest[r] ? total.high : largest[r];
        }
      }
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      settled_[r] = settled_[r] && (Near || is_high_enough(largest[r]));
      if (settled_[r]) {
        row_state<T> state;
        state.reference = Near ? usual_reference<T> : reference_[r];
        complete(state, sum[r], task_.sink, task_.temperature);
        if constexpr (Near) {
          set_sum(r, state.sum);
        } else {
          adopt(r, state);
        }
      } else if (Near) {
        return false;
      }
    }
    return true;
  }

  /// Near: false as soon as a logit is found that is not near 0.
  template <bool Near, bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool sum_block(column_sum<A, T>& block, std::size_t first,
                                                            std::size_t last) const {
    const auto z = matrix(z_, task_.z);
    const auto p = matrix(p_, task_.p);
    const T reach = this->reach();
    V farthest(T{});
    return block.sum_while(
        first, last, rows_,
        [&](const strip_visit& visit, auto extent, auto&& add) XSOFTMAX_STEP_LAMBDA {
          const auto terms = terms_of<Near, decltype(extent)::padded>(visit.r);
          auto z_i = z.template over<A, T>(visit);
          auto p_i = p.template over<A, T>(visit);
          V farthest_here = farthest;
          add([&]() XSOFTMAX_STEP_LAMBDA {
            const auto x = z_i.read(extent, absent<Near>);
            if constexpr (Near) {
              farthest_here = largest_magnitude<A>(x, farthest_here);
            }
            const auto e = terms_from(terms, x);
            if constexpr (Store) {
              p_i.write(extent, e);
            }
            return e;
          });
          farthest = farthest_here;
        },
        [&]() XSOFTMAX_STEP_LAMBDA { return !Near || native<A>::all_below(farthest, reach); });
  }

  /// Does the sum of a block say that no logit was cut off from above?
  static XSOFTMAX_STEP bool is_low_enough(double sum) { return sum < ceiling; }

  static constexpr double ceiling = power_of_two(math::octave_bias<T> + math::headroom<T> - 1);

  /// From a sum of lowered terms to theirs.
  static constexpr double near_lift = power_of_two(Normaliser::lift_octaves);

  /// Does the sum of a block say that no term was cut off that counts? Bounds as in short_row.
  XSOFTMAX_STEP bool is_high_enough(double sum) const {
    constexpr std::size_t block = block_size<T>;
    const auto terms = static_cast<double>(task_.cols < block ? task_.cols : block);
    return sum >= power_of_two(math::octave_bias<T> - reference_slack<T>) * terms;
  }

  /// The last pass.
  template <bool Near>
  XSOFTMAX_STEP void write() const {
    if (stored_) {
      write<Near, may_store, false>();
    } else if (may_stream()) {
      write<Near, false, may_store>();
      native<A>::fence();
    } else {
      write<Near, false, false>();
    }
  }

  /// Stored: from the terms in p. Stream: past the caches.
  template <bool Near, bool Stored, bool Stream>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write() const {
    const auto z = matrix(z_, task_.z);
    const auto p = matrix(p_, task_.p);
    // Streaming stores of whole rows of a strip: memory takes them better than visits.
    walk_strip<A, T, Stream ? 1 : walk_visit>(
        0, task_.cols, rows_, [&](const strip_visit& visit, auto extent, auto&& each) XSOFTMAX_STEP_LAMBDA {
          const auto terms = terms_of<Near, decltype(extent)::padded>(visit.r);
          const auto normalise = normalisers_of<decltype(extent)::padded>(visit.r);
          auto z_i = z.template over<A, T>(visit);
          auto p_i = p.template over<A, T>(visit);
          each([&]() XSOFTMAX_STEP_LAMBDA {
            if constexpr (!Stream) {
              p_i.template prefetch<true>();
            }
            pack<V, decltype(extent)::padded / lanes<A, T>> e;
            if constexpr (Stored) {
              e = p_i.load(extent, T{});
            } else {
              e = terms_from(terms, z_i.read(extent, absent<Near>));
            }
            const auto step = [](const Normaliser& n, V v)
                                  XSOFTMAX_STEP_LAMBDA { return Near ? n.of_lowered(v) : n(v); };
            p_i.template store<Stream>(extent, map(step, normalise, e));
            p_i.next();
          });
        });
  }

  template <std::size_t Rows>
  XSOFTMAX_STEP auto normalisers_of(std::size_t r) const {
    return make_pack<Rows / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t first = r + decltype(b)::value * lanes<A, T>;
      return Normaliser(native<A>::load(reciprocal_high_ + first), native<A>::load(reciprocal_low_ + first));
    });
  }

  const softmax_task<T>& task_;
  const math::reduction<A, T>& reduction_;
  In z_;
  Out p_;
  std::size_t row_;
  std::size_t rows_;
  bool stored_ = false; ///< does p hold the terms?
  std::int64_t reference_[strip_rows<T>];
  alignas(64) Int power_[strip_rows<T>];
  alignas(64) T lowest_[strip_rows<T>];
  alignas(64) T highest_[strip_rows<T>];
  alignas(64) T reciprocal_high_[strip_rows<T>] = {};
  alignas(64) T reciprocal_low_[strip_rows<T>] = {};
  bool settled_[strip_rows<T>] = {}; ///< is the reciprocal known?
};

/// All rows, strip by strip. state_of_row(r): the state of a row for which no guess serves; run_row(r): the whole row.
template <class A, class T, class State, class Row>
XSOFTMAX_STEP void softmax_columns(const softmax_task<T>& task, const math::reduction<A, T>& reduction,
                                   State&& state_of_row, Row&& run_row) {
  bool try_near = true;
  for_each_strip<T>(
      task.rows, task.cols,
      [&](std::size_t first, std::size_t rows, auto z, auto p) XSOFTMAX_STEP_LAMBDA {
        return softmax_strip<A, T, decltype(z), decltype(p)>(task, reduction, z, p, first, rows)
            .run(state_of_row, try_near);
      },
      run_row, task.z, task.p);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

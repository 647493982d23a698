// SPDX-License-Identifier: MIT
// Softmax down the columns of a row-major matrix, a strip of them at a time: the passes of kernel/softmax.hpp with a
// row to each lane, hence the same bits.
#pragma once

#include <xsoftmax/detail/kernel/columns.hpp>
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
  /// have it; nothing has been overwritten in place then.
  template <class State>
  XSOFTMAX_STEP bool run(State&& state_of_row) {
    guess();
    // The terms wait in p for the last pass where they stay in a cache, and p is not z.
    stored_ = may_store && (bytes() < streamed_bytes || task_.cols * strip_rows<T> * sizeof(T) <= stored_bytes) &&
              task_.z.data != task_.p.data && task_.store != store_kind::streaming;
    if (stored_) {
      sum_rows<may_store>();
    } else {
      sum_rows<false>();
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      if (!settled_[r] && !adopt(r, state_of_row(row_ + r))) {
        return false;
      }
    }
    if (stored_) {
      write<may_store, false>();
    } else if (may_stream()) {
      write<false, may_store>();
      native<A>::fence();
    } else {
      write<false, false>();
    }
    return true;
  }

private:
  using V = batch<A, T>;
  using Int = bits_t<T>;
  using I = batch<A, Int>;
  using Power = math::lane_power_bits<A, T, math::balanced_power_table>;
  using Term = math::extended_exp<A, T, true, Power>;

  /// Terms are stored as T or not at all.
  static constexpr bool may_store = std::is_same_v<Out, contiguous_row<T>>;

  /// Of a strip's terms, so many that reading them again costs less than computing them again.
  static constexpr std::size_t stored_bytes =
      sizeof(T) == 4 && native<A>::fused ? std::size_t{3} << 20 : std::numeric_limits<std::size_t>::max();

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
    const reciprocal<T> inverse = normaliser<A, T>::reciprocal_of(sum);
    reciprocal_high_[r] = inverse.high;
    reciprocal_low_[r] = inverse.low;
  }

  template <class Row, class Void>
  XSOFTMAX_STEP strip_matrix<Row> matrix(Row front, const elements<Void>& m) const {
    return matrix_of<T>(front, m, task_.rows, task_.cols);
  }

  /// What gives the terms of the rows from r on.
  template <std::size_t Rows>
  XSOFTMAX_STEP auto terms_of(std::size_t r) const {
    const auto term = [&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t first = r + decltype(b)::value * lanes<A, T>;
      return Term(reduction_, Power(I::load_unaligned(power_ + first)), native<A>::load(lowest_ + first),
                  native<A>::load(highest_ + first));
    };
    return make_pack<Rows / lanes<A, T>>(term);
  }

  /// The first pass: the sums of all rows, and which of them a guess served. Bounds as in short_row.
  template <bool Store>
  XSOFTMAX_STEP void sum_rows() {
    for (std::size_t r = 0; r < rows_; ++r) {
      settled_[r] = reduction_.usable;
    }
    if (task_.cols > block_size<T> || task_.sink != -infinity<double>) {
      sum_blocks<Store>();
    } else {
      sum_only_block<Store>();
    }
  }

  // Out of line: the lanes of a strip take half of the stack that is needed.

  template <bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_only_block() {
    column_sum<A, T> block;
    sum_block<Store>(block, 0, task_.cols);
    for (std::size_t r = 0; r < rows_; ++r) {
      const double_pair total = block.total(r);
      settled_[r] = settled_[r] && is_low_enough(total.high) && is_high_enough(total.high);
      if (settled_[r]) {
        set_sum(r, total);
      }
    }
  }

  /// The same for rows of several blocks, or with a sink.
  template <bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_blocks() {
    column_sum<A, T> block;
    row_sum<A, T> sum[strip_rows<T>];
    double largest[strip_rows<T>] = {}; // of a row's block sums
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      sum_block<Store>(block, first, task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols);
      for (std::size_t r = 0; r < rows_; ++r) {
        const double_pair total = block.total(r);
        settled_[r] = settled_[r] && is_low_enough(total.high);
        if (settled_[r]) {
          sum[r].add(total, reference_[r]);
          largest[r] = total.high > largest[r] ? total.high : largest[r];
        }
      }
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      settled_[r] = settled_[r] && is_high_enough(largest[r]);
      if (settled_[r]) {
        row_state<T> state;
        state.reference = reference_[r];
        complete(state, sum[r], task_.sink, task_.temperature);
        adopt(r, state);
      }
    }
  }

  template <bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_block(column_sum<A, T>& block, std::size_t first,
                                                            std::size_t last) const {
    const auto z = matrix(z_, task_.z);
    const auto p = matrix(p_, task_.p);
    block.sum(first, last, rows_, [&](const strip_visit& visit, auto extent, auto&& add) XSOFTMAX_STEP_LAMBDA {
      const auto terms = terms_of<decltype(extent)::padded>(visit.r);
      auto z_i = z.template over<A, T>(visit);
      auto p_i = p.template over<A, T>(visit);
      add([&]() XSOFTMAX_STEP_LAMBDA {
        const auto e = clamped_terms(terms, z_i.read(extent, -infinity<T>));
        if constexpr (Store) {
          p_i.write(extent, e);
        }
        return e;
      });
    });
  }

  /// Does the sum of a block say that no logit was cut off from above?
  static XSOFTMAX_STEP bool is_low_enough(double sum) {
    return sum < power_of_two(math::octave_bias<T> + math::headroom<T> - 1);
  }

  /// Does the sum of a block say that no term was cut off that counts?
  XSOFTMAX_STEP bool is_high_enough(double sum) const {
    constexpr std::size_t block = block_size<T>;
    const auto terms = static_cast<double>(task_.cols < block ? task_.cols : block);
    return sum >= power_of_two(math::octave_bias<T> - reference_slack<T>) * terms;
  }

  /// The last pass. Stored: from the terms in p. Stream: past the caches.
  template <bool Stored, bool Stream>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write() const {
    const auto z = matrix(z_, task_.z);
    const auto p = matrix(p_, task_.p);
    // Streaming stores of whole rows of a strip: memory takes them better than visits.
    walk_strip<A, T, Stream ? 1 : walk_visit>(
        0, task_.cols, rows_, [&](const strip_visit& visit, auto extent, auto&& each) XSOFTMAX_STEP_LAMBDA {
          const auto terms = terms_of<decltype(extent)::padded>(visit.r);
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
              e = clamped_terms(terms, z_i.read(extent, -infinity<T>));
            }
            p_i.template store<Stream>(extent,
                                       map([](const auto& n, V v) XSOFTMAX_STEP_LAMBDA { return n(v); }, normalise, e));
            p_i.next();
          });
        });
  }

  template <class Terms, std::size_t N>
  static XSOFTMAX_STEP pack<V, N> clamped_terms(const Terms& terms, const pack<V, N>& x) {
    return map([](const Term& term, V v) XSOFTMAX_STEP_LAMBDA { return term.clamped(v); }, terms, x);
  }

  template <std::size_t Rows>
  XSOFTMAX_STEP auto normalisers_of(std::size_t r) const {
    return make_pack<Rows / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      const std::size_t first = r + decltype(b)::value * lanes<A, T>;
      return normaliser<A, T>(native<A>::load(reciprocal_high_ + first), native<A>::load(reciprocal_low_ + first));
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
  for_each_strip<T>(
      task.rows,
      [&](std::size_t first, std::size_t rows, auto z, auto p) XSOFTMAX_STEP_LAMBDA {
        return softmax_strip<A, T, decltype(z), decltype(p)>(task, reduction, z, p, first, rows).run(state_of_row);
      },
      run_row, task.z, task.p);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

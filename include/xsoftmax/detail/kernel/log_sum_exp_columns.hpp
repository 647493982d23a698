// SPDX-License-Identifier: MIT
// log_sum_exp down the columns of a row-major matrix, a strip of them at a time: the blocks of kernel/summary.hpp with
// a row to each lane, hence the same bits.
#pragma once

#include <xsoftmax/detail/kernel/columns.hpp>
#include <xsoftmax/detail/kernel/summary.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A strip of columns: the blocks of all rows together.
template <class A, class T, class In>
class log_sum_exp_strip {
public:
  XSOFTMAX_STEP log_sum_exp_strip(const log_sum_exp_task<T>& task, const math::reduction<A, T>& reduction, In z,
                                  std::size_t rows)
      : task_(task), reduction_(reduction), z_(matrix_of<T>(z, task.z, task.rows, task.cols)), rows_(rows) {}

  /// finish(r, summary) for each row r of the strip; leave(r) for those that must go element by element.
  template <class Finish, class Leave>
  XSOFTMAX_STEP void run(const summary<A, T>& empty, Finish&& finish, Leave&& leave) {
    if (task_.cols <= block_size<T>) {
      only_block(empty, finish);
    } else {
      blocks(empty, finish);
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      if (is_left_[r]) {
        leave(r);
      }
    }
  }

private:
  using V = batch<A, T>;
  using Int = bits_t<T>;
  using I = batch<A, Int>;
  using Power = math::lane_power_bits<A, T, math::power_table>;
  using Term = math::precise_exp<A, T, Power>;

  // Out of line: the lanes of a strip take much of the stack that is needed.

  template <class Finish>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void only_block(const summary<A, T>& empty, Finish& finish) {
    column_sum<A, T> block;
    sum_block(block, 0, task_.cols);
    for (std::size_t r = 0; r < rows_; ++r) {
      if (!is_left_[r]) {
        summary<A, T> row = empty;
        include(row, block, r);
        finish(r, row);
      }
    }
  }

  template <class Finish>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void blocks(const summary<A, T>& empty, Finish& finish) {
    column_sum<A, T> block;
    log_sum_exp_summary stored[strip_rows<T>];
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      sum_block(block, first, task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols);
      for (std::size_t r = 0; r < rows_; ++r) {
        summary<A, T> row = empty.of(stored[r]);
        include(row, block, r);
        stored[r] = row.stored();
      }
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      if (!is_left_[r]) {
        finish(r, empty.of(stored[r]));
      }
    }
  }

  /// The sums of the elements [first, last) other than the maxima, relative to the octaves of those.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_block(column_sum<A, T>& block, std::size_t first,
                                                            std::size_t last) {
    column_maxima<A, T>(m_, z_, first, last, rows_);
    refer();
    block.sum(first, last, rows_, [&](const strip_visit& visit, auto extent, auto&& add) XSOFTMAX_STEP_LAMBDA {
      const std::size_t r = visit.r;
      constexpr std::size_t batches = decltype(extent)::padded / lanes<A, T>;
      const auto m = known<A, decltype(extent)::padded>(m_, r);
      const auto term = make_pack<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        const std::size_t at = r + decltype(b)::value * lanes<A, T>;
        return Term(reduction_, Power(I::load_unaligned(power_ + at)), native<A>::load(lowest_ + at));
      });
      auto count = make_pack<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        return I::load_unaligned(count_ + r + decltype(b)::value * lanes<A, T>);
      });
      auto z = z_.template over<A, T>(visit);
      add([&]() XSOFTMAX_STEP_LAMBDA {
        const auto x = z.read(extent, -infinity<T>);
        return make_pack<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          constexpr std::size_t at = decltype(b)::value;
          return counted_apart<A>(term.v[at](x.v[at], V(T{})), x.v[at], m.v[at], count.v[at]);
        });
      });
      unroll<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        count.v[decltype(b)::value].store_unaligned(count_ + r + decltype(b)::value * lanes<A, T>);
      });
    });
  }

  /// What the maxima of a block say about its terms.
  XSOFTMAX_STEP void refer() {
    using Bits = std::make_unsigned_t<Int>;
    const std::size_t end = whole_batches<A, T>(rows_);
    for (std::size_t r = 0; r < end; ++r) {
      // A block of nothing but -inf has no term, whatever it is relative to; only a NaN would show.
      is_masked_[r] = m_[r] == -infinity<T>;
      m_[r] = is_masked_[r] ? T{} : m_[r];
      octave_[r] = 0;
      if (!is_masked_[r] && !is_regular<true>(reduction_, m_[r], octave_[r])) {
        is_left_[r] = true;
        octave_[r] = 0;
      }
      power_[r] =
          static_cast<Int>(static_cast<Bits>(math::octave_bias<T> - octave_[r]) << math::exp_format<T>::fraction_bits);
      lowest_[r] = Term::lowest_logit(reduction_, octave_[r]);
      count_[r] = 0;
    }
  }

  XSOFTMAX_STEP void include(summary<A, T>& row, const column_sum<A, T>& block, std::size_t r) const {
    const T m = is_masked_[r] ? -infinity<T> : m_[r];
    row.include(m, others_block{block.total(r), static_cast<std::uint64_t>(count_[r])}, octave_[r]);
  }

  const log_sum_exp_task<T>& task_;
  const math::reduction<A, T>& reduction_;
  strip_matrix<In> z_;
  std::size_t rows_;
  std::int64_t octave_[strip_rows<T>];
  alignas(64) T m_[strip_rows<T>];
  alignas(64) T lowest_[strip_rows<T>];
  alignas(64) Int power_[strip_rows<T>];
  alignas(64) Int count_[strip_rows<T>];
  bool is_masked_[strip_rows<T>];
  bool is_left_[strip_rows<T>] = {}; ///< to the general way
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Logarithms of probabilities down the columns of a row-major matrix, a strip of them at a time: the passes of
// kernel/log_row.hpp with a row to each lane, hence the same bits.
#pragma once

#include <xsoftmax/detail/kernel/columns.hpp>
#include <xsoftmax/detail/kernel/log_probability.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A strip of columns. Link as log_row.hpp has it, not one-hot.
template <class A, class T, class Link, class In, class Out>
class log_strip {
public:
  XSOFTMAX_STEP log_strip(const log_softmax_task<T>& task, const Link& link, In z, Out y, std::size_t rows)
      : task_(task), link_(link), z_(matrix_of<T>(z, task.z, task.rows, task.cols)),
        y_(matrix_of<T>(y, task.y, task.rows, task.cols)), rows_(rows) {}

  /// False, with nothing written, if a row is such that its passes must go element by element.
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool run() {
    column_maxima<A, T>(m_, z_, 0, task_.cols, rows_);
    const std::size_t end = whole_batches<A, T>(rows_);
    for (std::size_t r = 0; r < end; ++r) {
      // Rows without a finite maximum get one value: by a sum relative to 0, which NaN and +inf turn into NaN.
      is_filled_[r] = !(m_[r] - m_[r] == 0);
      value_[r] = masked_logarithm(task_);
      m_[r] = is_filled_[r] ? T{} : m_[r];
      if (!link_.serves(m_[r])) {
        return false;
      }
    }
    if (task_.cols <= block_size<T>) {
      only_block();
    } else {
      blocks();
    }
    write();
    return true;
  }

private:
  using V = batch<A, T>;
  using I = batch<A, bits_t<T>>;

  // Out of line: the lanes of a strip take much of the stack that is needed.

  __attribute__((noinline)) XSOFTMAX_FLATTEN void only_block() {
    column_sum<A, T> block;
    sum_block(block, 0, task_.cols);
    for (std::size_t r = 0; r < rows_; ++r) {
      const double_pair total = block.total(r);
      finish(r, scaled(total, -math::octave_bias<T>), static_cast<std::uint64_t>(count_[r]));
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void blocks() {
    column_sum<A, T> block;
    others_sum<T> all[strip_rows<T>];
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      sum_block(block, first, task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols);
      for (std::size_t r = 0; r < rows_; ++r) {
        all[r].add({block.total(r), static_cast<std::uint64_t>(count_[r])});
      }
    }
    for (std::size_t r = 0; r < rows_; ++r) {
      finish(r, all[r].finite ? scaled(all[r].rest, 0) : double_pair{not_a_number<double>, 0.0}, all[r].count);
    }
  }

  /// The sums over a block, and how many elements equal the maxima.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_block(column_sum<A, T>& block, std::size_t first,
                                                            std::size_t last) {
    for (bits_t<T>& count : count_) {
      count = 0;
    }
    block.sum(first, last, rows_, [&](const strip_visit& visit, auto extent, auto&& add) XSOFTMAX_STEP_LAMBDA {
      const std::size_t r = visit.r;
      constexpr std::size_t padded = decltype(extent)::padded;
      const auto terms = link_.terms(known<A, padded>(m_, r));
      auto count = make_pack<padded / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        return I::load_unaligned(count_ + r + decltype(b)::value * lanes<A, T>);
      });
      auto z = z_.template over<A, T>(visit);
      add([&]() XSOFTMAX_STEP_LAMBDA { return terms(z.read(extent, -infinity<T>), count); });
      unroll<padded / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        count.v[decltype(b)::value].store_unaligned(count_ + r + decltype(b)::value * lanes<A, T>);
      });
    });
  }

  XSOFTMAX_STEP void finish(std::size_t r, double_pair rest, std::uint64_t count) {
    log_denominator row{0.0, {0.0, 0.0}};
    if (!(rest.high - rest.high == 0)) {
      is_filled_[r] = true;
      value_[r] = not_a_number<T>;
    } else if (!is_filled_[r]) {
      row = link_.denominator(static_cast<double>(m_[r]), rest, count);
    }
    largest_[r] = row.largest;
    log_sum_high_[r] = row.log_sum.high;
    log_sum_low_[r] = row.log_sum.low;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void write() const {
    const auto any_row = link_.step_of_rows();
    using Step = std::remove_const_t<decltype(any_row)>;
    walk_strip<A, T>(
        0, task_.cols, rows_, [&](const strip_visit& visit, auto extent, auto&& each) XSOFTMAX_STEP_LAMBDA {
          const auto step = make_pack<decltype(extent)::padded / lanes<A, T>>([&](auto b) XSOFTMAX_STEP_LAMBDA {
            const std::size_t at = visit.r + decltype(b)::value * lanes<A, T>;
            return any_row.of_rows(known<A, lanes<A, T>>(largest_, at), known<A, lanes<A, T>>(log_sum_high_, at),
                                   known<A, lanes<A, T>>(log_sum_low_, at));
          });
          auto z = z_.template over<A, T>(visit);
          auto y = y_.template over<A, T>(visit);
          each([&]() XSOFTMAX_STEP_LAMBDA {
            y.write(extent,
                    map([](const Step& f, V v) XSOFTMAX_STEP_LAMBDA { return f(v); }, step, z.read(extent, T{})));
          });
        });
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t i = 0; is_filled_[r] && i < task_.cols; ++i) {
        y_.at(i).set(r, value_[r]);
      }
    }
  }

  const log_softmax_task<T>& task_;
  const Link& link_;
  strip_matrix<In> z_;
  strip_matrix<Out> y_;
  std::size_t rows_;
  alignas(64) T m_[strip_rows<T>];
  alignas(64) bits_t<T> count_[strip_rows<T>];
  alignas(64) double largest_[strip_rows<T>] = {};
  alignas(64) double log_sum_high_[strip_rows<T>] = {};
  alignas(64) double log_sum_low_[strip_rows<T>] = {};
  T value_[strip_rows<T>];
  bool is_filled_[strip_rows<T>]; ///< with the value?
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

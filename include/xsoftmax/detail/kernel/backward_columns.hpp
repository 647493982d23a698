// SPDX-License-Identifier: MIT
// Gradients down the columns of row-major matrices, a strip of them at a time: the passes of kernel/backward.hpp with a
// row to each lane, hence the same bits.
#pragma once

#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/kernel/columns.hpp>
#include <xsoftmax/detail/signed_sum.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

XSOFTMAX_INLINE bool is_finite(double_pair v) {
  return v.high - v.high == 0 && v.low - v.low == 0;
}

/// The two passes over a strip of columns, 0 < T.
template <class A, class T, class Formula, class Y, class DY, class DZ>
class backward_strip {
public:
  XSOFTMAX_INLINE backward_strip(const backward_arguments& task, Y y, DY dy, DZ dz, std::size_t rows)
      : task_(task), y_(matrix_of<T>(y, task.y, task.rows, task.cols)),
        dy_(matrix_of<T>(dy, task.dy, task.rows, task.cols)), dz_(matrix_of<T>(dz, task.dz, task.rows, task.cols)),
        rows_(rows) {}

  /// False, with nothing written, if a sum is not finite or otherwise such that its row must be seen to alone.
  XSOFTMAX_INLINE bool run() {
    const bool served = task_.cols <= block_size<T> ? only_block() : blocks();
    if (served) {
      write();
    }
    return served;
  }

private:
  using D = batch<A, double>;
  using V = batch<A, T>;

  // Out of line: the lanes of a strip take much of the stack that is needed.

  __attribute__((noinline)) bool only_block() {
    column_sum<A, T> block;
    sum_block(block, 0, task_.cols);
    bool served = true;
    for (std::size_t r = 0; r < rows_; ++r) {
      served = served && finish(r, block.total(r));
    }
    return served;
  }

  __attribute__((noinline)) bool blocks() {
    column_sum<A, T> block;
    signed_sum total[strip_rows<T>];
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      sum_block(block, first, task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols);
      for (std::size_t r = 0; r < rows_; ++r) {
        const double_pair v = block.total(r);
        if (!is_finite(v)) {
          return false;
        }
        total[r].add(v);
      }
    }
    bool served = true;
    for (std::size_t r = 0; r < rows_; ++r) {
      served = served && finish(r, total[r].value());
    }
    return served;
  }

  __attribute__((noinline)) void sum_block(column_sum<A, T>& block, std::size_t first, std::size_t last) const {
    const strip_matrix<Y> y = y_;
    const strip_matrix<DY> dy = dy_;
    block.sum(first, last, rows_, [&](std::size_t r, auto extent, auto&& add) XSOFTMAX_LAMBDA {
      add([&](std::size_t i, strip_place ahead) XSOFTMAX_LAMBDA {
        y.template prefetch<A, T>(ahead);
        dy.template prefetch<A, T>(ahead);
        return Formula::terms(load_chunk<A, T>(y.at(i), r, extent, Formula::masked),
                              load_chunk<A, T>(dy.at(i), r, extent, T{}));
      });
    });
  }

  XSOFTMAX_INLINE bool finish(std::size_t r, double_pair total) {
    total_high_[r] = total.high;
    total_low_[r] = total.low;
    return is_finite(total) && Formula::serves(total);
  }

  __attribute__((noinline)) void write() const {
    const Formula any_row({0.0, 0.0}, task_.temperature);
    const strip_matrix<Y> y = y_;
    const strip_matrix<DY> dy = dy_;
    const strip_matrix<DZ> dz = dz_;
    walk_strip<A, T>(0, task_.cols, rows_, [&](std::size_t r, auto extent, auto&& each) XSOFTMAX_LAMBDA {
      constexpr std::size_t batches = decltype(extent)::padded / lanes<A, T>;
      const auto gradient = make_pack<batches>([&](auto b) XSOFTMAX_LAMBDA {
        const std::size_t at = r + decltype(b)::value * lanes<A, T>;
        return any_row.of_rows(known<A, lanes<A, T>>(total_high_, at), known<A, lanes<A, T>>(total_low_, at));
      });
      each([&](std::size_t i, strip_place ahead) XSOFTMAX_LAMBDA {
        y.template prefetch<A, T>(ahead);
        dy.template prefetch<A, T>(ahead);
        dz.template prefetch<A, T, true>(ahead);
        const auto y_i = load_chunk<A, T>(y.at(i), r, extent, Formula::masked);
        const auto dy_i = load_chunk<A, T>(dy.at(i), r, extent, T{});
        store_chunk<A, false, T>(dz.at(i), r, extent, make_pack<batches>([&](auto b) XSOFTMAX_LAMBDA {
                                   constexpr std::size_t at = decltype(b)::value;
                                   return gradient.v[at](y_i.v[at], dy_i.v[at]);
                                 }));
      });
    });
  }

  const backward_arguments& task_;
  strip_matrix<Y> y_;
  strip_matrix<DY> dy_;
  strip_matrix<DZ> dz_;
  std::size_t rows_;
  alignas(64) double total_high_[strip_rows<T>] = {};
  alignas(64) double total_low_[strip_rows<T>] = {};
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

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

/// f of what gives the same gradient with the least work.
template <class Formula, class F>
XSOFTMAX_STEP void with_plainest(const Formula& formula, F&& f) {
  if constexpr (requires { formula.plain(); }) {
    if (formula.is_plain()) {
      f(formula.plain());
      return;
    }
  }
  f(formula);
}

/// Does the formula take the logits, too?
template <class Formula>
inline constexpr bool takes_logits = requires {
  Formula::takes_logits;
};

/// The two passes over a strip of columns, 0 < T. Z: those of the logits, for a formula that takes them.
template <class A, class T, class Formula, class Y, class DY, class DZ, class... Z>
class backward_strip {
public:
  XSOFTMAX_STEP backward_strip(const backward_arguments& task, std::size_t rows, Y y, DY dy, DZ dz, Z... z)
      : task_(task), y_(matrix_of<T>(y, task.y, task.rows, task.cols)),
        dy_(matrix_of<T>(dy, task.dy, task.rows, task.cols)),
        dz_(matrix_of<T>(dz, task.dz, task.rows, task.cols)), z_{{matrix_of<T>(z, task.z, task.rows, task.cols)...}},
        rows_(rows) {}

  /// False, with nothing written, if a sum is not finite or otherwise such that its row must be seen to alone.
  XSOFTMAX_STEP bool run() {
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

  __attribute__((noinline)) XSOFTMAX_FLATTEN bool only_block() {
    column_sum<A, T> block;
    sum_block(block, 0, task_.cols);
    bool served = true;
    for (std::size_t r = 0; r < rows_; ++r) {
      served = served && finish(r, block.total(r));
    }
    return served;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN bool blocks() {
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

  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_block(column_sum<A, T>& block, std::size_t first,
                                                            std::size_t last) const {
    block.sum(first, last, rows_, [&](const strip_visit& visit, auto extent, auto&& add) XSOFTMAX_STEP_LAMBDA {
      auto y = y_.template over<A, T>(visit);
      auto dy = dy_.template over<A, T>(visit);
      add([&]() XSOFTMAX_STEP_LAMBDA {
        const auto y_i = y.read(extent, Formula::masked);
        const auto dy_i = dy.read(extent, T{});
        return Formula::terms(y_i, dy_i);
      });
    });
  }

  XSOFTMAX_STEP bool finish(std::size_t r, double_pair total) {
    total_high_[r] = total.high;
    total_low_[r] = total.low;
    return is_finite(total) && Formula::serves(total);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void write() const {
    with_plainest(Formula({0.0, 0.0}, task_.temperature), [&](const auto& any_row) XSOFTMAX_STEP_LAMBDA {
      walk_strip<A, T>(
          0, task_.cols, rows_, [&](const strip_visit& visit, auto extent, auto&& each) XSOFTMAX_STEP_LAMBDA {
            constexpr std::size_t batches = decltype(extent)::padded / lanes<A, T>;
            const auto gradient = make_pack<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
              const std::size_t at = visit.r + decltype(b)::value * lanes<A, T>;
              return any_row.of_rows(known<A, lanes<A, T>>(total_high_, at), known<A, lanes<A, T>>(total_low_, at));
            });
            auto y = y_.template over<A, T>(visit);
            auto dy = dy_.template over<A, T>(visit);
            auto dz = dz_.template over<A, T>(visit);
            const auto step = [](const auto& f, const auto&... v) XSOFTMAX_STEP_LAMBDA { return f(v...); };
            if constexpr (sizeof...(Z) == 1) {
              auto z = z_.v[0].template over<A, T>(visit);
              each([&]() XSOFTMAX_STEP_LAMBDA {
                const auto y_i = y.read(extent, Formula::masked);
                const auto dy_i = dy.read(extent, T{});
                dz.write(extent, map(step, gradient, y_i, dy_i, z.read(extent, T{})));
              });
            } else {
              each([&]() XSOFTMAX_STEP_LAMBDA {
                const auto y_i = y.read(extent, Formula::masked);
                const auto dy_i = dy.read(extent, T{});
                dz.write(extent, map(step, gradient, y_i, dy_i));
              });
            }
          });
    });
  }

  const backward_arguments& task_;
  strip_matrix<Y> y_;
  strip_matrix<DY> dy_;
  strip_matrix<DZ> dz_;
  pack<strip_matrix<Y>, sizeof...(Z) + 1> z_; // one is unused
  std::size_t rows_;
  alignas(64) double total_high_[strip_rows<T>] = {};
  alignas(64) double total_low_[strip_rows<T>] = {};
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

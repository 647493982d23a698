// SPDX-License-Identifier: MIT
// What the backward passes share: a sum over the row, then a formula of each element and that sum.
//
//   softmax       dz_i = p_i (dp_i - S) / T            S = sum of p_k dp_k
//   log_softmax   dz_i = (dlp_i - exp(lp_i) S) / T     S = sum of dlp_k
//   stablemax     as these with T = 1, divided by 1 + |z_i|
//
// Elements without weight (p = 0, lp = -inf) are masked: they enter no sum, whatever their gradient, and get +0.
//
// A Formula<A, T> says what differs:
//   masked                 what an element without weight holds in y
//   terms(y, dy)           the terms of a chunk, as lanes take them; those of masked elements are zeros
//   term(y, dy)            one of them
//   Formula(S, T)(y, dy)   the gradient of a batch
//   serves(S)              is S such that the formula does not depend on it otherwise?
//   formula.of_rows(S)     then, with an S to each lane
//   takes_logits           is there one? Then Formula(S, T)(y, dy, z) takes them, too
// and, where there is a formula with less work that often serves,
//   formula.is_plain()     does it?
//   formula.plain()        that formula: called in the same way, with of_rows
#pragma once

#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/backward_columns.hpp>
#include <xsoftmax/detail/kernel/row.hpp>
#include <xsoftmax/detail/signed_sum.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The same of one batch.
template <class A>
XSOFTMAX_STEP pack<batch<A, double>, 2> widened(batch<A, float> x) {
  return widened<A>(pack<batch<A, float>, 1>{{x}});
}

/// f of floats and doubles in double, rounded once at the end.
template <class A, class F, class... More>
XSOFTMAX_STEP batch<A, float> in_double(F&& f, batch<A, float> x, batch<A, float> y, const More&... more) {
  const auto result = map(f, widened<A>(x), widened<A>(y), more...);
  return native<A>::narrow(result.v[0], result.v[1]);
}

/// x / T for any T > 0 by two multiplications: the inverse of T as a product of which no part leaves the range.
template <class A>
class divided_by {
public:
  using D = batch<A, double>;

  XSOFTMAX_STEP explicit divided_by(double temperature) {
    const double first = temperature > 0x1p512 ? 0x1p-512 : temperature < 0x1p-512 ? 0x1p512 : 1.0;
    first_ = D(first);
    rest_ = D(1.0 / (temperature * first));
  }

  XSOFTMAX_STEP D operator()(D x) const { return x * first_ * rest_; }

private:
  D first_;
  D rest_;
};

/// In the place of the logits, for a formula that takes none.
struct no_logits {
  using buffer = no_buffer;

  template <class A>
  XSOFTMAX_STEP no_logits block(std::size_t, std::size_t, no_buffer&) const {
    return {};
  }
};

/// The terms of n elements added, at most a block.
template <class A, class T, class Formula>
XSOFTMAX_STEP double_pair sum_of_terms(contiguous_row<const T> y, contiguous_row<const T> dy, std::size_t n) {
  lane_sum<A, T> lanes;
  for_each_chunk<wide_chunk<A, T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    lanes.add(Formula::terms(load_chunk<A, T>(y, i, extent, Formula::masked), load_chunk<A, T>(dy, i, extent, T{})));
  });
  return lanes.total();
}

/// A block of doubles that holds infinities, NaN or products that overflow, or whose lanes overflow: the exceptional
/// terms by IEEE addition, the others exactly.
template <class A, class T, class Formula>
__attribute__((noinline, cold)) XSOFTMAX_FLATTEN void add_one_by_one(signed_sum& total, contiguous_row<const T> y,
                                                                     contiguous_row<const T> dy, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    if (*y.at(i) != Formula::masked) {
      total.add(Formula::term(*y.at(i), *dy.at(i)));
    }
  }
}

/// The terms of n elements, at most a block, join the sum.
template <class A, class T, class Formula>
__attribute__((noinline)) XSOFTMAX_FLATTEN void add_block(signed_sum& total, contiguous_row<const T> y,
                                                          contiguous_row<const T> dy, std::size_t n) {
  const double_pair block = sum_of_terms<A, T, Formula>(y, dy, n);
  if (sizeof(T) == 4 || is_finite(block)) [[likely]] {
    total.add(block);
  } else {
    add_one_by_one<A, T, Formula>(total, y, dy, n);
  }
}

/// The two passes over a row. Both work on any range of it that begins at a multiple of the block: sums of parts are
/// merged, and the result is that of one pass.
template <class A, class T, class Formula, class Y, class DY, class DZ, class Z>
class backward_row {
public:
  XSOFTMAX_STEP backward_row(Y y, DY dy, DZ dz, Z z, double temperature)
      : y_(y), dy_(dy), dz_(dz), z_(z), temperature_(temperature) {}

  XSOFTMAX_STEP void run(std::size_t n) const {
    if (temperature_ == 0) {
      clear(n);
      return;
    }
    write(sum(n), 0, n);
  }

  /// One step over a part of a row, T > 0.
  XSOFTMAX_STEP void run(const backward_arguments& task) const {
    signed_sum total(*task.sum);
    switch (task.step) {
    case backward_step::reduce:
      reduce(total, 0, task.cols);
      break;
    case backward_step::merge:
      total.merge(signed_sum(*task.other));
      break;
    default:
      write(total.value(), 0, task.cols);
      return;
    }
    *task.sum = total.stored();
  }

private:
  XSOFTMAX_STEP double_pair sum(std::size_t n) const {
    if (n <= block_size<T>) { // the accumulator would give the same pair
      const double_pair block = block_sum(0, n);
      if (is_finite(block)) [[likely]] {
        return block;
      }
    }
    signed_sum total;
    reduce(total, 0, n);
    return total.value();
  }

  /// The terms of [first, last) join the sum.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void reduce(signed_sum& total, std::size_t first, std::size_t last) const {
    for (; first < last; first += block_size<T>) {
      const std::size_t end = last - first > block_size<T> ? first + block_size<T> : last;
      with_block(first, end,
                 [&](auto y, auto dy) XSOFTMAX_STEP_LAMBDA { add_block<A, T, Formula>(total, y, dy, end - first); });
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN double_pair block_sum(std::size_t first, std::size_t last) const {
    return with_block(first, last, [&](auto y, auto dy) XSOFTMAX_STEP_LAMBDA {
      return sum_of_terms<A, T, Formula>(y, dy, last - first);
    });
  }

  /// f(y, dy) of at most a block, of either access.
  template <class F>
  XSOFTMAX_STEP auto with_block(std::size_t first, std::size_t last, F&& f) const {
    typename Y::buffer y_room;
    typename DY::buffer dy_room;
    const contiguous_row<const T> y{y_.template block<A>(first, last, y_room).data};
    const contiguous_row<const T> dy{dy_.template block<A>(first, last, dy_room).data};
    return f(y, dy);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void write(double_pair total, std::size_t first, std::size_t last) const {
    with_plainest(Formula(total, temperature_), [&](const auto& gradient) XSOFTMAX_STEP_LAMBDA {
      for_each_piece<T>(dz_, first, last, [&](std::size_t begin, std::size_t end) XSOFTMAX_STEP_LAMBDA {
        typename Y::buffer y_room;
        typename DY::buffer dy_room;
        typename DZ::buffer dz_room;
        typename Z::buffer z_room;
        const auto y = y_.template block<A>(begin, end, y_room);
        const auto dy = dy_.template block<A>(begin, end, dy_room);
        const auto z = z_.template block<A>(begin, end, z_room);
        const auto dz = dz_.target(begin, dz_room);
        for_each_chunk<wide_chunk<A, T>, lanes<A, T>>(
            0, end - begin, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
              const auto y_i = load_chunk<A, T>(y, i, extent, Formula::masked);
              const auto dy_i = load_chunk<A, T>(dy, i, extent, T{});
              if constexpr (takes_logits<Formula>) {
                store_chunk<A, false, T>(dz, i, extent, map(gradient, y_i, dy_i, load_chunk<A, T>(z, i, extent, T{})));
              } else {
                store_chunk<A, false, T>(dz, i, extent, map(gradient, y_i, dy_i));
              }
            });
        dz_.template commit<A>(begin, end, dz_room);
      });
    });
  }

  /// T = 0: the forward pass is piecewise constant.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void clear(std::size_t n) const {
    for_each_piece<T>(dz_, 0, n, [&](std::size_t begin, std::size_t end) XSOFTMAX_STEP_LAMBDA {
      typename DZ::buffer dz_room;
      fill<A, T>(dz_.target(begin, dz_room), end - begin, T{});
      dz_.template commit<A>(begin, end, dz_room);
    });
  }

  Y y_;
  DY dy_;
  DZ dz_;
  Z z_;
  double temperature_;
};

/// run(passes) over one row: row(m) is that of a matrix.
template <class A, class T, class Formula, class Row, class Run>
XSOFTMAX_STEP void one_backward_row(const backward_arguments& task, Row&& row, Run&& run) {
  const auto logits = [&]() XSOFTMAX_STEP_LAMBDA {
    if constexpr (takes_logits<Formula>) {
      return row(task.z);
    } else {
      return no_logits{};
    }
  };
  using In = decltype(row(task.y));
  using Out = decltype(row(task.dz));
  run(backward_row<A, T, Formula, In, In, Out, decltype(logits())>(row(task.y), row(task.dy), row(task.dz), logits(),
                                                                   task.temperature));
}

/// f(matrices of the task): the logits among them, if the formula takes them.
template <class Formula, class F>
XSOFTMAX_INLINE decltype(auto) with_matrices(const backward_arguments& task, F&& f) {
  if constexpr (takes_logits<Formula>) {
    return f(task.y, task.dy, task.dz, task.z);
  } else {
    return f(task.y, task.dy, task.dz);
  }
}

/// The rows of a task side by side.
template <class A, class T, class Formula>
__attribute__((noinline)) XSOFTMAX_FLATTEN void backward_columns(const backward_arguments& task) noexcept {
  with_matrices<Formula>(task, [&](const auto&... matrix) XSOFTMAX_STEP_LAMBDA {
    for_each_strip<T>(
        task.rows, task.cols,
        [&](std::size_t, std::size_t rows, auto... columns) XSOFTMAX_STEP_LAMBDA {
          return backward_strip<A, T, Formula, decltype(columns)...>(task, rows, columns...).run();
        },
        [&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
          one_backward_row<A, T, Formula>(
              task, [&](const auto& m) XSOFTMAX_STEP_LAMBDA { return row_of<T>(m, r); },
              [&](const auto& passes) XSOFTMAX_STEP_LAMBDA { passes.run(task.cols); });
        },
        matrix...);
  });
}

/// The rows of a task, by what is nearest at hand.
template <class A, class T, class Formula>
XSOFTMAX_STEP void backward_rows(const backward_arguments& task) noexcept {
  if (task.cols == 0) {
    return;
  }
  const auto each_row = [&](auto&& row) XSOFTMAX_STEP_LAMBDA {
    for (std::size_t r = 0; r < task.rows; ++r) {
      one_backward_row<A, T, Formula>(
          task, [&](const auto& m) XSOFTMAX_STEP_LAMBDA { return row(m, r); },
          [&](const auto& passes) XSOFTMAX_STEP_LAMBDA {
            if (task.step == backward_step::all) [[likely]] {
              passes.run(task.cols);
            } else {
              passes.run(task);
            }
          });
    }
  };
  const bool plain = with_matrices<Formula>(
      task, [&](const auto&... m) XSOFTMAX_STEP_LAMBDA { return (has_plain_rows<T>(m, task.cols) && ...); });
  const bool side_by_side =
      with_matrices<Formula>(task, [&](const auto&... m) XSOFTMAX_STEP_LAMBDA { return are_columns(task.rows, m...); });
  if (plain) {
    each_row([](const auto& m, std::size_t r) XSOFTMAX_STEP_LAMBDA { return plain_row_of<T>(m, r); });
  } else if (side_by_side && task.temperature != 0) {
    backward_columns<A, T, Formula>(task);
  } else {
    each_row([](const auto& m, std::size_t r) XSOFTMAX_STEP_LAMBDA { return row_of<T>(m, r); });
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

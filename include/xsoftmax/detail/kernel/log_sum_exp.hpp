// SPDX-License-Identifier: MIT
// log_sum_exp of the rows of a matrix, and the steps of a state.
#pragma once

#include <xsoftmax/detail/kernel/log_sum_exp_columns.hpp>
#include <xsoftmax/detail/kernel/summary.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
struct log_sum_exp {
  XSOFTMAX_FLATTEN static void run(const log_sum_exp_task<T>& task) noexcept {
    const auto reduction = math::make_reduction<A, T>(task.temperature);
    const summary<A, T> empty({}, task.temperature);
    if (has_plain_rows<T>(task.z, task.cols)) {
      for (std::size_t r = 0; r < task.rows; ++r) {
        row(task, reduction, empty, plain_row_of<T>(task.z, r), r);
      }
    } else if (are_columns(task.rows, task.z)) {
      columns(task, reduction, empty);
    } else {
      for (std::size_t r = 0; r < task.rows; ++r) {
        row(task, reduction, empty, row_of<T>(task.z, r), r);
      }
    }
  }

private:
  template <class Row>
  static XSOFTMAX_STEP void row(const log_sum_exp_task<T>& task, const math::reduction<A, T>& reduction,
                                const summary<A, T>& empty, Row z, std::size_t r) noexcept {
    summary<A, T> row = empty;
    row.template push<wanted::others>(reduction, z, task.cols);
    finish(task, r, row);
  }

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void columns(const log_sum_exp_task<T>& task,
                                                                 const math::reduction<A, T>& reduction,
                                                                 const summary<A, T>& empty) noexcept {
    for_each_strip<T>(
        task.rows, task.cols,
        [&](std::size_t first, std::size_t rows, auto z) XSOFTMAX_STEP_LAMBDA {
          log_sum_exp_strip<A, T, decltype(z)>(task, reduction, z, rows)
              .run(
                  empty,
                  [&](std::size_t r, const summary<A, T>& row) XSOFTMAX_STEP_LAMBDA { finish(task, first + r, row); },
                  [&](std::size_t r)
                      XSOFTMAX_STEP_LAMBDA { row(task, reduction, empty, row_of<T>(task.z, first + r), first + r); });
          return true;
        },
        [](std::size_t) XSOFTMAX_STEP_LAMBDA {}, task.z);
  }

  /// The value of row r, once all its elements have been seen.
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void finish(const log_sum_exp_task<T>& task, std::size_t r,
                                                                summary<A, T> row) noexcept {
    if (task.sink != -infinity<double>) {
      row.include(task.sink, 1, exact_sum());
    }
    const auto out = row_of<T>(task.out, 0);
    block_buffer<T> room;
    *out.target(r, room).at(0) = row.value();
    out.template commit<A>(r, r + 1, room);
  }
};

template <class A, class T>
struct log_sum_exp_state {
  using step = typename log_sum_exp_state_task<T>::step;

  XSOFTMAX_FLATTEN static void run(const log_sum_exp_state_task<T>& task) noexcept {
    summary<A, T> state(task.what == step::value ? *task.other : *task.state, task.temperature);
    switch (task.what) {
    case step::push:
      push<wanted::both>(state, task);
      break;
    case step::push_terms:
      push<wanted::terms>(state, task);
      break;
    case step::merge:
      state.merge(*task.other);
      break;
    case step::value:
      if (task.sink != -infinity<double>) {
        state.include(task.sink, 1, exact_sum());
      }
      *task.value = state.value();
      return;
    }
    *task.state = state.stored();
  }

private:
  template <wanted What>
  static XSOFTMAX_STEP void push(summary<A, T>& state, const log_sum_exp_state_task<T>& task) noexcept {
    const auto reduction = math::make_reduction<A, T>(task.temperature);
    if (has_plain_rows<T>(task.z, task.cols)) {
      state.template push<What>(reduction, plain_row_of<T>(task.z, 0), task.cols);
    } else {
      state.template push<What>(reduction, row_of<T>(task.z, 0), task.cols);
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// y = softmax((z + g) / T) and the place of the largest z + g, and the gradient from the same noise.
//
// The perturbed logits of a short row lie in a buffer, those of a long one go into y, where softmax takes them in
// place. Where y cannot hold them, in halves, they are made again for each pass, block by block.
#pragma once

#include <xsoftmax/detail/kernel/log_sum_exp.hpp>
#include <xsoftmax/detail/kernel/sample.hpp>
#include <xsoftmax/detail/kernel/softmax_backward.hpp>
#include <xsoftmax/detail/kernel/softmax_of_row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The logits of one row, perturbed, as often as they are asked for.
template <class A, class T>
class perturbed_row {
public:
  perturbed_row(const noise_key& key, const source& z, std::size_t n)
      : noise_(key), index_(key.index), z_(row_of<T>(z, 0)), n_(n) {}

  /// body(first, last) after each block: its perturbed logits are at target(first).
  template <class Target, class Body>
  XSOFTMAX_STEP void for_each(Target&& target, Body&& body) {
    for_each_piece<T>(z_, 0, n_, [&](std::size_t first, std::size_t last) {
      T* const x = target(first);
      perturb<A, T>(noise_, index_, z_.template block<A>(first, last, z_room_).data, x, first, last, largest_);
      body(first, last);
    });
  }

  /// The same with the block in this object's own room: body(x, first, last).
  template <class Body>
  XSOFTMAX_STEP void for_each(Body&& body) {
    for_each([&](std::size_t) { return x_room_.element; },
             [&](std::size_t first, std::size_t last) { body(x_room_.element, first, last); });
  }

  /// What softmax must know of the row.
  __attribute__((noinline)) XSOFTMAX_FLATTEN log_sum_exp_summary summary(double temperature) {
    log_sum_exp_summary whole;
    for_each([&](T* x, std::size_t first, std::size_t last) {
      using task = log_sum_exp_state_task<T>;
      log_sum_exp_state<A, T>::run(task{.what = task::step::push_terms,
                                        .state = &whole,
                                        .temperature = temperature,
                                        .z = source_at(x),
                                        .cols = last - first});
    });
    return whole;
  }

  /// The place of the largest, once all have been seen.
  std::size_t place() const { return largest_.place(); }

private:
  row_noise<A, T, noise_kind::gumbel> noise_;
  std::uint64_t index_;
  any_row<T, const void> z_;
  std::size_t n_;
  largest_element<A, T> largest_;
  block_buffer<T> z_room_;
  block_buffer<T> x_room_;
};

/// The index of a hard row, `one` there and `zero` elsewhere; NaN where there is none.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void write_one(const gumbel_softmax_task<T>& task, T one, T zero) {
  sample<A, T>::run(sample_task<T>{
      .key = task.key, .z = task.z, .rows = 1, .cols = task.cols, .temperature = 1.0, .indices = task.indices});
  const std::size_t place = *task.indices.data;
  const T elsewhere = place == npos ? static_cast<T>(__builtin_nanf("")) : zero;
  const any_row<T, void> y = row_of<T>(task.y, 0);
  block_buffer<T> room;
  for_each_piece<T>(y, 0, task.cols, [&](std::size_t first, std::size_t last) {
    T* const target = y.target(first, room).data;
    for (std::size_t i = first; i < last; ++i) {
      target[i - first] = i == place ? one : elsewhere;
    }
    y.template commit<A>(first, last, room);
  });
}

/// The rows of a task with their keys: soft(row), or where it is hard `one` at the index and `zero` elsewhere.
template <class A, class T, class Soft>
XSOFTMAX_STEP void for_each_perturbed(const gumbel_softmax_task<T>& task, T one, T zero, Soft&& soft) {
  for (std::size_t r = 0; r < task.rows; ++r) {
    gumbel_softmax_task<T> row = task;
    row.key.row += r;
    row.z = rows_from<T>(task.z, r);
    row.y = rows_from<T>(task.y, r);
    row.indices = task.indices.from(r);
    if (task.hard || task.temperature == 0) {
      write_one<A, T>(row, one, zero);
    } else {
      soft(row);
    }
  }
}

/// One row: whole(perturbed) takes all perturbed logits to y, and may find them there; by_blocks(row) does where they
/// have no place.
template <class A, class T, class Whole, class ByBlocks>
XSOFTMAX_STEP void transform_perturbed(const gumbel_softmax_task<T>& task, Whole&& whole, ByBlocks&& by_blocks) {
  perturbed_row<A, T> row(task.key, task.z, task.cols);
  if (task.cols <= block_size<T>) {
    // From one place to another softmax is faster than in place.
    row.for_each([&](T* x, std::size_t, std::size_t) { whole(source_at(x)); });
  } else if (task.y.format == storage_format::native) {
    const any_row<T, void> y = row_of<T>(task.y, 0);
    block_buffer<T> room;
    row.for_each([&](std::size_t first) { return y.target(first, room).data; },
                 [&](std::size_t first, std::size_t last) { y.template commit<A>(first, last, room); });
    whole(source{task.y.data, task.y.row_stride, task.y.col_stride, task.y.format});
  } else {
    by_blocks(row);
  }
  task.indices.set(0, row.place());
}

template <class A, class T>
struct gumbel_softmax {
  XSOFTMAX_FLATTEN static void run(const gumbel_softmax_task<T>& task) noexcept {
    for_each_perturbed<A, T>(task, T{1}, T{0}, [](const gumbel_softmax_task<T>& row) { soft(row); });
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void soft(const gumbel_softmax_task<T>& task) noexcept {
    transform_perturbed<A, T>(
        task, [&](const source& x) { softmax<A, T>::run(softmax_of_row<T>(x, task.y, task.cols, task.temperature)); },
        [&](perturbed_row<A, T>& row) {
          log_sum_exp_summary whole = row.summary(task.temperature);
          row.for_each([&](T* x, std::size_t first, std::size_t last) {
            softmax<A, T>::run(softmax_of_row<T>(source_at(x), elements_from<T>(task.y, 0, first), last - first,
                                                 task.temperature, &whole));
          });
        });
  }
};

template <class A, class T>
struct gumbel_softmax_backward {
  XSOFTMAX_FLATTEN static void run(const gumbel_softmax_backward_task<T>& task) noexcept {
    if (task.temperature == 0) { // whatever y is
      softmax_backward<A, T>::run(
          {{.y = task.dy, .dy = task.dy, .dz = task.dz, .rows = task.rows, .cols = task.cols, .temperature = 0.0}});
      return;
    }
    for (std::size_t r = 0; r < task.rows; ++r) {
      gumbel_softmax_backward_task<T> row = task;
      row.key.row += r;
      row.z = rows_from<T>(task.z, r);
      row.dy = rows_from<T>(task.dy, r);
      row.dz = rows_from<T>(task.dz, r);
      row.rows = 1;
      if (task.dz.format == storage_format::native && task.dz.data != task.dy.data) {
        by_y_in_dz(row);
      } else {
        by_blocks(row);
      }
    }
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void
  by_y_in_dz(const gumbel_softmax_backward_task<T>& task) noexcept {
    std::size_t place;
    gumbel_softmax<A, T>::run({.key = task.key,
                               .z = task.z,
                               .y = task.dz,
                               .rows = 1,
                               .cols = task.cols,
                               .temperature = task.temperature,
                               .indices = {&place, 1},
                               .hard = false});
    softmax_backward<A, T>::run({{.y = {task.dz.data, task.dz.row_stride, task.dz.col_stride, task.dz.format},
                                  .dy = task.dy,
                                  .dz = task.dz,
                                  .rows = 1,
                                  .cols = task.cols,
                                  .temperature = task.temperature}});
  }

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void
  by_blocks(const gumbel_softmax_backward_task<T>& task) noexcept {
    perturbed_row<A, T> row(task.key, task.z, task.cols);
    log_sum_exp_summary whole = row.summary(task.temperature);
    signed_sum_digits sum;
    const auto step = [&](backward_step what) {
      row.for_each([&](T* x, std::size_t first, std::size_t last) {
        softmax<A, T>::run(softmax_of_row<T>(source_at(x), destination_at(x), last - first, task.temperature, &whole));
        softmax_backward<A, T>::run({{.y = source_at(x),
                                      .dy = elements_from<T>(task.dy, 0, first),
                                      .dz = elements_from<T>(task.dz, 0, first),
                                      .rows = 1,
                                      .cols = last - first,
                                      .temperature = task.temperature,
                                      .step = what,
                                      .sum = &sum}});
      });
    };
    step(backward_step::reduce);
    step(backward_step::write);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

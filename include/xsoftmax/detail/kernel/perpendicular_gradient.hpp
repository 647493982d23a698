// SPDX-License-Identifier: MIT
// The passes of g - (w.g / w.w) w, in double from end to end; sums as everywhere (sum.hpp), row by row.
#pragma once

#include <xsoftmax/detail/kernel/backward.hpp>
#include <xsoftmax/detail/perpendicular_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
struct perpendicular_gradient {
  using V = batch<A, T>;
  using D = batch<A, double>;

  XSOFTMAX_FLATTEN static void run(const perpendicular_gradient_task<T>& task) noexcept {
    switch (task.step) {
    case perpendicular_step::products:
      add(task, 3, [](auto& lanes, const auto& w, const auto& g) XSOFTMAX_STEP_LAMBDA {
        lanes[0].add(products(w, w));
        lanes[1].add(products(w, g));
        lanes[2].add(products(g, g));
      });
      break;
    case perpendicular_step::rest: {
      const D coefficient(task.coefficient);
      add(task, 1, [=](auto& lanes, const auto& w, const auto& g) XSOFTMAX_STEP_LAMBDA {
        const auto rest = map(
            [=](D x, D y) XSOFTMAX_STEP_LAMBDA { return native<A>::negative_multiply_add(coefficient, x, y); }, w, g);
        lanes[0].add(products(rest, rest));
      });
      break;
    }
    case perpendicular_step::merge:
      for (std::size_t i = 0; i < 3; ++i) {
        signed_sum sum(task.sum[i]);
        sum.merge(signed_sum(task.other[i]));
        task.sum[i] = sum.stored();
      }
      break;
    case perpendicular_step::values:
      for (std::size_t i = 0; i < 3; ++i) {
        task.value[i] = signed_sum(task.sum[i]).value().high;
      }
      break;
    case perpendicular_step::write:
      write(task);
      break;
    }
  }

private:
  static constexpr std::size_t parts = sizeof(double) / sizeof(T);

  /// Exact for floats; contraction with the addition that follows changes nothing there.
  template <std::size_t N>
  static XSOFTMAX_STEP auto products(const pack<D, N>& x, const pack<D, N>& y) {
    return map([](D a, D b) XSOFTMAX_STEP_LAMBDA { return uncontracted(a * b); }, x, y);
  }

  /// step(lanes, w, g) on chunks in double, then the blocks' sums join those of the task.
  template <class Step>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void add(const perpendicular_gradient_task<T>& task,
                                                             std::size_t sums, Step step) noexcept {
    signed_sum total[3];
    for (std::size_t i = 0; i < sums; ++i) {
      total[i] = signed_sum(task.sum[i]);
    }
    for (std::size_t r = 0; r < task.rows; ++r) {
      const any_row<T, const void> w = row_of<T>(task.w, r);
      const any_row<T, const void> g = row_of<T>(task.g, r);
      for_each_piece<T>(w, 0, task.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
        block_buffer<T> w_room;
        block_buffer<T> g_room;
        const auto w_block = w.template block<A>(first, last, w_room);
        const auto g_block = g.template block<A>(first, last, g_room);
        lane_sum<A, T> lanes[3];
        for_each_chunk<wide_chunk<A, T>, group_size<T>>(
            0, last - first, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
              step(lanes, in_doubles<A>(load_chunk<A, T>(w_block, i, extent, T{})),
                   in_doubles<A>(load_chunk<A, T>(g_block, i, extent, T{})));
            });
        for (std::size_t i = 0; i < sums; ++i) {
          total[i].add(lanes[i].total());
        }
      });
    }
    for (std::size_t i = 0; i < sums; ++i) {
      task.sum[i] = total[i].stored();
    }
  }

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void write(const perpendicular_gradient_task<T>& task) noexcept {
    const D coefficient(task.coefficient);
    const D scale(task.scale);
    const auto rest = [=](D w, D g)
                          XSOFTMAX_STEP_LAMBDA { return scale * native<A>::negative_multiply_add(coefficient, w, g); };
    for (std::size_t r = 0; r < task.rows; ++r) {
      const any_row<T, const void> w = row_of<T>(task.w, r);
      const any_row<T, const void> g = row_of<T>(task.g, r);
      const any_row<T, void> out = row_of<T>(task.out, r);
      for_each_piece<T>(w, 0, task.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
        block_buffer<T> w_room;
        block_buffer<T> g_room;
        block_buffer<T> out_room;
        const auto w_block = w.template block<A>(first, last, w_room);
        const auto g_block = g.template block<A>(first, last, g_room);
        const auto target = out.target(first, out_room);
        for_each_chunk<lanes<A, T>, lanes<A, T>>(0, last - first, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
          const auto y = map(rest, in_doubles<A>(load_chunk<A, T>(w_block, i, extent, T{})),
                             in_doubles<A>(load_chunk<A, T>(g_block, i, extent, T{})));
          if constexpr (parts == 2) {
            store_chunk<A, false, T>(target, i, extent, pack<V, 1>{{native<A>::narrow(y.v[0], y.v[1])}});
          } else {
            store_chunk<A, false, T>(target, i, extent, y);
          }
        });
        out.template commit<A>(first, last, out_room);
      });
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

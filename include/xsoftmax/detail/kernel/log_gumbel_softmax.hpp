// SPDX-License-Identifier: MIT
// y = log_softmax((z + g) / T) and the place of the largest z + g.
#pragma once

#include <xsoftmax/detail/kernel/gumbel_softmax.hpp>
#include <xsoftmax/detail/kernel/log_softmax.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
struct log_gumbel_softmax {
  XSOFTMAX_FLATTEN static void run(const log_gumbel_softmax_task<T>& task) noexcept {
    for_each_perturbed<A, T>(task, T{0}, -infinity<T>, [](const gumbel_softmax_task<T>& row) { soft(row); });
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void soft(const gumbel_softmax_task<T>& task) noexcept {
    const auto logarithms = [&](const source& x, std::size_t first, std::size_t last,
                                log_softmax_step step = log_softmax_step::all, log_softmax_summary* summary = nullptr) {
      log_softmax<A, T>::run({.z = x,
                              .y = elements_from<T>(task.y, 0, first),
                              .rows = 1,
                              .cols = last - first,
                              .temperature = task.temperature,
                              .sink = -infinity<double>,
                              .masked_row = masked_row_policy::nan,
                              .step = step,
                              .summary = summary});
    };
    transform_perturbed<A, T>(
        task, [&](const source& x) { logarithms(x, 0, task.cols); },
        [&](perturbed_row<A, T>& row) {
          log_softmax_summary whole;
          row.for_each([&](T* x, std::size_t first, std::size_t last) {
            log_softmax_summary block;
            logarithms(source_at(x), first, last, log_softmax_step::largest, &block);
            whole.largest = block.largest > whole.largest ? block.largest : whole.largest;
            whole.nan = whole.nan || block.nan;
          });
          const auto step = [&](log_softmax_step what) {
            row.for_each([&](T* x, std::size_t first, std::size_t last) {
              logarithms(source_at(x), first, last, what, &whole);
            });
          };
          if (whole.largest - whole.largest == 0) {
            step(log_softmax_step::others);
          }
          step(log_softmax_step::write);
        });
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

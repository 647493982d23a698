// SPDX-License-Identifier: MIT
// Several draws from one row: independent ones, and such that no index comes twice.
//
// Independent draws in two steps: the log-sum-exps of blocks are logits themselves, so a draw from them chooses the
// block, and a draw from its logits the element. Each looks at no more than some thousand random words, and is as exact
// in the tail as a single draw.
#pragma once

#include <xsoftmax/detail/kernel/log_sum_exp.hpp>
#include <xsoftmax/detail/kernel/sample.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
struct sample_many {
  XSOFTMAX_FLATTEN static void run(const sample_many_task<T>& task) noexcept {
    const any_row<T, const void> z = row_of<T>(task.z, 0);
    const placed<T> top = maximum_of_row<A, T>(z, task.cols);
    if (top.place == npos || task.temperature == 0) {
      for (std::size_t j = 0; j < task.draws; ++j) {
        task.indices.set(j, top.place);
      }
      return;
    }
    std::size_t size = smallest_block;
    while ((task.cols + size - 1) / size > most_blocks) {
      size *= 2;
    }
    const std::size_t blocks = (task.cols + size - 1) / size;
    alignas(64) T logit[most_blocks];
    if (blocks > 1) {
      log_sum_exps(task.temperature, z, task.cols, size, top.value, logit);
    }
    const any_row<T, const void> block_logits{logit, 1, storage_format::native};
    const perturbation<A, T> of_blocks(1.0);
    const perturbation<A, T> of_elements(task.temperature);
    noise_key key = task.key;
    for (std::size_t j = 0; j < task.draws; ++j, ++key.row) {
      std::size_t first = 0;
      if (blocks > 1) {
        largest_element<A, T> largest;
        find_largest<A, T>(of_blocks, key, block_logits, 0, blocks, largest, noise_kind::blocks_of_many);
        first = largest.place() * size;
      }
      largest_element<A, T> largest;
      const std::size_t last = task.cols - first > size ? first + size : task.cols;
      find_largest<A, T>(of_elements, key, z, first, last, largest, noise_kind::elements_of_many);
      task.indices.set(j, largest.place());
    }
  }

private:
  static constexpr std::size_t smallest_block = 512;
  static constexpr std::size_t most_blocks = 4096;

  /// log(sum exp((z - maximum) / T)) of each block of `size` elements; the last may be shorter. Relative to the maximum
  /// they neither overflow nor lose digits to it.
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void log_sum_exps(double temperature,
                                                                      const any_row<T, const void>& z, std::size_t n,
                                                                      std::size_t size, T maximum, T* logit) noexcept {
    // In halves where the temperature allows it: no difference overflows.
    const T unit = temperature >= 1 ? T(0.5) : T{1};
    const T top = maximum * unit;
    using task = log_sum_exp_state_task<T>;
    for (std::size_t block = 0; block * size < n; ++block) {
      log_sum_exp_summary summary;
      const std::size_t last = n - block * size > size ? (block + 1) * size : n;
      for_each_piece<T>(z, block * size, last, [&](std::size_t from, std::size_t to) {
        block_buffer<T> room;
        block_buffer<T> relative;
        const T* const x = z.template block<A>(from, to, room).data;
        for (std::size_t i = 0; i < to - from; ++i) {
          relative.element[i] = x[i] * unit - top;
        }
        log_sum_exp_state<A, T>::run(task{.what = task::step::push,
                                          .state = &summary,
                                          .temperature = temperature * static_cast<double>(unit),
                                          .z = {relative.element, 0, 1, storage_format::native},
                                          .cols = to - from});
      });
      log_sum_exp_state<A, T>::run(task{.what = task::step::value,
                                        .temperature = temperature * static_cast<double>(unit),
                                        .other = &summary,
                                        .sink = -infinity<double>,
                                        .value = &logit[block]});
    }
  }
};

/// The largest perturbed logits in their order: as many at a time as there is room for, then those that come after.
template <class A, class T>
struct sample_without_replacement {
  XSOFTMAX_FLATTEN static void run(const sample_without_replacement_task<T>& task) noexcept {
    constexpr std::size_t room = 1024;
    placed<T> element[room];
    const any_row<T, const void> z = row_of<T>(task.z, 0);
    const perturbation<A, T> perturbed(task.temperature);
    std::size_t found = 0;
    while (found < task.draws) {
      const std::size_t capacity = task.draws - found < room ? task.draws - found : room;
      largest_elements<A, T> largest(element, capacity);
      if (found != 0) {
        const placed<T> last = element[room - 1];
        largest.only_after(last);
      }
      find_largest<A, T>(perturbed, task.key, z, 0, task.cols, largest);
      largest.sort();
      for (std::size_t i = 0; i < largest.count(); ++i) {
        task.indices.set(found + i, element[i].place);
      }
      found += largest.count();
      if (largest.count() < capacity) {
        break;
      }
    }
    for (std::size_t j = found; j < task.draws; ++j) {
      task.indices.set(j, npos);
    }
    *task.found = found;
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

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
  static void run(const sample_many_task<T>& task) noexcept {
    const any_row<T, const void> z = row_of<T>(task.z, 0);
    if (task.temperature == 0) {
      const std::size_t place = place_of_maximum<A, T>(z, task.cols);
      for (std::size_t j = 0; j < task.draws; ++j) {
        task.indices.set(j, place);
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
      log_sum_exps(task, size, logit);
    }
    const any_row<T, const void> block_logits{logit, 1, storage_format::native};
    const perturbation<A, T> of_blocks(1.0);
    const perturbation<A, T> of_elements(task.temperature);
    noise_key key = task.key;
    noise_key block_key = task.key;
    block_key.index = 0;
    for (std::size_t j = 0; j < task.draws; ++j, ++key.row, ++block_key.row) {
      std::size_t block = 0;
      if (blocks > 1) {
        largest_element<A, T> largest;
        find_largest<A, T>(of_blocks, block_key, block_logits, 0, blocks, largest, noise_kind::blocks_of_many);
        block = largest.place();
      }
      largest_element<A, T> largest;
      if (block != npos) {
        const std::size_t first = block * size;
        const std::size_t last = task.cols - first > size ? first + size : task.cols;
        find_largest<A, T>(of_elements, key, z, first, last, largest, noise_kind::elements_of_many);
      }
      task.indices.set(j, largest.place());
    }
  }

private:
  static constexpr std::size_t smallest_block = 512;
  static constexpr std::size_t most_blocks = 4096;

  /// log(sum exp(z / T)) of each block of `size` elements; the last may be shorter.
  static __attribute__((noinline)) void log_sum_exps(const sample_many_task<T>& task, std::size_t size,
                                                     T* logit) noexcept {
    const std::size_t whole = task.cols / size;
    log_sum_exp_task<T> blocks{.z = task.z,
                               .out = {logit, 0, 1, storage_format::native},
                               .rows = whole,
                               .cols = size,
                               .temperature = task.temperature,
                               .sink = -infinity<double>};
    blocks.z.row_stride = static_cast<std::ptrdiff_t>(size) * task.z.col_stride;
    log_sum_exp<A, T>::run(blocks);
    if (whole * size != task.cols) {
      blocks.z = elements_from<T>(task.z, 0, whole * size);
      blocks.out.data = logit + whole;
      blocks.rows = 1;
      blocks.cols = task.cols - whole * size;
      log_sum_exp<A, T>::run(blocks);
    }
  }
};

/// The largest perturbed logits in their order: as many at a time as there is room for, then those that come after.
template <class A, class T>
struct sample_without_replacement {
  static void run(const sample_without_replacement_task<T>& task) noexcept {
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

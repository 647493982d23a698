// SPDX-License-Identifier: MIT
// One draw from each row, from what top-k, top-p and min-p leave of it: the largest perturbed logit among those. Noise
// is drawn only for groups that hold one of them.
#pragma once

#include <xsoftmax/detail/kernel/truncation.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
struct sample_truncated {
  XSOFTMAX_FLATTEN static void run(const sample_truncated_task<T>& task) noexcept {
    const perturbation<A, T> perturbed(task.temperature);
    noise_key key = task.key;
    for (std::size_t r = 0; r < task.rows; ++r, ++key.row) {
      task.indices.set(r, draw(task, perturbed, key, r));
    }
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN std::size_t
  draw(const sample_truncated_task<T>& task, const perturbation<A, T>& perturbed, const noise_key& key, std::size_t r) {
    const any_row<T, const void> z = row_of<T>(task.z, r);
    const placed<T> top = maximum_of_row<A, T>(z, task.cols);
    if (top.place == npos) {
      return npos;
    }
    cut<T> keep = truncation<A, T>(task, r, top.value).run();
    const T threshold = keep.threshold;
    largest_element<A, T> largest;
    sampled_row<A, T> row(perturbed, key, largest);
    for_each_contiguous<A, T>(
        z, 0, task.cols, [&](const T* x, std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
          row.scan_kept(
              x, first, last, [&](T value) XSOFTMAX_STEP_LAMBDA { return keep.keeps(value); },
              [&](const T* some, std::size_t count) XSOFTMAX_STEP_LAMBDA { return reaches(some, count, threshold); });
        });
    return largest.place();
  }

  /// Is an element of x at or above the threshold?
  static XSOFTMAX_STEP bool reaches(const T* x, std::size_t count, T threshold) {
    std::size_t i = 0;
    for (; count - i >= lanes<A, T>; i += lanes<A, T>) {
      if (!native<A>::all_below(native<A>::template load<T>(x + i), threshold)) {
        return true;
      }
    }
    for (; i < count; ++i) {
      if (x[i] >= threshold) {
        return true;
      }
    }
    return false;
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// pi T / (max a - min a) of each row.
#pragma once

#include <xsoftmax/detail/convergence_task.hpp>
#include <xsoftmax/detail/kernel/slope_range.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
struct slope_spread {
  XSOFTMAX_FLATTEN static void run(const slope_spread_task<T>& task) noexcept {
    if (task.z.data == nullptr) {
      rows_of<false>(task);
    } else {
      rows_of<true>(task);
    }
  }

private:
  struct plain_rows {
    XSOFTMAX_STEP auto operator()(const source& m, std::size_t r) const { return plain_row_of<T>(m, r); }
  };

  struct any_rows {
    XSOFTMAX_STEP auto operator()(const source& m, std::size_t r) const { return row_of<T>(m, r); }
  };

  template <bool HasLogits>
  static XSOFTMAX_STEP void rows_of(const slope_spread_task<T>& task) {
    if (!has_plain_rows<T>(task.a, task.cols) || (HasLogits && !has_plain_rows<T>(task.z, task.cols))) {
      rows<HasLogits, 0>(task, any_rows{});
    } else if (task.cols != 0 && task.rows > cached_bytes / sizeof(T) / task.cols) {
      rows<HasLogits, slopes_ahead>(task, plain_rows{});
    } else {
      rows<HasLogits, 0>(task, plain_rows{});
    }
  }

  template <bool HasLogits, std::size_t Ahead, class Access>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void rows(const slope_spread_task<T>& task,
                                                              Access access) noexcept {
    for (std::size_t r = 0; r < task.rows; ++r) {
      const slope_range<T> range =
          range_of_row<A, T, HasLogits, Ahead>(access(HasLogits ? task.z : task.a, r), access(task.a, r), task.cols);
      task.out[static_cast<std::ptrdiff_t>(r) * task.out_stride] = radius(range, task.temperature);
    }
  }

  static XSOFTMAX_STEP double radius(const slope_range<T>& range, double temperature) {
    constexpr double pi = 3.141592653589793238;
    if (!range.valid) {
      return 0.0;
    }
    if (range.empty() || range.least == range.greatest) {
      return infinity<double>;
    }
    const auto least = static_cast<double>(range.least);
    const auto greatest = static_cast<double>(range.greatest);
    const double spread = greatest - least;
    if (!(spread <= 1.7976931348623157e308)) {
      return pi * 0.5 * (temperature / (greatest * 0.5 - least * 0.5));
    }
    return temperature == 1.0 ? pi / spread : pi * (temperature / spread); // T may be of any size
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

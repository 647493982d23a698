// SPDX-License-Identifier: MIT
// Matrices that lie in memory in every way a view can say.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <vector>
#include <xsoftmax/view.hpp>

#include "ulp.hpp"

namespace xsoftmax::test {

/// Where the elements of a matrix lie.
struct layout {
  const char* what;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t col_stride;
};

/// A matrix in a layout, with sentinels wherever no element lies.
template <class T>
class laid_out {
public:
  static constexpr T sentinel = T(-77);

  /// margin: sentinels before the first and after the last element.
  laid_out(std::size_t rows, std::size_t cols, const layout& shape, std::size_t margin = 0)
      : rows_(rows), cols_(cols), shape_(shape) {
    const std::ptrdiff_t row_reach = shape.row_stride * (static_cast<std::ptrdiff_t>(rows) - 1);
    const std::ptrdiff_t col_reach = shape.col_stride * (static_cast<std::ptrdiff_t>(cols) - 1);
    storage_.assign(static_cast<std::size_t>(std::abs(row_reach) + std::abs(col_reach) + 1) + 2 * margin, sentinel);
    first_ = storage_.data() + margin + (row_reach < 0 ? -row_reach : 0) + (col_reach < 0 ? -col_reach : 0);
  }

  T& at(std::size_t r, std::size_t c) {
    return first_[static_cast<std::ptrdiff_t>(r) * shape_.row_stride +
                  static_cast<std::ptrdiff_t>(c) * shape_.col_stride];
  }

  matrix_view<T> view() const { return {first_, rows_, cols_, shape_.row_stride, shape_.col_stride}; }

  /// Is everything between and beside the elements as it was? Clears the elements.
  bool untouched_between() {
    for (std::size_t r = 0; r < rows_; ++r) {
      for (std::size_t c = 0; c < cols_; ++c) {
        at(r, c) = sentinel;
      }
    }
    return std::all_of(storage_.begin(), storage_.end(), [](T x) { return bits(x) == bits(sentinel); });
  }

private:
  std::size_t rows_;
  std::size_t cols_;
  layout shape_;
  std::vector<T> storage_;
  T* first_;
};

/// Layouts for a matrix of this shape, the dense one first.
inline std::vector<layout> layouts_of(std::size_t rows, std::size_t cols) {
  const auto signed_rows = static_cast<std::ptrdiff_t>(rows);
  const auto signed_cols = static_cast<std::ptrdiff_t>(cols);
  return {
      {"dense", signed_cols, 1},
      {"padded", signed_cols + 5, 1},
      {"upside down", -signed_cols, 1},
      {"column-major", 1, signed_rows},
      {"column-major, padded", 1, signed_rows + 3},
      {"every other column", 2 * signed_cols + 1, 2},
      {"mirrored", signed_cols, -1},
      {"rows interleaved", 3, 3 * signed_rows + 2},
  };
}

} // namespace xsoftmax::test

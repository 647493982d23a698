// SPDX-License-Identifier: MIT
// Matrices that lie in memory in every way a view can say.
#pragma once

#include <cstddef>
#include <vector>
#include <xsoftmax/view.hpp>

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
  laid_out(std::size_t rows, std::size_t cols, const layout& shape, std::size_t margin = 0);

  T& at(std::size_t r, std::size_t c) {
    return first_[static_cast<std::ptrdiff_t>(r) * shape_.row_stride +
                  static_cast<std::ptrdiff_t>(c) * shape_.col_stride];
  }

  /// Row r.
  std::vector<T> row(std::size_t r);

  void set_row(std::size_t r, const std::vector<T>& values);

  matrix_view<T> view() const { return {first_, rows_, cols_, shape_.row_stride, shape_.col_stride}; }

  /// Is everything between and beside the elements as it was? Clears the elements.
  bool untouched_between();

private:
  std::size_t rows_;
  std::size_t cols_;
  layout shape_;
  std::vector<T> storage_;
  T* first_;
};

/// Layouts for a matrix of this shape, the dense one first.
std::vector<layout> layouts_of(std::size_t rows, std::size_t cols);

} // namespace xsoftmax::test

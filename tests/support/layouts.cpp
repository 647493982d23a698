// SPDX-License-Identifier: MIT
#include "layouts.hpp"

#include <algorithm>
#include <cstdlib>
#include <xsoftmax/xsoftmax.hpp>

#include "ulp.hpp"

namespace xsoftmax::test {

template <class T>
laid_out<T>::laid_out(std::size_t rows, std::size_t cols, const layout& shape, std::size_t margin)
    : rows_(rows), cols_(cols), shape_(shape) {
  const std::ptrdiff_t row_reach = shape.row_stride * (static_cast<std::ptrdiff_t>(rows) - 1);
  const std::ptrdiff_t col_reach = shape.col_stride * (static_cast<std::ptrdiff_t>(cols) - 1);
  storage_.assign(static_cast<std::size_t>(std::abs(row_reach) + std::abs(col_reach) + 1) + 2 * margin, sentinel);
  first_ = storage_.data() + margin + (row_reach < 0 ? -row_reach : 0) + (col_reach < 0 ? -col_reach : 0);
}

template <class T>
std::vector<T> laid_out<T>::row(std::size_t r) {
  std::vector<T> values(cols_);
  for (std::size_t c = 0; c < cols_; ++c) {
    values[c] = at(r, c);
  }
  return values;
}

template <class T>
void laid_out<T>::set_row(std::size_t r, const std::vector<T>& values) {
  for (std::size_t c = 0; c < cols_; ++c) {
    at(r, c) = values[c];
  }
}

template <class T>
bool laid_out<T>::untouched_between() {
  for (std::size_t r = 0; r < rows_; ++r) {
    for (std::size_t c = 0; c < cols_; ++c) {
      at(r, c) = sentinel;
    }
  }
  return std::all_of(storage_.begin(), storage_.end(), [](T x) { return bits(x) == bits(sentinel); });
}

template class laid_out<float>;
template class laid_out<double>;
template class laid_out<float16>;
template class laid_out<bfloat16>;

std::vector<layout> layouts_of(std::size_t rows, std::size_t cols) {
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

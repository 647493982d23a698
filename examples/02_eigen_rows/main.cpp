// SPDX-License-Identifier: MIT
// Softmax of the rows of Eigen matrices, in place: column-major or row-major, whole, transposed, or a block of one.
//
// Build it alone, with xsoftmax and Eigen installed (-DCMAKE_PREFIX_PATH=PREFIX if not in a standard place):
//   cmake -B build -DCMAKE_BUILD_TYPE=Release && cmake --build build && build/02_eigen_rows
#include <cstdio>
#include <iostream>
#include <xsoftmax/eigen.hpp>
#include <xsoftmax/softmax.hpp>

namespace xs = xsoftmax;

int main() {
  using row_major_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  bool ok = true;

  // A row is the mathematical row whatever the storage order: Eigen's default here is column-major.
  Eigen::MatrixXf by_columns(3, 4);
  by_columns << 1, 2, 3, 4, //
      0, 0, 0, 0,           //
      -1, 5, 2, 0.5;
  const Eigen::MatrixXf logits = by_columns;
  row_major_matrix by_rows = logits;

  xs::softmax(by_columns, by_columns);
  xs::softmax(by_rows, by_rows);
  std::cout << "softmax of each row:\n" << by_columns << "\n";
  ok = ok && by_columns == by_rows; // the storage order leaves no trace in the bits
  ok = ok && ((by_columns.rowwise().sum().array() - 1).abs() <= 4.0f / 16777216.0f).all();
  ok = ok && (by_columns.row(1).array() == 0.25f).all();

  // Each column: the rows of the transpose. Nothing is copied.
  Eigen::MatrixXf of_columns = logits;
  xs::softmax(of_columns.transpose(), of_columns.transpose());
  std::cout << "softmax of each column:\n" << of_columns << "\n";
  ok = ok && ((of_columns.colwise().sum().array() - 1).abs() <= 4.0f / 16777216.0f).all();

  // One row, or a block, of a larger matrix; a lower temperature sharpens. What lies around it is left alone.
  Eigen::MatrixXf part = logits;
  xs::softmax(part.row(2), part.row(2), {.temperature = 0.5});
  xs::softmax(part.topLeftCorner(2, 3), part.topLeftCorner(2, 3));
  std::cout << "row 2 at temperature 0.5, and the first three columns of rows 0 and 1:\n" << part << "\n";
  ok = ok && part.col(3).head(2) == logits.col(3).head(2) && part(2, 1) > by_columns(2, 1);

  std::puts(ok ? "ok" : "WRONG");
  return ok ? 0 : 1;
}

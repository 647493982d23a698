// SPDX-License-Identifier: MIT
// How the rows of a matrix are shared out between the threads of the caller. The library starts none.
#pragma once

#include <cstddef>
#include <type_traits>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/view.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// What an executor must be able to call; the bodies themselves have another type.
struct example_body {
  constexpr void operator()(std::size_t) const noexcept {}
};

/// How an object runs bodies: whatever can be called as executor(count, body) does so by itself. execution.hpp
/// specialises this for the execution policies of the standard library.
template <class X>
struct executor_traits {
  static constexpr bool runs_bodies = std::is_invocable_v<X&, std::size_t, const example_body&>;

  template <class Body>
  static void run(X& executor, std::size_t count, const Body& body) {
    executor(count, body);
  }
};

/// What can be viewed is no executor, whatever it can be called with: Eigen's matrices take any two arguments.
template <class X>
concept executor = !viewable<std::remove_reference_t<X>> && executor_traits<std::remove_reference_t<X>>::runs_bodies;

/// The most bodies that one call is cut into.
inline constexpr std::size_t most_bodies = 256;

/// Elements that make a body worth its start: some microseconds.
inline constexpr std::size_t elements_per_body = 32768;

/// Rows of a body where neighbouring rows are neighbours in memory, as in a transposed matrix: a strip wide enough for
/// the kernels over columns, and cache lines that one body writes alone.
inline constexpr std::size_t rows_of_strips = 128;

/// Contiguous ranges of rows, all but the last of one size.
struct row_split {
  std::size_t rows;
  std::size_t rows_per_body;
  std::size_t bodies;

  template <class T>
  constexpr explicit row_split(const matrix_view<T>& out) : rows(out.rows()), rows_per_body(rows), bodies(0) {
    if (rows == 0 || out.cols() == 0) {
      return;
    }
    const auto quotient_up = [](std::size_t a, std::size_t b) { return a / b + (a % b != 0 ? 1 : 0); };
    const auto magnitude = [](std::ptrdiff_t v) { return v < 0 ? -v : v; };
    const std::size_t worthwhile = quotient_up(elements_per_body, out.cols());
    const std::size_t fewest = quotient_up(rows, most_bodies);
    rows_per_body = worthwhile > fewest ? worthwhile : fewest;
    if (out.cols() > 1 && magnitude(out.row_stride()) < magnitude(out.col_stride())) {
      rows_per_body = quotient_up(rows_per_body, rows_of_strips) * rows_of_strips;
    }
    bodies = quotient_up(rows, rows_per_body);
  }

  constexpr std::size_t first(std::size_t body) const { return body * rows_per_body; }

  constexpr std::size_t count(std::size_t body) const {
    return rows - first(body) < rows_per_body ? rows - first(body) : rows_per_body;
  }
};

/// A long row cut at multiples of the block of every element type, where sums of parts make the sum of the row.
struct part_split {
  /// The most parts: what is known of each lies on the stack of the caller.
  static constexpr std::size_t most = 64;

  std::size_t cols;
  std::size_t cols_per_part;
  std::size_t parts;

  constexpr explicit part_split(std::size_t n) : cols(n), cols_per_part(elements_per_body), parts(0) {
    constexpr std::size_t block = 2048;
    static_assert(elements_per_body % block == 0);
    const std::size_t fewest = n / most / block * block + block;
    cols_per_part = cols_per_part > fewest ? cols_per_part : fewest;
    parts = n / cols_per_part + (n % cols_per_part != 0 ? 1 : 0);
  }

  constexpr std::size_t first(std::size_t part) const { return part * cols_per_part; }

  constexpr std::size_t count(std::size_t part) const {
    return cols - first(part) < cols_per_part ? cols - first(part) : cols_per_part;
  }
};

/// Rows so few and so long that each is worth cutting.
inline constexpr std::size_t few_rows = 16;
inline constexpr std::size_t long_row = 4 * elements_per_body;

/// For tasks whose rows cannot be cut. For the others there is a better match: run(body) has the executor run a body
/// for each part, and false says that this row must be left whole.
template <class Arch, class Run, class Task, class Kernel>
bool run_long_row(const Run&, const Task&, const part_split&, const Kernel&) {
  return false;
}

/// kernel(task), or kernel on parts of it, from the bodies that the executor runs. Rows depend on nothing but
/// themselves, and parts of a row are cut where its sums are: the split leaves no trace in the results. rows_of(task,
/// first, count) makes a task of some rows.
template <class Arch, class Executor, class T, class Task, class Kernel>
void run_rows(Executor& executor, const matrix_view<T>& out, const Task& task, const Kernel& kernel) {
  const row_split split(out);
  const bool cut = out.rows() != 0 && out.rows() < few_rows && out.cols() >= long_row;
  if (split.bodies <= 1 && !cut) {
    kernel(task);
    return;
  }
  if (!call::ready(Arch{})) { // an error of the choice at run time belongs to the caller's thread
    return;
  }
  if (cut) {
    const part_split parts(out.cols());
    const auto run = [&](const auto& body) { executor_traits<Executor>::run(executor, parts.parts, body); };
    for (std::size_t r = 0; r < out.rows(); ++r) {
      const Task row = rows_of(task, r, 1);
      if (!run_long_row<Arch>(run, row, parts, kernel)) {
        kernel(row);
      }
    }
    return;
  }
  executor_traits<Executor>::run(
      executor, split.bodies, [&](std::size_t body) { kernel(rows_of(task, split.first(body), split.count(body))); });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

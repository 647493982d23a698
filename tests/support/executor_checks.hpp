// SPDX-License-Identifier: MIT
// A call of every function over rows, with or without an executor, in every shape that is cut in its own way.
#pragma once

#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "findings.hpp"
#include "kernels_once.hpp"
#include "layouts.hpp"
#include "rows.hpp"
#include "softmax_checks.hpp"

namespace xsoftmax::test {

/// Calls of the functions on inputs x and y (a forward pass takes x alone). `executor...` is one executor or none.
template <class Arch>
struct call_softmax {
  static constexpr const char* name = "softmax";

  template <class In, class Out, class... Executor>
  static void run(const In& x, const In&, const Out& out, Executor&&... executor) {
    softmax<Arch>(std::forward<Executor>(executor)..., x, out, softmax_options{.temperature = 0.7});
  }
};

template <class Arch>
struct call_log_softmax {
  static constexpr const char* name = "log_softmax";

  template <class In, class Out, class... Executor>
  static void run(const In& x, const In&, const Out& out, Executor&&... executor) {
    log_softmax<Arch>(std::forward<Executor>(executor)..., x, out, log_softmax_options{.temperature = 0.7});
  }
};

template <class Arch>
struct call_softmax_backward {
  static constexpr const char* name = "softmax_backward";

  template <class In, class Out, class... Executor>
  static void run(const In& x, const In& y, const Out& out, Executor&&... executor) {
    softmax_backward<Arch>(std::forward<Executor>(executor)..., x, y, out, softmax_backward_options{});
  }
};

template <class Arch>
struct call_log_softmax_backward {
  static constexpr const char* name = "log_softmax_backward";

  template <class In, class Out, class... Executor>
  static void run(const In& x, const In& y, const Out& out, Executor&&... executor) {
    log_softmax_backward<Arch>(std::forward<Executor>(executor)..., x, y, out, softmax_backward_options{});
  }
};

/// body(Call{}) for each of them.
template <class Arch, class Body>
void for_each_call(Body&& body) {
  body(call_softmax<Arch>{});
  body(call_log_softmax<Arch>{});
  body(call_softmax_backward<Arch>{});
  body(call_log_softmax_backward<Arch>{});
}

/// A matrix of logits in a layout.
template <class T>
laid_out<T> matrix_of_logits(std::size_t rows, std::size_t cols, const layout& shape, std::uint64_t seed) {
  laid_out<T> z(rows, cols, shape);
  for (std::size_t r = 0; r < rows; ++r) {
    z.set_row(r, make_row<T>(row_kinds[r % 6], cols, seed + r));
  }
  return z;
}

/// Expects the bits of the call without executor from each of run(call, x, y, out), which uses one.
template <class Arch, class T, class Run>
void expect_bits_of_serial_call(findings& found, std::size_t rows, std::size_t cols, const layout& shape,
                                const std::string& what, Run&& run) {
  laid_out<T> x = matrix_of_logits<T>(rows, cols, shape, 1);
  laid_out<T> y = matrix_of_logits<T>(rows, cols, shape, 2);
  for_each_call<Arch>([&](auto call) {
    laid_out<T> expected(rows, cols, shape);
    laid_out<T> out(rows, cols, shape);
    call.run(x.view(), y.view(), expected.view());
    run(call, x.view(), y.view(), out.view());
    bool same = true;
    for (std::size_t r = 0; r < rows; ++r) {
      same = same && first_difference(expected.row(r).data(), out.row(r).data(), cols) == cols;
    }
    found.expect(same && out.untouched_between(), [&] {
      return std::string(Arch::name) + ", " + call.name + ", " + what + ", " + std::to_string(rows) + " x " +
             std::to_string(cols) + ", " + shape.what;
    });
  });
}

} // namespace xsoftmax::test

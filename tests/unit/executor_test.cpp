// SPDX-License-Identifier: MIT
// Executors: they see each body once, leave no trace in the results, and are not called for nothing.

#include <algorithm>
#include <cstddef>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executor_checks.hpp"
#include "../support/executors.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// A function as an executor.
void in_order(std::size_t count, const body& run) {
  run_in_order(count, run, [](std::size_t i) { return i; });
}

/// Counts calls; const objects of it are no executors.
struct counting_executor {
  std::size_t calls = 0;
  std::vector<std::size_t> counts;

  template <class Body>
  void operator()(std::size_t count, Body&& run) {
    ++calls;
    counts.push_back(count);
    for (std::size_t i = 0; i < count; ++i) {
      run(i);
    }
  }
};

static_assert(xs::detail::executor<counting_executor>);
static_assert(xs::detail::executor<counting_executor&>);
static_assert(!xs::detail::executor<const counting_executor&>);
static_assert(xs::detail::executor<decltype(in_order)&>);
static_assert(xs::detail::executor<std::function<void(std::size_t, body)>&>);
static_assert(!xs::detail::executor<std::vector<float>&>);
static_assert(!xs::detail::executor<xs::matrix_view<float>>);
static_assert(!xs::detail::executor<std::function<void(std::size_t)>>);

} // namespace

TEMPLATE_LIST_TEST_CASE("executor: whoever runs the bodies, the bits of the call without", "[executor][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  struct shape {
    std::size_t rows;
    std::size_t cols;
  };
  for (const shape& s : {shape{1, 70000}, shape{3, 40000}, shape{700, 150}, shape{130, 1001}, shape{40000, 3}}) {
    const std::vector<layout> layouts = layouts_of(s.rows, s.cols);
    for (const layout& l : {layouts[0], layouts[3], layouts[5]}) { // dense, column-major, every other column
      for (const named_executor& e : every_executor()) {
        expect_bits_of_serial_call<Arch, T>(found, s.rows, s.cols, l, e.name,
                                            [&](auto call, auto x, auto y, auto out) { call.run(x, y, out, e.run); });
      }
    }
  }
  // In place, on threads.
  expect_bits_of_serial_call<Arch, T>(
      found, 700, 150, layouts_of(700, 150)[0], "in place", [&](auto call, auto x, auto y, auto out) {
        for (std::size_t i = 0; i < 700 * 150; ++i) {
          out.data()[i] = x.data()[i];
        }
        call.run(out, y, out, [](std::size_t count, const body& run) { run_on_threads(4, count, run); });
      });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("executor: the ranges of rows cover each row once", "[executor][unit]") {
  const float element = 0;
  findings found;
  for (const std::size_t rows : {0u, 1u, 2u, 63u, 64u, 65u, 700u, 5000u, 1000000u}) {
    for (const std::size_t cols : {0u, 1u, 2u, 7u, 100u, 5000u, 32768u, 40000u, 3000000u}) {
      for (const bool vertical : {false, true}) {
        const xs::matrix_view<const float> dense(&element, rows, cols);
        const xs::matrix_view<const float> columns = xs::matrix_view<const float>(&element, cols, rows).transposed();
        const xs::detail::row_split split(vertical ? columns : dense);
        const auto text = [&] {
          return std::to_string(rows) + " x " + std::to_string(cols) + (vertical ? ", columns: " : ": ") +
                 std::to_string(split.bodies) + " of " + std::to_string(split.rows_per_body);
        };
        if (rows == 0 || cols == 0) {
          found.expect(split.bodies == 0, text);
          continue;
        }
        std::size_t next = 0;
        bool right = split.bodies >= 1 && split.bodies <= xs::detail::most_bodies;
        for (std::size_t b = 0; b < split.bodies; ++b) {
          const bool last = b + 1 == split.bodies;
          right = right && split.first(b) == next && split.count(b) >= 1;
          right = right && (last || split.count(b) * cols >= xs::detail::elements_per_body);
          right = right && (last || cols == 1 || !vertical || rows == 1 || split.count(b) % 128 == 0);
          next += split.count(b);
        }
        found.expect(right && next == rows, text);
        // Enough work is shared out.
        found.expect(rows < 1000 || rows * cols < 10000000 || split.bodies >= (vertical ? 32 : 64), text);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("executor: called once for what is worth it, and not for less", "[executor][unit]") {
  const auto calls = [](std::size_t rows, std::size_t cols) {
    std::vector<float> z(rows * cols, 1.0f);
    std::vector<float> p(rows * cols, -7.0f);
    counting_executor executor;
    xs::softmax(executor, xs::matrix_view<const float>(z.data(), rows, cols),
                xs::matrix_view<float>(p.data(), rows, cols));
    CHECK(std::none_of(p.begin(), p.end(), [](float x) { return x == -7; }));
    if (executor.calls == 1) {
      CHECK(executor.counts[0] == xs::detail::row_split(xs::matrix_view<float>(p.data(), rows, cols)).bodies);
      CHECK(executor.counts[0] > 1);
    }
    return executor.calls;
  };
  CHECK(calls(0, 5) == 0);
  CHECK(calls(5, 0) == 0);
  CHECK(calls(1, 100000) == 0); // a row is not cut
  CHECK(calls(30, 1000) == 0);
  CHECK(calls(2, 32768) == 1);
  CHECK(calls(1000, 1000) == 1);
  // A row that is no matrix, too.
  counting_executor executor;
  const std::vector<float> z(100, 1.0f);
  std::vector<float> p(100);
  xs::softmax(executor, z, p, {.temperature = 2});
  CHECK(executor.calls == 0);
  CHECK(p == xs::softmax(z, {.temperature = 2}));
}

TEST_CASE("executor: anything that can be called", "[executor][unit]") {
  constexpr std::size_t rows = 200;
  constexpr std::size_t cols = 700;
  const std::vector<float> z = make_row<float>(row_kind::normal, rows * cols, 3);
  const xs::matrix_view<const float> in(z.data(), rows, cols);
  std::vector<float> expected(z.size());
  xs::softmax(in, xs::matrix_view<float>(expected.data(), rows, cols));
  const auto gives_it = [&](auto&& executor) {
    std::vector<float> p(z.size(), -7.0f);
    xs::softmax(executor, in, xs::matrix_view<float>(p.data(), rows, cols));
    return p == expected;
  };
  CHECK(gives_it(in_order));
  CHECK(gives_it(&in_order));
  CHECK(gives_it(counting_executor{}));
  CHECK(gives_it(std::function<void(std::size_t, body)>(in_order)));
  CHECK(gives_it([](std::size_t count, auto run) { // takes a copy, and leaves it to others to keep
    const std::function<void(std::size_t)> kept = run;
    for (std::size_t i = 0; i < count; ++i) {
      kept(i);
    }
  }));
  CHECK(gives_it([](std::size_t count, auto&& run) {
    for (std::size_t i = count; i-- > 0;) {
      run(i);
    }
    return count; // what it returns is nobody's business
  }));
  // What it throws reaches the caller.
  const auto throws = [](std::size_t, const body&) { throw std::range_error("no thread left"); };
  CHECK_THROWS_AS(gives_it(throws), std::range_error);
}

TEST_CASE("executor: mistaken arguments are refused before it is called", "[executor][errors][unit]") {
  counting_executor executor;
  const std::vector<float> z(100000, 1.0f);
  std::vector<float> p(100000, -7.0f);
  const xs::matrix_view<const float> in(z.data(), 100, 1000);
  const xs::matrix_view<float> out(p.data(), 100, 1000);
  const xs::matrix_view<float> other(p.data(), 100, 999);
  CHECK_THROWS_AS(xs::softmax(executor, in, other), std::invalid_argument);
  CHECK_THROWS_AS(xs::softmax(executor, in, out, {.temperature = -1}), std::invalid_argument);
  CHECK_THROWS_AS(xs::softmax(executor, in, out, {.sink = std::numeric_limits<double>::infinity()}),
                  std::invalid_argument);
  CHECK_THROWS_AS(xs::softmax_backward(executor, in, in, other), std::invalid_argument);
  CHECK_THROWS_AS(xs::softmax_backward(executor, in, in, out, {.temperature = -1}), std::invalid_argument);
  CHECK_THROWS_AS(xs::log_softmax_backward(executor, in, other, out), std::invalid_argument);
  CHECK(executor.calls == 0);
  CHECK(std::all_of(p.begin(), p.end(), [](float x) { return x == -7; }));
}

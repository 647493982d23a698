// SPDX-License-Identifier: MIT
// One long row cut between bodies: the bits of the call without an executor.

#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/kernels_once.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Rows that a part of may be special in.
template <class T>
std::vector<std::vector<T>> long_rows(std::size_t n) {
  using limits = std::numeric_limits<T>;
  std::vector<std::vector<T>> rows;
  for (const row_kind kind : {row_kind::normal, row_kind::masked, row_kind::very_wide, row_kind::enormous,
                              row_kind::ascending, row_kind::ties, row_kind::sentinel_1e30}) {
    rows.push_back(make_row<T>(kind, n, 77));
  }
  rows.push_back(rows[0]);
  rows.back()[n - 5] = limits::quiet_NaN();
  rows.push_back(rows[0]);
  rows.back()[n / 2] = limits::infinity();
  rows.emplace_back(n, -limits::infinity());
  rows.emplace_back(n, -limits::infinity());
  rows.back()[n / 3] = limits::quiet_NaN();
  rows.emplace_back(n, -limits::infinity());
  rows.back()[n - 1] = T(-3e4);
  rows.push_back(rows[1]);
  std::fill_n(rows.back().begin(), 40000, -limits::infinity());
  return rows;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("executor: a long row is cut, and its bits stay", "[executor][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t turn = 0;
  const std::vector<named_executor> executors = every_executor();
  for (const std::size_t n : {std::size_t{131072}, std::size_t{150001}}) {
    for (const std::vector<T>& z : long_rows<T>(n)) {
      const std::vector<T> gradient = make_row<T>(row_kind::normal, n, 5);
      for (const double temperature : {1.0, 0.3, 0.0}) {
        ++turn;
        const named_executor& executor = executors[turn % executors.size()];
        std::size_t most_bodies = 0;
        const auto run = [&](std::size_t count, const auto& body) {
          most_bodies = count > most_bodies ? count : most_bodies;
          executor.run(count, body);
        };
        xs::softmax_options options{.temperature = temperature};
        if (turn % 4 == 0) {
          options.masked_row = xs::masked_row_policy::zero;
        }
        if (turn % 5 == 0) {
          options.sink = 0.5;
        }
        const auto same = [&](const std::vector<T>& expected, const std::vector<T>& got, const char* what) {
          expect_same_bits(found, expected.data(), got.data(), std::string(what) + ", " + executor.name, z, options);
        };
        const std::vector<T> p = probabilities<Arch>(z, options);
        std::vector<T> shared(n, T(-7));
        xs::softmax<Arch>(run, z, shared, options);
        same(p, shared, "softmax");
        std::vector<T> in_place = z;
        xs::softmax<Arch>(run, in_place, in_place, options);
        same(p, in_place, "softmax in place");

        const xs::log_softmax_options log_options{
            .temperature = temperature, .masked_row = options.masked_row, .sink = options.sink};
        std::vector<T> lp(n);
        xs::log_softmax<Arch>(z, lp, log_options);
        xs::log_softmax<Arch>(run, z, shared, log_options);
        same(lp, shared, "log_softmax");

        std::vector<T> dz(n);
        xs::softmax_backward<Arch>(p, gradient, dz, {.temperature = temperature});
        xs::softmax_backward<Arch>(run, p, gradient, shared, {.temperature = temperature});
        same(dz, shared, "softmax_backward");
        xs::log_softmax_backward<Arch>(lp, gradient, dz, {.temperature = temperature});
        xs::log_softmax_backward<Arch>(run, lp, gradient, shared, {.temperature = temperature});
        same(dz, shared, "log_softmax_backward");

        const std::size_t bodies_of_others = std::exchange(most_bodies, 0);
        std::size_t drawn = 0;
        xs::sample<Arch>(run, {.seed = turn, .index = turn % 100}, xs::matrix_view<const T>(z.data(), 1, n),
                         std::span(&drawn, 1), {.temperature = temperature});
        found.expect(drawn == xs::sample<Arch>({.seed = turn, .index = turn % 100}, z, {.temperature = temperature}) &&
                         most_bodies == (n + 32767) / 32768,
                     [&] { return std::string("sample, ") + executor.name; });

        if (temperature != 0) {
          found.expect(bodies_of_others == (n + 32767) / 32768, [] { return "the row was not cut"; });
          const xs::matrix_view<const T> row(z.data(), 1, n);
          const std::vector<T> serial = {xs::log_sum_exp<Arch>(z, {.temperature = temperature, .sink = options.sink})};
          std::vector<T> value(1);
          xs::log_sum_exp<Arch>(run, row, value, {.temperature = temperature, .sink = options.sink});
          found.expect(first_difference(serial.data(), value.data(), 1) == 1, [] { return "log_sum_exp"; });
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("executor: parts cover a row once, and begin where blocks do", "[executor][unit]") {
  findings found;
  for (const std::size_t n : {std::size_t{1}, std::size_t{32768}, std::size_t{32769}, std::size_t{131072},
                              std::size_t{5000000}, std::size_t{123456789}, std::size_t{1} << 40}) {
    const xs::detail::part_split split(n);
    std::size_t next = 0;
    bool right = split.parts >= 1 && split.parts <= xs::detail::part_split::most;
    for (std::size_t part = 0; part < split.parts; ++part) {
      right = right && split.first(part) == next && split.first(part) % 2048 == 0 && split.count(part) >= 1;
      next += split.count(part);
    }
    found.expect(right && next == n, [&] { return std::to_string(n) + ": " + std::to_string(split.parts); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

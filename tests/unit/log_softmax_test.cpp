// SPDX-License-Identifier: MIT
// log_softmax: right on every kind of row, the table of special values, and the same bits however a row lies in memory.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/log_checks.hpp"
#include "../support/rows.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr double temperatures[] = {1, 0.7, 3, 1e-3, 1e-19, 1e22, 1e-300, 1e300, 1e-310, 1.7e308, 0};

} // namespace

TEMPLATE_LIST_TEST_CASE("log_softmax: every kind of row, length and temperature", "[log_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const row_kind kind : row_kinds) {
    for (std::size_t n = 1; n <= 257; n += n < 20 ? 1 : 17) {
      const std::vector<T> z = make_row<T>(kind, n, n);
      for (const double temperature : temperatures) {
        expect_right_log<Arch>(found, z, {.temperature = temperature}, name(kind));
      }
      for (const auto& sink : sinks(z)) {
        expect_right_log<Arch>(found, z, {.sink = sink}, name(kind));
        expect_right_log<Arch>(found, z, {.temperature = 0.3, .sink = sink}, name(kind));
        expect_right_log<Arch>(found, z, {.temperature = 1e40, .sink = sink}, name(kind));
        expect_right_log<Arch>(found, z, {.temperature = 0, .sink = sink}, name(kind));
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_softmax: rows of several blocks", "[log_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr std::size_t block = 8192 / sizeof(T);
  for (const row_kind kind : row_kinds) {
    for (const std::size_t n : {block - 1, block, block + 1, 2 * block, 5 * block + 37}) {
      const std::vector<T> z = make_row<T>(kind, n, n);
      for (const double temperature : {1.0, 0.7, 1e-300, 1e300}) {
        expect_right_log<Arch>(found, z, {.temperature = temperature}, name(kind));
      }
      expect_right_log<Arch>(found, z, {.sink = 1.0}, name(kind));
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

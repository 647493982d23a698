// SPDX-License-Identifier: MIT
// log_softmax: right on every kind of row, the table of special values, and the same bits however a row lies in memory.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
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

TEMPLATE_LIST_TEST_CASE("log_softmax: adding a constant that is exact to add changes no bit", "[log_softmax][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(3);
  constexpr int digits = std::numeric_limits<T>::digits;
  for (int i = 0; i < 400; ++i) {
    const int grain = static_cast<int>(random.below(30));
    const int spread = static_cast<int>(random.below(8));
    const std::size_t n = 1 + random.below(i % 50 == 0 ? 5000 : 80);
    const std::vector<T> z = make_dyadic_row<T>(n, random.next(), spread, std::min(grain, digits - 4 - spread));
    for (const double temperature : {1.0, 0.7, 3.0, 1e-30, 1e30, 0.0}) {
      // Any multiple of the row's grain for which the sums have no more digits than T.
      const double reach = std::ldexp(1.0, digits - 1 - std::min(grain, digits - 4 - spread));
      const double unit = std::ldexp(1.0, -std::min(grain, digits - 4 - spread));
      const auto shift = static_cast<T>(std::floor(random.uniform(-reach, reach) / unit / 2) * unit);
      std::vector<T> shifted(n);
      bool exact = true;
      for (std::size_t k = 0; k < n; ++k) {
        shifted[k] = z[k] + shift;
        exact = exact && shifted[k] - shift == z[k] && shifted[k] - z[k] == shift;
      }
      REQUIRE(exact);
      const xs::log_softmax_options options{.temperature = temperature};
      const std::vector<T> a = log_probabilities<Arch>(z, options);
      const std::vector<T> b = log_probabilities<Arch>(shifted, options);
      found.expect(first_difference(a.data(), b.data(), n) == n,
                   [&] { return std::string(Arch::name) + ", + " + exact_text(shift) + "; " + describe(z, options); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_softmax: the same bits at any stride, offset and with -inf to the right",
                        "[log_softmax][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const row_kind kind : row_kinds) {
    for (const std::size_t n : {1u, 7u, 100u, 2049u, 4500u}) {
      const std::vector<T> z = make_row<T>(kind, n, 9);
      for (const double temperature : {1.0, 0.7, 1e-300, 0.0}) {
        const xs::log_softmax_options options{.temperature = temperature};
        const std::vector<T> y = log_probabilities<Arch>(z, options);
        const auto expect = [&](const T* other, std::ptrdiff_t stride, const char* what) {
          std::vector<T> v(n);
          for (std::size_t i = 0; i < n; ++i) {
            v[i] = other[static_cast<std::ptrdiff_t>(i) * stride];
          }
          found.expect(first_difference(y.data(), v.data(), n) == n, [&] {
            return std::string(Arch::name) + ", " + what + ", " + name(kind) + "; " + describe(z, options);
          });
        };
        std::vector<T> padded = z;
        padded.resize(n + 2500, -std::numeric_limits<T>::infinity());
        const std::vector<T> of_padded = log_probabilities<Arch>(padded, options);
        expect(of_padded.data(), 1, "padded");
        found.expect(std::all_of(of_padded.begin() + static_cast<std::ptrdiff_t>(n), of_padded.end(),
                                 [](T v) { return v == -std::numeric_limits<T>::infinity(); }),
                     [&] { return std::string("padding is not -inf; ") + describe(z, options); });
        std::vector<T> moved(n + 3);
        std::copy(z.begin(), z.end(), moved.begin() + 3);
        xs::log_softmax<Arch>(xs::vector_view<T>(moved.data() + 3, n), xs::vector_view<T>(moved.data() + 3, n),
                              options);
        expect(moved.data() + 3, 1, "moved");
        // Two rows as the columns of a matrix, in place and into rows.
        std::vector<T> columns(2 * n);
        for (std::size_t i = 0; i < n; ++i) {
          columns[2 * i] = z[i];
          columns[2 * i + 1] = z[n - 1 - i];
        }
        const xs::matrix_view<T> matrix(columns.data(), n, 2);
        std::vector<T> rows(2 * n);
        xs::log_softmax<Arch>(matrix.transposed(), xs::matrix_view<T>(rows.data(), 2, n), options);
        expect(rows.data(), 1, "column into a row");
        xs::log_softmax<Arch>(matrix.transposed(), matrix.transposed(), options);
        expect(columns.data(), 2, "column in place");
        // Backwards.
        std::vector<T> reversed(z.rbegin(), z.rend());
        std::vector<T> into(n);
        xs::log_softmax<Arch>(xs::vector_view<const T>(reversed.data() + n - 1, n, -1), into, options);
        expect(into.data(), 1, "backwards");
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_softmax: special values", "[log_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr T inf = std::numeric_limits<T>::infinity();
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  struct special {
    std::vector<T> z;
    xs::log_softmax_options options;
    std::vector<T> y;
  };
  using policy = xs::masked_row_policy;
  const special table[] = {
      {{-inf, -inf}, {}, {nan, nan}},
      {{-inf, -inf}, {.masked_row = policy::zero}, {-inf, -inf}},
      {{-inf, -inf}, {.sink = 0.0}, {-inf, -inf}},
      {{-inf, nan}, {.masked_row = policy::zero}, {nan, nan}},
      {{-inf, nan}, {.sink = 0.0}, {nan, nan}},
      {{1, nan, 2}, {}, {nan, nan, nan}},
      {{1, inf, 2}, {.sink = 0.0}, {nan, nan, nan}},
      {{inf, -inf}, {.temperature = 0, .masked_row = policy::zero}, {nan, nan}},
      {{nan, 1}, {.temperature = 0}, {nan, nan}},
      {{-inf, -inf}, {.temperature = 0, .masked_row = policy::zero}, {-inf, -inf}},
      {{5, -inf}, {}, {0, -inf}},
      {{5}, {}, {0}},
      {{1, 3, 3, 2}, {.temperature = 0}, {-inf, 0, -inf, -inf}},
      {{1, 3, 3, 2}, {.temperature = 0, .sink = 3}, {-inf, 0, -inf, -inf}},
      {{1, 3, 3, 2}, {.temperature = 0, .sink = 3.5}, {-inf, -inf, -inf, -inf}},
      {{std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest()}, {}, {0, -inf}},
      {{0, std::numeric_limits<T>::lowest()}, {}, {0, std::numeric_limits<T>::lowest()}},
      {{std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest()},
       {.temperature = 4},
       {0, std::numeric_limits<T>::lowest() / 2}},
  };
  for (const special& row : table) {
    CAPTURE(Arch::name, scalar_name<T>(), row.z, row.options.temperature, row.options.sink.value_or(-inf));
    const std::vector<T> y = log_probabilities<Arch>(row.z, row.options);
    CHECK(first_difference(y.data(), row.y.data(), y.size()) == y.size());
    // A NaN or +inf anywhere in a longer row.
    if (row.z.size() > 1 && std::isnan(row.y[0])) {
      std::vector<T> z(5000, row.z[0]);
      z[4321] = row.z[1];
      const std::vector<T> wide = log_probabilities<Arch>(z, row.options);
      CHECK(std::all_of(wide.begin(), wide.end(), [](T v) { return std::isnan(v); }));
    }
  }
  std::vector<T> nothing;
  CHECK_NOTHROW(xs::log_softmax<Arch>(nothing, nothing));
}

TEMPLATE_LIST_TEST_CASE("log_softmax: where naive code gives 0", "[log_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const auto largest = [](T gap) { return log_probabilities<Arch>(std::vector<T>{0, -gap}, {})[0]; };
  CHECK(ulp_distance(largest(20), -2.06115362031438070324e-09L) < 1);
  CHECK(ulp_distance(largest(88), -6.05460189540118588453e-39L) < 1);
}

TEST_CASE("log_softmax: refusals", "[log_softmax][unit]") {
  const std::vector<float> z = {1, 2, 3};
  std::vector<float> y(3, -7.0f);
  const double infinity = std::numeric_limits<double>::infinity();
  for (const double temperature : {-1.0, infinity, std::nan("")}) {
    CHECK_THROWS_AS(xs::log_softmax(z, y, {.temperature = temperature}), std::invalid_argument);
  }
  CHECK_THROWS_AS(xs::log_softmax(z, y, {.sink = infinity}), std::invalid_argument);
  std::vector<float> shorter(2);
  CHECK_THROWS_AS(xs::log_softmax(z, shorter), std::invalid_argument);
  CHECK_THROWS_AS(xs::log_softmax(xs::vector_view<float>(y.data(), 2), xs::vector_view<float>(y.data() + 1, 2)),
                  std::invalid_argument);
  CHECK(y == std::vector<float>(3, -7.0f));
}

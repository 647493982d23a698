// SPDX-License-Identifier: MIT
// log_sum_exp and its state: right on every kind of row, the table of special values, and the same bits for every way
// to cut, order and merge.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/log_checks.hpp"
#include "../support/rows.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();

/// Equal bits, or both NaN.
template <class T>
bool same(T a, T b) {
  return first_difference(&a, &b, 1) == 1;
}

bool same(const xs::detail::sum_digits& a, const xs::detail::sum_digits& b) {
  return a.top_ == b.top_ && std::equal(std::begin(a.digit_), std::end(a.digit_), std::begin(b.digit_));
}

} // namespace

TEMPLATE_LIST_TEST_CASE("log_sum_exp: every kind of row, length and temperature", "[log_sum_exp][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const row_kind kind : row_kinds) {
    for (std::size_t n = 1; n <= 257; n += n < 20 ? 1 : 17) {
      const std::vector<T> z = make_row<T>(kind, n, n);
      for (const double temperature : {1.0, 0.7, 3.0, 1e-3, 1e-19, 1e22, 1e-300, 1e300, 1e-310, 1.7e308}) {
        expect_right_log_sum_exp<Arch>(found, z, {.temperature = temperature}, name(kind));
      }
      for (const auto& sink : sinks(z)) {
        expect_right_log_sum_exp<Arch>(found, z, {.sink = sink}, name(kind));
        expect_right_log_sum_exp<Arch>(found, z, {.temperature = 0.3, .sink = sink}, name(kind));
        expect_right_log_sum_exp<Arch>(found, z, {.temperature = 1e40, .sink = sink}, name(kind));
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_sum_exp: a single logit gives z / T, rounded once", "[log_sum_exp][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(11);
  const auto expect = [&](T x, double temperature) {
    const T value = xs::log_sum_exp<Arch>(std::vector<T>{x}, {.temperature = temperature});
    const wide::pair exact = wide::quotient({x, 0}, temperature);
    // The long double quotient's error decides on which side of a tie of T the value lies.
    T rounded = static_cast<T>(exact.high);
    const long double other = std::nextafter(rounded, exact.high + exact.low > rounded ? inf<T> : -inf<T>);
    if (std::isfinite(rounded) && std::fabs((other - exact.high) - exact.low) <
                                      std::fabs((static_cast<long double>(rounded) - exact.high) - exact.low)) {
      rounded = static_cast<T>(other);
    }
    found.expect(bits(value) == bits(rounded), [&] {
      return std::string(Arch::name) + ": " + exact_text(x) + " / " + exact_text(temperature) + " gives " +
             exact_text(value) + ", not " + exact_text(rounded);
    });
  };
  for (int i = 0; i < 20000; ++i) {
    const auto x = static_cast<T>(std::ldexp(random.uniform(-1, 1), static_cast<int>(random.below(200)) - 100));
    expect(x, 1.0);
    expect(x, std::exp2(random.uniform(-20, 20)));
    expect(x, std::exp2(random.uniform(-1000, 1000)));
    // Quotients next to a tie.
    const auto y = static_cast<T>(std::ldexp(static_cast<double>(random.below(1u << 24)), -10));
    expect(y, 1 + std::ldexp(static_cast<double>(random.below(9)) - 4, -52));
  }
  for (const T x : {T(0), std::numeric_limits<T>::max(), std::numeric_limits<T>::denorm_min(), T(1e-10)}) {
    expect(x, 1.0);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_sum_exp_state: cuts at blocks, merged in any order, give the bits of log_sum_exp",
                        "[log_sum_exp][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(7);
  constexpr std::size_t block = xs::log_sum_exp_state<T>::block_size;
  for (const row_kind kind : row_kinds) {
    for (const std::size_t n : {std::size_t{0}, std::size_t{5}, block, block + 1, 5 * block, 9 * block + 37}) {
      const std::vector<T> z = make_row<T>(kind, n, n);
      for (const double temperature : {1.0, 0.7, 1e-300, 1e300}) {
        for (const std::optional<double> sink : {std::optional<double>(), std::optional<double>(0.25)}) {
          const T whole = xs::log_sum_exp<Arch>(z, {.temperature = temperature, .sink = sink});
          xs::log_sum_exp_state<T> once(temperature);
          once.template push<Arch>(z);
          for (int tree = 0; tree < 4; ++tree) {
            const xs::log_sum_exp_state<T> state = merged_state<Arch>(z, temperature, random);
            const T value = state.template value<Arch>(sink);
            const bool same_sums =
                same(state.summary().others, once.summary().others) && same(state.summary().all, once.summary().all);
            found.expect(same_sums && same(value, whole) && same(once.template value<Arch>(sink), whole), [&] {
              return std::string(Arch::name) + ", " + name(kind) + ": merged to " + exact_text(value) + ", not " +
                     exact_text(whole) + "; " +
                     describe(z, xs::log_softmax_options{.temperature = temperature, .sink = sink});
            });
          }
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_sum_exp_state: any other cut stays within the bound", "[log_sum_exp][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(8);
  for (const row_kind kind : row_kinds) {
    const std::vector<T> z = make_row<T>(kind, 3000, 3);
    xs::log_sum_exp_state<T> state;
    for (std::size_t first = 0; first < z.size();) {
      const std::size_t size = std::min(z.size() - first, 1 + random.below(50));
      state.template push<Arch>(xs::vector_view<const T>(z.data() + first, size));
      first += size;
    }
    expect_right_log_sum_exp(found, z, state.template value<Arch>(), {}, std::string(Arch::name) + ", " + name(kind));
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_sum_exp: special values", "[log_sum_exp][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  struct special {
    std::vector<T> z;
    T without;
    T with; // a sink of 3 at T = 2
  };
  const special table[] = {
      {{}, -inf<T>, T(1.5)},
      {{-inf<T>}, -inf<T>, T(1.5)},
      {{-inf<T>, -inf<T>, -inf<T>}, -inf<T>, T(1.5)},
      {{inf<T>}, inf<T>, inf<T>},
      {{1, inf<T>, -inf<T>, inf<T>}, inf<T>, inf<T>},
      {{nan_of<T>}, nan_of<T>, nan_of<T>},
      {{inf<T>, nan_of<T>}, nan_of<T>, nan_of<T>},
      {{-inf<T>, nan_of<T>}, nan_of<T>, nan_of<T>},
      {{1, 2, nan_of<T>, 3}, nan_of<T>, nan_of<T>},
      {{T(3e38), nan_of<T>, T(-3e38)}, nan_of<T>, nan_of<T>},
      {{-inf<T>, 500000, -inf<T>}, T(250000), T(250000)},
  };
  for (const special& row : table) {
    // Alone, and before and after blocks that hold something else.
    for (const std::size_t blocks : {0u, 1u, 3u}) {
      std::vector<T> z(blocks * xs::log_sum_exp_state<T>::block_size, -inf<T>);
      z.insert(z.end(), row.z.begin(), row.z.end());
      std::vector<T> reversed(z.rbegin(), z.rend());
      for (const auto& v : {z, reversed}) {
        CAPTURE(Arch::name, scalar_name<T>(), row.z, blocks);
        CHECK(same(xs::log_sum_exp<Arch>(v, {.temperature = 2}), row.without));
        CHECK(same(xs::log_sum_exp<Arch>(v, {.temperature = 2, .sink = 3}), row.with));
        xs::log_sum_exp_state<T> state(2);
        state.template push<Arch>(v);
        CHECK(same(state.template value<Arch>(), row.without));
        CHECK(same(state.template value<Arch>(3), row.with));
      }
    }
  }
  // NaN in one part and +inf in another, either way.
  for (const bool swapped : {false, true}) {
    xs::log_sum_exp_state<T> a;
    xs::log_sum_exp_state<T> b;
    a.template push<Arch>(std::vector<T>{swapped ? inf<T> : nan_of<T>, 1});
    b.template push<Arch>(std::vector<T>{swapped ? nan_of<T> : inf<T>, 2});
    a.template merge<Arch>(b);
    CHECK(std::isnan(a.template value<Arch>()));
  }
}

TEMPLATE_LIST_TEST_CASE("log_sum_exp: rows of a matrix at any stride", "[log_sum_exp][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const std::size_t rows = 5;
  for (const std::size_t cols : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{4500}}) {
    const std::vector<T> by_row = make_row<T>(row_kind::wide, rows * cols, 5);
    std::vector<T> by_column(rows * cols);
    std::vector<T> spaced(rows * cols * 3);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) {
        by_column[c * rows + r] = by_row[r * cols + c];
        spaced[(r * cols + c) * 3] = by_row[r * cols + c];
      }
    }
    std::vector<T> a(rows), b(rows), c(2 * rows, T(-7));
    xs::log_sum_exp<Arch>(xs::matrix_view<const T>(by_row.data(), rows, cols), a);
    xs::log_sum_exp<Arch>(xs::matrix_view<const T>(by_column.data(), cols, rows).transposed(), b);
    xs::log_sum_exp<Arch>(xs::matrix_view<const T>(spaced.data(), rows, cols, 3 * cols, 3),
                          xs::vector_view<T>(c.data(), rows, 2));
    for (std::size_t r = 0; r < rows; ++r) {
      CAPTURE(Arch::name, scalar_name<T>(), cols, r);
      const std::vector<T> row(by_row.data() + r * cols, by_row.data() + (r + 1) * cols);
      CHECK(same(a[r], xs::log_sum_exp<Arch>(row)));
      CHECK(same(b[r], a[r]));
      CHECK(same(c[2 * r], a[r]));
      CHECK(c[2 * r + 1] == T(-7));
      std::vector<T> padded = row;
      padded.resize(cols + 3000, -inf<T>);
      CHECK(same(xs::log_sum_exp<Arch>(padded), a[r]));
    }
  }
}

TEST_CASE("log_sum_exp_state: refusals, copies", "[log_sum_exp][unit]") {
  using state = xs::log_sum_exp_state<float>;
  static_assert(std::is_trivially_copyable_v<state>);
  const double infinity = std::numeric_limits<double>::infinity();
  const std::vector<float> z = {1, 2, 3};
  for (const double temperature : {0.0, -1.0, infinity, std::nan("")}) {
    CHECK_THROWS_AS(state(temperature), std::invalid_argument);
    CHECK_THROWS_AS((void)xs::log_sum_exp(z, {.temperature = temperature}), std::invalid_argument);
  }
  CHECK_THROWS_AS((void)xs::log_sum_exp(z, {.sink = infinity}), std::invalid_argument);
  CHECK_THROWS_AS((void)state().value(infinity), std::invalid_argument);
  std::vector<float> out(3, -7.0f);
  CHECK_THROWS_AS(xs::log_sum_exp(xs::matrix_view<const float>(z.data(), 1, 3), out), std::invalid_argument);
  CHECK(out == std::vector<float>(3, -7.0f));

  state a(0.1);
  state b(0.1);
  state c(0.1f);
  a.push(z);
  c.push(z);
  CHECK_NOTHROW(a.merge(b));
  try {
    a.merge(c);
    FAIL("states of different temperatures were merged");
  } catch (const std::invalid_argument& error) {
    const std::string message = error.what();
    CAPTURE(message);
    CHECK(message.find("0.10000000000000001") != std::string::npos);
    CHECK(message.find("0.10000000149011612") != std::string::npos);
  }
  unsigned char bytes[sizeof(state)];
  std::memcpy(bytes, &a, sizeof a);
  state copy;
  std::memcpy(&copy, bytes, sizeof a);
  copy.push(z);
  a.push(z);
  CHECK(same(copy.value(), a.value()));
  CHECK(copy.temperature() == 0.1);
}

// SPDX-License-Identifier: MIT
// sample: the place of the largest perturbed logit, to the bit, whatever is skipped on the way; its special values; and
// its frequencies, down to classes that win once in 10^12 draws.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/layouts.hpp"
#include "../support/math_probe.hpp"
#include "../support/noise_reference.hpp"
#include "../support/rows.hpp"
#include "../support/types.hpp"
#include "../support/ulp.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T nan_of = std::numeric_limits<T>::quiet_NaN();

constexpr double temperatures[] = {1.0, 0.7, 0.1, 1e-3, 1e-9, 1e-30, 1e-44, 1e-310, 0.0,
                                   1.3, 2.0, 1e3, 1e9,  1e30, 1e38,  1e45,  1e300};

template <class Arch, class T>
void expect_drawn(findings& found, const std::vector<T>& z, const xs::noise_key& key, double temperature,
                  const std::string& what) {
  const std::vector<T> g = noise_row<Arch, T>(noise::gumbel, key, z.size());
  const std::size_t expected = drawn(z, g, temperature);
  const std::size_t index = xs::sample<Arch>(key, z, {.temperature = temperature});
  found.expect(index == expected, [&] {
    return std::string(Arch::name) + ", " + scalar_name<T>() + ", " + what + ", n = " + std::to_string(z.size()) +
           ", T = " + exact_text(temperature) + ", seed " + std::to_string(key.seed) + ", index " +
           std::to_string(key.index) + ": " + std::to_string(index) + ", not " + std::to_string(expected);
  });
}

/// Draws from one row of logits with the keys' rows 0, 1, ...
template <class T>
std::vector<std::size_t> draws(const xs::noise_key& key, const std::vector<T>& z, std::size_t count,
                               double temperature = 1.0) {
  std::vector<std::size_t> indices(count);
  xs::sample(key, xs::matrix_view<const T>(z.data(), count, z.size(), 0), indices, {.temperature = temperature});
  return indices;
}

/// Pearson's statistic less its mean, in its standard deviations.
double chi_square_excess(const std::vector<double>& expected, const std::vector<double>& observed) {
  double sum = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    sum += (observed[i] - expected[i]) * (observed[i] - expected[i]) / expected[i];
  }
  const double freedom = static_cast<double>(expected.size()) - 1;
  return (sum - freedom) / std::sqrt(2 * freedom);
}

} // namespace

TEMPLATE_LIST_TEST_CASE("sample: the place of the largest perturbed logit", "[sample][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(1);
  for (const row_kind kind : row_kinds) {
    for (std::size_t n = 0; n <= 300; n += n < 70 ? 1 : 13) {
      const xs::noise_key key{
          .seed = random.next(), .stream = n, .row = n, .index = n % 2 == 0 ? 0 : random.below(999)};
      const std::vector<T> z = make_row<T>(kind, n, n);
      for (const double temperature : temperatures) {
        expect_drawn<Arch>(found, z, key, temperature, name(kind));
      }
    }
    const std::vector<T> z = make_row<T>(kind, 9000, 5);
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      expect_drawn<Arch>(found, z, {.seed = seed}, 1.0, name(kind));
      expect_drawn<Arch>(found, z, {.seed = seed, .index = 17}, 1.7, name(kind));
    }
  }
  // Where the number of a block gets another upper half, with equal logits: the noise after that draws half of the
  // time.
  for (const std::uint64_t index : {(std::uint64_t{1} << 34) - 64, (std::uint64_t{3} << 34) - 130}) {
    for (std::uint64_t seed = 0; seed < 30; ++seed) {
      expect_drawn<Arch>(found, std::vector<T>(260, T(1)), {.seed = seed, .index = index}, 1.0, "equal logits");
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("sample: logits a hair above and below what wins", "[sample][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(2);
  const auto stepped = [](T x, int steps) {
    for (; steps > 0; --steps) {
      x = std::nextafter(x, inf<T>);
    }
    for (; steps < 0; ++steps) {
      x = std::nextafter(x, -inf<T>);
    }
    return x;
  };
  for (const double temperature : {1.0, 0.25, 1e-3, 1e-20, 1.5, 40.0, 1e6}) {
    for (const double centre : {0.0, 3.0, -1000.0, 1e6, -1e15}) {
      for (int trial = 0; trial < 60; ++trial) {
        const std::size_t n = 200 + random.below(300);
        const xs::noise_key key{.seed = random.next(), .index = random.below(64)};
        std::vector<T> z(n);
        for (T& x : z) {
          x = static_cast<T>(centre + 2 * random.normal());
        }
        const std::vector<T> g = noise_row<Arch, T>(noise::gumbel, key, n);
        const std::size_t winner = drawn(z, g, temperature);
        const double best = temperature <= 1
                                ? static_cast<double>(z[winner]) + temperature * static_cast<double>(g[winner])
                                : static_cast<double>(z[winner]) / temperature + static_cast<double>(g[winner]);
        // Another element that comes out beside it: later ones have to be noticed, earlier ones must be beaten.
        const std::size_t other = random.below(n);
        if (other == winner) {
          continue;
        }
        const T beside = static_cast<T>(temperature <= 1 ? best - temperature * static_cast<double>(g[other])
                                                         : (best - static_cast<double>(g[other])) * temperature);
        for (int steps = -3; steps <= 3; ++steps) {
          z[other] = stepped(beside, steps);
          expect_drawn<Arch>(found, z, key, temperature, "beside the winner");
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("sample: special values at every place", "[sample][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto expect = [&](const std::vector<T>& z, double temperature, std::size_t expected, const char* what) {
    const std::size_t index = xs::sample<Arch>({.seed = 3, .index = 9}, z, {.temperature = temperature});
    found.expect(index == expected, [&] {
      return std::string(Arch::name) + ": " + what + ", n = " + std::to_string(z.size()) +
             ", T = " + exact_text(temperature) + ": " + std::to_string(index);
    });
  };
  for (const double temperature : {0.0, 1e-310, 0.5, 1.0, 3.0, 1e300}) {
    expect({}, temperature, xs::npos, "no element");
    for (const std::size_t n : {1u, 2u, 15u, 64u, 65u, 200u}) {
      expect(std::vector<T>(n, -inf<T>), temperature, xs::npos, "only -inf");
      for (std::size_t i = 0; i < n; ++i) {
        std::vector<T> z = make_row<T>(row_kind::masked, n, i);
        z[i] = nan_of<T>;
        expect(z, temperature, xs::npos, "NaN");
        z[i] = -nan_of<T>;
        expect(z, temperature, xs::npos, "-NaN");
        z[i] = inf<T>;
        expect(z, temperature, xs::npos, "+inf");
        z.assign(n, -inf<T>);
        z[i] = std::numeric_limits<T>::lowest();
        expect(z, temperature, i, "one that is not masked");
        z[i] = std::numeric_limits<T>::max();
        expect(z, temperature, i, "one that is not masked");
        z.assign(n, std::numeric_limits<T>::max()); // sums of these overflow
        expect_drawn<Arch>(found, z, {.seed = i}, temperature, "enormous");
        z[n - 1] = nan_of<T>;
        expect(z, temperature, xs::npos, "NaN after enormous ones");
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  CHECK_THROWS_AS(xs::sample<Arch>({}, std::vector<T>{1, 2}, {.temperature = -1}), std::invalid_argument);
  CHECK_THROWS_AS(xs::sample<Arch>({}, std::vector<T>{1, 2}, {.temperature = nan_of<double>}), std::invalid_argument);
  CHECK_THROWS_AS(xs::sample<Arch>({}, std::vector<T>{1, 2}, {.temperature = inf<double>}), std::invalid_argument);
  CHECK_THROWS_AS(xs::sample<Arch>({.stream = std::uint64_t{1} << 40}, std::vector<T>{1, 2}), std::invalid_argument);
}

TEMPLATE_LIST_TEST_CASE("sample: rows of matrices in every layout, halves, executors", "[sample][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const xs::noise_key key{.seed = 8, .stream = 1, .row = 100, .index = 3};
  const auto compare = [&](const std::string& what, const auto& z, std::size_t rows, std::size_t cols, auto&& of_row,
                           double temperature, auto&& call) {
    std::vector<std::size_t> indices(2 * rows + 1, 12345);
    call(z, xs::vector_view<std::size_t>(indices.data() + 1, rows, 2));
    for (std::size_t r = 0; r < rows; ++r) {
      xs::noise_key row_key = key;
      row_key.row += r;
      const std::size_t alone = xs::sample<Arch>(row_key, of_row(r), {.temperature = temperature});
      found.expect(indices[2 * r + 1] == alone && indices[2 * r] == 12345, [&] {
        return std::string(Arch::name) + ", " + what + ", " + std::to_string(cols) + " columns, row " +
               std::to_string(r);
      });
    }
  };
  for (const std::size_t cols : {1u, 5u, 64u, 100u, 2500u}) {
    constexpr std::size_t rows = 9;
    std::vector<std::vector<T>> values;
    for (std::size_t r = 0; r < rows; ++r) {
      values.push_back(make_row<T>(r % 2 == 0 ? row_kind::normal : row_kind::masked, cols, r));
    }
    const auto row = [&](std::size_t r) { return values[r]; };
    for (const double temperature : {0.0, 0.5, 1.0, 4.0}) {
      const xs::sample_options options{.temperature = temperature};
      for (const layout& l : layouts_of(rows, cols)) {
        laid_out<T> z(rows, cols, l, 3);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < cols; ++c) {
            z.at(r, c) = values[r][c];
          }
        }
        compare(l.what, z.view(), rows, cols, row, temperature,
                [&](auto view, auto indices) { xs::sample<Arch>(key, view, indices, options); });
      }
      if constexpr (std::is_same_v<T, float>) {
        std::vector<xs::bfloat16> half(rows * cols);
        std::vector<std::vector<float>> widened = values;
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < cols; ++c) {
            half[r * cols + c] = xs::bfloat16(values[r][c]);
            widened[r][c] = static_cast<float>(half[r * cols + c]);
          }
        }
        compare(
            "bfloat16", xs::matrix_view<const xs::bfloat16>(half.data(), rows, cols), rows, cols,
            [&](std::size_t r) { return widened[r]; }, temperature,
            [&](auto view, auto indices) { xs::sample<Arch>(key, view, indices, options); });
      }
    }
  }
  // Enough rows to be shared out.
  constexpr std::size_t rows = 600;
  constexpr std::size_t cols = 300;
  std::vector<T> z;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::vector<T> one = make_row<T>(row_kind::normal, cols, r);
    z.insert(z.end(), one.begin(), one.end());
  }
  for (const named_executor& e : every_executor()) {
    compare(
        e.name, xs::matrix_view<const T>(z.data(), rows, cols), rows, cols,
        [&](std::size_t r) { return std::vector<T>(z.data() + r * cols, z.data() + (r + 1) * cols); }, 1.0,
        [&](auto view, auto indices) { xs::sample<Arch>(e.run, key, view, indices); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  std::vector<std::size_t> few(3);
  CHECK_THROWS_AS(xs::sample<Arch>(key, xs::matrix_view<const T>(z.data(), 4, 5), few), std::invalid_argument);
}

TEMPLATE_LIST_TEST_CASE("sample: what top-k, top-p and min-p leave", "[sample][truncation][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t undecided = 0;
  const auto check = [&](const std::vector<T>& z, const xs::sample_options& options, const char* what) {
    const std::size_t n = z.size();
    // The row in its order, one step after the other.
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < n; ++i) {
      if (z[i] != -inf<T>) {
        order.push_back(i);
      }
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return z[a] > z[b]; });
    if (options.top_k != 0 && options.top_k < order.size()) {
      order.resize(options.top_k);
    }
    if (options.top_p < 1) {
      std::vector<T> masked(n, -inf<T>);
      for (const std::size_t i : order) {
        masked[i] = z[i];
      }
      const std::vector<T> p = xs::softmax<Arch>(masked, {.temperature = options.temperature});
      double mass = 0;
      for (std::size_t j = 0; j < order.size(); ++j) {
        mass += static_cast<double>(p[order[j]]);
        // A sum in another order decides otherwise so near.
        if (std::fabs(mass - options.top_p) < 4e-7 && options.top_p != 0) {
          ++undecided;
          return;
        }
        if (mass >= options.top_p) {
          order.resize(j + 1);
        }
      }
    }
    while (!order.empty() && std::exp((static_cast<double>(z[order.back()]) - static_cast<double>(z[order[0]])) /
                                      options.temperature) < options.min_p) {
      order.pop_back();
    }
    std::vector<T> left(n, -inf<T>);
    for (const std::size_t i : order) {
      left[i] = z[i];
    }
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      const xs::noise_key key{.seed = seed, .row = 3, .index = seed * 13};
      const std::size_t expected = drawn(left, noise_row<Arch, T>(noise::gumbel, key, n), options.temperature);
      const std::size_t index = xs::sample<Arch>(key, z, options);
      found.expect(index == expected, [&] {
        return std::string(Arch::name) + ", " + scalar_name<T>() + ", " + what + ", n = " + std::to_string(n) +
               ", T = " + exact_text(options.temperature) + ", top_k = " + std::to_string(options.top_k) +
               ", top_p = " + exact_text(options.top_p) + ", min_p = " + exact_text(options.min_p) + ", " +
               std::to_string(order.size()) + " are left: " + std::to_string(index) + ", not " +
               std::to_string(expected);
      });
    }
  };
  for (const row_kind kind : {row_kind::normal, row_kind::masked, row_kind::ties, row_kind::constant, row_kind::narrow,
                              row_kind::very_wide, row_kind::enormous}) {
    for (const std::size_t n : {1u, 2u, 10u, 64u, 65u, 300u, 1100u, 3000u}) {
      const std::vector<T> z = make_row<T>(kind, n, n + 1);
      for (const double temperature : {1.0, 0.5, 2.0}) {
        for (const std::size_t k : {std::size_t{1}, std::size_t{2}, std::size_t{50}, n / 2, n, std::size_t{1500}}) {
          check(z, {.temperature = temperature, .top_k = k}, name(kind));
          check(z, {.temperature = temperature, .top_k = k, .top_p = 0.83}, name(kind));
          check(z, {.temperature = temperature, .top_k = k, .top_p = 0.97, .min_p = 0.031}, name(kind));
        }
        for (const double p : {0.0, 0.137, 0.5, 0.951, 0.9993}) {
          check(z, {.temperature = temperature, .top_p = p}, name(kind));
        }
        for (const double p : {1e-30, 0.0137, 0.3, 0.999, 1.0}) {
          check(z, {.temperature = temperature, .min_p = p}, name(kind));
          check(z, {.temperature = temperature, .top_p = 0.873, .min_p = p}, name(kind));
        }
      }
    }
  }
  // Zeros of both signs, more of them than are taken out, and extremes.
  for (const std::size_t k : {std::size_t{1500}, std::size_t{3500}}) {
    std::vector<T> z = make_row<T>(row_kind::normal, 6000, 7);
    for (std::size_t i = 0; i < z.size(); ++i) {
      z[i] = i % 3 == 0 ? T(0) : std::min(-z[i], T(0)) / 10;
    }
    for (const double temperature : {1.0, 1e-3, 1e30}) {
      check(z, {.temperature = temperature, .top_k = k}, "zeros of both signs");
      check(z, {.temperature = temperature, .top_p = 0.31}, "zeros of both signs");
      check(z, {.temperature = temperature, .top_p = 0.83}, "zeros of both signs");
    }
  }
  const T end = std::numeric_limits<T>::max();
  check({end, -end}, {.temperature = static_cast<double>(end), .min_p = 0.1}, "the ends of the range");
  check({end, -end}, {.temperature = static_cast<double>(end), .min_p = 0.2}, "the ends of the range");
  for (const double temperature : {1e-30, 1e-300, 1e300}) {
    for (const row_kind kind : {row_kind::normal, row_kind::enormous, row_kind::ties}) {
      check(make_row<T>(kind, 2500, 3), {.temperature = temperature, .top_k = 1100}, name(kind));
      check(make_row<T>(kind, 2500, 3), {.temperature = temperature, .top_p = 0.41}, name(kind));
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  CHECK(undecided * 20 < found.comparisons());
  // Whatever is asked for, what cannot be drawn from is not.
  for (const xs::sample_options& options :
       {xs::sample_options{.top_k = 3}, {.top_p = 0.5}, {.min_p = 0.5}, {.temperature = 0, .top_k = 2}}) {
    std::vector<T> z = make_row<T>(row_kind::normal, 100, 1);
    const auto largest = static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin());
    CHECK(xs::sample<Arch>({}, z, {.temperature = 0, .top_k = options.top_k, .top_p = options.top_p}) == largest);
    CHECK(xs::sample<Arch>({}, std::vector<T>(70, -inf<T>), options) == xs::npos);
    CHECK(xs::sample<Arch>({}, std::vector<T>{}, options) == xs::npos);
    z[77] = nan_of<T>;
    CHECK(xs::sample<Arch>({}, z, options) == xs::npos);
    z[77] = inf<T>;
    CHECK(xs::sample<Arch>({}, z, options) == xs::npos);
  }
  const std::vector<T> z(3);
  for (const double bad : {-0.1, 1.1, nan_of<double>}) {
    CHECK_THROWS_AS(xs::sample<Arch>({}, z, {.top_p = bad}), std::invalid_argument);
    CHECK_THROWS_AS(xs::sample<Arch>({}, z, {.min_p = bad}), std::invalid_argument);
  }
  // Rows of a matrix, in any layout, as each alone.
  const xs::sample_options options{.temperature = 0.9, .top_k = 40, .top_p = 0.9, .min_p = 0.02};
  for (const layout& l : layouts_of(6, 2500)) {
    laid_out<T> in(6, 2500, l);
    std::vector<std::size_t> indices(6);
    for (std::size_t r = 0; r < 6; ++r) {
      const std::vector<T> row = make_row<T>(row_kind::normal, 2500, r);
      for (std::size_t c = 0; c < 2500; ++c) {
        in.at(r, c) = row[c];
      }
    }
    xs::sample<Arch>({.seed = 2}, in.view(), indices, options);
    for (std::size_t r = 0; r < 6; ++r) {
      CHECK(indices[r] == xs::sample<Arch>({.seed = 2, .row = r}, make_row<T>(row_kind::normal, 2500, r), options));
    }
  }
}

TEMPLATE_LIST_TEST_CASE("sample_without_replacement: the largest perturbed logits in their order", "[sample][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check = [&](const std::vector<T>& z, std::size_t k, const xs::noise_key& key, double temperature,
                         const char* what) {
    // One after the other: the best is drawn and masked.
    const std::vector<T> g = noise_row<Arch, T>(noise::gumbel, key, z.size());
    std::vector<T> left = z;
    std::vector<std::size_t> expected(k, xs::npos);
    std::size_t count = 0;
    while (count < k) {
      const std::size_t next = drawn(left, g, temperature);
      if (next == xs::npos) {
        break;
      }
      expected[count++] = next;
      left[next] = -inf<T>;
    }
    std::vector<std::size_t> indices(k, 4711);
    const std::size_t returned = xs::sample_without_replacement<Arch>(key, z, indices, {.temperature = temperature});
    found.expect(returned == count && indices == expected, [&] {
      return std::string(Arch::name) + ", " + scalar_name<T>() + ", " + what + ", n = " + std::to_string(z.size()) +
             ", k = " + std::to_string(k) + ", T = " + exact_text(temperature);
    });
  };
  for (const row_kind kind :
       {row_kind::normal, row_kind::masked, row_kind::ties, row_kind::constant, row_kind::enormous}) {
    for (const std::size_t n : {0u, 1u, 5u, 64u, 100u, 1500u}) {
      for (const std::size_t k : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{7}, n, n + 3}) {
        for (const double temperature : {1.0, 0.3, 0.0, 2.5}) {
          check(make_row<T>(kind, n, n), k, {.seed = n, .index = k}, temperature, name(kind));
        }
      }
    }
  }
  check(make_row<T>(row_kind::normal, 5000, 1), 3000, {.seed = 1}, 1.0, "more than there is room for");
  check(make_row<T>(row_kind::ties, 5000, 1), 2048, {.seed = 1}, 0.0, "ties across the room's end");
  std::vector<T> z = make_row<T>(row_kind::normal, 300, 1);
  z[200] = nan_of<T>;
  check(z, 5, {}, 1.0, "NaN");
  z[200] = inf<T>;
  check(z, 5, {}, 1.0, "+inf");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("sample_many: special values, layouts and one draw like another", "[sample][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto many = [](const auto& z, const xs::noise_key& key, std::size_t count, double temperature) {
    std::vector<std::size_t> indices(count);
    xs::sample_many<Arch>(key, z, indices, {.temperature = temperature});
    return indices;
  };
  const auto expect = [&](bool holds, const char* what, std::size_t n) {
    found.expect(holds, [&] { return std::string(Arch::name) + ", " + what + ", n = " + std::to_string(n); });
  };
  for (const std::size_t n : {0u, 1u, 100u, 512u, 513u, 1300u, 5000u}) {
    const auto all = [&](const std::vector<std::size_t>& indices, std::size_t index) {
      return std::count(indices.begin(), indices.end(), index) == static_cast<std::ptrdiff_t>(indices.size());
    };
    expect(all(many(std::vector<T>(n, -inf<T>), {}, 5, 1.0), xs::npos), "only -inf", n);
    for (std::size_t i = 0; i < n; i += 1 + n / 7) {
      std::vector<T> z = make_row<T>(row_kind::masked, n, i);
      const std::vector<T> plain = z;
      const auto largest = static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin());
      expect(all(many(z, {}, 3, 0.0), largest), "T = 0", n);
      const std::vector<std::size_t> indices = many(z, {.seed = i, .row = 10}, 40, 0.8);
      for (std::size_t j = 0; j < indices.size(); ++j) {
        expect(indices[j] < n && z[indices[j]] != -inf<T>, "a masked one", n);
        expect(many(z, {.seed = i, .row = 10 + j}, 1, 0.8)[0] == indices[j], "one by one", n);
      }
      std::vector<T> apart(2 * n + 1, nan_of<T>);
      for (std::size_t c = 0; c < n; ++c) {
        apart[2 * c] = z[c];
      }
      expect(many(xs::vector_view<const T>(apart.data(), n, 2), {.seed = i, .row = 10}, 40, 0.8) == indices, "strided",
             n);
      z[i] = nan_of<T>;
      expect(all(many(z, {}, 3, 1.0), xs::npos), "NaN", n);
      z[i] = inf<T>;
      expect(all(many(z, {}, 3, 1.0), xs::npos), "+inf", n);
      z.assign(n, -inf<T>);
      z[i] = T(-3);
      expect(all(many(z, {}, 3, 1.0), i), "one that is not masked", n);
    }
  }
  // Extremes: there is something to draw, so something is drawn; ties far from 0 are drawn alike.
  for (const double temperature : {1e-310, 1e-39, 1e-20, 0.5, 1e20, 1e300}) {
    for (const double centre : {0.0, 6.0, -6.0, 1e30, -1e38, 3e38}) {
      std::vector<T> z(600);
      for (std::size_t i = 0; i < z.size(); ++i) {
        z[i] = static_cast<T>(centre + static_cast<double>(i % 7));
      }
      for (const std::size_t i : many(z, {}, 20, temperature)) {
        expect(i < z.size() && (temperature > 1e-10 || std::fabs(centre) > 1e10 || i % 7 == 6), "extremes", 600);
      }
    }
  }
  {
    std::vector<T> z(513, T(3e6));
    const std::vector<std::size_t> indices = many(z, {.seed = 9}, 40000, 1.0);
    const auto alone = static_cast<double>(std::count(indices.begin(), indices.end(), std::size_t{512}));
    expect(std::fabs(alone - 40000.0 / 513) < 6 * std::sqrt(40000.0 / 513), "a tie in a block of its own", 513);
  }
  expect(many(std::vector<T>(1024), {.seed = 1}, 200, 1.0) !=
             many(std::vector<T>(1024), {.seed = 1, .index = 99999}, 200, 1.0),
         "the key's index", 1024);
  XSOFTMAX_CHECK_FINDINGS(found);
  std::vector<std::size_t> three(3);
  CHECK_THROWS_AS(xs::sample_many<Arch>({.row = (std::uint64_t{1} << 40) - 2}, std::vector<T>{1, 2}, three),
                  std::invalid_argument);
  CHECK_THROWS_AS(xs::sample_without_replacement<Arch>({}, std::vector<T>{1, 2}, three, {.temperature = -1}),
                  std::invalid_argument);
}

// Thresholds: six standard deviations, of which the normal distribution exceeds a share of 10^-9 and chi-square with
// so many degrees of freedom no more than 10^-7.
TEST_CASE("sample: frequencies are those of softmax", "[sample][statistics][unit]") {
  generator random(77);
  for (const double temperature : {1.0, 0.6, 2.5}) {
    for (const std::size_t n : {2u, 10u, 100u}) {
      std::vector<float> z(n);
      for (float& x : z) {
        x = static_cast<float>(1.2 * random.normal());
      }
      constexpr std::size_t count = 400000;
      std::vector<float> scaled(z);
      const std::vector<float> p = xs::softmax(scaled, {.temperature = temperature});
      std::vector<double> expected(n);
      std::vector<double> observed(n);
      for (std::size_t i = 0; i < n; ++i) {
        expected[i] = count * static_cast<double>(p[i]);
      }
      for (const std::size_t i : draws({.seed = random.next()}, z, count, temperature)) {
        ++observed[i];
      }
      CAPTURE(temperature, n);
      CHECK(chi_square_excess(expected, observed) < 6);
    }
  }
}

TEST_CASE("sample_many, sample_without_replacement: frequencies", "[sample][statistics][unit]") {
  generator random(78);
  // Blocks of very different weight.
  constexpr std::size_t n = 2000;
  std::vector<float> z(n);
  for (std::size_t i = 0; i < n; ++i) {
    z[i] = static_cast<float>(random.normal() + 0.002 * static_cast<double>(i));
  }
  constexpr std::size_t count = 400000;
  std::vector<std::size_t> indices(count);
  xs::sample_many({.seed = 5}, z, indices, {.temperature = 0.9});
  const std::vector<float> p = xs::softmax(z, {.temperature = 0.9});
  std::vector<double> expected(n);
  std::vector<double> observed(n);
  for (std::size_t i = 0; i < n; ++i) {
    expected[i] = count * static_cast<double>(p[i]);
  }
  for (const std::size_t i : indices) {
    ++observed[i];
  }
  CHECK(chi_square_excess(expected, observed) < 6);
  // Pairs in order: p_i p_j / (1 - p_i).
  const std::vector<float> few = {0.0f, 1.0f, 0.5f, -0.5f};
  const std::vector<float> q = xs::softmax(few);
  std::vector<double> pairs;
  std::vector<double> seen(12);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 4; ++j) {
      if (i != j) {
        pairs.push_back(100000.0 * static_cast<double>(q[i]) * static_cast<double>(q[j]) /
                        (1 - static_cast<double>(q[i])));
      }
    }
  }
  for (std::size_t draw = 0; draw < 100000; ++draw) {
    std::array<std::size_t, 2> two{};
    xs::sample_without_replacement({.seed = 6, .row = draw}, few, two);
    ++seen[3 * two[0] + two[1] - (two[1] > two[0] ? 1 : 0)];
  }
  CHECK(chi_square_excess(pairs, seen) < 6);
}

TEST_CASE("sample: a masked token is never drawn", "[sample][statistics][unit]") {
  std::vector<float> z(64, -inf<float>);
  for (const std::size_t open : {3u, 40u}) {
    z[open] = -50.0f; // far below what a masked token's noise could make up for if it were added to anything finite
  }
  for (const std::size_t i : draws({.seed = 1}, z, 300000)) {
    if (i != 3 && i != 40) {
      CHECK(i == 3);
    }
  }
}

TEST_CASE("sample: a masked token is drawn 0 times in 10^9 draws", "[sample][statistics][.exhaustive]") {
  std::vector<float> z(64, -inf<float>);
  z[3] = 0.0f;
  z[40] = -1.0f;
  std::size_t masked = 0;
  std::size_t second = 0;
  constexpr std::size_t rounds = 1000;
  constexpr std::size_t count = 1000000;
  for (std::size_t round = 0; round < rounds; ++round) {
    for (const std::size_t i : draws({.seed = 2, .stream = round}, z, count)) {
      masked += i != 3 && i != 40;
      second += i == 40;
    }
  }
  CHECK(masked == 0);
  const double p = 1 / (1 + std::exp(1.0));
  const double n = static_cast<double>(rounds) * count;
  CHECK(std::fabs(static_cast<double>(second) - n * p) < 6 * std::sqrt(n * p * (1 - p)));
}

TEST_CASE("sample: a million classes that win once in 10^8 draws each", "[sample][statistics][unit]") {
  // One at 0 and 2^20 at -18, beyond what noise of 24 bits reaches: together they should win once in 64 draws.
  std::vector<float> z((1u << 20) + 1, -18.0f);
  z[500000] = 0.0f;
  const double odds = 0x1p20 * std::exp(static_cast<double>(z[0]));
  const double p = odds / (1 + odds);
  constexpr std::size_t count = 4000;
  std::set<std::size_t> places;
  std::size_t hits = 0;
  for (const std::size_t i : draws({.seed = 12}, z, count)) {
    if (i != 500000) {
      ++hits;
      places.insert(i);
    }
  }
  CAPTURE(hits, count * p);
  CHECK(std::fabs(static_cast<double>(hits) - count * p) < 6 * std::sqrt(count * p));
  CHECK(places.size() + 2 >= hits); // two equal ones come once in 500 times, three pairs hardly ever
}

TEMPLATE_LIST_TEST_CASE("noise: events at 10^-9 and 10^-12 happen as often as they should", "[noise][statistics][unit]",
                        scalars) {
  // By importance: of the 64 bits the first 24 or 32 are 0, which happens once in 2^24 or 2^32 draws.
  using T = TestType;
  generator random(5);
  for (const auto& probe : math_probes<T>()) {
    for (const int zeros : {24, 32}) {
      constexpr std::size_t count = 1000000;
      std::vector<std::uint64_t> words(count);
      for (std::uint64_t& w : words) {
        w = random.next() >> zeros;
      }
      std::vector<T> g(count);
      probe.noise(0, words.data(), g.data(), count);
      for (const double event : {1e-9, 1e-12}) {
        const double p = event * std::ldexp(1.0, zeros);
        if (p >= 1) {
          continue;
        }
        const double threshold = -std::log(-std::log1p(-event));
        const auto hits = static_cast<double>(
            std::count_if(g.begin(), g.end(), [&](T x) { return static_cast<double>(x) > threshold; }));
        CAPTURE(probe.arch, zeros, event, hits, p * count);
        CHECK(std::fabs(hits - p * count) < 6 * std::sqrt(p * count));
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("noise: distributions by Kolmogorov and Smirnov, and by Anderson and Darling",
                        "[noise][statistics][unit]", scalars) {
  using T = TestType;
  constexpr std::size_t n = 1000000;
  for (const noise kind : noises) {
    std::vector<T> x = noise_row<xs::default_arch, T>(kind, {.seed = 2026}, n);
    std::sort(x.begin(), x.end());
    double distance = 0;
    double sum = 0;
    std::vector<double> below(n); // the distribution function, and one minus it
    std::vector<double> above(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto v = static_cast<double>(x[i]);
      switch (kind) {
      case noise::gumbel:
        below[i] = std::exp(-std::exp(-v));
        above[i] = -std::expm1(-std::exp(-v));
        break;
      case noise::logistic:
        below[i] = 1 / (1 + std::exp(-v));
        above[i] = 1 / (1 + std::exp(v));
        break;
      case noise::exponential:
        below[i] = -std::expm1(-v);
        above[i] = std::exp(-v);
        break;
      }
      const auto rank = static_cast<double>(i);
      distance = std::max({distance, below[i] - rank / n, (rank + 1) / n - below[i]});
    }
    for (std::size_t i = 0; i < n; ++i) {
      sum += (2 * static_cast<double>(i) + 1) * (std::log(below[i]) + std::log(above[n - 1 - i]));
    }
    CAPTURE(name(kind));
    // Both thresholds are exceeded by chance less than once in 10^6 times.
    CHECK(distance * std::sqrt(static_cast<double>(n)) < 2.7);
    CHECK(-static_cast<double>(n) - sum / n < 14);
  }
}

TEST_CASE("noise: neighbours in each field of the key, and the kinds, are independent", "[noise][statistics][unit]") {
  constexpr std::size_t n = 300000;
  const auto uniform = [](noise kind, const xs::noise_key& key) {
    std::vector<double> u(n);
    const std::vector<double> x = noise_row<xs::default_arch, double>(kind, key, n);
    for (std::size_t i = 0; i < n; ++i) {
      u[i] = kind == noise::gumbel     ? std::exp(-std::exp(-x[i]))
             : kind == noise::logistic ? 1 / (1 + std::exp(-x[i]))
                                       : -std::expm1(-x[i]);
    }
    return u;
  };
  const xs::noise_key key{.seed = 10, .stream = 20, .row = 30, .index = 0};
  const std::vector<double> base = uniform(noise::gumbel, key);
  const auto expect_independent = [&](const char* what, const std::vector<double>& other) {
    constexpr std::size_t bins = 16;
    std::vector<double> observed(bins * bins);
    for (std::size_t i = 0; i < n; ++i) {
      const auto bin = [](double u) { return std::min(bins - 1, static_cast<std::size_t>(u * bins)); };
      ++observed[bin(base[i]) * bins + bin(other[i])];
    }
    CAPTURE(what);
    CHECK(chi_square_excess(std::vector<double>(bins * bins, static_cast<double>(n) / (bins * bins)), observed) < 6);
  };
  expect_independent("seed", uniform(noise::gumbel, {.seed = 11, .stream = 20, .row = 30, .index = 0}));
  expect_independent("stream", uniform(noise::gumbel, {.seed = 10, .stream = 21, .row = 30, .index = 0}));
  expect_independent("row", uniform(noise::gumbel, {.seed = 10, .stream = 20, .row = 31, .index = 0}));
  for (const std::uint64_t distance : {1u, 2u, 16u, 32u, 64u, 128u}) {
    expect_independent("index", uniform(noise::gumbel, {.seed = 10, .stream = 20, .row = 30, .index = distance}));
  }
  expect_independent("logistic", uniform(noise::logistic, key));
  expect_independent("exponential", uniform(noise::exponential, key));
}

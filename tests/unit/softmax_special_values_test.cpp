// SPDX-License-Identifier: MIT
// The table of special values: each rule and its precedence, with the special logit at every position of every length.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr std::size_t longest = 257;

enum class expected { nan, zero };

template <class T>
void expect_all(findings& found, const std::vector<T>& z, const std::vector<T>& p, expected value,
                const xs::softmax_options& options, const char* rule) {
  bool holds = true;
  for (const T x : p) {
    holds = holds && (value == expected::nan ? std::isnan(x) : bits(x) == 0);
  }
  found.expect(holds, [&] { return std::string(rule) + "; " + describe(z, options); });
}

/// At every length and position, with each algorithm in turn (all of them where the length is short).
template <class Body>
void at_every_position(Body&& body) {
  for (std::size_t n = 1; n <= longest; ++n) {
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t chosen = (n + i) % std::size(algorithms);
      for (std::size_t a = 0; a < std::size(algorithms); ++a) {
        if (n <= 20 || a == chosen || i == 0 || i + 1 == n) {
          body(n, i, algorithms[a]);
        }
      }
    }
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: NaN anywhere gives a row of NaN", "[softmax][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  const T nan[] = {limits::quiet_NaN(), -limits::quiet_NaN(), limits::signaling_NaN()};
  findings found;
  at_every_position([&](std::size_t n, std::size_t i, xs::softmax_algorithm algorithm) {
    std::vector<T> z = make_row<T>(row_kind::normal, n, 1);
    z[i] = nan[(n + i) % 3];
    for (const double temperature : {1.0, 0.0, 0.7}) {
      const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
      expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "NaN in the row");
    }
    // NaN comes before every other rule.
    xs::softmax_options options{.algorithm = algorithm, .masked_row = xs::masked_row_policy::zero, .sink = 3.0};
    const std::size_t other = (i + n / 2) % n;
    if (other != i) {
      z[other] = limits::infinity();
      expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "NaN and +inf in the row");
    }
    z.assign(n, -limits::infinity());
    z[i] = limits::quiet_NaN();
    expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "NaN among -inf, zero wanted");
    options.temperature = 0;
    expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "NaN among -inf, T = 0");
    z = make_row<T>(row_kind::enormous_close, n, 1);
    z[i] = limits::quiet_NaN();
    options.temperature = 1;
    expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "NaN among enormous logits");
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: +inf anywhere gives a row of NaN", "[softmax][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr T infinity = std::numeric_limits<T>::infinity();
  findings found;
  at_every_position([&](std::size_t n, std::size_t i, xs::softmax_algorithm algorithm) {
    std::vector<T> z = make_row<T>(row_kind::normal, n, 2);
    z[i] = infinity;
    for (const double temperature : {1.0, 0.0, 1e300, 1e-300}) {
      const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
      expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "+inf in the row");
    }
    xs::softmax_options options{.algorithm = algorithm, .masked_row = xs::masked_row_policy::zero, .sink = 3.0};
    z.assign(n, -infinity);
    z[i] = infinity;
    expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "+inf among -inf");
    options.temperature = 0;
    expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "+inf among -inf, T = 0");
    z.assign(n, infinity);
    expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "nothing but +inf");
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: -inf is exactly 0 and leaves the others right", "[softmax][special][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr T infinity = std::numeric_limits<T>::infinity();
  findings found;
  at_every_position([&](std::size_t n, std::size_t i, xs::softmax_algorithm algorithm) {
    // One -inf. The exact result is costly, so long rows are sampled.
    if (n > 1 && (n <= 40 || i % 16 == n % 16)) {
      std::vector<T> z = make_row<T>(row_kind::wide, n, 3);
      z[i] = -infinity;
      const xs::softmax_options options{.temperature = i % 2 == 0 ? 1.0 : 0.7, .algorithm = algorithm};
      const std::vector<T> p = probabilities<Arch>(z, options);
      expect_right(found, z, p.data(), options, Arch::name);
      found.expect(bits(p[i]) == 0, [&] { return "-inf has weight; " + describe(z, options); });
    }
    // One finite logit among -inf.
    std::vector<T> z(n, -infinity);
    for (const T alone : {T(-2.5), std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max(), T(0)}) {
      z[i] = alone;
      for (const double temperature : {1.0, 0.0, 0.3, 1e-300, 1e300}) {
        const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
        const std::vector<T> p = probabilities<Arch>(z, options);
        bool holds = true;
        for (std::size_t k = 0; k < n; ++k) {
          holds = holds && bits(p[k]) == bits(k == i ? T(1) : T(0));
        }
        found.expect(holds, [&] {
          return std::string(Arch::name) + ": one finite logit, " + exact_text(alone) + " at " + std::to_string(i) +
                 " among -inf: p there = " + exact_text(p[i]) + "; " + describe(z, options);
        });
      }
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: a row of only -inf follows masked_row, a finite sink comes first",
                        "[softmax][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  findings found;
  for (std::size_t n = 1; n <= longest; ++n) {
    const std::vector<T> z(n, static_cast<T>(-infinity));
    for (const xs::softmax_algorithm algorithm : algorithms) {
      for (const double temperature : {1.0, 0.0, 1e-300, 1e300}) {
        xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
        expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "all -inf");
        options.sink = -infinity;
        expect_all(found, z, probabilities<Arch>(z, options), expected::nan, options, "all -inf, sink too");
        options.masked_row = xs::masked_row_policy::zero;
        expect_all(found, z, probabilities<Arch>(z, options), expected::zero, options, "all -inf, zero wanted");
        options.sink = 0.0;
        expect_all(found, z, probabilities<Arch>(z, options), expected::zero, options, "all -inf, zero and a sink");
        for (const double sink : {0.0, -1e300, 1e300}) {
          options.masked_row = xs::masked_row_policy::nan;
          options.sink = sink;
          expect_all(found, z, probabilities<Arch>(z, options), expected::zero, options, "all -inf and a finite sink");
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: T = 0 is one-hot at the lowest index of the maximum", "[softmax][special][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  const auto check = [&](const std::vector<T>& z, const xs::softmax_options& options) {
    // Every value is 0 or 1, so within 4 ULP is not enough here.
    const reference_softmax<T> exact(z.data(), z.size(), {0, false, options.sink});
    const std::vector<T> p = probabilities<Arch>(z, options);
    std::size_t wrong = z.size();
    for (std::size_t k = z.size(); k-- > 0;) {
      wrong = bits(p[k]) == bits(static_cast<T>(exact.probability(k))) ? wrong : k;
    }
    found.expect(wrong == z.size(), [&] {
      return std::string(Arch::name) + ": T = 0: element " + std::to_string(wrong) + " is " + exact_text(p[wrong]) +
             "; " + describe(z, options);
    });
  };
  at_every_position([&](std::size_t n, std::size_t i, xs::softmax_algorithm algorithm) {
    xs::softmax_options options{.temperature = 0, .algorithm = algorithm};
    std::vector<T> z = make_row<T>(row_kind::normal, n, 4);
    z[i] = 50;
    check(z, options);
    z[(i + n / 3) % n] = 50; // a tie: the lower index takes all
    check(z, options);
    z.assign(n, limits::lowest());
    check(z, options);
    z[i] = std::nextafter(limits::lowest(), T(0));
    check(z, options);
    z.assign(n, T(-0.0)); // both zeros are the same maximum
    z[i] = T(0);
    check(z, options);
    z[i] = limits::denorm_min();
    check(z, options);
    z.assign(n, -limits::infinity());
    z[i] = limits::lowest();
    check(z, options);
    z[(i + 1) % n] = limits::max();
    z[i] = limits::max();
    check(z, options);
    // A sink above the maximum takes everything; at the maximum or below it, nothing.
    z = make_row<T>(row_kind::normal, n, 4);
    z[i] = 50;
    options.sink = 49.5;
    check(z, options);
    options.sink = 50.0;
    check(z, options);
    options.sink = 50.5;
    check(z, options);
    options.sink = std::nextafter(50.0, 51.0); // not a float: compared as it is
    check(z, options);
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: a sink counts in the denominator only", "[softmax][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr double infinity = std::numeric_limits<double>::infinity();
  findings found;
  for (const std::size_t n : {1u, 2u, 3u, 7u, 16u, 31u, 64u, 100u, 257u}) {
    for (const row_kind kind : row_kinds) {
      const std::vector<T> z = make_row<T>(kind, n, 6);
      const double top = static_cast<double>(*std::max_element(z.begin(), z.end()));
      for (const double temperature : {1.0, 0.7, 3.0, 1e-30, 1e30}) {
        for (const double sink : {0.0, 1.5, top, top + 0.1, top - 20, top + 20, top + 90, -1e300, 1e300, 0.1, -800.0}) {
          if (std::isfinite(sink)) {
            const xs::softmax_options options{.temperature = temperature,
                                              .algorithm = algorithms[(n + static_cast<std::size_t>(kind)) % 5],
                                              .sink = sink};
            expect_right(found, z, probabilities<Arch>(z, options).data(), options, Arch::name);
          }
        }
      }
      // No sink and a sink of -inf are the same.
      const xs::softmax_options none{.temperature = 0.7};
      const xs::softmax_options masked{.temperature = 0.7, .sink = -infinity};
      expect_same_bits(found, probabilities<Arch>(z, none).data(), probabilities<Arch>(z, masked).data(), "sink -inf",
                       z, masked);
    }
  }
  // All algorithms and stores see the sink.
  for (const double sink : {0.3, 200.0, -200.0}) {
    expect_right_everywhere<Arch>(found, make_row<T>(row_kind::wide, 300, 7), {.temperature = 0.9, .sink = sink});
    expect_right_everywhere<Arch>(found, make_row<T>(row_kind::normal, 2049, 7), {.sink = sink / 20});
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: length 0 writes nothing", "[softmax][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  T untouched[4] = {T(11), T(12), T(13), T(14)};
  const T input[4] = {};
  for (const xs::softmax_algorithm algorithm : algorithms) {
    for (const double temperature : {1.0, 0.0}) {
      const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm, .sink = 1.0};
      xs::softmax<Arch>(xs::vector_view<const T>(input, 0), xs::vector_view<T>(untouched + 2, 0), options);
      xs::softmax<Arch>(xs::matrix_view<const T>(input, 2, 0), xs::matrix_view<T>(untouched + 2, 2, 0), options);
      xs::softmax<Arch>(xs::matrix_view<const T>(input, 0, 2), xs::matrix_view<T>(untouched + 2, 0, 2), options);
      xs::softmax<Arch>(xs::vector_view<const T>(nullptr, 0), xs::vector_view<T>(nullptr, 0), options);
      CHECK(xs::softmax<Arch>(std::vector<T>(), options).empty());
    }
  }
  CHECK(untouched[0] == 11);
  CHECK(untouched[1] == 12);
  CHECK(untouched[2] == 13);
  CHECK(untouched[3] == 14);
}

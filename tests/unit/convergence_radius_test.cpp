// SPDX-License-Identifier: MIT
// The convergence radius: known answers and closed forms, special values, the same bits in any layout, batch, order and
// on all architectures with fused multiply-add; errors; quantiles, the controller, and slopes by finite differences.

#include <algorithm>
#include <array>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/layouts.hpp"
#include "../support/partition_reference.hpp"
#include "../support/rows.hpp"
#include "../support/types.hpp"
#include "../support/ulp.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();
constexpr double pi = 3.14159265358979323846;
template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

double off(double x, double exact) {
  return x == exact ? 0.0 : std::fabs(x - exact) / std::fabs(exact);
}

/// What the documentation says of the zero and its modulus.
constexpr double accuracy = 1e-12;

/// And in units in the last place: of the bound, given max - min in double; and of the formula for two classes.
constexpr double bound_ulp = 2;
constexpr double binary_ulp = 3;

/// The three radii of a row.
struct radii {
  double bound;
  double tight;
  double exact;

  bool operator==(const radii& other) const {
    return bits(bound) == bits(other.bound) && bits(tight) == bits(other.tight) && bits(exact) == bits(other.exact);
  }

  bool all(double value) const { return *this == radii{value, value, value}; }
};

std::string text_of(const radii& r) {
  return exact_text(r.bound) + ", " + exact_text(r.tight) + ", " + exact_text(r.exact);
}

template <class Arch, class T>
radii radii_of(const std::vector<T>& z, const std::vector<T>& a, double temperature = 1.0) {
  const xs::convergence_radius_options options{.temperature = temperature};
  return {xs::convergence_radius_bound<Arch>(z, a, options), xs::convergence_radius_tight_bound<Arch>(z, a, options),
          xs::convergence_radius<Arch>(z, a, options)};
}

template <class T>
std::vector<T> as(const std::vector<double>& x) {
  std::vector<T> y;
  for (const double v : x) {
    y.push_back(static_cast<T>(v));
  }
  return y;
}

/// Logits and slopes of a layer of random weights.
template <class T>
radius_problem<T> random_problem(std::size_t n, std::uint64_t seed) {
  generator random(seed);
  radius_problem<T> problem;
  for (std::size_t k = 0; k < n; ++k) {
    problem.z.push_back(static_cast<T>(3 * random.normal()));
    problem.a.push_back(static_cast<T>(random.normal()));
  }
  return problem;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "none";
}

void expect_parts(const std::string& text, std::initializer_list<const char*> parts) {
  CAPTURE(text);
  for (const char* part : parts) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("convergence_radius: known answers", "[radius][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Computed with 50 digits; the inputs are exact in float.
  struct answer {
    const char* name;
    std::vector<double> z;
    std::vector<double> a;
    double bound;
    double tight;
    std::complex<double> zero;
    double exact;
  };
  const answer answers[] = {
      {"two equal classes", {0, 0}, {1, 0}, pi, pi, {0, pi}, pi},
      {"two classes",
       {2, -1},
       {0.5, -0.75},
       2.51327412287183459,
       3.47513263296484693,
       {-2.4, 2.51327412287183459},
       3.47513263296484693},
      {"three in a row",
       {0, 0, 0},
       {-1, 0, 1},
       1.57079632679489662,
       1.57079632679489662,
       {0, 2.09439510239319549},
       2.09439510239319549},
      {"four",
       {2, 1, -0.5, 0},
       {0.25, -1, 1.5, 0.5},
       1.25663706143591730,
       1.42408907863417834,
       {-0.848851245029113017, 2.46433411232229156},
       2.60643262973412992},
      // sqrt(gap^2 + pi^2) / |slope gap| of the two leading classes would be 34.75: no bound.
      {"not the two leading ones",
       {3, 0, -1},
       {0, 0.125, 5},
       0.628318530717958648,
       1.00837882414594828,
       {0.810695911477475548, 0.629139148568525844},
       1.02617928703897766},
      {"confident",
       {6, 0, 1, -2, 0.5},
       {0.1875, -0.5, 0.75, 0.25, -0.125},
       2.51327412287183459,
       8.99404685919834890,
       {-8.74066561479093647, 4.65937698979866241},
       9.90500021820564444},
      {"a double zero", {0, 0, 0, 0}, {0, 1, 1, 2}, pi / 2, pi / 2, {0, pi}, pi},
  };
  for (const answer& x : answers) {
    CAPTURE(Arch::name, scalar_name<T>(), x.name);
    const std::vector<T> z = as<T>(x.z);
    const std::vector<T> a = as<T>(x.a);
    const radii r = radii_of<Arch>(z, a);
    CAPTURE(text_of(r));
    CHECK(ulp_distance(r.bound, static_cast<long double>(x.bound)) <= 1);
    CHECK(off(r.tight, x.tight) < accuracy);
    CHECK(off(r.exact, x.exact) < accuracy);
    const std::complex<double> zero = xs::nearest_partition_zero<Arch>(z, a);
    CHECK(std::abs(zero - x.zero) < accuracy * x.exact);
    CHECK(zero.imag() > 0);
    CHECK(bits(std::hypot(zero.real(), zero.imag())) == bits(r.exact));
    CHECK(bits(xs::convergence_radius_bound<Arch>(a)) == bits(r.bound));
  }
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: closed forms", "[radius][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  CAPTURE(Arch::name, scalar_name<T>());
  // 1 + e^t + ... + e^((n - 1) t) = (e^(n t) - 1) / (e^t - 1); whatever is added to slopes or logits.
  for (std::size_t n = 2; n <= 64; ++n) {
    for (const double factor : {1.0, 0.375, -48.0}) {
      std::vector<T> a(n);
      for (std::size_t k = 0; k < n; ++k) {
        a[k] = static_cast<T>(factor * (static_cast<double>(k * 5 % n * (n % 5 == 0 ? 0U : 1U)) +
                                        (n % 5 == 0 ? static_cast<double>(k) : 0.0) + 7.0));
      }
      const radii r = radii_of<Arch>(std::vector<T>(n, T(-3.5)), a);
      CAPTURE(n, factor, text_of(r));
      CHECK(ulp_distance(r.bound, partition_reference::pi / (static_cast<long double>(n - 1) * std::fabs(factor))) <=
            1);
      CHECK(off(r.tight, r.bound) < 0x1p-50); // nobody dominates
      CHECK(off(r.exact, 2 * pi / static_cast<double>(n) / std::fabs(factor)) < accuracy);
    }
  }
  // (1 + e^(delta + t))^m, its terms as classes of one slope and logit: m zeros meet.
  for (const unsigned m : {1u, 2u, 3u, 4u, 6u, 8u}) {
    for (const double delta : {0.0, 0.5, -2.0, 8.0}) {
      std::vector<T> z;
      std::vector<T> a;
      unsigned binomial = 1;
      for (unsigned k = 0; k <= m; ++k) {
        for (unsigned i = 0; i < binomial; ++i) {
          z.push_back(static_cast<T>(k * delta));
          a.push_back(static_cast<T>(k));
        }
        binomial = binomial * (m - k) / (k + 1);
      }
      const double exact = std::hypot(delta, pi);
      const radii r = radii_of<Arch>(z, a);
      CAPTURE(m, delta, text_of(r));
      CHECK(off(r.bound, pi / m) < 0x1p-51);
      CHECK(r.bound <= r.tight);
      CHECK(r.tight <= exact * (1 + accuracy));
      CHECK(r.tight <= r.exact * (1 + accuracy));
      if (m <= 4) {
        CHECK(off(r.exact, exact) < accuracy);
      } else {
        // Rounding spreads more of them too far to be taken for one: still no zero is nearer than 0.999 of the result.
        CHECK(0.999 * r.exact <= exact);
      }
    }
  }
  if constexpr (std::is_same_v<T, double>) {
    const std::vector<T> z = {0, std::log(2.0), 0};
    const std::vector<T> a = {0, 1, 2};
    CHECK(off(xs::convergence_radius<Arch>(z, a), pi) < accuracy);
    const std::vector<T> cube = {0, std::log(3.0), std::log(3.0), 0};
    CHECK(off(xs::convergence_radius<Arch>(cube, std::vector<T>{0, 1, 2, 3}), pi) < accuracy);
  }
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: two classes", "[radius][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(7);
  for (int i = 0; i < 3000; ++i) {
    const double size = std::pow(10.0, random.uniform(-3, 3));
    const double width = std::pow(10.0, random.uniform(-6, 6));
    const std::vector<T> z = {static_cast<T>(size * random.normal()), static_cast<T>(size * random.normal())};
    const std::vector<T> a = {static_cast<T>(width * random.normal()), static_cast<T>(width * random.normal())};
    const double temperature = i % 3 == 0 ? std::pow(10.0, random.uniform(-2, 2)) : 1.0;
    const xs::convergence_radius_options options{.temperature = temperature};
    const long double gap = static_cast<long double>(z[0]) - static_cast<long double>(z[1]);
    const long double slope_gap = std::fabs(static_cast<long double>(a[0]) - static_cast<long double>(a[1]));
    const long double exact = std::hypot(gap, partition_reference::pi * temperature) / slope_gap;
    const auto where = [&](const char* what, double x) {
      return std::string(what) + " " + exact_text(x) + ", " +
             xsoftmax::test::text_of(radius_problem<T>{z, a, temperature});
    };
    const radii r = radii_of<Arch>(z, a, temperature);
    const double binary =
        xs::binary_convergence_radius(static_cast<double>(gap), static_cast<double>(slope_gap), options);
    const long double of_rounded =
        std::hypot(static_cast<long double>(static_cast<double>(gap)), partition_reference::pi * temperature) /
        static_cast<long double>(static_cast<double>(slope_gap));
    found.expect(ulp_distance(binary, of_rounded) <= binary_ulp, [&] { return where("binary", binary); });
    const double turned =
        xs::binary_convergence_radius(-static_cast<double>(gap), -static_cast<double>(slope_gap), options);
    found.expect(bits(turned) == bits(binary), [&] { return where("only magnitudes matter", turned); });
    found.expect(off(r.tight, static_cast<double>(exact)) < accuracy, [&] { return where("tight", r.tight); });
    found.expect(off(r.exact, static_cast<double>(exact)) < accuracy, [&] { return where("exact", r.exact); });
    const long double bound =
        partition_reference::pi * temperature / static_cast<long double>(static_cast<double>(slope_gap));
    found.expect(ulp_distance(r.bound, bound) <= bound_ulp, [&] { return where("bound", r.bound); });
    // So are many classes of two slopes.
    std::vector<T> many_z;
    std::vector<T> many_a;
    for (std::size_t k = 0; k < 12; ++k) {
      many_z.push_back(z[k % 3 == 0 ? 0 : 1]);
      many_a.push_back(a[k % 3 == 0 ? 0 : 1]);
    }
    const radii many = radii_of<Arch>(many_z, many_a, temperature);
    const long double apart = gap - temperature * std::log(2.0L);
    const auto together = static_cast<double>(std::hypot(apart, partition_reference::pi * temperature) / slope_gap);
    found.expect(off(many.tight, together) < accuracy, [&] { return where("tight, many", many.tight); });
    found.expect(off(many.exact, together) < accuracy, [&] { return where("exact, many", many.exact); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("convergence_radius: the largest errors in the documentation are those of their inputs", "[radius][unit]") {
  constexpr long double half_turn = partition_reference::pi;
  const auto error = [](double x, long double exact) {
    return static_cast<double>(std::fabs(x - exact) / unit_in_last_place<double>(exact));
  };
  // In ULP, to the fourth digit.
  const std::vector<double> slopes = {0.0, 0x1.927e6ad24b0dep+0};
  const double usual = error(xs::convergence_radius_bound(slopes), half_turn / slopes[1]);
  CHECK(usual > 0.8510);
  CHECK(usual < 0.8512);
  const std::vector<double> scaled = {0.0, 0x1.6b07a197e8ee7p+0};
  const double t = 0x1.cdaef8a2635f2p+0;
  const double at_temperature =
      error(xs::convergence_radius_bound(scaled, {.temperature = t}), half_turn * t / scaled[1]);
  CHECK(at_temperature > 1.6347);
  CHECK(at_temperature < 1.6349);
  // hypot is the C library's: no more than documented.
  CHECK(error(xs::binary_convergence_radius(0x1.471c20926804ep+1, 0x1.078e9d1ab7872p+0),
              std::hypot(0x1.471c20926804ep+1L, half_turn) / 0x1.078e9d1ab7872p+0L) < 1.6793);
  const double warm = 0x1.4c6f941ba31ep+0;
  CHECK(error(xs::binary_convergence_radius(0x1.dd08d30b31798p-3, 0x1.0d35a1026536ap+0, {.temperature = warm}),
              std::hypot(0x1.dd08d30b31798p-3L, half_turn * warm) / 0x1.0d35a1026536ap+0L) < 2.6856);
}

TEST_CASE("binary_convergence_radius: special values and magnitudes", "[radius][special][unit]") {
  const auto radius = [](double gap, double slope_gap, double temperature = 1.0) {
    return xs::binary_convergence_radius(gap, slope_gap, {.temperature = temperature});
  };
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(radius(1, 0) == infinite);
  CHECK(radius(1, -0.0) == infinite);
  CHECK(radius(infinite, 1) == infinite);
  CHECK(radius(-infinite, 1) == infinite);
  CHECK(radius(infinite, 0) == infinite);
  CHECK(radius(nan, 1) == 0);
  CHECK(radius(nan, 0) == 0);
  CHECK(radius(1, nan) == 0);
  CHECK(radius(infinite, nan) == 0);
  CHECK(radius(1, infinite) == 0);
  CHECK(radius(1, -infinite) == 0);
  CHECK(radius(infinite, infinite) == 0);
  CHECK(radius(0, 1) == pi);
  CHECK(radius(0, -1) == pi);
  CHECK(radius(3e300, 4e300) == 0.75);
  CHECK(off(radius(0, 1e308, 1e300), pi * 1e-8) < 1e-15);
  CHECK(off(radius(1e-300, 1e-300, 1e-300), std::hypot(1.0, pi)) < 1e-15);
  CHECK(radius(0, std::numeric_limits<double>::denorm_min()) == infinite);
  CHECK(off(radius(0, 1, 1e300), pi * 1e300) < 1e-15);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: special values wherever they stand", "[radius][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto expect_all = [&](const std::vector<T>& z, const std::vector<T>& a, double value, const std::string& what) {
    const radii r = radii_of<Arch>(z, a);
    found.expect(r.all(value), [&] {
      return std::string(Arch::name) + ", " + scalar_name<T>() + ", " + what + ", " + std::to_string(z.size()) +
             " classes: " + text_of(r);
    });
    const std::complex<double> zero = xs::nearest_partition_zero<Arch>(z, a);
    found.expect(zero.real() == value && zero.imag() == 0, [&] { return what + ": the zero"; });
    const double least =
        xs::min_convergence_radius_bound<Arch>(xs::matrix_view<const T>(z.data(), z.empty() ? 0 : 1, z.size()),
                                               xs::matrix_view<const T>(a.data(), a.empty() ? 0 : 1, a.size()));
    found.expect(least == value, [&] { return what + ": the least"; });
  };
  const auto expect_slopes = [&](const std::vector<T>& a, double value, const std::string& what) {
    expect_all(std::vector<T>(a.size(), T(1)), a, value, what);
    found.expect(xs::convergence_radius_bound<Arch>(a) == value, [&] { return what + ", slopes alone"; });
  };
  expect_slopes({}, infinite, "nothing");
  expect_slopes({T(5)}, infinite, "one class");
  expect_slopes({inf<T>}, 0, "one class, an infinite slope");
  expect_slopes({not_a_number<T>}, 0, "one class, no slope");
  expect_slopes({T(0), -T(0), T(0)}, infinite, "zeros of both signs");
  for (const std::size_t n : {2u, 7u, 16u, 17u, 33u, 64u, 100u, 257u, 2048u, 2049u, 5000u}) {
    const radius_problem<T> p = random_problem<T>(n, n);
    expect_slopes(std::vector<T>(n, T(-2.75)), infinite, "equal slopes");
    expect_slopes(std::vector<T>(n, -std::numeric_limits<T>::max()), infinite, "equal slopes, the lowest");
    expect_slopes(std::vector<T>(n, not_a_number<T>), 0, "no slopes");
    expect_slopes(std::vector<T>(n, -inf<T>), 0, "infinite slopes");
    expect_all(std::vector<T>(n, -inf<T>), p.a, infinite, "all masked");
    expect_all(std::vector<T>(n, -inf<T>), std::vector<T>(n, not_a_number<T>), infinite, "all masked, no slopes");
    for (const std::size_t at : {std::size_t{0}, n / 3, n / 2, n - 2, n - 1}) {
      const auto with = [at](std::vector<T> x, T value) {
        x[at] = value;
        return x;
      };
      expect_slopes(with(p.a, not_a_number<T>), 0, "a slope NaN");
      expect_slopes(with(p.a, inf<T>), 0, "a slope inf");
      expect_slopes(with(p.a, -inf<T>), 0, "a slope -inf");
      expect_slopes(with(std::vector<T>(n, T(1)), not_a_number<T>), 0, "a slope NaN among equal ones");
      expect_all(with(p.z, not_a_number<T>), p.a, 0, "a logit NaN");
      expect_all(with(p.z, inf<T>), p.a, 0, "a logit inf");
      expect_all(with(p.z, inf<T>), std::vector<T>(n, T(1)), 0, "a logit inf, equal slopes");
      expect_all(with(std::vector<T>(n, -inf<T>), T(3)), p.a, infinite, "one class left");
      expect_all(with(std::vector<T>(n, -inf<T>), not_a_number<T>), p.a, 0, "one logit NaN left");
      expect_all(with(std::vector<T>(n, T(0)), -inf<T>), with(std::vector<T>(n, T(1)), T(9)), infinite,
                 "the one slope that differs is masked");
      // The slope of a masked class is never looked at.
      const std::vector<T> masked = with(p.z, -inf<T>);
      const radii expected = radii_of<Arch>(masked, with(p.a, T(0)));
      for (const T slope : {T(1e9), not_a_number<T>, inf<T>, -inf<T>, std::numeric_limits<T>::max(), -T(0)}) {
        found.expect(radii_of<Arch>(masked, with(p.a, slope)) == expected,
                     [&] { return std::string("the slope of a masked class"); });
      }
      // Left out altogether: the terms are added in another order.
      std::vector<T> z = p.z;
      std::vector<T> a = p.a;
      z.erase(z.begin() + static_cast<std::ptrdiff_t>(at));
      a.erase(a.begin() + static_cast<std::ptrdiff_t>(at));
      const radii without = radii_of<Arch>(z, a);
      found.expect(bits(without.bound) == bits(expected.bound) && off(without.tight, expected.tight) < accuracy &&
                       off(without.exact, expected.exact) < accuracy,
                   [&] { return "without the masked class: " + text_of(without) + " / " + text_of(expected); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: masked classes between and behind the others", "[radius][special][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {2u, 3u, 10u, 64u, 700u}) {
    const radius_problem<T> p = random_problem<T>(n, 40 + n);
    const radii alone = radii_of<Arch>(p.z, p.a);
    for (const std::size_t masks : {1u, 15u, 16u, 3000u}) {
      std::vector<T> z = p.z;
      std::vector<T> a = p.a;
      z.resize(n + masks, -inf<T>);
      a.resize(n + masks, not_a_number<T>);
      const radii behind = radii_of<Arch>(z, a);
      found.expect(bits(behind.bound) == bits(alone.bound) && off(behind.tight, alone.tight) < accuracy &&
                       off(behind.exact, alone.exact) < accuracy,
                   [&] { return "behind: " + text_of(behind) + " / " + text_of(alone); });
      std::rotate(z.begin(), z.begin() + static_cast<std::ptrdiff_t>(n / 2), z.end());
      std::rotate(a.begin(), a.begin() + static_cast<std::ptrdiff_t>(n / 2), a.end());
      const radii between = radii_of<Arch>(z, a);
      found.expect(bits(between.bound) == bits(alone.bound) && off(between.tight, alone.tight) < accuracy &&
                       off(between.exact, alone.exact) < accuracy,
                   [&] { return "between: " + text_of(between) + " / " + text_of(alone); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: many classes that are copies of few", "[radius][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Shares of all classes alike change nothing; so rows of several blocks have answers.
  const std::vector<T> z = {2, 1, T(-0.5), 0};
  const std::vector<T> a = {T(0.25), -1, T(1.5), T(0.5)};
  for (const std::size_t copies : {3u, 16u, 500u, 1500u, 30000u}) {
    std::vector<T> many_z;
    std::vector<T> many_a;
    for (std::size_t i = 0; i < 4 * copies; ++i) {
      many_z.push_back(z[i % 4]);
      many_a.push_back(a[i % 4]);
    }
    const radii r = radii_of<Arch>(many_z, many_a);
    CAPTURE(Arch::name, scalar_name<T>(), copies, text_of(r));
    CHECK(ulp_distance(r.bound, 1.25663706143591730L) <= 1);
    CHECK(off(r.tight, 1.42408907863417834) < accuracy);
    CHECK(off(r.exact, 2.60643262973412992) < accuracy);
  }
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: classes that share the dominating slope", "[radius][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // However light they are, and wherever they stand: sixteen places further they are added where the heaviest is.
  findings found;
  generator random(11);
  for (int i = 0; i < 1500; ++i) {
    const std::size_t n = 20 + random.below(200);
    const std::size_t heaviest = random.below(n);
    const double peak = random.uniform(8, 20);
    radius_problem<T> p = random_problem<T>(n, static_cast<std::uint64_t>(i));
    p.z[heaviest] = static_cast<T>(peak);
    for (std::size_t k = heaviest % 16; k < n; k += random.below(2) == 0 ? 16 : 7) {
      if (k != heaviest) {
        p.z[k] = static_cast<T>(peak - random.uniform(0, 30));
        p.a[k] = p.a[heaviest];
      }
    }
    const auto exact = static_cast<double>(partition_reference(p.z, p.a, 1.0).tight_bound().radius);
    const double tight = xs::convergence_radius_tight_bound<Arch>(p.z, p.a);
    found.expect(off(tight, exact) < accuracy,
                 [&] { return exact_text(tight) + " for " + exact_text(exact) + ", " + text_of(p); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: gaps that no float holds", "[radius][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // In units of T, so that a float of them is infinite, or its inverse no normal number.
  for (const double temperature : {1.0, 1e-10, 1e-17}) {
    const xs::convergence_radius_options options{.temperature = temperature};
    const std::vector<T> z = {0, T(-3e38), T(-3e38)};
    const auto gap = static_cast<double>(-z[1]);
    CAPTURE(Arch::name, scalar_name<T>(), temperature);
    const std::span<const T> two(z.data(), 2);
    CHECK(off(xs::convergence_radius_tight_bound<Arch>(two, std::vector<T>{0, 1}, options), gap) < accuracy);
    CHECK(off(xs::convergence_radius_tight_bound<Arch>(two, std::vector<T>{0, -1}, options), gap) < accuracy);
    // Of more than two classes so far apart a chord is all there is.
    const double three = xs::convergence_radius_tight_bound<Arch>(z, std::vector<T>{0, 1, -2}, options);
    CHECK(three <= gap / 2 * (1 + accuracy));
    CHECK(three >= gap / 2 * (1 - std::log(2.0) / 700));
  }
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: magnitudes of slopes, logits and temperature", "[radius][special][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  CAPTURE(Arch::name, scalar_name<T>());
  // Slopes times a power of two: radii by it, down to subnormal slopes, since these are exact.
  const std::vector<double> z = {2, 1, -0.5, 0};
  const std::vector<double> a = {0.25, -1, 1.5, 0.5};
  const radii one = radii_of<Arch>(as<T>(z), as<T>(a));
  for (const int octave : {limits::max_exponent - 2, limits::max_exponent - 3, 40, -40, limits::min_exponent,
                           limits::min_exponent - limits::digits + 3}) {
    std::vector<T> slopes;
    for (const double slope : a) {
      slopes.push_back(static_cast<T>(std::ldexp(slope, octave)));
    }
    for (const double temperature : {1.0, 0x1p-900, 0x1p900}) {
      // Logits as far apart as the temperature says, where the type has them.
      if (temperature != 1 && std::is_same_v<T, float>) {
        continue;
      }
      std::vector<T> logits;
      for (const double logit : z) {
        logits.push_back(static_cast<T>(logit * temperature));
      }
      const radii r = radii_of<Arch>(logits, slopes, temperature);
      const auto expected = [&](double x) {
        // The order matters only near the ends of the range.
        return static_cast<double>(
            std::ldexp(static_cast<long double>(x) * static_cast<long double>(temperature), -octave));
      };
      CAPTURE(octave, temperature, text_of(r), expected(one.exact));
      const auto agree = [](double x, double y) {
        // Subnormal results have a spacing of their own.
        return off(x, y) < accuracy || std::fabs(x - y) <= 4 * std::numeric_limits<double>::denorm_min();
      };
      CHECK(agree(r.bound, expected(one.bound)));
      CHECK(agree(r.tight, expected(one.tight)));
      CHECK(agree(r.exact, expected(one.exact)));
    }
  }
  // max - min beyond the type.
  const T most = limits::max();
  const std::vector<T> far = {most, -most, T(0)};
  const auto exact_bound = static_cast<double>(partition_reference::pi / (2 * static_cast<long double>(most)));
  CHECK(off(xs::convergence_radius_bound<Arch>(far), exact_bound) < 1e-12);
  const radii three = radii_of<Arch>(std::vector<T>{0, 0, 0}, far);
  CHECK(off(three.bound, exact_bound) < 1e-12);
  CHECK(off(three.tight, exact_bound) < 1e-12);
  CHECK(off(three.exact, exact_bound * 4 / 3) < 1e-12); // 2 pi / 3 in steps of `most`
  // Two classes of whatever logits and temperature: exact, as long as a radian is not lost in the way.
  for (const double temperature : {1e-300, 1e-30, 1e-4, 1.0, 1e4, 1e300}) {
    for (const double gap : {0.0, 0.7, 40.0, 3e4}) {
      const std::vector<T> logits = {static_cast<T>(gap), T(0)};
      const std::vector<T> slopes = {T(0.3), T(-0.6)};
      const radii r = radii_of<Arch>(logits, slopes, temperature);
      const auto spread = static_cast<double>(slopes[0]) - static_cast<double>(slopes[1]);
      const double exact = std::hypot(static_cast<double>(logits[0]), pi * temperature) / spread;
      CAPTURE(temperature, gap, text_of(r), exact);
      CHECK(r.bound > 0);
      CHECK(r.bound <= r.tight * (1 + 0x1p-51));
      CHECK(r.tight <= r.exact * (1 + accuracy));
      CHECK(r.exact <= exact * (1 + accuracy));
      CHECK(off(r.tight, exact) < accuracy);
      if (gap < 1e4 * temperature) {
        CHECK(off(r.exact, exact) < accuracy);
      }
    }
  }
  // Sentinels for masked classes: as far away as they say.
  for (const T mask : {T(-1e4), T(-1e30), limits::lowest()}) {
    std::vector<T> logits = as<T>(z);
    std::vector<T> slopes = as<T>(a);
    logits.insert(logits.begin() + 1, mask);
    slopes.insert(slopes.begin() + 1, T(0.75));
    const radii r = radii_of<Arch>(logits, slopes);
    CAPTURE(mask, text_of(r));
    CHECK(off(r.tight, one.tight) < accuracy);
    CHECK(off(r.exact, one.exact) < accuracy);
  }
  // The last place of a slope.
  const std::vector<T> close = {T(1), std::nextafter(T(1), T(2))};
  const radii near = radii_of<Arch>(std::vector<T>{T(0.5), T(0)}, close);
  const auto epsilon = static_cast<double>(limits::epsilon());
  CHECK(off(near.exact, std::hypot(0.5, pi) / epsilon) < accuracy);
  CHECK(off(near.tight, std::hypot(0.5, pi) / epsilon) < accuracy);
  // And the least slope there is.
  const std::vector<T> least = {T(0), limits::denorm_min()};
  const radii tiny = radii_of<Arch>(std::vector<T>{0, 0}, least);
  const auto huge = static_cast<double>(partition_reference::pi / static_cast<long double>(limits::denorm_min()));
  CHECK((tiny.bound == huge || off(tiny.bound, huge) < accuracy));
  CHECK((tiny.tight == huge || off(tiny.tight, huge) < accuracy));
  CHECK((tiny.exact == huge || off(tiny.exact, huge) < accuracy));
  const radii cold = radii_of<Arch>(std::vector<T>{0, 0}, least, 1e-300);
  const auto product =
      static_cast<double>(partition_reference::pi * 1e-300L / static_cast<long double>(limits::denorm_min()));
  CAPTURE(text_of(cold), product);
  CHECK(off(cold.bound, product) < accuracy);
  CHECK(off(cold.tight, product) < accuracy);
  CHECK(off(cold.exact, product) < accuracy);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: problems that were hard", "[radius][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // The root on one side may be a million times further away than the one on the other; roots that Newton's method
  // reaches in its last steps only. Zeros by the reference, on the rounded inputs.
  const std::vector<radius_problem<double>> problems = {
      // two slopes of a third digit's difference lead, two of a small weight are extreme
      {{-52.83, -5.078, -4.08, -44.05}, {-861.98, 0.449, 0.4457, -1040.88}},
      {{-0x1.aa7fa932985f7p+5, 0x1.0669c1512c7c9p+1, 0x1.00ec70572acc9p+1, -0x1.b677ceea5b907p+0, -0x1.95fb86e5baddp+5,
        -0x1.3e220b95eef86p+2, -0x1.ac69e551bc8a5p+5},
       {0x1.65ec6604bf7e7p+5, -0x1.6bca9a5e522c1p-4, 0x1.903bad13373bap-6, 0x1.1e367e43bcd51p-4, 0x1.c092e298d608p+7,
        -0x1.42f75a871597ep-5, 0x1.2287ed9c1b491p+7}},
      {{-0x1.c2baeece24e49p+2, -0x1.57a4973da200ap+9, -0x1.f9400af476d8bp+7, -0x1.607f094ee5513p+7,
        -0x1.627351f05c107p+5, -0x1.b1c81fc3cc1c2p+9, -0x1.792bc10d807a1p+5},
       {-0x1.4e6c3eab28db2p+5, 0x1.79915821032a5p+4, 0x1.37a5f443db5f7p+6, 0x1.ef3c96674f73bp-5, -0x1.2506269029e64p+6,
        0x1.ccf1b0199d094p+4, -0x1.676bb6bbadcffp+6}},
      {{-0x1.411df59a57d84p+5, -0x1.50e1a86be455ep+6, -0x1.5f16ccfff36d6p+8, -0x1.05074bf0ee943p+9,
        -0x1.63fbd33c9365p+2, -0x1.12b76fb78372ap+9, -0x1.1a6af5c5185cp+8},
       {-0x1.edb8f430c305fp+11, -0x1.61bc51fe23673p+10, -0x1.3792cc1180852p+12, -0x1.54640afa2a632p+11,
        -0x1.72aff9e3e75d5p+11, 0x1.180f93cd7ba74p+11, 0x1.c36d3e475ee5fp+11}},
      {{-53.31, 2.05, 2.008, -1.7128, -50.75, -4.971, -53.55},
       {44.74, -0.0888, 0.0244, 0.0699, 224.287, -0.0394, 145.26}},
      {{2.889, 3.594, -3.48, -2.595, -0.289, -1.239, -3.704, -4.301, 0.7302, -4.219, 4.154, -2.581, 0.213},
       {0.228681, 0.494807, 0.494807, 0.36178, 0.36177925, 0.36178, 0.0956, 0.22868, 0.22868, 0.0956, 0.4948, 0.361779,
        0.36178}},
      {{0.3614, 3.0684, 3.6513, -0.9291}, {0.0419, 617.6625, 617.465, 309.006}},
      {{-3.653, 2.268, -4.0177, -2.7815, 2.109, -0.9753},
       {538.93672, 652.9031, 538.9367, 424.96958, 652.903, 311.0023}},
      {{56.2, 1.0105, 0.9045, -6.37, 1.6896, 2.6158, 1.4601, 2.9917},
       {-0.3135, 0.0998, 0.2318, -0.7327, 0.1919, 0.8677, -0.5539, 1.014}},
      {{-7.0417, -687.28, -505.25, -352.4, -88.614, -867.56, -94.292},
       {-41.803, 23.591, 77.911, 0.0605, -73.256, 28.81, -89.854}},
  };
  findings found;
  for (const radius_problem<double>& p : problems) {
    const std::vector<T> z = as<T>(p.z);
    const std::vector<T> a = as<T>(p.a);
    const radii r = radii_of<Arch>(z, a);
    const std::complex<double> zero = xs::nearest_partition_zero<Arch>(z, a);
    const partition_reference reference(z, a);
    const auto where = [&](const char* what) {
      return std::string(Arch::name) + ", " + what + ": " + text_of(r) + ", " +
             xsoftmax::test::text_of(radius_problem<T>{z, a});
    };
    found.expect(reference.zeros_inside(r.exact * 0.999L) == 0, [&] { return where("a nearer zero"); });
    found.expect(reference.zeros_inside(r.exact * 1.001L).value_or(0) >= 2, [&] { return where("no zero so near"); });
    found.expect(reference.step_at({zero.real(), zero.imag()}) < accuracy * r.exact, [&] { return where("no zero"); });
    found.expect(r.bound <= r.tight && r.tight <= r.exact * (1 + accuracy), [&] { return where("order"); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("convergence_radius: the same bits on all architectures with fused multiply-add",
          "[radius][invariance][unit]") {
  findings found;
  const auto compare = [&]<class T>(const radius_problem<T>& p) {
    bool first = true;
    radii fused{};
    std::complex<double> fused_zero;
    for_each_architecture([&]<class Arch>(Arch) {
      const radii r = radii_of<Arch>(p.z, p.a, p.temperature);
      const std::complex<double> zero = xs::nearest_partition_zero<Arch>(p.z, p.a, {.temperature = p.temperature});
      const auto where = [&] {
        return std::string(Arch::name) + ": " + text_of(r) + " / " + text_of(fused) + ", " + xsoftmax::test::text_of(p);
      };
      if (!has_fused_multiply_add<Arch>) {
        return;
      }
      if (first) {
        fused = r;
        fused_zero = zero;
        first = false;
      }
      found.expect(r == fused && bits(zero.real()) == bits(fused_zero.real()) &&
                       bits(zero.imag()) == bits(fused_zero.imag()),
                   where);
    });
    // Elsewhere up to the accuracy.
    for_each_architecture([&]<class Arch>(Arch) {
      if (!first && !has_fused_multiply_add<Arch>) {
        const radii r = radii_of<Arch>(p.z, p.a, p.temperature);
        found.expect(bits(r.bound) == bits(fused.bound) && off(r.tight, fused.tight) < accuracy &&
                         off(r.exact, fused.exact) < accuracy,
                     [&] { return std::string(Arch::name) + ": " + text_of(r) + " / " + text_of(fused); });
      }
    });
  };
  const auto both = [&](std::size_t n, std::uint64_t seed) {
    radius_problem<double> p = random_problem<double>(n, seed);
    generator random(seed);
    const double size = std::pow(10.0, random.uniform(-1, 1));
    const double width = std::pow(10.0, random.uniform(-6, 6));
    for (std::size_t k = 0; k < n; ++k) {
      p.z[k] *= size;
      p.a[k] = width * (seed % 3 == 0 ? std::round(p.a[k]) : p.a[k]);
    }
    p.temperature = seed % 5 == 0 ? 0.7 : 1.0;
    compare(p);
    compare(radius_problem<float>{as<float>(p.z), as<float>(p.a), p.temperature});
  };
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    both(2 + seed % 63, seed);
  }
  for (const std::size_t n : {500u, 2048u, 2051u, 6000u}) {
    both(n, n);
  }
  found.expect(true, [] { return std::string(); }); // a processor may have none of them
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: rows of a batch in every layout, storage and order",
                        "[radius][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t cols : {1u, 10u, 64u, 333u, 2500u}) {
    constexpr std::size_t rows = 9;
    const xs::convergence_radius_options options{.temperature = 1.25};
    std::vector<radius_problem<T>> problems;
    std::vector<radii> expected;
    std::vector<double> slopes_alone;
    for (std::size_t r = 0; r < rows; ++r) {
      radius_problem<T> p = random_problem<T>(cols, 90 + r);
      p.z[cols / 2] = r == 4 ? not_a_number<T> : r == 6 ? -inf<T> : p.z[cols / 2];
      p.a[cols - 1] = r == 5 ? not_a_number<T> : p.a[cols - 1];
      p.z[0] = r == 7 ? T(40) : p.z[0];
      problems.push_back(p);
      expected.push_back(radii_of<Arch>(p.z, p.a, 1.25));
      slopes_alone.push_back(xs::convergence_radius_bound<Arch>(p.a, options));
    }
    const auto where = [&](const std::string& what) {
      return std::string(Arch::name) + ", " + scalar_name<T>() + ", " + what + ", " + std::to_string(cols) + " columns";
    };
    for (const layout& shape : layouts_of(rows, cols)) {
      laid_out<T> z(rows, cols, shape, 3);
      laid_out<T> a(rows, cols, shape, 3);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) {
          z.at(r, c) = problems[r].z[c];
          a.at(r, c) = problems[r].a[c];
        }
      }
      // Radii side by side, and with strides of either sign.
      for (const std::ptrdiff_t stride : {1, 3, -2}) {
        std::vector<double> room(rows * 3 + 2, -77.0);
        double* const first = stride < 0 ? room.data() + room.size() - 2 : room.data() + 1;
        const xs::vector_view<double> out(first, rows, stride);
        const auto check = [&](auto member, const std::string& what) {
          std::size_t written = 0;
          for (std::size_t r = 0; r < rows; ++r) {
            double& radius = first[static_cast<std::ptrdiff_t>(r) * stride];
            found.expect(bits(radius) == bits(member(r)), [&] {
              return where(what) + ", " + shape.what + ", row " + std::to_string(r) + ": " + exact_text(radius);
            });
            radius = -77.0;
            ++written;
          }
          found.expect(written == rows && std::all_of(room.begin(), room.end(), [](double x) { return x == -77.0; }),
                       [&] { return where(what) + ": wrote beside the radii"; });
        };
        const auto bound = [&](std::size_t r) { return expected[r].bound; };
        const auto tight = [&](std::size_t r) { return expected[r].tight; };
        const auto exact = [&](std::size_t r) { return expected[r].exact; };
        const auto alone = [&](std::size_t r) { return slopes_alone[r]; };
        xs::convergence_radius_bound<Arch>(a.view(), out, options);
        check(alone, "bound, slopes alone");
        xs::convergence_radius_bound<Arch>(z.view(), a.view(), out, options);
        check(bound, "bound");
        xs::convergence_radius_tight_bound<Arch>(z.view(), a.view(), out, options);
        check(tight, "tight bound");
        if (stride == 1) {
          xs::convergence_radius<Arch>(z.view(), a.view(), out, options);
          check(exact, "radius");
        }
        for (const named_executor& x : every_executor()) {
          if (stride == 3 && cols < 400) {
            xs::convergence_radius_bound<Arch>(x.run, a.view(), out, options);
            check(alone, "bound, slopes alone, " + x.name);
            xs::convergence_radius_bound<Arch>(x.run, z.view(), a.view(), out, options);
            check(bound, "bound, " + x.name);
            xs::convergence_radius_tight_bound<Arch>(x.run, z.view(), a.view(), out, options);
            check(tight, "tight bound, " + x.name);
          }
        }
      }
      const double least = *std::min_element(slopes_alone.begin(), slopes_alone.end());
      found.expect(xs::min_convergence_radius_bound<Arch>(a.view(), options) == least, [&] { return where("least"); });
      const double least_of_both =
          std::min_element(expected.begin(), expected.end(), [](const radii& x, const radii& y) {
            return x.bound < y.bound;
          })->bound;
      found.expect(xs::min_convergence_radius_bound<Arch>(z.view(), a.view(), options) == least_of_both,
                   [&] { return where("least, with logits"); });
      found.expect(a.untouched_between() && z.untouched_between(), [&] { return where("wrote into the inputs"); });
    }
    // Rows by views with strides.
    for (const std::ptrdiff_t stride : {2, -1}) {
      for (std::size_t r = 0; r < rows; ++r) {
        std::vector<T> z(cols * 2);
        std::vector<T> a(cols * 2);
        const auto at = [&](std::size_t c) { return stride < 0 ? cols - 1 - c : 2 * c; };
        for (std::size_t c = 0; c < cols; ++c) {
          z[at(c)] = problems[r].z[c];
          a[at(c)] = problems[r].a[c];
        }
        const xs::vector_view<const T> zv(z.data() + at(0), cols, stride);
        const xs::vector_view<const T> av(a.data() + at(0), cols, stride);
        const radii found_radii = {xs::convergence_radius_bound<Arch>(zv, av, options),
                                   xs::convergence_radius_tight_bound<Arch>(zv, av, options),
                                   xs::convergence_radius<Arch>(zv, av, options)};
        found.expect(found_radii == expected[r], [&] { return where("a row with a stride"); });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: many rows and long rows on executors", "[radius][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check = [&](std::size_t rows, std::size_t cols, bool radius_too) {
    radius_problem<T> p = random_problem<T>(rows * cols, rows + cols);
    for (std::size_t i = 0; i < p.z.size(); i += 3 + i % 5) {
      p.z[i] = -inf<T>; // so that it matters which row of logits goes with which of slopes
    }
    const xs::matrix_view<const T> z(p.z.data(), rows, cols);
    const xs::matrix_view<const T> a(p.a.data(), rows, cols);
    std::vector<double> bound(rows);
    std::vector<double> alone(rows);
    std::vector<double> tight(rows);
    std::vector<double> exact(rows);
    xs::convergence_radius_bound<Arch>(z, a, bound);
    xs::convergence_radius_bound<Arch>(a, alone);
    xs::convergence_radius_tight_bound<Arch>(z, a, tight);
    if (radius_too) {
      xs::convergence_radius<Arch>(z, a, exact);
    }
    found.expect(xs::min_convergence_radius_bound<Arch>(a) == *std::min_element(alone.begin(), alone.end()),
                 [] { return std::string("the least"); });
    found.expect(xs::min_convergence_radius_bound<Arch>(z, a) == *std::min_element(bound.begin(), bound.end()),
                 [] { return std::string("the least, with logits"); });
    for (const named_executor& x : every_executor()) {
      std::vector<double> out(rows, -7.0);
      const auto same = [&](const std::vector<double>& expected, const char* what) {
        for (std::size_t r = 0; r < rows; ++r) {
          found.expect(bits(out[r]) == bits(expected[r]), [&] {
            return std::string(what) + ", " + x.name + ", row " + std::to_string(r) + " of " + std::to_string(rows);
          });
        }
        std::fill(out.begin(), out.end(), -7.0);
      };
      xs::convergence_radius_bound<Arch>(x.run, z, a, out);
      same(bound, "bound");
      xs::convergence_radius_bound<Arch>(x.run, a, out);
      same(alone, "bound, slopes alone");
      xs::convergence_radius_tight_bound<Arch>(x.run, z, a, out);
      same(tight, "tight bound");
      if (radius_too) {
        xs::convergence_radius<Arch>(x.run, z, a, out);
        same(exact, "radius");
      }
    }
  };
  check(900, 130, false); // more than the second-level cache holds
  check(130, 30, true);
  check(1, 300000, false);
  check(3, 150000, false);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("convergence_radius: halves", "[radius][half][unit]", float_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check = [&]<class Half>(Half, const char* name) {
    for (const std::size_t n : {2u, 10u, 33u, 700u, 5000u}) {
      const radius_problem<float> p = random_problem<float>(n, n + 3);
      std::vector<Half> z;
      std::vector<Half> a;
      std::vector<float> wide_z;
      std::vector<float> wide_a;
      for (std::size_t k = 0; k < n; ++k) {
        z.push_back(k % 7 == 3 ? Half(-inf<float>) : Half(p.z[k]));
        a.push_back(k % 7 == 3 ? Half(not_a_number<float>) : Half(p.a[k]));
        wide_z.push_back(static_cast<float>(z[k]));
        wide_a.push_back(static_cast<float>(a[k]));
      }
      const radii expected = radii_of<Arch>(wide_z, wide_a);
      const auto where = [&] { return std::string(Arch::name) + ", " + name + ", " + std::to_string(n); };
      const radii r = {xs::convergence_radius_bound<Arch>(z, a), xs::convergence_radius_tight_bound<Arch>(z, a),
                       xs::convergence_radius<Arch>(z, a)};
      found.expect(r == expected, where);
      // Logits and slopes need not be of one format.
      found.expect(bits(xs::convergence_radius_tight_bound<Arch>(wide_z, a)) == bits(expected.tight) &&
                       bits(xs::convergence_radius_bound<Arch>(z, wide_a)) == bits(expected.bound),
                   where);
      double radius = 0;
      xs::convergence_radius_tight_bound<Arch>(xs::matrix_view<const Half>(z.data(), 1, n),
                                               xs::matrix_view<const Half>(a.data(), 1, n),
                                               xs::vector_view<double>(&radius, 1));
      found.expect(bits(radius) == bits(expected.tight), where);
    }
  };
  check(xs::float16(), "float16");
  check(xs::bfloat16(), "bfloat16");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("convergence_radius: batches without rows or columns", "[radius][special][unit]") {
  std::vector<double> none;
  const std::vector<float> nothing;
  const xs::matrix_view<const float> no_rows(nothing.data(), 0, 5);
  xs::convergence_radius_bound(no_rows, none);
  xs::convergence_radius_bound(no_rows, no_rows, none);
  xs::convergence_radius_tight_bound(no_rows, no_rows, none);
  xs::convergence_radius(no_rows, no_rows, none);
  CHECK(xs::min_convergence_radius_bound(no_rows) == infinite);
  CHECK(xs::min_convergence_radius_bound(no_rows, no_rows) == infinite);
  const xs::matrix_view<const float> no_columns(nothing.data(), 3, 0);
  std::vector<double> out(3, -7.0);
  const auto all_infinite = [&] {
    const bool all = std::all_of(out.begin(), out.end(), [](double x) { return x == infinite; });
    std::fill(out.begin(), out.end(), -7.0);
    return all;
  };
  xs::convergence_radius_bound(no_columns, out);
  CHECK(all_infinite());
  xs::convergence_radius_bound(no_columns, no_columns, out);
  CHECK(all_infinite());
  xs::convergence_radius_tight_bound(no_columns, no_columns, out);
  CHECK(all_infinite());
  xs::convergence_radius(no_columns, no_columns, out);
  CHECK(all_infinite());
  CHECK(xs::min_convergence_radius_bound(no_columns) == infinite);
}

TEST_CASE("convergence_radius: arguments that do not fit", "[radius][errors][unit]") {
  const std::vector<float> seven(7, 1.0f);
  const std::vector<float> four(4, 1.0f);
  const std::vector<float> six(6, 1.0f);
  const xs::matrix_view<const float> two_by_three(six.data(), 2, 3);
  const xs::matrix_view<const float> three_by_two(six.data(), 3, 2);
  std::vector<double> out(5, -7.0);
  std::vector<double> two(2, -7.0);
  const auto serial = [](std::size_t count, const auto& body) {
    for (std::size_t i = 0; i < count; ++i) {
      body(i);
    }
  };
  expect_parts(message_of([&] { (void)xs::convergence_radius_bound(seven, four); }),
               {"convergence_radius_bound", "logits", "slopes", "7", "4"});
  expect_parts(message_of([&] { (void)xs::convergence_radius_tight_bound(seven, four); }),
               {"convergence_radius_tight_bound", "logits", "slopes", "7", "4"});
  expect_parts(message_of([&] { (void)xs::convergence_radius(seven, four); }),
               {"convergence_radius", "logits", "slopes", "7", "4"});
  expect_parts(message_of([&] { (void)xs::nearest_partition_zero(seven, four); }),
               {"nearest_partition_zero", "logits", "slopes", "7", "4"});
  expect_parts(message_of([&] { (void)xs::min_convergence_radius_bound(two_by_three, three_by_two); }),
               {"min_convergence_radius_bound", "logits", "slopes", "rows", "2", "3"});
  // A radius for each row.
  expect_parts(message_of([&] { xs::convergence_radius_bound(two_by_three, out); }),
               {"convergence_radius_bound", "out", "2", "5"});
  expect_parts(message_of([&] { xs::convergence_radius_bound(serial, two_by_three, out); }),
               {"convergence_radius_bound", "out", "2", "5"});
  expect_parts(message_of([&] { xs::convergence_radius_bound(two_by_three, two_by_three, out); }),
               {"convergence_radius_bound", "out", "2", "5"});
  expect_parts(message_of([&] { xs::convergence_radius_tight_bound(two_by_three, two_by_three, out); }),
               {"convergence_radius_tight_bound", "out", "2", "5"});
  expect_parts(message_of([&] { xs::convergence_radius_tight_bound(serial, two_by_three, two_by_three, out); }),
               {"convergence_radius_tight_bound", "out", "2", "5"});
  expect_parts(message_of([&] { xs::convergence_radius(two_by_three, two_by_three, out); }),
               {"convergence_radius", "out", "2", "5"});
  expect_parts(message_of([&] { xs::convergence_radius_bound(three_by_two, two_by_three, two); }),
               {"convergence_radius_bound", "logits", "slopes", "3", "2"});
  expect_parts(message_of([&] { xs::convergence_radius_bound(serial, three_by_two, two_by_three, two); }),
               {"convergence_radius_bound", "logits", "slopes", "3", "2"});
  expect_parts(message_of([&] { xs::convergence_radius_tight_bound(three_by_two, two_by_three, two); }),
               {"convergence_radius_tight_bound", "logits", "slopes", "3", "2"});
  expect_parts(message_of([&] { xs::convergence_radius(serial, three_by_two, two_by_three, two); }),
               {"convergence_radius", "logits", "slopes", "3", "2"});
  // The temperature.
  for (const double temperature : {0.0, -0.0, -1.0, infinite, std::numeric_limits<double>::quiet_NaN()}) {
    const xs::convergence_radius_options options{.temperature = temperature};
    const std::string number = temperature == 0          ? "0"
                               : std::isnan(temperature) ? "nan"
                               : std::isinf(temperature) ? "inf"
                                                         : "-1";
    CAPTURE(temperature);
    expect_parts(message_of([&] { (void)xs::binary_convergence_radius(1, 1, options); }),
                 {"binary_convergence_radius", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::convergence_radius_bound(four, options); }),
                 {"convergence_radius_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::convergence_radius_bound(four, four, options); }),
                 {"convergence_radius_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::convergence_radius_tight_bound(four, four, options); }),
                 {"convergence_radius_tight_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::convergence_radius(four, four, options); }),
                 {"convergence_radius", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::nearest_partition_zero(four, four, options); }),
                 {"nearest_partition_zero", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::min_convergence_radius_bound(two_by_three, options); }),
                 {"min_convergence_radius_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { (void)xs::min_convergence_radius_bound(two_by_three, two_by_three, options); }),
                 {"min_convergence_radius_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { xs::convergence_radius_bound(two_by_three, two, options); }),
                 {"convergence_radius_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { xs::convergence_radius_tight_bound(two_by_three, two_by_three, two, options); }),
                 {"convergence_radius_tight_bound", "temperature", number.c_str()});
    expect_parts(message_of([&] { xs::convergence_radius(two_by_three, two_by_three, two, options); }),
                 {"convergence_radius", "temperature", number.c_str()});
  }
  CHECK(std::all_of(out.begin(), out.end(), [](double x) { return x == -7.0; }));
  CHECK(std::all_of(two.begin(), two.end(), [](double x) { return x == -7.0; }));
}

TEST_CASE("convergence_radius_quantile: the share below it", "[radius][unit]") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  const auto quantile = [](std::vector<double> radii, double q) { return xs::convergence_radius_quantile(radii, q); };
  CHECK(quantile({}, 0.5) == infinite);
  CHECK(quantile({3, 1, 2, 4}, 0) == 1);
  CHECK(quantile({3, 1, 2, 4}, 0.24) == 1);
  CHECK(quantile({3, 1, 2, 4}, 0.25) == 2);
  CHECK(quantile({3, 1, 2, 4}, 0.5) == 3);
  CHECK(quantile({3, 1, 2, 4}, 0.75) == 4);
  CHECK(quantile({3, 1, 2, 4}, 1) == 4);
  CHECK(quantile({5}, 0) == 5);
  CHECK(quantile({5}, 1) == 5);
  CHECK(quantile({3, nan, 2, 4}, 0) == 0); // lets no step pass
  CHECK(quantile({3, nan, 2, 4}, 0.25) == 2);
  CHECK(quantile({infinite, 2, infinite}, 0.5) == infinite);
  CHECK(quantile({2, 2, 1, 2}, 0.25) == 2);
  generator random(3);
  for (int i = 0; i < 300; ++i) {
    std::vector<double> radii(1 + random.below(200));
    for (double& r : radii) {
      r = random.below(4) == 0 ? 0.5 : random.unit();
    }
    std::vector<double> sorted = radii;
    std::sort(sorted.begin(), sorted.end());
    const double q = static_cast<double>(random.below(1025)) / 1024;
    const auto n = static_cast<double>(radii.size());
    const double found = xs::convergence_radius_quantile(radii, q);
    const auto below = static_cast<double>(std::lower_bound(sorted.begin(), sorted.end(), found) - sorted.begin());
    const auto up_to = static_cast<double>(std::upper_bound(sorted.begin(), sorted.end(), found) - sorted.begin());
    CAPTURE(q, n, found);
    CHECK(below <= q * n); // both exact
    CHECK((up_to > q * n || found == sorted.back()));
    std::sort(radii.begin(), radii.end());
    CHECK(radii == sorted); // reordered, nothing lost
  }
  // One outlier in a hundred is passed over.
  std::vector<double> samples(1000, 2.0);
  for (std::size_t i = 0; i < 10; ++i) {
    samples[i * 97] = 1e-6;
  }
  CHECK(quantile(samples, 0.01) == 2);
  CHECK(quantile(samples, 0.0099) == 1e-6);
  std::vector<double> spaced = {1, -7, 2, -7, 3};
  for (const double q : {-0.1, 1.5, nan, infinite}) {
    expect_parts(message_of([&] { (void)xs::convergence_radius_quantile(spaced, q); }),
                 {"convergence_radius_quantile", "q",
                  std::isnan(q)   ? "nan"
                  : std::isinf(q) ? "inf"
                  : q < 0         ? "-0.1"
                                  : "1.5"});
  }
  expect_parts(
      message_of([&] { (void)xs::convergence_radius_quantile(xs::vector_view<double>(spaced.data(), 3, 2), 0.5); }),
      {"convergence_radius_quantile", "stride", "2", "1"});
  CHECK(spaced == std::vector<double>{1, -7, 2, -7, 3});
  // On a batch.
  const std::vector<float> slopes = {0, 1, 0, 2, 0, 4, 0, 8};
  std::vector<double> radii(4);
  xs::convergence_radius_bound(xs::matrix_view<const float>(slopes.data(), 4, 2), radii);
  CHECK(xs::convergence_radius_quantile(radii, 0.5) == pi / 2);
}

TEST_CASE("radius_limited_step: no unchecked step passes", "[radius][controller][unit]") {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(xs::radius_limited_step(1, 2) == 1);
  CHECK(xs::radius_limited_step(2, 1) == 1);
  CHECK(xs::radius_limited_step(2, 2) == 2);
  CHECK(xs::radius_limited_step(5, 2, 0.5) == 1);
  CHECK(xs::radius_limited_step(5, 2, 4) == 5);
  CHECK(xs::radius_limited_step(0, 2) == 0);
  CHECK(xs::radius_limited_step(2, 0) == 0);
  CHECK(xs::radius_limited_step(2, 1, 0) == 0);
  CHECK(xs::radius_limited_step(2, infinite) == 2);
  CHECK(xs::radius_limited_step(infinite, 2) == 2);
  CHECK(xs::radius_limited_step(infinite, infinite) == infinite);
  CHECK(xs::radius_limited_step(2, infinite, 0) == 0); // 0 * inf
  CHECK(xs::radius_limited_step(2, 0, infinite) == 0);
  for (const double bad : {nan, -1.0, -infinite}) {
    CHECK(xs::radius_limited_step(bad, 1) == 0);
    CHECK(xs::radius_limited_step(1, bad) == 0);
    CHECK(xs::radius_limited_step(1, 1, bad) == 0);
    CHECK(xs::radius_limited_step(1, bad, bad) == 0); // the product of both is positive
    CHECK(xs::radius_limited_step(bad, bad) == 0);
  }
}

TEMPLATE_LIST_TEST_CASE("radius_controller: scales, ratios and counts", "[radius][controller][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  {
    xs::radius_controller controller;
    CHECK(controller.steps() == 0);
    CHECK(controller.limited_steps() == 0);
    CHECK(controller.ratio() == 0);
    CHECK(controller.largest_ratio() == 0);
    // A spread of 4 and a step of length 2.
    const std::vector<T> a = {1, 0, -2, T(0.5), 4, 0}; // of 3 and 4
    const xs::matrix_view<const T> slopes(a.data(), 2, 3);
    CHECK(off(controller.scale<Arch>(slopes, 2.0), 0.392699081698724154) < 1e-15);
    CHECK(off(controller.ratio(), 2 / 0.785398163397448310) < 1e-15);
    CHECK(controller.limited_steps() == 1);
    // Masked, the second sample takes no part.
    const std::vector<T> z = {0, 0, 0, -inf<T>, -inf<T>, -inf<T>};
    const xs::matrix_view<const T> logits(z.data(), 2, 3);
    CHECK(off(controller.scale<Arch>(logits, slopes, 2.0), pi / 3 / 2) < 1e-15);
    CHECK(off(controller.ratio(), 2 / (pi / 3)) < 1e-15);
    CHECK(off(controller.largest_ratio(), 2 / 0.785398163397448310) < 1e-15);
    CHECK(controller.scale<Arch>(slopes, 0.5) == 1.0);
    CHECK(controller.steps() == 3);
    CHECK(controller.limited_steps() == 2);
    // A step of length 0 changes nothing.
    const double before = controller.ratio();
    CHECK(controller.scale<Arch>(slopes, 0.0) == 1.0);
    CHECK(controller.scale_for(nan, 0.0) == 1.0);
    CHECK(controller.ratio() == before);
    CHECK(controller.steps() == 3);
    // NaN among the slopes.
    const std::vector<T> bad = {1, not_a_number<T>, 0};
    CHECK(controller.scale<Arch>(xs::matrix_view<const T>(bad.data(), 1, 3), 1.0) == 0.0);
    CHECK(controller.ratio() == infinite);
    CHECK(controller.largest_ratio() == infinite);
    CHECK(controller.limited_steps() == 3);
    // No spread: no limit.
    const std::vector<T> flat = {1, 1, 1};
    CHECK(controller.scale<Arch>(xs::matrix_view<const T>(flat.data(), 1, 3), 1e30) == 1.0);
    CHECK(controller.ratio() == 0);
    CHECK(controller.limited_steps() == 3);
    CHECK(controller.steps() == 5);
  }
  {
    xs::radius_controller controller({.factor = 0.5, .temperature = 4.0});
    const std::vector<T> a = {1, 0};
    CHECK(off(controller.scale<Arch>(xs::matrix_view<const T>(a.data(), 1, 2), 100.0), 0.02 * pi) < 1e-15);
    CHECK(off(controller.ratio(), 25 / pi) < 1e-15);
  }
  {
    xs::radius_controller controller;
    CHECK(controller.scale_for(2.0, 2.0) == 1.0); // r = 1 is allowed
    CHECK(controller.limited_steps() == 0);
    for (const double length : {nan, infinite, -infinite, -1.0}) {
      CAPTURE(length);
      CHECK(controller.scale_for(2.0, length) == 0.0);
      CHECK(controller.scale_for(infinite, length) == 0.0);
      CHECK(controller.ratio() == infinite);
    }
    for (const double radius : {nan, -1.0, 0.0, -0.0, -infinite}) {
      CAPTURE(radius);
      CHECK(controller.scale_for(radius, 1.0) == 0.0);
      CHECK(controller.ratio() == infinite);
    }
    CHECK(controller.scale_for(1e-300, 1e300) == 0.0); // the quotient is below all numbers
    CHECK(controller.scale_for(infinite, 1.0) == 1.0);
  }
  {
    // Whatever the numbers, the scaled step is not longer than the radius, but for a rounding.
    generator random(11);
    xs::radius_controller controller;
    for (int i = 0; i < 2000; ++i) {
      const double radius = std::pow(10.0, random.uniform(-12, 12));
      const double length = std::pow(10.0, random.uniform(-12, 12));
      const double scale = controller.scale_for(radius, length);
      CHECK((scale >= 0 && scale <= 1 && scale * length <= radius * (1 + 0x1p-51)));
      CHECK((scale == 1) == (length <= radius));
    }
    CHECK(controller.steps() == 2000);
  }
}

TEMPLATE_TEST_CASE("finite_difference_slopes: slopes, noise and special values", "[radius][slopes][unit]", float,
                   double) {
  using T = TestType;
  constexpr auto epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  // The points that it asks for: h a power of two near length * cbrt(epsilon).
  for (const double length : {1.0, 1e-3, 300.0, 1e20}) {
    std::vector<double> points;
    std::vector<T> slopes(2);
    std::vector<T> scratch(2);
    const double noise = xs::finite_difference_slopes(
        [&](double t, auto& out) {
          points.push_back(t);
          out[0] = static_cast<T>(3 + t);
          out[1] = static_cast<T>(-2 * t);
        },
        slopes, scratch, {.length = length});
    REQUIRE(points.size() == 2);
    int exponent = 0;
    CHECK(std::frexp(points[0], &exponent) == 0.5);
    CHECK(points[1] == -points[0]);
    const double ratio = points[0] / (length * std::cbrt(epsilon));
    CHECK((ratio > 0.7 && ratio < 1.42));
    // Linear logits: nothing but rounding.
    CHECK(std::fabs(static_cast<double>(slopes[0]) - 1) <= noise);
    CHECK(slopes[1] == T(-2));
    CHECK(off(noise, 2 * epsilon * std::max(3 + points[0], 2 * points[0]) / points[0]) < 1e-6);
  }
  // A network of two layers, at random parameters in a random direction; its slopes by a Jacobian-vector product in
  // double.
  generator random(5);
  constexpr std::size_t inputs = 12;
  constexpr std::size_t hidden = 20;
  constexpr std::size_t classes = 7;
  constexpr std::size_t samples = 30;
  constexpr std::size_t parameters = inputs * hidden + hidden * classes;
  const auto normals = [&](std::size_t n, double scale) {
    std::vector<double> x(n);
    for (double& v : x) {
      v = scale * random.normal();
    }
    return x;
  };
  std::vector<double> theta = normals(parameters, 0.3);
  std::vector<double> direction = normals(parameters, 1.0);
  double square = 0;
  double norm = 0;
  for (std::size_t i = 0; i < parameters; ++i) {
    square += direction[i] * direction[i];
    norm += theta[i] * theta[i];
  }
  for (double& v : direction) {
    v /= std::sqrt(square);
  }
  const std::vector<double> x = normals(samples * inputs, 1.0);
  // Values and derivatives together, in S.
  const auto network = [&]<class S>(S t, std::vector<S>& z, std::vector<S>* dz) {
    for (std::size_t s = 0; s < samples; ++s) {
      std::vector<S> h(hidden);
      std::vector<S> dh(hidden);
      for (std::size_t j = 0; j < hidden; ++j) {
        S sum{};
        S rate{};
        for (std::size_t i = 0; i < inputs; ++i) {
          const std::size_t p = j * inputs + i;
          const auto in = static_cast<S>(x[s * inputs + i]);
          sum += static_cast<S>(static_cast<S>(theta[p]) + t * static_cast<S>(direction[p])) * in;
          rate += static_cast<S>(direction[p]) * in;
        }
        h[j] = std::tanh(sum);
        dh[j] = (1 - h[j] * h[j]) * rate;
      }
      for (std::size_t k = 0; k < classes; ++k) {
        S sum{};
        S rate{};
        for (std::size_t j = 0; j < hidden; ++j) {
          const std::size_t p = inputs * hidden + k * hidden + j;
          const S w = static_cast<S>(theta[p]) + t * static_cast<S>(direction[p]);
          sum += w * h[j];
          rate += w * dh[j] + static_cast<S>(direction[p]) * h[j];
        }
        z[s * classes + k] = sum;
        if (dz != nullptr) {
          (*dz)[s * classes + k] = rate;
        }
      }
    }
  };
  std::vector<double> exact(samples * classes);
  {
    std::vector<double> z(samples * classes);
    network(0.0, z, &exact);
  }
  for (const bool transposed : {false, true}) {
    std::vector<T> room(samples * classes);
    std::vector<T> scratch_room(samples * classes);
    const xs::matrix_view<T> slopes = transposed ? xs::matrix_view<T>(room.data(), samples, classes, 1, samples)
                                                 : xs::matrix_view<T>(room.data(), samples, classes);
    const xs::matrix_view<T> scratch(scratch_room.data(), samples, classes);
    const auto element = [](const xs::matrix_view<T>& m, std::size_t r, std::size_t c) -> T& {
      return m
          .data()[static_cast<std::ptrdiff_t>(r) * m.row_stride() + static_cast<std::ptrdiff_t>(c) * m.col_stride()];
    };
    const double length = std::sqrt(norm);
    const double noise = xs::finite_difference_slopes(
        [&](double t, const xs::matrix_view<T>& out) {
          std::vector<T> z(samples * classes);
          network(static_cast<T>(t), z, static_cast<std::vector<T>*>(nullptr));
          for (std::size_t r = 0; r < samples; ++r) {
            for (std::size_t c = 0; c < classes; ++c) {
              element(out, r, c) = z[r * classes + c];
            }
          }
        },
        slopes, scratch, {.length = length});
    // Sums of 32 products are right to some places, not to the last; the truncation is of the order h^2 = (length^3
    // epsilon)^(2/3), and third derivatives are of the order of 1.
    const double truncation = std::pow(length * std::cbrt(epsilon), 2);
    CHECK((noise > 0 && noise < 0.05));
    double worst = 0;
    for (std::size_t r = 0; r < samples; ++r) {
      for (std::size_t c = 0; c < classes; ++c) {
        const double error = std::fabs(static_cast<double>(element(slopes, r, c)) - exact[r * classes + c]);
        worst = std::max(worst, error);
      }
    }
    CAPTURE(worst, noise, truncation);
    CHECK(worst <= 8 * noise + 4 * truncation);
    // The bound with the noise counted in is one for the exact slopes.
    const double exact_bound =
        xs::min_convergence_radius_bound(xs::matrix_view<const double>(exact.data(), samples, classes));
    const double bound = xs::min_convergence_radius_bound(slopes);
    CHECK(pi / (pi / bound + 2 * worst) <= exact_bound * (1 + 1e-9));
  }
  // Masked classes and values that are none.
  std::vector<T> slopes(6);
  std::vector<T> scratch(6);
  const double noise = xs::finite_difference_slopes(
      [&](double t, std::vector<T>& out) {
        const bool above = t > 0;
        out = {-inf<T>,
               above ? -inf<T> : T(1),
               inf<T>,
               above ? not_a_number<T> : T(1),
               static_cast<T>(2 + t),
               above ? std::numeric_limits<T>::max() : -std::numeric_limits<T>::max()};
      },
      slopes, scratch);
  CHECK(slopes[0] == 0);
  CHECK(std::isnan(slopes[1]));
  CHECK(std::isnan(slopes[2]));
  CHECK(std::isnan(slopes[3]));
  CHECK(std::fabs(slopes[4] - 1) < T(1e-3));
  CHECK(std::isnan(slopes[5])); // the quotient overflows
  CHECK(noise > 0);
  CHECK(xs::convergence_radius_bound(slopes) == 0);
  // Errors come before anything is evaluated.
  bool called = false;
  const auto never = [&](double, auto&&) { called = true; };
  std::vector<T> shorter(5);
  expect_parts(message_of([&] { (void)xs::finite_difference_slopes(never, slopes, shorter); }),
               {"finite_difference_slopes", "slopes", "scratch", "6", "5"});
  expect_parts(message_of([&] {
                 (void)xs::finite_difference_slopes(never, xs::matrix_view<T>(slopes.data(), 2, 3),
                                                    xs::matrix_view<T>(scratch.data(), 3, 2));
               }),
               {"finite_difference_slopes", "slopes", "scratch", "2", "3"});
  for (const double length : {0.0, -1.0, infinite, std::numeric_limits<double>::quiet_NaN()}) {
    expect_parts(message_of([&] { (void)xs::finite_difference_slopes(never, slopes, scratch, {.length = length}); }),
                 {"finite_difference_slopes", "length",
                  length == 0          ? "0"
                  : std::isnan(length) ? "nan"
                  : std::isinf(length) ? "inf"
                                       : "-1"});
  }
  CHECK_FALSE(called);
}

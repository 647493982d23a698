// SPDX-License-Identifier: MIT
// What attention takes in the place of the exponential, per architecture: the logistic function and its complement,
// softplus, the hyperbolic tangent, and log(1 + y) on [0, 1]. Errors over every float and over doubles in all places
// that matter, special values, symmetries.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mpfr.h>
#include <mutex>
#include <string>
#include <type_traits>
#include <vector>

#include "../support/all_floats.hpp"
#include "../support/catch.hpp"
#include "../support/findings.hpp"
#include "../support/math_probe.hpp"
#include "../support/rows.hpp"
#include "../support/ulp.hpp"

using namespace xsoftmax::test;

namespace {

// As math_probe counts them.
enum link_kind : int { sigmoid, sigmoid_of_pair, complement, softplus, tangent, logarithm };

/// The largest error of all floats, or that searches of 2 * 10^8 doubles have found, in ULP, and where.
template <class T>
struct largest_error {
  double ulp;
  T x;
};

struct subject_function {
  link_kind function;
  const char* name;
  largest_error<float> float_fused;
  largest_error<float> float_split;
  largest_error<double> double_fused;
  largest_error<double> double_split;

  template <class T>
  [[nodiscard]] const largest_error<T>& largest(bool fused) const {
    if constexpr (std::is_same_v<T, float>) {
      return fused ? float_fused : float_split;
    } else {
      return fused ? double_fused : double_split;
    }
  }
};

// clang-format off
const std::array subjects_of_test = {
    subject_function{sigmoid, "sigmoid",
                     {1.5967, -0x1.ff1d3ep-2f}, {1.6020, -0x1.001802p-1f},
                     {1.8105, -0x1.1c0ab2bb6806dp+2}, {1.8359, -0x1.1c2e574ace2cep+2}},
    subject_function{complement, "1 - sigmoid",
                     {1.5967, 0x1.ff1d3ep-2f}, {1.6020, 0x1.001802p-1f},
                     {1.8105, 0x1.1c0ab2bb6806dp+2}, {1.8359, 0x1.1c2e574ace2cep+2}},
    subject_function{softplus, "softplus",
                     {2.0009, -0x1.fe3c0ep-2f}, {2.0164, -0x1.00a4c8p-1f},
                     {2.2920, -0x1.1cabd8b671d1dp+2}, {2.3281, -0x1.1c6d57e40b415p+2}},
    subject_function{tangent, "tanh",
                     {2.4135, 0x1.fc9bb4p-8f}, {2.4177, 0x1.fffa5p-5f},
                     {2.7578, 0x1.ff47efb71cbf5p-6}, {2.7740, 0x1.fcec38faca4f9p-6}},
    subject_function{logarithm, "log1p",
                     {1.9684, 0x1.fa2cp-9f}, {1.9684, 0x1.fa2cp-9f},
                     {1.9883, 0x1.ff8ba3e4e8a01p-9}, {1.9883, 0x1.ff8ba3e4e8a01p-9}}};
// clang-format on

/// The type in which the exact values of functions of T are computed: good to 2^-28 (double: 2^-9) ULP.
template <class T>
using reference_type = std::conditional_t<std::is_same_v<T, float>, double, long double>;

template <class W>
W exact(link_kind function, W x) {
  const W e = std::exp(-std::fabs(x));
  switch (function) {
  case sigmoid:
  case sigmoid_of_pair:
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
  case complement:
    return x < 0 ? 1 / (1 + e) : e / (1 + e);
  case softplus:
    return x > 0 ? x + std::log1p(e) : std::log1p(e);
  case tangent:
    return std::tanh(x);
  default:
    return std::log1p(x);
  }
}

/// The same, of more digits.
long double multiprecision(link_kind function, double x) {
  mpfr_t v;
  mpfr_t e;
  mpfr_init2(v, 2200);
  mpfr_init2(e, 2200);
  mpfr_set_d(v, x, MPFR_RNDN);
  if (function == tangent) {
    mpfr_tanh(v, v, MPFR_RNDN);
  } else if (function == logarithm) {
    mpfr_log1p(v, v, MPFR_RNDN);
  } else if (function == softplus) {
    mpfr_exp(v, v, MPFR_RNDN);
    mpfr_log1p(v, v, MPFR_RNDN);
  } else {
    mpfr_mul_si(v, v, function == complement ? 1 : -1, MPFR_RNDN);
    mpfr_exp(v, v, MPFR_RNDN);
    mpfr_add_ui(e, v, 1, MPFR_RNDN);
    mpfr_ui_div(v, 1, e, MPFR_RNDN);
  }
  const long double result = mpfr_get_ld(v, MPFR_RNDN);
  mpfr_clear(v);
  mpfr_clear(e);
  return result;
}

/// Only log1p has arguments for which it promises nothing.
template <class T>
bool promised(link_kind function, T x) {
  return function != logarithm || !(x < 0 || x > 1);
}

/// Below it the logistic functions and softplus are 0.
template <class T>
inline constexpr reference_type<T> flushed = std::is_same_v<T, float> ? reference_type<T>(0x1.8655p-126)
                                                                      : reference_type<T>(0x1.80001p-1022);

template <class T>
double error_in_ulp(link_kind function, T y, reference_type<T> right) {
  if (function <= softplus && right < flushed<T>) {
    const bool zero = y == 0 && !std::signbit(y);
    return zero ? 0 : std::max(ulp_distance(y, right), y < std::numeric_limits<T>::min() ? 1e9 : 0.0);
  }
  if constexpr (std::is_same_v<T, float>) {
    if (std::isfinite(right) && std::isfinite(y)) { // ulp_distance, only faster
      const std::int64_t exponent = static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(right) >> 52) & 0x7FF;
      const auto at_least = static_cast<std::uint64_t>(std::max<std::int64_t>(exponent, 1023 - 126));
      return std::fabs(static_cast<double>(y) - right) * std::bit_cast<double>((2 * 1023 + 23 - at_least) << 52);
    }
  }
  return ulp_distance(y, static_cast<long double>(right));
}

template <class T>
using errors = std::array<std::vector<largest_error<T>>, subjects_of_test.size()>; // of each function and architecture

template <class T>
errors<T> no_errors(const std::vector<math_probe<T>>& probes) {
  errors<T> none;
  none.fill(std::vector<largest_error<T>>(probes.size()));
  return none;
}

template <class T>
void fold(largest_error<T>& worst, const largest_error<T>& other) {
  if (!(other.ulp <= worst.ulp)) {
    worst = other;
  }
}

/// Runs every function of every probe over x and folds the errors into `worst`; all architectures with fused
/// multiply-add must agree.
template <class T>
void measure(const std::vector<math_probe<T>>& probes, const std::vector<T>& x, errors<T>& worst, findings& found) {
  std::vector<reference_type<T>> right(x.size());
  std::vector<T> fused;
  std::vector<T> y(x.size());
  for (std::size_t f = 0; f < subjects_of_test.size(); ++f) {
    const link_kind function = subjects_of_test[f].function;
    for (std::size_t i = 0; i < x.size(); ++i) {
      right[i] = exact(function, static_cast<reference_type<T>>(x[i]));
    }
    fused.clear();
    for (std::size_t a = 0; a < probes.size(); ++a) {
      probes[a].link_function(function, x.data(), y.data(), x.size());
      if (probes[a].fused && !fused.empty()) {
        for (std::size_t i = 0; i < x.size(); ++i) {
          const bool same = bits(y[i]) == bits(fused[i]) || (std::isnan(y[i]) && std::isnan(fused[i]));
          found.expect(same || !promised(function, x[i]), [&] {
            return std::string(probes[a].arch) + ": " + subjects_of_test[f].name + "(" + exact_text(x[i]) +
                   ") = " + exact_text(y[i]) + ", another architecture " + exact_text(fused[i]);
          });
        }
        continue; // the same bits: the same errors
      }
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (promised(function, x[i])) {
          fold(worst[f][a], {error_in_ulp(function, y[i], right[i]), x[i]});
        }
      }
      if (probes[a].fused) {
        fused = y;
      }
    }
  }
}

/// Says what was found and compares it with what is documented, of which a sample must find more than half.
template <class T>
void report(const std::vector<math_probe<T>>& probes, const errors<T>& worst) {
  for (std::size_t f = 0; f < subjects_of_test.size(); ++f) {
    const char* of_fused = nullptr;
    for (std::size_t a = 0; a < probes.size(); ++a) {
      if (probes[a].fused && of_fused != nullptr) {
        continue;
      }
      of_fused = probes[a].fused ? probes[a].arch : of_fused;
      WARN(subjects_of_test[f].name << ", " << scalar_name<T>() << ", " << probes[a].arch << ": at most "
                                    << worst[f][a].ulp << " ULP, at " << exact_text(worst[f][a].x));
      const double largest = subjects_of_test[f].template largest<T>(probes[a].fused).ulp;
      // Up to the last digit; in double, searches end where others could go on.
      CHECK(worst[f][a].ulp <= largest + (std::is_same_v<T, float> ? 0.0001 : 0.05));
      CHECK(worst[f][a].ulp >= largest - (std::is_same_v<T, float> ? 0.0001 : 0.001));
    }
  }
}

/// Values around which something changes: where results vanish or no longer change, the clamps, the boundaries between
/// reduction intervals, the ends of the formats; and where the largest errors are.
template <class T>
std::vector<T> special_arguments() {
  using limits = std::numeric_limits<T>;
  std::vector<T> x = {0, limits::infinity(), limits::quiet_NaN(), limits::max(), limits::min(), limits::denorm_min()};
  for (const subject_function& f : subjects_of_test) {
    x.push_back(f.template largest<T>(true).x);
    x.push_back(f.template largest<T>(false).x);
  }
  const auto around = [&](double centre, int reach) {
    T up = static_cast<T>(centre);
    T down = up;
    for (int i = 0; i < reach; ++i) {
      x.push_back(up);
      x.push_back(down);
      up = std::nextafter(up, limits::infinity());
      down = std::nextafter(down, -limits::infinity());
    }
  };
  constexpr double ln2 = 0.69314718055994531;
  // The smallest normal result, and all of the last octave before it.
  const double bottom = (1 - limits::min_exponent) * ln2;
  around(bottom, 3000);
  for (int i = 0; i < 20000; ++i) {
    around(bottom - 1.5 + i * 1e-4, 1);
  }
  // Where the reduction goes from one interval to the next, at steps of 1/32 octave, and where t = 0; half that for
  // the tangent.
  for (int k = 1; k <= 64 * (2 - limits::min_exponent); ++k) {
    around(k * ln2 / 64, 6);
  }
  // Where 1 is reached, and clamps.
  for (const double place : {8.0,  9.0106, 9.5,  16.0, 16.6355, 17.3287, 18.7,  19.0615, 20.0,   32.0, 36.7,
                             37.4, 64.0,   87.0, 88.0, 104.0,   105.0,   708.0, 745.0,   1000.0, 1e30}) {
    around(place, 200);
  }
  for (int exponent = limits::min_exponent; exponent < 8; ++exponent) {
    around(std::ldexp(1.0, exponent), 4);
  }
  const std::size_t positive = x.size();
  for (std::size_t i = 0; i < positive; ++i) {
    x.push_back(-x[i]);
  }
  return x;
}

/// Where scores lie, and small ones of every size.
template <class T>
void add_random_arguments(std::vector<T>& x, generator& random, int count) {
  const double reach = std::is_same_v<T, float> ? 90 : 710;
  for (int i = 0; i < count; ++i) {
    const double sign = i % 2 == 0 ? 1 : -1;
    x.push_back(static_cast<T>(random.uniform(-1, 1)));
    x.push_back(static_cast<T>(random.uniform(-10, 10)));
    x.push_back(static_cast<T>(random.uniform(-reach, reach)));
    x.push_back(static_cast<T>(sign * std::exp2(random.uniform(-60, 0))));
  }
}

} // namespace

TEST_CASE("link functions: the references against MPFR", "[link][accuracy]") {
  std::vector<double> x;
  generator random(1);
  add_random_arguments(x, random, 500);
  findings found;
  for (const double v : x) {
    for (const subject_function& f : subjects_of_test) {
      if (!promised(f.function, v)) {
        continue;
      }
      const long double right = multiprecision(f.function, v);
      const auto relative = [&](long double y) { return std::fabs(y / right - 1); };
      found.expect(relative(exact<long double>(f.function, v)) < 0x1p-61L &&
                       relative(exact<double>(f.function, v)) < 0x1p-50L,
                   [&] { return std::string(f.name) + " of " + exact_text(v); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("link functions, float: a sample of all arguments and every special place", "[link][accuracy]") {
  const auto probes = math_probes<float>();
  errors<float> worst = no_errors(probes);
  findings found;
  std::vector<float> x = special_arguments<float>();
  generator random(2);
  add_random_arguments(x, random, 200000);
  for (std::uint64_t pattern = 0; pattern < (std::uint64_t{1} << 32); pattern += 4001) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(pattern)));
  }
  measure(probes, x, worst, found);
  report(probes, worst);
  if (probes.size() > 2) {
    XSOFTMAX_CHECK_FINDINGS(found);
  }
}

TEST_CASE("link functions, float: all 2^32 arguments", "[link][accuracy][.exhaustive]") {
  const auto probes = math_probes<float>();
  errors<float> worst = no_errors(probes);
  findings found;
  std::mutex mutex;
  for_all_floats([&](const auto& next) {
    errors<float> mine = no_errors(probes);
    findings seen;
    for (std::vector<float> x; next(x);) {
      measure(probes, x, mine, seen);
    }
    const std::scoped_lock lock(mutex);
    for (std::size_t f = 0; f < mine.size(); ++f) {
      for (std::size_t a = 0; a < probes.size(); ++a) {
        fold(worst[f][a], mine[f][a]);
      }
    }
    found.expect(seen.failures() == 0, [&] { return seen.text(); });
  });
  report(probes, worst);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("link functions, double: special places and random arguments", "[link][accuracy]") {
  const auto probes = math_probes<double>();
  errors<double> worst = no_errors(probes);
  findings found;
  std::vector<double> x = special_arguments<double>();
  generator random(3);
  add_random_arguments(x, random, 100000);
  for (int i = 0; i < 100000; ++i) {
    x.push_back(std::bit_cast<double>(random.next())); // any bit pattern
  }
  measure(probes, x, worst, found);
  report(probes, worst);
  if (probes.size() > 2) {
    XSOFTMAX_CHECK_FINDINGS(found);
  }
}

TEST_CASE("link functions, double: many random arguments", "[link][accuracy][.exhaustive]") {
  const auto probes = math_probes<double>();
  errors<double> worst = no_errors(probes);
  findings found;
  std::vector<double> x = special_arguments<double>();
  generator random(4);
  for (int round = 0; round < 400; ++round) {
    add_random_arguments(x, random, 50000);
    measure(probes, x, worst, found);
    x.clear();
  }
  report(probes, worst);
}

TEMPLATE_LIST_TEST_CASE("link functions of special values", "[link][accuracy]", scalars) {
  using T = TestType;
  using limits = std::numeric_limits<T>;
  constexpr T infinity = limits::infinity();
  for (const math_probe<T>& probe : math_probes<T>()) {
    CAPTURE(probe.arch, scalar_name<T>());
    const auto of = [&](link_kind function, T x) {
      T y;
      probe.link_function(function, &x, &y, 1);
      return y;
    };
    const auto vanishes = [&](link_kind function, T x) { return bits(of(function, x)) == 0; };
    for (const link_kind function : {sigmoid, sigmoid_of_pair, complement, softplus, tangent, logarithm}) {
      CAPTURE(static_cast<int>(function));
      CHECK(std::isnan(of(function, limits::quiet_NaN())));
      CHECK(std::isnan(of(function, -limits::quiet_NaN())));
    }
    for (const link_kind function : {sigmoid, sigmoid_of_pair}) {
      CHECK(vanishes(function, -infinity));
      CHECK(vanishes(function, limits::lowest()));
      CHECK(of(function, infinity) == 1);
      CHECK(of(function, limits::max()) == 1);
    }
    CHECK(vanishes(complement, infinity));
    CHECK(vanishes(complement, limits::max()));
    CHECK(of(complement, -infinity) == 1);
    CHECK(of(complement, limits::lowest()) == 1);
    CHECK(vanishes(softplus, -infinity));
    CHECK(vanishes(softplus, limits::lowest()));
    CHECK(of(softplus, infinity) == infinity);
    CHECK(of(softplus, limits::max()) == limits::max());
    for (const T near_zero : {T(0), T(-0.0), limits::denorm_min(), -limits::denorm_min(), limits::min()}) {
      CHECK(of(sigmoid, near_zero) == T(0.5));
      CHECK(of(complement, near_zero) == T(0.5));
      CHECK(bits(of(tangent, near_zero)) == bits(near_zero));
    }
    CHECK(of(tangent, infinity) == 1);
    CHECK(of(tangent, -infinity) == -1);
    CHECK(of(tangent, limits::max()) == 1);
    CHECK(of(tangent, limits::lowest()) == -1);
    CHECK(vanishes(logarithm, T(0)));
    CHECK(of(logarithm, limits::denorm_min()) == limits::denorm_min());
  }
}

TEMPLATE_LIST_TEST_CASE("link functions: one value, whoever asks, and symmetric", "[link][accuracy]", scalars) {
  using T = TestType;
  std::vector<T> x = special_arguments<T>();
  generator random(5);
  add_random_arguments(x, random, 20000);
  std::vector<T> reflected(x);
  for (T& v : reflected) {
    v = -v;
  }
  findings found;
  for (const math_probe<T>& probe : math_probes<T>()) {
    const auto of = [&](link_kind function, const std::vector<T>& at) {
      std::vector<T> y(at.size());
      probe.link_function(function, at.data(), y.data(), at.size());
      return y;
    };
    const auto alone = of(sigmoid, x);
    const auto value = of(sigmoid_of_pair, x);
    const auto rest = of(complement, x);
    const auto rest_reflected = of(complement, reflected);
    const auto slope = of(tangent, x);
    const auto slope_reflected = of(tangent, reflected);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i])) {
        continue;
      }
      const auto what = [&] { return std::string(probe.arch) + ", " + exact_text(x[i]); };
      found.expect(bits(alone[i]) == bits(value[i]), what);
      found.expect(bits(value[i]) == bits(rest_reflected[i]), what);
      found.expect(std::max(value[i], rest[i]) == 1 - std::min(value[i], rest[i]), what);
      found.expect(bits(slope[i]) == bits(-slope_reflected[i]) && std::fabs(slope[i]) <= 1, what);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// The exponential, per architecture: at most 1 ULP for every float and for doubles in all places that matter, and the
// relative error of the extended exponential.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mpfr.h>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/all_floats.hpp"
#include "../support/catch.hpp"
#include "../support/findings.hpp"
#include "../support/math_probe.hpp"
#include "../support/reference.hpp"
#include "../support/rows.hpp"
#include "../support/ulp.hpp"

using namespace xsoftmax::test;

namespace {

long double multiprecision_exp(double x) {
  mpfr_t value;
  mpfr_init2(value, 160);
  mpfr_set_d(value, x, MPFR_RNDN);
  mpfr_exp(value, value, MPFR_RNDN);
  const long double result = mpfr_get_ld(value, MPFR_RNDN);
  mpfr_clear(value);
  return result;
}

/// The double exponential is good to 2^-52, so a distance measured from it is good to 2^-28 ULP of float; whatever
/// comes nearer to the bound than that is measured again.
double exp_error(float x, float y) {
  const double exact = std::exp(static_cast<double>(x));
  if (!(std::fabs(y) <= std::numeric_limits<float>::max()) || !(exact < 0x1p127) || !std::isnormal(exact)) {
    return ulp_distance(y, std::isfinite(x) ? std::exp(static_cast<long double>(x)) : static_cast<long double>(exact));
  }
  const auto exponent =
      std::max<std::int64_t>(static_cast<std::int64_t>(std::bit_cast<std::uint64_t>(exact) >> 52), 1023 - 126);
  const double per_unit = std::bit_cast<double>(static_cast<std::uint64_t>(2 * 1023 + 23 - exponent) << 52);
  const double error = std::fabs(static_cast<double>(y) - exact) * per_unit;
  return error < 0.999 ? error : ulp_distance(y, multiprecision_exp(x));
}

/// The x87 exponential is good to 2^-63; what comes near the bound is measured again.
double exp_error(double x, double y) {
  const double error = ulp_distance(y, std::exp(static_cast<long double>(x)));
  return error < 0.98 || !std::isfinite(x) ? error : ulp_distance(y, multiprecision_exp(x));
}

template <class T>
struct worst_exp {
  double error = 0;
  T x = 0;

  void add(double e, T at) {
    if (!(e <= error)) {
      error = e;
      x = at;
    }
  }
};

/// Runs every probe over x and folds the errors into `worst`; all architectures with fused multiply-add must agree.
template <class T>
void measure(const std::vector<math_probe<T>>& probes, const std::vector<T>& x, std::vector<worst_exp<T>>& worst,
             findings& found) {
  std::vector<T> fused;
  std::vector<T> y(x.size());
  for (std::size_t a = 0; a < probes.size(); ++a) {
    probes[a].exp(x.data(), y.data(), x.size());
    if (probes[a].fused && !fused.empty()) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        const bool same = bits(y[i]) == bits(fused[i]) || (std::isnan(y[i]) && std::isnan(fused[i]));
        found.expect(same, [&] {
          return std::string(probes[a].arch) + ": exp(" + exact_text(x[i]) + ") = " + exact_text(y[i]) +
                 ", another architecture " + exact_text(fused[i]);
        });
      }
      continue; // the same bits: the same errors
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst[a].add(exp_error(x[i], y[i]), x[i]);
    }
    if (probes[a].fused) {
      fused = y;
    }
  }
}

template <class T>
void report(const std::vector<math_probe<T>>& probes, const std::vector<worst_exp<T>>& worst) {
  const char* of_fused = nullptr;
  for (std::size_t a = 0; a < probes.size(); ++a) {
    if (probes[a].fused && of_fused != nullptr) {
      WARN("exp, " << scalar_name<T>() << ", " << probes[a].arch << ": the bits of " << of_fused);
      continue;
    }
    of_fused = probes[a].fused ? probes[a].arch : nullptr;
    WARN("exp, " << scalar_name<T>() << ", " << probes[a].arch << ": at most " << worst[a].error << " ULP, at "
                 << exact_text(worst[a].x));
    CHECK(worst[a].error <= 1);
    CHECK(worst[a].error > 0.5);
  }
}

/// Values around which something changes: thresholds, boundaries between reduction intervals, ends of the formats.
template <class T>
std::vector<T> special_arguments() {
  using limits = std::numeric_limits<T>;
  std::vector<T> x = {T(0),
                      T(-0.0),
                      limits::infinity(),
                      -limits::infinity(),
                      limits::quiet_NaN(),
                      -limits::quiet_NaN(),
                      limits::max(),
                      limits::lowest(),
                      limits::min(),
                      -limits::min(),
                      limits::denorm_min(),
                      -limits::denorm_min()};
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
  // Overflow; the smallest normal and subnormal results; half the smallest subnormal.
  const double top = std::log(static_cast<double>(limits::max()));
  around(top, 2000);
  around((limits::min_exponent - 1) * ln2, 2000);
  around((limits::min_exponent - limits::digits) * ln2, 2000);
  around((limits::min_exponent - limits::digits - 1) * ln2, 2000);
  // Where the reduction goes from one interval to the next, at steps of 1/32 octave, and where t = 0.
  for (int k = 32 * (limits::min_exponent - limits::digits - 2); k <= 32 * (limits::max_exponent + 1); ++k) {
    around(k * ln2 / 32, 6);
  }
  for (const double clamp : {88.0, 89.0, 90.0, 709.0, 710.0, 711.0, -87.0, -88.0, -104.0, -105.0, -106.0, -708.0,
                             -745.0, -746.0, -747.0, 1000.0, -1000.0, 1e30, -1e30}) {
    around(clamp, 200);
  }
  for (int exponent = limits::min_exponent; exponent < 8; ++exponent) {
    around(std::ldexp(1.0, exponent), 4);
    around(-std::ldexp(1.0, exponent), 4);
  }
  return x;
}

} // namespace

TEST_CASE("exp, float: a sample of all arguments and every special place", "[exp][accuracy]") {
  const auto probes = math_probes<float>();
  std::vector<worst_exp<float>> worst(probes.size());
  findings found;
  std::vector<float> x = special_arguments<float>();
  measure(probes, x, worst, found);
  x.clear();
  for (std::uint64_t pattern = 0; pattern < (std::uint64_t{1} << 32); pattern += 1009) {
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(pattern)));
  }
  measure(probes, x, worst, found);
  report(probes, worst);
  if (probes.size() > 2) {
    XSOFTMAX_CHECK_FINDINGS(found);
  }
}

TEST_CASE("exp, float: all 2^32 arguments", "[exp][accuracy][.exhaustive]") {
  const auto probes = math_probes<float>();
  std::vector<worst_exp<float>> worst(probes.size());
  findings found;
  std::mutex mutex;
  for_all_floats([&](const auto& next) {
    std::vector<worst_exp<float>> mine(probes.size());
    findings seen;
    for (std::vector<float> x; next(x);) {
      measure(probes, x, mine, seen);
    }
    const std::scoped_lock lock(mutex);
    for (std::size_t a = 0; a < probes.size(); ++a) {
      worst[a].add(mine[a].error, mine[a].x);
    }
    found.expect(seen.failures() == 0, [&] { return seen.text(); });
  });
  report(probes, worst);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("exp, double: special places and random arguments", "[exp][accuracy]") {
  const auto probes = math_probes<double>();
  std::vector<worst_exp<double>> worst(probes.size());
  findings found;
  std::vector<double> x = special_arguments<double>();
  generator random(7);
  for (int i = 0; i < 1000000; ++i) {
    x.push_back(random.uniform(-746, 710));
    x.push_back(random.uniform(-1, 1));
    x.push_back(random.uniform(-746, -708)); // subnormal results
  }
  for (int i = 0; i < 200000; ++i) {
    x.push_back(std::bit_cast<double>(random.next())); // any bit pattern
  }
  measure(probes, x, worst, found);
  report(probes, worst);
  if (probes.size() > 2) {
    XSOFTMAX_CHECK_FINDINGS(found);
  }
}

TEST_CASE("exp, double: many random arguments", "[exp][accuracy][.exhaustive]") {
  const auto probes = math_probes<double>();
  std::vector<worst_exp<double>> worst(probes.size());
  findings found;
  generator random(8);
  for (int round = 0; round < 300; ++round) {
    std::vector<double> x;
    for (int i = 0; i < 200000; ++i) {
      x.push_back(round % 3 == 0 ? random.uniform(-746, 710) : random.uniform(-0.4, 0.4));
    }
    measure(probes, x, worst, found);
  }
  report(probes, worst);
}

TEST_CASE("exp of special values", "[exp][accuracy]") {
  const auto check = []<class T>(const std::vector<math_probe<T>>& probes) {
    using limits = std::numeric_limits<T>;
    for (const math_probe<T>& probe : probes) {
      CAPTURE(probe.arch, scalar_name<T>());
      const auto exp = [&](T x) {
        T y;
        probe.exp(&x, &y, 1);
        return y;
      };
      CHECK(bits(exp(-limits::infinity())) == 0);
      CHECK(exp(limits::infinity()) == limits::infinity());
      CHECK(std::isnan(exp(limits::quiet_NaN())));
      CHECK(std::isnan(exp(-limits::quiet_NaN())));
      CHECK(exp(T(0)) == 1);
      CHECK(exp(T(-0.0)) == 1);
      CHECK(exp(limits::denorm_min()) == 1);
      CHECK(exp(-limits::denorm_min()) == 1);
      CHECK(exp(limits::max()) == limits::infinity());
      CHECK(bits(exp(limits::lowest())) == 0);
    }
  };
  check(math_probes<float>());
  check(math_probes<double>());
}

namespace {

/// The largest relative error of the extended exponential over x, in units of 2^-digits.
template <class T>
worst_exp<T> extended_error(const math_probe<T>& probe, const std::vector<T>& x, double temperature,
                            std::int64_t reference) {
  std::vector<double> y(x.size());
  probe.extended_exp(x.data(), y.data(), x.size(), temperature, reference);
  worst_exp<T> worst;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const long double exact = std::ldexp(wide::exp(wide::quotient({static_cast<long double>(x[i]), 0}, temperature)),
                                         -static_cast<int>(reference));
    const auto error =
        static_cast<double>(std::fabs(y[i] / exact - 1) * std::ldexp(1.0L, std::numeric_limits<T>::digits));
    worst.add(error, x[i]);
  }
  return worst;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("extended exponential: relative error", "[exp][accuracy]", scalars) {
  using T = TestType;
  constexpr bool single = std::is_same_v<T, float>;
  generator random(9);
  for (const math_probe<T>& probe : math_probes<T>()) {
    worst_exp<T> worst;
    for (const double temperature : {1.0, 0.7, 1.0 / 3, 3.0, 0x1p-20, 1e10}) {
      for (const std::int64_t reference : {0, 5, -7, 60, 200}) {
        // Several octaves below the reference, at every reduced argument; then the whole range.
        std::vector<T> x;
        const double octave = 0.6931471805599453 * temperature;
        const double top = static_cast<double>(reference) * octave;
        const int points = temperature == 1 ? 60000 : 8000;
        for (int i = 0; i < points; ++i) {
          x.push_back(static_cast<T>(top - random.unit() * 2 * octave));
          x.push_back(static_cast<T>(top - random.unit() * (single ? 120 : 1000) * octave));
          x.push_back(static_cast<T>(top + random.unit() * (single ? 30 : 200) * octave));
        }
        const worst_exp<T> here = extended_error(probe, x, temperature, reference);
        CAPTURE(probe.arch, temperature, reference, here.error, here.x);
        CHECK(here.error <= (single ? 1.2 : 2.0));
        worst.add(here.error, here.x);
      }
    }
    WARN("extended exponential, " << scalar_name<T>() << ", " << probe.arch << ": relative error at most "
                                  << worst.error << " * 2^-" << std::numeric_limits<T>::digits << ", at "
                                  << exact_text(worst.x));
    CHECK(worst.error > 0.5);
  }
}

TEST_CASE("extended exponential, float: three binades", "[exp][accuracy]") {
  for (const math_probe<float>& probe : math_probes<float>()) {
    worst_exp<float> worst;
    for (const auto& [first, last] : {std::pair{0.5f, 1.0f}, std::pair{8.0f, 16.0f}, std::pair{-64.0f, -128.0f}}) {
      std::vector<float> x;
      for (std::uint32_t pattern = bits(first); pattern < bits(last); pattern += 17) {
        x.push_back(std::bit_cast<float>(pattern));
      }
      const worst_exp<float> here = extended_error(probe, x, 1.0, first < 0 ? -92 : 12);
      worst.add(here.error, here.x);
    }
    WARN("extended exponential, float, " << probe.arch << ": relative error at most " << worst.error << " * 2^-24, at "
                                         << exact_text(worst.x));
    CHECK(worst.error <= 1.2);
  }
}

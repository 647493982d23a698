// SPDX-License-Identifier: MIT
// log(c + r), per architecture, against MPFR: the pair's relative error, over the whole range of r and around the
// places where the reduction changes.

#include <cmath>
#include <cstddef>
#include <mpfr.h>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/findings.hpp"
#include "../support/math_probe.hpp"
#include "../support/rows.hpp"
#include "../support/ulp.hpp"

using namespace xsoftmax::test;

namespace {

/// |high + low - log(c + r)| / log(c + r) * 2^56.
double relative_error(double c, double r, double high, double low) {
  mpfr_t exact;
  mpfr_t error;
  mpfr_init2(exact, 2200);
  mpfr_set_d(exact, c - 1, MPFR_RNDN);
  mpfr_add_d(exact, exact, r, MPFR_RNDN);
  mpfr_prec_round(exact, 2200, MPFR_RNDN);
  mpfr_init2(error, 2200);
  mpfr_log1p(error, exact, MPFR_RNDN);
  mpfr_set(exact, error, MPFR_RNDN);
  mpfr_sub_d(error, error, high, MPFR_RNDN);
  mpfr_sub_d(error, error, low, MPFR_RNDN);
  mpfr_div(error, error, exact, MPFR_RNDN);
  const double result = std::fabs(mpfr_get_d(error, MPFR_RNDN)) * 0x1p56;
  mpfr_clear(exact);
  mpfr_clear(error);
  return result;
}

} // namespace

TEST_CASE("log of a sum: relative error of the pair below 2^-56", "[log][accuracy]") {
  std::vector<double> c;
  std::vector<double> r;
  const auto add = [&](double count, double rest) {
    c.push_back(count);
    r.push_back(rest);
  };
  generator random(1);
  for (int i = 0; i < 3000; ++i) {
    add(1, std::exp2(random.uniform(-1000, 0)));
    add(1, std::exp2(random.uniform(-60, 3)));
    add(1, random.uniform(0.2, 1)); // the last part of k = 0, where u is largest, and k = 1 next to it
    add(1, std::exp2(random.uniform(0, 60)));
    add(static_cast<double>(1 + random.below(1000)), random.uniform(0, 1000));
    add(std::floor(std::exp2(random.uniform(0, 53))), std::exp2(random.uniform(-80, 60)));
    // c + r next to sqrt(2) * 2^k
    add(1, std::sqrt(2.0) * std::exp2(static_cast<double>(random.below(20))) * random.uniform(0.999, 1.001) - 1 + 1e-9);
  }
  for (const double count : {1.0, 2.0, 3.0, 0x1p31, 0x1p53}) {
    add(count, count == 1 ? 0x1p-1000 : 0.0);
  }
  for (const auto& probe : math_probes<double>()) {
    std::vector<double> high(c.size());
    std::vector<double> low(c.size());
    probe.log_of_sum(c.data(), r.data(), high.data(), low.data(), c.size());
    double worst = 0;
    std::size_t where = 0;
    for (std::size_t i = 0; i < c.size(); ++i) {
      const double error = relative_error(c[i], r[i], high[i], low[i]);
      if (!(error <= worst)) {
        worst = error;
        where = i;
      }
      // The upper part is the rounded sum of both.
      if (high[i] + low[i] != high[i]) {
        FAIL(probe.arch << ": not a normalised pair at c = " << c[i] << ", r = " << exact_text(r[i]));
      }
    }
    WARN(probe.arch << ": largest relative error of log(c + r) " << worst << " * 2^-56 at c = " << c[where]
                    << ", r = " << exact_text(r[where]));
    CHECK(worst <= 1);

    // Subnormal and no rest at all: log(1 + r) = r.
    const double ones[] = {1, 1, 1, 1, 1};
    const double tiny[] = {0, 0x1p-1074, 0x1p-1023, 0x1.8p-1022, 0x1p-400};
    probe.log_of_sum(ones, tiny, high.data(), low.data(), 5);
    for (int i = 0; i < 5; ++i) {
      CHECK(high[static_cast<std::size_t>(i)] == tiny[i]);
    }
  }
}

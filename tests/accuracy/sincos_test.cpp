// SPDX-License-Identifier: MIT
// Cosine and sine of doubles, per architecture, against MPFR: the absolute error over the whole range, and next to the
// multiples of pi / 2, where one of them vanishes and the reduction cancels.

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

/// |found - exact| * 2^50
double error_of(double found, mpfr_t exact) {
  mpfr_sub_d(exact, exact, found, MPFR_RNDN);
  return std::fabs(mpfr_get_d(exact, MPFR_RNDN)) * 0x1p50;
}

} // namespace

TEST_CASE("sincos: absolute errors below 2^-49", "[sincos][accuracy]") {
  // The largest errors that searches have found, then others.
  std::vector<double> x = {0x1.43aab88c811ccp+18, 0x1.3abe63ebb06aap+19, 0x1.5489a01dfdf66p+17, 0x1.82c0dd04c01dep+17};
  generator random(1);
  for (int i = 0; i < 20000; ++i) {
    const double sign = i % 2 == 0 ? 1 : -1;
    x.push_back(sign * std::exp2(random.uniform(-30, 20)));
    x.push_back(sign * random.uniform(0, 7));
    x.push_back(sign * static_cast<double>(random.below(667544)) * 1.57079632679489662 + 1e-9 * random.normal());
  }
  for (const double edge : {0.0, 0x1p20, -0x1p20, 0x1p-1074}) {
    x.push_back(edge);
  }
  std::vector<double> cosine(x.size());
  std::vector<double> sine(x.size());
  mpfr_t exact_cosine;
  mpfr_t exact_sine;
  mpfr_init2(exact_cosine, 150);
  mpfr_init2(exact_sine, 150);
  findings found;
  for (const math_probe<double>& probe : math_probes<double>()) {
    probe.sincos(x.data(), cosine.data(), sine.data(), x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      mpfr_set_d(exact_cosine, x[i], MPFR_RNDN);
      mpfr_sin_cos(exact_sine, exact_cosine, exact_cosine, MPFR_RNDN);
      const double of_cosine = error_of(cosine[i], exact_cosine);
      const double of_sine = error_of(sine[i], exact_sine);
      found.expect(of_cosine < 2 && of_sine < 2, [&] {
        return std::string(probe.arch) + ": errors of " + std::to_string(of_cosine) + " and " +
               std::to_string(of_sine) + " * 2^-50 at " + exact_text(x[i]);
      });
    }
  }
  mpfr_clear(exact_cosine);
  mpfr_clear(exact_sine);
  XSOFTMAX_CHECK_FINDINGS(found);
  for (const math_probe<double>& probe : math_probes<double>()) {
    const double odd[2] = {std::nan(""), 0.0};
    double c[2];
    double s[2];
    probe.sincos(odd, c, s, 2);
    CHECK(std::isnan(c[0]));
    CHECK(std::isnan(s[0]));
    CHECK(c[1] == 1);
    CHECK(s[1] == 0);
  }
}

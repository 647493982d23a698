// SPDX-License-Identifier: MIT
// The reference itself, against 200-bit arithmetic, and the measure of ULP.

#include <cmath>
#include <limits>
#include <mpfr.h>
#include <vector>

#include "../support/catch.hpp"
#include "../support/reference.hpp"
#include "../support/rows.hpp"
#include "../support/types.hpp"
#include "../support/ulp.hpp"

using namespace xsoftmax::test;

namespace {

class number {
public:
  number() { mpfr_init2(value_, 2200); } // holds the exact difference of any two doubles

  explicit number(double x) : number() { mpfr_set_d(value_, x, MPFR_RNDN); }

  number(const number&) = delete;
  number& operator=(const number&) = delete;

  ~number() { mpfr_clear(value_); }

  mpfr_ptr get() { return value_; }

private:
  mpfr_t value_;
};

template <class T>
std::vector<long double> multiprecision_softmax(const std::vector<T>& z, double temperature) {
  double maximum = -std::numeric_limits<double>::infinity();
  for (const T x : z) {
    maximum = x > maximum ? x : maximum;
  }
  const auto term = [&](T x, mpfr_ptr result) {
    number gap(x);
    mpfr_sub_d(gap.get(), gap.get(), maximum, MPFR_RNDN);
    mpfr_prec_round(gap.get(), 200, MPFR_RNDN);
    mpfr_div_d(gap.get(), gap.get(), temperature, MPFR_RNDN);
    mpfr_prec_round(result, 200, MPFR_RNDN);
    mpfr_exp(result, gap.get(), MPFR_RNDN);
  };
  number total(0);
  number one;
  for (const T x : z) {
    term(x, one.get());
    mpfr_add(total.get(), total.get(), one.get(), MPFR_RNDN);
  }
  std::vector<long double> p;
  for (const T x : z) {
    term(x, one.get());
    mpfr_div(one.get(), one.get(), total.get(), MPFR_RNDN);
    p.push_back(mpfr_get_ld(one.get(), MPFR_RNDN));
  }
  return p;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("the reference agrees with multiple precision", "[support][unit]", scalars) {
  using T = TestType;
  for (const row_kind kind : row_kinds) {
    for (const double temperature : {1.0, 0.7, 3.0, 1e-300, 1e300, 1e-30}) {
      const std::vector<T> z = make_row<T>(kind, 23, 5);
      const std::vector<long double> exact = multiprecision_softmax(z, temperature);
      const reference_softmax<T> reference(z.data(), z.size(), {.temperature = temperature});
      for (std::size_t i = 0; i < z.size(); ++i) {
        CAPTURE(name(kind), temperature, i, z[i]);
        const long double error = std::fabs(reference.probability(i) - exact[i]);
        CHECK(error <= 0x1p-60L * exact[i] + std::numeric_limits<long double>::denorm_min());
      }
    }
  }
}

TEST_CASE("ULP are counted at the exact value", "[support][unit]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const long double wide_nan = std::numeric_limits<long double>::quiet_NaN();
  CHECK(ulp_distance(1.0f, 1.0L) == 0);
  CHECK(ulp_distance(1.0f, 1.0L + 0x1p-24L) == 0.5);
  CHECK(ulp_distance(1.0f, 1.0L - 0x1p-24L) == 1);
  CHECK(ulp_distance(1.0, 1.0L - 0x1p-53L) == 1);
  CHECK(ulp_distance(0x1p-149f, 0.0L) == 1);
  CHECK(ulp_distance(0.0f, 0x1p-149L) == 1);
  CHECK(ulp_distance(0x1p-126f, 0x1.8p-126L) == 0x1p22);
  CHECK(ulp_distance(0x1p-128f, 0x1.8p-128L) == 0x1p20);
  CHECK(ulp_distance(0.0, 0x1p-1074L / 4) == 0.25);
  CHECK(ulp_distance(infinity, 0x1.ffffffp127L) == 0);
  CHECK(ulp_distance(infinity, 0x1.fffffep127L) == std::numeric_limits<double>::infinity());
  CHECK(ulp_distance(0x1.fffffep127f, 0x1.fffffep127L) == 0);
  CHECK(ulp_distance(nan, 1.0L) == std::numeric_limits<double>::infinity());
  CHECK(ulp_distance(1.0f, wide_nan) == std::numeric_limits<double>::infinity());
  CHECK(ulp_distance(nan, wide_nan) == 0);
}

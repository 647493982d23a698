// SPDX-License-Identifier: MIT
// The accumulator of block sums: exact to 100 bits, and blind to the order of its terms.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <mpfr.h>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/ulp.hpp"
#include <xsoftmax/detail/sum.hpp>

using namespace xsoftmax::test;

namespace {

struct term {
  double high;
  double low;
  std::int64_t octave;
};

xsoftmax::detail::double_pair total(const std::vector<term>& terms, std::int64_t octave) {
  xsoftmax::detail::exact_sum sum;
  for (const term& t : terms) {
    sum.add({t.high, t.low}, t.octave);
  }
  return sum.value(octave);
}

/// |high + low - exact sum * 2^-octave| / exact sum, in units of 2^-100.
double error_of(const std::vector<term>& terms, const xsoftmax::detail::double_pair& value, std::int64_t octave) {
  mpfr_t exact;
  mpfr_t part;
  mpfr_init2(exact, 3000);
  mpfr_init2(part, 3000);
  mpfr_set_zero(exact, 1);
  for (const term& t : terms) {
    mpfr_set_d(part, t.high, MPFR_RNDN);
    mpfr_add_d(part, part, t.low, MPFR_RNDN);
    mpfr_mul_2si(part, part, t.octave - octave, MPFR_RNDN);
    mpfr_add(exact, exact, part, MPFR_RNDN);
  }
  mpfr_set_d(part, value.high, MPFR_RNDN);
  mpfr_add_d(part, part, value.low, MPFR_RNDN);
  mpfr_sub(part, part, exact, MPFR_RNDN);
  mpfr_div(part, part, exact, MPFR_RNDN);
  mpfr_mul_2si(part, part, 100, MPFR_RNDN);
  const double error = std::fabs(mpfr_get_d(part, MPFR_RNDN));
  mpfr_clear(exact);
  mpfr_clear(part);
  return error;
}

} // namespace

TEST_CASE("block sums are added exactly, in any order", "[sum][unit]") {
  generator random(1);
  for (int round = 0; round < 3000; ++round) {
    std::vector<term> terms(1 + random.below(12));
    const auto centre = static_cast<std::int64_t>(random.below(4000)) - 2000;
    for (term& t : terms) {
      t.high = std::ldexp(1 + random.unit(), static_cast<int>(random.below(100)) - 40);
      // Below half a unit in the last place of high, of either sign, or nothing.
      t.low = random.below(3) == 0 ? 0 : t.high * std::ldexp(random.uniform(-0.99, 0.99), -54);
      t.octave = centre - static_cast<std::int64_t>(random.below(round % 2 == 0 ? 8 : 90));
    }
    const xsoftmax::detail::double_pair value = total(terms, centre);
    CAPTURE(round, centre, terms.size(), value.high, value.low);
    CHECK(error_of(terms, value, centre) <= 4);
    std::vector<term> reversed(terms.rbegin(), terms.rend());
    std::rotate(reversed.begin(), reversed.begin() + static_cast<std::ptrdiff_t>(random.below(reversed.size())),
                reversed.end());
    const xsoftmax::detail::double_pair again = total(reversed, centre);
    CHECK(bits(again.high) == bits(value.high));
    CHECK(bits(again.low) == bits(value.low));
  }
}

TEST_CASE("a single block sum comes back as the pair that it is", "[sum][unit]") {
  // A short row takes its block's sum past the accumulator, other algorithms through it: S must have the same bits.
  generator random(2);
  for (int round = 0; round < 100000; ++round) {
    const double high = std::ldexp(1 + random.unit(), static_cast<int>(random.below(60)));
    const double low = high * std::ldexp(random.uniform(-1, 1), -54 - static_cast<int>(random.below(40)));
    const xsoftmax::detail::double_pair pair = xsoftmax::detail::rounded_pair(high, low);
    CAPTURE(round, high, low);
    REQUIRE(std::fabs(pair.low - low) <= std::ldexp(high, -101));
    const auto octave = static_cast<std::int64_t>(random.below(4000)) - 2000;
    const xsoftmax::detail::double_pair value = total({{pair.high, pair.low, octave}}, octave);
    REQUIRE(bits(value.high) == bits(pair.high));
    REQUIRE(bits(value.low) == bits(pair.low));
  }
}

TEST_CASE("a block sum half way between two doubles comes back as the even one and the half", "[sum][unit]") {
  generator random(4);
  for (int round = 0; round < 1000; ++round) {
    const auto even = static_cast<double>((std::uint64_t{1} << 52) + 2 + 2 * random.below(std::size_t{1} << 50));
    const int exponent = static_cast<int>(random.below(60)) - 52;
    for (const double low : {std::ldexp(0.5, exponent), std::ldexp(-0.5, exponent)}) {
      const double high = std::ldexp(even, exponent);
      const xsoftmax::detail::double_pair value = total({{high, low, 0}}, 0);
      CAPTURE(round, high, low);
      REQUIRE(bits(value.high) == bits(high));
      REQUIRE(bits(value.low) == bits(low));
    }
  }
}

TEST_CASE("sums that have made room, and merged ones, lose nothing", "[sum][unit]") {
  // Digits fill up after 2^30 additions of the largest: room is made by carrying into the next digit.
  using xsoftmax::detail::exact_sum;
  generator random(3);
  for (int round = 0; round < 300; ++round) {
    exact_sum parts[2];
    std::vector<term> terms;
    for (int i = 0; i < 8; ++i) {
      const double high = std::ldexp(2 - random.unit() * 0x1p-20, static_cast<int>(random.below(40)));
      exact_sum& part = parts[random.below(2)];
      part.make_room();
      part.add({high, 0.0}, 0, std::uint64_t{1} << 30);
      terms.push_back({std::ldexp(high, 30), 0.0, 0});
    }
    for (exact_sum& part : parts) {
      part.make_room();
    }
    parts[0].merge(parts[1]);
    CAPTURE(round);
    REQUIRE(error_of(terms, parts[0].value(0), 0) <= 4);
  }
}

TEST_CASE("pairs of subnormal numbers are added whole", "[sum][unit]") {
  // There the lower part can be as large as a unit in the last place of the upper one.
  using xsoftmax::detail::exact_sum;
  for (const double low : {-0x1p-1074, 0x1p-1074, 0x3p-1074}) {
    exact_sum sum;
    sum.add({0x1.8p-1040, low}, 0);
    const xsoftmax::detail::double_pair value = sum.value(-1040);
    CHECK(value.high == 0x1.8p0 + low * 0x1p1000 * 0x1p40);
    CHECK(value.low == 0);
  }
}

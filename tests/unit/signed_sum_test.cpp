// SPDX-License-Identifier: MIT
// The sum of block sums of either sign: good to 100 bits where they cancel, blind to order and to how they are split.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/ulp.hpp"
#include <xsoftmax/detail/signed_sum.hpp>

using namespace xsoftmax::test;
using xsoftmax::detail::double_pair;
using xsoftmax::detail::signed_sum;

namespace {

__extension__ typedef __int128 wide_integer;

/// The integer as a pair of doubles; exact up to 105 bits.
double_pair pair_of(wide_integer v) {
  const auto high = static_cast<double>(v);
  return {high, static_cast<double>(v - static_cast<wide_integer>(high))};
}

bool same_bits(double_pair a, double_pair b) {
  return bits(a.high) == bits(b.high) && bits(a.low) == bits(b.low);
}

double_pair total(const std::vector<double_pair>& terms) {
  signed_sum sum;
  for (const double_pair& t : terms) {
    sum.add(t);
  }
  return sum.value();
}

} // namespace

TEST_CASE("signed sums are good to 100 bits, in any order and however they are split", "[sum][unit]") {
  generator random(1);
  for (int round = 0; round < 5000; ++round) {
    // Integers of up to 90 bits, which every place of the accumulator holds; the last one cancels most of the others in
    // every third round, all of them in every ninth.
    std::vector<double_pair> terms;
    wide_integer exact = 0;
    wide_integer magnitude = 0;
    const auto add = [&](wide_integer v) {
      terms.push_back(pair_of(v));
      exact += v;
      magnitude += v < 0 ? -v : v;
    };
    const std::size_t count = 1 + random.below(12);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t size = 1 + random.below(90);
      const wide_integer v = (static_cast<wide_integer>(random.next() >> 38) << 64 | random.next()) >> (90 - size);
      add(random.below(2) == 0 ? v : -v);
    }
    if (round % 3 == 0) {
      add(-exact + (round % 9 == 0 ? 0 : 1 + static_cast<wide_integer>(random.below(1000))));
    }
    const double_pair value = total(terms);
    CAPTURE(round, value.high, value.low);
    const auto whole = static_cast<wide_integer>(value.high);
    const long double error = static_cast<long double>(exact - whole) -
                              (static_cast<long double>(value.high) - static_cast<long double>(whole)) -
                              static_cast<long double>(value.low);
    CHECK(std::fabs(error) <= 0x1p-100L * static_cast<long double>(magnitude));
    // Another order, in two parts.
    std::reverse(terms.begin(), terms.end());
    signed_sum parts[2];
    for (const double_pair& t : terms) {
      parts[random.below(2)].add(t);
    }
    parts[0].merge(parts[1]);
    CHECK(same_bits(parts[0].value(), value));
  }
}

TEST_CASE("a signed sum of one number is that number", "[sum][unit]") {
  generator random(2);
  for (int round = 0; round < 5000; ++round) {
    const auto octave = static_cast<int>(random.below(1900)) - 900;
    const double high = std::ldexp(random.uniform(1, 2), octave) * (round % 2 == 0 ? 1 : -1);
    const double_pair rounded = xsoftmax::detail::rounded_pair(high, high * std::ldexp(random.uniform(-0.9, 0.9), -54));
    CHECK(same_bits(total({rounded}), rounded));
  }
  CHECK(same_bits(total({}), {0, 0}));
  CHECK(same_bits(total({{0, 0}, {0, 0}}), {0, 0}));
}

TEST_CASE("signed sums at the ends of the range", "[sum][unit]") {
  constexpr double largest = std::numeric_limits<double>::max();
  constexpr double smallest = std::numeric_limits<double>::denorm_min();
  constexpr double inf = std::numeric_limits<double>::infinity();
  CHECK(same_bits(total({{largest, 0}, {largest, 0}, {-largest, 0}}), {largest, 0}));
  CHECK(same_bits(total({{largest, 0}, {largest, 0}}), {inf, 0}));
  CHECK(same_bits(total({{-largest, 0}, {1, 0}, {-largest, 0}}), {-inf, 0}));
  CHECK(same_bits(total({{smallest, 0}}), {smallest, 0}));
  CHECK(same_bits(total({{3 * smallest, 0}, {-smallest, 0}}), {2 * smallest, 0}));
  CHECK(same_bits(total({{largest, 0}, {-smallest, 0}}), {largest, 0}));
  // Infinities among themselves, whatever else there is and wherever they come from.
  CHECK(same_bits(total({{largest, 0}, {-inf, 0}, {largest, 0}}), {-inf, 0}));
  CHECK(std::isnan(total({{inf, 0}, {1, 0}, {-inf, 0}}).high));
  CHECK(std::isnan(total({{std::nan(""), 0}, {inf, 0}}).high));
  signed_sum a;
  signed_sum b;
  a.add({inf, 0});
  b.add({-largest, 0});
  b.merge(a);
  CHECK(same_bits(b.value(), {inf, 0}));
  a.add({-inf, 0});
  b.merge(a);
  CHECK(std::isnan(b.value().high));
}

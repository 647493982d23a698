// SPDX-License-Identifier: MIT
// Short rows, of which several are worked on at a time: each has the bits it has alone, whatever its place in a group,
// whatever its neighbours, and wherever its maximum lies in the range that the group's reference serves, or beyond.

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/layouts.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// One softmax of all rows, into other rows and in place, against each row by the general passes.
template <class Arch, class T>
void expect_rows_as_alone(findings& found, const std::vector<std::vector<T>>& z, double temperature) {
  const std::size_t n = z[0].size();
  xs::softmax_options options{.temperature = temperature};
  const layout apart{"padded", static_cast<std::ptrdiff_t>(n) + 3, 1};
  laid_out<T> in(z.size(), n, apart, 3);
  laid_out<T> out(z.size(), n, apart, 3);
  for (std::size_t r = 0; r < z.size(); ++r) {
    std::copy(z[r].begin(), z[r].end(), &in.at(r, 0));
  }
  xs::softmax<Arch>(in.view(), out.view(), options);
  xs::softmax<Arch>(in.view(), in.view(), options);
  options.algorithm = xs::softmax_algorithm::three_pass_recompute;
  for (std::size_t r = 0; r < z.size(); ++r) {
    const std::vector<T> alone = probabilities<Arch>(z[r], options);
    const std::size_t elsewhere = first_difference(alone.data(), &out.at(r, 0), n);
    const std::size_t in_place = first_difference(alone.data(), &in.at(r, 0), n);
    found.expect(elsewhere == n && in_place == n, [&] {
      return std::string(Arch::name) + ", row " + std::to_string(r) + " of " + std::to_string(z.size()) + ": element " +
             std::to_string(std::min(elsewhere, in_place)) + " differs; " + describe(z[r], options);
    });
  }
  found.expect(in.untouched_between() && out.untouched_between(),
               [&] { return std::string(Arch::name) + ": wrote between the rows, n = " + std::to_string(n); });
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: short rows in groups have the bits of each alone", "[softmax][groups][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t n = 1; n <= 70; ++n) {
    for (const std::size_t rows : {7u, 8u, 9u, 16u, 27u}) {
      std::vector<std::vector<T>> z;
      for (std::size_t r = 0; r < rows; ++r) {
        z.push_back(make_row<T>(row_kind::normal, n, r + rows));
      }
      expect_rows_as_alone<Arch, T>(found, z, 1.0);
      expect_rows_as_alone<Arch, T>(found, z, 0.7);
      // One row of another kind among them, at every place in turn.
      const std::size_t odd = (n * 5 + rows) % rows;
      z[odd] = make_row<T>(row_kinds[(n + rows) % std::size(row_kinds)], n, n);
      expect_rows_as_alone<Arch, T>(found, z, 1.0);
      z[odd].assign(n, n % 2 == 0 ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity());
      expect_rows_as_alone<Arch, T>(found, z, 1.0);
      z[odd][n / 2] = std::numeric_limits<T>::quiet_NaN();
      expect_rows_as_alone<Arch, T>(found, z, 1.0);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: short rows at the ends of a group's range", "[softmax][groups][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // The reference is 2^-30 (double 2^-360); maxima are served up to 2^80 (2^750) above and 2^-5 (2^-10) below it. Far
  // below a maximum at the lower end lie terms that still give a subnormal probability.
  const bool is_float = sizeof(T) == 4;
  const double lowest = is_float ? -35 : -370;
  const double highest = is_float ? 50 : 390;
  const double spread = is_float ? 153 : 1085;
  // Above 64 (double 32) elements, and in the last of the rows, it is a single row that is at the ends.
  for (const std::size_t n : {1u, 2u, 13u, 16u, 32u, 37u, 64u, 100u, 700u}) {
    for (const double end : {lowest, highest}) {
      for (double octave = end - 24; octave <= end + 24; octave += 0.5) {
        std::vector<std::vector<T>> z;
        for (std::size_t r = 0; r < 17; ++r) {
          generator random(n * 100 + r);
          const double largest = (octave + 0.25 * static_cast<double>(r % 3)) * 0.6931471805599453;
          z.emplace_back(n);
          for (T& x : z.back()) {
            x = static_cast<T>(largest - random.uniform(0, spread) * 0.6931471805599453);
          }
          if (r % 2 == 0) { // says nothing about the maximum: a single row's reference is then 2^-40 (2^-375)
            z.back()[0] = -std::numeric_limits<T>::infinity();
          }
          z.back()[(r + 1) % n] = static_cast<T>(largest);
        }
        expect_rows_as_alone<Arch, T>(found, z, 1.0);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// Rows of logits near 0 take a shorter way, run by run and in the last pass. The bits must be those of the general way,
// wherever an element is that the shorter one cannot do, and under flush-to-zero. The general way is three-pass reload
// over its own input, which cannot try anything twice. (With a sink it does not store its terms, and a reference that
// is the maximum's stands against guessed ones.)

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/flushing.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class Arch, class T>
std::vector<T> in_general(std::vector<T> z, xs::softmax_options options) {
  options.algorithm = xs::softmax_algorithm::three_pass_reload;
  xs::softmax<Arch>(z, z, options);
  return z;
}

template <class Arch, class T>
void expect_general_bits(findings& found, const std::vector<T>& z, xs::softmax_options options) {
  const std::vector<T> expected = in_general<Arch>(z, options);
  for (const xs::softmax_algorithm algorithm : algorithms) {
    options.algorithm = algorithm;
    expect_same_bits(found, expected.data(), probabilities<Arch>(z, options).data(), Arch::name, z, options);
  }
}

/// Logits between -range and range.
template <class T>
std::vector<T> logits_within(double range, std::size_t n, std::uint64_t seed) {
  generator random(seed);
  std::vector<T> z(n);
  for (T& x : z) {
    x = static_cast<T>(random.uniform(-range, range));
  }
  return z;
}

/// What can be far from 0, at T = 1: infinities, NaN, and both sides of what the guessed reference, 2^-30 (double
/// 2^-360), leaves: 2^50 (2^390).
template <class T>
std::vector<T> far_logits() {
  const T reach = static_cast<T>(sizeof(T) == 4 ? 34.657359 : 270.32740055838);
  std::vector<T> all = {std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN(),
                        std::numeric_limits<T>::max()};
  for (const T x : {reach * T(0.999), reach, reach * T(1.001), T(1.2) * reach, T(2.5) * reach, T(4) * reach}) {
    all.push_back(x);
  }
  const std::size_t positive = all.size();
  for (std::size_t i = 0; i < positive; ++i) {
    all.push_back(-all[i]);
  }
  return all;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: one logit far from 0 among near ones, anywhere in the row", "[softmax][near][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr std::size_t block = 8192 / sizeof(T);
  std::uint64_t seed = 0;
  for (const std::size_t n : {block / 8 - 5, block / 8, block / 4 + 77, block - 1, block + 100, 3 * block + 9}) {
    for (const std::size_t place : {std::size_t{0}, std::size_t{1}, block / 8 - 6, block / 8 + 1, block / 4 + 70,
                                    block - 2, block + 99, 2 * block + 300, n - 1}) {
      if (place >= n) {
        continue;
      }
      for (const T x : far_logits<T>()) {
        std::vector<T> z = logits_within<T>(8, n, ++seed);
        z[place] = x;
        expect_general_bits<Arch>(found, z, {.temperature = seed % 3 == 0 ? 0.8 : 1.0});
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: runs near 0 and far from it in turn", "[softmax][near][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr std::size_t run = 1024 / sizeof(T);
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    generator random(seed);
    std::vector<T> z = logits_within<T>(9, 1 + random.below(24 * run), seed);
    // The largest of what is near lies at either end of what the reference leaves, too.
    const double shift = seed % 4 == 0 ? -20 : seed % 4 == 1 ? 22 : 0;
    for (std::size_t first = 0; first < z.size(); first += run) {
      const bool is_far = random.below(3) == 0;
      for (std::size_t i = first; i < z.size() && i < first + run; ++i) {
        z[i] = is_far && random.below(9) == 0 ? -std::numeric_limits<T>::infinity() : z[i] + static_cast<T>(shift);
      }
    }
    expect_general_bits<Arch>(found, z, {.sink = seed % 5 == 0 ? 3.0 : -std::numeric_limits<double>::infinity()});
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: near 0, but for terms that a guessed reference cuts off", "[softmax][near][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // The maximum lies below what the reference is made for, the others around it, and one so far below that its
  // probability is among the last numbers above 0.
  const bool is_float = sizeof(T) == 4;
  const double lowest = is_float ? -34.6 : -270;
  const double highest = is_float ? -22 : -250;
  const double subnormal = is_float ? 103.5 : 744.5;
  for (const std::size_t n : {150u, 200u, 515u, 2100u, 4100u}) {
    for (double largest = lowest + 0.1; largest < highest; largest += 0.4) {
      for (double below = subnormal - 6; below < subnormal; below += 0.75) {
        std::vector<T> z(n, static_cast<T>(lowest));
        z[n / 3] = static_cast<T>(largest);
        z[n - 1 - n / 7] = static_cast<T>(largest - below);
        expect_general_bits<Arch>(found, z, {});
        std::swap(z[n - 1], z[n - 1 - n / 7]);
        expect_general_bits<Arch>(found, z, {});
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: short rows of which some are far from 0", "[softmax][near][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // In groups, of which some are not near, and one by one.
  constexpr std::size_t rows = 200;
  for (const std::size_t n : {64 / sizeof(T), 128 / sizeof(T), 256 / sizeof(T), std::size_t{50}, std::size_t{170},
                              1024 / sizeof(T) + 3, std::size_t{900}}) {
    std::vector<T> z;
    for (std::size_t r = 0; r < rows; ++r) {
      std::vector<T> row = logits_within<T>(8, n, r + n);
      if (r % 41 == 3 || (r > 90 && r % 5 == 0)) {
        row[(r * 37) % n] = far_logits<T>()[r % far_logits<T>().size()];
      }
      z.insert(z.end(), row.begin(), row.end());
    }
    std::vector<T> p(z.size(), T(-7));
    xs::softmax<Arch>(xs::matrix_view<const T>(z.data(), rows, n), xs::matrix_view<T>(p.data(), rows, n));
    for (std::size_t r = 0; r < rows; ++r) {
      const std::vector<T> row(&z[r * n], &z[r * n] + n);
      expect_same_bits(found, in_general<Arch>(row, {}).data(), &p[r * n], Arch::name, row, {});
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: groups of short rows at the ends of what is near", "[softmax][near][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // All rows of a matrix reach equally far, from well within what is near to far beyond what any term could be lowered
  // from: both ways, up alone and down alone, or with all elements at one end.
  constexpr std::size_t rows = 24;
  const double widest = sizeof(T) == 4 ? 75 : 600;
  for (const std::size_t n : {16u, 32u, 48u, 64u}) {
    for (int step = 1; step <= 120; ++step) {
      const double range = widest * step / 120;
      std::vector<T> z;
      for (std::size_t r = 0; r < rows; ++r) {
        std::vector<T> row = logits_within<T>(range, n, r + n);
        row[r % n] = static_cast<T>(range);
        row[(r + 5) % n] = static_cast<T>(-range);
        for (T& x : row) {
          switch (step % 4) {
          case 0:
            x = std::abs(x);
            break;
          case 1:
            x = -std::abs(x);
            break;
          case 2:
            x = static_cast<T>(std::copysign(range, x)) + x / 64;
            break;
          default:
            break;
          }
        }
        z.insert(z.end(), row.begin(), row.end());
      }
      std::vector<T> p(z.size(), T(-7));
      std::vector<T> flushed(z.size(), T(-7));
      const xs::matrix_view<const T> in(z.data(), rows, n);
      xs::softmax<Arch>(in, xs::matrix_view<T>(p.data(), rows, n));
      {
        const flushing scope(flush_to_zero | denormals_are_zero);
        xs::softmax<Arch>(in, xs::matrix_view<T>(flushed.data(), rows, n));
      }
      for (std::size_t r = 0; r < rows; ++r) {
        const std::vector<T> row(&z[r * n], &z[r * n] + n);
        expect_same_bits(found, in_general<Arch>(row, {}).data(), &p[r * n], Arch::name, row, {});
        const flushing scope(flush_to_zero | denormals_are_zero);
        expect_same_bits(found, in_general<Arch>(row, {}).data(), &flushed[r * n], Arch::name, row, {});
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: near 0, yet with parts of products that are subnormal", "[softmax][near][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // Of the smallest term times the lower part of 1 / S nothing must be lost: a matter of how far the logits are spread
  // and of how large S is. Flushed to zero, a subnormal part shows in most results.
  const double widest = sizeof(T) == 4 ? 34.6 : 270;
  for (const std::size_t n : {100u, 600u, 2500u, 20000u}) {
    for (double range = widest; range > widest / 3; range -= widest / 90) {
      for (const double above : {1.0, 0.6}) {
        std::vector<T> z = logits_within<T>(range, n, n);
        for (T& x : z) {
          x = x > 0 ? x * static_cast<T>(above) : x;
        }
        expect_general_bits<Arch>(found, z, {});
        const flushing scope(flush_to_zero | denormals_are_zero);
        expect_general_bits<Arch>(found, z, {});
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

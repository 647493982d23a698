// SPDX-License-Identifier: MIT
// Columns of a row-major matrix: the bits of the same rows laid out side by side.

#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/kernels_once.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// `rows` rows of n logits, of every kind by turns, some with a NaN, a +inf or nothing but -inf.
template <class T>
std::vector<std::vector<T>> mixed_rows(std::size_t rows, std::size_t n, std::uint64_t seed, bool plain_kinds_only) {
  generator random(seed);
  std::vector<std::vector<T>> z(rows);
  for (std::size_t r = 0; r < rows; ++r) {
    const row_kind kind = plain_kinds_only ? (r % 3 == 0 ? row_kind::masked : row_kind::normal)
                                           : row_kinds[random.below(std::size(row_kinds))];
    z[r] = make_row<T>(kind, n, random.next());
    if (n != 0 && random.below(8) == 0) {
      using limits = std::numeric_limits<T>;
      switch (random.below(3)) {
      case 0:
        z[r][random.below(n)] = limits::quiet_NaN();
        break;
      case 1:
        z[r][random.below(n)] = limits::infinity();
        break;
      default:
        z[r].assign(n, -limits::infinity());
      }
    }
  }
  return z;
}

/// Element i of row r lies at i * stride + r.
template <class T>
std::vector<T> as_columns(const std::vector<std::vector<T>>& rows, std::size_t n, std::size_t stride, T between) {
  std::vector<T> matrix(n * stride, between);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    for (std::size_t i = 0; i < n; ++i) {
      matrix[i * stride + r] = rows[r][i];
    }
  }
  return matrix;
}

template <class Arch, class T>
void expect_row_bits(findings& found, const std::vector<std::vector<T>>& rows, std::size_t n,
                     const xs::softmax_options& options, std::size_t padding, std::size_t offset) {
  const std::size_t stride = rows.size() + padding;
  const auto view = [&](auto* data) { return xs::matrix_view(data, n, rows.size(), stride).transposed(); };
  // The first rows are left out when there is an offset: the strips then begin in the middle of a line.
  std::vector<T> z = as_columns(rows, n, stride, std::numeric_limits<T>::quiet_NaN());
  z.insert(z.begin(), offset, T(3));
  // The output begins `offset` elements after the beginning of a line.
  std::vector<T> room(z.size() + 64 / sizeof(T), T(-7));
  T* const p = room.data() + (64 - reinterpret_cast<std::uintptr_t>(room.data()) % 64) % 64 / sizeof(T);
  const std::vector<T> before = z;
  xs::softmax<Arch>(view(static_cast<const T*>(z.data() + offset)), view(p + offset), options);
  found.expect(first_difference(before.data(), z.data(), z.size()) == z.size(), [] { return "the input changed"; });
  xs::softmax<Arch>(view(z.data() + offset), view(z.data() + offset), options);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const std::vector<T> expected = probabilities<Arch>(rows[r], options);
    std::vector<T> column(n);
    std::vector<T> in_place(n);
    for (std::size_t i = 0; i < n; ++i) {
      column[i] = p[offset + i * stride + r];
      in_place[i] = z[offset + i * stride + r];
    }
    const std::string where = "row " + std::to_string(r) + " of " + std::to_string(rows.size());
    expect_same_bits(found, expected.data(), column.data(), where, rows[r], options);
    expect_same_bits(found, expected.data(), in_place.data(), where + ", in place", rows[r], options);
  }
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t r = rows.size(); r < stride; ++r) {
      found.expect(p[offset + i * stride + r] == T(-7), [] { return "an element between the rows was written"; });
    }
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: columns have the bits of rows", "[softmax][columns][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 1;
  for (const std::size_t rows :
       {1u, 2u, 3u, 4u, 7u, 8u, 15u, 16u, 17u, 31u, 33u, 63u, 64u, 65u, 127u, 128u, 129u, 300u}) {
    for (const std::size_t n : {0u, 1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 48u, 100u}) {
      for (const bool plain : {true, false}) {
        ++seed;
        const auto z = mixed_rows<T>(rows, n, seed, plain);
        expect_row_bits<Arch>(found, z, n, {}, seed % 3, seed % 5);
        expect_row_bits<Arch>(found, z, n, {.temperature = 0.7, .masked_row = xs::masked_row_policy::zero}, 0, 1);
        // Streaming stores need every row of the matrix at the beginning of a line; elsewhere they must not be tried.
        const std::size_t to_whole_lines = (16 - rows % 16) % 16;
        expect_row_bits<Arch>(found, z, n, {.store = xs::store_kind::streaming}, to_whole_lines, 0);
        expect_row_bits<Arch>(found, z, n, {.store = xs::store_kind::streaming}, to_whole_lines, 1);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: columns of several blocks, with sinks and every algorithm",
                        "[softmax][columns][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 1000;
  for (const std::size_t rows : {3u, 40u}) {
    for (const std::size_t n : {100u, 2047u, 2049u, 4500u}) {
      for (const double temperature : {1.0, 3.0, 1e-300, 1e300, 0.0}) {
        ++seed;
        const auto z = mixed_rows<T>(rows, n, seed, seed % 2 == 0);
        xs::softmax_options options{.temperature = temperature, .algorithm = algorithms[seed % std::size(algorithms)]};
        expect_row_bits<Arch>(found, z, n, options, 1, 0);
        for (const double sink : {0.0, -50.0, 200.0, 1e30}) {
          options.sink = sink;
          expect_row_bits<Arch>(found, z, n, options, 0, 0);
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: columns near 0 but for one logit", "[softmax][columns][near][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Around where a logit of float is no longer near (30 octaves; of longer rows 27.5, of 2^12 elements 27), and beyond.
  using limits = std::numeric_limits<T>;
  const T far[] = {T(18.5),
                   T(-18.8),
                   T(19.4),
                   T(-20.7),
                   T(20.9),
                   T(-20.9),
                   T(40),
                   T(-60),
                   T(90),
                   T(-104),
                   T(1e4),
                   T(-1e4),
                   limits::max(),
                   limits::lowest(),
                   limits::infinity(),
                   -limits::infinity(),
                   limits::quiet_NaN()};
  findings found;
  std::uint64_t seed = 1;
  for (const std::size_t n : {1u, 16u, 40u, 64u, 65u, 200u, 2048u, 2100u, 4500u}) {
    for (const T x : far) {
      // In the first row, in one amid a batch, in the last; where the trial begins, early, late.
      const std::size_t columns = n > 1000 ? 19 : 35;
      const std::size_t elements[] = {0, n / 3, n - 1};
      ++seed;
      std::vector<std::vector<T>> rows;
      for (std::size_t r = 0; r < columns; ++r) {
        rows.push_back(make_row<T>(row_kind::normal, n, seed + r));
      }
      const std::size_t at[] = {0, columns / 2, columns - 1};
      rows[at[seed % 3]][elements[seed / 3 % 3]] = x;
      expect_row_bits<Arch>(found, rows, n, {}, seed % 2, seed % 3);
      expect_row_bits<Arch>(found, rows, n, {.store = xs::store_kind::streaming}, (16 - columns % 16) % 16, 0);
      expect_row_bits<Arch>(found, rows, n, {.sink = 1.0}, 0, 0);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: columns at both ends of what is near 0", "[softmax][columns][near][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Every other logit at one end, a few or all others at the other: the largest and the least sums, and the smallest
  // probabilities.
  findings found;
  for (const std::size_t n : {2u, 33u, 64u, 1000u, 4100u}) {
    for (const T reach : {T(13), T(18.5), T(20.7), T(24), T(27), T(34), T(40.5)}) {
      for (const std::size_t high : {std::size_t{1}, n / 2, n - 1}) {
        std::vector<std::vector<T>> rows;
        for (std::size_t r = 0; r < 18; ++r) {
          std::vector<T> z(n, static_cast<T>(r) * T(0.0211) - reach);
          for (std::size_t i = 0; i < high; ++i) {
            z[(i * 7 + r) % n] = reach - static_cast<T>(r) * T(0.0137);
          }
          rows.push_back(std::move(z));
        }
        expect_row_bits<Arch>(found, rows, n, {}, 0, 0);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: columns whose first logits mislead about the maximum", "[softmax][columns][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Those of the rows that softmax_numerics_test.cpp compares with the exact result.
  findings found;
  const T infinity = std::numeric_limits<T>::infinity();
  const T depth = std::is_same_v<T, float> ? T(1) : T(8);
  for (const std::size_t n : {7u, 50u, 2100u}) {
    std::vector<std::vector<T>> rows;
    for (int level = -160; level <= 160; level += 20) {
      const T top = static_cast<T>(level) * depth;
      for (const T first : {-infinity, top, top - 30 * depth, top - 100 * depth, T(-40) * depth}) {
        std::vector<T> z(n, -infinity);
        z[0] = first < top ? first : top;
        z[n - 1] = top;
        z[n - 2] = top - 20 * depth;
        z[n - 3] = top - 60 * depth;
        z[n - 4] = top - T(86.5) * depth;
        z[n - 5] = top - T(88.5) * depth;
        rows.push_back(std::move(z));
      }
    }
    expect_row_bits<Arch>(found, rows, n, {}, 0, 0);
    expect_row_bits<Arch>(found, rows, n, {.temperature = 1.5}, 0, 0);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: a sink far above the row leaves what is left of it", "[softmax][columns][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // In double, probabilities down to exp(-745) are left: hundreds of octaves more than a guessed reference is below.
  constexpr std::size_t n = 300;
  constexpr std::size_t columns = 16;
  std::vector<T> row(n);
  for (std::size_t i = 0; i < n; ++i) {
    row[i] = static_cast<T>(0.1 * static_cast<double>(i % 7));
  }
  std::vector<T> z(n * columns);
  for (std::size_t i = 0; i < z.size(); ++i) {
    z[i] = row[i / columns];
  }
  for (const double sink : {50.0, 99.5, 101.0, 300.0, 577.0, 590.0, 700.0, 744.5, 900.0}) {
    xs::softmax_options options{.algorithm = xs::softmax_algorithm::three_pass_recompute, .sink = sink};
    const std::vector<T> expected = probabilities<Arch>(row, options);
    expect_right(found, row, expected.data(), options, Arch::name);
    for (const xs::softmax_algorithm algorithm : algorithms) {
      options.algorithm = algorithm;
      expect_same_bits(found, expected.data(), probabilities<Arch>(row, options).data(), Arch::name, row, options);
      std::vector<T> p(z.size(), T(-7));
      const auto in = xs::matrix_view<const T>(z.data(), n, columns).transposed();
      xs::softmax<Arch>(in, xs::matrix_view<T>(p.data(), n, columns).transposed(), options);
      for (std::size_t c = 0; c < columns; c += 5) {
        std::vector<T> column(n);
        for (std::size_t i = 0; i < n; ++i) {
          column[i] = p[i * columns + c];
        }
        expect_same_bits(found, expected.data(), column.data(), Arch::name, row, options);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

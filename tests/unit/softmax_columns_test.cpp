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

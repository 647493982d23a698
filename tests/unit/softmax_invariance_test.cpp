// SPDX-License-Identifier: MIT
// What must not be visible in the bits: padding, neighbours, strides, orientation and (with fused multiply-add) the
// architecture.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/layouts.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class T>
void expect_same_row(findings& found, const T* expected, const T* p, std::size_t n, std::ptrdiff_t stride,
                     const std::vector<T>& z, const xs::softmax_options& options, const std::string& what) {
  for (std::size_t i = 0; i < n; ++i) {
    const T x = p[static_cast<std::ptrdiff_t>(i) * stride];
    if (bits(x) != bits(expected[i]) && !(std::isnan(x) && std::isnan(expected[i]))) {
      found.expect(false, [&] {
        return what + ": element " + std::to_string(i) + " is " + exact_text(x) + ", alone " + exact_text(expected[i]) +
               "; " + describe(z, options);
      });
      return;
    }
  }
  found.expect(true, [] { return std::string(); });
}

/// Rows of all sorts side by side: a row of NaN, of -inf, or beyond the fast range next to ordinary ones.
template <class T>
std::vector<T> mixed_row(std::size_t cols, std::size_t row) {
  using limits = std::numeric_limits<T>;
  switch (row % 11) {
  case 3: {
    std::vector<T> z = make_row<T>(row_kind::normal, cols, row);
    z[row % cols] = limits::quiet_NaN();
    return z;
  }
  case 5:
    return std::vector<T>(cols, -limits::infinity());
  case 6: {
    std::vector<T> z = make_row<T>(row_kind::normal, cols, row);
    z[(row * 5) % cols] = limits::infinity();
    return z;
  }
  case 8:
    return make_row<T>(row_kind::enormous_close, cols, row);
  default:
    return make_row<T>(row_kinds[row % std::size(row_kinds)], cols, row);
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: -inf to the right changes no bit", "[softmax][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr T masked = -std::numeric_limits<T>::infinity();
  findings found;
  const auto check = [&](const std::vector<T>& z, std::size_t padding, xs::softmax_options options) {
    const std::vector<T> alone = probabilities<Arch>(z, options);
    std::vector<T> longer = z;
    longer.resize(z.size() + padding, masked);
    for (const xs::softmax_algorithm algorithm : algorithms) {
      options.algorithm = algorithm;
      const std::vector<T> p = probabilities<Arch>(longer, options);
      expect_same_row(found, alone.data(), p.data(), z.size(), 1, z, options,
                      std::string(Arch::name) + " with " + std::to_string(padding) + " times -inf to the right");
      const bool zeros =
          std::all_of(p.begin() + static_cast<std::ptrdiff_t>(z.size()), p.end(), [](T x) { return bits(x) == 0; });
      found.expect(zeros, [&] { return "padding has weight; " + describe(z, options); });
    }
  };
  for (std::size_t padding = 0; padding <= 200; ++padding) {
    for (const std::size_t n : {1u, 2u, 5u, 15u, 16u, 17u, 40u, 64u, 100u, 131u}) {
      check(make_row<T>(n % 2 == 0 ? row_kind::wide : row_kind::normal, n, padding), padding, {});
    }
  }
  for (const std::size_t n : {1u, 7u, 1000u, 1023u, 1024u, 1025u, 2040u, 2047u, 2048u, 2049u, 4000u, 6143u}) {
    for (const std::size_t padding : {1u, 24u, 31u, 800u, 1024u, 2048u, 2100u, 4096u, 10000u}) {
      check(make_row<T>(row_kind::normal, n, padding), padding, {.temperature = 0.7});
      check(make_row<T>(row_kind::very_wide, n, padding), padding, {.sink = 2.0});
      check(make_row<T>(row_kind::enormous_close, n, padding), padding, {});
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: a row of a matrix has the bits of the row alone", "[softmax][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t cols :
       {1u, 2u, 3u, 4u, 5u, 7u, 8u, 9u, 15u, 16u, 17u, 30u, 33u, 48u, 63u, 64u, 65u, 100u, 130u, 2050u}) {
    for (std::size_t rows : {1u, 2u, 3u, 4u, 7u, 8u, 9u, 15u, 16u, 17u, 31u, 33u, 70u}) {
      if (rows * cols > 20000) {
        continue;
      }
      std::vector<std::vector<T>> z(rows);
      for (std::size_t r = 0; r < rows; ++r) {
        z[r] = mixed_row<T>(cols, r + cols);
      }
      xs::softmax_options options{.temperature = rows % 2 == 0 ? 1.0 : 0.7,
                                  .masked_row =
                                      cols % 2 == 0 ? xs::masked_row_policy::zero : xs::masked_row_policy::nan,
                                  .sink = rows % 5 == 3 ? std::optional<double>(1.25) : std::nullopt};
      std::vector<std::vector<T>> alone(rows);
      for (std::size_t r = 0; r < rows; ++r) {
        alone[r] = probabilities<Arch>(z[r], options);
      }
      const std::vector<layout> layouts = layouts_of(rows, cols);
      for (std::size_t l = 0; l < layouts.size(); ++l) {
        const layout& from = layouts[l];
        // Into the same layout, and into another one.
        for (const layout& to : {from, layouts[(l * 3 + 1) % layouts.size()]}) {
          laid_out<T> in(rows, cols, from);
          laid_out<T> out(rows, cols, to);
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
              in.at(r, c) = z[r][c];
            }
          }
          options.algorithm = algorithms[(rows + cols + l) % std::size(algorithms)];
          options.store = stores[(rows + l) % std::size(stores)];
          xs::softmax<Arch>(in.view(), out.view(), options);
          const std::string what =
              std::string(Arch::name) + ", " + std::to_string(rows) + " rows, " + from.what + " to " + to.what;
          for (std::size_t r = 0; r < rows; ++r) {
            expect_same_row(found, alone[r].data(), &out.at(r, 0), cols, to.col_stride, z[r], options,
                            what + ", row " + std::to_string(r));
          }
          found.expect(out.untouched_between(), [&] { return what + ": wrote between the elements"; });
          // In place.
          xs::softmax<Arch>(in.view(), in.view(), options);
          for (std::size_t r = 0; r < rows; ++r) {
            expect_same_row(found, alone[r].data(), &in.at(r, 0), cols, from.col_stride, z[r], options,
                            what + ", in place, row " + std::to_string(r));
          }
          found.expect(in.untouched_between(), [&] { return what + ": wrote between the elements, in place"; });
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: strided rows have the bits of contiguous ones", "[softmax][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u, 2u, 3u, 15u, 16u, 17u, 33u, 64u, 100u, 257u, 1024u, 1025u, 2048u, 2049u, 5000u}) {
    for (const row_kind kind : {row_kind::normal, row_kind::wide, row_kind::masked, row_kind::enormous_close}) {
      const std::vector<T> z = make_row<T>(kind, n, 21);
      for (const xs::softmax_algorithm algorithm : algorithms) {
        for (const double temperature : {1.0, 0.0, 0.6}) {
          const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
          const std::vector<T> alone = probabilities<Arch>(z, options);
          for (const std::ptrdiff_t stride : {2, 3, 16, -1, -2}) {
            const auto step = static_cast<std::size_t>(std::abs(stride));
            std::vector<T> spread((n - 1) * step + 1, T(99));
            T* const first = stride > 0 ? spread.data() : spread.data() + (n - 1) * step;
            for (std::size_t i = 0; i < n; ++i) {
              first[static_cast<std::ptrdiff_t>(i) * stride] = z[i];
            }
            std::vector<T> dense(n);
            xs::softmax<Arch>(xs::vector_view<const T>(first, n, stride), dense, options);
            const std::string what = std::string(Arch::name) + ", stride " + std::to_string(stride);
            expect_same_row(found, alone.data(), dense.data(), n, 1, z, options, what + " to 1");
            xs::softmax<Arch>(xs::vector_view<const T>(first, n, stride), xs::vector_view<T>(first, n, stride),
                              options);
            expect_same_row(found, alone.data(), first, n, stride, z, options, what + " in place");
            xs::softmax<Arch>(z, xs::vector_view<T>(first, n, stride), options);
            expect_same_row(found, alone.data(), first, n, stride, z, options, "1 to " + what);
          }
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(XSOFTMAX_DISPATCH_AVX2) && defined(XSOFTMAX_DISPATCH_AVX512)

TEMPLATE_LIST_TEST_CASE("softmax: avx2 and avx512 give the same bits", "[softmax][invariance][unit]", scalars) {
  using T = TestType;
  if (!runnable<xs::arch::avx2>() || !runnable<xs::arch::avx512>()) {
    return;
  }
  findings found;
  for (const row_kind kind : row_kinds) {
    for (const std::size_t n : {1u, 2u, 7u, 16u, 33u, 64u, 100u, 257u, 1024u, 1500u, 2048u, 2049u, 4100u, 10000u}) {
      for (const double temperature : {1.0, 0.0, 0.7, 3.0, 1.0 / 3, 1e-30, 1e30, 1e-300, 1e300}) {
        const std::vector<T> z = make_row<T>(kind, n, 31);
        for (const xs::softmax_algorithm algorithm : algorithms) {
          const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
          expect_same_bits(found, probabilities<xs::arch::avx2>(z, options).data(),
                           probabilities<xs::arch::avx512>(z, options).data(), "avx512, after avx2", z, options);
        }
      }
    }
  }
  generator random(5);
  for (int i = 0; i < 40000; ++i) {
    const std::vector<T> z = make_row<T>(row_kind::wide, 1 + random.below(80), random.next());
    const xs::softmax_options options{.temperature = i % 2 == 0 ? 1.0 : random.uniform(0.1, 4)};
    expect_same_bits(found, probabilities<xs::arch::avx2>(z, options).data(),
                     probabilities<xs::arch::avx512>(z, options).data(), "avx512, after avx2", z, options);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#endif

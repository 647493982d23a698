// SPDX-License-Identifier: MIT
// Half storage: the result is the float softmax of the widened logits, rounded once.

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>
#include <xsoftmax/half.hpp>

#include "../support/catch.hpp"
#include "../support/flushing.hpp"
#include "../support/kernels_once.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

std::uint32_t pattern(float x) {
  return std::isnan(x) ? 0x7FC00000u : bits(x);
}

std::uint32_t pattern(xs::float16 x) {
  return std::isnan(float(x)) ? 0x7E00u : x.bits();
}

std::uint32_t pattern(xs::bfloat16 x) {
  return std::isnan(float(x)) ? 0x7FC0u : x.bits();
}

template <class In, class Out>
struct formats {
  using in = In;
  using out = Out;
};

using format_pairs =
    std::tuple<formats<xs::float16, xs::float16>, formats<xs::bfloat16, xs::bfloat16>, formats<xs::float16, float>,
               formats<xs::bfloat16, float>, formats<float, xs::float16>, formats<float, xs::bfloat16>,
               formats<xs::float16, xs::bfloat16>, formats<xs::bfloat16, xs::float16>>;

template <class Half>
std::vector<Half> rounded(const std::vector<float>& values) {
  std::vector<Half> result;
  for (const float x : values) {
    result.push_back(Half(x));
  }
  return result;
}

/// Logits in `In`, laid out `stride` apart; probabilities in `Out` likewise: each must be the rounded float result.
template <class Arch, class In, class Out>
void expect_rounded(findings& found, const std::vector<float>& logits, const xs::softmax_options& options,
                    std::size_t z_stride, std::size_t p_stride, const std::string& what) {
  const std::size_t n = logits.size();
  const std::vector<In> row = rounded<In>(logits);
  std::vector<float> wide(n);
  std::vector<In> z(n * z_stride + 1, In(5.0F));
  for (std::size_t i = 0; i < n; ++i) {
    wide[i] = float(row[i]);
    z[1 + i * z_stride] = row[i];
  }
  const std::vector<float> exact = probabilities<Arch>(wide, options);
  std::vector<Out> p(n * p_stride + 1, Out(-7.0F));
  xs::softmax<Arch>(xs::vector_view<const In>(z.data() + 1, n, static_cast<std::ptrdiff_t>(z_stride)),
                    xs::vector_view<Out>(p.data() + 1, n, static_cast<std::ptrdiff_t>(p_stride)), options);
  for (std::size_t i = 0; i < p.size(); ++i) {
    const bool element = i != 0 && (i - 1) % p_stride == 0;
    const Out expected = element ? Out(exact[(i - 1) / p_stride]) : Out(-7.0F);
    found.expect(pattern(p[i]) == pattern(expected), [&] {
      return what + ": place " + std::to_string(i) + " is " + exact_text(float(p[i])) + ", not " +
             exact_text(float(expected)) + "; " + describe(wide, options);
    });
  }
  if constexpr (std::is_same_v<In, Out>) {
    std::vector<In> in_place = z;
    const xs::vector_view<In> view(in_place.data() + 1, n, static_cast<std::ptrdiff_t>(z_stride));
    xs::softmax<Arch>(view, view, options);
    for (std::size_t i = 0; i < n; ++i) {
      found.expect(pattern(in_place[1 + i * z_stride]) == pattern(Out(exact[i])),
                   [&] { return what + ", in place: element " + std::to_string(i) + "; " + describe(wide, options); });
    }
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax of halves: float arithmetic, rounded once", "[softmax][half][unit]", format_pairs) {
  using In = typename TestType::in;
  using Out = typename TestType::out;
  for_each_architecture([&]<class Arch>(Arch) {
    findings found;
    std::uint64_t seed = 0;
    for (const std::size_t n : {0u,  1u,   2u,   7u,   15u,   16u,   17u,   33u,   63u,   64u,
                                65u, 100u, 161u, 257u, 2047u, 2048u, 2049u, 4500u, 8192u, 8193u}) {
      for (const row_kind kind : row_kinds) {
        ++seed;
        if (n > 300 && seed % 5 != 0) {
          continue;
        }
        const std::vector<float> z = make_row<float>(kind, n, seed);
        xs::softmax_options options{.algorithm = algorithms[seed % std::size(algorithms)],
                                    .store = stores[seed % std::size(stores)]};
        expect_rounded<Arch, In, Out>(found, z, options, 1, 1, name(kind));
        options.temperature = 0.7;
        options.masked_row = xs::masked_row_policy::zero;
        expect_rounded<Arch, In, Out>(found, z, options, 3, 1, name(kind));
        options.sink = 0.25;
        expect_rounded<Arch, In, Out>(found, z, options, 1, 2, name(kind));
        options.temperature = 0;
        expect_rounded<Arch, In, Out>(found, z, options, 1, 1, name(kind));
      }
    }
    INFO(Arch::name);
    XSOFTMAX_CHECK_FINDINGS(found);
  });
}

TEMPLATE_LIST_TEST_CASE("softmax of halves: columns have the bits of rows", "[softmax][half][columns][unit]",
                        format_pairs) {
  using In = typename TestType::in;
  using Out = typename TestType::out;
  for_each_architecture([&]<class Arch>(Arch) {
    findings found;
    std::uint64_t seed = 0;
    for (const std::size_t rows : {1u, 5u, 16u, 31u, 129u}) {
      for (const std::size_t n : {1u, 16u, 40u, 101u, 2100u}) {
        std::vector<In> z;
        for (std::size_t r = 0; r < rows; ++r) {
          ++seed;
          for (const In x : rounded<In>(make_row<float>(row_kinds[seed % std::size(row_kinds)], n, seed))) {
            z.push_back(x);
          }
        }
        std::vector<In> columns(z.size());
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t i = 0; i < n; ++i) {
            columns[i * rows + r] = z[r * n + i];
          }
        }
        std::vector<Out> by_rows(z.size());
        std::vector<Out> by_columns(z.size());
        const xs::softmax_options options{.temperature = seed % 2 == 0 ? 1.0 : 2.5};
        xs::softmax<Arch>(xs::matrix_view<const In>(z.data(), rows, n), xs::matrix_view<Out>(by_rows.data(), rows, n),
                          options);
        xs::softmax<Arch>(xs::matrix_view<const In>(columns.data(), n, rows).transposed(),
                          xs::matrix_view<Out>(by_columns.data(), n, rows).transposed(), options);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t i = 0; i < n; ++i) {
            found.expect(pattern(by_rows[r * n + i]) == pattern(by_columns[i * rows + r]), [&] {
              return "row " + std::to_string(r) + " of " + std::to_string(rows) + ", element " + std::to_string(i) +
                     " of " + std::to_string(n);
            });
          }
        }
      }
    }
    INFO(Arch::name);
    XSOFTMAX_CHECK_FINDINGS(found);
  });
}

TEST_CASE("softmax of bfloat16: results beside the middle between two neighbours are those of float, rounded",
          "[softmax][half][unit]") {
  // Every bfloat16 between -100 and 20, whose results lie everywhere: of 300 * 16000 of them, hundreds are within five
  // units in the last place of a float of such a middle. The sink moves them all.
  std::vector<xs::bfloat16> z;
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto x = xs::bfloat16::from_bits(static_cast<std::uint16_t>(bits));
    if (float(x) >= -100.0F && float(x) <= 20.0F && std::fabs(float(x)) >= 0x1p-24F) {
      z.push_back(x);
    }
  }
  for_each_architecture([&]<class Arch>(Arch) {
    std::vector<float> exact(z.size());
    std::vector<xs::bfloat16> p(z.size());
    std::size_t wrong = 0;
    std::size_t close = 0;
    for (int step = 0; step < 300; ++step) {
      const xs::softmax_options options{.algorithm = xs::softmax_algorithm::two_pass,
                                        .sink = 25.0 + step * 0.01,
                                        .store = step % 2 == 0 ? xs::store_kind::cached : xs::store_kind::streaming};
      xs::softmax<Arch>(z, exact, options);
      xs::softmax<Arch>(z, p, options);
      for (std::size_t i = 0; i < z.size(); ++i) {
        const auto rest = static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(exact[i]) & 0xFFFF) - 0x8000;
        close += std::abs(rest) <= 5;
        wrong += p[i].bits() != xs::bfloat16(exact[i]).bits();
      }
    }
    INFO(Arch::name << ": " << close << " close to a middle");
    CHECK(wrong == 0);
    CHECK(close > 300);
  });
}

TEMPLATE_TEST_CASE(
    "softmax of halves: long rows, whose estimate is tried on all values, have the results of float, rounded",
    "[softmax][half][long][unit]", xs::float16, xs::bfloat16) {
  // Every half there is below the maximum, over and over; the sink moves the results across the middles. Or a few and
  // otherwise nothing: results of all sizes, of which too many are beside a middle for an estimate of float16.
  constexpr bool is_bfloat16 = std::is_same_v<TestType, xs::bfloat16>;
  constexpr std::size_t n = (std::size_t{1} << (is_bfloat16 ? 19 : 22)) + 77;
  constexpr int steps = is_bfloat16 ? 24 : 12;
  std::vector<TestType> z;
  for (std::uint32_t bits = 0; z.size() < n; ++bits) {
    const auto x = TestType::from_bits(static_cast<std::uint16_t>(bits));
    if (float(x) >= -300.0F && float(x) <= 3.0F) {
      z.push_back(x);
    }
  }
  std::vector<TestType> peaks(n, TestType(-250.0F));
  for (std::size_t i = 0; i < 5000; ++i) {
    peaks[i * 100] = TestType::from_bits(static_cast<std::uint16_t>(TestType(3.0F).bits() - i));
  }
  for_each_architecture([&]<class Arch>(Arch) {
    std::vector<float> exact(n);
    std::vector<TestType> p(n + 1);
    findings found;
    for (int step = 0; step < steps; ++step) {
      const bool few = step % 2 == 1;
      const std::vector<TestType>& row = few ? peaks : z;
      const xs::softmax_options options{.sink = few ? 0.1 * step : 13.0 + step * 0.03,
                                        .store = step % 4 < 2 ? xs::store_kind::cached : xs::store_kind::streaming};
      xs::softmax<Arch>(row, exact, options);
      const std::size_t offset = step % 3 == 0 ? 1 : 0;
      xs::softmax<Arch>(row, xs::vector_view<TestType>(p.data() + offset, n), options);
      for (std::size_t i = 0; i < n; ++i) {
        found.expect(p[offset + i].bits() == TestType(exact[i]).bits(), [&] {
          return "step " + std::to_string(step) + ": of " + exact_text(float(row[i])) + " " +
                 exact_text(float(p[offset + i])) + ", not " + exact_text(exact[i]) + " rounded";
        });
      }
    }
    INFO(Arch::name);
    XSOFTMAX_CHECK_FINDINGS(found);
  });
}

TEMPLATE_TEST_CASE("softmax of halves: what their words say of a chunk is what the numbers are",
                   "[softmax][half][unit]", xs::float16, xs::bfloat16) {
  // Chunks within the range and beyond it, all of one sign or of both, with each kind of special value at each place of
  // a chunk, in rows of a few chunks and of a few blocks with and without a rest.
  const std::uint16_t infinity = TestType(INFINITY).bits();
  const std::uint16_t nan = infinity + 1;
  const std::uint16_t largest = infinity - 1;
  const std::uint16_t positive[] = {0, 1, largest, infinity, nan};
  const xs::softmax_algorithm ways[] = {xs::softmax_algorithm::automatic, xs::softmax_algorithm::two_pass,
                                        xs::softmax_algorithm::three_pass_recompute,
                                        xs::softmax_algorithm::three_pass_reload};
  struct range {
    double low;
    double high;
  };
  const range ranges[] = {{-9, 9},       {-30, -1}, {0, 12}, {-200, 20},      {-200, -150},
                          {-0.01, 0.01}, {30, 70},  {0, 20}, {-19170, -19060}};
  const std::size_t lengths[] = {64, 128, 191, 256, 333, 2048, 2112, 4500, 8200};
  for_each_architecture([&]<class Arch>(Arch) {
    findings found;
    generator random(5);
    const auto one_of = [&](const auto& choices) { return choices[random.below(std::size(choices))]; };
    for (int round = 0; round < 2000; ++round) {
      const std::size_t n = one_of(lengths);
      const range r = one_of(ranges);
      std::vector<TestType> z(n);
      std::vector<float> wide(n);
      const double temperature = random.below(5) == 0 ? 1.5 : 1.0;
      for (TestType& x : z) {
        x = TestType(static_cast<float>(random.uniform(r.low, r.high)));
      }
      if (random.below(3) == 0) {
        const bool negative = random.below(2) == 0;
        z[random.below(n)] =
            TestType::from_bits(static_cast<std::uint16_t>(one_of(positive) | (negative ? 0x8000 : 0)));
      }
      if (random.below(6) == 0) {
        z[random.below(n)] = TestType(110.0F); // all others are next to nothing
      }
      for (std::size_t i = 0; i < n; ++i) {
        wide[i] = float(z[i]);
      }
      const xs::softmax_options options{.temperature = temperature, .algorithm = one_of(ways)};
      std::vector<float> exact(n);
      xs::softmax<Arch>(wide, exact, options);
      std::vector<float> p(n);
      std::vector<TestType> halves(n);
      xs::softmax<Arch>(z, p, options);
      xs::softmax<Arch>(z, halves, options);
      for (std::size_t i = 0; i < n; ++i) {
        found.expect(pattern(p[i]) == pattern(exact[i]) && pattern(halves[i]) == pattern(TestType(exact[i])), [&] {
          return "round " + std::to_string(round) + ", place " + std::to_string(i) + " of " + std::to_string(n) + ": " +
                 exact_text(p[i]) + " and " + exact_text(float(halves[i])) + ", not " + exact_text(exact[i]);
        });
      }
    }
    INFO(Arch::name);
    XSOFTMAX_CHECK_FINDINGS(found);
  });
}

TEMPLATE_TEST_CASE("softmax of halves: many equal logits do not lose their sum", "[softmax][half][unit]", xs::float16,
                   xs::bfloat16) {
  for_each_architecture([&]<class Arch>(Arch) {
    for (const std::size_t n : {std::size_t{4096}, std::size_t{1000000}}) {
      const std::vector<TestType> z(n, TestType(3.0F));
      const std::vector<TestType> p = xs::softmax<Arch>(z);
      std::vector<float> wide(n);
      xs::softmax<Arch>(z, wide);
      double sum = 0;
      double wide_sum = 0;
      for (std::size_t i = 0; i < n; ++i) {
        sum += static_cast<double>(float(p[i]));
        wide_sum += static_cast<double>(wide[i]);
      }
      INFO(Arch::name << ", n = " << n);
      CHECK(std::fabs(wide_sum - 1) <= 4 * 0x1p-24);
      // Each share is off by half a unit in the last place of the half at most, which for 1e-6 in float16, subnormal
      // there, is 2^-25 of 2^-20.
      const float share = 1.0F / static_cast<float>(n);
      const double rounding = std::fabs(static_cast<double>(float(TestType(share))) - 1.0 / static_cast<double>(n));
      CHECK(std::fabs(sum - 1) <= rounding * static_cast<double>(n) + 4 * 0x1p-24);
      CHECK(p.front().bits() == TestType(share).bits());
    }
  });
}

TEMPLATE_LIST_TEST_CASE("softmax: halves keep their normal results under flush-to-zero", "[softmax][half][unit]",
                        float_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // Down to where results are subnormal, bfloat16 having float's range; in every other row all but the maximum lie
  // there, so that no chunk has an element that an estimate does not serve.
  for (const std::size_t n : {64u, 213u, 700u, 5000u}) {
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      generator random(seed + n);
      const bool deep = seed % 2 == 0;
      const double largest = deep ? random.uniform(17, 30) : random.uniform(-60, 30);
      std::vector<xs::bfloat16> z(n);
      for (xs::bfloat16& x : z) {
        x = xs::bfloat16(static_cast<float>(largest - (deep ? random.uniform(78, 86) : random.uniform(0, 100))));
      }
      z[n / 2] = xs::bfloat16(static_cast<float>(largest));
      std::vector<float> wide(z.begin(), z.end());
      xs::softmax<Arch>(wide, wide);
      for (const xs::softmax_algorithm algorithm : algorithms) {
        std::vector<xs::bfloat16> p(n);
        {
          const flushing scope(flush_to_zero | denormals_are_zero);
          xs::softmax<Arch>(z, p, {.algorithm = algorithm});
        }
        std::size_t wrong = n;
        for (std::size_t i = 0; i < n; ++i) {
          const bool is_normal = std::fpclassify(wide[i]) == FP_NORMAL;
          wrong = is_normal && pattern(p[i]) != pattern(xs::bfloat16(wide[i])) ? i : wrong;
        }
        found.expect(wrong == n, [&] {
          return std::string(Arch::name) + ", n = " + std::to_string(n) + ", seed " + std::to_string(seed) +
                 ": element " + std::to_string(wrong) + " is not the one without flushing";
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

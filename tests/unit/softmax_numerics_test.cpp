// SPDX-License-Identifier: MIT
// Known answers, temperatures, magnitudes, flush-to-zero and sums.

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "../support/catch.hpp"
#include "../support/flushing.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// From tests/data/kat_softmax.json, computed with 25 digits; inputs are exact in float.
struct known_answer {
  const char* name;
  std::vector<double> z;
  std::vector<const char*> p;
};

const std::vector<known_answer>& known_answers() {
  static const std::vector<known_answer> answers = {
      {"S1A",
       {1, -0.5, 2.25, 0, 3},
       {"0.080189833986037565091", "0.017892770499580563005", "0.27989002231320043493", "0.029500191314414232558",
        "0.59252718188676720441"}},
      {"S1B",
       {1000, 1001.5, 999.25, -1000},
       {"0.16795274738848679643", "0.75271199230423123513", "0.079335260307281968444", "4.3273627860881827553e-870"}},
      {"S1C", {0, -100}, {"1.0000000000000000000", "3.7200759760208359630e-44"}},
      {"S1D",
       {-87.25, -0.125, -103},
       {"1.4524234901684268009e-38", "1.0000000000000000000", "2.0987232522784215928e-45"}},
      {"S1E",
       {-4, -0.5, 3, -1.5, 2, -2.5, 1, -3.5, 0, 3.5, -1, 2.5, -2, 1.5, -3, 0.5},
       {"0.00021769477070518313977", "0.0072090607209460311298", "0.23873130397178407005", "0.0026520652293926210297",
        "0.087824338695269652455", "0.00097564027453917041388", "0.032308768640467277608", "0.00035891799898182257817",
        "0.011885731752392522369", "0.39360137884025838159", "0.0043725163549838289871", "0.14479785529206341589",
        "0.0016085588731844429269", "0.053268154087667661646", "0.00059175573935845782150", "0.019596258758005460364"}},
  };
  return answers;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: known answers", "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  for (const known_answer& answer : known_answers()) {
    const std::vector<T> z(answer.z.begin(), answer.z.end());
    for (const xs::softmax_algorithm algorithm : algorithms) {
      const std::vector<T> p = probabilities<Arch>(z, {.algorithm = algorithm});
      for (std::size_t i = 0; i < z.size(); ++i) {
        CAPTURE(answer.name, name(algorithm), i, p[i], answer.p[i]);
        CHECK(ulp_distance(p[i], std::strtold(answer.p[i], nullptr)) <= probability_bound);
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("softmax: rows of equal logits share exactly", "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  for (const T value : {T(0), T(-0.0), T(1), T(-16.7), T(88.7), T(-103.9), T(-2e4), T(-1e30), T(3e38), T(-3e38),
                        limits::max(), limits::lowest(), limits::min(), limits::denorm_min()}) {
    for (std::size_t n = 1; n <= 5000; n = n < 70 ? n + 1 : n * 2 - 3) {
      for (const double temperature : {1.0, 0.7, 1e-300, 1e300}) {
        const std::vector<T> z(n, value);
        for (const xs::softmax_algorithm algorithm : algorithms) {
          const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
          const std::vector<T> p = probabilities<Arch>(z, options);
          // All equal, and 1/n: exactly where that is a power of two.
          const T share = p.front();
          bool same = true;
          for (const T x : p) {
            same = same && bits(x) == bits(share);
          }
          const bool power_of_two = (n & (n - 1)) == 0;
          const double error = ulp_distance(share, 1.0L / static_cast<long double>(n));
          found.expect(same && error <= (power_of_two ? 0 : probability_bound), [&] {
            return std::string(Arch::name) + ": 1/n is " + exact_text(share) + "; " + describe(z, options);
          });
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: every temperature in (0, inf)", "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const double temperature :
       {5e-324,     1e-310,  1e-300, 1e-100, 1e-45,     1e-38,     1e-30, 1e-19, 1e-10, 1e-6,   0.001,
        0.1,        1.0 / 3, 0.5,    0.7,    0.9999999, 1.0000001, 1.5,   2.0,   3.0,   10.0,   100.0,
        12345.6789, 1e10,    2e19,   1e30,   1e38,      3e38,      1e45,  1e100, 1e300, 1.7e308}) {
    for (const row_kind kind : row_kinds) {
      for (const std::size_t n : {1u, 2u, 3u, 17u, 64u, 130u}) {
        const std::vector<T> z = make_row<T>(kind, n, 41);
        const xs::softmax_options options{.temperature = temperature,
                                          .algorithm = algorithms[(n + static_cast<std::size_t>(kind)) % 5]};
        expect_right(found, z, probabilities<Arch>(z, options).data(), options, Arch::name);
      }
      expect_right_everywhere<Arch>(found, make_row<T>(kind, 37, 42), {.temperature = temperature});
    }
  }
  // Logits scaled with the temperature, so that the result is an ordinary one at every magnitude.
  generator random(43);
  for (int exponent = std::numeric_limits<T>::min_exponent - 10; exponent < std::numeric_limits<T>::max_exponent - 8;
       exponent += 5) {
    std::vector<T> z(1 + random.below(40));
    for (T& x : z) {
      x = static_cast<T>(std::ldexp(random.uniform(-20, 20), exponent));
    }
    for (const double factor : {1.0, 0.7, 1.9}) {
      const xs::softmax_options options{.temperature = std::ldexp(factor, exponent)};
      if (options.temperature > 0) {
        expect_right_everywhere<Arch>(found, z, options);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: a first logit that misleads about the maximum", "[softmax][numerics][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // `automatic` and two_pass guess the row's exponent from its first element: -inf says nothing, a low one too little,
  // and the tail of the row is just where a guess that is off by tens of octaves would cut terms off.
  findings found;
  const T infinity = std::numeric_limits<T>::infinity();
  const T depth = std::is_same_v<T, float> ? T(1) : T(8);
  for (int level = -160; level <= 160; level += 5) {
    const T top = static_cast<T>(level) * depth;
    for (const T first :
         {-infinity, top, top - 30 * depth, top - 70 * depth, top - 100 * depth, T(0), T(-40) * depth}) {
      if (first > top) {
        continue;
      }
      for (const std::size_t n : {7u, 50u, 100u, 150u, 700u, 2100u}) { // each way a row can be held, and two blocks
        std::vector<T> z(n, -infinity);
        z[0] = first;
        z[n - 1] = top;
        z[n - 2] = top - 20 * depth;
        z[n - 3] = top - 60 * depth;
        z[n - 4] = top - T(86.5) * depth;
        z[n - 5] = top - T(88.5) * depth;
        expect_right_everywhere<Arch>(found, z, {});
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: finite sentinels are ordinary logits", "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const T sentinel :
       {T(-1e4), T(-2e4), T(-65504), T(-1e9), T(-1e30), T(-3.4e38f), std::numeric_limits<T>::lowest()}) {
    for (const std::size_t n : {1u, 2u, 9u, 64u, 200u, 2100u}) {
      expect_right_everywhere<Arch>(found, std::vector<T>(n, sentinel), {});
      for (const std::size_t kept : {std::size_t{0}, n / 2, n - 1}) {
        std::vector<T> z(n, sentinel);
        z[kept] = T(1.5);
        expect_right_everywhere<Arch>(found, z, {});
        if (n <= 200) {
          expect_right_everywhere<Arch>(found, z, {.temperature = 0.3});
          // Next to the sentinel itself.
          z[kept] = std::nextafter(sentinel, T(0));
          expect_right_everywhere<Arch>(found, z, {});
          z[kept] = -std::numeric_limits<T>::infinity();
          expect_right_everywhere<Arch>(found, z, {});
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: small gaps at every magnitude", "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(51);
  // Around each power of two, where a guard or another way of reduction may begin, from inside to far outside.
  const int far = std::numeric_limits<T>::max_exponent;
  for (int exponent = 4; exponent < far; exponent += exponent < 70 ? 1 : 17) {
    for (const double factor : {1.0, 1.02, 1.3, 1.44269, 1.98}) {
      for (const int sign : {1, -1}) {
        const T start = static_cast<T>(sign * std::ldexp(factor, exponent));
        for (const double gap : {0.0, 3.0, 30.0, 100.0}) {
          std::vector<T> z(3 + random.below(30));
          for (T& x : z) {
            x = start - static_cast<T>(sign * random.unit() * gap);
            for (std::size_t steps = random.below(4); gap == 0 && steps > 0; --steps) {
              x = std::nextafter(x, T(0));
            }
          }
          for (const double temperature : {1.0, 0.7, 11.0}) {
            const xs::softmax_options options{.temperature = temperature,
                                              .algorithm = algorithms[random.below(std::size(algorithms))]};
            expect_right(found, z, probabilities<Arch>(z, options).data(), options, Arch::name);
          }
          // A sink on the other side of the border.
          for (const double above : {-60.0, 0.0, 25.0, 90.0}) {
            const xs::softmax_options options{.temperature = exponent % 2 == 0 ? 1.0 : 3.0,
                                              .algorithm = algorithms[random.below(std::size(algorithms))],
                                              .sink = static_cast<double>(start) + above};
            expect_right(found, z, probabilities<Arch>(z, options).data(), options, Arch::name);
          }
          // One logit of the other sign and magnitude 1 must not disturb.
          z.push_back(T(-sign));
          expect_right_everywhere<Arch>(found, z, {.temperature = std::ldexp(1.0, exponent / 2)});
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: an exact shift stays within the bound of the same answer",
                        "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const std::vector<T> z = make_dyadic_row<T>(77, 61, 5, 6);
  const reference_softmax<T> exact(z.data(), z.size());
  for (int exponent = -4; exponent <= 16; ++exponent) {
    for (const T sign : {T(1), T(-1)}) {
      std::vector<T> shifted = z;
      for (T& x : shifted) {
        x += sign * static_cast<T>(std::ldexp(1.0, exponent)); // exact: a multiple of 2^-6 below 2^17
      }
      const std::vector<T> p = probabilities<Arch>(shifted, {});
      for (std::size_t i = 0; i < z.size(); ++i) {
        found.expect(ulp_distance(p[i], exact.probability(i)) <= probability_bound, [&] {
          return std::string(Arch::name) + ": shifted by 2^" + std::to_string(exponent) + ", element " +
                 std::to_string(i) + " is " + exact_text(p[i]) + ", exact " + exact_text(exact.probability(i));
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: subnormal probabilities are rounded gradually", "[softmax][numerics][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const bool single = std::is_same_v<T, float>;
  findings found;
  std::size_t subnormal = 0;
  // From the last normal result past the last one that is not 0.
  for (double gap = single ? 86.5 : 707; gap < (single ? 105 : 747); gap += 0.0137) {
    for (const double top : {0.0, 1.25, -31.0}) {
      std::vector<T> z = {static_cast<T>(top - gap), static_cast<T>(top), static_cast<T>(top - gap + 0.4),
                          static_cast<T>(top - gap - 0.3)};
      const std::vector<T> p = probabilities<Arch>(z, {});
      expect_right(found, z, p.data(), {}, Arch::name);
      subnormal += std::fpclassify(p[0]) == FP_SUBNORMAL ? 1 : 0;
    }
  }
  CHECK(subnormal > 1000);
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(__SSE__)

TEMPLATE_LIST_TEST_CASE("softmax: flush-to-zero takes subnormal results and nothing else", "[softmax][numerics][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t flushed = 0;
  for (const row_kind kind : row_kinds) {
    if (kind == row_kind::subnormal) {
      continue; // inputs: what they mean under denormals-are-zero is the caller's choice
    }
    for (const std::size_t n : {1u, 2u, 5u, 16u, 40u, 100u, 257u, 1000u, 2060u, 5000u}) {
      const std::vector<T> z = make_row<T>(kind, n, 71);
      for (const double temperature : {1.0, 0.0, 0.7, 3.0, 1e-30, 1e30}) {
        for (const xs::softmax_algorithm algorithm : algorithms) {
          const xs::softmax_options options{.temperature = temperature, .algorithm = algorithm};
          std::vector<T> expected = probabilities<Arch>(z, options);
          for (T& x : expected) {
            flushed += std::fpclassify(x) == FP_SUBNORMAL ? 1 : 0;
            x = std::fpclassify(x) == FP_SUBNORMAL ? T(0) : x;
          }
          for (const std::uint64_t mode : {flush_to_zero, flush_to_zero | denormals_are_zero}) {
            std::vector<T> p(n);
            {
              const flushing scope(mode);
              xs::softmax<Arch>(z, p, options);
            }
            expect_same_bits(found, expected.data(), p.data(), std::string(Arch::name) + ", flushing", z, options);
          }
        }
      }
    }
  }
  CHECK(flushed > 100);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: leaves the floating-point environment as it was", "[softmax][numerics][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr unsigned flags = 0x3f;
  for (const row_kind kind : row_kinds) {
    const std::vector<T> z = make_row<T>(kind, 300, 72);
    for (const xs::store_kind store : stores) {
      const unsigned before = _mm_getcsr();
      const std::vector<T> p = probabilities<Arch>(z, {.store = store});
      CHECK((_mm_getcsr() & ~flags) == (before & ~flags));
    }
  }
}

#endif

TEMPLATE_LIST_TEST_CASE("softmax: sums for n from 1 to 10^6", "[softmax][numerics][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t k = 0;
  for (std::size_t n = 1; n <= 1000000; n = n < 10 ? n + 1 : n * 10 / 7 + 1) {
    for (const row_kind kind : {row_kind::normal, row_kind::narrow, row_kind::wide, row_kind::spike, row_kind::spikes,
                                row_kind::constant, row_kind::descending}) {
      if (n > 20000 && (++k % 6) != 0) {
        continue;
      }
      const std::vector<T> z = make_row<T>(kind, n, 81);
      const xs::softmax_options options{.algorithm = algorithms[(n + static_cast<std::size_t>(kind)) % 5],
                                        .store = stores[n % 3]};
      expect_right(found, z, probabilities<Arch>(z, options).data(), options, Arch::name);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// stablemax and log_stablemax: right on every kind of row, the table of special values, and the same bits however a row
// lies in memory, in company or alone.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>
#include <xsoftmax/half.hpp>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/flushing.hpp"
#include "../support/guarded_buffer.hpp"
#include "../support/layouts.hpp"
#include "../support/stablemax_reference.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

using policy = xs::masked_row_policy;

template <class Of>
typename Of::options with_policy(policy masked_row) {
  typename Of::options options;
  options.masked_row = masked_row;
  return options;
}

/// Options that ask for a way of storing, where there is such a choice.
template <class Of>
typename Of::options with_store(xs::store_kind store) {
  typename Of::options options;
  if constexpr (!Of::logarithmic) {
    options.store = store;
  }
  return options;
}

template <class Arch, class Of>
std::string name_of(const std::string& what) {
  return std::string(Arch::name) + ", " + Of::name + ", " + what;
}

/// One row in every way of storing, in place, and returned: right, and the same bits.
template <class Arch, class Of, class T>
void expect_right_everywhere(findings& found, const std::vector<T>& z, const std::string& kind) {
  const std::string what = name_of<Arch, Of>(kind);
  const std::vector<T> y = result<Arch, Of>(z);
  expect_right_stablemax<Of>(found, z, y.data(), policy::nan, what);
  for (const xs::store_kind store : stores) {
    const std::vector<T> stored = result<Arch, Of>(z, with_store<Of>(store));
    expect_same_row(found, z, y.data(), stored.data(), what + ", " + name(store));
    std::vector<T> in_place = z;
    Of::template run<Arch>(in_place, in_place, with_store<Of>(store));
    expect_same_row(found, z, y.data(), in_place.data(), what + ", in place, " + name(store));
  }
  const std::vector<T> returned = Of::template run<Arch>(z);
  found.expect(returned.size() == z.size(), [] { return "returned a row of another length"; });
  expect_same_row(found, z, y.data(), returned.data(), what + ", returned");
}

/// Rows of all sorts side by side, some of them special as a whole.
template <class T>
std::vector<T> mixed_row(std::uint64_t number, std::size_t n) {
  using limits = std::numeric_limits<T>;
  if (number % 5 == 3 && n != 0) {
    std::vector<T> z = make_row<T>(row_kind::normal, n, number);
    switch (number / 5 % 5) {
    case 0:
      z[number % n] = limits::quiet_NaN();
      break;
    case 1:
      z[number % n] = limits::infinity();
      break;
    case 2:
      z.assign(n, -limits::infinity());
      break;
    case 3:
      z[number % n] = limits::max();
      break;
    default:
      z = make_row<T>(stable_row_kind::lowest, n, number);
      break;
    }
    return z;
  }
  return make_any_row<T>(number * 7 + n, n, number);
}

/// FNV-1a.
class hash {
public:
  template <class T>
  void add(const std::vector<T>& y) {
    for (const T x : y) {
      value_ = (value_ ^ static_cast<std::uint64_t>(std::isnan(x) ? bits(T(7)) : bits(x))) * 0x100000001b3u;
    }
  }

  [[nodiscard]] std::uint64_t value() const { return value_; }

private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

} // namespace

TEMPLATE_LIST_TEST_CASE("stablemax: known answers", "[stablemax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // s = 3, 1/2, 3/2, 1/4 with the sum 21/4.
  const std::vector<T> z = {2, -1, T(0.5), -3};
  const long double p[] = {0.571428571428571429L, 0.0952380952380952381L, 0.285714285714285714L,
                           0.0476190476190476190L};
  const long double loss[] = {0.559615787935422686L, 2.35137525716347769L, 1.25276296849536800L, 3.04452243772342300L};
  const std::vector<T> y = result<Arch, of_stablemax>(z);
  const std::vector<T> ly = result<Arch, of_log_stablemax>(z);
  for (std::size_t i = 0; i < z.size(); ++i) {
    CAPTURE(Arch::name, scalar_name<T>(), i);
    CHECK(ulp_distance(y[i], p[i]) <= of_stablemax::bound<T>);
    CHECK(ulp_distance(ly[i], -loss[i]) <= of_log_stablemax::bound<T>);
  }
  // Each exactly, where nothing is rounded.
  using row = std::vector<T>;
  CHECK(result<Arch, of_stablemax>(row{5}) == row{1});
  CHECK(result<Arch, of_stablemax>(row{-5}) == row{1});
  CHECK(result<Arch, of_log_stablemax>(row{-5}) == row{0});
  CHECK(result<Arch, of_stablemax>(row{2, 0}) == row{T(0.75), T(0.25)});
  CHECK(result<Arch, of_stablemax>(row{0, T(-0.0), 1, 1, -1, -1, 0}) ==
        row{T(0.125), T(0.125), T(0.25), T(0.25), T(0.0625), T(0.0625), T(0.125)});
  CHECK(result<Arch, of_stablemax>(row(64, T(-0.3))) == row(64, T(1) / 64));
  // As the reference, itself against its formula in integers.
  const reference_stablemax<T> exact(z);
  CHECK(std::fabs(exact.probability(1) * 21 - 2) < 0x1p-60L);
  CHECK(std::fabs(exact.log_probability(3) + 3.04452243772342300L) < 0x1p-57L);
}

TEMPLATE_LIST_TEST_CASE("stablemax: every kind of row and length", "[stablemax][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t n = 0; n <= 300; n += n < 140 ? 1 : 3) {
    for_each_row<T>(n, 1, [&](const std::string& kind, const std::vector<T>& z) {
      expect_right_everywhere<Arch, Of>(found, z, kind);
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: rows of several blocks", "[stablemax][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1023u, 1024u, 1025u, 2047u, 2048u, 2049u, 4097u, 5000u}) {
    for_each_row<T>(n, 2, [&](const std::string& kind, const std::vector<T>& z) {
      expect_right_everywhere<Arch, Of>(found, z, kind);
    });
  }
  for_each_row<T>(100000, 3, [&](const std::string& kind, const std::vector<T>& z) {
    expect_right_stablemax<Of>(found, z, result<Arch, Of>(z).data(), policy::nan, name_of<Arch, Of>(kind));
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: long rows do not drift", "[stablemax][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  // The second is longer than what is kept in the caches.
  for (const std::size_t n : {std::size_t{1000003}, (std::size_t{8} << 20) / sizeof(T) + 77}) {
    for (const stable_row_kind kind : {stable_row_kind::absorbed, stable_row_kind::exponents}) {
      const std::vector<T> z = make_row<T>(kind, n, 4);
      const std::vector<T> y = result<Arch, Of>(z);
      expect_right_stablemax<Of>(found, z, y.data(), policy::nan, name_of<Arch, Of>(name(kind)));
      std::vector<T> in_place = z;
      Of::template run<Arch>(in_place, in_place);
      expect_same_row(found, z, y.data(), in_place.data(), name_of<Arch, Of>("in place"));
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: rows of one size, over the whole range", "[stablemax][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  generator random(5);
  for (int octave = limits::min_exponent - limits::digits; octave < limits::max_exponent;
       octave += octave < -70 ? 11 : (sizeof(T) == 4 ? 1 : 3)) {
    for (const std::size_t n : {1u, 2u, 17u, 64u, 100u, 2500u}) {
      if (n == 2500 && octave % 4 != 0) {
        continue;
      }
      for (const int signs : {1, -1, 0}) {
        // In one octave, or with one element many octaves away.
        for (const bool apart : {false, true}) {
          std::vector<T> z(n);
          for (T& x : z) {
            const bool negative = signs < 0 || (signs == 0 && random.below(2) == 0);
            x = std::ldexp(static_cast<T>(1 + 0.999 * random.unit()) * (negative ? T(-1) : T(1)), octave);
          }
          if (apart) {
            const std::vector<T> other = make_row<T>(stable_row_kind::exponents, 1, random.next());
            z[random.below(n)] = other[0];
          }
          expect_right_everywhere<Arch, Of>(found, z, "octave " + std::to_string(octave));
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: one element against n others, over the whole range", "[stablemax][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  const int step = sizeof(T) == 4 ? 6 : 41;
  for (int high = -limits::max_exponent + 1; high < limits::max_exponent; high += step) {
    for (int low = -limits::max_exponent + 1; low < limits::max_exponent; low += step) {
      // Numbers whose s is about 2^high and 2^low.
      const auto of_octave = [](int octave, double part) {
        const T x = std::ldexp(static_cast<T>(1 + part), octave < 0 ? -octave : octave);
        return octave < 0 ? -x : x;
      };
      for (const std::size_t n : {2u, 30u}) {
        std::vector<T> z(n, of_octave(low, 0.37));
        z[n / 2] = of_octave(high, 0.8);
        const std::vector<T> y = result<Arch, Of>(z);
        expect_right_stablemax<Of>(found, z, y.data(), policy::nan, name_of<Arch, Of>("two octaves"));
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: the order of the logits and their ties are kept", "[stablemax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {2u, 9u, 64u, 300u, 3000u}) {
    for_each_row<T>(n, 6, [&](const std::string& kind, std::vector<T> z) {
      std::sort(z.begin(), z.end());
      const std::vector<T> p = result<Arch, of_stablemax>(z);
      const std::vector<T> lp = result<Arch, of_log_stablemax>(z);
      bool sorted = true;
      bool ties = true;
      for (std::size_t i = 1; i < n; ++i) {
        sorted = sorted && p[i - 1] <= p[i];
        ties = ties && (z[i - 1] != z[i] || (bits(p[i - 1]) == bits(p[i]) && bits(lp[i - 1]) == bits(lp[i])));
      }
      found.expect(sorted, [&] { return kind + ": another order; " + describe_row(z); });
      found.expect(ties, [&] { return kind + ": equal logits have different results; " + describe_row(z); });
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: exp of the logarithm is the probability", "[stablemax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u, 3u, 40u, 257u, 5000u}) {
    for_each_row<T>(n, 7, [&](const std::string& kind, const std::vector<T>& z) {
      const std::vector<T> p = result<Arch, of_stablemax>(z);
      const std::vector<T> lp = result<Arch, of_log_stablemax>(z);
      for (std::size_t i = 0; i < n; ++i) {
        const long double off = std::fabs(std::exp(static_cast<long double>(lp[i])) - p[i]);
        const long double allowed = of_stablemax::bound<T> * unit_in_last_place<T>(p[i]) +
                                    1.001L * p[i] * of_log_stablemax::bound<T> * unit_in_last_place<T>(lp[i]);
        found.expect(off <= allowed || (p[i] == 0 && std::isinf(lp[i])),
                     [&] { return kind + ", element " + std::to_string(i) + "; " + describe_row(z); });
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("log_stablemax: where the logarithm of the probability would be 0", "[stablemax][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (int octave = 0; octave < std::numeric_limits<T>::max_exponent; ++octave) {
    for (const T other : {T(0), T(-5), T(3), std::ldexp(T(-1), octave), std::numeric_limits<T>::lowest()}) {
      const std::vector<T> z = {other, std::ldexp(T(1.25), octave), other};
      const std::vector<T> y = result<Arch, of_log_stablemax>(z);
      expect_right_stablemax<of_log_stablemax>(found, z, y.data(), policy::nan, Arch::name);
      found.expect(y[1] <= 0, [&] { return "a logarithm above 0; " + describe_row(z); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  // R = 2 / 2^60.
  const T y = result<Arch, of_log_stablemax>(std::vector<T>{0, T(0x1p60), 0})[1];
  CHECK(ulp_distance(y, -0x1p-59L) <= of_log_stablemax::bound<T>);
}

TEMPLATE_LIST_TEST_CASE("stablemax: rows in which the roundings add up", "[stablemax][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check = [&](const std::vector<T>& z) {
    expect_right_stablemax<Of>(found, z, result<Arch, Of>(z).data(), policy::nan, name_of<Arch, Of>("adding up"));
  };
  // In float, terms that are rounded down twice, in pairs that are rounded down once more, and one that is rounded up
  // and just below a power of two of the sum.
  for (const std::size_t run : {1u, 2u, 4u, 8u, 16u, 32u}) {
    for (const double single : {-0x1.ff96b2p+9, -0x1.000002p+9, -0x1.000002p+12}) {
      std::vector<T> z(1, static_cast<T>(single));
      for (std::size_t i = 0; i < 2 * std::max<std::size_t>(run, 16); ++i) {
        z.push_back(i / run % 2 == 0 ? T(-0x1.ff9136p-1) : T(-0x1.ff912ep-1));
      }
      for (std::size_t i = 0; i < z.size(); ++i) {
        check(z);
        std::rotate(z.begin(), z.begin() + 1, z.end());
      }
    }
  }
  // In double, neighbours of the maximum and a maximum near 1, found by climbing.
  const std::vector<double> rows[] = {
      {-0x1.86a7a3150488dp+1, -0x1.8772e74fd6d73p+1, -0x1.c35defc0353a1p+2},
      {-0x1.03cebfd2467a5p+0, -0x1.04a12448e79f7p+0, -0x1.519748c270e42p+8, -0x1.f33b5b2ce6ae9p+0},
      {0x1.6077413d42fap-6, 0x1.116a917f631ep-6, -0x1.7ae2c34a4cacbp-1},
      {-0x1.cc39cc56315ep-6, -0x1.45ce0fefd3c9p-5, -0x1.ec198d6b8b777p+3, -0x1.0a18bacc5d7ffp+0},
      {-0x1.3345c2a329195p+0, -0x1.41ec86fc0b0ebp+0},
      {0x1.c0750ebc49b73p+2, -0x1.afd8a1fa61dc1p+4, -0x1.36a764a49a15p+3, -0x1.c5803546e2c0bp+2},
      {0x1.fb368322284b3p-1, -0x1.fdfcb0b02bc53p+6},
      {0x1.f995327467a93p-1, -0x1.fe4a782265443p+6},
      {0x1.ef427e143cc35p-1, -0x1.f58aa58945f39p+4}};
  generator random(12);
  for (const std::vector<double>& row : rows) {
    for (int i = 0; i < 5000; ++i) {
      std::vector<T> z(row.begin(), row.end());
      for (T& x : z) {
        for (std::size_t step = i == 0 ? 0 : random.below(6); step > 0; --step) {
          x = std::nextafter(x, T(0));
        }
      }
      check(z);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: there is no shift invariance", "[stablemax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  using row = std::vector<T>;
  const auto expect = [](const row& z, const row& p) {
    const row y = result<Arch, of_stablemax>(z);
    const row ly = result<Arch, of_log_stablemax>(z);
    for (std::size_t i = 0; i < z.size(); ++i) {
      CAPTURE(i);
      CHECK(ulp_distance(y[i], p[i]) <= 4.5); // p is rounded itself
      CHECK(std::fabs(std::exp(ly[i]) - p[i]) < 1e-6);
    }
  };
  expect({0, 1, 0}, {T(0.25), T(0.5), T(0.25)});
  expect({2, 3, 2}, {T(0.3), T(0.4), T(0.3)});
  expect({-2, -1, -2}, {T(2) / 7, T(3) / 7, T(2) / 7});
}

TEMPLATE_LIST_TEST_CASE("stablemax: special values at every place", "[stablemax][special][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  constexpr T infinity = limits::infinity();
  const T nan[] = {limits::quiet_NaN(), -limits::quiet_NaN(), limits::signaling_NaN()};
  findings found;
  const auto expect_nan = [&](const std::vector<T>& z, policy masked_row, const char* rule) {
    const auto options = with_policy<Of>(masked_row);
    const std::vector<T> y = result<Arch, Of>(z, options);
    std::vector<T> in_place = z;
    Of::template run<Arch>(in_place, in_place, options);
    const auto is_nan = [](T x) { return std::isnan(x); };
    found.expect(std::all_of(y.begin(), y.end(), is_nan) && std::all_of(in_place.begin(), in_place.end(), is_nan),
                 [&] { return name_of<Arch, Of>(rule) + "; " + describe_row(z); });
  };
  const auto at_place = [&](std::size_t n, std::size_t i) {
    const policy turn = (n + i) % 2 == 0 ? policy::nan : policy::zero;
    const std::size_t other = (i + n / 2) % n;
    const std::vector<T> normal = make_row<T>(row_kind::normal, n, 8);
    const std::vector<T> all_masked(n, -infinity);
    std::vector<T> z = normal;
    z[i] = nan[(n + i) % 3];
    expect_nan(z, turn, "NaN");
    z[other] = other != i ? infinity : z[i];
    expect_nan(z, turn, "NaN and +inf");
    z = all_masked;
    z[i] = nan[i % 3];
    expect_nan(z, policy::zero, "NaN among -inf");
    z = make_row<T>(i % 2 == 0 ? stable_row_kind::largest : stable_row_kind::lowest, n, i);
    z[i] = nan[n % 3];
    expect_nan(z, turn, "NaN at the end of the range");
    z = normal;
    z[i] = infinity;
    expect_nan(z, turn, "+inf");
    z[other] = infinity;
    expect_nan(z, turn, "+inf twice");
    z = all_masked;
    z[i] = infinity;
    expect_nan(z, policy::zero, "+inf among -inf");
    z = make_row<T>(i % 2 == 0 ? stable_row_kind::largest : stable_row_kind::lowest, n, i);
    z[i] = infinity;
    expect_nan(z, turn, "+inf at the end of the range");
    // One -inf, and one that is not.
    z = normal;
    z[i] = -infinity;
    if (n > 1) {
      expect_right_stablemax<Of>(found, z, result<Arch, Of>(z).data(), policy::nan, name_of<Arch, Of>("-inf"));
    }
    z = all_masked;
    z[i] = normal[i];
    std::vector<T> expected(n, Of::template masked<T>);
    expected[i] = Of::logarithmic ? T(0) : T(1);
    expect_same_row(found, z, expected.data(), result<Arch, Of>(z, with_policy<Of>(turn)).data(),
                    name_of<Arch, Of>("one that is not -inf"));
    z[i] = limits::lowest();
    expect_same_row(found, z, expected.data(), result<Arch, Of>(z, with_policy<Of>(turn)).data(),
                    name_of<Arch, Of>("the lowest among -inf"));
  };
  for (std::size_t n = 1; n <= 140; ++n) {
    for (std::size_t i = 0; i < n; ++i) {
      at_place(n, i);
    }
    const std::vector<T> z(n, -infinity);
    expect_nan(z, policy::nan, "all -inf");
  }
  for (const std::size_t n : {1000u, 2048u, 2049u, 5000u}) {
    for (const std::size_t i : {std::size_t{0}, n / 3, n / 2, n - 2, n - 1}) {
      at_place(n, i);
    }
    expect_nan(std::vector<T>(n, -infinity), policy::nan, "all -inf");
  }
  for (std::size_t n = 1; n <= 5000; n = n < 140 ? n + 1 : 2 * n) {
    const std::vector<T> z(n, -infinity);
    const std::vector<T> expected(n, Of::template masked<T>);
    expect_same_row(found, z, expected.data(), result<Arch, Of>(z, with_policy<Of>(policy::zero)).data(),
                    name_of<Arch, Of>("all -inf, zero wanted"));
  }
  std::vector<T> nothing;
  CHECK_NOTHROW(Of::template run<Arch>(nothing, nothing));
  CHECK(Of::template run<Arch>(nothing).empty());
  const std::vector<T> z(3, -infinity);
  CHECK(Of::template run<Arch>(z, with_policy<Of>(policy::zero)) == std::vector<T>(3, Of::template masked<T>));
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: the same bits at any offset and stride and with -inf to the right",
                        "[stablemax][invariance][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr T masked = -std::numeric_limits<T>::infinity();
  std::uint64_t seed = 0;
  for (std::size_t n = 1; n <= 4100; n += n < 80 ? 1 : n < 300 ? 23 : 1237) {
    for (std::size_t offset = 0; offset < 16; ++offset) {
      const std::vector<T> z = mixed_row<T>(++seed, n);
      const auto options = with_store<Of>(stores[seed % std::size(stores)]);
      const std::vector<T> y = result<Arch, Of>(z);
      const std::string where = name_of<Arch, Of>("offset " + std::to_string(offset));
      std::vector<T> from(n + 16, T(5));
      std::copy(z.begin(), z.end(), from.begin() + static_cast<std::ptrdiff_t>(offset));
      std::vector<T> to(n + 17, T(5));
      T* const out = to.data() + (offset * 3 + 1) % 16;
      Of::template run<Arch>(xs::vector_view<const T>(from.data() + offset, n), xs::vector_view<T>(out, n), options);
      expect_same_row(found, z, y.data(), out, where);
      found.expect(out[n] == T(5) && (out == to.data() || out[-1] == T(5)), [&] { return where + ": wrote beside"; });
      const xs::vector_view<T> view(from.data() + offset, n);
      Of::template run<Arch>(view, view, options);
      expect_same_row(found, z, y.data(), from.data() + offset, where + ", in place");
      found.expect(from[offset + n] == T(5) || n + offset == from.size(), [&] { return where + ": wrote beside"; });

      // Apart, and backwards.
      for (const std::ptrdiff_t stride : {2, 5, -1, -3}) {
        const auto reach = static_cast<std::size_t>(std::abs(stride)) * (n - 1) + 1;
        std::vector<T> apart(reach, T(5));
        T* const first = stride < 0 ? apart.data() + reach - 1 : apart.data();
        for (std::size_t i = 0; i < n; ++i) {
          first[static_cast<std::ptrdiff_t>(i) * stride] = z[i];
        }
        std::vector<T> into(n, T(5));
        const xs::vector_view<T> strided(first, n, stride);
        Of::template run<Arch>(strided, into, options);
        expect_same_row(found, z, y.data(), into.data(), where + ", stride " + std::to_string(stride));
        Of::template run<Arch>(strided, strided, options);
        bool between = true;
        for (std::size_t i = 0; i < n; ++i) {
          into[i] = first[static_cast<std::ptrdiff_t>(i) * stride];
          first[static_cast<std::ptrdiff_t>(i) * stride] = T(5);
        }
        for (const T x : apart) {
          between = between && x == T(5);
        }
        expect_same_row(found, z, y.data(), into.data(), where + ", in place, stride " + std::to_string(stride));
        found.expect(between, [&] { return where + ": wrote between the elements"; });
      }

      // Padding does not count, nor does it get weight.
      const std::size_t more = offset < 12 ? 1 + offset * 5 : 700 * offset;
      std::vector<T> padded = z;
      padded.resize(n + more, masked);
      const std::vector<T> of_padded = result<Arch, Of>(padded, options);
      expect_same_row(found, z, y.data(), of_padded.data(), where + ", padded by " + std::to_string(more));
      found.expect(
          std::all_of(of_padded.begin() + static_cast<std::ptrdiff_t>(n), of_padded.end(),
                      [&](T x) { return std::isnan(y[0]) ? std::isnan(x) : bits(x) == bits(Of::template masked<T>); }),
          [&] { return where + ": padding has weight; " + describe_row(z); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: matrices of every layout have the bits of their rows",
                        "[stablemax][invariance][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 0;
  for (const std::size_t rows : {1u, 2u, 7u, 16u, 33u, 65u, 130u}) {
    for (const std::size_t cols : {1u, 3u, 16u, 33u, 64u, 100u, 257u, 2100u, 4500u}) {
      if (rows * cols > 30000 || (cols > 2000 && rows > 7)) {
        continue;
      }
      for (const bool plain : {true, false}) { // without rows that have to be left to others
        std::vector<std::vector<T>> z(rows);
        std::vector<std::vector<T>> alone(rows);
        for (std::size_t r = 0; r < rows; ++r) {
          ++seed;
          z[r] = plain ? make_row<T>(r % 3 == 0 ? row_kind::masked : row_kind::normal, cols, seed)
                       : mixed_row<T>(seed, cols);
          alone[r] = result<Arch, Of>(z[r]);
        }
        const std::vector<layout> layouts = layouts_of(rows, cols);
        for (std::size_t l = 0; l < layouts.size(); ++l) {
          for (const layout& to : {layouts[l], layouts[(l * 3 + 1) % layouts.size()]}) {
            const auto options = with_store<Of>(stores[(seed + l) % std::size(stores)]);
            laid_out<T> in(rows, cols, layouts[l], seed % 3);
            laid_out<T> out(rows, cols, to, l);
            for (std::size_t r = 0; r < rows; ++r) {
              for (std::size_t c = 0; c < cols; ++c) {
                in.at(r, c) = z[r][c];
              }
            }
            const auto check = [&](laid_out<T>& matrix, const std::string& what) {
              const std::string where = name_of<Arch, Of>(what + " from " + layouts[l].what);
              std::vector<T> y(cols);
              for (std::size_t r = 0; r < rows; ++r) {
                for (std::size_t c = 0; c < cols; ++c) {
                  y[c] = matrix.at(r, c);
                }
                expect_same_row(found, z[r], alone[r].data(), y.data(), where + ", row " + std::to_string(r));
              }
              found.expect(matrix.untouched_between(), [&] { return where + ": wrote between the elements"; });
            };
            Of::template run<Arch>(in.view(), out.view(), options);
            check(out, to.what);
            Of::template run<Arch>(in.view(), in.view(), options);
            check(in, "in place");
          }
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: columns have the bits of rows", "[stablemax][columns][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 100;
  for (const std::size_t rows : {3u, 8u, 15u, 16u, 17u, 32u, 63u, 64u, 65u, 128u, 129u, 300u}) {
    for (const std::size_t n : {1u, 2u, 15u, 16u, 17u, 31u, 32u, 33u, 48u, 100u, 2049u}) {
      if (n > 1000 && rows % 16 != 1) {
        continue;
      }
      for (const int sort : {0, 1, 2}) { // ordinary rows; one that is not; of all kinds
        std::vector<std::vector<T>> z(rows);
        for (std::size_t r = 0; r < rows; ++r) {
          ++seed;
          z[r] = sort == 2 || (sort == 1 && r == seed % 3) ? mixed_row<T>(seed, n)
                                                           : make_row<T>(row_kind::normal, n, seed);
        }
        // Aligned to lines, as streaming stores need, or not.
        const std::size_t padding = sort == 1 ? (16 - rows % 16) % 16 : seed % 4;
        const std::size_t stride = rows + padding;
        const std::size_t offset = sort == 2 ? seed % 5 : 0;
        std::vector<T> in(n * stride + offset, std::numeric_limits<T>::quiet_NaN());
        std::vector<T> room(in.size() + 64 / sizeof(T), T(-7));
        T* const out = room.data() + (64 - reinterpret_cast<std::uintptr_t>(room.data()) % 64) % 64 / sizeof(T);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t i = 0; i < n; ++i) {
            in[offset + i * stride + r] = z[r][i];
          }
        }
        const auto options = with_store<Of>(sort == 0 ? xs::store_kind::automatic : xs::store_kind::streaming);
        const auto view = [&](T* data) {
          return xs::matrix_view<T>(data + offset, n, rows, static_cast<std::ptrdiff_t>(stride)).transposed();
        };
        Of::template run<Arch>(view(in.data()), view(out), options);
        Of::template run<Arch>(view(in.data()), view(in.data()), options);
        std::vector<T> column(n);
        for (std::size_t r = 0; r < rows; ++r) {
          const std::vector<T> alone = result<Arch, Of>(z[r]);
          const std::string where = name_of<Arch, Of>("row " + std::to_string(r) + " of " + std::to_string(rows));
          for (const T* matrix : {static_cast<const T*>(out), static_cast<const T*>(in.data())}) {
            for (std::size_t i = 0; i < n; ++i) {
              column[i] = matrix[offset + i * stride + r];
            }
            expect_same_row(found, z[r], alone.data(), column.data(), where + (matrix == out ? "" : ", in place"));
          }
        }
        bool between = true;
        for (std::size_t i = 0; i < n; ++i) {
          for (std::size_t r = rows; r < stride; ++r) {
            between = between && out[offset + i * stride + r] == T(-7);
          }
        }
        found.expect(between, [] { return "an element between the rows was written"; });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: short rows in company have the bits of each alone", "[stablemax][groups][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto expect_as_alone = [&](const std::vector<std::vector<T>>& z, std::size_t n, std::ptrdiff_t padding) {
    const layout apart{"padded", static_cast<std::ptrdiff_t>(n) + padding, 1};
    laid_out<T> in(z.size(), n, apart, 3);
    laid_out<T> out(z.size(), n, apart, 3);
    for (std::size_t r = 0; r < z.size(); ++r) {
      std::copy(z[r].begin(), z[r].end(), &in.at(r, 0));
    }
    Of::template run<Arch>(in.view(), out.view());
    Of::template run<Arch>(in.view(), in.view());
    for (std::size_t r = 0; r < z.size(); ++r) {
      const std::vector<T> alone = result<Arch, Of>(z[r]);
      const std::string where = name_of<Arch, Of>("row " + std::to_string(r) + " of " + std::to_string(z.size()));
      expect_same_row(found, z[r], alone.data(), &out.at(r, 0), where);
      expect_same_row(found, z[r], alone.data(), &in.at(r, 0), where + ", in place");
    }
    found.expect(in.untouched_between() && out.untouched_between(),
                 [&] { return name_of<Arch, Of>("wrote between the rows, n = " + std::to_string(n)); });
  };
  for (std::size_t n = 1; n <= 200; n += n < 70 ? 1 : 13) {
    for (const std::size_t rows : {7u, 8u, 9u, 27u}) {
      std::vector<std::vector<T>> z;
      for (std::size_t r = 0; r < rows; ++r) {
        z.push_back(make_row<T>(row_kind::normal, n, r + rows));
      }
      const std::ptrdiff_t padding = n % 2 == 0 ? 0 : 3;
      expect_as_alone(z, n, padding);
      // One row of another kind, at every place in turn.
      const std::size_t odd = (n * 5 + rows) % rows;
      for (const std::uint64_t kind : {n, n + 11, n + 22}) {
        z[odd] = make_any_row<T>(kind + rows, n, n);
        expect_as_alone(z, n, padding);
      }
      z[odd].assign(n, n % 2 == 0 ? std::numeric_limits<T>::infinity() : -std::numeric_limits<T>::infinity());
      expect_as_alone(z, n, padding);
      z[odd][n / 2] = std::numeric_limits<T>::quiet_NaN();
      expect_as_alone(z, n, padding);
      z[odd] = make_row<T>(n % 2 == 0 ? stable_row_kind::largest : stable_row_kind::lowest, n, n);
      expect_as_alone(z, n, padding);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: reads and writes nothing beyond its rows", "[stablemax][memory][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t n = 1; n <= 4200; n += n < 140 ? 1 : n < 2060 ? 97 : 1024) {
    for (const flush_with side : {flush_with::front, flush_with::back}) {
      guarded_buffer<T> in(n, side);
      guarded_buffer<T> out(n, side);
      for (const std::uint64_t number : {std::uint64_t{1}, std::uint64_t{13}, std::uint64_t{18}, std::uint64_t{23}}) {
        const std::vector<T> z = mixed_row<T>(number, n);
        const auto options = with_store<Of>(stores[(n + number) % std::size(stores)]);
        const std::vector<T> y = result<Arch, Of>(z, options);
        std::copy(z.begin(), z.end(), in.data());
        Of::template run<Arch>(xs::vector_view<const T>(in.data(), n), xs::vector_view<T>(out.data(), n), options);
        expect_same_row(found, z, y.data(), out.data(), "between guards");
        // Columns and short rows of a matrix.
        for (const std::size_t cols : {2u, 5u, 16u, 33u}) {
          if (n % cols == 0) {
            const xs::matrix_view<const T> from(in.data(), n / cols, cols);
            const xs::matrix_view<T> to(out.data(), n / cols, cols);
            Of::template run<Arch>(from, to, options);
            Of::template run<Arch>(from.transposed(), to.transposed(), options);
          }
        }
        const std::size_t half = (n + 1) / 2;
        Of::template run<Arch>(xs::vector_view<const T>(in.data(), half, 2), xs::vector_view<T>(out.data(), half, 2),
                               options);
        const xs::vector_view<T> view(in.data(), n);
        Of::template run<Arch>(view, view, options);
        expect_same_row(found, z, y.data(), in.data(), "between guards, in place");
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: an executor changes no bit of a matrix", "[stablemax][executor][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t turn = 0;
  struct shape {
    std::size_t rows;
    std::size_t cols;
  };
  for (const shape& s :
       {shape{0, 5}, shape{5, 0}, shape{1, 40}, shape{300, 33}, shape{40, 1000}, shape{3, 20000}, shape{4000, 9}}) {
    std::vector<std::vector<T>> z(s.rows);
    for (std::size_t r = 0; r < s.rows; ++r) {
      z[r] = mixed_row<T>(r + s.cols, s.cols);
    }
    const std::vector<layout> layouts = layouts_of(s.rows, s.cols);
    for (const named_executor& executor : every_executor()) {
      const layout& l = layouts[turn++ % layouts.size()];
      if (s.rows == 0 || s.cols == 0) {
        std::vector<T> none;
        const xs::matrix_view<T> view(none.data(), s.rows, s.cols);
        Of::template run<Arch>(executor.run, view, view);
        continue;
      }
      laid_out<T> in(s.rows, s.cols, l);
      laid_out<T> out(s.rows, s.cols, l);
      laid_out<T> expected(s.rows, s.cols, l);
      for (std::size_t r = 0; r < s.rows; ++r) {
        for (std::size_t c = 0; c < s.cols; ++c) {
          in.at(r, c) = z[r][c];
        }
      }
      Of::template run<Arch>(in.view(), expected.view());
      Of::template run<Arch>(executor.run, in.view(), out.view());
      Of::template run<Arch>(executor.run, in.view(), in.view());
      bool same = true;
      for (std::size_t r = 0; r < s.rows; ++r) {
        for (std::size_t c = 0; c < s.cols; ++c) {
          same = same && first_difference(&expected.at(r, c), &out.at(r, c), 1) == 1 &&
                 first_difference(&expected.at(r, c), &in.at(r, c), 1) == 1;
        }
      }
      found.expect(same && out.untouched_between() && in.untouched_between(), [&] {
        return name_of<Arch, Of>(executor.name) + ", " + std::to_string(s.rows) + " x " + std::to_string(s.cols) +
               ", " + l.what;
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: a long row is cut, and its bits stay", "[stablemax][executor][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  std::size_t turn = 0;
  const std::vector<named_executor> executors = every_executor();
  for (const std::size_t n : {std::size_t{131072}, std::size_t{150001}}) {
    std::vector<std::vector<T>> rows;
    for (const row_kind kind : {row_kind::normal, row_kind::masked, row_kind::enormous, row_kind::finite_mask}) {
      rows.push_back(make_row<T>(kind, n, 9));
    }
    for (const stable_row_kind kind : {stable_row_kind::largest, stable_row_kind::lowest, stable_row_kind::exponents,
                                       stable_row_kind::absorbed, stable_row_kind::dominated_below}) {
      rows.push_back(make_row<T>(kind, n, 9));
    }
    // One element that makes the row special, in some part; nothing in the others.
    for (const T x : {limits::quiet_NaN(), limits::infinity(), limits::max(), limits::lowest()}) {
      rows.push_back(rows[0]);
      rows.back()[n - 5] = x;
      rows.emplace_back(n, -limits::infinity());
      rows.back()[n / 3] = x;
    }
    rows.emplace_back(n, -limits::infinity());
    rows.push_back(rows[1]);
    std::fill_n(rows.back().begin(), 40000, -limits::infinity());
    rows.push_back(rows[0]);
    std::fill_n(rows.back().begin() + 33000, 60000, limits::lowest());
    for (const std::vector<T>& z : rows) {
      ++turn;
      const named_executor& executor = executors[turn % executors.size()];
      std::size_t most_bodies = 0;
      const auto run = [&](std::size_t count, const auto& body) {
        most_bodies = count > most_bodies ? count : most_bodies;
        executor.run(count, body);
      };
      const auto options = with_policy<Of>(turn % 2 == 0 ? policy::nan : policy::zero);
      const std::vector<T> y = result<Arch, Of>(z, options);
      std::vector<T> shared(n, T(7));
      Of::template run<Arch>(run, z, shared, options);
      expect_same_row(found, z, y.data(), shared.data(), name_of<Arch, Of>(executor.name));
      std::vector<T> in_place = z;
      Of::template run<Arch>(run, in_place, in_place, options);
      expect_same_row(found, z, y.data(), in_place.data(), name_of<Arch, Of>(executor.name + ", in place"));
      found.expect(most_bodies == (n + 32767) / 32768, [] { return "the row was not cut"; });
      // Every second element of a row twice as long.
      if (turn % 4 == 0) {
        std::vector<T> apart(2 * n);
        for (std::size_t i = 0; i < n; ++i) {
          apart[2 * i] = z[i];
        }
        const xs::vector_view<T> view(apart.data(), n, 2);
        Of::template run<Arch>(run, view, view, options);
        for (std::size_t i = 0; i < n; ++i) {
          shared[i] = apart[2 * i];
        }
        expect_same_row(found, z, y.data(), shared.data(), name_of<Arch, Of>(executor.name + ", apart"));
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax: flush-to-zero takes subnormal results and nothing else", "[stablemax][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t flushed = 0;
  const auto check = [&](const std::string& kind, const std::vector<T>& z, std::uint64_t control) {
    std::vector<T> expected = result<Arch, Of>(z);
    std::vector<T> y;
    {
      const flushing scope(control);
      y = result<Arch, Of>(z);
    }
    for (T& x : expected) {
      if (std::fpclassify(x) == FP_SUBNORMAL) {
        ++flushed;
        x = std::copysign(T(0), x);
      }
    }
    if constexpr (Of::logarithmic) { // the sign of a zero
      for (std::size_t i = 0; i < z.size(); ++i) {
        y[i] = y[i] == 0 && expected[i] == 0 ? expected[i] : y[i];
      }
    }
    expect_same_row(found, z, expected.data(), y.data(), name_of<Arch, Of>(kind + ", flushed"));
  };
  for (const std::size_t n : {1u, 2u, 5u, 16u, 40u, 100u, 257u, 1000u, 2060u, 5000u}) {
    for_each_row<T>(n, 10, [&](const std::string& kind, const std::vector<T>& z) {
      check(kind, z, flush_to_zero);
      const bool subnormal_logits =
          std::any_of(z.begin(), z.end(), [](T x) { return std::fpclassify(x) == FP_SUBNORMAL; });
      if (!subnormal_logits) { // what those mean is the caller's choice
        check(kind, z, flush_to_zero | denormals_are_zero);
      }
    });
  }
  // Results on both sides of the smallest normal number.
  for (int octave = -30; octave <= 4; ++octave) {
    for (const T factor : {T(1), T(1.3), T(1.99)}) {
      const int end = std::numeric_limits<T>::max_exponent - 2;
      const std::vector<T> z = {std::ldexp(T(1.25), end), -std::ldexp(factor, -octave - 1), std::ldexp(T(-1.5), 4)};
      check("small results", z, flush_to_zero | denormals_are_zero);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  CHECK(flushed > 0);
}

#if defined(XSOFTMAX_DISPATCH_AVX2) && defined(XSOFTMAX_DISPATCH_AVX512)

TEMPLATE_LIST_TEST_CASE("stablemax: avx2 and avx512 give the same bits", "[stablemax][invariance][unit]", scalars) {
  using T = TestType;
  if (!runnable<xs::arch::avx2>() || !runnable<xs::arch::avx512>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u, 3u, 7u, 16u, 33u, 64u, 100u, 257u, 1025u, 2049u, 10000u}) {
    for_each_row<T>(n, 11, [&](const std::string& kind, const std::vector<T>& z) {
      const auto check = [&]<class Of>(Of) {
        expect_same_row(found, z, result<xs::arch::avx2, Of>(z).data(), result<xs::arch::avx512, Of>(z).data(),
                        std::string(Of::name) + ", " + kind);
      };
      check(of_stablemax{});
      check(of_log_stablemax{});
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#endif

TEMPLATE_LIST_TEST_CASE(
    "stablemax: the bits do not depend on compiler, flags or, with fused multiply-add, architecture",
    "[stablemax][invariance][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  hash digest;
  std::uint64_t seed = 0;
  constexpr int end = std::numeric_limits<T>::max_exponent;
  for (const std::size_t n : {1u, 3u, 16u, 40u, 100u, 257u, 1030u, 2049u, 5000u}) {
    for (const int spread_bits : {-4, 2, 6, 8, 13, 20}) {
      std::vector<T> z = make_dyadic_row<T>(n, ++seed, spread_bits, 10);
      digest.add(result<Arch, Of>(z));
      z[seed % n] = -std::numeric_limits<T>::infinity();
      digest.add(result<Arch, Of>(z));
    }
    // Of every size.
    for (const int octave : {-end, -40, 20, end / 3, end / 2, end - 3}) {
      std::vector<T> z = make_dyadic_row<T>(n, ++seed, 2, 10);
      for (T& x : z) {
        x = std::ldexp(x, octave);
      }
      digest.add(result<Arch, Of>(z));
      for (T& x : z) {
        x = -std::fabs(x);
      }
      digest.add(result<Arch, Of>(z));
      z[n / 2] = 1;
      digest.add(result<Arch, Of>(z));
    }
  }
  // A change of a kernel's arithmetic changes these numbers; nothing else may. (Without fused multiply-add, too, most
  // of these rows give the same bits.)
  constexpr bool single = std::is_same_v<T, float>;
  const std::uint64_t golden = !Of::logarithmic               ? (single ? 0x5dd998bf3c70bb4eu : 0x3108714bf2f9028fu)
                               : single                       ? 0x4a98fa07166af11eu
                               : has_fused_multiply_add<Arch> ? 0x2d806b8993f3a29du
                                                              : 0xceba9e69f6e37d88u;
  CAPTURE(Arch::name, Of::name, scalar_name<T>());
  CHECK(digest.value() == golden);
}

namespace {

template <class In, class Out>
struct formats {
  using in = In;
  using out = Out;
};

using format_pairs = std::tuple<formats<xs::float16, xs::float16>, formats<xs::bfloat16, xs::bfloat16>,
                                formats<xs::float16, float>, formats<xs::bfloat16, float>, formats<float, xs::float16>,
                                formats<float, xs::bfloat16>, formats<xs::float16, xs::bfloat16>>;

/// The bits of a number, all NaN alike.
template <class Number>
std::uint32_t pattern(Number x) {
  if (std::isnan(float(x))) {
    return 0xFFFFFFFFu;
  }
  if constexpr (std::is_same_v<Number, float>) {
    return bits(x);
  } else {
    return x.bits();
  }
}

/// A matrix of logits in In, in a layout, results in Out: each the rounded result in float. In place where the types
/// are the same.
template <class Arch, class Of, class In, class Out>
void expect_rounded(findings& found, std::size_t rows, std::size_t n, std::uint64_t seed, const layout& shape,
                    const layout& to) {
  const auto start = [&](const layout& l) {
    return (l.row_stride < 0 ? -l.row_stride * (static_cast<std::ptrdiff_t>(rows) - 1) : 0) +
           (l.col_stride < 0 ? -l.col_stride * (static_cast<std::ptrdiff_t>(n) - 1) : 0);
  };
  const auto extent = [&](const layout& l) {
    return static_cast<std::size_t>(std::abs(l.row_stride) * (static_cast<std::ptrdiff_t>(rows) - 1) +
                                    std::abs(l.col_stride) * (static_cast<std::ptrdiff_t>(n) - 1) + 1);
  };
  const auto at = [](auto& storage, const layout& l, std::ptrdiff_t first, std::size_t r, std::size_t c) -> auto& {
    return storage[static_cast<std::size_t>(first + static_cast<std::ptrdiff_t>(r) * l.row_stride +
                                            static_cast<std::ptrdiff_t>(c) * l.col_stride)];
  };
  std::vector<In> z(extent(shape), In(3.0F));
  std::vector<Out> y(extent(to), Out(-7.0F));
  std::vector<std::vector<float>> wide(rows);
  for (std::size_t r = 0; r < rows; ++r) {
    wide[r] = mixed_row<float>(seed + r, n);
    for (std::size_t c = 0; c < n; ++c) {
      const In x(wide[r][c]);
      wide[r][c] = float(x);
      at(z, shape, start(shape), r, c) = x;
    }
  }
  const xs::matrix_view<In> from(z.data() + start(shape), rows, n, shape.row_stride, shape.col_stride);
  Of::template run<Arch>(from, xs::matrix_view<Out>(y.data() + start(to), rows, n, to.row_stride, to.col_stride),
                         with_store<Of>(stores[seed % std::size(stores)]));
  if constexpr (std::is_same_v<In, Out>) {
    Of::template run<Arch>(from, from, with_store<Of>(stores[seed % std::size(stores)]));
  }
  std::size_t changed = 0; // of what lies between the elements
  for (const Out x : y) {
    changed += pattern(x) != pattern(Out(-7.0F));
  }
  std::size_t elements = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::vector<float> exact = result<Arch, Of>(wide[r]);
    for (std::size_t c = 0; c < n; ++c) {
      const Out got = at(y, to, start(to), r, c);
      elements += pattern(got) != pattern(Out(-7.0F));
      bool right = pattern(got) == pattern(Out(exact[c]));
      if constexpr (std::is_same_v<In, Out>) {
        right = right && pattern(at(z, shape, start(shape), r, c)) == pattern(Out(exact[c]));
      }
      found.expect(right, [&] {
        return name_of<Arch, Of>(std::string(shape.what) + " to " + to.what) + ", " + std::to_string(rows) +
               " rows: element " + std::to_string(c) + " is " + exact_text(float(got)) + ", not " +
               exact_text(float(Out(exact[c]))) + "; " + describe_row(wide[r]);
      });
    }
  }
  found.expect(changed == elements, [] { return "wrote between the elements"; });
}

} // namespace

TEMPLATE_LIST_TEST_CASE("stablemax of halves: float arithmetic, rounded once", "[stablemax][half][unit]",
                        format_pairs) {
  using In = typename TestType::in;
  using Out = typename TestType::out;
  for_each_architecture([&]<class Arch>(Arch) {
    findings found;
    std::uint64_t seed = 0;
    const auto check = [&](std::size_t rows, std::size_t n, const layout& from, const layout& to) {
      seed += 1 + rows;
      expect_rounded<Arch, of_stablemax, In, Out>(found, rows, n, seed, from, to);
      expect_rounded<Arch, of_log_stablemax, In, Out>(found, rows, n, seed, from, to);
    };
    for (std::size_t n = 1; n <= 260; n += n < 70 ? 1 : 19) {
      const layout dense{"dense", static_cast<std::ptrdiff_t>(n), 1};
      check(11, n, dense, dense);
    }
    for (const std::size_t n : {2047u, 2048u, 2049u, 4500u, 8193u}) {
      for (const layout& l : layouts_of(1, n)) {
        check(1, n, l, layouts_of(1, n)[0]);
      }
    }
    for (const std::size_t rows : {5u, 16u, 31u, 129u}) {
      for (const std::size_t n : {1u, 16u, 40u, 101u}) {
        const std::vector<layout> layouts = layouts_of(rows, n);
        for (std::size_t l = 0; l < layouts.size(); ++l) {
          check(rows, n, layouts[l], layouts[(l * 3) % layouts.size()]);
        }
      }
    }
    INFO(Arch::name);
    XSOFTMAX_CHECK_FINDINGS(found);
  });
}

TEST_CASE("stablemax: mistaken arguments are refused before anything is written", "[stablemax][errors][unit]") {
  const auto refusal = [](auto&& body) {
    try {
      body();
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto contains = [](const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
  };
  const auto check = [&]<class Of>(Of) {
    using Arch = xs::default_arch;
    const std::string function = std::string("xsoftmax::") + Of::name + ":";
    const std::string output = Of::output;
    const std::vector<float> z(12, 1.0f);
    std::vector<float> y(11, 3.0f);
    const auto in_turn = [](std::size_t count, const auto& body) {
      for (std::size_t i = 0; i < count; ++i) {
        body(i);
      }
    };
    std::string text = refusal([&] { Of::template run<Arch>(z, y); });
    CAPTURE(text);
    CHECK(contains(text, function));
    CHECK(contains(text, "z = 12, " + output + " = 11"));
    text = refusal([&] { Of::template run<Arch>(in_turn, z, y); });
    CHECK(contains(text, function));
    CHECK(contains(text, "z = 12, " + output + " = 11"));
    const xs::matrix_view<const float> three(z.data(), 3, 4);
    std::vector<float> square(12, 3.0f);
    text = refusal([&] { Of::template run<Arch>(three, xs::matrix_view<float>(square.data(), 4, 3)); });
    CHECK(contains(text, function));
    CHECK(contains(text, "rows"));
    CHECK(contains(text, "z = 3, " + output + " = 4"));
    // Overlap that is not the same.
    std::vector<float> both(20, 3.0f);
    const xs::vector_view<float> low(both.data(), 12);
    const xs::vector_view<float> high(both.data() + 5, 12);
    for (const auto& [from, to] : {std::pair(low, high), std::pair(high, low)}) {
      text = refusal([&, &from = from, &to = to] { Of::template run<Arch>(from, to); });
      CHECK(contains(text, function));
      CHECK(contains(text, output + " overlaps z"));
    }
    const xs::matrix_view<float> matrix(both.data(), 3, 4, 6);
    const xs::matrix_view<float> beside(both.data() + 1, 3, 4, 6);
    CHECK(contains(refusal([&] { Of::template run<Arch>(matrix, beside); }), output + " overlaps z"));
    // A half in the place of a float.
    auto* const halves = reinterpret_cast<xs::bfloat16*>(both.data());
    CHECK(contains(refusal([&] { Of::template run<Arch>(low, xs::vector_view<xs::bfloat16>(halves, 12)); }),
                   output + " overlaps z"));
    const auto untouched = [](float x) { return x == 3; };
    CHECK(std::all_of(y.begin(), y.end(), untouched));
    CHECK(std::all_of(square.begin(), square.end(), untouched));
    CHECK(std::all_of(both.begin(), both.end(), untouched));
    // Apart, if close.
    std::vector<float> blocks(6 * 16);
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      blocks[i] = static_cast<float>(i % 7) * 0.5f - 1;
    }
    Of::template run<Arch>(xs::matrix_view<const float>(blocks.data(), 6, 8, 16),
                           xs::matrix_view<float>(blocks.data() + 8, 6, 8, 16));
    for (std::size_t r = 0; r < 6; ++r) {
      const float* const row = blocks.data() + 16 * r;
      CHECK(Of::template run<Arch>(std::vector<float>(row, row + 8)) == std::vector<float>(row + 8, row + 16));
    }
  };
  check(of_stablemax{});
  check(of_log_stablemax{});
}

TEMPLATE_LIST_TEST_CASE("stablemax: the rows that its documentation names are as far off as it says",
                        "[stablemax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr bool single = std::is_same_v<T, float>;
  const std::vector<T> z = single ? std::vector<T>{T(-0x1.cfffdep-5), T(-0x1.e502cep+3)}
                                  : std::vector<T>{T(0x1.c0750ebc49b73p+2), T(-0x1.afd8a1fa61dc1p+4),
                                                   T(-0x1.36a764a49a15p+3), T(-0x1.c5803546e2c0bp+2)};
  long double sum = 0;
  for (const T x : z) {
    sum += wide::stable_weight(x);
  }
  std::vector<T> p(z.size());
  xs::stablemax<Arch>(z, p);
  const double off = ulp_distance(p.back(), wide::stable_weight(z.back()) / sum);
  CAPTURE(Arch::name, scalar_name<T>());
  CHECK(off > (single ? 3.05 : 2.84));
  CHECK(off < (single ? 3.07 : 2.86));
}

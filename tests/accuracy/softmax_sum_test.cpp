// SPDX-License-Identifier: MIT
// Sums and probabilities of rows made to break sums: up to 10^8 elements, logits at the point where a running sum
// absorbs them, in every lane and block position.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Lanes and block length of the library's summation tree.
template <class T>
inline constexpr std::size_t lanes = std::is_same_v<T, float> ? 16 : 8;
template <class T>
inline constexpr std::size_t block = std::is_same_v<T, float> ? 2048 : 1024;

/// The exact normaliser of a long row, equal logits counted together.
template <class T>
class long_row_reference {
public:
  explicit long_row_reference(const std::vector<T>& z) : maximum_(*std::max_element(z.begin(), z.end())) {
    std::map<T, std::uint64_t> counts;
    for (std::size_t i = 0; i < z.size() && counts.size() <= 64; ++i) {
      ++counts[z[i]];
    }
    if (counts.size() <= 64) {
      for (const auto& [x, count] : counts) {
        total_.add(static_cast<long double>(count) * wide::shifted_exp(x, maximum_, 1));
      }
    } else {
      for (const T x : z) {
        total_.add(wide::shifted_exp(x, maximum_, 1));
      }
    }
  }

  [[nodiscard]] long double probability(T x) const { return wide::shifted_exp(x, maximum_, 1) / total_.value(); }

private:
  long double maximum_;
  wide::accumulator total_;
};

/// |sum p - 1| in units of 2^-digits.
template <class T>
double sum_error(const std::vector<T>& p) {
  wide::accumulator total;
  for (const T x : p) {
    total.add(x);
  }
  total.add(-1);
  return static_cast<double>(std::fabs(total.value()) * std::ldexp(1.0L, std::numeric_limits<T>::digits));
}

struct worst_sum {
  double units = 0;
  std::string witness;
};

/// Sum and a sample of the probabilities (every element where the row has few).
template <class Arch, class T>
void expect_normalised(findings& found, const std::vector<T>& z, const std::vector<T>& p,
                       const long_row_reference<T>& exact, const std::string& what, worst_sum& worst) {
  const double off = sum_error(p);
  found.expect(off <= sum_bound, [&] {
    return std::string(Arch::name) + ": the sum is off by " + std::to_string(off) + " units; " + what;
  });
  if (off > worst.units) {
    worst.units = off;
    worst.witness = std::string(Arch::name) + ", " + scalar_name<T>() + ", " + what;
  }
  generator random(z.size());
  const std::size_t samples = std::min<std::size_t>(z.size(), 64);
  for (std::size_t k = 0; k < samples; ++k) {
    const std::size_t i = k == 0   ? static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin())
                          : k == 1 ? z.size() - 1
                                   : random.below(z.size());
    const double error = ulp_distance(p[i], exact.probability(z[i]));
    found.expect(error <= probability_bound, [&] {
      return std::string(Arch::name) + ": element " + std::to_string(i) + " is " + exact_text(p[i]) + ", off by " +
             std::to_string(error) + " ULP; " + what;
    });
  }
}

template <class T>
void report(const worst_sum& worst) {
  WARN(scalar_name<T>() << ": the worst sum is off by " << worst.units << " of 4 units (" << worst.witness << ")");
}

template <class T>
void check_long_rows(std::size_t n) {
  findings found;
  worst_sum worst;
  std::vector<T> z;
  std::vector<T> p(n);
  const auto check = [&](const std::string& what) {
    const long_row_reference<T> exact(z);
    for_each_architecture([&]<class Arch>(Arch) {
      for (const xs::softmax_algorithm algorithm :
           {xs::softmax_algorithm::two_pass, xs::softmax_algorithm::three_pass_reload, xs::softmax_algorithm::online}) {
        std::fill(p.begin(), p.end(), T(0));
        xs::softmax<Arch>(z, p, {.algorithm = algorithm});
        expect_normalised<Arch>(found, z, p, exact, what + ", n = " + std::to_string(n) + ", " + name(algorithm),
                                worst);
      }
    });
  };
  z = make_row<T>(row_kind::normal, n, 1);
  check("normal");
  z = make_row<T>(row_kind::constant, n, 2);
  check("constant");
  z = make_row<T>(row_kind::spikes, n, 3);
  check("a 0 per lane in each block");
  report<T>(worst);
  XSOFTMAX_CHECK_FINDINGS(found);
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: rows of 10^7", "[softmax][accuracy]", scalars) {
  check_long_rows<TestType>(10000000);
}

TEMPLATE_LIST_TEST_CASE("softmax: rows of 10^8", "[softmax][accuracy][.exhaustive]", scalars) {
  check_long_rows<TestType>(100000000);
}

TEMPLATE_LIST_TEST_CASE("softmax: a 0 per block in each lane and position, absorbable logits elsewhere",
                        "[softmax][accuracy]", scalars) {
  using T = TestType;
  constexpr std::size_t L = lanes<T>;
  constexpr std::size_t B = block<T>;
  findings found;
  worst_sum worst;
  const auto check = [&](std::size_t n, std::size_t first, std::size_t count, double gap) {
    std::vector<T> z(n);
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t at = i % B;
      z[i] = at >= first && at < first + count ? T(0) : static_cast<T>(-gap);
    }
    const long_row_reference<T> exact(z);
    for_each_architecture([&]<class Arch>(Arch) {
      const xs::softmax_options options{.algorithm = algorithms[(first + count) % 5]};
      expect_normalised<Arch>(found, z, probabilities<Arch>(z, options), exact,
                              std::to_string(count) + " zeros at " + std::to_string(first) +
                                  " of each block, n = " + std::to_string(n) + ", elsewhere -" + std::to_string(gap),
                              worst);
    });
  };
  for (std::size_t first = 0; first < B; first += L) { // one in every lane
    check(10 * B, first, L, absorbed<T>);
  }
  for (std::size_t first = 0; first < B; first += first < 2 * L ? 1 : 7) { // one lane alone
    check(4 * B, first, 1, absorbed<T>);
  }
  for (const std::size_t count : {2 * L, 4 * L, 8 * L}) { // where a wider machine might keep more lanes
    check(64 * B, 0, count, absorbed<T>);
    check(64 * B, B - count, count, absorbed<T>);
  }
  // The same at other depths: pairs, lanes, blocks and the total absorb at different gaps.
  for (double gap = 10; gap < (std::is_same_v<T, float> ? 22 : 44); gap += 0.35) {
    check(33 * B, 0, L, gap);
    check(9 * B, 5, 1, gap);
  }
  report<T>(worst);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: one large logit and many at the point of absorption", "[softmax][accuracy]",
                        scalars) {
  using T = TestType;
  constexpr double ln2 = 0.6931471805599453;
  findings found;
  worst_sum worst;
  // Each size of total that a term could vanish in: a pair or lane in T, and a sum in double.
  for (const double bits_below : {22.0, 23.0, 24.0, 25.0, 26.0, 51.0, 52.0, 53.0, 54.0, 55.0, 60.0}) {
    for (const double nudge : {-0.3, -0.01, 0.0, 0.01, 0.3}) {
      for (const std::size_t n : {2u, 3u, 100u, 5000u, 100000u}) {
        for (const std::size_t where : {std::size_t{0}, n / 2, n - 1}) {
          std::vector<T> z(n, static_cast<T>(-bits_below * ln2 + nudge));
          z[where] = 0;
          const long_row_reference<T> exact(z);
          for_each_architecture([&]<class Arch>(Arch) {
            const xs::softmax_options options{.algorithm = algorithms[(n + where) % 5]};
            expect_normalised<Arch>(found, z, probabilities<Arch>(z, options), exact,
                                    "one 0 at " + std::to_string(where) + ", elsewhere " +
                                        std::to_string(-bits_below * ln2 + nudge) + ", n = " + std::to_string(n),
                                    worst);
          });
        }
      }
    }
  }
  report<T>(worst);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: staircases whose every step has the same weight", "[softmax][accuracy]", scalars) {
  using T = TestType;
  findings found;
  worst_sum worst;
  for (const double ratio : {2.0, 3.0, 10.0, 1000.0}) {
    std::vector<T> z;
    double count = 1;
    for (int step = 0; z.size() + static_cast<std::size_t>(count) <= 1200000; ++step) {
      z.insert(z.end(), static_cast<std::size_t>(count), static_cast<T>(-step * std::log(ratio)));
      count *= ratio;
    }
    const auto check = [&](const char* order) {
      const long_row_reference<T> exact(z);
      for_each_architecture([&]<class Arch>(Arch) {
        for (const xs::softmax_algorithm algorithm : {xs::softmax_algorithm::three_pass_recompute,
                                                      xs::softmax_algorithm::two_pass, xs::softmax_algorithm::online}) {
          expect_normalised<Arch>(found, z, probabilities<Arch>(z, {.algorithm = algorithm}), exact,
                                  std::string(order) + " by " + std::to_string(ratio), worst);
        }
      });
    };
    check("descending");
    std::reverse(z.begin(), z.end());
    check("ascending");
    generator random(17);
    for (std::size_t i = z.size(); i > 1; --i) {
      std::swap(z[i - 1], z[random.below(i)]);
    }
    check("shuffled");
  }
  report<T>(worst);
  XSOFTMAX_CHECK_FINDINGS(found);
}

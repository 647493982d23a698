// SPDX-License-Identifier: MIT
// Search for the worst probability and the worst sum: over random rows, and uphill from them.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

struct errors {
  double ulp = 0;
  double sum = 0;
};

template <class T>
struct exact_row {
  exact_row(const std::vector<T>& z, const xs::softmax_options& options) : p(z.size()) {
    const reference_softmax<T> reference(
        z.data(), z.size(), {options.temperature, options.masked_row == xs::masked_row_policy::zero, options.sink});
    for (std::size_t i = 0; i < z.size(); ++i) {
      p[i] = reference.probability(i);
    }
    sink_share = reference.sink_share();
  }

  std::vector<long double> p;
  long double sink_share;
};

template <class Arch, class T>
errors measure(const std::vector<T>& z, const xs::softmax_options& options, const exact_row<T>& exact) {
  const std::vector<T> p = probabilities<Arch>(z, options);
  errors e;
  wide::accumulator total;
  for (std::size_t i = 0; i < z.size(); ++i) {
    e.ulp = std::max(e.ulp, ulp_distance(p[i], exact.p[i]));
    total.add(p[i]);
  }
  total.add(exact.sink_share);
  total.add(-1);
  e.sum = static_cast<double>(std::fabs(total.value()) * std::ldexp(1.0L, std::numeric_limits<T>::digits));
  return e;
}

/// Remembers the worst rows and prints them.
template <class T>
class record {
public:
  void add(const errors& e, const std::vector<T>& z, const xs::softmax_options& options) {
    ++rows_;
    if (e.ulp > worst_.ulp) {
      worst_.ulp = e.ulp;
      ulp_witness_ = describe(z, options);
    }
    if (e.sum > worst_.sum) {
      worst_.sum = e.sum;
      sum_witness_ = describe(z, options);
    }
  }

  void report(const std::string& arch) const {
    WARN(arch << ", " << scalar_name<T>() << ", " << rows_ << " rows: worst probability off by " << worst_.ulp
              << " ULP (" << ulp_witness_ << "); worst sum off by " << worst_.sum << " units (" << sum_witness_ << ")");
    CHECK(worst_.ulp <= probability_bound);
    CHECK(worst_.sum <= sum_bound);
    CHECK(rows_ > 0);
  }

private:
  errors worst_;
  std::string ulp_witness_;
  std::string sum_witness_;
  std::size_t rows_ = 0;
};

template <class T>
void search_at_random(std::size_t rows, std::uint64_t seed) {
  constexpr std::size_t count = std::tuple_size_v<architectures>;
  record<T> records[count];
  const char* names[count] = {};
  generator random(seed);
  for (std::size_t i = 0; i < rows; ++i) {
    const row_kind kind = row_kinds[random.below(std::size(row_kinds))];
    const std::size_t n = 1 + random.below(i % 64 == 0 ? 600 : 40);
    const std::vector<T> z = make_row<T>(kind, n, random.next());
    xs::softmax_options options{.algorithm = algorithms[i % std::size(algorithms)]};
    if (i % 3 == 1) {
      options.temperature = random.uniform(0.2, 5);
    } else if (i % 3 == 2) {
      options.temperature = std::exp2(random.uniform(-60, 60));
    }
    if (i % 7 == 3) {
      options.sink = random.uniform(-10, 10);
    }
    const exact_row<T> exact(z, options);
    std::size_t a = 0;
    for_each_architecture([&]<class Arch>(Arch) {
      records[a].add(measure<Arch>(z, options, exact), z, options);
      names[a++] = Arch::name;
    });
  }
  for (std::size_t a = 0; a < count; ++a) {
    if (names[a] != nullptr) {
      records[a].report(names[a]);
    }
  }
}

/// Changes logits one after another and keeps what makes the error larger.
template <class Arch, class T, class Error>
void climb(std::size_t restarts, std::size_t steps, Error error, std::uint64_t seed, record<T>& found) {
  generator random(seed);
  for (std::size_t restart = 0; restart < restarts; ++restart) {
    // Short rows have the fewest errors that could cancel; gaps over the whole range of results.
    const double reach = restart % 3 == 0 ? 2 : restart % 3 == 1 ? 30 : (std::is_same_v<T, float> ? 100 : 700);
    std::vector<T> z(2 + random.below(restart % 4 == 3 ? 40 : 4));
    const double centre = random.uniform(-reach, reach);
    for (T& x : z) {
      x = static_cast<T>(centre + random.uniform(-reach, 0));
    }
    xs::softmax_options options;
    if (restart % 4 == 2) {
      options.temperature = random.uniform(0.3, 3);
    }
    double best = 0;
    for (std::size_t step = 0; step < steps; ++step) {
      std::vector<T> changed = z;
      T& x = changed[random.below(changed.size())];
      switch (random.below(4)) {
      case 0: // anywhere
        x = static_cast<T>(centre + random.uniform(-reach, 0));
        break;
      case 1: // nearby
        x = static_cast<T>(static_cast<double>(x) + random.uniform(-0.05, 0.05));
        break;
      case 2: // next door
        x = std::nextafter(x, random.below(2) == 0 ? T(-1000) : T(1000));
        break;
      default: // another mantissa, the same magnitude
        x = static_cast<T>(static_cast<double>(x) * random.uniform(0.99, 1.01));
        break;
      }
      const exact_row<T> exact(changed, options);
      const errors e = measure<Arch>(changed, options, exact);
      found.add(e, changed, options);
      if (error(e) >= best) {
        best = error(e);
        z = changed;
      }
    }
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: the worst of random rows", "[softmax][accuracy]", scalars) {
  search_at_random<TestType>(220000, 1);
}

TEMPLATE_LIST_TEST_CASE("softmax: the worst of many random rows", "[softmax][accuracy][.exhaustive]", scalars) {
  search_at_random<TestType>(4000000, 2);
}

TEMPLATE_LIST_TEST_CASE("softmax: uphill to the worst probability and sum", "[softmax][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  record<T> found;
  climb<Arch, T>(
      60, 1200, [](const errors& e) { return e.ulp; }, 3, found);
  climb<Arch, T>(
      24, 1200, [](const errors& e) { return e.sum; }, 4, found);
  found.report(Arch::name);
}

TEMPLATE_LIST_TEST_CASE("softmax: further uphill", "[softmax][accuracy][.exhaustive]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  record<T> found;
  climb<Arch, T>(
      1000, 3000, [](const errors& e) { return e.ulp; }, 5, found);
  climb<Arch, T>(
      300, 3000, [](const errors& e) { return e.sum; }, 6, found);
  found.report(Arch::name);
}

// SPDX-License-Identifier: MIT
// Search for the worst log-probability and log-sum-exp: over random rows, and uphill from them.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/log_checks.hpp"
#include "../support/rows.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

struct worst {
  double error = 0;
  std::string witness;

  template <class T>
  void add(double e, const std::vector<T>& z, const xs::log_softmax_options& options) {
    if (e > error) {
      error = e;
      witness = describe(z, options);
    }
  }
};

/// Both errors of one row.
template <class Arch, class T>
class measure {
public:
  double operator()(const std::vector<T>& z, const xs::log_softmax_options& options, bool sum) {
    if (sum) {
      const double error = expect_right_log_sum_exp<Arch>(
          found, z, {.temperature = options.temperature, .sink = options.sink}, "search");
      log_sum_exp.add(error, z, options);
      return error;
    }
    const std::vector<T> y = log_probabilities<Arch>(z, options);
    const double error = expect_right_log(found, z, y.data(), options, Arch::name);
    log_softmax.add(error, z, options);
    return error;
  }

  void report() const {
    WARN(Arch::name << ", " << scalar_name<T>() << ", " << found.comparisons() << " rows: worst log-probability off by "
                    << log_softmax.error << " ULP (" << log_softmax.witness << "); worst log-sum-exp off by "
                    << log_sum_exp.error << " units (" << log_sum_exp.witness << ")");
    XSOFTMAX_CHECK_FINDINGS(found);
  }

private:
  findings found;
  worst log_softmax;
  worst log_sum_exp;
};

template <class Arch, class T>
void search_at_random(measure<Arch, T>& errors, std::size_t rows, std::uint64_t seed) {
  generator random(seed);
  for (std::size_t i = 0; i < rows; ++i) {
    const row_kind kind = row_kinds[random.below(std::size(row_kinds))];
    const std::size_t n = 1 + random.below(i % 64 == 0 ? 600 : 40);
    std::vector<T> z = make_row<T>(kind, n, random.next());
    xs::log_softmax_options options;
    if (i % 3 == 1) {
      options.temperature = random.uniform(0.2, 5);
    } else if (i % 3 == 2) {
      options.temperature = std::exp2(random.uniform(-70, 70));
    }
    if (i % 7 == 3) {
      options.sink = random.uniform(-10, 10);
    }
    errors(z, options, false);
    errors(z, options, true);
  }
}

/// Changes logits one after another and keeps what makes the error larger. With `sum` the rows are such that the
/// maximum and the logarithm of the sum nearly cancel, every other time.
template <class Arch, class T>
void climb(measure<Arch, T>& errors, bool sum, std::size_t restarts, std::size_t steps, std::uint64_t seed) {
  generator random(seed);
  for (std::size_t restart = 0; restart < restarts; ++restart) {
    const double reach = restart % 3 == 0 ? 2 : restart % 3 == 1 ? 30 : (sizeof(T) == 4 ? 100 : 700);
    std::vector<T> z(2 + random.below(restart % 4 == 3 ? 40 : 4));
    const double centre = sum && restart % 2 == 0 ? -random.uniform(0, 1) : random.uniform(-reach, reach);
    for (T& x : z) {
      x = static_cast<T>(centre + random.uniform(-reach, 0));
    }
    z[0] = static_cast<T>(centre);
    xs::log_softmax_options options;
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
      const double error = errors(changed, options, sum);
      if (error >= best) {
        best = error;
        z = changed;
      }
    }
  }
}

template <class Subject>
void search(std::size_t rows, std::size_t restarts, std::size_t steps, std::uint64_t seed) {
  using Arch = typename Subject::arch;
  using T = typename Subject::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  measure<Arch, T> errors;
  search_at_random(errors, rows, seed);
  climb(errors, false, restarts, steps, seed + 1);
  climb(errors, true, restarts, steps, seed + 2);
  errors.report();
}

} // namespace

TEMPLATE_LIST_TEST_CASE("log_softmax and log_sum_exp: the worst of a search", "[log_softmax][log_sum_exp][accuracy]",
                        subjects) {
  search<TestType>(30000, 60, 600, 21);
}

TEMPLATE_LIST_TEST_CASE("log_softmax and log_sum_exp: the worst of a long search",
                        "[log_softmax][log_sum_exp][accuracy][.exhaustive]", subjects) {
  search<TestType>(1000000, 1000, 3000, 31);
}

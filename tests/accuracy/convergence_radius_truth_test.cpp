// SPDX-License-Identifier: MIT
// The convergence radius on random problems of all sorts: bound <= tight bound <= exact radius; the tight bound by
// bisection and the exact radius by the argument principle, both in long double; and the Taylor series of the loss
// along the line, which converges inside and diverges outside.

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/partition_reference.hpp"
#include "../support/rows.hpp"
#include "../support/types.hpp"
#include "../support/ulp.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

using real = partition_reference::real;

enum class problem_kind {
  dense,          ///< slopes U(-1, 1), logits as a model's head gives
  clustered,      ///< slopes in a few clusters, 1e-6 to 1e-2 wide
  lattice,        ///< slopes of few integers, so that classes share them; logits often equal
  near_ties,      ///< logits equal but for their last places
  confident,      ///< one class far above the others
  huge_gaps,      ///< logits up to 1000 apart
  rare,           ///< classes of little weight and extreme slopes
  slope_near_tie, ///< two classes that agree in both but for the last places, and others
};

constexpr problem_kind problem_kinds[] = {problem_kind::dense,     problem_kind::clustered,     problem_kind::lattice,
                                          problem_kind::near_ties, problem_kind::confident,     problem_kind::huge_gaps,
                                          problem_kind::rare,      problem_kind::slope_near_tie};

const char* name(problem_kind kind) {
  constexpr const char* names[] = {"dense",     "clustered", "lattice", "near_ties",
                                   "confident", "huge_gaps", "rare",    "slope_near_tie"};
  return names[static_cast<int>(kind)];
}

/// 2 to 64 classes, slopes that spread over 1e-6 to 1e6, one in four away from 0; one in eight with another
/// temperature, one in eight with masked classes.
template <class T>
radius_problem<T> make_problem(problem_kind kind, std::uint64_t seed) {
  generator random(seed * 64 + static_cast<std::uint64_t>(kind));
  const std::size_t n = 2 + (random.below(2) == 0 ? random.below(7) : random.below(63));
  std::vector<double> z(n);
  std::vector<double> a(n);
  const double width = std::pow(10.0, random.uniform(-6, -2));
  const double level = random.uniform(1, 60);
  for (std::size_t k = 0; k < n; ++k) {
    z[k] = 3 * random.normal();
    a[k] = random.uniform(-1, 1);
    switch (kind) {
    case problem_kind::dense:
    case problem_kind::slope_near_tie:
      break;
    case problem_kind::clustered:
      a[k] = static_cast<double>(random.below(4)) + width * random.unit();
      break;
    case problem_kind::lattice:
      a[k] = static_cast<double>(random.below(5));
      z[k] = random.below(2) == 0 ? 0.0 : 0.5 * z[k];
      break;
    case problem_kind::near_ties:
      z[k] = 1.0 + static_cast<double>(random.below(3)) * static_cast<double>(std::numeric_limits<T>::epsilon());
      break;
    case problem_kind::confident:
      z[k] += k == 0 ? level : 0.0;
      break;
    case problem_kind::huge_gaps:
      z[k] = random.uniform(-1000, 0) * random.unit();
      break;
    case problem_kind::rare:
      if (random.below(3) == 0) {
        z[k] -= level;
        a[k] *= level * level;
      }
      break;
    }
  }
  if (kind == problem_kind::slope_near_tie) {
    z[1] = z[0] = 4 + level / 30;
    a[1] =
        a[0] * (1 + 4 * static_cast<double>(random.below(3)) * static_cast<double>(std::numeric_limits<T>::epsilon()));
  }
  const double factor = std::pow(10.0, random.uniform(-6, 6));
  const double middle = random.below(4) == 0 ? random.uniform(-5, 5) : 0.0;
  radius_problem<T> problem;
  for (std::size_t k = 0; k < n; ++k) {
    problem.z.push_back(static_cast<T>(z[k]));
    problem.a.push_back(static_cast<T>(factor * (a[k] + middle)));
  }
  if (random.below(8) == 0) {
    problem.temperature = std::pow(10.0, random.uniform(-1, 1));
  }
  if (random.below(8) == 0) {
    for (std::size_t k = 0; k < n; k += 1 + random.below(4)) {
      problem.z[k] = -std::numeric_limits<T>::infinity();
      problem.a[k] = random.below(2) == 0 ? std::numeric_limits<T>::quiet_NaN() : static_cast<T>(1e9);
    }
  }
  return problem;
}

template <class T>
bool has_spread(const radius_problem<T>& problem) {
  std::optional<T> first;
  for (std::size_t k = 0; k < problem.z.size(); ++k) {
    if (problem.z[k] != -std::numeric_limits<T>::infinity()) {
      if (first && *first != problem.a[k]) {
        return true;
      }
      first = problem.a[k];
    }
  }
  return false;
}

/// visit(kind, problem) for `count` of them.
template <class T, class Visit>
void each_problem(std::size_t count, std::uint64_t seed, const Visit& visit) {
  for (std::size_t i = 0; i < count; ++i) {
    const problem_kind kind = problem_kinds[i % std::size(problem_kinds)];
    const radius_problem<T> problem = make_problem<T>(kind, seed + i);
    visit(kind, problem);
  }
}

template <class T>
struct radii_of {
  explicit radii_of(const radius_problem<T>& p) {
    const xs::convergence_radius_options options{.temperature = p.temperature};
    bound = xs::convergence_radius_bound(p.z, p.a, options);
    tight = xs::convergence_radius_tight_bound(p.z, p.a, options);
    zero = xs::nearest_partition_zero(p.z, p.a, options);
    exact = xs::convergence_radius(p.z, p.a, options);
  }

  double bound;
  double tight;
  double exact;
  std::complex<double> zero;
};

} // namespace

TEMPLATE_TEST_CASE("convergence_radius: bound, tight bound and exact radius are in order, on 10^5 random problems",
                   "[radius][accuracy]", float, double) {
  using T = TestType;
  findings found;
  each_problem<T>(50000, std::is_same_v<T, float> ? 1 : 1000000, [&](problem_kind kind, const radius_problem<T>& p) {
    const radii_of<T> r(p);
    const auto where = [&](const char* what) {
      return std::string(what) + ", " + name(kind) + ": " + exact_text(r.bound) + " <= " + exact_text(r.tight) +
             " <= " + exact_text(r.exact) + ", " + text_of(p);
    };
    if (!has_spread(p)) {
      constexpr double inf = std::numeric_limits<double>::infinity();
      found.expect(r.bound == inf && r.tight == inf && r.exact == inf, [&] { return where("no spread"); });
      return;
    }
    // Where no slope dominates, both are pi T / spread, each by its own roundings.
    found.expect(r.bound <= r.tight * (1 + 0x1p-51), [&] { return where("bound > tight"); });
    // The accuracy of the exact radius; it is the tight bound of two different slopes.
    found.expect(r.tight <= r.exact * (1 + 1e-12), [&] { return where("tight > exact"); });
    found.expect(std::isfinite(r.exact) && r.bound > 0, [&] { return where("not finite"); });
    found.expect(r.exact == std::hypot(r.zero.real(), r.zero.imag()) && r.zero.imag() > 0,
                 [&] { return where("another zero"); });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_TEST_CASE("convergence_radius: the tight bound is what bisection finds", "[radius][accuracy]", float, double) {
  using T = TestType;
  findings found;
  each_problem<T>(
      8000, std::is_same_v<T, float> ? 3000000 : 4000000, [&](problem_kind kind, const radius_problem<T>& p) {
        if (!has_spread(p)) {
          return;
        }
        const double tight = xs::convergence_radius_tight_bound(p.z, p.a, {.temperature = p.temperature});
        const partition_reference reference(p.z, p.a, p.temperature);
        const partition_reference::tight exact = reference.tight_bound();
        const auto where = [&](const char* what) {
          return std::string(what) + ", " + name(kind) + ": " + exact_text(tight) + " for " + exact_text(exact.radius) +
                 ", " + text_of(p);
        };
        // Never above but for rounding, documented as 2^-50 of u and of the logits' gaps: these move the root by that
        // much
        // over the slope of log h. Below, what Newton's last step may be off by, within the 1e-12 of the closed forms.
        real move = 0;
        if (exact.u != 0) {
          const real logits = 1 - exact.log_h + reference.gap() + exact.u * reference.spread() / p.temperature;
          move = 0x1p-50L * (exact.u + logits / std::fabs(exact.rate) + logits * exact.u / -exact.log_h);
        }
        const real rounding = 0x1p-50L * exact.radius;
        found.expect(tight <= exact.radius + move + rounding, [&] { return where("above"); });
        found.expect(tight >= exact.radius * (1 - 1e-12L) - 4 * move, [&] { return where("below"); });
      });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_TEST_CASE("convergence_radius: the argument principle finds no zero inside and one at the radius",
                   "[radius][accuracy]", float, double) {
  using T = TestType;
  findings found;
  each_problem<T>(2400, std::is_same_v<T, float> ? 5000000 : 6000000,
                  [&](problem_kind kind, const radius_problem<T>& p) {
                    if (!has_spread(p)) {
                      return;
                    }
                    const radii_of<T> r(p);
                    const partition_reference reference(p.z, p.a, p.temperature);
                    // The circles get long: 1000 radians between the outermost classes are a second's work in all.
                    if (r.exact * static_cast<double>(reference.spread()) > 1000 * p.temperature) {
                      return;
                    }
                    const auto where = [&](const char* what) {
                      return std::string(what) + ", " + name(kind) + ": " + exact_text(r.exact) + ", " + text_of(p);
                    };
                    const std::optional<long> inside = reference.zeros_inside(r.exact * (1 - 1e-3L));
                    const std::optional<long> outside = reference.zeros_inside(r.exact * (1 + 1e-3L));
                    found.expect(inside == 0, [&] { return where("a nearer zero"); });
                    found.expect(outside && *outside >= 2, [&] { return where("no zero so near"); });
                    // And it is one: its distance by Newton's step, where zeros meet F itself at the rounding of its
                    // terms.
                    const partition_reference::complex zero(r.zero.real(), r.zero.imag());
                    found.expect(reference.step_at(zero) < 1e-12L * r.exact || std::abs(reference.at(zero).f) < 1e-12L,
                                 [&] { return where("no zero"); });
                  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_TEST_CASE("convergence_radius: the Taylor series converges inside and diverges outside", "[radius][accuracy]",
                   float, double) {
  using T = TestType;
  findings found;
  each_problem<T>(
      2400, std::is_same_v<T, float> ? 7000000 : 8000000, [&](problem_kind kind, const radius_problem<T>& p) {
        if (!has_spread(p)) {
          return;
        }
        const double radius = xs::convergence_radius(p.z, p.a, {.temperature = p.temperature});
        const partition_reference reference(p.z, p.a, p.temperature);
        // F grows by exp(reach) on the circle; that many digits are lost in its series.
        const double reach = radius * static_cast<double>(reference.spread()) / p.temperature / 2;
        if (reach > 12) {
          return;
        }
        constexpr std::size_t terms = 400;
        const std::vector<real> c = reference.taylor(radius, terms);
        // In units of the radius, c_j = -2 Re(zero / radius)^-(j + 1), and zeros that are further away: they neither
        // grow nor vanish. |t| = 0.97 and 1.03 of the radius, over some periods: 0.97^300 = 1e-4, 1.03^300 = 7000.
        const auto largest = [&](std::size_t first, std::size_t last, real t) {
          real most = 0;
          for (std::size_t j = first; j < last; ++j) {
            most = std::max(most, std::fabs(c[j]) * std::pow(t, static_cast<real>(j)));
          }
          return most;
        };
        const auto where = [&](const char* what) {
          return std::string(what) + ", " + name(kind) + ": " + exact_text(radius) + ", " +
                 exact_text(largest(100, 200, 1)) + ", " + exact_text(largest(300, 400, 1)) + ", " + text_of(p);
        };
        found.expect(largest(300, 400, 0.97L) < 0.02L * largest(100, 200, 0.97L), [&] { return where("inside"); });
        found.expect(largest(300, 400, 1.03L) > 50 * largest(100, 200, 1.03L), [&] { return where("outside"); });
      });
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// cross_entropy: loss and gradient against their formula in wide arithmetic, the loss of a confident row included; the
// same bits with and without gradient, in any layout, batch and order; targets that are none; what softmax_collapse and
// perpendicular_gradient say and do.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/layouts.hpp"
#include "../support/loss_links.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"
#include "../support/types.hpp"
#include "../support/ulp.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;
using xs::loss_link;

namespace {

/// log w(x) of a link's weight, or of two their difference: exact where that matters.
long double log_ratio(loss_link l, long double x, long double y) {
  if (l == loss_link::softmax) {
    return x - y;
  }
  const auto magnitude = [](long double v) { return 1 + std::fabs(v); };
  if ((x >= 0) == (y >= 0)) {
    const long double ratio = std::log(magnitude(x) / magnitude(y));
    return x >= 0 ? ratio : -ratio;
  }
  const long double product = std::log(magnitude(x)) + std::log(magnitude(y));
  return x >= 0 ? product : -product;
}

struct reference {
  long double loss;
  std::vector<long double> gradient;
};

template <class T>
reference reference_of(const std::vector<T>& z, std::size_t y, loss_link l) {
  // All relative to the target: others = sum of w(z_k) / w(z_y).
  long double others = 0;
  for (std::size_t i = 0; i < z.size(); ++i) {
    others += i == y ? 0 : std::exp(log_ratio(l, z[i], z[y]));
  }
  reference r{std::log1p(others), {}};
  for (std::size_t i = 0; i < z.size(); ++i) {
    const long double p = i == y ? -others / (1 + others) : std::exp(log_ratio(l, z[i], z[y])) / (1 + others);
    r.gradient.push_back(l == loss_link::softmax ? p : p / (1 + std::fabs(static_cast<long double>(z[i]))));
  }
  return r;
}

template <class T>
constexpr long double half_digits = std::is_same_v<T, float> ? 0x1p-24L : 0x1p-53L;

/// The bounds of the documentation.
template <class T>
void expect_right(findings& found, const std::vector<T>& z, std::size_t y, loss_link l, T loss,
                  const std::vector<T>& dz, const std::string& what) {
  const reference exact = reference_of(z, y, l);
  const auto where = [&] {
    return what + ", " + name(l) + ", n = " + std::to_string(z.size()) + ", y = " + std::to_string(y);
  };
  const bool confident = exact.loss < std::log(2.0L);
  // At the boundary either formula may be taken.
  const double off = ulp_distance(loss, exact.loss);
  const long double bound = 4 * half_digits<T> + unit_in_last_place<T>(exact.loss) / 2;
  const bool near = std::fabs(static_cast<long double>(loss) - exact.loss) <= bound;
  found.expect(confident ? off <= 8 : near,
               [&] { return where() + ": loss " + exact_text(loss) + " is off by " + std::to_string(off); });
  for (std::size_t i = 0; i < dz.size(); ++i) {
    const double error = ulp_distance(dz[i], exact.gradient[i]);
    found.expect(error <= (l == loss_link::softmax ? 5 : 7), [&] {
      return where() + ", dz[" + std::to_string(i) + "] = " + exact_text(dz[i]) + " is off by " + std::to_string(error);
    });
  }
}

/// Rows and targets of all sorts.
template <class T, class Visit>
void each_row(const Visit& visit) {
  std::uint64_t seed = 0;
  for (const std::size_t n : {1u, 2u, 3u, 7u, 16u, 17u, 33u, 64u, 100u, 257u, 2048u, 2049u, 5000u}) {
    for (const double scale : {0.01, 1.0, 6.0, 30.0, 200.0}) {
      generator random(++seed);
      std::vector<T> z(n);
      for (T& x : z) {
        x = static_cast<T>(random.normal() * scale);
      }
      const auto largest = static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin());
      const auto smallest = static_cast<std::size_t>(std::min_element(z.begin(), z.end()) - z.begin());
      visit(z, largest);
      visit(z, smallest);
      visit(z, random.below(n));
      z[n / 2] = static_cast<T>(2 * std::fabs(z[largest]) + 3);
      visit(z, n / 2); // confident
    }
  }
}

xs::cross_entropy_options with(loss_link l, xs::loss_reduction reduction = xs::loss_reduction::mean) {
  return {.link = l, .reduction = reduction};
}

} // namespace

TEMPLATE_LIST_TEST_CASE("cross_entropy: known answers", "[cross_entropy][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const auto is = [](T x, double exact) { return ulp_distance(x, static_cast<long double>(exact)) <= 4; };
  {
    // Nothing is lost where 1 absorbs the others.
    const std::vector<T> z = {20, 0, -5};
    std::vector<T> dz(3);
    CHECK(is(xs::cross_entropy<Arch>(z, 0), 2.07504156415062310e-9));
    CHECK(is(xs::cross_entropy<Arch>(z, 0, dz), 2.07504156415062310e-9));
    CHECK(is(dz[0], -2.07504156199772436e-9));
    CHECK(is(dz[1], 2.06115361816157840e-9));
    CHECK(is(dz[2], 1.38879438361459599e-11));
  }
  const std::vector<T> z = {2, -1, T(0.5), -3};
  struct answer {
    std::size_t y;
    double loss;
    double gradient[4];
  };
  const answer answers[] = {
      {0,
       0.559615787935422686,
       {-0.142857142857142857, 0.0476190476190476190, 0.190476190476190476, 0.0119047619047619048}},
      {1,
       2.35137525716347769,
       {0.190476190476190476, -0.452380952380952381, 0.190476190476190476, 0.0119047619047619048}},
      {3,
       3.04452243772342300,
       {0.190476190476190476, 0.0476190476190476190, 0.190476190476190476, -0.238095238095238095}}};
  for (const answer& a : answers) {
    std::vector<T> dz(4);
    CHECK(is(xs::cross_entropy<Arch>(z, a.y, dz, with(loss_link::stablemax)), a.loss));
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(is(dz[i], a.gradient[i]));
    }
  }
}

TEMPLATE_LIST_TEST_CASE("cross_entropy: loss and gradient are right, together, apart and in place",
                        "[cross_entropy][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  each_row<T>([&](const std::vector<T>& z, std::size_t y) {
    for (const loss_link l : links) {
      std::vector<T> dz(z.size());
      const T loss = xs::cross_entropy<Arch>(z, y, dz, with(l));
      expect_right(found, z, y, l, loss, dz, Arch::name);
      const T alone = xs::cross_entropy<Arch>(z, static_cast<int>(y), with(l));
      std::vector<T> in_place = z;
      const T third = xs::cross_entropy<Arch>(in_place, static_cast<std::int64_t>(y), in_place, with(l));
      found.expect(
          bits(alone) == bits(loss) && bits(third) == bits(loss) &&
              first_difference(dz.data(), in_place.data(), z.size()) == z.size(),
          [&] { return std::string(Arch::name) + ", " + name(l) + ": other bits without gradient or in place"; });
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("cross_entropy: where the probabilities of the others are subnormal or 0",
                        "[cross_entropy][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Many of them make a sum that is to be right, though none of them is.
  const double unit = std::is_same_v<T, float> ? 1 : 7.1;
  findings found;
  for (const std::size_t n : {2u, 16u, 100u, 2048u, 5000u}) {
    for (const double gap : {50.0, 62.0, 63.0, 70.0, 88.0, 92.0, 97.0, 100.0, 103.0, 104.5, 108.0, 112.0}) {
      generator random(n);
      std::vector<T> z(n);
      for (T& x : z) {
        x = static_cast<T>(random.normal() * 0.1);
      }
      const std::size_t y = n / 3;
      z[y] = static_cast<T>(gap * unit);
      std::vector<T> dz(n);
      const T loss = xs::cross_entropy<Arch>(z, y, dz);
      expect_right(found, z, y, loss_link::softmax, loss, dz, std::string(Arch::name));
      // Several rows, and a distribution that says the same, take other ways to it.
      std::vector<T> t(n);
      t[y] = 1;
      std::vector<T> by_distribution(n);
      const T same_loss = xs::cross_entropy<Arch>(z, t, by_distribution);
      std::vector<T> alone = z;
      const T loss_in_place = xs::cross_entropy<Arch>(alone, y, alone);
      found.expect(bits(same_loss) == bits(loss) && bits(loss_in_place) == bits(loss) &&
                       bits(xs::cross_entropy<Arch>(z, y)) == bits(loss) && by_distribution == dz && alone == dz,
                   [&] { return std::string(Arch::name) + ": other bits, gap " + std::to_string(gap); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("cross_entropy: the gradient is the derivative of the loss", "[cross_entropy][unit]") {
  // Of the reference, by differences; the library is compared with it above.
  const std::vector<double> z = {0.5, -1.25, 2, -0.75, 1};
  for (const loss_link l : links) {
    for (std::size_t y = 0; y < z.size(); ++y) {
      const reference r = reference_of(z, y, l);
      for (std::size_t i = 0; i < z.size(); ++i) {
        constexpr double step = 0x1p-16;
        std::vector<double> above = z;
        std::vector<double> below = z;
        above[i] += step;
        below[i] -= step;
        const long double slope = (reference_of(above, y, l).loss - reference_of(below, y, l).loss) / (2 * step);
        CHECK(std::fabs(slope - r.gradient[i]) < 1e-9L); // step^2 times a third derivative
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("cross_entropy: rows of a batch in every layout, storage and order",
                        "[cross_entropy][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t cols : {1u, 10u, 64u, 333u, 2500u}) {
    constexpr std::size_t rows = 9;
    for (const loss_link l : links) {
      std::vector<std::vector<T>> z;
      std::vector<std::int32_t> targets;
      std::vector<T> losses;
      std::vector<std::vector<T>> gradients;
      for (std::size_t r = 0; r < rows; ++r) {
        z.push_back(make_row<T>(row_kinds[r % 4], cols, r));
        targets.push_back(r == 3   ? -1
                          : r == 5 ? static_cast<std::int32_t>(cols)
                                   : static_cast<std::int32_t>(r * 7 % cols));
        if (r == 4) {
          z[r][cols / 2] = not_a_number<T>;
        }
        if (r == 6) {
          z[r][static_cast<std::size_t>(targets[r])] = 90;
        }
        gradients.emplace_back(cols);
        losses.push_back(xs::cross_entropy<Arch>(z[r], targets[r], gradients[r], with(l, xs::loss_reduction::sum)));
      }
      const auto where = [&](const char* what) {
        return std::string(Arch::name) + ", " + what + ", " + name(l) + ", " + std::to_string(cols) + " columns";
      };
      const auto same = [](T a, T b) { return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b)); };
      for (const layout& shape : layouts_of(rows, cols)) {
        laid_out<T> in(rows, cols, shape, 3);
        laid_out<T> out(rows, cols, shape, 3);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < cols; ++c) {
            in.at(r, c) = z[r][c];
          }
        }
        const auto compare = [&](laid_out<T>& written, const std::vector<T>& values, const char* what) {
          for (std::size_t r = 0; r < rows; ++r) {
            std::size_t equal = 0;
            for (std::size_t c = 0; c < cols; ++c) {
              equal += same(written.at(r, c), gradients[r][c]) ? 1 : 0;
            }
            found.expect(equal == cols && same(values[r], losses[r]), [&] { return where(what) + ", " + shape.what; });
          }
        };
        std::vector<T> values(rows);
        xs::cross_entropy<Arch>(in.view(), targets, values, out.view(), with(l));
        compare(out, values, "batch");
        for (const named_executor& x : every_executor()) {
          std::fill(values.begin(), values.end(), T(-7));
          xs::cross_entropy<Arch>(x.run, in.view(), targets, values, out.view(), with(l));
          compare(out, values, x.name.c_str());
        }
        std::fill(values.begin(), values.end(), T(-7));
        xs::cross_entropy<Arch>(in.view(), targets, values, with(l));
        compare(out, values, "losses alone");
        xs::cross_entropy<Arch>(in.view(), targets, values, in.view(), with(l));
        compare(in, values, "in place");
        found.expect(out.untouched_between() && in.untouched_between(), [&] { return where("wrote beside the rows"); });
      }
      if constexpr (std::is_same_v<T, float>) {
        std::vector<float> in;
        for (const std::vector<float>& row : z) {
          in.insert(in.end(), row.begin(), row.end());
        }
        std::vector<xs::bfloat16> out(rows * cols);
        std::vector<float> values(rows);
        xs::cross_entropy<Arch>(xs::matrix_view<const float>(in.data(), rows, cols), targets, values,
                                xs::matrix_view<xs::bfloat16>(out.data(), rows, cols), with(l));
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t c = 0; c < cols; ++c) {
            found.expect(same(static_cast<float>(out[r * cols + c]), static_cast<float>(xs::bfloat16(gradients[r][c]))),
                         [&] { return where("bfloat16"); });
          }
          found.expect(same(values[r], losses[r]), [&] { return where("bfloat16"); });
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("cross_entropy: many short rows are as each of them alone", "[cross_entropy][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(17);
  const auto same = [](T a, T b) { return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b)); };
  for (const std::size_t cols : {1u, 2u, 10u, 16u, 70u, 300u}) {
    std::vector<float> weights;
    for (std::size_t c = 0; c < cols; ++c) {
      weights.push_back(static_cast<float>(0.25 + random.uniform(0, 2)));
    }
    for (const std::size_t rows : {63u, 64u, 65u, 129u, 520u}) {
      for (const bool is_special : {false, true}) {
        std::vector<T> z;
        std::vector<std::int64_t> targets;
        std::size_t counted = 0;
        for (std::size_t r = 0; r < rows; ++r) {
          const std::vector<T> row = make_row<T>(row_kinds[r % 4], cols, r);
          z.insert(z.end(), row.begin(), row.end());
          targets.push_back(static_cast<std::int64_t>(r * 7 % cols));
          T& own = z[r * cols + static_cast<std::size_t>(targets[r])];
          if (is_special && r % 5 == 0) { // above 1/2, to nothing else; below all numbers; not a number
            own += static_cast<T>(r % 2 == 0 ? 30 : r % 3 == 0 ? -2000 : 3);
          }
          if (is_special && r % 17 == 3) {
            own = not_a_number<T>;
          }
          if (is_special && r % 11 == 5) {
            targets[r] = r % 2 == 0 ? -1 : static_cast<std::int64_t>(cols);
          }
          counted += targets[r] != -1 ? 1 : 0;
        }
        const std::size_t stride = is_special ? cols + 3 : cols;
        for (const bool is_weighted : {false, true}) {
          xs::cross_entropy_options options = with(loss_link::softmax, xs::loss_reduction::sum);
          if (is_weighted) {
            options.weights = weights;
          }
          std::vector<T> gradient(rows * stride, T(-7));
          std::vector<T> losses(rows);
          const xs::matrix_view<const T> in(z.data(), rows, cols);
          const xs::matrix_view<T> out(gradient.data(), rows, cols, static_cast<std::ptrdiff_t>(stride));
          xs::cross_entropy<Arch>(in, targets, losses, out, options);
          std::vector<T> of_mean(rows * stride, T(-7));
          options.reduction = xs::loss_reduction::mean;
          xs::cross_entropy<Arch>(in, targets,
                                  xs::matrix_view<T>(of_mean.data(), rows, cols, static_cast<std::ptrdiff_t>(stride)),
                                  options);
          const auto share = static_cast<T>(1.0 / static_cast<double>(counted));
          options.reduction = xs::loss_reduction::sum;
          for (std::size_t r = 0; r < rows; ++r) {
            const std::vector<T> row(z.begin() + static_cast<std::ptrdiff_t>(r * cols),
                                     z.begin() + static_cast<std::ptrdiff_t>((r + 1) * cols));
            std::vector<T> alone(cols);
            const T loss = xs::cross_entropy<Arch>(row, targets[r], alone, options);
            bool equal = same(loss, losses[r]);
            for (std::size_t c = 0; c < cols; ++c) {
              equal = equal && same(gradient[r * stride + c], alone[c]);
              equal = equal && (is_weighted || same(of_mean[r * stride + c], alone[c] * share));
            }
            for (std::size_t c = cols; c < stride; ++c) {
              equal = equal && gradient[r * stride + c] == T(-7) && of_mean[r * stride + c] == T(-7);
            }
            found.expect(equal, [&] {
              return std::string(Arch::name) + ", row " + std::to_string(r) + " of " + std::to_string(rows) + " x " +
                     std::to_string(cols) + (is_weighted ? ", weighted" : "") + (is_special ? ", special" : "");
            });
          }
        }
      }
    }
  }
  // The mean of no row at all: what its gradient would be multiplied by is infinite.
  const std::vector<T> z(70 * 5, T(1));
  std::vector<T> gradient(z.size(), T(-7));
  xs::cross_entropy<Arch>(xs::matrix_view<const T>(z.data(), 70, 5), std::vector<std::int64_t>(70, -1),
                          xs::matrix_view<T>(gradient.data(), 70, 5));
  CHECK(std::all_of(gradient.begin(), gradient.end(), [](T x) { return x == 0; }));
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("cross_entropy: mean, sum, weights, and targets that are none", "[cross_entropy][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr std::size_t rows = 700;
  constexpr std::size_t cols = 100;
  const std::vector<T> z = make_row<T>(row_kind::normal, rows * cols, 3);
  const xs::matrix_view<const T> in(z.data(), rows, cols);
  std::vector<std::int64_t> targets(rows);
  std::vector<float> weights(cols);
  for (std::size_t c = 0; c < cols; ++c) {
    weights[c] = 0.25f * static_cast<float>(c % 7);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    targets[r] = r % 5 == 2 ? -100 : static_cast<std::int64_t>(r * 31 % cols);
  }
  const auto ignored = static_cast<std::size_t>(std::int64_t{-100});
  findings found;
  for (const loss_link l : links) {
    for (const bool weighted : {false, true}) {
      xs::cross_entropy_options options{.link = l, .ignore_index = ignored};
      if (weighted) {
        options.weights = weights;
      }
      // From the rows, one by one.
      long double sum = 0;
      long double weight = 0;
      for (std::size_t r = 0; r < rows; ++r) {
        if (targets[r] >= 0) {
          const double w = weighted ? static_cast<double>(weights[static_cast<std::size_t>(targets[r])]) : 1.0;
          const std::vector<T> row(z.begin() + static_cast<std::ptrdiff_t>(r * cols),
                                   z.begin() + static_cast<std::ptrdiff_t>((r + 1) * cols));
          const T loss = xs::cross_entropy<Arch>(row, targets[r], {.link = l});
          sum += static_cast<long double>(static_cast<T>(static_cast<double>(loss) * w));
          weight += w;
        }
      }
      // Double: the loss by itself has been rounded before it was weighted here.
      const double slack = weighted && std::is_same_v<T, double> ? 2 : 0.51;
      std::vector<T> dz(rows * cols);
      const xs::matrix_view<T> out(dz.data(), rows, cols);
      options.reduction = xs::loss_reduction::sum;
      const T total = xs::cross_entropy<Arch>(in, targets, out, options);
      found.expect(ulp_distance(total, sum) <= (weighted ? 1 : 0.51) + slack, [&] { return std::string("sum"); });
      std::vector<T> summed = dz;
      options.reduction = xs::loss_reduction::mean;
      const T mean = xs::cross_entropy<Arch>(in, targets, out, options);
      found.expect(ulp_distance(mean, sum / weight) <= (weighted ? 2 : 0.51) + slack,
                   [&] { return std::string("mean"); });
      for (std::size_t i = 0; i < dz.size(); ++i) {
        const long double expected = static_cast<long double>(summed[i]) / weight;
        // The inverse, its product with the weight, and either gradient have been rounded.
        found.expect(ulp_distance(dz[i], expected) <= 4, [&] { return std::string("gradient of the mean"); });
      }
      const std::vector<T> serial = dz;
      found.expect(bits(xs::cross_entropy<Arch>(in, targets, options)) == bits(mean),
                   [] { return std::string("mean without gradient"); });
      for (const named_executor& x : every_executor()) {
        std::fill(dz.begin(), dz.end(), T(-7));
        const T shared = xs::cross_entropy<Arch>(x.run, in, targets, out, options);
        found.expect(bits(shared) == bits(mean) && first_difference(serial.data(), dz.data(), dz.size()) == dz.size(),
                     [&] { return std::string("mean, ") + x.name; });
        found.expect(bits(xs::cross_entropy<Arch>(x.run, in, targets, options)) == bits(mean),
                     [&] { return std::string("mean without gradient, ") + x.name; });
      }
    }
    // One of the classes may be ignored.
    {
      std::vector<std::int64_t> by_class = targets;
      std::vector<std::int64_t> apart = targets;
      for (std::size_t r = 0; r < rows; ++r) {
        by_class[r] = targets[r] < 0 ? 3 : targets[r];
        apart[r] = by_class[r] == 3 ? -100 : by_class[r];
      }
      std::vector<T> dz(rows * cols);
      std::vector<T> expected(rows * cols);
      const T mean = xs::cross_entropy<Arch>(in, apart, xs::matrix_view<T>(expected.data(), rows, cols),
                                             {.link = l, .ignore_index = ignored});
      const T found_mean = xs::cross_entropy<Arch>(in, by_class, xs::matrix_view<T>(dz.data(), rows, cols),
                                                   {.link = l, .ignore_index = 3});
      found.expect(bits(found_mean) == bits(mean) &&
                       first_difference(expected.data(), dz.data(), dz.size()) == dz.size(),
                   [] { return std::string("a class that is ignored"); });
    }
    // Nothing to take a mean of.
    const std::vector<std::int64_t> none(rows, -100);
    std::vector<T> dz(rows * cols, T(-7));
    const xs::matrix_view<T> out(dz.data(), rows, cols);
    xs::cross_entropy_options options{.link = l, .ignore_index = ignored};
    CHECK(std::isnan(xs::cross_entropy<Arch>(in, none, out, options)));
    CHECK(static_cast<std::size_t>(std::count(dz.begin(), dz.end(), T(0))) == dz.size());
    options.reduction = xs::loss_reduction::sum;
    CHECK(xs::cross_entropy<Arch>(in, none, options) == 0);
    // A target that is no class: NaN there, and the other rows as they were.
    std::vector<std::int64_t> wrong = targets;
    wrong[1] = cols;
    std::vector<T> right(rows * cols);
    xs::cross_entropy<Arch>(in, targets, xs::matrix_view<T>(right.data(), rows, cols), options);
    CHECK(std::isnan(xs::cross_entropy<Arch>(in, wrong, out, options)));
    for (std::size_t i = 0; i < dz.size(); ++i) {
      found.expect(i / cols == 1 ? std::isnan(dz[i]) : bits(dz[i]) == bits(right[i]),
                   [] { return std::string("a wrong target touches another row"); });
    }
    options.reduction = xs::loss_reduction::mean;
    CHECK(std::isnan(xs::cross_entropy<Arch>(in, wrong, out, options)));
    found.expect(!std::isnan(dz[0]), [] { return std::string("a wrong target touches the mean's gradient"); });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("cross_entropy: special values", "[cross_entropy][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  for (const loss_link l : links) {
    CAPTURE(Arch::name, scalar_name<T>(), name(l));
    for (const std::size_t n : {2u, 40u, 3000u}) {
      std::vector<T> z = make_row<T>(row_kind::normal, n, 1);
      std::vector<T> dz(n);
      const auto all_nan = [&] { return std::all_of(dz.begin(), dz.end(), [](T x) { return std::isnan(x); }); };
      z[1] = -inf<T>;
      // A masked class as target: no probability, infinite loss.
      CHECK(xs::cross_entropy<Arch>(z, 1, dz, with(l)) == inf<T>);
      CHECK(dz[1] == (l == loss_link::softmax ? T(-1) : T(0))); // -1 / (1 + inf)
      // And as another: its gradient is 0.
      CHECK(std::isfinite(xs::cross_entropy<Arch>(z, 0, dz, with(l))));
      CHECK(dz[1] == 0);
      for (const T special : {not_a_number<T>, inf<T>}) {
        z[n - 1] = special;
        CHECK(std::isnan(xs::cross_entropy<Arch>(z, 0, dz, with(l))));
        CHECK(all_nan());
        CHECK(std::isnan(xs::cross_entropy<Arch>(z, n - 1, dz, with(l))));
        CHECK(all_nan());
      }
      z.assign(n, -inf<T>);
      CHECK(std::isnan(xs::cross_entropy<Arch>(z, 0, dz, with(l))));
      CHECK(all_nan());
      // Losses beyond what a probability can say.
      z.assign(n, T(0));
      z[0] = l == loss_link::softmax ? T(-1e4) : -std::numeric_limits<T>::max();
      const reference exact = reference_of(z, 0, l);
      CHECK(ulp_distance(xs::cross_entropy<Arch>(z, 0, dz, with(l)), exact.loss) <= 2);
    }
    CHECK(xs::cross_entropy<Arch>(std::vector<T>{T(3)}, 0, with(l)) == 0);
    CHECK(std::isnan(xs::cross_entropy<Arch>(std::vector<T>{}, 0, with(l))));
    CHECK(std::isnan(xs::cross_entropy<Arch>(std::vector<T>{1, 2}, -1, {.link = l, .ignore_index = xs::npos})));
    CHECK(xs::cross_entropy<Arch>(std::vector<T>{1, 2}, -1, with(l, xs::loss_reduction::sum)) == 0);
  }
}

TEST_CASE("cross_entropy: arguments that do not fit", "[cross_entropy][errors][unit]") {
  const std::vector<float> z(6, 1.0f);
  const xs::matrix_view<const float> in(z.data(), 2, 3);
  std::vector<float> dz(6, -7.0f);
  const std::vector<int> targets = {0, 1};
  const std::vector<int> three = {0, 1, 2};
  const std::vector<double> weights = {1, 2};
  const auto message = [](auto&& call) {
    try {
      call();
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("none");
  };
  const auto names = [](const std::string& text, std::initializer_list<const char*> parts) {
    CAPTURE(text);
    for (const char* part : parts) {
      CHECK(text.find(part) != std::string::npos);
    }
  };
  names(message([&] { (void)xs::cross_entropy(in, three); }), {"cross_entropy", "targets", "3", "2"});
  names(message([&] { xs::cross_entropy(in, targets, xs::matrix_view<float>(dz.data(), 3, 2)); }),
        {"cross_entropy", "dz", "3", "2"});
  names(message([&] { (void)xs::cross_entropy(in, targets, {.weights = weights}); }),
        {"cross_entropy", "weight", "3", "2"});
  std::vector<float> losses(3);
  names(message([&] { xs::cross_entropy(in, targets, losses); }), {"cross_entropy", "losses", "3", "2"});
  std::vector<float> both(7, 1.0f);
  names(message([&] {
          xs::cross_entropy(xs::matrix_view<const float>(both.data(), 2, 3), targets,
                            xs::matrix_view<float>(both.data() + 1, 2, 3));
        }),
        {"cross_entropy", "dz", "overlaps"});
  CHECK(std::all_of(dz.begin(), dz.end(), [](float x) { return x == -7.0f; }));
}

TEMPLATE_LIST_TEST_CASE("softmax_collapse: where the type absorbs the others", "[cross_entropy][collapse][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // The usual evaluation in T: the others first, which loses the least.
  const auto naive = [](const std::vector<T>& z, std::size_t y) {
    T sum = 0;
    for (std::size_t i = 0; i < z.size(); ++i) {
      sum += i == y ? T{} : static_cast<T>(std::exp(static_cast<long double>(z[i]) - static_cast<long double>(z[y])));
    }
    return T{1} + sum == T{1};
  };
  const double threshold = std::numeric_limits<T>::digits * std::log(2.0);
  for (const auto& [rivals, more] : {std::pair<std::size_t, double>{1, 0.0}, {112, std::log(112.0)}}) {
    for (const double by : {-1e-2, -1e-5, 1e-5, 1e-2}) {
      std::vector<T> z(rivals + 1, T(0));
      z[rivals / 2] = static_cast<T>(threshold + more + by);
      CAPTURE(Arch::name, scalar_name<T>(), rivals, by);
      CHECK(xs::softmax_collapse<Arch>(z, rivals / 2) == (by > 0));
      CHECK(naive(z, rivals / 2) == (by > 0));
      CHECK_FALSE(xs::softmax_collapse<Arch>(z, rivals)); // not the largest
    }
  }
  CHECK_FALSE(xs::softmax_collapse<Arch>(std::vector<T>{T(100)}, 0));
  CHECK_FALSE(xs::softmax_collapse<Arch>(std::vector<T>{T(100), T(0)}, 2));
  CHECK_FALSE(xs::softmax_collapse<Arch>(std::vector<T>{T(100), not_a_number<T>}, 0));
  CHECK_FALSE(xs::softmax_collapse<Arch>(std::vector<T>{inf<T>, T(0)}, 0));
  CHECK(xs::softmax_collapse<Arch>(std::vector<T>{T(100), -inf<T>}, 0));
  if constexpr (std::is_same_v<T, float>) {
    const auto halves = []<class Half>(Half, float gap) {
      return xs::softmax_collapse<Arch>(std::vector<Half>{Half(gap), Half(0.0f)}, 0);
    };
    CHECK_FALSE(halves(xs::float16(), 7.6171875f));
    CHECK(halves(xs::float16(), 7.625f));
    CHECK_FALSE(halves(xs::bfloat16(), 5.53125f));
    CHECK(halves(xs::bfloat16(), 5.5625f));
  }
}

TEMPLATE_LIST_TEST_CASE("perpendicular_gradient: known answer, and perpendicular it is",
                        "[cross_entropy][perpendicular][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const auto close = [](const std::vector<T>& found, std::initializer_list<double> exact) {
    return std::equal(found.begin(), found.end(), exact.begin(),
                      [](T x, double y) { return ulp_distance(x, static_cast<long double>(y)) <= 4; });
  };
  {
    const std::vector<T> w = {1, 2, -2};
    std::vector<T> g = {T(0.5), -1, 3};
    std::vector<T> h = g;
    xs::perpendicular_gradient<Arch>(w, g);
    CHECK(close(g, {1.33333333333333333, 0.666666666666666667, 1.33333333333333333}));
    xs::perpendicular_gradient<Arch>(w, h, {.keep_norm = true});
    CHECK(close(h, {2.13437474581094956, 1.06718737290547478, 2.13437474581094956}));
  }
  findings found;
  for (const std::size_t n : {2u, 3u, 17u, 100u, 2048u, 5000u, 100000u}) {
    const std::vector<T> w = make_row<T>(row_kind::normal, n, n);
    const std::vector<T> g = make_row<T>(row_kind::normal, n, n + 1);
    const auto dot = [](const std::vector<T>& a, const std::vector<T>& b) {
      long double sum = 0;
      for (std::size_t i = 0; i < a.size(); ++i) {
        sum += static_cast<long double>(a[i]) * static_cast<long double>(b[i]);
      }
      return sum;
    };
    for (const bool keep_norm : {false, true}) {
      std::vector<T> rest = g;
      xs::perpendicular_gradient<Arch>(w, rest, {.keep_norm = keep_norm});
      const long double c = dot(w, g) / dot(w, w);
      std::vector<long double> exact(n);
      long double square = 0;
      for (std::size_t i = 0; i < n; ++i) {
        exact[i] = static_cast<long double>(g[i]) - c * static_cast<long double>(w[i]);
        square += exact[i] * exact[i];
      }
      const long double scale = keep_norm ? std::sqrt(dot(g, g) / square) : 1;
      // Of float nothing but the last rounding, next to what the double c leaves.
      for (std::size_t i = 0; i < n; ++i) {
        const long double noise =
            (std::fabs(static_cast<long double>(g[i])) + std::fabs(c * static_cast<long double>(w[i]))) * scale *
            0x1p-50L;
        const long double error = std::fabs(static_cast<long double>(rest[i]) - scale * exact[i]);
        found.expect(error <= noise + 0.51L * unit_in_last_place<T>(scale * exact[i]),
                     [&] { return "element " + std::to_string(i) + " of " + std::to_string(n); });
      }
      if (keep_norm) {
        found.expect(std::fabs(std::sqrt(dot(rest, rest) / dot(g, g)) - 1) < 4 * half_digits<T>,
                     [] { return std::string("the norm"); });
      }
      // Matrices of any layout, and on threads, are that vector.
      if (n == 5000) {
        for (const layout& shape : layouts_of(50, 100)) {
          laid_out<T> a(50, 100, shape, 3);
          laid_out<T> b(50, 100, shape, 3);
          std::vector<T> dense = g;
          xs::perpendicular_gradient<Arch>(xs::matrix_view<const T>(w.data(), 50, 100),
                                           xs::matrix_view<T>(dense.data(), 50, 100), {.keep_norm = keep_norm});
          const auto fill = [&] {
            for (std::size_t i = 0; i < n; ++i) {
              a.at(i / 100, i % 100) = w[i];
              b.at(i / 100, i % 100) = g[i];
            }
          };
          const auto compare = [&](const char* what) {
            for (std::size_t i = 0; i < n; ++i) {
              found.expect(bits(b.at(i / 100, i % 100)) == bits(dense[i]),
                           [&] { return std::string(what) + ", " + shape.what; });
            }
          };
          fill();
          xs::perpendicular_gradient<Arch>(a.view(), b.view(), {.keep_norm = keep_norm});
          compare("layout");
          for (const named_executor& x : every_executor()) {
            fill();
            xs::perpendicular_gradient<Arch>(x.run, a.view(), b.view(), {.keep_norm = keep_norm});
            compare(x.name.c_str());
          }
          found.expect(b.untouched_between(), [] { return std::string("wrote beside the rows"); });
        }
      }
    }
  }
  // So many rows that they are shared out.
  {
    constexpr std::size_t rows = 700;
    constexpr std::size_t cols = 300;
    const std::vector<T> w = make_row<T>(row_kind::normal, rows * cols, 8);
    const std::vector<T> g = make_row<T>(row_kind::normal, rows * cols, 9);
    std::vector<T> serial = g;
    const xs::matrix_view<const T> weights(w.data(), rows, cols);
    xs::perpendicular_gradient<Arch>(weights, xs::matrix_view<T>(serial.data(), rows, cols));
    for (const named_executor& x : every_executor()) {
      std::vector<T> shared = g;
      xs::perpendicular_gradient<Arch>(x.run, weights, xs::matrix_view<T>(shared.data(), rows, cols));
      found.expect(first_difference(serial.data(), shared.data(), shared.size()) == shared.size(),
                   [&] { return x.name; });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  // Degenerate ones.
  const std::vector<T> w = make_row<T>(row_kind::normal, 50, 5);
  std::vector<T> g = make_row<T>(row_kind::normal, 50, 6);
  const std::vector<T> before = g;
  xs::perpendicular_gradient<Arch>(std::vector<T>(50, T(0)), g, {.keep_norm = true});
  CHECK(g == before);
  for (const bool keep_norm : {false, true}) {
    std::vector<T> along = w;
    for (T& x : along) {
      x = static_cast<T>(x * T(0.3)); // rounded: what is left is noise
    }
    xs::perpendicular_gradient<Arch>(w, along, {.keep_norm = keep_norm});
    CHECK(std::all_of(along.begin(), along.end(), [](T x) { return x == 0; }));
    std::vector<T> one = {T(0.7)};
    xs::perpendicular_gradient<Arch>(std::vector<T>{T(0.1)}, one, {.keep_norm = keep_norm});
    CHECK(one[0] == 0);
    std::vector<T> zero(50, T(0));
    xs::perpendicular_gradient<Arch>(w, zero, {.keep_norm = keep_norm});
    CHECK(std::all_of(zero.begin(), zero.end(), [](T x) { return x == 0; }));
    g = before;
    g[7] = not_a_number<T>;
    xs::perpendicular_gradient<Arch>(w, g, {.keep_norm = keep_norm});
    CHECK(std::all_of(g.begin(), g.end(), [](T x) { return std::isnan(x); }));
  }
  std::vector<T> shorter(49);
  CHECK_THROWS_AS(xs::perpendicular_gradient<Arch>(w, shorter), std::invalid_argument);
}

// SPDX-License-Identifier: MIT
// gumbel_softmax is softmax of the perturbed logits, to the bit, in every layout, storage and order; its hard form has
// exactly one 1; its gradients are those of the soft y of the same noise.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/layouts.hpp"
#include "../support/noise_reference.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"
#include "../support/types.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();

/// The two functions, and what they make of perturbed logits.
struct probabilities_form {
  static constexpr const char* name = "gumbel_softmax";
  static constexpr double one = 1;
  static constexpr double zero = 0;

  template <class Arch>
  static auto call(auto&&... arguments) {
    return xs::gumbel_softmax<Arch>(arguments...);
  }

  template <class Arch, class T>
  static void of_perturbed(const std::vector<T>& x, std::vector<T>& y, double temperature) {
    xs::softmax<Arch>(x, y, {.temperature = temperature});
  }
};

struct logarithms_form {
  static constexpr const char* name = "log_gumbel_softmax";
  static constexpr double one = 0;
  static constexpr double zero = -std::numeric_limits<double>::infinity();

  template <class Arch>
  static auto call(auto&&... arguments) {
    return xs::log_gumbel_softmax<Arch>(arguments...);
  }

  template <class Arch, class T>
  static void of_perturbed(const std::vector<T>& x, std::vector<T>& y, double temperature) {
    xs::log_softmax<Arch>(x, y, {.temperature = temperature});
  }
};

/// test(form) for both.
template <class Test>
void for_both_forms(const Test& test) {
  test(probabilities_form{});
  test(logarithms_form{});
}

/// What they must give.
template <class T>
struct expected {
  std::vector<T> perturbed;
  std::vector<T> y;
  std::size_t index;
};

template <class Arch, class Form, class T>
expected<T> expected_of(const std::vector<T>& z, const xs::noise_key& key, const xs::gumbel_softmax_options& options) {
  const std::vector<T> g = noise_row<Arch, T>(noise::gumbel, key, z.size());
  expected<T> e{z, std::vector<T>(z.size()), drawn(z, g, 1.0)};
  for (std::size_t i = 0; i < z.size(); ++i) {
    e.perturbed[i] += g[i];
  }
  if (!options.hard && options.temperature != 0) {
    Form::template of_perturbed<Arch>(e.perturbed, e.y, options.temperature);
  } else {
    for (std::size_t i = 0; i < z.size(); ++i) {
      e.y[i] = e.index == xs::npos ? std::numeric_limits<T>::quiet_NaN()
                                   : static_cast<T>(i == e.index ? Form::one : Form::zero);
    }
  }
  return e;
}

template <class T>
std::vector<T> some_gradient(std::size_t n) {
  generator random(n);
  std::vector<T> dy(n);
  for (T& x : dy) {
    x = static_cast<T>(random.normal());
  }
  return dy;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("gumbel_softmax: softmax of the perturbed logits, and the draw", "[gumbel_softmax][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check_form = [&]<class Form>(Form, const std::vector<T>& z, const xs::noise_key& key,
                                          const xs::gumbel_softmax_options& options, const std::string& what) {
    const expected<T> e = expected_of<Arch, Form>(z, key, options);
    std::vector<T> y(z.size());
    const std::size_t index = Form::template call<Arch>(key, z, y, options);
    std::vector<T> in_place = z;
    const std::size_t again = Form::template call<Arch>(key, in_place, in_place, options);
    const std::size_t n = z.size();
    found.expect(index == e.index && again == e.index && first_difference(e.y.data(), y.data(), n) == n &&
                     first_difference(e.y.data(), in_place.data(), n) == n,
                 [&] {
                   return std::string(Form::name) + ", " + Arch::name + ", " + scalar_name<T>() + ", " + what +
                          ", n = " + std::to_string(n) + ", T = " + exact_text(options.temperature) +
                          (options.hard ? ", hard" : "");
                 });
    if (options.temperature == 1 && !options.hard) {
      found.expect(xs::sample<Arch>(key, z) == index, [&] { return "sample differs: " + what; });
    }
  };
  const auto check = [&](const auto&... arguments) {
    for_both_forms([&](auto form) { check_form(form, arguments...); });
  };
  for (const row_kind kind : row_kinds) {
    for (const std::size_t n : {0u, 1u, 2u, 7u, 16u, 31u, 63u, 64u, 65u, 129u, 300u, 2100u, 5000u}) {
      const std::vector<T> z = make_row<T>(kind, n, n);
      for (const double temperature : {1.0, 0.5, 3.0, 1e-6, 1e-300, 1e300, 0.0}) {
        check(z, xs::noise_key{.seed = n, .index = n % 5}, xs::gumbel_softmax_options{.temperature = temperature},
              name(kind));
      }
      check(z, xs::noise_key{.seed = n}, xs::gumbel_softmax_options{.temperature = 0.5, .hard = true}, name(kind));
    }
  }
  for (const std::size_t n : {1u, 5u, 70u, 3000u}) {
    for (const T special : {std::numeric_limits<T>::quiet_NaN(), inf<T>, -inf<T>}) {
      for (const std::size_t i : {std::size_t{0}, n / 2, n - 1}) {
        for (const bool hard : {false, true}) {
          std::vector<T> z = make_row<T>(row_kind::masked, n, n);
          z[i] = special;
          const xs::gumbel_softmax_options options{.temperature = 0.7, .hard = hard};
          check(z, xs::noise_key{.seed = i}, options, "special value");
          check(std::vector<T>(n, -inf<T>), xs::noise_key{.seed = i}, options, "only -inf");
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("gumbel_softmax: hard has exactly one 1", "[gumbel_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  for (const std::size_t n : {1u, 2u, 100u, 5000u}) {
    const std::vector<T> z(n, T(0.25));
    std::vector<T> y(n, T(9));
    const std::size_t index = xs::gumbel_softmax<Arch>({.seed = n}, z, y, {.hard = true});
    REQUIRE(index < n);
    CHECK(y[index] == 1);
    CHECK(static_cast<std::size_t>(std::count(y.begin(), y.end(), T(0))) == n - 1);
  }
}

TEMPLATE_LIST_TEST_CASE("gumbel_softmax: rows, layouts, halves and executors leave no trace",
                        "[gumbel_softmax][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for_both_forms([&]<class Form>(Form) {
    const xs::noise_key key{.seed = 6, .stream = 7, .row = 8, .index = 9};
    for (const std::size_t cols : {1u, 40u, 64u, 333u, 4500u}) {
      constexpr std::size_t rows = 7;
      for (const xs::gumbel_softmax_options& options :
           {xs::gumbel_softmax_options{.temperature = 0.8}, {.temperature = 1.0}, {.temperature = 0.8, .hard = true}}) {
        std::vector<std::vector<T>> z;
        std::vector<expected<T>> e;
        for (std::size_t r = 0; r < rows; ++r) {
          z.push_back(make_row<T>(row_kinds[r], cols, r));
          xs::noise_key of_row = key;
          of_row.row += r;
          e.push_back(expected_of<Arch, Form>(z[r], of_row, options));
        }
        const auto compare = [&](const std::string& what, const auto& value, const std::vector<std::size_t>& indices) {
          for (std::size_t r = 0; r < rows; ++r) {
            std::size_t same = 0;
            for (std::size_t c = 0; c < cols; ++c) {
              same += value(r, c, e[r].y[c]) ? 1 : 0;
            }
            found.expect(same == cols && indices[r] == e[r].index, [&] {
              return std::string(Form::name) + ", " + Arch::name + ", " + what + ", " + std::to_string(cols) +
                     " columns, row " + std::to_string(r) + (options.hard ? ", hard" : "");
            });
          }
        };
        const auto equal = [](T a, T b) { return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b)); };
        for (const layout& l : layouts_of(rows, cols)) {
          laid_out<T> in(rows, cols, l, 3);
          laid_out<T> out(rows, cols, l, 3);
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
              in.at(r, c) = z[r][c];
            }
          }
          std::vector<std::size_t> indices(rows);
          Form::template call<Arch>(key, in.view(), out.view(), indices, options);
          compare(
              l.what, [&](std::size_t r, std::size_t c, T y) { return equal(out.at(r, c), y); }, indices);
          for (const named_executor& x : every_executor()) {
            Form::template call<Arch>(x.run, key, in.view(), out.view(), indices, options);
            compare(
                x.name, [&](std::size_t r, std::size_t c, T y) { return equal(out.at(r, c), y); }, indices);
          }
          found.expect(out.untouched_between(), [&] { return std::string("wrote beside the rows: ") + l.what; });
        }
        if constexpr (std::is_same_v<T, float>) {
          std::vector<float> in;
          for (const std::vector<float>& row : z) {
            in.insert(in.end(), row.begin(), row.end());
          }
          std::vector<xs::float16> out(rows * cols);
          std::vector<std::size_t> indices(rows);
          Form::template call<Arch>(key, xs::matrix_view<const float>(in.data(), rows, cols),
                                    xs::matrix_view<xs::float16>(out.data(), rows, cols), indices, options);
          compare(
              "float16",
              [&](std::size_t r, std::size_t c, float y) {
                return equal(static_cast<float>(out[r * cols + c]), static_cast<float>(xs::float16(y)));
              },
              indices);
        }
      }
    }
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("gumbel_softmax_backward: from the key as from y", "[gumbel_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto compare = [&](const char* what, const std::vector<T>& a, const std::vector<T>& b, double temperature) {
    found.expect(first_difference(a.data(), b.data(), a.size()) == a.size(), [&] {
      return std::string(Arch::name) + ", " + what + ", n = " + std::to_string(a.size()) +
             ", T = " + exact_text(temperature);
    });
  };
  for (const std::size_t n : {0u, 1u, 5u, 64u, 100u, 2048u, 5000u}) {
    for (const row_kind kind : {row_kind::normal, row_kind::masked, row_kind::very_wide}) {
      for (const double temperature : {1.0, 0.5, 1e-3, 20.0, 0.0}) {
        const xs::noise_key key{.seed = n, .row = 5, .index = 30};
        const xs::gumbel_softmax_options options{.temperature = temperature};
        const std::vector<T> z = make_row<T>(kind, n, n);
        const std::vector<T> dy = some_gradient<T>(n);
        std::vector<T> y(n);
        std::vector<T> from_y(n);
        xs::gumbel_softmax<Arch>(key, z, y, options);
        xs::gumbel_softmax_backward<Arch>(y, dy, from_y, options);
        std::vector<T> plain(n);
        xs::softmax_backward<Arch>(y, dy, plain, {.temperature = temperature});
        compare("softmax_backward", from_y, plain, temperature);
        std::vector<T> dz(n);
        xs::gumbel_softmax_backward<Arch>(key, z, dy, dz, {.temperature = temperature, .hard = true});
        compare("from the key", from_y, dz, temperature);
        dz = dy;
        xs::gumbel_softmax_backward<Arch>(key, z, dz, dz, options);
        compare("dz is dy", from_y, dz, temperature);
        dz = z;
        xs::gumbel_softmax_backward<Arch>(key, dz, dy, dz, options);
        compare("dz is z", from_y, dz, temperature);
        if constexpr (std::is_same_v<T, float>) {
          std::vector<xs::bfloat16> half(n);
          xs::gumbel_softmax_backward<Arch>(key, z, dy, half, options);
          std::vector<float> rounded(n);
          std::vector<float> stored(n);
          for (std::size_t i = 0; i < n; ++i) {
            rounded[i] = static_cast<float>(xs::bfloat16(from_y[i]));
            stored[i] = static_cast<float>(half[i]);
          }
          compare("bfloat16", rounded, stored, temperature);
        }
      }
    }
  }
  // Special rows, and rows in any layout, dz apart and in the place of dy.
  for (const std::size_t n : {5u, 70u, 2500u}) {
    std::vector<std::vector<T>> rows_of_z(4, make_row<T>(row_kind::normal, n, 2));
    rows_of_z[0][n / 2] = std::numeric_limits<T>::quiet_NaN();
    rows_of_z[1][n / 2] = inf<T>;
    rows_of_z[2].assign(n, -inf<T>);
    for (const layout& l : layouts_of(4, n)) {
      laid_out<T> z(4, n, l, 3);
      laid_out<T> dy(4, n, l, 3);
      laid_out<T> dz(4, n, l, 3);
      std::vector<std::vector<T>> expected_rows;
      for (std::size_t r = 0; r < 4; ++r) {
        const std::vector<T> upstream = some_gradient<T>(n);
        std::vector<T> y(n);
        xs::gumbel_softmax<Arch>({.seed = 4, .row = r}, rows_of_z[r], y, {.temperature = 0.6});
        expected_rows.emplace_back(n);
        xs::softmax_backward<Arch>(y, upstream, expected_rows[r], {.temperature = 0.6});
        for (std::size_t c = 0; c < n; ++c) {
          z.at(r, c) = rows_of_z[r][c];
          dy.at(r, c) = upstream[c];
        }
      }
      const auto rows_as_expected = [&](laid_out<T>& found_rows, const char* what) {
        for (std::size_t r = 0; r < 4; ++r) {
          std::vector<T> row(n);
          for (std::size_t c = 0; c < n; ++c) {
            row[c] = found_rows.at(r, c);
          }
          compare((std::string(what) + l.what).c_str(), expected_rows[r], row, 0.6);
        }
      };
      xs::gumbel_softmax_backward<Arch>({.seed = 4}, z.view(), dy.view(), dz.view(), {.temperature = 0.6});
      rows_as_expected(dz, "apart, ");
      xs::gumbel_softmax_backward<Arch>({.seed = 4}, z.view(), dy.view(), dy.view(), {.temperature = 0.6});
      rows_as_expected(dy, "dz is dy, ");
      found.expect(dz.untouched_between() && dy.untouched_between(),
                   [] { return std::string("wrote beside the rows"); });
    }
  }
  // Rows on threads.
  constexpr std::size_t rows = 300;
  constexpr std::size_t cols = 200;
  const std::vector<T> z = make_row<T>(row_kind::normal, rows * cols, 1);
  const std::vector<T> dy = some_gradient<T>(rows * cols);
  const auto view = [&](auto& v) { return xs::matrix_view(v.data(), rows, cols); };
  std::vector<T> serial(rows * cols);
  xs::gumbel_softmax_backward<Arch>({.seed = 1}, view(z), view(dy), view(serial), {.temperature = 0.5});
  std::vector<T> y(rows * cols);
  std::vector<std::size_t> indices(rows);
  xs::gumbel_softmax<Arch>({.seed = 1}, view(z), view(y), indices, {.temperature = 0.5});
  for (const named_executor& e : every_executor()) {
    std::vector<T> shared(rows * cols);
    xs::gumbel_softmax_backward<Arch>(e.run, {.seed = 1}, view(z), view(dy), view(shared), {.temperature = 0.5});
    compare(e.name.c_str(), serial, shared, 0.5);
    xs::gumbel_softmax_backward<Arch>(e.run, view(y), view(dy), view(shared), {.temperature = 0.5});
    compare(e.name.c_str(), serial, shared, 0.5);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("gumbel_softmax: known answers", "[gumbel_softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // l = log(1/2, 1/4, 1/8, 1/8), noise (0.25, -0.5, 1.5, 0), dL/dy = (1, -2, 0.5, 3).
  const double ln2 = 0x1.62e42fefa39efp-1;
  const std::vector<T> perturbed = {static_cast<T>(-ln2 + 0.25), static_cast<T>(-2 * ln2 - 0.5),
                                    static_cast<T>(-3 * ln2 + 1.5), static_cast<T>(-3 * ln2)};
  const std::vector<T> dy = {1, -2, T(0.5), 3};
  struct answer {
    double temperature;
    std::vector<double> y;
    std::vector<double> dz;
  };
  const answer answers[] = {
      {0.5,
       {0.539055492539260325, 0.0300698845947939693, 0.410440017646473449, 0.0204346052194722568},
       {0.274444419849602892, -0.165110100730542614, -0.201476424686063718, 0.0921421055670034392}},
      {1.0,
       {0.434127790814772999, 0.102533723998123335, 0.378813719327202601, 0.0845247658599010644},
       {0.142375899057084252, -0.273974365678871218, -0.0651716805170532904, 0.196770147138840256}},
  };
  for (const answer& a : answers) {
    const std::vector<T> y = xs::softmax<Arch>(perturbed, {.temperature = a.temperature});
    std::vector<T> dz(4);
    xs::gumbel_softmax_backward<Arch>(y, dy, dz, {.temperature = a.temperature});
    for (std::size_t i = 0; i < 4; ++i) {
      // The logits are rounded: a relative error of 2 / T of that.
      const double tolerance = 8 * static_cast<double>(std::numeric_limits<T>::epsilon());
      CHECK(std::fabs(static_cast<double>(y[i]) - a.y[i]) <= tolerance);
      CHECK(std::fabs(static_cast<double>(dz[i]) - a.dz[i]) <= 4 * tolerance);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("gumbel_softmax: densities and the gradient of the temperature", "[gumbel_softmax][unit]",
                        scalars) {
  using T = TestType;
  const double ln2 = 0x1.62e42fefa39efp-1;
  const std::vector<double> z = {-ln2, -2 * ln2, -3 * ln2, -3 * ln2};
  const std::vector<double> dy = {1, -2, 0.5, 3};
  struct answer {
    double temperature;
    std::vector<double> y;
    double log_kappa;
    double log_density;
    double gradient;
  };
  const answer answers[] = {
      {0.5,
       {0.539055492539260325, 0.0300698845947939693, 0.410440017646473449, 0.0204346052194722568},
       -6.71730543395843363,
       2.18591340665825603,
       -0.229933338347113087},
      {1.0,
       {0.434127790814772999, 0.102533723998123335, 0.378813719327202601, 0.0845247658599010644},
       -4.63786389227859770,
       1.91553736788645322,
       -0.0822939837343283557},
      {2.0,
       {0.349484364168251362, 0.169844826120081220, 0.326461375271553124, 0.154209434440114293},
       -2.55842235059876177,
       3.25463142490131175,
       std::numeric_limits<double>::quiet_NaN()},
  };
  for (const answer& a : answers) {
    const xs::gumbel_softmax_options options{.temperature = a.temperature};
    std::vector<double> logs;
    for (const double y : a.y) {
      logs.push_back(std::log(y));
    }
    CHECK(std::fabs(xs::gumbel_softmax_log_density(z, a.y, options) - a.log_density) < 1e-13);
    CHECK(std::fabs(xs::exp_concrete_log_density(z, logs, options) - a.log_kappa) < 1e-13);
    if (!std::isnan(a.gradient)) {
      CHECK(std::fabs(xs::gumbel_softmax_temperature_gradient(a.y, dy, options) - a.gradient) < 1e-14);
    }
    // Storage: what is given is what counts, at any stride.
    std::vector<T> narrow(4);
    std::vector<T> apart(8, T(-1));
    std::vector<double> widened(4);
    for (std::size_t i = 0; i < 4; ++i) {
      narrow[i] = apart[2 * i] = static_cast<T>(a.y[i]);
      widened[i] = static_cast<double>(narrow[i]);
    }
    const double expected = xs::gumbel_softmax_log_density(z, widened, options);
    CHECK(xs::gumbel_softmax_log_density(z, narrow, options) == expected);
    CHECK(xs::gumbel_softmax_log_density(z, xs::vector_view<const T>(apart.data(), 4, 2), options) == expected);
    CHECK(xs::gumbel_softmax_temperature_gradient(narrow, dy, options) ==
          xs::gumbel_softmax_temperature_gradient(widened, dy, options));
  }
  // Two equal classes at T = 1: uniform on (0, 1), also at its ends; half a type on the way.
  const std::vector<double> pair = {0.25, 0.25};
  for (const double y : {0.1, 0.5, 0.999, 0.0, 1.0}) {
    CHECK(std::fabs(xs::gumbel_softmax_log_density(pair, std::vector<double>{y, 1 - y})) < 1e-14);
  }
  const std::vector<xs::bfloat16> half = {xs::bfloat16(0.5f), xs::bfloat16(0.5f)};
  CHECK(std::fabs(xs::gumbel_softmax_log_density(pair, half)) < 1e-14);
  // The density integrates to 1: three classes, a grid in the middle of cells of the triangle.
  const std::vector<double> three = {0.3, -0.4, 0.1};
  constexpr int cells = 400;
  double mass = 0;
  for (int i = 0; i < cells; ++i) {
    for (int j = 0; i + j < cells; ++j) {
      for (int half_cell = 1; half_cell <= (i + j < cells - 1 ? 2 : 1); ++half_cell) {
        const double a = (i + half_cell / 3.0) / cells;
        const double b = (j + half_cell / 3.0) / cells;
        const std::vector<double> y = {a, b, 1 - a - b};
        mass += std::exp(xs::gumbel_softmax_log_density(three, y, {.temperature = 2.5})) / (2.0 * cells * cells);
      }
    }
  }
  CHECK(std::fabs(mass - 1) < 1e-4); // the midpoint rule's error here
  // Far logits and samples: nothing overflows, and a constant changes nothing.
  std::vector<double> far = three;
  for (double& x : far) {
    x += 1e6;
  }
  const std::vector<double> tiny = {-1e4, -2e3, -0.0};
  CHECK(std::isfinite(xs::exp_concrete_log_density(far, tiny, {.temperature = 0.1})));
  CHECK(std::fabs(xs::exp_concrete_log_density(far, tiny, {.temperature = 0.1}) -
                  xs::exp_concrete_log_density(three, tiny, {.temperature = 0.1})) < 1e-8);
  // Special values.
  const double infinity = inf<double>;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto density = [](const std::vector<double>& logits, const std::vector<double>& y, double t = 1.0) {
    return xs::gumbel_softmax_log_density(logits, y, {.temperature = t});
  };
  CHECK(density({0.25, -infinity, 0.25}, {0.3, 0, 0.7}) == density({0.25, 0.25}, {0.3, 0.7}));
  CHECK(density({0, -infinity}, {0.5, 0.5}) == -infinity);
  CHECK(std::isnan(density({0, nan}, {0.5, 0.5})));
  CHECK(std::isnan(density({0, infinity}, {0.5, 0.5})));
  CHECK(std::isnan(density({0, 0}, {1.5, -0.5})));
  CHECK(std::isnan(density({-infinity, -infinity}, {0, 0})));
  CHECK(density({0, 0}, {0, 1}, 0.5) == infinity);
  CHECK(density({0, 0}, {0, 1}, 2.0) == -infinity);
  CHECK(xs::exp_concrete_log_density(std::vector<double>{0, 0}, std::vector<double>{-infinity, 0}) == -infinity);
  CHECK(density({3}, {1}) == 0);
  CHECK(xs::gumbel_softmax_temperature_gradient(std::vector<T>{0, 1}, std::vector<T>{inf<T>, 1}) == 0);
  CHECK_THROWS_AS(density({0, 0}, {1}), std::invalid_argument);
  CHECK_THROWS_AS(density({0, 0}, {0.5, 0.5}, 0.0), std::invalid_argument);
  CHECK_THROWS_AS(xs::gumbel_softmax_temperature_gradient(std::vector<T>{1}, std::vector<T>{1, 2}),
                  std::invalid_argument);
}

TEMPLATE_LIST_TEST_CASE("condition_on_maximum: known answers, order and special values", "[gumbel_softmax][unit]",
                        scalars) {
  using T = TestType;
  const double unit = static_cast<double>(std::numeric_limits<T>::epsilon());
  const auto conditioned = [](const std::vector<T>& x, double maximum) {
    std::vector<T> y(x.size());
    xs::condition_on_maximum(x, maximum, y);
    return y;
  };
  // exact in T: 0.75, 2 and 1.25; 40, 50 and 45
  CHECK(std::fabs(static_cast<double>(conditioned({T(1.25), 2}, 0.75)[0]) - 0.472348670523629383) < unit);
  CHECK(std::fabs(static_cast<double>(conditioned({45, 50}, 40)[0]) - 39.9933297486025411) < 64 * unit);
  const std::vector<T> z = make_row<T>(row_kind::masked, 500, 3);
  std::vector<T> x = noise_row<xs::default_arch, T>(noise::gumbel, {.seed = 3}, z.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] += z[i];
  }
  const T largest = *std::max_element(x.begin(), x.end());
  for (const double maximum : {-3.0, 0.0, 40.0, static_cast<double>(largest)}) {
    const std::vector<T> y = conditioned(x, maximum);
    findings found;
    for (std::size_t i = 0; i < x.size(); ++i) {
      // -log(exp(-m) - exp(-Z) + exp(-x)), divided by the largest of the three.
      const long double m = maximum;
      const long double shift =
          std::max<long double>({-m, -static_cast<long double>(largest), -static_cast<long double>(x[i])});
      const long double sum = std::exp(-m - shift) - std::exp(-static_cast<long double>(largest) - shift) +
                              std::exp(-static_cast<long double>(x[i]) - shift);
      // At the largest the other two cancel.
      const long double exact = x[i] == -inf<T> ? -inf<long double> : x[i] == largest ? m : -(std::log(sum) + shift);
      const bool right = std::isinf(exact)
                             ? y[i] == -inf<T>
                             : std::fabs(static_cast<long double>(y[i]) - exact) <=
                                   2 * static_cast<long double>(unit) * std::max(1.0L, std::fabs(exact)) + 1e-14L;
      found.expect(right, [&] { return exact_text(x[i]) + " becomes " + exact_text(y[i]); });
      found.expect(x[i] == largest ? y[i] == static_cast<T>(maximum) : y[i] <= static_cast<T>(maximum),
                   [&] { return exact_text(y[i]) + " is above the maximum"; });
    }
    XSOFTMAX_CHECK_FINDINGS(found);
  }
  for (const double far : {1e8, 1e17, 1e300}) { // -log(exp(-1) - exp(-2)), the maximum apart
    CHECK(std::fabs(static_cast<double>(conditioned({1, 2}, far)[0]) - 1.45867514538708189) < 2 * unit);
  }
  std::vector<T> in_place = x;
  xs::condition_on_maximum(in_place, 1.0, in_place);
  CHECK(in_place == conditioned(x, 1.0));
  CHECK(conditioned({1, 2}, -inf<double>) == std::vector<T>(2, -inf<T>));
  CHECK(conditioned({-inf<T>, -inf<T>}, 3) == std::vector<T>(2, -inf<T>));
  for (const T y : conditioned({1, std::numeric_limits<T>::quiet_NaN(), 2}, 3)) {
    CHECK(std::isnan(y));
  }
  CHECK(std::isnan(conditioned({1, 2}, inf<double>)[0]));
  CHECK(std::isnan(conditioned({1, inf<T>}, 3)[0]));
  std::vector<T> three(3);
  CHECK_THROWS_AS(xs::condition_on_maximum(std::vector<T>{1, 2}, 1.0, three), std::invalid_argument);
}

TEST_CASE("gumbel_softmax: the density's factorial", "[gumbel_softmax][unit]") {
  for (std::size_t n = 1; n < 200; ++n) {
    CHECK(std::fabs(static_cast<long double>(xs::detail::log_gamma(n)) - std::lgamma(static_cast<long double>(n))) <=
          4e-16L * std::max(1.0L, std::lgamma(static_cast<long double>(n))));
  }
  CHECK(std::fabs(xs::detail::log_gamma(1000000) - 12815504.56914761) < 1e-7);
}

TEMPLATE_LIST_TEST_CASE("gumbel_softmax: what is refused", "[gumbel_softmax][errors][unit]", scalars) {
  using T = TestType;
  const std::vector<T> z(6);
  std::vector<T> y(6, T(7));
  std::vector<T> short_y(5, T(7));
  std::vector<std::size_t> indices(3);
  CHECK_THROWS_AS(xs::gumbel_softmax({}, z, short_y), std::invalid_argument);
  CHECK_THROWS_AS(xs::gumbel_softmax({}, z, y, {.temperature = -1}), std::invalid_argument);
  CHECK_THROWS_AS(xs::gumbel_softmax({.row = std::uint64_t{1} << 40}, z, y), std::invalid_argument);
  CHECK_THROWS_AS(
      xs::gumbel_softmax({}, xs::matrix_view<const T>(z.data(), 2, 3), xs::matrix_view<T>(y.data(), 2, 3), indices),
      std::invalid_argument);
  CHECK_THROWS_AS(xs::gumbel_softmax_backward({}, z, y, short_y), std::invalid_argument);
  CHECK_THROWS_AS(xs::gumbel_softmax_backward({.stream = ~std::uint64_t{0}}, z, z, y), std::invalid_argument);
  CHECK_THROWS_AS(xs::gumbel_softmax_backward(z, short_y, y), std::invalid_argument);
  CHECK(std::all_of(y.begin(), y.end(), [](T x) { return x == T(7); }));
  CHECK(std::all_of(short_y.begin(), short_y.end(), [](T x) { return x == T(7); }));
}

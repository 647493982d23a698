// SPDX-License-Identifier: MIT
// stablemax_backward and log_stablemax_backward: right on every kind of row, and the same bits however a row lies in
// memory.

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

template <class T>
void expect_equal(findings& found, const std::vector<T>& expected, const std::vector<T>& dz, const std::string& what) {
  const std::size_t i = first_difference(expected.data(), dz.data(), expected.size());
  found.expect(i == expected.size(), [&] {
    return what + ", n = " + std::to_string(expected.size()) + ": element " + std::to_string(i) + " is " +
           exact_text(dz[i]) + ", not " + exact_text(expected[i]);
  });
}

/// The arguments of one gradient, and the one that it has by itself.
template <class T>
struct problem {
  std::vector<T> z;
  std::vector<T> y;
  std::vector<T> dy;
  std::vector<T> dz;
};

/// Of any kind by number; where `special`, some have a NaN or an infinity.
template <class Arch, class Of, class T>
problem<T> make_problem(std::uint64_t number, std::size_t n, bool special) {
  using limits = std::numeric_limits<T>;
  problem<T> made;
  made.z = make_any_row<T>(number, n, number);
  made.y = exact_results<Of>(made.z);
  made.dy = make_gradient<T>(gradient_kinds[number % std::size(gradient_kinds)], n, number);
  if (special && n != 0 && number % 4 == 3) {
    std::vector<T>* const rows[] = {&made.z, &made.y, &made.dy};
    const T values[] = {limits::quiet_NaN(), limits::infinity(), -limits::infinity()};
    (*rows[number / 4 % 3])[number % n] = values[number / 12 % 3];
  }
  made.dz = stablemax_gradient<Arch, Of>(made.z, made.y, made.dy);
  return made;
}

/// Numbers as p and lp that no library function made.
template <class Of, class T>
std::vector<T> make_dyadic_results(std::size_t n, std::uint64_t seed) {
  std::vector<T> y = make_dyadic_row<T>(n, seed, 3, 8);
  for (T& x : y) {
    x = Of::logarithmic ? -std::fabs(x) : std::ldexp(std::fabs(x), -5);
  }
  return y;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("stablemax backward: known answers", "[stablemax][backward][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Of the cross-entropy with each target: p = 12/21, 2/21, 6/21, 1/21 and 1 + |z| = 3, 2, 3/2, 4.
  const std::vector<T> z = {2, -1, T(0.5), -3};
  const long double gradients[][4] = {
      {-0.142857142857142857L, 0.0476190476190476190L, 0.190476190476190476L, 0.0119047619047619048L},
      {0.190476190476190476L, -0.452380952380952381L, 0.190476190476190476L, 0.0119047619047619048L},
      {0.190476190476190476L, 0.0476190476190476190L, -0.476190476190476190L, 0.0119047619047619048L},
      {0.190476190476190476L, 0.0476190476190476190L, 0.190476190476190476L, -0.238095238095238095L}};
  const std::vector<T> p = exact_results<of_stablemax>(z);
  const std::vector<T> lp = exact_results<of_log_stablemax>(z);
  for (std::size_t target = 0; target < 4; ++target) {
    std::vector<T> dlp(4, T(0));
    dlp[target] = -1;
    const std::vector<T> dz = stablemax_gradient<Arch, of_log_stablemax>(z, lp, dlp);
    // The same loss as a function of p: dp = -1 / p of the target.
    std::vector<T> dp(4, T(0));
    dp[target] = -1 / p[target];
    const std::vector<T> of_p = stablemax_gradient<Arch, of_stablemax>(z, p, dp);
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(Arch::name, scalar_name<T>(), target, i);
      // p and lp are rounded before they come here, and cancel to a quarter at most.
      CHECK(ulp_distance(dz[i], gradients[target][i]) <= 12);
      CHECK(ulp_distance(of_p[i], gradients[target][i]) <= 12);
    }
  }
  // Exactly, where nothing is rounded: p = 3/4, 1/4.
  using row = std::vector<T>;
  CHECK(stablemax_gradient<Arch, of_stablemax>(row{2, 0}, row{T(0.75), T(0.25)}, row{4, 0}) == row{T(0.25), T(-0.75)});
  CHECK(stablemax_gradient<Arch, of_stablemax>(row{-3, 1}, row{T(0.5), T(0.5)}, row{4, 0}) == row{T(0.25), T(-0.5)});
  CHECK(stablemax_gradient<Arch, of_log_stablemax>(row{7}, row{0}, row{3}) == row{0});
  CHECK(stablemax_gradient<Arch, of_log_stablemax>(row{3, -1}, row{0, 0}, row{8, -4}) == row{1, -4});
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: every kind of row and gradient", "[stablemax][backward][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u, 2u, 5u, 16u, 33u, 100u, 257u, 1000u, 2500u, 5001u}) {
    for_each_row<T>(n, 1, [&](const std::string& kind, const std::vector<T>& z) {
      const std::vector<T> y = exact_results<Of>(z);
      const std::string what = std::string(Arch::name) + ", " + Of::backward_name + ", " + kind;
      for (std::size_t g = 0; g < std::size(gradient_kinds); ++g) {
        if (n > 300 && g % 3 != kind.size() % 3) { // not every one where the reference takes long
          continue;
        }
        const std::vector<T> dy = make_gradient<T>(gradient_kinds[g], n, 2);
        expect_right_stablemax_gradient<Of>(found, z, y, dy, stablemax_gradient<Arch, Of>(z, y, dy), what);
      }
      // Logits and probabilities that do not belong together.
      const std::vector<T> other = make_any_row<T>(n + kind.size(), n, 3);
      const std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 4);
      if (std::none_of(other.begin(), other.end(), [](T x) { return std::isinf(x); })) {
        expect_right_stablemax_gradient<Of>(found, other, y, dy, stablemax_gradient<Arch, Of>(other, y, dy), what);
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: logits of every size", "[stablemax][backward][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  generator random(5);
  for (int octave = limits::min_exponent - limits::digits; octave < limits::max_exponent; ++octave) {
    constexpr std::size_t n = 21;
    std::vector<T> z(n);
    for (T& x : z) {
      x = std::ldexp(static_cast<T>(1 + 0.999 * random.unit()) * (random.below(2) == 0 ? T(1) : T(-1)), octave);
    }
    const std::vector<T> y = exact_results<Of>(make_row<T>(row_kind::normal, n, random.next()));
    for (const gradient_kind gradients : {gradient_kind::normal, gradient_kind::huge, gradient_kind::small}) {
      const std::vector<T> dy = make_gradient<T>(gradients, n, random.next());
      expect_right_stablemax_gradient<Of>(found, z, y, dy, stablemax_gradient<Arch, Of>(z, y, dy),
                                          std::string(Arch::name) + ", octave " + std::to_string(octave));
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: every length and misalignment, in place too",
                        "[stablemax][backward][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::vector<T> nothing;
  Of::template backward<Arch>(nothing, nothing, nothing, nothing);
  for (std::size_t n = 1; n <= 5000; n += n < 260 ? 1 : 787) {
    const auto [z, y, dy, expected] = make_problem<Arch, Of, T>(n, n, true);
    if (n % 4 != 3) {
      expect_right_stablemax_gradient<Of>(found, z, y, dy, expected, Arch::name);
    }
    for (std::size_t offset = 0; offset < 16; offset += 1 + n % 3) {
      const auto moved = [offset, n](const std::vector<T>& row, std::size_t other) {
        std::vector<T> into((offset * other + 3) % 16 + n + 1, T(-7));
        std::copy(row.begin(), row.end(), into.end() - static_cast<std::ptrdiff_t>(n) - 1);
        return into;
      };
      const auto view = [n](std::vector<T>& row) { return xs::vector_view<T>(&*row.end() - n - 1, n); };
      for (int target = 0; target < 4; ++target) { // dz by itself, then in the place of each
        std::vector<T> rows[] = {moved(z, 1), moved(y, 5), moved(dy, 7), moved(dy, 3)};
        std::vector<T>& out = rows[(target + 3) % 4];
        Of::template backward<Arch>(view(rows[0]), view(rows[1]), view(rows[2]), view(out));
        expect_equal(found, expected, std::vector<T>(out.end() - static_cast<std::ptrdiff_t>(n) - 1, out.end() - 1),
                     "offset " + std::to_string(offset) + ", target " + std::to_string(target));
        const std::size_t before = out.size() - n - 1;
        found.expect(out.back() == T(-7) && (before == 0 || out[before - 1] == T(-7)),
                     [] { return "wrote beside the row"; });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: matrices of every layout have the bits of their rows",
                        "[stablemax][backward][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t number = 0;
  for (const std::size_t rows : {1u, 2u, 7u, 16u, 65u, 130u}) {
    for (const std::size_t cols : {1u, 3u, 16u, 33u, 64u, 257u, 2100u, 4500u}) {
      if (rows * cols > 20000) {
        continue;
      }
      std::vector<problem<T>> alone;
      for (std::size_t r = 0; r < rows; ++r) {
        alone.push_back(make_problem<Arch, Of, T>(++number, cols, r % 3 == 0));
      }
      const std::vector<layout> layouts = layouts_of(rows, cols);
      for (std::size_t l = 0; l < layouts.size(); ++l) {
        const layout& base = layouts[l];
        const layout& other = layouts[(l * 5 + 2) % layouts.size()];
        laid_out<T> z(rows, cols, l % 3 == 0 ? other : base);
        laid_out<T> y(rows, cols, l % 3 == 1 ? other : base);
        laid_out<T> dy(rows, cols, l % 3 == 2 ? other : base);
        laid_out<T> out(rows, cols, layouts[(l * 3 + 1) % layouts.size()]);
        laid_out<T> like(rows, cols, base);
        for (laid_out<T>* to : {&out, &like, &z, &y, &dy}) {
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
              z.at(r, c) = alone[r].z[c];
              y.at(r, c) = alone[r].y[c];
              dy.at(r, c) = alone[r].dy[c];
            }
          }
          Of::template backward<Arch>(z.view(), y.view(), dy.view(), to->view());
          std::vector<T> dz(cols);
          for (std::size_t r = 0; r < rows; ++r) {
            for (std::size_t c = 0; c < cols; ++c) {
              dz[c] = to->at(r, c);
            }
            expect_equal(found, alone[r].dz, dz,
                         std::string(Of::backward_name) + ", " + base.what + ", row " + std::to_string(r) + " of " +
                             std::to_string(rows));
          }
          found.expect(to->untouched_between(),
                       [&] { return std::string(base.what) + ": wrote between the elements"; });
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: columns have the bits of rows", "[stablemax][backward][columns][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t number = 1000;
  for (const std::size_t rows : {3u, 15u, 16u, 17u, 32u, 63u, 64u, 65u, 128u, 129u, 300u}) {
    for (const std::size_t n : {1u, 2u, 15u, 16u, 17u, 32u, 33u, 100u, 2049u}) {
      if (n > 1000 && rows % 16 != 1) {
        continue;
      }
      std::vector<problem<T>> alone;
      const std::size_t stride = rows + number % 3;
      std::vector<T> z(n * stride, std::numeric_limits<T>::quiet_NaN());
      std::vector<T> y = z;
      std::vector<T> dy = z;
      std::vector<T> dz(n * stride, T(-7));
      for (std::size_t r = 0; r < rows; ++r) {
        alone.push_back(make_problem<Arch, Of, T>(++number, n, n % 2 == 0));
        for (std::size_t i = 0; i < n; ++i) {
          z[i * stride + r] = alone[r].z[i];
          y[i * stride + r] = alone[r].y[i];
          dy[i * stride + r] = alone[r].dy[i];
        }
      }
      const auto view = [&](std::vector<T>& matrix) {
        return xs::matrix_view<T>(matrix.data(), n, rows, static_cast<std::ptrdiff_t>(stride)).transposed();
      };
      const auto check = [&](const std::vector<T>& matrix, const char* what) {
        std::vector<T> column(n);
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t i = 0; i < n; ++i) {
            column[i] = matrix[i * stride + r];
          }
          expect_equal(found, alone[r].dz, column,
                       std::string(what) + ", row " + std::to_string(r) + " of " + std::to_string(rows));
        }
      };
      Of::template backward<Arch>(view(z), view(y), view(dy), view(dz));
      check(dz, "columns");
      bool between = true;
      for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t r = rows; r < stride; ++r) {
          between = between && dz[i * stride + r] == T(-7);
        }
      }
      found.expect(between, [] { return "an element between the rows was written"; });
      // Logits by rows, everything else by columns.
      std::vector<T> by_rows;
      for (const problem<T>& row : alone) {
        by_rows.insert(by_rows.end(), row.z.begin(), row.z.end());
      }
      Of::template backward<Arch>(xs::matrix_view<const T>(by_rows.data(), rows, n), view(y), view(dy), view(dz));
      check(dz, "logits by rows");
      Of::template backward<Arch>(view(z), view(y), view(dy), view(z));
      check(z, "columns in place of z");
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: masked elements get +0, and what is there is read into nothing",
                        "[stablemax][backward][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  const T masked = Of::template masked<T>;
  findings found;
  for (const std::size_t n : {1u, 2u, 3u, 8u, 17u, 64u, 100u, 257u, 2048u, 2049u, 4100u}) {
    const std::vector<T> z = make_row<T>(row_kind::masked, n, 5);
    const std::vector<T> y = exact_results<Of>(z);
    std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 6);
    for (std::size_t i = 0; i < n; ++i) {
      dy[i] = y[i] == masked ? T(0) : dy[i];
    }
    const std::vector<T> expected = stablemax_gradient<Arch, Of>(z, y, dy);
    expect_right_stablemax_gradient<Of>(found, z, y, dy, expected, Arch::name);
    const T poisons[] = {limits::quiet_NaN(), limits::infinity(), -limits::infinity(), limits::max(), T(1)};
    for (const T of_dy : poisons) {
      for (const T of_z : poisons) {
        std::vector<T> poisoned_z = z;
        std::vector<T> poisoned = dy;
        for (std::size_t i = 0; i < n; ++i) {
          poisoned_z[i] = y[i] == masked ? of_z : z[i];
          poisoned[i] = y[i] == masked ? of_dy : dy[i];
        }
        expect_equal(found, expected, stablemax_gradient<Arch, Of>(poisoned_z, y, poisoned), "masked, and it counts");
      }
    }
    // Masked elements to the right, into the next block as well, change nothing.
    for (const std::size_t more : {1u, 15u, 64u, 3000u}) {
      std::vector<T> longer_z = z;
      std::vector<T> longer = y;
      std::vector<T> poisoned = dy;
      longer_z.resize(n + more, more % 2 == 0 ? -limits::infinity() : limits::quiet_NaN());
      longer.resize(n + more, masked);
      poisoned.resize(n + more, limits::quiet_NaN());
      std::vector<T> dz = stablemax_gradient<Arch, Of>(longer_z, longer, poisoned);
      found.expect(std::all_of(dz.begin() + static_cast<std::ptrdiff_t>(n), dz.end(), [](T x) { return bits(x) == 0; }),
                   [] { return "a masked element to the right is not +0"; });
      dz.resize(n);
      expect_equal(found, expected, dz, "masked elements to the right");
    }
    // Nothing else.
    const std::vector<T> nan(n, limits::quiet_NaN());
    expect_equal(found, std::vector<T>(n, T(0)), stablemax_gradient<Arch, Of>(nan, std::vector<T>(n, masked), nan),
                 "all masked");
  }
  // -0 is no weight either.
  if constexpr (!Of::logarithmic) {
    const std::vector<T> dz = stablemax_gradient<Arch, Of>(std::vector<T>{1, 1}, std::vector<T>{T(-0.0), T(0.5)},
                                                           std::vector<T>{limits::quiet_NaN(), T(2)});
    CHECK(bits(dz[0]) == 0);
    CHECK(dz[1] == T(0.25));
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: infinities and NaN follow the formula", "[stablemax][backward][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  const T inf = limits::infinity();
  const T nan = limits::quiet_NaN();
  const T masked = Of::template masked<T>;
  struct special {
    T a;
    T b;
    T sum; // what becomes of the sum
  };
  findings found;
  for (const std::size_t n : {2u, 7u, 40u, 300u, 5000u}) {
    const std::vector<T> z = make_row<T>(row_kind::normal, n, 7);
    for (const special& s : {special{nan, 1, nan}, special{inf, 1, inf}, special{-inf, 1, -inf},
                             special{inf, -inf, nan}, special{inf, inf, inf}, special{nan, inf, nan}}) {
      std::vector<T> y = exact_results<Of>(z);
      std::vector<T> dy(n, T(1));
      dy[n - 1] = s.a;
      dy[0] = s.b;
      if (n > 2) {
        y[1] = masked;
        dy[1] = nan;
      }
      const std::vector<T> dz = stablemax_gradient<Arch, Of>(z, y, dy);
      for (std::size_t i = 0; i < n; ++i) {
        const T expected = y[i] == masked ? T(0) : dy[i] - s.sum; // weights and slopes are positive and finite
        found.expect((std::isnan(expected) && std::isnan(dz[i])) || bits(dz[i]) == bits(expected), [&] {
          return std::string(Of::backward_name) + ", n = " + std::to_string(n) + ", element " + std::to_string(i) +
                 " is " + exact_text(dz[i]) + ", not " + exact_text(expected);
        });
      }
    }
    // In y: everything that is not masked, unless the sum does not look at it.
    std::vector<T> y = exact_results<Of>(make_row<T>(row_kind::masked, n, 7));
    const std::vector<T> ones(n, T(1));
    y[n / 2] = nan;
    std::vector<T> dz = stablemax_gradient<Arch, Of>(z, y, ones);
    for (std::size_t i = 0; i < n; ++i) {
      const bool poisoned = Of::logarithmic ? i == n / 2 : y[i] != masked;
      found.expect(std::isnan(dz[i]) == poisoned,
                   [&] { return "NaN in y at " + std::to_string(n / 2) + ": " + exact_text(dz[i]); });
    }
    // In z: that element alone. Where z is infinite, the slope is 0.
    y = exact_results<Of>(z);
    const std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 8);
    const std::vector<T> finite = stablemax_gradient<Arch, Of>(z, y, dy);
    for (const T x : {nan, inf, -inf}) {
      for (const std::size_t i : {std::size_t{0}, n / 2, n - 1}) {
        std::vector<T> other = z;
        other[i] = x;
        std::vector<T> expected = finite;
        expected[i] = std::isnan(x) ? nan : std::copysign(T(0), finite[i]);
        expect_equal(found, expected, stablemax_gradient<Arch, Of>(other, y, dy), "z = " + exact_text(x));
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: the end of the range", "[stablemax][backward][unit]", double_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr double largest = std::numeric_limits<double>::max();
  constexpr double inf = std::numeric_limits<double>::infinity();
  using row = std::vector<double>;
  const auto of_p = [](const row& z, const row& p, const row& dp) {
    return stablemax_gradient<Arch, of_stablemax>(z, p, dp);
  };
  const auto of_lp = [](const row& z, const row& lp, const row& dlp) {
    return stablemax_gradient<Arch, of_log_stablemax>(z, lp, dlp);
  };
  // dp - S is beyond the range, its share is not.
  CHECK(of_p({0, 0}, {0.25, 0.75}, {largest, -largest}) == row{largest * 0.375, -largest * 0.375});
  CHECK(of_p({3, -1}, {0.25, 0.75}, {largest, -largest}) == row{largest * 0.09375, -largest * 0.1875});
  for (const std::size_t n : {4u, 100u, 5000u}) {
    row dy(n, largest);
    for (std::size_t i = n / 2; i < n; ++i) {
      dy[i] = -largest;
    }
    const row z(n, -1.0);
    row half = dy;
    for (double& x : half) {
      x /= 2;
    }
    CHECK(of_lp(z, row(n, -700.0), dy) == half);
    CHECK(of_p(z, row(n, 1.0), dy) == half);
  }
  // A sum that stays there is infinite.
  CHECK(of_p({1, 2, 3}, {1, 1, 0.5}, {largest, largest, 1}) == row{-inf, -inf, -inf});
  CHECK(of_lp({1, 2, 3}, {-1, -1, -1}, {-largest, -largest, 1}) == row{inf, inf, inf});
  // Logits there: the slope is about 1 / |z|.
  CHECK(of_p({largest, -largest}, {0.5, 0.5}, {largest, 0})[0] == Approx(0.25));
  CHECK(of_lp({largest, 0}, {-1, -1}, {largest, -largest}) == row{1, -largest});
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: agrees with differences of the forward pass",
                        "[stablemax][backward][unit]", double_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  for (const std::size_t n : {1u, 2u, 5u, 12u}) {
    // Differences do not straddle 0, where the second derivative jumps.
    std::vector<double> z = make_row<double>(row_kind::normal, n, 8);
    for (double& x : z) {
      x += x < 0 ? -0.1 : 0.1;
    }
    const std::vector<double> dy = make_gradient<double>(gradient_kind::normal, n, 9);
    // The loss sum dy_k y_k at z + h e_i.
    const auto loss = [&](std::size_t i, long double h, bool logarithm) {
      const auto weight = [&](std::size_t k) { return wide::stable_weight(z[k] + (k == i ? h : 0)); };
      long double total = 0;
      for (std::size_t k = 0; k < n; ++k) {
        total += weight(k);
      }
      long double sum = 0;
      for (std::size_t k = 0; k < n; ++k) {
        sum += dy[k] * (logarithm ? std::log(weight(k) / total) : weight(k) / total);
      }
      return sum;
    };
    // Fourth-order differences: their error is about h^4 = 1e-12, that of the losses 1e-19 / h = 1e-16.
    const auto slope = [&](std::size_t i, bool logarithm) {
      constexpr long double h = 1e-3L;
      const auto at = [&](long double steps) { return loss(i, steps * h, logarithm); };
      return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h);
    };
    const std::vector<double> of_p = stablemax_gradient<Arch, of_stablemax>(z, result<Arch, of_stablemax>(z), dy);
    const std::vector<double> of_lp =
        stablemax_gradient<Arch, of_log_stablemax>(z, result<Arch, of_log_stablemax>(z), dy);
    for (std::size_t i = 0; i < n; ++i) {
      CAPTURE(n, i);
      CHECK(std::fabs(of_p[i] - static_cast<double>(slope(i, false))) < 1e-10);
      CHECK(std::fabs(of_lp[i] - static_cast<double>(slope(i, true))) < 1e-10);
    }
  }
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: a long row does not drift", "[stablemax][backward][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr std::size_t n = 400000;
  const std::vector<T> z(n, T(-0.5));
  const std::vector<T> y(n, static_cast<T>(reference_stablemax<T>(z).template value<Of>(0)));
  std::vector<T> dy(n, T(0.1));
  findings found;
  expect_right_stablemax_gradient<Of>(found, z, y, dy, stablemax_gradient<Arch, Of>(z, y, dy), "equal gradients");
  dy[n / 3] = T(0.2);
  expect_right_stablemax_gradient<Of>(found, z, y, dy, stablemax_gradient<Arch, Of>(z, y, dy), "one of them larger");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: an executor changes no bit", "[stablemax][backward][executor][unit]",
                        stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  struct shape {
    std::size_t rows;
    std::size_t cols;
  };
  const std::vector<named_executor> executors = every_executor();
  std::size_t turn = 0;
  for (const shape& s : {shape{300, 33}, shape{40, 1000}, shape{3, 20000}, shape{4000, 9}}) {
    std::vector<layout> layouts = layouts_of(s.rows, s.cols);
    for (const layout& l : layouts) {
      const named_executor& executor = executors[++turn % executors.size()];
      laid_out<T> z(s.rows, s.cols, l);
      laid_out<T> y(s.rows, s.cols, l);
      laid_out<T> dy(s.rows, s.cols, l);
      laid_out<T> dz(s.rows, s.cols, l);
      laid_out<T> expected(s.rows, s.cols, l);
      for (std::size_t r = 0; r < s.rows; ++r) {
        const std::vector<T> logits = make_any_row<T>(r, s.cols, turn);
        const std::vector<T> results = make_dyadic_results<Of, T>(s.cols, r);
        const std::vector<T> gradients = make_gradient<T>(gradient_kind::normal, s.cols, r);
        for (std::size_t c = 0; c < s.cols; ++c) {
          z.at(r, c) = logits[c];
          y.at(r, c) = results[c];
          dy.at(r, c) = gradients[c];
        }
      }
      Of::template backward<Arch>(z.view(), y.view(), dy.view(), expected.view());
      Of::template backward<Arch>(executor.run, z.view(), y.view(), dy.view(), dz.view());
      Of::template backward<Arch>(executor.run, z.view(), y.view(), dy.view(), z.view());
      bool same = true;
      for (std::size_t r = 0; r < s.rows; ++r) {
        for (std::size_t c = 0; c < s.cols; ++c) {
          same = same && first_difference(&expected.at(r, c), &dz.at(r, c), 1) == 1 &&
                 first_difference(&expected.at(r, c), &z.at(r, c), 1) == 1;
        }
      }
      found.expect(same && dz.untouched_between() && z.untouched_between(), [&] {
        return std::string(Of::backward_name) + ", " + executor.name + ", " + std::to_string(s.rows) + " x " +
               std::to_string(s.cols) + ", " + l.what;
      });
    }
  }
  // One long row is cut.
  for (const std::size_t n : {std::size_t{131072}, std::size_t{150001}}) {
    for (const row_kind kind : {row_kind::normal, row_kind::masked, row_kind::enormous}) {
      const std::vector<T> z = make_row<T>(kind, n, 9);
      std::vector<T> y = exact_results<Of>(z);
      std::vector<T> dy = make_gradient<T>(turn % 2 == 0 ? gradient_kind::normal : gradient_kind::opposite, n, 9);
      for (const bool nan : {false, true}) {
        if (nan) {
          dy[n - 5] = std::numeric_limits<T>::quiet_NaN();
        }
        const named_executor& executor = executors[++turn % executors.size()];
        std::size_t most_bodies = 0;
        const auto run = [&](std::size_t count, const auto& body) {
          most_bodies = count > most_bodies ? count : most_bodies;
          executor.run(count, body);
        };
        const std::vector<T> expected = stablemax_gradient<Arch, Of>(z, y, dy);
        std::vector<T> dz(n, T(-7));
        Of::template backward<Arch>(run, z, y, dy, dz);
        expect_equal(found, expected, dz, "a long row, " + executor.name);
        dz = z;
        Of::template backward<Arch>(run, dz, y, dy, dz);
        expect_equal(found, expected, dz, "a long row in place of z, " + executor.name);
        dz = dy;
        Of::template backward<Arch>(run, z, y, dz, dz);
        expect_equal(found, expected, dz, "a long row in place of dy, " + executor.name);
        found.expect(most_bodies == (n + 32767) / 32768, [] { return "the row was not cut"; });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: flush-to-zero takes subnormal results and nothing else",
                        "[stablemax][backward][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t flushed = 0;
  for (const std::size_t n : {7u, 64u, 300u, 3000u}) {
    for_each_row<T>(n, 11, [&](const std::string& kind, std::vector<T> z) {
      std::vector<T> y = exact_results<Of>(z);
      // Subnormal inputs are for those who do not ask for zeros in their place.
      const auto without_subnormals = [](std::vector<T>& row) {
        for (T& x : row) {
          x = std::fpclassify(x) == FP_SUBNORMAL ? std::numeric_limits<T>::min() : x;
        }
      };
      without_subnormals(z);
      without_subnormals(y);
      const std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 12);
      std::vector<T> expected = stablemax_gradient<Arch, Of>(z, y, dy);
      std::vector<T> dz;
      {
        const flushing scope(flush_to_zero | denormals_are_zero);
        dz = stablemax_gradient<Arch, Of>(z, y, dy);
      }
      for (std::size_t i = 0; i < n; ++i) {
        if (std::fpclassify(expected[i]) == FP_SUBNORMAL) {
          ++flushed;
          expected[i] = std::copysign(T(0), expected[i]);
        }
        if (expected[i] == 0 && dz[i] == 0) {
          expected[i] = dz[i];
        }
      }
      expect_equal(found, expected, dz, std::string(Of::backward_name) + ", " + kind + ", flushed");
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  CHECK(flushed > 0);
}

TEMPLATE_LIST_TEST_CASE("stablemax backward: reads and writes nothing beyond its rows",
                        "[stablemax][backward][memory][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t n = 1; n <= 2200; n += n < 140 ? 1 : 97) {
    const auto [z, y, dy, expected] = make_problem<Arch, Of, T>(n, n, false);
    for (const flush_with side : {flush_with::front, flush_with::back}) {
      guarded_buffer<T> logits(n, side);
      guarded_buffer<T> results(n, side);
      guarded_buffer<T> gradients(n, side);
      guarded_buffer<T> out(n, side);
      std::copy(z.begin(), z.end(), logits.data());
      std::copy(y.begin(), y.end(), results.data());
      std::copy(dy.begin(), dy.end(), gradients.data());
      const auto run = [&](std::size_t size, std::ptrdiff_t stride) {
        Of::template backward<Arch>(xs::vector_view<const T>(logits.data(), size, stride),
                                    xs::vector_view<const T>(results.data(), size, stride),
                                    xs::vector_view<const T>(gradients.data(), size, stride),
                                    xs::vector_view<T>(out.data(), size, stride));
      };
      run(n, 1);
      expect_equal(found, expected, std::vector<T>(out.begin(), out.end()), "guarded");
      run((n + 1) / 2, 2); // the last one touches the guard
      for (const std::size_t cols : {2u, 5u, 16u, 33u}) {
        if (n % cols == 0) {
          const auto view = [&](T* data) { return xs::matrix_view<T>(data, n / cols, cols); };
          Of::template backward<Arch>(view(logits.data()), view(results.data()), view(gradients.data()),
                                      view(out.data()));
          Of::template backward<Arch>(view(logits.data()).transposed(), view(results.data()).transposed(),
                                      view(gradients.data()).transposed(), view(out.data()).transposed());
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(XSOFTMAX_DISPATCH_AVX2) && defined(XSOFTMAX_DISPATCH_AVX512)

TEMPLATE_LIST_TEST_CASE("stablemax backward: avx2 and avx512 give the same bits",
                        "[stablemax][backward][invariance][unit]", scalars) {
  using T = TestType;
  if (!runnable<xs::arch::avx2>() || !runnable<xs::arch::avx512>()) {
    return;
  }
  findings found;
  const auto check = [&]<class Of>(Of) {
    for (const std::size_t n : {1u, 7u, 16u, 100u, 257u, 1025u, 2049u, 10000u}) {
      for_each_row<T>(n, 15, [&](const std::string& kind, const std::vector<T>& z) {
        const std::vector<T> y = exact_results<Of>(z);
        for (const gradient_kind gradients : gradient_kinds) {
          const std::vector<T> dy = make_gradient<T>(gradients, n, 16);
          expect_equal(found, stablemax_gradient<xs::arch::avx2, Of>(z, y, dy),
                       stablemax_gradient<xs::arch::avx512, Of>(z, y, dy),
                       std::string(Of::backward_name) + ", " + kind);
        }
      });
    }
  };
  check(of_stablemax{});
  check(of_log_stablemax{});
  XSOFTMAX_CHECK_FINDINGS(found);
}

#endif

TEMPLATE_LIST_TEST_CASE(
    "stablemax backward: the bits do not depend on compiler, flags or, with fused multiply-add, architecture",
    "[stablemax][backward][invariance][unit]", stablemax_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  std::uint64_t digest = 0xcbf29ce484222325u; // FNV-1a
  std::uint64_t seed = 0;
  constexpr int end = std::numeric_limits<T>::max_exponent;
  for (const std::size_t n : {1u, 3u, 16u, 40u, 100u, 257u, 1030u, 2049u, 5000u}) {
    for (const int octave : {-end, -8, 0, 3, 13, end / 2, end - 9}) {
      for (const int size : {-end / 2, 0, end / 2}) {
        std::vector<T> z = make_dyadic_row<T>(n, ++seed, 8, 10);
        std::vector<T> dy = make_dyadic_row<T>(n, ++seed, 4, 10);
        for (std::size_t i = 0; i < n; ++i) {
          z[i] = std::ldexp(z[i], octave);
          dy[i] = std::ldexp(dy[i], size);
        }
        for (const T x : stablemax_gradient<Arch, Of>(z, make_dyadic_results<Of, T>(n, ++seed), dy)) {
          digest = (digest ^ static_cast<std::uint64_t>(bits(x))) * 0x100000001b3u;
        }
      }
    }
  }
  // A change of a kernel's arithmetic changes these numbers; nothing else may. (Without fused multiply-add, too, most
  // of these rows give the same bits.)
  constexpr bool single = std::is_same_v<T, float>;
  const std::uint64_t golden = !Of::logarithmic               ? (single ? 0x3b29dc89823fe0f1u : 0x53cf69fc07a505bau)
                               : single                       ? 0x761e497a42ec53e5u
                               : has_fused_multiply_add<Arch> ? 0x6a174e13c0d884eau
                                                              : 0xa9e94b758288876au;
  CAPTURE(Arch::name, Of::backward_name, scalar_name<T>());
  CHECK(digest == golden);
}

namespace {

/// Formats of z, of y and dy, and of dz.
template <class Z, class Y, class DY, class DZ>
struct formats {
  using z = Z;
  using y = Y;
  using dy = DY;
  using dz = DZ;
};

using half_formats =
    std::tuple<formats<xs::float16, xs::float16, xs::float16, xs::float16>,
               formats<xs::bfloat16, xs::bfloat16, xs::bfloat16, xs::bfloat16>,
               formats<xs::float16, float, float, float>, formats<float, xs::bfloat16, float, xs::bfloat16>,
               formats<xs::bfloat16, float, xs::bfloat16, float>, formats<float, float, float, xs::float16>,
               formats<xs::float16, xs::bfloat16, float, xs::bfloat16>>;

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

} // namespace

TEMPLATE_LIST_TEST_CASE("stablemax backward of halves: float arithmetic, rounded once",
                        "[stablemax][backward][half][unit]", half_formats) {
  using Z = typename TestType::z;
  using Y = typename TestType::y;
  using DY = typename TestType::dy;
  using DZ = typename TestType::dz;
  for_each_architecture([&]<class Arch>(Arch) {
    findings found;
    const auto check = [&]<class Of>(Of, std::size_t rows, std::size_t n, bool by_columns, std::uint64_t seed) {
      std::vector<Z> z(rows * n);
      std::vector<Y> y(rows * n);
      std::vector<DY> dy(rows * n);
      std::vector<DZ> dz(rows * n);
      std::vector<float> expected(rows * n);
      const auto place = [&](std::size_t r, std::size_t c) { return by_columns ? c * rows + r : r * n + c; };
      for (std::size_t r = 0; r < rows; ++r) {
        const auto logits = make_any_row<float>(seed + r, n, seed);
        const auto results = exact_results<Of>(logits);
        const auto gradients = make_gradient<float>(gradient_kind::normal, n, seed + r);
        std::vector<float> wide_z(n);
        std::vector<float> wide_y(n);
        std::vector<float> wide_dy(n);
        for (std::size_t c = 0; c < n; ++c) {
          const std::size_t at = place(r, c);
          z[at] = Z(logits[c]);
          y[at] = Y(results[c]);
          dy[at] = DY(gradients[c]);
          wide_z[c] = float(z[at]);
          wide_y[c] = float(y[at]);
          wide_dy[c] = float(dy[at]);
        }
        const std::vector<float> row = stablemax_gradient<Arch, Of>(wide_z, wide_y, wide_dy);
        for (std::size_t c = 0; c < n; ++c) {
          expected[place(r, c)] = row[c];
        }
      }
      const auto view = [&]<class T>(std::vector<T>& matrix) {
        return by_columns ? xs::matrix_view<T>(matrix.data(), n, rows).transposed()
                          : xs::matrix_view<T>(matrix.data(), rows, n);
      };
      const auto expect = [&](const std::vector<DZ>& got, const char* what) {
        std::size_t wrong = 0;
        std::size_t where = 0;
        for (std::size_t i = 0; i < rows * n; ++i) {
          if (pattern(got[i]) != pattern(DZ(expected[i]))) {
            where = wrong++ == 0 ? i : where;
          }
        }
        found.expect(wrong == 0, [&] {
          return std::string(Of::backward_name) + ", " + what + (by_columns ? ", columns, " : ", rows, ") +
                 std::to_string(rows) + " rows of " + std::to_string(n) + ": place " + std::to_string(where) + " is " +
                 exact_text(float(got[where])) + ", not " + exact_text(float(DZ(expected[where])));
        });
      };
      Of::template backward<Arch>(view(z), view(y), view(dy), view(dz));
      expect(dz, "elsewhere");
      if constexpr (std::is_same_v<Y, DZ>) {
        std::vector<Y> copy = y;
        Of::template backward<Arch>(view(z), view(copy), view(dy), view(copy));
        expect(copy, "in place of y");
      }
      if constexpr (std::is_same_v<Z, DZ>) {
        Of::template backward<Arch>(view(z), view(y), view(dy), view(z));
        expect(z, "in place of z");
      }
    };
    std::uint64_t seed = 0;
    for (const std::size_t rows : {1u, 5u, 16u, 31u, 129u}) {
      for (const std::size_t n : {1u, 2u, 7u, 16u, 40u, 65u, 101u, 257u, 2100u}) {
        if (rows * n > 20000) {
          continue;
        }
        for (const bool by_columns : {false, true}) {
          check(of_stablemax{}, rows, n, by_columns, ++seed);
          check(of_log_stablemax{}, rows, n, by_columns, ++seed);
        }
      }
    }
    INFO(Arch::name);
    XSOFTMAX_CHECK_FINDINGS(found);
  });
}

TEST_CASE("stablemax backward: mistaken arguments are refused before anything is written",
          "[stablemax][backward][errors][unit]") {
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
  const auto check = [&]<class Of>(Of, const std::string& y_name, const std::string& dy_name) {
    using Arch = xs::default_arch;
    const std::string function = std::string("xsoftmax::") + Of::backward_name + ":";
    const std::vector<float> row(12, 0.5f);
    const std::vector<float> other(11, 0.5f);
    std::vector<float> dz(12, 3.0f);
    const auto in_turn = [](std::size_t count, const auto& body) {
      for (std::size_t i = 0; i < count; ++i) {
        body(i);
      }
    };
    std::string text = refusal([&] { Of::template backward<Arch>(other, row, row, dz); });
    CAPTURE(text);
    CHECK(contains(text, function));
    CHECK(contains(text, "z = 11, dz = 12"));
    text = refusal([&] { Of::template backward<Arch>(row, other, row, dz); });
    CHECK(contains(text, function));
    CHECK(contains(text, y_name + " = 11, " + dy_name + " = 12"));
    text = refusal([&] { Of::template backward<Arch>(row, row, other, dz); });
    CHECK(contains(text, function));
    CHECK(contains(text, y_name + " = 12, " + dy_name + " = 11"));
    text = refusal([&] { Of::template backward<Arch>(in_turn, row, other, other, dz); });
    CHECK(contains(text, function));
    CHECK(contains(text, y_name + " = 11, dz = 12"));
    const xs::matrix_view<const float> three(row.data(), 3, 4);
    text = refusal([&] { Of::template backward<Arch>(three, three, three, xs::matrix_view<float>(dz.data(), 4, 3)); });
    CHECK(contains(text, function));
    CHECK(contains(text, "rows"));
    CHECK(contains(text, "z = 3, dz = 4"));
    // Overlap that is not the same.
    std::vector<float> both(20, 3.0f);
    const xs::vector_view<float> low(both.data(), 12);
    const xs::vector_view<float> high(both.data() + 5, 12);
    text = refusal([&] { Of::template backward<Arch>(low, row, row, high); });
    CHECK(contains(text, function));
    CHECK(contains(text, "dz overlaps z"));
    CHECK(contains(refusal([&] { Of::template backward<Arch>(high, row, row, low); }), "dz overlaps z"));
    CHECK(contains(refusal([&] { Of::template backward<Arch>(row, low, row, high); }), "dz overlaps " + y_name));
    CHECK(contains(refusal([&] { Of::template backward<Arch>(row, row, low, high); }), "dz overlaps " + dy_name));
    CHECK(contains(refusal([&] { Of::template backward<Arch>(in_turn, low, row, row, high); }), "dz overlaps z"));
    const auto untouched = [](float x) { return x == 3; };
    CHECK(std::all_of(dz.begin(), dz.end(), untouched));
    CHECK(std::all_of(both.begin(), both.end(), untouched));
    // Inputs may overlap each other, and be one another.
    CHECK(refusal([&] { Of::template backward<Arch>(low, high, low, dz); }).empty());
    CHECK(refusal([&] { Of::template backward<Arch>(high, high, high, dz); }).empty());
  };
  check(of_stablemax{}, "p", "dp");
  check(of_log_stablemax{}, "lp", "dlp");
}

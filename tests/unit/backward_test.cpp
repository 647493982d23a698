// SPDX-License-Identifier: MIT
// softmax_backward and log_softmax_backward: right on every kind of row, and the same bits however a row lies in
// memory.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/backward_checks.hpp"
#include "../support/catch.hpp"
#include "../support/flushing.hpp"
#include "../support/guarded_buffer.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr double temperatures[] = {1, 0.5, 3, 0.7, 1e-300, 1e300, 0};

/// Lengths around every vector width and around the blocks.
template <class T>
std::vector<std::size_t> lengths() {
  std::vector<std::size_t> list;
  for (std::size_t n = 0; n <= 257; ++n) {
    list.push_back(n);
  }
  const std::size_t block = 8192 / sizeof(T);
  for (const std::size_t n : {block / 2 + 1, block - 1, block, block + 1, block + 17, 2 * block - 1, 2 * block,
                              2 * block + 1, 5 * block + 333}) {
    list.push_back(n);
  }
  return list;
}

template <class T>
void expect_equal(findings& found, const std::vector<T>& expected, const std::vector<T>& dz, const std::string& what) {
  const std::size_t i = first_difference(expected.data(), dz.data(), expected.size());
  found.expect(i == expected.size(), [&] {
    return what + ", n = " + std::to_string(expected.size()) + ": element " + std::to_string(i) + " is " +
           exact_text(dz[i]) + ", not " + exact_text(expected[i]);
  });
}

} // namespace

TEMPLATE_LIST_TEST_CASE("backward: every kind of row and gradient", "[backward][unit]", backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const row_kind rows : row_kinds) {
    for (const gradient_kind gradients : gradient_kinds) {
      for (const std::size_t n : {1u, 2u, 5u, 16u, 33u, 100u, 257u, 1000u, 2500u, 9001u}) {
        const std::vector<T> y = forward<Of>(make_row<T>(rows, n, 1));
        const std::vector<T> dy = make_gradient<T>(gradients, n, 2);
        for (const double temperature : temperatures) {
          expect_right_gradient<Of>(found, y, dy, temperature, gradient<Arch, Of>(y, dy, temperature),
                                    std::string(Arch::name) + ", " + Of::name + ", " + name(rows));
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("backward: every length and misalignment, in place too", "[backward][unit]",
                        backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : lengths<T>()) {
    const std::vector<T> y = forward<Of>(make_row<T>(n % 3 == 0 ? row_kind::masked : row_kind::normal, n, 3));
    const std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 4);
    const double temperature = temperatures[n % std::size(temperatures)];
    const std::vector<T> expected = gradient<Arch, Of>(y, dy, temperature);
    expect_right_gradient<Of>(found, y, dy, temperature, expected, std::string(Arch::name) + ", " + Of::name);
    const xs::softmax_backward_options options{.temperature = temperature};
    for (std::size_t offset = 0; offset < 64 / sizeof(T); offset += 1 + n % 3) {
      const std::size_t other = (offset * 5 + 3) % 16;
      std::vector<T> from(n + offset);
      std::vector<T> gradients(n + other);
      std::copy(y.begin(), y.end(), from.begin() + static_cast<std::ptrdiff_t>(offset));
      std::copy(dy.begin(), dy.end(), gradients.begin() + static_cast<std::ptrdiff_t>(other));
      std::vector<T> to(n + 16 + 1, T(-7));
      T* const out = to.data() + (offset * 3 + 1) % 16;
      const xs::vector_view<T> y_view(from.data() + offset, n);
      const xs::vector_view<T> dy_view(gradients.data() + other, n);
      Of::template run<Arch>(y_view, dy_view, xs::vector_view<T>(out, n), options);
      expect_equal(found, expected, std::vector<T>(out, out + n), "offset " + std::to_string(offset));
      found.expect(out[n] == T(-7), [] { return std::string("wrote beyond the row"); });
      std::vector<T> copy = from;
      Of::template run<Arch>(y_view, dy_view, y_view, options);
      expect_equal(found, expected, std::vector<T>(y_view.data(), y_view.data() + n), "in place of y");
      std::copy(copy.begin(), copy.end(), from.begin());
      Of::template run<Arch>(y_view, dy_view, dy_view, options);
      expect_equal(found, expected, std::vector<T>(dy_view.data(), dy_view.data() + n), "in place of dy");
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("backward: matrices of every layout have the bits of their rows", "[backward][unit]",
                        backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t rows : {1u, 2u, 7u, 65u}) {
    for (const std::size_t cols : {1u, 3u, 16u, 33u, 257u, 2100u}) {
      if (rows * cols > 20000 && cols != 2100) {
        continue;
      }
      const double temperature = rows % 2 == 0 ? 0.7 : 1.0;
      const xs::softmax_backward_options options{.temperature = temperature};
      std::vector<std::vector<T>> y(rows);
      std::vector<std::vector<T>> dy(rows);
      std::vector<std::vector<T>> alone(rows);
      for (std::size_t r = 0; r < rows; ++r) {
        y[r] = forward<Of>(make_row<T>(row_kinds[r % 8], cols, r));
        dy[r] = make_gradient<T>(gradient_kinds[r % std::size(gradient_kinds)], cols, r);
        if (r % 5 == 3) {
          dy[r][cols / 2] = std::numeric_limits<T>::quiet_NaN();
        }
        alone[r] = gradient<Arch, Of>(y[r], dy[r], temperature);
      }
      const std::vector<layout> layouts = layouts_of(rows, cols);
      for (std::size_t l = 0; l < layouts.size(); ++l) {
        const layout& third = layouts[(l * 5 + 2) % layouts.size()];
        for (const layout& to : {layouts[l], layouts[(l * 3 + 1) % layouts.size()]}) {
          laid_out<T> in(rows, cols, layouts[l]);
          laid_out<T> gradients(rows, cols, l % 2 == 0 ? layouts[l] : third);
          laid_out<T> out(rows, cols, to);
          const auto fill = [&] {
            for (std::size_t r = 0; r < rows; ++r) {
              for (std::size_t c = 0; c < cols; ++c) {
                in.at(r, c) = y[r][c];
                gradients.at(r, c) = dy[r][c];
              }
            }
          };
          const auto check = [&](laid_out<T>& result, const std::string& what) {
            for (std::size_t r = 0; r < rows; ++r) {
              std::vector<T> dz(cols);
              for (std::size_t c = 0; c < cols; ++c) {
                dz[c] = result.at(r, c);
              }
              expect_equal(found, alone[r], dz, what + " from " + layouts[l].what + ", row " + std::to_string(r));
            }
            found.expect(result.untouched_between(), [&] { return what + ": wrote between the elements"; });
          };
          fill();
          Of::template run<Arch>(in.view(), gradients.view(), out.view(), options);
          check(out, to.what);
          Of::template run<Arch>(in.view(), gradients.view(), in.view(), options);
          check(in, "in place of y");
          fill();
          Of::template run<Arch>(in.view(), gradients.view(), gradients.view(), options);
          check(gradients, "in place of dy");
        }
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("backward: masked elements get +0 and their gradient is read into nothing", "[backward][unit]",
                        backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  findings found;
  for (const std::size_t n : {1u, 2u, 3u, 8u, 17u, 64u, 100u, 257u, 2048u, 2049u, 4100u}) {
    const std::vector<T> y = forward<Of>(make_row<T>(row_kind::masked, n, 5));
    std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 6);
    for (std::size_t i = 0; i < n; ++i) {
      dy[i] = y[i] == Of::template masked<T> ? T(0) : dy[i];
    }
    for (const double temperature : temperatures) {
      const std::vector<T> expected = gradient<Arch, Of>(y, dy, temperature);
      expect_right_gradient<Of>(found, y, dy, temperature, expected, Arch::name);
      for (const T poison : {limits::quiet_NaN(), limits::infinity(), -limits::infinity(), limits::max(), T(1)}) {
        std::vector<T> poisoned = dy;
        for (std::size_t i = 0; i < n; ++i) {
          poisoned[i] = y[i] == Of::template masked<T> ? poison : dy[i];
        }
        expect_equal(found, expected, gradient<Arch, Of>(y, poisoned, temperature), "a masked gradient that counts");
      }
    }
    // Masked elements to the right, into the next block as well, change nothing.
    for (const std::size_t more : {1u, 15u, 64u, 3000u}) {
      std::vector<T> longer = y;
      std::vector<T> poisoned = dy;
      longer.resize(n + more, Of::template masked<T>);
      poisoned.resize(n + more, limits::quiet_NaN());
      std::vector<T> dz = gradient<Arch, Of>(longer, poisoned, 0.7);
      found.expect(std::all_of(dz.begin() + static_cast<std::ptrdiff_t>(n), dz.end(), [](T x) { return bits(x) == 0; }),
                   [] { return std::string("a masked element to the right is not +0"); });
      dz.resize(n);
      expect_equal(found, gradient<Arch, Of>(y, dy, 0.7), dz, "masked elements to the right");
    }
    // Nothing else.
    for (const double temperature : temperatures) {
      expect_equal(found, std::vector<T>(n, T(0)),
                   gradient<Arch, Of>(std::vector<T>(n, Of::template masked<T>), std::vector<T>(n, limits::quiet_NaN()),
                                      temperature),
                   "all masked");
    }
  }
  // -0 is no weight either.
  if constexpr (std::is_same_v<Of, of_softmax>) {
    const std::vector<T> dz =
        gradient<Arch, Of>(std::vector<T>{T(-0.0), T(0.5)}, std::vector<T>{limits::quiet_NaN(), T(2)});
    CHECK(bits(dz[0]) == 0);
    CHECK(dz[1] == T(0.5));
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("backward: infinities and NaN follow the formula", "[backward][unit]", backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  using limits = std::numeric_limits<T>;
  constexpr bool logarithmic = std::is_same_v<Of, of_log_softmax>;
  const T inf = limits::infinity();
  const T nan = limits::quiet_NaN();
  const T masked = Of::template masked<T>;
  // At the places a and b, which may lie in two blocks; everything else is 1.
  struct special {
    T a;
    T b;
    T sum; // what becomes of the sum
  };
  findings found;
  for (const std::size_t n : {2u, 7u, 40u, 300u, 5000u}) {
    for (const special& s : {special{nan, 1, nan}, special{inf, 1, inf}, special{-inf, 1, -inf},
                             special{inf, -inf, nan}, special{inf, inf, inf}, special{nan, inf, nan}}) {
      for (const double temperature : {1.0, 0.5, 3.0, 0.0}) {
        std::vector<T> y = forward<Of>(make_row<T>(row_kind::narrow, n, 7));
        std::vector<T> dy(n, T(1));
        dy[n - 1] = s.a;
        dy[0] = s.b;
        if (n > 2) {
          y[1] = masked;
          dy[1] = nan;
        }
        const std::vector<T> dz = gradient<Arch, Of>(y, dy, temperature);
        for (std::size_t i = 0; i < n; ++i) {
          T expected = dy[i] - s.sum; // the weight and T are positive and finite
          if (y[i] == masked || temperature == 0) {
            expected = 0;
          }
          found.expect((std::isnan(expected) && std::isnan(dz[i])) || bits(dz[i]) == bits(expected), [&] {
            return std::string(Of::name) + ", n = " + std::to_string(n) + ", T = " + std::to_string(temperature) +
                   ", element " + std::to_string(i) + " is " + exact_text(dz[i]) + ", not " + exact_text(expected);
          });
        }
      }
    }
    // NaN in y: everything that is not masked.
    std::vector<T> y = forward<Of>(make_row<T>(row_kind::masked, n, 7));
    y[n / 2] = nan;
    const std::vector<T> dz = gradient<Arch, Of>(y, std::vector<T>(n, T(1)), 1);
    for (std::size_t i = 0; i < n; ++i) {
      // The sum of log_softmax does not look at y.
      const bool poisoned = logarithmic ? i == n / 2 : y[i] != masked;
      found.expect(std::isnan(dz[i]) == poisoned,
                   [&] { return "NaN at " + std::to_string(i) + ": " + exact_text(dz[i]); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("backward: the end of the range", "[backward][unit]", double_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr double largest = std::numeric_limits<double>::max();
  constexpr double inf = std::numeric_limits<double>::infinity();
  const auto softmax = [](const std::vector<double>& p, const std::vector<double>& dp, double temperature = 1) {
    return gradient<Arch, of_softmax>(p, dp, temperature);
  };
  const auto log_softmax = [](const std::vector<double>& lp, const std::vector<double>& dlp, double temperature = 1) {
    return gradient<Arch, of_log_softmax>(lp, dlp, temperature);
  };
  // dp - S is beyond the range, its share is not.
  CHECK(softmax({0.25, 0.75}, {largest, -largest}) == std::vector<double>{largest * 0.375, -largest * 0.375});
  // So are sums of lanes, and of the whole, in between.
  for (const std::size_t n : {4u, 100u, 5000u}) {
    std::vector<double> dy(n, largest);
    for (std::size_t i = n / 2; i < n; ++i) {
      dy[i] = -largest;
    }
    CHECK(log_softmax(std::vector<double>(n, -700.0), dy) == dy);
    CHECK(softmax(std::vector<double>(n, 1.0), dy) == dy);
    dy[n - 1] = 0;
    const std::vector<double> dz = log_softmax(std::vector<double>(n, std::log(0.5)), dy); // S = largest
    CHECK(dz[0] == Approx(largest / 2));
    CHECK(dz[n - 1] == Approx(-largest / 2));
  }
  // A sum that stays there is infinite.
  CHECK(softmax({1, 1, 0.5}, {largest, largest, 1}) == std::vector<double>{-inf, -inf, -inf});
  CHECK(log_softmax({-1, -1, -1}, {-largest, -largest, 1}) == std::vector<double>{inf, inf, inf});
  CHECK(softmax({2, 1}, {largest, 1}) == std::vector<double>{-inf, -inf});
  // Temperatures at both ends.
  CHECK(softmax({1e-300, 1}, {1, 0}, 1e-300)[0] == Approx(1.0));
  CHECK(softmax({1e-305, 1}, {1000, 0}, 10)[0] == Approx(1e-303));
  CHECK(softmax({1}, {1}, 5e-324) == std::vector<double>{0});
  CHECK(softmax({0.5, 0.5}, {1e-320, 0}, 5e-324)[0] == Approx(0.25 * 1e-320 / 5e-324));
  CHECK(softmax({0.5, 0.5}, {1, 0}, 5e-324) == std::vector<double>{inf, -inf});
  CHECK(log_softmax({-0.7, -0.7}, {1, -1}, largest)[0] == Approx(1 / largest));
}

TEMPLATE_LIST_TEST_CASE("backward: agrees with differences of the forward pass", "[backward][unit]", double_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  for (const std::size_t n : {1u, 2u, 5u, 12u}) {
    for (const double temperature : {1.0, 0.5, 3.0}) {
      const std::vector<double> z = make_row<double>(row_kind::normal, n, 8);
      const std::vector<double> dy = make_gradient<double>(gradient_kind::normal, n, 9);
      // The loss sum dy_k y_k at z + h e_i.
      const auto loss = [&](std::size_t i, long double h, bool logarithm) {
        long double total = 0;
        for (std::size_t k = 0; k < n; ++k) {
          total += std::exp((z[k] + (k == i ? h : 0)) / temperature);
        }
        long double sum = 0;
        for (std::size_t k = 0; k < n; ++k) {
          const long double p = std::exp((z[k] + (k == i ? h : 0)) / temperature) / total;
          sum += dy[k] * (logarithm ? std::log(p) : p);
        }
        return sum;
      };
      // Fourth-order differences: their error is about h^4 = 1e-12, that of the losses 1e-19 / h = 1e-16.
      const auto slope = [&](std::size_t i, bool logarithm) {
        constexpr long double h = 1e-3L;
        const auto at = [&](long double steps) { return loss(i, steps * h, logarithm); };
        return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h);
      };
      const std::vector<double> dz = gradient<Arch, of_softmax>(forward<of_softmax>(z), dy, 1);
      const std::vector<double> scaled_z = [&] {
        std::vector<double> scaled = z;
        for (double& x : scaled) {
          x /= temperature;
        }
        return scaled;
      }();
      const std::vector<double> soft = gradient<Arch, of_softmax>(forward<of_softmax>(scaled_z), dy, temperature);
      const std::vector<double> logarithmic =
          gradient<Arch, of_log_softmax>(forward<of_log_softmax>(scaled_z), dy, temperature);
      for (std::size_t i = 0; i < n; ++i) {
        CAPTURE(n, temperature, i);
        CHECK(std::fabs(soft[i] - static_cast<double>(slope(i, false))) < 1e-9);
        CHECK(std::fabs(logarithmic[i] - static_cast<double>(slope(i, true))) < 1e-9);
      }
    }
  }
}

TEMPLATE_LIST_TEST_CASE("backward: a long row of equal elements does not drift", "[backward][unit]",
                        backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr std::size_t n = 1000000;
  const std::vector<T> y = forward<Of>(std::vector<T>(n, T(0)));
  std::vector<T> dy(n, T(0.1));
  findings found;
  expect_right_gradient<Of>(found, y, dy, 1, gradient<Arch, Of>(y, dy), "equal gradients");
  dy[n / 3] = T(0.2);
  expect_right_gradient<Of>(found, y, dy, 1, gradient<Arch, Of>(y, dy), "one of them larger");
  XSOFTMAX_CHECK_FINDINGS(found);
  // Summed in float, one by one, the error would be a hundred times what is allowed.
  if constexpr (std::is_same_v<T, float>) {
    float sum = 0;
    for (const float x : dy) {
      sum += x;
    }
    CHECK(std::fabs(sum - 100000.0f) > 100);
  }
}

TEMPLATE_LIST_TEST_CASE("backward: flush-to-zero takes subnormal results and nothing else", "[backward][unit]",
                        backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::size_t flushed = 0;
  for (const row_kind kind : {row_kind::normal, row_kind::wide, row_kind::masked, row_kind::spike}) {
    for (const std::size_t n : {7u, 64u, 300u, 3000u}) {
      for (const double temperature : {1.0, 0.5, 3.0}) {
        std::vector<T> y = forward<Of>(make_row<T>(kind, n, 11));
        for (T& p : y) { // subnormal inputs are for those who do not ask for zeros in their place
          p = std::fpclassify(p) == FP_SUBNORMAL ? std::numeric_limits<T>::min() : p;
        }
        const std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 12);
        std::vector<T> expected = gradient<Arch, Of>(y, dy, temperature);
        std::vector<T> dz;
        {
          const flushing scope(flush_to_zero | denormals_are_zero);
          dz = gradient<Arch, Of>(y, dy, temperature);
        }
        for (std::size_t i = 0; i < n; ++i) {
          if (std::fpclassify(expected[i]) == FP_SUBNORMAL) {
            ++flushed;
            expected[i] = dz[i] == 0 ? dz[i] : expected[i];
          }
        }
        expect_equal(found, expected, dz, std::string(Of::name) + ", " + name(kind) + ", flushed");
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  if constexpr (std::is_same_v<Of, of_softmax>) {
    CHECK(flushed > 0);
  }
}

TEMPLATE_LIST_TEST_CASE("backward: reads and writes nothing beyond its rows", "[backward][memory][unit]",
                        backward_subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  using Of = typename TestType::of;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t n = 1; n <= 2200; n += n < 140 ? 1 : 97) {
    const std::vector<T> y = forward<Of>(make_row<T>(row_kind::normal, n, 13));
    const std::vector<T> dy = make_gradient<T>(gradient_kind::normal, n, 14);
    for (const flush_with side : {flush_with::front, flush_with::back}) {
      guarded_buffer<T> in(n, side);
      guarded_buffer<T> gradients(n, side);
      guarded_buffer<T> out(n, side);
      std::copy(y.begin(), y.end(), in.data());
      std::copy(dy.begin(), dy.end(), gradients.data());
      for (const double temperature : {1.0, 0.0}) {
        const xs::softmax_backward_options options{.temperature = temperature};
        Of::template run<Arch>(xs::vector_view<const T>(in.data(), n), xs::vector_view<const T>(gradients.data(), n),
                               xs::vector_view<T>(out.data(), n), options);
        expect_equal(found, gradient<Arch, Of>(y, dy, temperature), std::vector<T>(out.begin(), out.end()), "guarded");
        // Every second element: the last one touches the guard.
        const std::size_t half = (n + 1) / 2;
        Of::template run<Arch>(xs::vector_view<const T>(in.data(), half, 2),
                               xs::vector_view<const T>(gradients.data(), half, 2),
                               xs::vector_view<T>(out.data(), half, 2), options);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(XSOFTMAX_DISPATCH_AVX2) && defined(XSOFTMAX_DISPATCH_AVX512)

TEMPLATE_LIST_TEST_CASE("backward: avx2 and avx512 give the same bits", "[backward][invariance][unit]", scalars) {
  using T = TestType;
  if (!runnable<xs::arch::avx2>() || !runnable<xs::arch::avx512>()) {
    return;
  }
  findings found;
  const auto check = [&]<class Of>(Of) {
    for (const row_kind kind : row_kinds) {
      for (const gradient_kind gradients : gradient_kinds) {
        for (const std::size_t n : {1u, 7u, 16u, 100u, 257u, 1025u, 2049u, 10000u}) {
          const std::vector<T> y = forward<Of>(make_row<T>(kind, n, 15));
          const std::vector<T> dy = make_gradient<T>(gradients, n, 16);
          for (const double temperature : {1.0, 0.7, 3.0, 1e-300}) {
            expect_equal(found, gradient<xs::arch::avx2, Of>(y, dy, temperature),
                         gradient<xs::arch::avx512, Of>(y, dy, temperature), Of::name);
          }
        }
      }
    }
  };
  check(of_softmax{});
  check(of_log_softmax{});
  XSOFTMAX_CHECK_FINDINGS(found);
}

#endif

TEST_CASE("backward: mistaken arguments are refused before anything is written", "[backward][errors][unit]") {
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
    const std::vector<float> y(12, 0.5f);
    const std::vector<float> other(11, 0.5f);
    const std::string function = std::string("xsoftmax::") + Of::name + ":";
    using Arch = xs::default_arch;
    std::vector<float> dz(12, 3.0f);
    std::string text = refusal([&] { Of::template run<Arch>(y, other, dz); });
    CAPTURE(text);
    CHECK(contains(text, function));
    CHECK(contains(text, y_name + " = 12, " + dy_name + " = 11"));
    text = refusal([&] { Of::template run<Arch>(other, other, dz); });
    CHECK(contains(text, function));
    CHECK(contains(text, y_name + " = 11, dz = 12"));
    const xs::matrix_view<const float> three(y.data(), 3, 4);
    text = refusal([&] { Of::template run<Arch>(three, three, xs::matrix_view<float>(dz.data(), 4, 3)); });
    CHECK(contains(text, "rows"));
    CHECK(contains(text, y_name + " = 3, dz = 4"));
    for (const double temperature :
         {-1.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
      text =
          refusal([&] { Of::template run<Arch>(y, y, dz, xs::softmax_backward_options{.temperature = temperature}); });
      CHECK(contains(text, function));
      CHECK(contains(text, "temperature"));
    }
    // Overlap that is not the same.
    std::vector<float> both(20, 3.0f);
    const xs::vector_view<float> low(both.data(), 12);
    const xs::vector_view<float> high(both.data() + 5, 12);
    CHECK(contains(refusal([&] { Of::template run<Arch>(low, y, high); }), "dz overlaps " + y_name));
    CHECK(contains(refusal([&] { Of::template run<Arch>(y, low, high); }), "dz overlaps " + dy_name));
    CHECK(std::all_of(dz.begin(), dz.end(), [](float x) { return x == 3; }));
    CHECK(std::all_of(both.begin(), both.end(), [](float x) { return x == 3; }));
    CHECK(refusal([&] { Of::template run<Arch>(low, high, dz); }).empty()); // inputs may overlap each other
    // Options are checked whatever the data are.
    std::vector<float> none;
    CHECK(!refusal([&] {
             Of::template run<Arch>(none, none, none, xs::softmax_backward_options{.temperature = -1});
           }).empty());
    CHECK(refusal([&] { Of::template run<Arch>(none, none, none); }).empty());
  };
  check(of_softmax{}, "p", "dp");
  check(of_log_softmax{}, "lp", "dlp");
}

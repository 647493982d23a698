// SPDX-License-Identifier: MIT
// Every operation in every layout, at every length: the bits of the same rows laid out side by side, and not an element
// beyond.

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executor_checks.hpp"
#include "../support/guarded_buffer.hpp"
#include "../support/kernels_once.hpp"
#include "../support/layouts.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Every length up to a few groups, and both sides of a block's ends.
std::vector<std::size_t> lengths() {
  std::vector<std::size_t> all;
  for (std::size_t n = 1; n <= 257; ++n) {
    all.push_back(n);
  }
  for (const std::size_t n : {1023u, 1024u, 1025u, 2047u, 2048u, 2049u, 4097u}) {
    all.push_back(n);
  }
  return all;
}

template <class T>
bool same(T a, T b) {
  return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b));
}

/// Softmax by one algorithm.
template <class Arch>
struct call_algorithm {
  std::string name;
  xs::softmax_options options;

  template <class In, class Out>
  void run(const In& x, const In&, const Out& out) const {
    xs::softmax<Arch>(x, out, options);
  }
};

template <class Arch, class Body>
void for_each_operation(Body&& body) {
  for_each_call<Arch>(body);
  for (const xs::softmax_algorithm algorithm : algorithms) {
    body(call_algorithm<Arch>{name(algorithm), {.algorithm = algorithm, .sink = 0.5}});
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("conformance: every operation, length and layout", "[conformance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr std::size_t rows = 3;
  findings found;
  for (const std::size_t n : lengths()) {
    std::vector<std::vector<T>> x;
    std::vector<std::vector<T>> y;
    for (std::size_t r = 0; r < rows; ++r) {
      x.push_back(make_row<T>(row_kinds[(n + r) % std::size(row_kinds)], n, 3 * n + r));
      y.push_back(make_row<T>(row_kind::normal, n, 5 * n + r));
    }
    for (const layout& shape : layouts_of(rows, n)) {
      // The margin moves the first element off its alignment.
      laid_out<T> in(rows, n, shape, n % 17);
      laid_out<T> gradient(rows, n, shape, n % 13);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t i = 0; i < n; ++i) {
          in.at(r, i) = x[r][i];
          gradient.at(r, i) = y[r][i];
        }
      }
      for_each_operation<Arch>([&](const auto& call) {
        laid_out<T> out(rows, n, shape, n % 11);
        call.run(in.view(), gradient.view(), out.view());
        bool right = true;
        for (std::size_t r = 0; r < rows; ++r) {
          std::vector<T> expected(n);
          call.run(xs::vector_view<T>(x[r].data(), n), xs::vector_view<T>(y[r].data(), n),
                   xs::vector_view<T>(expected.data(), n));
          for (std::size_t i = 0; i < n; ++i) {
            right = right && same(expected[i], out.at(r, i));
          }
        }
        found.expect(right && out.untouched_between(), [&] {
          return std::string(Arch::name) + ", " + call.name + ", n = " + std::to_string(n) + ", " + shape.what;
        });
      });
      std::vector<T> sums(rows, T(-7));
      xs::log_sum_exp<Arch>(in.view(), sums);
      for (std::size_t r = 0; r < rows; ++r) {
        found.expect(same(sums[r], xs::log_sum_exp<Arch>(x[r])), [&] {
          return std::string(Arch::name) + ", log_sum_exp, n = " + std::to_string(n) + ", " + shape.what;
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("conformance: no operation reads or writes beyond its rows", "[conformance][memory][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : lengths()) {
    const std::vector<T> z = make_row<T>(row_kinds[n % std::size(row_kinds)], n, n);
    const std::vector<T> dy = make_row<T>(row_kind::normal, n, n + 1);
    for (const flush_with side : {flush_with::front, flush_with::back}) {
      guarded_buffer<T> in(n, side);
      guarded_buffer<T> gradient(n, side);
      guarded_buffer<T> out(n, side);
      std::copy(z.begin(), z.end(), in.data());
      std::copy(dy.begin(), dy.end(), gradient.data());
      for_each_operation<Arch>([&](const auto& call) {
        std::vector<T> expected(n);
        call.run(xs::vector_view<const T>(z.data(), n), xs::vector_view<const T>(dy.data(), n),
                 xs::vector_view<T>(expected.data(), n));
        call.run(xs::vector_view<const T>(in.data(), n), xs::vector_view<const T>(gradient.data(), n),
                 xs::vector_view<T>(out.data(), n));
        found.expect(first_difference(expected.data(), out.data(), n) == n,
                     [&] { return std::string(call.name) + ", n = " + std::to_string(n); });
      });
      found.expect(same(xs::log_sum_exp<Arch>(z), xs::log_sum_exp<Arch>(in)),
                   [&] { return "log_sum_exp, n = " + std::to_string(n); });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

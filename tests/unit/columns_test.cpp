// SPDX-License-Identifier: MIT
// Every operation down the columns of a row-major matrix: the bits of the same rows laid out side by side, wherever the
// rows of a strip end, whatever some of them hold, in place too.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
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

template <class T>
using row_set = std::vector<std::vector<T>>;

template <class Arch>
struct call_log_softmax_with {
  std::string name;
  xs::log_softmax_options options;

  template <class In, class Out>
  void run(const In& x, const In&, const Out& out) const {
    xs::log_softmax<Arch>(x, out, options);
  }
};

template <class Arch>
struct call_gradients_with {
  std::string name;
  bool of_logarithms;
  xs::softmax_backward_options options;

  template <class In, class Out>
  void run(const In& x, const In& y, const Out& out) const {
    if (of_logarithms) {
      xs::log_softmax_backward<Arch>(x, y, out, options);
    } else {
      xs::softmax_backward<Arch>(x, y, out, options);
    }
  }
};

template <class Arch, class Body>
void for_each_operation(Body&& body) {
  for_each_call<Arch>(body);
  using log_softmax = call_log_softmax_with<Arch>;
  body(log_softmax{"log_softmax", {}});
  body(log_softmax{"log_softmax, sink", {.sink = 0.5}});
  body(log_softmax{"log_softmax, high sink", {.temperature = 3.0, .sink = 60.0}});
  body(log_softmax{"log_softmax, masked rows zero", {.masked_row = xs::masked_row_policy::zero}});
  body(log_softmax{"log_softmax, T = 0", {.temperature = 0.0}});
  body(log_softmax{"log_softmax, T = 1e-300", {.temperature = 1e-300}});
  for (const bool of_logarithms : {false, true}) {
    const std::string name = of_logarithms ? "log_softmax_backward" : "softmax_backward";
    for (const double temperature : {0.3, 7.0, 0.0, 1e300}) {
      body(call_gradients_with<Arch>{
          name + ", T = " + std::to_string(temperature), of_logarithms, {.temperature = temperature}});
    }
  }
}

template <class T>
bool same(T a, T b) {
  return bits(a) == bits(b) || (std::isnan(a) && std::isnan(b));
}

template <class T>
laid_out<T> as_columns(const row_set<T>& rows, std::size_t n, std::size_t padding, std::size_t margin) {
  laid_out<T> matrix(rows.size(), n, {"columns", 1, static_cast<std::ptrdiff_t>(rows.size() + padding)}, margin);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    matrix.set_row(r, rows[r]);
  }
  return matrix;
}

template <class T>
void expect_rows(findings& found, const row_set<T>& expected, laid_out<T>& out, std::size_t n,
                 const std::string& what) {
  std::size_t wrong = expected.size();
  for (std::size_t r = expected.size(); r-- != 0;) {
    wrong = first_difference(expected[r].data(), out.row(r).data(), n) == n ? wrong : r;
  }
  const auto where = [&] { return what + ", " + std::to_string(expected.size()) + " columns of " + std::to_string(n); };
  found.expect(wrong == expected.size(), [&] { return where() + ": column " + std::to_string(wrong) + " is another"; });
  found.expect(out.untouched_between(), [&] { return where() + ": an element beside them was written"; });
}

/// All operations on x, with the gradients y.
template <class Arch, class T>
void expect_bits_of_rows(findings& found, const row_set<T>& x, const row_set<T>& y, std::size_t n, std::size_t padding,
                         std::size_t margin) {
  laid_out<T> in = as_columns(x, n, padding, margin);
  laid_out<T> gradient = as_columns(y, n, padding, margin / 2);
  for_each_operation<Arch>([&](const auto& call) {
    row_set<T> expected;
    for (std::size_t r = 0; r < x.size(); ++r) {
      expected.emplace_back(n);
      call.run(xs::vector_view<const T>(x[r].data(), n), xs::vector_view<const T>(y[r].data(), n),
               xs::vector_view<T>(expected.back().data(), n));
    }
    const std::string what = std::string(Arch::name) + ", " + call.name;
    laid_out<T> out(x.size(), n, {"columns", 1, static_cast<std::ptrdiff_t>(x.size() + padding)}, margin + 1);
    call.run(in.view(), gradient.view(), out.view());
    expect_rows(found, expected, out, n, what);
    laid_out<T> x_place = as_columns(x, n, padding, margin);
    call.run(x_place.view(), gradient.view(), x_place.view());
    expect_rows(found, expected, x_place, n, what + ", in place");
    if (what.find("backward") != std::string::npos) {
      laid_out<T> y_place = as_columns(y, n, padding, margin);
      call.run(in.view(), y_place.view(), y_place.view());
      expect_rows(found, expected, y_place, n, what + ", in the place of the gradients");
    }
  });
  for (const xs::log_sum_exp_options& options :
       {xs::log_sum_exp_options{}, xs::log_sum_exp_options{.temperature = 0.7, .sink = 0.5},
        xs::log_sum_exp_options{.temperature = 1e-300}}) {
    std::vector<T> sums(x.size(), T(-7));
    xs::log_sum_exp<Arch>(in.view(), sums, options);
    for (std::size_t r = 0; r < x.size(); ++r) {
      found.expect(same(sums[r], xs::log_sum_exp<Arch>(x[r], options)), [&] {
        return std::string(Arch::name) + ", log_sum_exp, column " + std::to_string(r) + " of " +
               std::to_string(x.size()) + ", n = " + std::to_string(n) + ", T = " + std::to_string(options.temperature);
      });
    }
  }
}

/// Rows of usual logits, about half of them with masked elements.
template <class T>
row_set<T> usual_rows(std::size_t rows, std::size_t n, std::uint64_t seed) {
  row_set<T> x;
  for (std::size_t r = 0; r < rows; ++r) {
    x.push_back(make_row<T>(r % 2 == 0 ? row_kind::normal : row_kind::masked, n, seed + r));
  }
  return x;
}

/// What makes a row special: by itself, next to rows that are not.
template <class T>
row_set<T> special_rows(std::size_t n, std::uint64_t seed) {
  using limits = std::numeric_limits<T>;
  row_set<T> special;
  for (const row_kind kind : row_kinds) {
    special.push_back(make_row<T>(kind, n, seed));
  }
  for (const T value : {limits::quiet_NaN(), -limits::quiet_NaN(), limits::infinity(), -limits::infinity()}) {
    special.push_back(make_row<T>(row_kind::normal, n, seed));
    special.back()[seed % n] = value;
    special.emplace_back(n, value);
  }
  special.emplace_back(n, -limits::infinity());
  special.back()[n / 2] = limits::quiet_NaN();
  special.push_back(make_row<T>(row_kind::normal, n, seed));
  special.back()[0] = limits::infinity();
  special.back()[n - 1] = -limits::infinity();
  // But for one element: whole blocks are masked.
  for (const std::size_t i : {std::size_t{0}, n - 1}) {
    special.emplace_back(n, -limits::infinity());
    special.back()[i] = T(-5);
  }
  // Sums that cancel until nothing but rounding errors are left.
  special.push_back(make_row<T>(row_kind::normal, n, seed));
  for (std::size_t i = 0; i + 1 < n; i += 2) {
    special.back()[i + 1] = -special.back()[i];
  }
  special.emplace_back(n, T(0x1p30));
  for (std::size_t i = 1; i < n; i += 2) {
    special.back()[i] = i % 4 == 1 ? T(-0x1p30) : T(0x1p-40) * static_cast<T>(i);
  }
  special.emplace_back(n, T(0));
  special.emplace_back(n, T(-0.0));
  special.emplace_back(n, limits::max());
  special.emplace_back(n, limits::lowest());
  return special;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("columns: strips of every width", "[columns][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 1;
  // A strip of rows as short as these has 256.
  for (const std::size_t rows :
       {2u, 3u, 4u, 5u, 7u, 8u, 9u, 15u, 16u, 17u, 31u, 32u, 33u, 47u, 48u, 65u, 255u, 256u, 257u, 512u, 549u}) {
    for (const std::size_t n : {1u, 2u, 9u, 16u, 17u, 40u, 129u}) {
      ++seed;
      expect_bits_of_rows<Arch>(found, usual_rows<T>(rows, n, seed), usual_rows<T>(rows, n, seed + 50), n, seed % 3,
                                seed % 17);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("columns: narrow strips of long rows", "[columns][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // 192 rows of float in a strip (96 of double), 64 (32), 64 (32), and 256, since less would be too few.
  findings found;
  for (const std::size_t n : {300u, 513u, 1024u, 1025u}) {
    for (const std::size_t rows : {33u, 65u, 200u}) {
      expect_bits_of_rows<Arch>(found, usual_rows<T>(rows, n, n), usual_rows<T>(rows, n, n + 7), n, 0, n % 5);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("columns: of every length around visits, groups and blocks", "[columns][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (std::size_t n = 1; n <= 300; n += n < 70 ? 1 : 13) {
    expect_bits_of_rows<Arch>(found, usual_rows<T>(19, n, n), usual_rows<T>(19, n, n + 7), n, 0, n % 17);
  }
  for (const std::size_t n : {1023u, 1024u, 1025u, 2047u, 2048u, 2049u, 2300u, 4097u, 6200u}) {
    expect_bits_of_rows<Arch>(found, usual_rows<T>(37, n, n), usual_rows<T>(37, n, n + 7), n, 1, n % 17);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("columns: one special row among usual ones", "[columns][special][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u, 5u, 40u, 2100u}) {
    const row_set<T> special = special_rows<T>(n, n);
    for (std::size_t s = 0; s < special.size(); ++s) {
      const std::size_t rows = 5 + 7 * (s % 5);
      row_set<T> x = usual_rows<T>(rows, n, s);
      row_set<T> y = usual_rows<T>(rows, n, s + 100);
      x[s % rows] = special[s];
      expect_bits_of_rows<Arch>(found, x, y, n, 0, 0);
      std::swap(x, y);
      expect_bits_of_rows<Arch>(found, x, y, n, 0, 0);
    }
    // And all of them together.
    row_set<T> turned(special.rbegin(), special.rend());
    expect_bits_of_rows<Arch>(found, special, turned, n, 2, 1);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("columns: nothing beyond the matrix is read or written", "[columns][memory][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t rows : {2u, 5u, 16u, 31u, 33u, 129u}) {
    for (const std::size_t n : {1u, 7u, 40u}) {
      const std::size_t size = rows * n;
      const std::vector<T> z = make_row<T>(row_kind::normal, size, size);
      const std::vector<T> dy = make_row<T>(row_kind::masked, size, size + 1);
      const auto columns = [&](auto* data) { return xs::matrix_view(data, n, rows).transposed(); };
      for (const flush_with side : {flush_with::front, flush_with::back}) {
        guarded_buffer<T> in(size, side);
        guarded_buffer<T> gradient(size, side);
        guarded_buffer<T> out(size, side);
        std::copy(z.begin(), z.end(), in.data());
        std::copy(dy.begin(), dy.end(), gradient.data());
        const auto as_const = [](T* data) { return static_cast<const T*>(data); };
        for_each_operation<Arch>([&](const auto& call) {
          std::vector<T> expected(size);
          call.run(columns(z.data()), columns(dy.data()), columns(expected.data()));
          call.run(columns(as_const(in.data())), columns(as_const(gradient.data())), columns(out.data()));
          bool right = true;
          for (std::size_t i = 0; i < size; ++i) {
            right = right && same(expected[i], out.data()[i]);
          }
          found.expect(right, [&] { return std::string(call.name) + ", rows = " + std::to_string(rows); });
        });
        guarded_buffer<T> sums(rows, side);
        xs::log_sum_exp<Arch>(columns(as_const(in.data())), sums);
        std::vector<T> last(n);
        for (std::size_t i = 0; i < n; ++i) {
          last[i] = z[i * rows + rows - 1];
        }
        found.expect(same(sums.data()[rows - 1], xs::log_sum_exp<Arch>(last)),
                     [&] { return "log_sum_exp, rows = " + std::to_string(rows); });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("columns: halves are those of rows", "[columns][half][unit]", architectures) {
  using Arch = TestType;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check = [&]<class In, class Out>(In, Out, std::size_t rows, std::size_t n) {
    const row_set<float> x = usual_rows<float>(rows, n, n);
    std::vector<In> z(rows * n);
    std::vector<In> dy(rows * n);
    std::vector<In> row_z(rows * n);
    std::vector<In> row_dy(rows * n);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < n; ++i) {
        row_z[r * n + i] = z[i * rows + r] = In(x[r][i]);
        row_dy[r * n + i] = dy[i * rows + r] = In(x[(r + 1) % rows][i] * 0.25f);
      }
    }
    std::vector<Out> out(rows * n);
    std::vector<Out> row_out(rows * n);
    const auto columns = [&](auto& m) { return xs::matrix_view(m.data(), n, rows).transposed(); };
    const auto as_rows = [&](auto& m) { return xs::matrix_view(m.data(), rows, n); };
    for_each_call<Arch>([&](const auto& call) {
      call.run(columns(std::as_const(z)), columns(std::as_const(dy)), columns(out));
      call.run(as_rows(std::as_const(row_z)), as_rows(std::as_const(row_dy)), as_rows(row_out));
      bool right = true;
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t i = 0; i < n; ++i) {
          right = right && same(static_cast<float>(out[i * rows + r]), static_cast<float>(row_out[r * n + i]));
        }
      }
      found.expect(right, [&] {
        return std::string(Arch::name) + ", " + call.name + ", " + std::to_string(rows) + " x " + std::to_string(n);
      });
    });
    std::vector<Out> sums(rows);
    std::vector<Out> row_sums(rows);
    xs::log_sum_exp<Arch>(columns(std::as_const(z)), xs::vector_view<Out>(sums.data(), rows));
    xs::log_sum_exp<Arch>(as_rows(std::as_const(row_z)), xs::vector_view<Out>(row_sums.data(), rows));
    for (std::size_t r = 0; r < rows; ++r) {
      found.expect(same(static_cast<float>(sums[r]), static_cast<float>(row_sums[r])),
                   [&] { return std::string(Arch::name) + ", log_sum_exp of halves, " + std::to_string(rows); });
    }
  };
  for (const std::size_t rows : {2u, 17u, 40u, 530u}) {
    for (const std::size_t n : {1u, 19u, 100u}) {
      check(xs::bfloat16(), xs::bfloat16(), rows, n);
      check(xs::float16(), xs::float16(), rows, n);
      check(xs::bfloat16(), float(), rows, n);
      check(float(), xs::float16(), rows, n);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// What may be passed: ranges, arrays, views, user types; and what the views say of themselves.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// A foreign container: not a range, its elements two apart.
struct spread {
  std::vector<double> storage;
  std::size_t count;
};

/// A foreign reference to a matrix stored by columns.
struct grid_reference {
  float* first;
  int rows;
  int cols;
};

const std::vector<double> logits = {0.5, -1.0, 2.0, 0.25, 1.0};

std::vector<double> expected() {
  return xs::softmax(logits);
}

} // namespace

template <>
struct xsoftmax::view_traits<spread> {
  static constexpr bool owns = true;

  static auto view(spread& x) { return vector_view<double>(x.storage.data(), x.count, 2); }

  static auto view(const spread& x) { return vector_view<const double>(x.storage.data(), x.count, 2); }
};

template <>
struct xsoftmax::view_traits<grid_reference> {
  static constexpr bool owns = false;

  static auto view(const grid_reference& x) { return matrix_view<float>(x.first, x.rows, x.cols, 1, x.rows); }
};

TEST_CASE("softmax takes any contiguous sized range", "[view][unit]") {
  const std::vector<double> want = expected();
  SECTION("vectors, in place too") {
    std::vector<double> p(5);
    xs::softmax(logits, p);
    CHECK(p == want);
    p = logits;
    xs::softmax(p, p);
    CHECK(p == want);
  }
  SECTION("arrays") {
    const std::array<double, 5> z = {0.5, -1.0, 2.0, 0.25, 1.0};
    std::array<double, 5> p{};
    xs::softmax(z, p);
    CHECK(std::vector<double>(p.begin(), p.end()) == want);
  }
  SECTION("C arrays") {
    const double z[] = {0.5, -1.0, 2.0, 0.25, 1.0};
    double p[5];
    xs::softmax(z, p);
    CHECK(std::vector<double>(p, p + 5) == want);
  }
  SECTION("spans, temporary ones as outputs too") {
    std::vector<double> p(7, 3.0);
    xs::softmax(std::span(logits), std::span(p).subspan(1, 5));
    CHECK(std::vector<double>(p.begin() + 1, p.end() - 1) == want);
    CHECK(p.front() == 3.0);
    CHECK(p.back() == 3.0);
    double fixed[5];
    xs::softmax(std::span<const double, 5>(logits), std::span<double, 5>(fixed));
    CHECK(std::vector<double>(fixed, fixed + 5) == want);
  }
  SECTION("views, temporary ones as outputs too") {
    std::vector<double> p(5);
    xs::softmax(xs::vector_view<const double>(logits.data(), logits.size()), xs::vector_view<double>(p.data(), 5));
    CHECK(p == want);
    std::vector<double> z = logits;
    const xs::vector_view<double> mutable_view(z.data(), z.size());
    p.assign(5, 0.0);
    xs::softmax(mutable_view, p);
    CHECK(p == want);
  }
  SECTION("mixtures, and a temporary container as the input") {
    std::array<double, 5> p{};
    xs::softmax(std::vector<double>(logits), p);
    CHECK(std::vector<double>(p.begin(), p.end()) == want);
    p = {};
    xs::softmax(logits, xs::vector_view<double>(p.data(), std::uint8_t{5}));
    CHECK(std::vector<double>(p.begin(), p.end()) == want);
  }
}

TEST_CASE("softmax returns a vector of the element type", "[view][unit]") {
  const auto p = xs::softmax(logits);
  static_assert(std::is_same_v<decltype(p), const std::vector<double>>);
  CHECK(p.size() == 5);
  CHECK(p == expected());
  const float z[] = {1.0f, 1.0f};
  const auto q = xs::softmax(z);
  static_assert(std::is_same_v<decltype(q), const std::vector<float>>);
  CHECK(q == std::vector<float>{0.5f, 0.5f});
  const auto strided = xs::softmax(xs::vector_view<const double>(logits.data(), 3, 2), {.temperature = 2});
  CHECK(strided == xs::softmax(std::vector<double>{0.5, 2.0, 1.0}, {.temperature = 2}));
  const auto named = xs::softmax<xs::default_arch>(logits, {.temperature = 1.0});
  CHECK(named == expected());
}

TEST_CASE("softmax takes a user's type through view_traits", "[view][unit]") {
  const std::vector<double> want = expected();
  spread z{std::vector<double>(9, 77.0), 5};
  for (std::size_t i = 0; i < 5; ++i) {
    z.storage[2 * i] = logits[i];
  }
  const spread& constant = z;
  CHECK(xs::softmax(constant) == want);
  std::vector<double> p(5);
  xs::softmax(constant, p);
  CHECK(p == want);
  xs::softmax(z, z);
  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(z.storage[2 * i] == want[i]);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(z.storage[2 * i + 1] == 77.0);
  }

  std::vector<float> elements = {1, 3, 2, 2, 5, 1}; // rows (1, 2, 5) and (3, 2, 1), by columns
  std::vector<float> result(6);
  xs::softmax(grid_reference{elements.data(), 2, 3}, grid_reference{result.data(), 2, 3});
  const std::vector<float> first = xs::softmax(std::vector<float>{1, 2, 5});
  const std::vector<float> second = xs::softmax(std::vector<float>{3, 2, 1});
  CHECK(result == std::vector<float>{first[0], second[0], first[1], second[1], first[2], second[2]});
}

TEST_CASE("the bits of a call without a tag are those of the active architecture", "[view][unit]") {
  const std::vector<float> z = make_row<float>(row_kind::wide, 200, 3);
  const std::vector<float> p = xs::softmax(z);
  std::size_t agreeing = 0;
  for_each_architecture([&]<class Arch>(Arch) {
    if (xs::active_architecture() == std::string(Arch::name)) {
      const std::vector<float> q = xs::softmax<Arch>(z);
      CHECK(first_difference(p.data(), q.data(), p.size()) == p.size());
      ++agreeing;
    }
  });
  CHECK(agreeing == 1);
}

TEST_CASE("views say what they refer to", "[view][unit]") {
  float data[24] = {};
  const xs::matrix_view<float> dense(data, 4, 6);
  CHECK(dense.data() == data);
  CHECK(dense.rows() == 4);
  CHECK(dense.cols() == 6);
  CHECK(dense.row_stride() == 6);
  CHECK(dense.col_stride() == 1);

  const xs::matrix_view<float> padded{data, 3, 5, 8};
  CHECK(padded.row_stride() == 8);
  CHECK(padded.col_stride() == 1);

  const xs::matrix_view<float> columns{data, 3u, std::int64_t{4}, 1, 3};
  CHECK(columns.row_stride() == 1);
  CHECK(columns.col_stride() == 3);
  const auto turned = columns.transposed();
  CHECK(turned.data() == data);
  CHECK(turned.rows() == 4);
  CHECK(turned.cols() == 3);
  CHECK(turned.row_stride() == 3);
  CHECK(turned.col_stride() == 1);

  const xs::matrix_view<const float> constant = dense;
  CHECK(constant.data() == data);
  CHECK(constant.rows() == 4);
  CHECK(constant.cols() == 6);
  CHECK(constant.row_stride() == 6);
  CHECK(constant.col_stride() == 1);
  static_assert(!std::is_convertible_v<xs::matrix_view<const float>, xs::matrix_view<float>>);
  static_assert(!std::is_convertible_v<xs::vector_view<const float>, xs::vector_view<float>>);
  static_assert(!std::is_convertible_v<xs::matrix_view<float>, xs::matrix_view<const double>>);

  const xs::vector_view<float> every_third(data, 8, 3);
  CHECK(every_third.size() == 8);
  CHECK(every_third.stride() == 3);
  const xs::vector_view<const float> reading = every_third;
  CHECK(reading.data() == data);
  CHECK(reading.size() == 8);
  CHECK(reading.stride() == 3);

  const std::vector<float> source(7);
  const auto seen = xs::as_view(source);
  static_assert(std::is_same_v<decltype(seen), const xs::vector_view<const float>>);
  CHECK(seen.data() == source.data());
  CHECK(seen.size() == 7);
  CHECK(seen.stride() == 1);
  static_assert(std::is_same_v<decltype(xs::as_view(dense)), xs::matrix_view<float>>);
}

TEST_CASE("softmax of a matrix: rows, and columns through transposed()", "[view][unit]") {
  const std::vector<double> z = make_row<double>(row_kind::normal, 12, 8);
  std::vector<double> p(12);
  const xs::matrix_view<const double> in(z.data(), 3, 4);
  const xs::matrix_view<double> out(p.data(), 3, 4);
  xs::softmax(in, out);
  for (std::size_t r = 0; r < 3; ++r) {
    const std::vector<double> want = xs::softmax(std::vector<double>(&z[4 * r], &z[4 * r] + 4));
    CHECK(first_difference(want.data(), p.data() + 4 * r, 4) == 4);
  }
  xs::softmax(in.transposed(), out.transposed());
  for (std::size_t c = 0; c < 4; ++c) {
    const std::vector<double> want = xs::softmax(std::vector<double>{z[c], z[c + 4], z[c + 8]});
    CHECK(want == std::vector<double>{p[c], p[c + 4], p[c + 8]});
  }
}

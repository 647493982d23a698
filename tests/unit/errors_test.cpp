// SPDX-License-Identifier: MIT
// What the public functions refuse: the exception, its message, and that nothing was written.

#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// The message of the std::invalid_argument that body throws; empty if it throws none.
template <class Body>
std::string refusal(Body&& body) {
  try {
    body();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Is `number` in the text as a number of its own, not as digits of another?
bool states(const std::string& text, const std::string& number) {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  for (std::size_t at = text.find(number); at != std::string::npos; at = text.find(number, at + 1)) {
    const std::size_t end = at + number.size();
    if ((at == 0 || !digit(text[at - 1])) && (end == text.size() || !digit(text[end]))) {
      return true;
    }
  }
  return false;
}

/// A row or block whose content shows any write.
class canvas {
public:
  explicit canvas(std::size_t n) : elements(n) {
    for (std::size_t i = 0; i < n; ++i) {
      elements[i] = static_cast<float>(i);
    }
  }

  [[nodiscard]] bool untouched() const {
    for (std::size_t i = 0; i < elements.size(); ++i) {
      if (bits(elements[i]) != bits(static_cast<float>(i))) {
        return false;
      }
    }
    return true;
  }

  float* data() { return elements.data(); }

  std::vector<float> elements;
};

} // namespace

TEST_CASE("softmax refuses rows of different lengths", "[errors][unit]") {
  const std::vector<float> z(12, 1.0f);
  for (const std::size_t n : {std::size_t{0}, std::size_t{11}, std::size_t{13}, std::size_t{100}}) {
    canvas p(n);
    const std::string message = refusal([&] { xs::softmax(z, p.elements); });
    CAPTURE(n, message);
    CHECK(contains(message, "softmax"));
    CHECK(contains(message, "length"));
    CHECK(contains(message, "z = 12"));
    CHECK(contains(message, "p = " + std::to_string(n)));
    CHECK(states(message, std::to_string(n)));
    CHECK(p.untouched());
  }
  canvas p(7);
  const std::string message = refusal([&] { xs::softmax(std::vector<float>(), p.elements); });
  CHECK(states(message, "0"));
  CHECK(states(message, "7"));
  CHECK(p.untouched());
}

TEST_CASE("softmax refuses matrices of different shapes", "[errors][unit]") {
  const std::vector<float> z(60, 1.0f);
  canvas p(60);
  const auto message = [&](int rows, int cols) {
    return refusal([&] {
      xs::softmax(xs::matrix_view<const float>(z.data(), 5, 12), xs::matrix_view<float>(p.data(), rows, cols));
    });
  };
  const std::string rows = message(4, 12);
  CAPTURE(rows);
  CHECK(contains(rows, "softmax"));
  CHECK(contains(rows, "rows"));
  CHECK(contains(rows, "z = 5"));
  CHECK(contains(rows, "p = 4"));
  const std::string cols = message(5, 11);
  CAPTURE(cols);
  CHECK(contains(cols, "length"));
  CHECK(contains(cols, "z = 12"));
  CHECK(contains(cols, "p = 11"));
  CHECK(!message(12, 5).empty());
  CHECK(!message(0, 12).empty());
  CHECK(!message(5, 0).empty());
  CHECK(p.untouched());
  CHECK(message(5, 12).empty());
}

TEST_CASE("softmax refuses temperatures that are negative, NaN or infinite", "[errors][unit]") {
  const std::vector<float> z(5, 1.0f);
  for (const double temperature : {-1.0, -0.5, -5e-324, -infinity, infinity, not_a_number}) {
    canvas p(5);
    const std::string message = refusal([&] { xs::softmax(z, p.elements, {.temperature = temperature}); });
    CAPTURE(temperature, message);
    CHECK(contains(message, "softmax"));
    CHECK(contains(message, "temperature"));
    CHECK(p.untouched());
    CHECK(!refusal([&] { (void)xs::softmax(z, {.temperature = temperature}); }).empty());
  }
  canvas p(5);
  CHECK(states(refusal([&] { xs::softmax(z, p.elements, {.temperature = -2.5}); }), "-2.5"));
  CHECK(contains(refusal([&] { xs::softmax(z, p.elements, {.temperature = not_a_number}); }), "= nan"));
  CHECK(contains(refusal([&] { xs::softmax(z, p.elements, {.temperature = infinity}); }), "= inf"));
  // An option is refused whatever the data are.
  CHECK(!refusal([&] { (void)xs::softmax(std::vector<float>(), {.temperature = -1}); }).empty());
  for (const double temperature : {0.0, -0.0, 5e-324, std::numeric_limits<double>::max()}) {
    CHECK(refusal([&] { (void)xs::softmax(z, {.temperature = temperature}); }).empty());
  }
}

TEST_CASE("softmax refuses a sink of NaN or +inf", "[errors][unit]") {
  const std::vector<float> z(5, 1.0f);
  for (const double sink : {infinity, not_a_number}) {
    canvas p(5);
    const std::string message = refusal([&] { xs::softmax(z, p.elements, {.sink = sink}); });
    CAPTURE(sink, message);
    CHECK(contains(message, "softmax"));
    CHECK(contains(message, "sink"));
    CHECK(contains(message, sink == infinity ? "= inf" : "= nan"));
    CHECK(p.untouched());
  }
  for (const double sink : {-infinity, 0.0, 1e300, -1e300}) {
    CHECK(refusal([&] { (void)xs::softmax(z, {.sink = sink}); }).empty());
  }
}

TEST_CASE("views refuse negative extents", "[errors][unit]") {
  float data[4] = {};
  const std::string rows = refusal([&] { (void)xs::matrix_view<float>(data, -3, 2); });
  CHECK(contains(rows, "matrix_view"));
  CHECK(contains(rows, "rows = -3"));
  CHECK(contains(refusal([&] { (void)xs::matrix_view<float>(data, 2, -1L); }), "cols = -1"));
  CHECK(contains(refusal([&] { (void)xs::matrix_view<float>(data, 2, -7, 9); }), "cols = -7"));
  CHECK(contains(refusal([&] { (void)xs::matrix_view<float>(data, -8, 7, 9); }), "rows = -8"));
  const std::string size = refusal([&] { (void)xs::vector_view<float>(data, -4); });
  CHECK(contains(size, "size = -4"));
  CHECK(contains(size, "vector_view"));
}

TEST_CASE("softmax refuses a partial overlap and accepts everything disjoint", "[errors][unit]") {
  using view = xs::matrix_view<float>;
  using input = xs::matrix_view<const float>;
  canvas x(400);
  const auto refused = [&](std::ptrdiff_t shift, int rows, int cols, std::ptrdiff_t row_stride,
                           std::ptrdiff_t col_stride) {
    const std::string text = refusal([&] {
      xs::softmax(input(x.data() + 150, rows, cols, row_stride, col_stride),
                  view(x.data() + 150 + shift, rows, cols, row_stride, col_stride));
    });
    return contains(text, "softmax") && contains(text, "overlap") && states(text, std::to_string(shift)) &&
           x.untouched();
  };
  const auto accepted = [&](std::ptrdiff_t shift, int rows, int cols, std::ptrdiff_t row_stride,
                            std::ptrdiff_t col_stride) {
    canvas y(400);
    return refusal([&] {
             xs::softmax(input(y.data() + 150, rows, cols, row_stride, col_stride),
                         view(y.data() + 150 + shift, rows, cols, row_stride, col_stride));
           })
        .empty();
  };
  SECTION("one row") {
    for (const std::ptrdiff_t shift : {1, -1, 5, -5, 9, -9}) {
      CHECK(refused(shift, 1, 10, 0, 1));
      CHECK(refused(shift, 10, 1, 1, 0)); // a column of single elements
    }
    for (const std::ptrdiff_t shift : {0, 10, -10, 11, 100}) {
      CHECK(accepted(shift, 1, 10, 0, 1));
    }
    CHECK(refused(6, 1, 10, 0, 3));
    CHECK(refused(-27, 1, 10, 0, 3));
    CHECK(refused(27, 1, 10, 0, -3));
    for (const std::ptrdiff_t shift : {1, 2, -1, 4, 30, -30}) { // between the elements, or past the end
      CHECK(accepted(shift, 1, 10, 0, 3));
      CHECK(accepted(shift, 1, 10, 0, -3));
    }
  }
  SECTION("rows of a matrix") {
    CHECK(refused(1, 4, 10, 20, 1));
    CHECK(refused(-9, 4, 10, 20, 1));
    CHECK(refused(20, 4, 10, 20, 1));
    CHECK(refused(-40, 4, 10, 20, 1));
    CHECK(refused(15, 4, 10, 20, 1));  // the next row's elements, from their left
    CHECK(refused(-51, 4, 10, 20, 1)); // meets in one row only
    CHECK(refused(69, 4, 10, 20, 1));
    CHECK(accepted(0, 4, 10, 20, 1));
    CHECK(accepted(10, 4, 10, 20, 1)); // two column blocks of one matrix
    CHECK(accepted(-10, 4, 10, 20, 1));
    CHECK(accepted(80, 4, 10, 20, 1));
    CHECK(accepted(-80, 4, 10, 20, 1));
    CHECK(accepted(70, 4, 10, 20, 1));
    CHECK(accepted(50, 4, 10, 20, 1));
  }
  SECTION("columns of a matrix") {
    CHECK(refused(20, 10, 4, 1, 20));
    CHECK(refused(3, 10, 4, 1, 20));
    CHECK(accepted(10, 10, 4, 1, 20));
    CHECK(accepted(0, 10, 4, 1, 20));
  }
  SECTION("one matrix, upside down or mirrored") {
    CHECK(refused(20, 4, 10, -20, 1));
    CHECK(refused(-3, 4, 10, 20, -1));
    CHECK(refused(23, 4, 10, -20, 1));
    CHECK(accepted(10, 4, 10, -20, 1));
    CHECK(accepted(-10, 4, 10, 20, -1));
    CHECK(accepted(0, 4, 10, -20, -1));
  }
  SECTION("every other column") {
    CHECK(refused(2, 4, 5, 20, 2));
    CHECK(refused(-8, 4, 5, 20, 2));
    CHECK(accepted(1, 4, 5, 20, 2));
    CHECK(accepted(-1, 4, 5, 20, 2));
    CHECK(accepted(10, 4, 5, 20, 2));
  }
  SECTION("ranges") {
    canvas y(50);
    const std::span<float> all(y.elements);
    const std::string text = refusal([&] { xs::softmax(all.first(20), all.subspan(7, 20)); });
    CHECK(states(text, "7"));
    CHECK(states(text, "20"));
    CHECK(contains(text, "p overlaps z"));
    CHECK(y.untouched());
    CHECK(refusal([&] { xs::softmax(all.first(25), all.last(25)); }).empty());
  }
  SECTION("no elements, no overlap") {
    CHECK(refusal([&] {
            xs::softmax(input(x.data(), 0, 5, 9), view(x.data() + 1, 0, 5, 9));
            xs::softmax(input(x.data(), 5, 0, 9), view(x.data() + 1, 5, 0, 9));
          }).empty());
    CHECK(x.untouched());
  }
}

TEST_CASE("softmax from one column block of a matrix into another", "[errors][unit]") {
  // What the overlap check lets pass must also come out right.
  std::vector<float> both(6 * 16);
  for (std::size_t i = 0; i < both.size(); ++i) {
    both[i] = static_cast<float>(i % 7) * 0.5f;
  }
  const std::vector<float> before = both;
  xs::softmax(xs::matrix_view<const float>(both.data(), 6, 8, 16), xs::matrix_view<float>(both.data() + 8, 6, 8, 16));
  for (std::size_t r = 0; r < 6; ++r) {
    const std::vector<float> row(&before[r * 16], &before[r * 16] + 8);
    const std::vector<float> want = xs::softmax(row);
    CHECK(first_difference(row.data(), both.data() + r * 16, 8) == 8);
    CHECK(first_difference(want.data(), both.data() + r * 16 + 8, 8) == 8);
  }
}

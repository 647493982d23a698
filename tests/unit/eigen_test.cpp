// SPDX-License-Identifier: MIT
// Eigen objects as arguments: each must be read and written exactly where Eigen itself would, so the reference is the
// same row copied, coefficient by coefficient, into contiguous memory. Equal means equal bits.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>
#include <xsoftmax/eigen.hpp>

#include "../support/catch.hpp"
#include "../support/kernels_once.hpp"

namespace xs = xsoftmax;

namespace {

using column_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::ColMajor>;
using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
auto bits(T value) {
  return std::bit_cast<std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>>(value);
}

/// Distinct logits, one with weight 0, in no order that a wrong stride could reproduce.
template <class Object>
void fill(Object&& object) {
  using T = typename std::remove_cvref_t<Object>::Scalar;
  for (Eigen::Index r = 0; r < object.rows(); ++r) {
    for (Eigen::Index c = 0; c < object.cols(); ++c) {
      object(r, c) = static_cast<T>((37 * r + 11 * c) % 23) / T(4) + static_cast<T>(r) / T(16);
    }
  }
  if (object.size() > 1) {
    object(0, object.cols() - 1) = -std::numeric_limits<T>::infinity();
  }
}

template <class Object>
auto row_of(const Object& object, Eigen::Index r) {
  std::vector<typename Object::Scalar> row;
  for (Eigen::Index c = 0; c < object.cols(); ++c) {
    row.push_back(object.coeff(r, c));
  }
  return row;
}

/// The softmax of each mathematical row of `before`, bit for bit.
template <class Before, class After>
bool holds_softmax_of_rows(const Before& before, const After& after) {
  for (Eigen::Index r = 0; r < before.rows(); ++r) {
    const auto expected = xs::softmax(row_of(before, r));
    for (Eigen::Index c = 0; c < before.cols(); ++c) {
      if (bits(after.coeff(r, c)) != bits(expected[static_cast<std::size_t>(c)])) {
        return false;
      }
    }
  }
  return true;
}

/// The same for a vector, whichever way it stands.
template <class Before, class After>
bool holds_softmax(const Before& before, const After& after) {
  std::vector<typename Before::Scalar> row;
  for (Eigen::Index i = 0; i < before.size(); ++i) {
    row.push_back(before.coeff(i));
  }
  const auto expected = xs::softmax(row);
  for (Eigen::Index i = 0; i < before.size(); ++i) {
    if (bits(after.coeff(i)) != bits(expected[static_cast<std::size_t>(i)])) {
      return false;
    }
  }
  return true;
}

/// Can X be an output when it is a temporary?
template <class X>
constexpr bool temporary_output = xs::detail::refers_to_elements<X>();

template <class X>
using element = typename decltype(xs::as_view(std::declval<X&>()))::element_type;

template <class X>
constexpr bool is_row = xs::detail::is_vector<decltype(xs::as_view(std::declval<X&>()))>;

} // namespace

TEST_CASE("eigen: vectors are rows, whichever way they stand", "[eigen][unit]") {
  Eigen::VectorXf z(41);
  fill(z);
  Eigen::VectorXf p(41);
  xs::softmax(z, p);
  CHECK(holds_softmax(z, p));

  const Eigen::RowVectorXd row = z.transpose().cast<double>();
  Eigen::VectorXd column(41); // a row in, a column out
  xs::softmax(row, column);
  CHECK(holds_softmax(row, column));

  Eigen::ArrayXf a = z.array();
  xs::softmax(a, a);
  CHECK(holds_softmax(z, a));

  Eigen::Vector4f fixed(1, 2, 3, 4);
  const Eigen::Vector4f before = fixed;
  xs::softmax(fixed, fixed);
  CHECK(holds_softmax(before, fixed));

  const std::vector<float> owned = xs::softmax(z);
  CHECK(holds_softmax(z, Eigen::Map<const Eigen::VectorXf>(owned.data(), z.size())));

  Eigen::VectorXf empty(0);
  xs::softmax(empty, empty);
  CHECK(empty.size() == 0);
}

TEST_CASE("eigen: Eigen and standard containers mix", "[eigen][unit]") {
  Eigen::VectorXf z(19);
  fill(z);
  std::vector<float> p(19);
  xs::softmax(z, p);
  CHECK(holds_softmax(z, Eigen::Map<const Eigen::VectorXf>(p.data(), 19)));

  Eigen::VectorXf q(19);
  xs::softmax(std::vector<float>(z.data(), z.data() + z.size()), q);
  CHECK(holds_softmax(z, q));
}

TEMPLATE_TEST_CASE("eigen: rows of a matrix are the mathematical ones", "[eigen][unit]", column_major, row_major,
                   (Eigen::Matrix<double, 5, 7>), (Eigen::Matrix<double, 5, 7, Eigen::RowMajor>),
                   (Eigen::Array<float, 5, 7>), (Eigen::Array<double, 5, Eigen::Dynamic, Eigen::RowMajor>)) {
  TestType Z(5, 7);
  fill(Z);
  TestType P(5, 7);
  xs::softmax(Z, P);
  CHECK(holds_softmax_of_rows(Z, P));

  TestType in_place = Z;
  xs::softmax(in_place, in_place);
  CHECK(holds_softmax_of_rows(Z, in_place));
}

TEST_CASE("eigen: storage orders mix", "[eigen][unit]") {
  column_major Z(9, 33);
  fill(Z);
  row_major P(9, 33);
  xs::softmax(Z, P);
  CHECK(holds_softmax_of_rows(Z, P));
}

TEMPLATE_TEST_CASE("eigen: a transpose takes columns as rows", "[eigen][unit]", column_major, row_major) {
  TestType Z(6, 31);
  fill(Z);
  TestType P(6, 31);
  xs::softmax(Z.transpose(), P.transpose());
  CHECK(holds_softmax_of_rows(Z.transpose(), P.transpose()));

  const TestType& constant = Z;
  P.setZero();
  xs::softmax(constant.transpose(), P.transpose());
  CHECK(holds_softmax_of_rows(Z.transpose(), P.transpose()));
}

TEMPLATE_TEST_CASE("eigen: rows, columns and blocks are outputs, and what lies around them stays", "[eigen][unit]",
                   column_major, row_major) {
  TestType Z(12, 29);
  fill(Z);
  TestType P = Z;

  SECTION("a row") {
    xs::softmax(Z.row(3), P.row(3));
    CHECK(holds_softmax(Z.row(3), P.row(3)));
    P.row(3) = Z.row(3);
    CHECK(P == Z);
  }
  SECTION("a column") {
    xs::softmax(Z.col(5), P.col(5));
    CHECK(holds_softmax(Z.col(5), P.col(5)));
    P.col(5) = Z.col(5);
    CHECK(P == Z);
  }
  SECTION("row by row, in place") {
    for (auto row : P.rowwise()) {
      xs::softmax(row, row);
    }
    CHECK(holds_softmax_of_rows(Z, P));
  }
  SECTION("a block, and its row") {
    xs::softmax(Z.block(2, 3, 7, 20), P.block(2, 3, 7, 20));
    CHECK(holds_softmax_of_rows(Z.block(2, 3, 7, 20), P.block(2, 3, 7, 20)));
    P.block(2, 3, 7, 20) = Z.block(2, 3, 7, 20);
    CHECK(P == Z);
    xs::softmax(Z.block(2, 3, 7, 20).row(4), P.block(2, 3, 7, 20).row(4));
    CHECK(holds_softmax(Z.row(6).segment(3, 20), P.row(6).segment(3, 20)));
  }
  SECTION("neighbouring columns of one matrix do not overlap") {
    xs::softmax(P.leftCols(10), P.middleCols(10, 10));
    CHECK(holds_softmax_of_rows(Z.leftCols(10), P.middleCols(10, 10)));
    CHECK(P.leftCols(10) == Z.leftCols(10));
  }
  SECTION("a diagonal") {
    xs::softmax(Z.diagonal(), P.diagonal());
    CHECK(holds_softmax(Z.diagonal(), P.diagonal()));
    P.diagonal() = Z.diagonal();
    CHECK(P == Z);
  }
  SECTION("seen as an array") {
    xs::softmax(Z.array(), P.array());
    CHECK(holds_softmax_of_rows(Z, P));
  }
}

TEMPLATE_TEST_CASE("eigen: maps with inner and outer strides", "[eigen][unit]", column_major, row_major) {
  using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using strided_map = Eigen::Map<TestType, Eigen::Unaligned, stride>;
  const stride gaps(64, 3);
  std::vector<float> memory(64 * 16, 77.0f);
  strided_map Z(memory.data() + 1, 10, 12, gaps);
  fill(Z);
  std::vector<float> result = memory;
  xs::softmax(Z, strided_map(result.data() + 1, 10, 12, gaps));
  strided_map P(result.data() + 1, 10, 12, gaps);
  CHECK(holds_softmax_of_rows(Z, P));
  P = Z;
  CHECK(result == memory);

  const Eigen::Map<const TestType, Eigen::Unaligned, stride> constant(memory.data() + 1, 10, 12, gaps);
  TestType Q(10, 12);
  xs::softmax(constant, Q);
  CHECK(holds_softmax_of_rows(Z, Q));
}

TEST_CASE("eigen: a strided map of a vector", "[eigen][unit]") {
  using strided_map = Eigen::Map<Eigen::VectorXd, Eigen::Unaligned, Eigen::InnerStride<>>;
  std::vector<double> memory(100, 77.0);
  strided_map z(memory.data(), 25, Eigen::InnerStride<>(4));
  fill(z);
  const Eigen::VectorXd before = z;
  xs::softmax(z, z);
  CHECK(holds_softmax(before, z));
  CHECK(memory[1] == 77.0);
  CHECK(memory[99] == 77.0);
}

TEST_CASE("eigen: Ref parameters", "[eigen][unit]") {
  const auto through_ref = [](const Eigen::Ref<const column_major>& Z, Eigen::Ref<column_major> P) {
    xs::softmax(Z, P);
  };
  column_major Z(8, 17);
  fill(Z);
  column_major P(20, 17);
  through_ref(Z.topRows(6), P.middleRows(9, 6));
  CHECK(holds_softmax_of_rows(Z.topRows(6), P.middleRows(9, 6)));

  row_major copied = Z; // another storage order: the Ref holds its own copy
  through_ref(copied.topRows(6), P.topRows(6));
  CHECK(holds_softmax_of_rows(Z.topRows(6), P.topRows(6)));
}

TEST_CASE("eigen: a class derived from an Eigen class", "[eigen][unit]") {
  struct logits : Eigen::VectorXf {
    using Eigen::VectorXf::VectorXf;
  };
  logits z(13);
  fill(z);
  logits p(13);
  xs::softmax(z, p);
  CHECK(holds_softmax(z, p));
  STATIC_REQUIRE_FALSE(temporary_output<logits>);
}

TEST_CASE("eigen: shapes that do not fit are refused, and nothing is written", "[eigen][unit]") {
  column_major Z(3, 4);
  Z.setZero();
  column_major P(4, 3);
  P.setConstant(77.0f);
  CHECK_THROWS_AS(xs::softmax(Z, P), std::invalid_argument);
  Eigen::VectorXf shorter = Eigen::VectorXf::Constant(3, 77.0f);
  CHECK_THROWS_AS(xs::softmax(Z.row(0), shorter), std::invalid_argument);
  CHECK_THROWS_AS(xs::softmax(P.topRows(3), P.bottomRows(3)), std::invalid_argument); // partial overlap
  CHECK((P.array() == 77.0f).all());
  CHECK((shorter.array() == 77.0f).all());
}

TEST_CASE("eigen: what is const, what owns, what is a row", "[eigen][unit]") {
  using Map = Eigen::Map<Eigen::VectorXf>;
  using Row = decltype(std::declval<column_major&>().row(0));
  using ConstRow = decltype(std::declval<const column_major&>().row(0));
  using Transpose = decltype(std::declval<column_major&>().transpose());
  STATIC_REQUIRE(std::is_same_v<element<Eigen::VectorXf>, float>);
  STATIC_REQUIRE(std::is_same_v<element<const Eigen::VectorXf>, const float>);
  STATIC_REQUIRE(std::is_same_v<element<Map>, float>);
  STATIC_REQUIRE(std::is_same_v<element<Eigen::Map<const Eigen::VectorXf>>, const float>);
  STATIC_REQUIRE(std::is_same_v<element<Eigen::Ref<Eigen::MatrixXd>>, double>);
  STATIC_REQUIRE(std::is_same_v<element<const Eigen::Ref<const Eigen::MatrixXd>>, const double>);
  STATIC_REQUIRE(std::is_same_v<element<Row>, float>);
  STATIC_REQUIRE(std::is_same_v<element<ConstRow>, const float>);
  STATIC_REQUIRE(std::is_same_v<element<Transpose>, float>);

  STATIC_REQUIRE_FALSE(temporary_output<Eigen::VectorXf>);
  STATIC_REQUIRE_FALSE(temporary_output<Eigen::Array33d>);
  STATIC_REQUIRE(temporary_output<Map>);
  STATIC_REQUIRE(temporary_output<Eigen::Ref<Eigen::MatrixXd>>);
  STATIC_REQUIRE(temporary_output<Row>);
  STATIC_REQUIRE(temporary_output<Transpose>);

  STATIC_REQUIRE(is_row<Eigen::VectorXf>);
  STATIC_REQUIRE(is_row<Eigen::RowVector3d>);
  STATIC_REQUIRE(is_row<Row>);
  STATIC_REQUIRE_FALSE(is_row<Eigen::MatrixXf>);
  STATIC_REQUIRE_FALSE(is_row<Transpose>);

  using Sum = decltype(std::declval<Eigen::VectorXf&>() + std::declval<Eigen::VectorXf&>());
  STATIC_REQUIRE_FALSE(xs::detail::eigen_direct_access<Sum>);
  STATIC_REQUIRE_FALSE(xs::detail::eigen_direct_access<decltype(std::declval<Sum&>().head(2))>);
  using Gathered = decltype(std::declval<Eigen::VectorXf&>()(std::declval<std::vector<int>&>()));
  STATIC_REQUIRE_FALSE(xs::detail::eigen_direct_access<Gathered>);
  STATIC_REQUIRE_FALSE(xs::detail::eigen_object<std::vector<float>>);
}

TEST_CASE("eigen: half and bfloat16 are elements, with our bits", "[eigen][half][unit]") {
  STATIC_REQUIRE(xs::storage_traits<Eigen::half>::format == xs::storage_format::float16);
  STATIC_REQUIRE(xs::storage_traits<const Eigen::bfloat16>::format == xs::storage_format::bfloat16);
  STATIC_REQUIRE(std::is_same_v<xs::compute_type_t<Eigen::half>, float>);
  STATIC_REQUIRE(std::is_same_v<xs::compute_type_t<const Eigen::bfloat16>, float>);

  // Finite numbers and infinities to float, and every float halfway between two of them back.
  const auto disagreements = []<class Theirs, class Ours>(Theirs, Ours) {
    int count = 0;
    for (std::uint32_t pattern = 0; pattern < 1u << 16; ++pattern) {
      const auto ours = Ours::from_bits(static_cast<std::uint16_t>(pattern));
      const float x = ours;
      if (x != x) {
        continue;
      }
      count += bits(static_cast<float>(std::bit_cast<Theirs>(ours))) == bits(x) ? 0 : 1;
      const auto next = Ours::from_bits(static_cast<std::uint16_t>(pattern + 1));
      const float halfway = x + (next - x) / 2;
      if (halfway == halfway) {
        count += std::bit_cast<std::uint16_t>(Theirs(halfway)) == Ours(halfway).bits() ? 0 : 1;
      }
    }
    return count;
  };
  CHECK(disagreements(Eigen::half(), xs::float16()) == 0);
  CHECK(disagreements(Eigen::bfloat16(), xs::bfloat16()) == 0);
}

TEMPLATE_TEST_CASE("eigen: rowwise and colwise", "[eigen][unit]", column_major, row_major,
                   (Eigen::Matrix<double, 5, 7>)) {
  TestType Z(5, 7);
  fill(Z);
  const TestType& constant = Z;
  TestType P(5, 7);
  xs::softmax(constant.rowwise(), P.rowwise());
  CHECK(holds_softmax_of_rows(Z, P));
  P.setZero();
  xs::softmax(Z.colwise(), P.colwise());
  CHECK(holds_softmax_of_rows(Z.transpose(), P.transpose()));

  TestType in_place = Z;
  xs::softmax(in_place.colwise(), in_place.colwise());
  CHECK(in_place == P);

  TestType part = Z;
  xs::softmax(Z.block(1, 2, 3, 4).colwise(), part.block(1, 2, 3, 4).colwise());
  CHECK(holds_softmax_of_rows(Z.block(1, 2, 3, 4).transpose(), part.block(1, 2, 3, 4).transpose()));
  part.block(1, 2, 3, 4) = Z.block(1, 2, 3, 4);
  CHECK(part == Z);
}

TEST_CASE("eigen: a vector has as many rows as it has, rowwise", "[eigen][unit]") {
  Eigen::VectorXf z = Eigen::VectorXf::LinSpaced(6, -1, 2);
  Eigen::VectorXf p(6);
  xs::softmax(z.rowwise(), p.rowwise()); // six rows of one
  CHECK(p == Eigen::VectorXf::Ones(6));
  xs::softmax(z.colwise(), p.colwise());
  CHECK(holds_softmax(z, p));
}

namespace {

/// Counts how often a coefficient of an expression is computed.
struct counting {
  static inline int calls = 0;

  float operator()(float x) const {
    ++calls;
    return 2 * x;
  }
};

} // namespace

TEST_CASE("eigen: an expression is evaluated once", "[eigen][unit]") {
  row_major Z(4, 9);
  fill(Z);
  const row_major doubled = 2 * Z;
  row_major P(4, 9);
  counting::calls = 0;
  xs::softmax(Z.unaryExpr(counting()), P);
  CHECK(counting::calls == 36);
  CHECK(holds_softmax_of_rows(doubled, P));

  counting::calls = 0;
  xs::log_softmax(Z.unaryExpr(counting()), P);
  CHECK(counting::calls == 36);
  row_major expected(4, 9);
  xs::log_softmax(doubled, expected);
  CHECK(P == expected);

  const Eigen::VectorXf row = Z.row(0);
  counting::calls = 0;
  const std::vector<float> owned = xs::softmax(row.unaryExpr(counting()));
  const float sum = xs::log_sum_exp(row.unaryExpr(counting()));
  CHECK(counting::calls == 18);
  CHECK(owned == xs::softmax(Eigen::VectorXf(doubled.row(0))));
  CHECK(sum == xs::log_sum_exp(Eigen::VectorXf(doubled.row(0))));

  const row_major A = row_major::Constant(4, 4, 0.5F);
  const row_major B = row_major::Random(4, 9);
  row_major Q(4, 9);
  xs::softmax(A * B, Q); // a product
  xs::softmax(row_major(A * B), P);
  CHECK(P == Q);
}

TEST_CASE("eigen: halves", "[eigen][half][unit]") {
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic> Z(3, 20);
  fill(Z);
  const Eigen::Matrix<Eigen::bfloat16, Eigen::Dynamic, Eigen::Dynamic> narrow = Z.cast<Eigen::bfloat16>();
  Eigen::Matrix<Eigen::half, Eigen::Dynamic, Eigen::Dynamic> P(3, 20);
  xs::softmax(narrow, P);
  Eigen::MatrixXf wide(3, 20);
  xs::softmax(narrow.cast<float>(), wide);
  CHECK(P == wide.cast<Eigen::half>());
}

TEST_CASE("eigen: StableMax, losses and gradients", "[eigen][stablemax][cross_entropy][unit]") {
  Eigen::MatrixXf Z(5, 30);
  fill(Z);
  Eigen::MatrixXf P(5, 30);
  Eigen::MatrixXf dZ(5, 30);
  xs::stablemax(Z * 2.0f, P);
  xs::stablemax_backward(Z * 2.0f, P, Z, dZ);
  Eigen::VectorXi targets(5);
  targets << 3, 0, 29, 7, 7;
  Eigen::VectorXf losses(5);
  xs::cross_entropy(Z, targets, losses, {.link = xs::loss_link::stablemax});
  Eigen::MatrixXf all(5, 30);
  const float sum = xs::cross_entropy(Z, targets, all, {.reduction = xs::loss_reduction::sum});
  double expected_sum = 0;
  for (Eigen::Index r = 0; r < 5; ++r) {
    const Eigen::VectorXf z = Z.row(r).transpose();
    const Eigen::VectorXf doubled = 2.0f * z;
    Eigen::VectorXf row(30);
    xs::stablemax(doubled, row);
    CHECK(row == P.row(r).transpose());
    xs::stablemax_backward(doubled, row, z, row);
    CHECK(row == dZ.row(r).transpose());
    CHECK(losses(r) == xs::cross_entropy(Z.row(r), targets(r), {.link = xs::loss_link::stablemax}));
    expected_sum += static_cast<double>(xs::cross_entropy(z, targets(r), row));
    CHECK(row == all.row(r).transpose());
  }
  CHECK(sum == static_cast<float>(expected_sum)); // of five floats, exact
  const Eigen::MatrixXf W = Eigen::MatrixXf::Random(5, 30);
  xs::perpendicular_gradient(W, all);
  CHECK(std::fabs(W.cwiseProduct(all).sum()) < 1e-5f * W.norm() * all.norm());
  CHECK_FALSE(xs::softmax_collapse(Z.row(1), targets(1)));
}

// SPDX-License-Identifier: MIT
// Eigen in and out: with this header every Eigen object that has its coefficients in memory is an argument of every
// function, read and written where it lies.
//   xs::softmax(Z, P);                              each row of a matrix, whatever its storage order
//   xs::softmax(Z.transpose(), P.transpose());      each column
//   xs::softmax(Z.row(3), P.col(5));                rows, columns, blocks, diagonals, maps; vectors lie or stand
//   xs::softmax(Z.rowwise(), P.rowwise());          the same in Eigen's words; Z.colwise() takes each column
//   xs::softmax(A * B, P);                          an expression is evaluated once
// The only file of the library that includes Eigen (3.4 to 5).
#pragma once

#include <Eigen/Core>
#include <cstdlib>
#include <xsoftmax/half.hpp>
#include <xsoftmax/view.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

// The Eigen class behind X, so that types derived from one are found as well.
template <class Derived>
Derived eigen_base_of(const Eigen::DenseBase<Derived>*);
template <class X>
using eigen_base = decltype(detail::eigen_base_of(static_cast<const X*>(nullptr)));

template <class X>
concept eigen_object = requires {
  typename eigen_base<X>;
};

/// Are the coefficients in memory, at constant strides? True for Matrix, Array, Map, Ref, for blocks, rows, columns,
/// diagonals and transposes of those; false for a sum, a product, a cast, ...
template <class X>
concept eigen_direct_access = eigen_object<X> &&((eigen_base<X>::Flags & Eigen::DirectAccessBit) != 0) &&
                              requires(const eigen_base<X>& x) {
  x.data();
  x.innerStride();
  x.outerStride();
};

/// The rows are the mathematical ones: with column-major storage neighbours in a row lie outerStride() apart.
template <class Object>
auto matrix_of_eigen(Object& x) {
  using T = std::remove_pointer_t<decltype(x.data())>;
  const auto inner = static_cast<std::ptrdiff_t>(x.innerStride());
  const auto outer = static_cast<std::ptrdiff_t>(x.outerStride());
  constexpr bool row_major = std::remove_const_t<Object>::IsRowMajor;
  return matrix_view<T>(x.data(), x.rows(), x.cols(), row_major ? outer : inner, row_major ? inner : outer);
}

/// What is a vector at compile time is one row, be it a row or a column vector.
template <class Object>
auto view_of_eigen(Object& x) {
  if constexpr (bool(std::remove_const_t<Object>::IsVectorAtCompileTime)) {
    using T = std::remove_pointer_t<decltype(x.data())>;
    return vector_view<T>(x.data(), x.size(), static_cast<std::ptrdiff_t>(x.innerStride()));
  } else {
    return matrix_of_eigen(x);
  }
}

} // namespace detail

/// Eigen's half-precision scalars.
template <>
struct storage_traits<Eigen::half> {
  static constexpr storage_format format = storage_format::float16;
};

template <>
struct storage_traits<Eigen::bfloat16> {
  static constexpr storage_format format = storage_format::bfloat16;
};

namespace detail {

/// What an Eigen type says of its shape.
consteval std::size_t known_extent(int extent) {
  return extent == Eigen::Dynamic ? known_shape::unknown : static_cast<std::size_t>(extent);
}

template <class Base>
consteval known_shape matrix_shape_of_eigen() {
  return {known_extent(Base::RowsAtCompileTime), known_extent(Base::ColsAtCompileTime)};
}

/// The same where a vector at compile time is one row.
template <class Base>
consteval known_shape shape_of_eigen() {
  return bool(Base::IsVectorAtCompileTime) ? known_shape{1, known_extent(Base::SizeAtCompileTime)}
                                           : matrix_shape_of_eigen<Base>();
}

} // namespace detail

/// Eigen objects with direct access. As everywhere in Eigen the elements of a const object are const, be it a Map or a
/// Block; a temporary Map, Ref, Block or Transpose may be an output, a temporary Matrix or Array may not.
template <class X>
requires detail::eigen_direct_access<X>
struct view_traits<X> {
  using base = detail::eigen_base<X>;

  static constexpr bool owns = std::is_base_of_v<Eigen::PlainObjectBase<base>, base>;
  static constexpr known_shape shape = detail::shape_of_eigen<base>();

  static auto view(X& x) { return detail::view_of_eigen(static_cast<base&>(x)); }

  static auto view(const X& x) { return detail::view_of_eigen(static_cast<const base&>(x)); }
};

/// Expressions that Eigen has not evaluated yet are inputs only: each is evaluated once, into a matrix of its own,
/// which allocates unless its size is known at compile time.
template <class X>
requires(detail::eigen_object<X> && !detail::eigen_direct_access<X>) struct view_traits<X> {
  using base = detail::eigen_base<X>;
  using plain = typename base::PlainObject;

  static constexpr bool owns = false;
  static constexpr known_shape shape = detail::shape_of_eigen<base>();

  static plain evaluate(const X& x) { return plain(static_cast<const base&>(x)); }

  /// There for its type: what is viewed is what `evaluate` returns.
  static decltype(detail::view_of_eigen(std::declval<const plain&>())) view(const X&) { std::abort(); }
};

/// Z.rowwise() and Z.colwise(): each row, each column, also where Z is a vector.
template <class Expression, int Direction>
requires detail::eigen_direct_access<std::remove_const_t<Expression>>
struct view_traits<Eigen::VectorwiseOp<Expression, Direction>> {
  using operation = Eigen::VectorwiseOp<Expression, Direction>;

  static constexpr bool owns = false;
  static constexpr bool rows = Direction == Eigen::Horizontal;
  static constexpr known_shape along_rows = detail::matrix_shape_of_eigen<std::remove_const_t<Expression>>();
  static constexpr known_shape shape = rows ? along_rows : known_shape{along_rows.cols, along_rows.rows};

  static auto view(const operation& x) {
    // Hands out a const expression, whatever it was made from; the type of the operation remembers.
    const auto matrix = detail::matrix_of_eigen(const_cast<Expression&>(x._expression()));
    if constexpr (rows) {
      return matrix;
    } else {
      return matrix.transposed();
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Eigen in and out: with this header every Eigen object that has its coefficients in memory is an argument of every
// function, read and written where it lies.
//   xs::softmax(Z, P);                              each row of a matrix, whatever its storage order
//   xs::softmax(Z.transpose(), P.transpose());      each column
//   xs::softmax(Z.row(3), P.col(5));                rows, columns, blocks, diagonals, maps; vectors lie or stand
//   xs::softmax((A * B).eval(), P);                 an expression is evaluated first
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

/// What is a vector at compile time is one row, be it a row or a column vector. Of anything else the rows are the
/// mathematical ones: with column-major storage neighbours in a row lie outerStride() apart.
template <class Object>
auto view_of_eigen(Object& x) {
  using T = std::remove_pointer_t<decltype(x.data())>;
  const auto inner = static_cast<std::ptrdiff_t>(x.innerStride());
  if constexpr (bool(std::remove_const_t<Object>::IsVectorAtCompileTime)) {
    return vector_view<T>(x.data(), x.size(), inner);
  } else {
    const auto outer = static_cast<std::ptrdiff_t>(x.outerStride());
    constexpr bool row_major = std::remove_const_t<Object>::IsRowMajor;
    return matrix_view<T>(x.data(), x.rows(), x.cols(), row_major ? outer : inner, row_major ? inner : outer);
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

/// Eigen objects with direct access. As everywhere in Eigen the elements of a const object are const, be it a Map or a
/// Block; a temporary Map, Ref, Block or Transpose may be an output, a temporary Matrix or Array may not.
template <class X>
requires detail::eigen_direct_access<X>
struct view_traits<X> {
  using base = detail::eigen_base<X>;

  static constexpr bool owns = std::is_base_of_v<Eigen::PlainObjectBase<base>, base>;

  static auto view(X& x) { return detail::view_of_eigen(static_cast<base&>(x)); }

  static auto view(const X& x) { return detail::view_of_eigen(static_cast<const base&>(x)); }
};

/// Expressions that Eigen has not evaluated yet are refused with a reason: storing their coefficients would allocate.
template <class X>
requires(detail::eigen_object<X> && !detail::eigen_direct_access<X>) struct view_traits<X> {
  using base = detail::eigen_base<X>;

  using element = const typename base::Scalar;

  static constexpr bool owns = false;

  static std::conditional_t<bool(base::IsVectorAtCompileTime), vector_view<element>, matrix_view<element>>
  view(const X&) {
    static_assert(detail::eigen_direct_access<X>,
                  "xsoftmax: this Eigen expression has no coefficients in memory: pass expression.eval(), or assign it "
                  "to a Matrix or Array first");
    std::abort();
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

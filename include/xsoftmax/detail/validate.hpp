// SPDX-License-Identifier: MIT
// The checks at the public door: O(1), before anything is written. Each reports its error and returns false.
//
// They are inlined into the caller together with the public function, where a view is a few registers. Handed over in
// memory it would be written in words and read in vectors, which stalls a load until all earlier stores are done: a
// short row would wait for the one before it.
#pragma once

#include <xsoftmax/view.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// May an input of type In and an output of type Out meet in one call? Says why not at compile time.
template <class In, class Out>
consteval void check_types() {
  using InView = view_of<std::remove_reference_t<In>>;
  using OutView = view_of<std::remove_reference_t<Out>>;
  static_assert(is_vector<InView> == is_vector<OutView>,
                "xsoftmax: one argument is a row and the other a matrix; both must have the same shape");
  static_assert(!std::is_const_v<element_of<std::remove_reference_t<Out>>>,
                "xsoftmax: the output's elements are const");
  static_assert(std::is_lvalue_reference_v<Out> || refers_to_elements<Out>(),
                "xsoftmax: the output is a temporary container: its result would be lost");
  constexpr known_shape in = shape_of<In>();
  constexpr known_shape out = shape_of<Out>();
  constexpr std::size_t unknown = known_shape::unknown;
  static_assert(in.rows == unknown || out.rows == unknown || in.rows == out.rows,
                "xsoftmax: the types of the arguments have different numbers of rows");
  static_assert(in.cols == unknown || out.cols == unknown || in.cols == out.cols,
                "xsoftmax: the types of the arguments have different lengths");
  using InValue = value_of<std::remove_reference_t<In>>;
  using OutValue = value_of<std::remove_reference_t<Out>>;
  constexpr bool known = has_storage_format<InValue> && has_storage_format<OutValue>;
  static_assert(known, "xsoftmax: elements must be float, double or a half type that xsoftmax::storage_traits knows");
  if constexpr (known) {
    static_assert(std::is_same_v<compute_type_t<InValue>, compute_type_t<OutValue>>,
                  "xsoftmax: double does not mix with float or halves: input and output must be computed in one type");
  }
}

template <class A, class B>
XSOFTMAX_INLINE bool same_shape(const char* function, const char* a_name, const matrix_view<A>& a, const char* b_name,
                                const matrix_view<B>& b) {
  if (a.rows() != b.rows()) {
    raise_mismatch(function, "the arguments differ in their number of rows", a_name, a.rows(), b_name, b.rows());
    return false;
  }
  if (a.cols() != b.cols()) {
    raise_mismatch(function, "the arguments differ in their length", a_name, a.cols(), b_name, b.cols());
    return false;
  }
  return true;
}

/// Do two lattices of the same strides share an element although they are not the same? `distance` is b - a in
/// elements. Decided exactly where the rows do not interleave (or, transposed, the columns); elsewhere the caller
/// answers for it.
XSOFTMAX_NOINLINE inline bool lattices_meet(std::ptrdiff_t distance, std::size_t rows, std::size_t cols,
                                            std::ptrdiff_t row_stride, std::ptrdiff_t col_stride) {
  const auto magnitude = [](std::ptrdiff_t v) { return static_cast<std::size_t>(v < 0 ? -v : v); };
  if (rows == 1) {
    row_stride = 0;
  }
  if (cols == 1) {
    col_stride = 0;
  }
  std::size_t outer = magnitude(row_stride);
  std::size_t outer_count = rows;
  std::size_t inner = magnitude(col_stride);
  std::size_t inner_count = cols;
  if (outer < inner) {
    std::swap(outer, inner);
    std::swap(outer_count, inner_count);
  }
  const std::size_t offset = magnitude(distance);
  if (offset > outer * (outer_count - 1) + inner * (inner_count - 1)) {
    return false; // one ends before the other begins: the usual case, without a division
  }
  const std::size_t inner_extent = inner * (inner_count - 1);
  if (outer != 0 && outer <= inner_extent) {
    return false; // interleaved rows: not decided
  }
  // offset = i * outer + j * inner with |i| < outer_count, |j| < inner_count; only two i can be near enough.
  const auto meets = [&](std::size_t i) {
    if (i >= outer_count) {
      return false;
    }
    const std::size_t reach = i * outer;
    const std::size_t rest = offset > reach ? offset - reach : reach - offset;
    return inner == 0 ? rest == 0 : rest % inner == 0 && rest / inner < inner_count;
  };
  const std::size_t i = outer == 0 ? 0 : offset / outer;
  return meets(i) || meets(i + 1);
}

XSOFTMAX_NOINLINE inline void raise_overlap(const char* function, const char* in_name, const char* out_name,
                                            std::ptrdiff_t distance, std::size_t cols) {
  raise_mismatch(function,
                 (std::string(out_name) + " overlaps " + in_name +
                  " without being the same: in place both must begin at the same element and have the same type")
                     .c_str(),
                 "distance in elements", distance, "length", cols);
}

/// An output may be exactly the input or share nothing with it.
template <class In, class Out>
XSOFTMAX_INLINE bool no_partial_overlap(const char* function, const char* in_name, const matrix_view<const In>& in,
                                        const char* out_name, const matrix_view<Out>& out) {
  if (in.rows() == 0 || in.cols() == 0) {
    return true;
  }
  if constexpr (!std::is_same_v<In, Out>) {
    // Lattices of different types: only that they begin at the same place is sure to be an overlap.
    if (static_cast<const void*>(in.data()) == static_cast<const void*>(out.data())) {
      raise_overlap(function, in_name, out_name, 0, in.cols());
      return false;
    }
    return true;
  } else {
    const bool same_strides = (in.rows() == 1 || in.row_stride() == out.row_stride()) &&
                              (in.cols() == 1 || in.col_stride() == out.col_stride());
    if (!same_strides || in.data() == out.data()) {
      return true;
    }
    const auto distance = static_cast<std::ptrdiff_t>(reinterpret_cast<std::intptr_t>(out.data()) -
                                                      reinterpret_cast<std::intptr_t>(in.data())) /
                          static_cast<std::ptrdiff_t>(sizeof(Out));
    if (!lattices_meet(distance, in.rows(), in.cols(), in.row_stride(), in.col_stride())) {
      return true;
    }
    raise_overlap(function, in_name, out_name, distance, in.cols());
    return false;
  }
}

XSOFTMAX_INLINE bool valid_temperature(const char* function, double temperature) {
  if (temperature >= 0 && temperature <= 1.7976931348623157e308) {
    return true;
  }
  raise_out_of_range(function, "the temperature must be in [0, inf)", "temperature", temperature);
  return false;
}

/// Where T = 0 has no meaning.
XSOFTMAX_INLINE bool positive_temperature(const char* function, double temperature) {
  if (temperature > 0 && temperature <= 1.7976931348623157e308) {
    return true;
  }
  raise_out_of_range(function, "the temperature must be in (0, inf)", "temperature", temperature);
  return false;
}

XSOFTMAX_INLINE bool valid_sink(const char* function, double sink) {
  if (sink <= 1.7976931348623157e308) {
    return true;
  }
  raise_out_of_range(function, "the sink must be a finite logit, or -inf for none", "sink", sink);
  return false;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// The checks of keys of the noise and of rows of indices at the public door.
#pragma once

#include <xsoftmax/detail/noise_task.hpp>
#include <xsoftmax/detail/validate.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// What the fields of a key but its seed are below.
inline constexpr std::uint64_t key_limit = std::uint64_t{1} << 40;

/// Does the key have a place for each element of rows x cols?
XSOFTMAX_INLINE bool valid_key(const char* function, const noise_key& key, std::size_t rows, std::size_t cols) {
  if (key.stream >= key_limit) {
    raise_mismatch(function, "the key's stream must be below 2^40", "key.stream", key.stream, "2^40", key_limit);
    return false;
  }
  if (key.row >= key_limit || rows > key_limit - key.row) {
    raise_mismatch(function, "the rows from key.row on must lie below 2^40", "key.row", key.row, "rows", rows);
    return false;
  }
  if (key.index >= key_limit || cols > key_limit - key.index) {
    raise_mismatch(function, "the elements from key.index on must lie below 2^40", "key.index", key.index, "length",
                   cols);
    return false;
  }
  return true;
}

/// The index output of a matrix, one for each row.
template <class Indices>
XSOFTMAX_INLINE auto checked_indices(const char* function, Indices&& indices, std::size_t rows, index_row& out) {
  static_assert(is_vector<view_of<std::remove_reference_t<Indices>>>, "xsoftmax: indices go into a row");
  static_assert(std::is_same_v<element_of<std::remove_reference_t<Indices>>, std::size_t>,
                "xsoftmax: indices are written as std::size_t");
  static_assert(std::is_lvalue_reference_v<Indices> || refers_to_elements<Indices>(),
                "xsoftmax: the output is a temporary container: its result would be lost");
  const auto view = output_matrix(indices);
  out = {view.data(), view.col_stride()};
  if (view.cols() != rows) {
    raise_mismatch(function, "indices must have one element for each row of z", "rows of z", rows, "length of indices",
                   view.cols());
    return false;
  }
  return true;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

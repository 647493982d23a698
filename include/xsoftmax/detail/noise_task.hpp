// SPDX-License-Identifier: MIT
// What noise, and what is drawn by it, asks of its kernels.
#pragma once

#include <cstdint>
#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Names a place in the noise, which is a function of these four and of the kind of noise, and of nothing else: no
/// state, no order of calls. All members are separate fields of the generator's key and counter.
struct noise_key {
  std::uint64_t seed = 0;   ///< any
  std::uint64_t stream = 0; ///< below 2^40: a step of training, a request, a head, ...
  std::uint64_t row = 0;    ///< below 2^40: of the first row; row r of a matrix has row + r
  std::uint64_t index = 0;  ///< below 2^40: of the first element; element i of a row has index + i
};

namespace detail {

/// Each has words of its own. The last two are Gumbel noise.
enum class noise_kind : unsigned char { gumbel, logistic, exponential, blocks_of_many, elements_of_many };

/// One index for each row.
struct index_row {
  std::size_t* data;
  std::ptrdiff_t stride;

  XSOFTMAX_INLINE void set(std::size_t row, std::size_t index) const {
    data[static_cast<std::ptrdiff_t>(row) * stride] = index;
  }

  XSOFTMAX_INLINE index_row from(std::size_t row) const {
    return {data == nullptr ? data : data + static_cast<std::ptrdiff_t>(row) * stride, stride};
  }
};

/// Noise in each row of `out`, computed in T.
template <class T>
struct noise_task {
  noise_key key;
  destination out;
  std::size_t rows;
  std::size_t cols;
  noise_kind kind;
};

/// One draw from each row of z.
template <class T>
struct sample_task {
  noise_key key;
  source z;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  index_row indices;
  T* winner = nullptr; ///< for one row: the largest perturbed logit, -inf where there is none, NaN if z has NaN or +inf
};

/// The same from what top-k, top-p and min-p leave. The temperature is not 0.
template <class T>
struct sample_truncated_task : sample_task<T> {
  std::size_t top_k; ///< 0: all
  double top_p;      ///< 1: all
  double min_p;      ///< 0: all
};

/// Many draws from one row z: draw j uses key.row + j.
template <class T>
struct sample_many_task {
  noise_key key;
  source z;
  std::size_t cols;
  double temperature;
  index_row indices;
  std::size_t draws;
};

/// As many different draws from one row z as there is room and as it allows: `found` of them, in their order, then
/// npos.
template <class T>
struct sample_without_replacement_task {
  noise_key key;
  source z;
  std::size_t cols;
  double temperature;
  index_row indices;
  std::size_t draws;
  std::size_t* found;
};

/// For each row r of z, with its noise g: y_r = softmax((z_r + g) / temperature), or 1 at the largest of z_r + g and 0
/// elsewhere; its place into `indices`.
template <class T>
struct gumbel_softmax_task {
  noise_key key;
  source z;
  destination y;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  index_row indices;
  bool hard;
};

/// The logarithm of the same; of the soft y wherever the temperature is not 0.
template <class T>
struct log_gumbel_softmax_task : gumbel_softmax_task<T> {};

/// For each row r of z: the gradient of its soft gumbel_softmax with respect to z_r, from the gradient dy_r.
template <class T>
struct gumbel_softmax_backward_task {
  noise_key key;
  source z;
  source dy;
  destination dz;
  std::size_t rows;
  std::size_t cols;
  double temperature;
};

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

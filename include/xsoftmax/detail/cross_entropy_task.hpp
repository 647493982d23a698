// SPDX-License-Identifier: MIT
// What cross_entropy asks of its kernels.
#pragma once

#include <cstdint>
#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// What turns logits into probabilities.
enum class loss_link : unsigned char {
  softmax,
  stablemax, ///< s(z_i) / sum_k s(z_k), which does not collapse (stablemax.hpp)
};

namespace detail {

/// One integer for each row, of any integral type; negative ones stand for themselves modulo 2^64.
struct integer_row {
  const void* data;
  std::ptrdiff_t stride;
  unsigned char bytes;
  bool is_signed;

  XSOFTMAX_INLINE std::uint64_t get(std::size_t row) const {
    const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(row) * stride;
    switch (bytes) {
    case 1:
      return is_signed ? extended(static_cast<const std::int8_t*>(data)[i]) : static_cast<const std::uint8_t*>(data)[i];
    case 2:
      return is_signed ? extended(static_cast<const std::int16_t*>(data)[i])
                       : static_cast<const std::uint16_t*>(data)[i];
    case 4:
      return is_signed ? extended(static_cast<const std::int32_t*>(data)[i])
                       : static_cast<const std::uint32_t*>(data)[i];
    default:
      return static_cast<const std::uint64_t*>(data)[i];
    }
  }

  XSOFTMAX_INLINE integer_row from(std::size_t row) const {
    integer_row rest = *this;
    rest.data = static_cast<const unsigned char*>(data) + static_cast<std::ptrdiff_t>(row) * stride * bytes;
    return rest;
  }

private:
  static XSOFTMAX_INLINE std::uint64_t extended(std::int64_t value) { return static_cast<std::uint64_t>(value); }
};

/// A weight for each class, or 1 where there is no data.
struct weight_row {
  const void* data = nullptr;
  std::ptrdiff_t stride = 0;
  bool is_double = false;

  XSOFTMAX_INLINE double get(std::size_t label) const {
    const std::ptrdiff_t i = static_cast<std::ptrdiff_t>(label) * stride;
    return data == nullptr ? 1.0
           : is_double     ? static_cast<const double*>(data)[i]
                           : static_cast<double>(static_cast<const float*>(data)[i]);
  }
};

/// What is done.
enum class cross_entropy_step : unsigned char {
  rows,  ///< all of them; their losses join `total`
  merge, ///< `other` joins `total`
  value, ///< `total` over `divisor`, into `result`
};

/// The losses of rows of z, each by its target, and their gradients.
template <class T>
struct cross_entropy_task {
  source z;
  destination dz;     ///< nowhere: not wanted
  destination losses; ///< a row; nowhere: not wanted
  integer_row targets;
  std::size_t rows;
  std::size_t cols;
  std::uint64_t ignored; ///< the target of rows without loss and gradient
  weight_row weights;
  double scale; ///< of the gradient
  loss_link link;
  signed_sum_digits* total; ///< weighted losses join it; null: not wanted
  cross_entropy_step step = cross_entropy_step::rows;
  const signed_sum_digits* other = nullptr;
  double divisor = 1.0;
  T* result = nullptr;
  source distributions = {}; ///< instead of targets that are indices
  bool has_distributions = false;
  double smoothing = 0.0; ///< the share of each target that all classes get
};

} // namespace detail

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

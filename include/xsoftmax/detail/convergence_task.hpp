// SPDX-License-Identifier: MIT
// What the convergence radius asks of its kernels.
#pragma once

#include <xsoftmax/detail/storage.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// For each row of slopes a: out[r] = pi T / (max a - min a), over the classes whose logit is not -inf.
template <class T>
struct slope_spread_task {
  source z; ///< nowhere: all classes count
  source a;
  std::size_t rows;
  std::size_t cols;
  double temperature;
  double* out; ///< element r at r * out_stride
  std::ptrdiff_t out_stride;
};

/// A point t = u + iy, and F and F' there, relative to exp(max_k of zeta_k + d_k u).
struct partition_point {
  double u = 0.0;
  double y = 0.0;
  double f[2] = {}; ///< real and imaginary part
  double slope[2] = {};
};

/// Beside this, in float, no term is lost that counts in a double.
inline constexpr double origin_cap = 0x1p-26;

/// What is asked of F(t) = sum of exp(zeta_k + d_k t) over one row; zeta_k = (z_k - largest) / T, d_k = scale (a_k -
/// origin / scale).
enum class partition_step : unsigned char {
  /// result: least and greatest slope a, largest z, its a, and 1 if all that counts is a number
  range,
  /// result[0]: the d that has more than half of all weight, if there is one that differs from the others as a float;
  /// otherwise some d
  vote,
  /// result: sum of the terms at u with d_k != 0, of those times d_k, and times d_k^2; unless `single`, sum of those
  /// with d_k = 0
  tail,
  /// result: the first three of them to about 2^-16, through floats, and the sum of the terms times d_k^3
  rough,
  /// result: the first three of tail at u = 0, through floats; the sum of the terms with d_k = 0, each taken to be
  /// origin_cap at most; and about how far to the right, and to the left, the first of the others reaches 1: infinite
  /// where none does, or only far beyond 2^64
  start,
  /// result: how far to the right, and to the left, the first of the others reaches exp(level)
  crossings,
  /// F and F' at `count` points
  values,
};

template <class T>
struct partition_function_task {
  source z;
  source a;
  std::size_t cols;
  double temperature;
  partition_step step = partition_step::range;
  double* result = nullptr; ///< room for six
  double largest = 0.0;
  double scale = 1.0; ///< a power of two
  double origin = 0.0;
  double u = 0.0;
  double level = 0.0;
  bool single = false; ///< is that of the largest logit the only term with d_k = 0 that counts?
  partition_point* points = nullptr;
  std::size_t count = 0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

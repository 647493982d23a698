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

/// What is asked of F(t) = sum of exp(zeta_k + d_k t) over one row; zeta_k = (z_k - largest) / T, d_k = scale (a_k -
/// origin / scale).
enum class partition_step : unsigned char {
  range,     ///< result: least and greatest slope a, largest z, its a, and 1 if all that counts is a number
  vote,      ///< result[0]: the d that has more than half of all weight, if there is one that differs from the others
             ///< as a float; otherwise some d
  tail,      ///< result: F(0) over the classes with d_k = 0; F(u) and F'(u) over the others
  rough,     ///< the same to about 2^-16, through floats
  crossings, ///< result: how far to the right, and to the left, the first term reaches `level`; about
  values,    ///< F and F' at `count` points
};

template <class T>
struct partition_function_task {
  source z;
  source a;
  std::size_t cols;
  double temperature;
  partition_step step = partition_step::range;
  double* result = nullptr; ///< five
  double largest = 0.0;
  double scale = 1.0; ///< a power of two
  double origin = 0.0;
  double u = 0.0;
  double level = 0.0;
  partition_point* points = nullptr;
  std::size_t count = 0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

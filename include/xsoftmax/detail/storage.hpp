// SPDX-License-Identifier: MIT
// How the elements of a row lie in memory.
#pragma once

#include <xsoftmax/version.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// What an element is in memory. Arithmetic is in float whatever it is, and in double for elements that are double.
enum class storage_format : unsigned char {
  native,   ///< the type that is computed in: float or double
  float16,  ///< IEEE 754 binary16
  bfloat16, ///< the upper half of a float
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

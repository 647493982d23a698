// SPDX-License-Identifier: MIT
// What the tests of cross_entropy share: its links with their names, and the special values.
#pragma once

#include <limits>
#include <xsoftmax/cross_entropy.hpp>

namespace xsoftmax::test {

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();
template <class T>
constexpr T not_a_number = std::numeric_limits<T>::quiet_NaN();

inline constexpr loss_link links[] = {loss_link::softmax, loss_link::stablemax};

inline const char* name(loss_link l) {
  return l == loss_link::softmax ? "softmax" : "stablemax";
}

} // namespace xsoftmax::test

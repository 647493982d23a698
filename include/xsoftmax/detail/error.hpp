// SPDX-License-Identifier: MIT
// How a public function refuses its arguments. Everything here is cold and stays out of the kernels.
#pragma once

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <xsoftmax/config.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// Reports `message` as `std::invalid_argument`, or through the macro XSOFTMAX_ON_ERROR(message) where the user defines
/// one (the same in all translation units). Without exceptions and without the macro the program prints the message and
/// aborts. A handler may return: the public function then returns without having written anything.
template <class Exception = std::invalid_argument>
XSOFTMAX_NOINLINE void raise(const std::string& message) {
#if defined(XSOFTMAX_ON_ERROR)
  XSOFTMAX_ON_ERROR(message.c_str());
#elif defined(__cpp_exceptions)
  throw Exception(message);
#else
  std::fputs((message + '\n').c_str(), stderr);
  std::abort();
#endif
}

/// Integers in full, others in enough digits to tell them apart.
template <class Number>
XSOFTMAX_NOINLINE std::string number_text(Number value) {
  if constexpr (std::is_integral_v<Number>) {
    return std::to_string(value);
  } else {
    char text[64];
    std::snprintf(text, sizeof text, "%.17g", static_cast<double>(value));
    return text;
  }
}

/// "xsoftmax::FUNCTION: WHAT (LEFT_NAME = left, RIGHT_NAME = right)": function, argument and the two numbers that
/// disagree.
template <class Left, class Right>
XSOFTMAX_NOINLINE void raise_mismatch(const char* function, const char* what, const char* left_name, Left left,
                                      const char* right_name, Right right) {
  raise(std::string("xsoftmax::") + function + ": " + what + " (" + left_name + " = " + number_text(left) + ", " +
        right_name + " = " + number_text(right) + ")");
}

/// The same for one number outside the range that `what` states.
template <class Number>
XSOFTMAX_NOINLINE void raise_out_of_range(const char* function, const char* what, const char* name, Number value) {
  raise(std::string("xsoftmax::") + function + ": " + what + " (" + name + " = " + number_text(value) + ")");
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// The execution policies of the standard library as executors:
//   xs::softmax(std::execution::par, Z, P);
// The only file of the library that includes <execution>. Where that rests on oneTBB, as libstdc++'s does if the
// headers of TBB are installed, the program must be linked with it (-ltbb).
#pragma once

#include <algorithm>
#include <execution>
#include <xsoftmax/detail/executor.hpp>

#if !defined(__cpp_lib_execution)
#error "xsoftmax: this standard library has no execution policies; pass an executor of your own"
#endif

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// Bodies are independent and take no locks, so every policy will do.
template <class Policy>
requires std::is_execution_policy_v<std::remove_cv_t<Policy>>
struct executor_traits<Policy> {
  static constexpr bool runs_bodies = true;

  template <class Body>
  static void run(Policy& policy, std::size_t count, const Body& body) {
    std::size_t index[most_bodies];
    for (std::size_t i = 0; i < count; ++i) {
      index[i] = i;
    }
    std::for_each(policy, index, index + count, body);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

// SPDX-License-Identifier: MIT
// Softmax as other kernels use it, of a row or a part of one.
#pragma once

#include <xsoftmax/detail/kernel/softmax.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Elements side by side.
template <class T>
XSOFTMAX_INLINE source source_at(const T* x) {
  return {x, 0, 1, storage_format::native};
}

template <class T>
XSOFTMAX_INLINE destination destination_at(T* x) {
  return {x, 0, 1, storage_format::native};
}

/// Softmax of n elements at z, which may be p; as part of a row where its summary is given.
template <class T>
XSOFTMAX_INLINE softmax_task<T> softmax_of_row(const source& z, const destination& p, std::size_t n, double temperature,
                                               const log_sum_exp_summary* whole = nullptr) {
  return {.z = z,
          .p = p,
          .rows = 1,
          .cols = n,
          .temperature = temperature,
          .sink = -infinity<double>,
          .algorithm = softmax_algorithm::automatic,
          .store = store_kind::automatic,
          .masked_row = masked_row_policy::nan,
          .whole = whole};
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

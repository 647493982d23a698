// SPDX-License-Identifier: MIT
// Rows whose terms are stored in their place, each scaled when the next one has been summed: the last levels of a sum,
// its reciprocal and a decision take as long as a pass over some hundred elements, and there is work meanwhile.
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// For each row: store_terms(r, stored) and later scale(r, stored), or, where the first returns false, otherwise(r).
template <class Stored, class StoreTerms, class Scale, class Otherwise>
XSOFTMAX_STEP void deferred_rows(std::size_t rows, StoreTerms&& store_terms, Scale&& scale, Otherwise&& otherwise) {
  Stored waiting{};
  bool is_waiting = false;
  for (std::size_t r = 0; r < rows; ++r) {
    Stored now{};
    const bool is_stored = store_terms(r, now);
    if (is_waiting) {
      scale(r - 1, waiting);
    }
    if (!is_stored) {
      otherwise(r);
    }
    waiting = now;
    is_waiting = is_stored;
  }
  if (is_waiting) {
    scale(rows - 1, waiting);
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// How much room the backward of attention needs.
#pragma once

#include <xsoftmax/detail/attention_backward_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Bytes of workspace that the backward of attention of any kind needs for these arguments, at any alignment. It
/// depends on their shapes and types only: a few numbers for each element of one head's keys and values and of 384 or a
/// sixteenth of the queries that share it. Throws std::invalid_argument if the shapes disagree.
template <detail::attention_argument Q, detail::attention_argument K, detail::attention_argument V>
[[nodiscard]] std::size_t attention_backward_workspace(const Q& q, const K& k, const V& v) {
  return detail::workspace_bytes("attention_backward_workspace", q, k, v,
                                 [](const auto& task) { return detail::backward_elements(task, false); });
}

/// The same for the calls with an executor: that for each of the bodies that it is given, of which there are at
/// most 64.
template <detail::executor Executor, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V>
[[nodiscard]] std::size_t attention_backward_workspace(const Executor&, const Q& q, const K& k, const V& v) {
  return detail::workspace_bytes("attention_backward_workspace", q, k, v,
                                 [](const auto& task) { return detail::backward_elements(task, true); });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

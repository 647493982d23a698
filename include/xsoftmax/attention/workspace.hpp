// SPDX-License-Identifier: MIT
// How much room attention needs.
#pragma once

#include <xsoftmax/detail/attention_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Bytes of workspace that attention of any kind needs for these arguments, at any alignment. It depends on their
/// shapes and types only, serves every call with shorter extents as well, and grows with depth and up to 528 queries;
/// with the number of keys by 65536 numbers at most, which re-weighting keeps instead of computing them twice.
/// Throws std::invalid_argument if the shapes disagree.
template <detail::attention_argument Q, detail::attention_argument K, detail::attention_argument V>
[[nodiscard]] std::size_t attention_workspace(const Q& q, const K& k, const V& v) {
  return detail::workspace_bytes("attention_workspace", q, k, v, [](const auto& task) {
    return detail::attention_split(task, false).workspace(task.depth, task.value_depth, true);
  });
}

/// The same for the calls with an executor: room for each of the bodies that it is given, of which there are at most
/// 64, or, where keys are split (few queries), for the sums of each 1024 keys as well.
template <detail::executor Executor, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V>
[[nodiscard]] std::size_t attention_workspace(const Executor&, const Q& q, const K& k, const V& v) {
  return detail::workspace_bytes("attention_workspace", q, k, v, [](const auto& task) {
    return detail::attention_split(task, true).workspace(task.depth, task.value_depth, true);
  });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

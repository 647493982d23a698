// SPDX-License-Identifier: MIT
// How much room attention needs.
#pragma once

#include <xsoftmax/detail/attention_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

template <class Q, class K, class V>
std::size_t workspace_bytes(const Q& q, const K& k, const V& v, bool shared) {
  using T = attention_compute<const Q>;
  const auto queries = as_attention(q);
  const auto keys = as_attention(k);
  const auto values = as_attention(v);
  if (!checked_heads("attention_workspace", queries, keys, values)) {
    return 0;
  }
  attention_task<T> task;
  set_heads(task, queries, keys, values);
  return attention_split(task, shared).workspace(task.depth, task.value_depth) * sizeof(T);
}

} // namespace detail

/// Bytes of workspace that attention of any kind needs for these arguments, at any alignment. It depends on their
/// shapes and types only, serves every call with shorter extents as well, and grows with depth and up to 252 queries.
/// Throws std::invalid_argument if the shapes disagree.
template <detail::attention_argument Q, detail::attention_argument K, detail::attention_argument V>
[[nodiscard]] std::size_t attention_workspace(const Q& q, const K& k, const V& v) {
  return detail::workspace_bytes(q, k, v, false);
}

/// The same for the calls with an executor: room for each of the bodies that it is given, of which there are at most
/// 64, or, where keys are split (few queries), for the sums of each 1024 keys as well.
template <detail::executor Executor, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V>
[[nodiscard]] std::size_t attention_workspace(const Executor&, const Q& q, const K& k, const V& v) {
  return detail::workspace_bytes(q, k, v, true);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Softmax attention.
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/attention_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// The options that only softmax attention has.
template <class T, class Q>
bool checked_own_options(const char* function, const softmax_attention_options& options, const Q& q,
                         softmax_attention_task<T>& task) {
  if (!checked_heads_option(function, "sink", options.sink, q.heads(), task.sink)) {
    return false;
  }
  if (options.softcap) {
    task.softcap = *options.softcap;
    if (!(task.softcap > 0) || !std::isfinite(task.softcap)) {
      raise_out_of_range(function, "the softcap must be in (0, inf)", "softcap", task.softcap);
      return false;
    }
  }
  return checked_query_option<T>(function, "log_sum_exp", options.log_sum_exp, q, task.query_number) &&
         checked_query_option<T>(function, "weight_scale", options.weight_scale, q, task.weight_scale) &&
         checked_heads_option(function, "weight_sum", options.weight_sum, q.heads(), task.weight_sum);
}

template <class Q, class K, class V, class Out, class Launch>
void checked_softmax_attention(const Q& q, const K& k, const V& v, Out&& out, const softmax_attention_options& options,
                               const Launch& launch) {
  checked_attention<softmax_attention_task>(
      "softmax_attention", q, k, v, std::forward<Out>(out), options,
      [&](auto& task, const auto& queries) { return checked_own_options("softmax_attention", options, queries, task); },
      launch);
}

} // namespace detail

/// Softmax attention: out_i = sum_j p_ij v_j over the keys j that query i sees, p_i = softmax of their scores
///   s_ij = scale * q_i.k_j,  with softcap c:  c tanh(s_ij / c),  then + mask_ij + key_bias_j - alibi_slope * |i' - j|.
///
/// q is [batch, heads, q_len, d], k [batch, kv_heads, kv_len, d], v [batch, kv_heads, kv_len, dv], out [batch, heads,
/// q_len, dv]: attention_views at any strides or, for one head, matrices (matrix_view, Eigen) [length, depth]. heads is
/// a multiple of kv_heads; query head h reads head h / (heads / kv_heads) of the keys (grouped-query and multi-query
/// attention). Elements are float, double, or halves in any mix with float (a KV cache in bfloat16, say): computed in
/// float, rounded once. out shares no element with an input.
///
/// Which keys a query sees: query i stands at position i' = i + kv_len - q_len among the keys (alignment top_left: i' =
/// i; the extents of the views count here, and where a cache is filled differently for each entry, alignment
/// key_lengths puts the queries at the end of what is filled) and sees key j if j is below the batch entry's key length
/// (one above kv_len counts as kv_len), i' - window_left <= j <= i' + window_right (causal: j <= i', whatever
/// window_right), the mask does not exclude it (false, or -inf) and key_bias_j is not -inf.
///
/// sink: exp(sink of the head) is added to the denominator. log_sum_exp: the logarithm of each query's denominator; it
/// must share no element with the other arguments, which is not checked. Partial results over disjoint sets of keys
/// merge by it: weights softmax(l_1, l_2), sum log_sum_exp(l_1, l_2).
///
/// weight_scale a_i, weight_sum w_h: out_i = sum_j (a_i p_ij + (w_h - a_i) / n_i) v_j over the n_i keys that query i
/// sees. Without a sink these weights, some of which may be negative, add up to w_h; weight_sum alone stands for a_i =
/// 1, and weight_scale alone for a_i p_ij. log_sum_exp stays that of p; partial results merge where there is no
/// weight_sum.
///
/// Special values: a query that sees no key: 0, and log_sum_exp -inf (its sink, if there is one), whatever q holds | a
/// NaN in q_i or in a k_j or v_j that it sees (with v_jc: in column c alone): NaN | what is in keys and values that it
/// does not see: no trace | a score +inf: NaN; -inf: weight 0, and if all are, 0 and log_sum_exp -inf | values of which
/// a sum of kv_len overflows may give infinities.
///
/// Accuracy for float, of inputs that were not made to defeat it: |error| <= 2e-6 (1 + max_j reach_ij) (1 + sum_j p_ij
/// |v_j|), reach_ij = scale sum_c |q_ic k_jc| + |mask_ij| + |key_bias_j| + |alibi_slope (i' - j)|, what the roundings
/// of a score can be of. (With scaled weights p_ij is |a_i| p_ij + |(w_h - a_i) / n_i|.) log_sum_exp: 2e-6 (1 + max_j
/// reach_ij) and 4 units of the larger of itself and the largest score. Largest found in two million random problems:
/// 0.32 and 0.40 of it. Rounding errors that all have one sign, of inputs made for that, go beyond: 7.0 and 3.1 times
/// were reached at depth 1024; by the lengths of its chains, 128 products of a score and 64 values, it is at most 10
/// times up to depth 1024 and 4096 keys. (tests/accuracy/attention_search_test.cpp searches.)
///
/// A query's result depends on itself and the keys that it sees alone: not on the batch, other queries, threads,
/// strides or workspace; decoding gives the bits of prefill, and with fused multiply-add every architecture the same.
///
/// Cost: 2 products of q_len x kv_len x depth per head, weights never leave the cache; tiles that no query sees are
/// skipped. weight_sum adds a sum of values for each block of 64 keys, and one for each query that sees a part of it.
/// Workspace of attention_workspace(q, k, v) bytes, O(depth), allocated by the call if none is given. Throws
/// std::invalid_argument if shapes disagree, out shares an element with an input, an option is out of range, or the
/// workspace is too small; nothing has been written then.
///
/// Sources: A. Vaswani et al., "Attention is all you need" (2017), equation 1; M. Rabe, C. Staats, "Self-attention does
/// not need O(n^2) memory" (2021); T. Dao, "FlashAttention-2" (2023), Algorithm 1; weight_scale and weight_sum: affine
/// scaling, a_i a function of the query and w_h its moving average.
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument Out>
void softmax_attention(const Q& q, const K& k, const V& v, Out&& out, const softmax_attention_options& options = {}) {
  detail::checked_softmax_attention(
      q, k, v, std::forward<Out>(out), options, [&]<class T>(const detail::softmax_attention_task<T>& task) {
        detail::run_attention<T>("softmax_attention", options.workspace, task,
                                 [](const auto& part) { detail::call::softmax_attention(Arch{}, part); });
      });
}

/// The same with batch entries, heads, tiles of queries and, where those are few, keys shared out by an executor, as
/// softmax does: the same bits. Workspace of attention_workspace(executor, q, k, v) bytes.
template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument Out>
void softmax_attention(Executor&& executor, const Q& q, const K& k, const V& v, Out&& out,
                       const softmax_attention_options& options = {}) {
  detail::checked_softmax_attention(
      q, k, v, std::forward<Out>(out), options, [&]<class T>(const detail::softmax_attention_task<T>& task) {
        detail::run_attention<Arch, T, true>("softmax_attention", executor, options.workspace, task,
                                             [](const auto& part) { detail::call::softmax_attention(Arch{}, part); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Sigmoid attention.
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/attention_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// The option that only sigmoid attention has.
template <class T, class Q>
bool checked_own_options(const char* function, const sigmoid_attention_options& options, const Q&,
                         sigmoid_attention_task<T>& task) {
  task.bias = std::numeric_limits<double>::quiet_NaN();
  if (options.bias) {
    task.bias = *options.bias;
    if (!std::isfinite(task.bias)) {
      raise_out_of_range(function, "the bias must be finite", "bias", task.bias);
      return false;
    }
  }
  return true;
}

template <class Q, class K, class V, class Out, class Launch>
void checked_sigmoid_attention(const Q& q, const K& k, const V& v, Out&& out, const sigmoid_attention_options& options,
                               const Launch& launch) {
  checked_attention<sigmoid_attention_task>(
      "sigmoid_attention", q, k, v, std::forward<Out>(out), options,
      [&](auto& task, const auto& queries) { return checked_own_options("sigmoid_attention", options, queries, task); },
      launch);
}

} // namespace detail

/// Sigmoid attention: out_i = sum_j sigma(s_ij) v_j over the keys j that query i sees, without normalisation, of scores
///   s_ij = scale * q_i.k_j + bias + mask_ij + key_bias_j - alibi_slope * |i' - j|,   sigma(s) = 1 / (1 + exp(-s)).
///
/// Shapes, types, which keys a query sees, position i': as softmax_attention. The default scale is 1 / sqrt(depth). The
/// default bias is -log n for the n keys that key_lengths leaves the entry of the batch (kv_len without it): constant
/// over its queries, masks do not reduce it; scores of 0 then give a row that sums to n / (n + 1).
///
/// Special values: a query that sees no key: 0, whatever it holds | a NaN in q_i or in a k_j or v_j that it sees (with
/// v_jc: in column c alone): NaN | what is in keys and values that it does not see: no trace | a score +inf, -inf:
/// weight 1, 0.
///
/// Accuracy for float: |error| <= 2e-6 (1 + max_j reach_ij) (1 + sum_j sigma_ij |v_j|), reach_ij as in
/// softmax_attention with |bias| added. Largest found in two million random problems: 0.29 of it, by a search uphill
/// 0.87; inputs made to defeat it, as in softmax_attention, may go beyond, at most 5 times up to depth 1024 and 4096
/// keys. Both tails of sigma are accurate relative to themselves; below the normal numbers it is 0. Cost, workspace,
/// errors: as softmax_attention. Reproducibility too where the bias is given; the default follows the number of keys,
/// and so differs between decoding and prefill.
///
/// Source: J. Ramapuram et al., "Theory, analysis, and best practices for sigmoid self-attention" (2024), equation 3.
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument Out>
void sigmoid_attention(const Q& q, const K& k, const V& v, Out&& out, const sigmoid_attention_options& options = {}) {
  detail::checked_sigmoid_attention(
      q, k, v, std::forward<Out>(out), options, [&]<class T>(const detail::sigmoid_attention_task<T>& task) {
        detail::run_attention<T>("sigmoid_attention", options.workspace, task,
                                 [](const auto& part) { detail::call::sigmoid_attention(Arch{}, part); });
      });
}

/// The same shared out by an executor: as softmax_attention.
template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument Out>
void sigmoid_attention(Executor&& executor, const Q& q, const K& k, const V& v, Out&& out,
                       const sigmoid_attention_options& options = {}) {
  detail::checked_sigmoid_attention(
      q, k, v, std::forward<Out>(out), options, [&]<class T>(const detail::sigmoid_attention_task<T>& task) {
        detail::run_attention<Arch, T, true>("sigmoid_attention", executor, options.workspace, task,
                                             [](const auto& part) { detail::call::sigmoid_attention(Arch{}, part); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

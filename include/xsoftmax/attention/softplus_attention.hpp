// SPDX-License-Identifier: MIT
// Softplus attention.
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/attention_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// The options that only softplus attention has.
template <class T, class Q>
bool checked_own_options(const char* function, const softplus_attention_options& options, const Q& q,
                         softplus_attention_task<T>& task) {
  if (options.reweight_power) {
    task.reweight_power = *options.reweight_power;
    if (!(task.reweight_power > 0) || !std::isfinite(task.reweight_power)) {
      raise_out_of_range(function, "the power of the re-weighting must be in (0, inf)", "reweight_power",
                         task.reweight_power);
      return false;
    }
    if (!options.denominator.empty()) {
      raise_out_of_range(function, "with re-weighting there is no denominator to write", "reweight_power",
                         task.reweight_power);
      return false;
    }
  }
  return checked_query_option<T>(function, "denominator", options.denominator, q, task.query_number);
}

template <class Q, class K, class V, class Out, class Launch>
void checked_softplus_attention(const Q& q, const K& k, const V& v, Out&& out,
                                const softplus_attention_options& options, const Launch& launch) {
  checked_attention<softplus_attention_task>(
      "softplus_attention", q, k, v, std::forward<Out>(out), options,
      [&](auto& task, const auto& queries) {
        return checked_own_options("softplus_attention", options, queries, task);
      },
      launch);
}

} // namespace detail

/// Length-scaled softplus attention (LSSA), re-weighted where reweight_power is given (LSSAR). Over the n keys j that
/// query i sees:
///   s_j = scale * cos(q_i, k_j) + mask_ij + key_bias_j - alibi_slope * |i' - j|     cos: 0 where a vector is 0
///   u_j = log(1 + exp(s_j)),  A_j = u_j / sum u                                     LSSA:  out_i = sum_j A_j v_j
///   r_j = max(n A_j - o, 0),  B_j = r_j^p / sum r^p,  o = 0 for n <= 3, else 1      LSSAR: out_i = sum_j B_j v_j
/// The default scale is log(depth) log(n), n the query's own. denominator: sum u of each query, for LSSA's backward; it
/// must share no element with the other arguments, which is not checked.
///
/// Shapes, types, which keys a query sees, position i': as softmax_attention. Where a row is uniform to 1e-6 (double:
/// 1e-14), that is max_j n A_j - 1 is no more, nothing is above the average and B = A.
///
/// Special values: a query that sees no key: 0, whatever it holds | a NaN or infinity in q_i, or in a k_j that it sees:
/// NaN | a NaN in a v_jc that it sees: NaN in column c, but with re-weighting a key whose r_j^p is 0 counts as unseen |
/// what is in keys and values that it does not see: no trace.
///
/// Accuracy without re-weighting for float, of inputs that were not made to defeat it: |error| <= 2e-6 (1 + max_j
/// reach_ij) (1 + sum_j A_j |v_j|), reach_ij = |s_j| + |mask_ij| + |key_bias_j| + |alibi_slope (i' - j)|, as long as a
/// visible key has a score above -80 (double: -690): only masks and biases can put all below, and u vanishes there (0
/// from about -87 and -708 on). Largest found in two million random problems: 0.21 of it; made to defeat it, 1.1. With
/// re-weighting errors of A grow by p A_j / (A_j - 1 / n). Any length of q and k is served, also one whose square
/// overflows. Reproducibility, workspace, errors: as softmax_attention. Cost: as there; re-weighting takes the scores
/// twice, unless their u fit into the workspace (rows of 24 to 144 queries in 65536 numbers and what smaller tiles
/// leave free), and does not read blocks of values without weight.
///
/// Source: B. Gao, M. Spratling, L. Gionfrida, "Softplus attention with re-weighting boosts length extrapolation in
/// large language models" (2025).
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument Out>
void softplus_attention(const Q& q, const K& k, const V& v, Out&& out, const softplus_attention_options& options = {}) {
  detail::checked_softplus_attention(
      q, k, v, std::forward<Out>(out), options, [&]<class T>(const detail::softplus_attention_task<T>& task) {
        detail::run_attention<T>("softplus_attention", options.workspace, task,
                                 [](const auto& part) { detail::call::softplus_attention(Arch{}, part); });
      });
}

/// The same shared out by an executor: as softmax_attention.
template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument Out>
void softplus_attention(Executor&& executor, const Q& q, const K& k, const V& v, Out&& out,
                        const softplus_attention_options& options = {}) {
  detail::checked_softplus_attention(
      q, k, v, std::forward<Out>(out), options, [&]<class T>(const detail::softplus_attention_task<T>& task) {
        detail::run_attention<Arch, T, false>("softplus_attention", executor, options.workspace, task,
                                              [](const auto& part) { detail::call::softplus_attention(Arch{}, part); });
      });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

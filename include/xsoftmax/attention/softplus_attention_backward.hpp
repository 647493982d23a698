// SPDX-License-Identifier: MIT
// Gradients of softplus attention.
#pragma once

#include <xsoftmax/attention/softplus_attention.hpp>
#include <xsoftmax/detail/attention_backward_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

template <class Arch, class Threads, class Q, class K, class V, class Saved, class DOut, class DQ, class DK, class DV>
void share_softplus_attention_backward(const Threads& threads, const Q& q, const K& k, const V& v, const Saved& saved,
                                       const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                       const softplus_attention_options& options) {
  constexpr const char* function = "softplus_attention_backward";
  using T = attention_compute<const Q>;
  checked_attention_backward<softplus_attention_backward_task>(
      function, q, k, v, dout, std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options,
      [&](auto& task, const auto& queries, const auto& values, const auto& apart) {
        if (!checked_forward_options<softplus_attention_task, T>(function, options, queries, task) ||
            !saved(function, task, queries, values, apart)) {
          return false;
        }
        if (task.saved && task.reweight_power != 0) {
          raise_out_of_range(function, "out and denominator do not suffice with re-weighting", "reweight_power",
                             task.reweight_power);
          return false;
        }
        return true;
      },
      [&](const softplus_attention_backward_task<T>& task) {
        run_attention_backward<Arch, T>(
            function, threads, options.workspace, task, options.key_bias_gradient,
            [](const auto& part) { call::softplus_attention_backward(Arch{}, part); }, no_head_gradient{});
      });
}

} // namespace detail

/// Gradients of softplus_attention: with dp_ij = dout_i . v_j, D_i = dout_i . out_i, over the n keys j that query i
/// sees,
///   LSSA:  du_j = (dp_j - D) / sum u                          dv_j += A_j dout
///   LSSAR: dr_j = p (B_j / r_j) (dp_j - D) where r_j > 0, else 0;   du_j = (n dr_j - o sum_k dr_k) / sum u
///                                                             dv_j += B_j dout
///   ds_j = sigma(s_j) du_j, and through scale * cos(q_i, k_j) to q_i and k_j
/// The scale, n and log n are constants. A zero vector has a cosine of 0 and the gradient 0.
///
/// Arguments, special values, reproducibility, workspace, errors: as softmax_attention_backward; a key whose r_j is 0
/// counts as unseen in v; a row that is uniform (as in softplus_attention) has the gradient of LSSA. Cost: 7 products
/// of q_len x kv_len x depth per head; with re-weighting 11, of which those over values skip blocks without weight.
///
/// Source: B. Gao, M. Spratling, L. Gionfrida, "Softplus attention with re-weighting boosts length extrapolation in
/// large language models" (2025); the gradient is derived from it.
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument DOut, detail::attention_argument DQ,
          detail::attention_argument DK, detail::attention_argument DV>
void softplus_attention_backward(const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                 const softplus_attention_options& options = {}) {
  detail::share_softplus_attention_backward<Arch>(detail::this_thread{}, q, k, v, detail::nothing_saved{}, dout,
                                                  std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv),
                                                  options);
}

/// LSSA's from out and denominator of the forward with the same options: 5 products. The same bits, unless out was
/// rounded to halves. reweight_power is refused.
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument Out, detail::attention_argument DOut,
          detail::attention_argument DQ, detail::attention_argument DK, detail::attention_argument DV>
void softplus_attention_backward(const Q& q, const K& k, const V& v, const Out& out, const query_input& denominator,
                                 const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                 const softplus_attention_options& options = {}) {
  const auto& held = detail::evaluated(out);
  using Held = std::remove_reference_t<decltype(held)>;
  detail::share_softplus_attention_backward<Arch>(
      detail::this_thread{}, q, k, v, detail::saved_results<Held>{held, "denominator", denominator}, dout,
      std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options);
}

/// Both shared out by an executor: as softmax_attention_backward.
template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument DOut,
          detail::attention_argument DQ, detail::attention_argument DK, detail::attention_argument DV>
void softplus_attention_backward(Executor&& executor, const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq,
                                 DK&& dk, DV&& dv, const softplus_attention_options& options = {}) {
  detail::share_softplus_attention_backward<Arch>(detail::threads_of<Executor>{executor}, q, k, v,
                                                  detail::nothing_saved{}, dout, std::forward<DQ>(dq),
                                                  std::forward<DK>(dk), std::forward<DV>(dv), options);
}

template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument Out,
          detail::attention_argument DOut, detail::attention_argument DQ, detail::attention_argument DK,
          detail::attention_argument DV>
void softplus_attention_backward(Executor&& executor, const Q& q, const K& k, const V& v, const Out& out,
                                 const query_input& denominator, const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                 const softplus_attention_options& options = {}) {
  const auto& held = detail::evaluated(out);
  using Held = std::remove_reference_t<decltype(held)>;
  detail::share_softplus_attention_backward<Arch>(
      detail::threads_of<Executor>{executor}, q, k, v, detail::saved_results<Held>{held, "denominator", denominator},
      dout, std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

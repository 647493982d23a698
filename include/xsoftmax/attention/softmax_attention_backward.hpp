// SPDX-License-Identifier: MIT
// Gradients of softmax attention.
#pragma once

#include <xsoftmax/attention/softmax_attention.hpp>
#include <xsoftmax/detail/attention_backward_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

template <class Arch, class Threads, class Q, class K, class V, class Saved, class DOut, class DQ, class DK, class DV>
void share_softmax_attention_backward(const Threads& threads, const Q& q, const K& k, const V& v, const Saved& saved,
                                      const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                      const softmax_attention_options& options) {
  constexpr const char* function = "softmax_attention_backward";
  using T = attention_compute<const Q>;
  const gradient_output& sink_gradient = options.sink_gradient;
  checked_attention_backward<softmax_attention_backward_task>(
      function, q, k, v, dout, std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options,
      [&](auto& task, const auto& queries, const auto& values, const auto& apart) {
        return checked_forward_options<softmax_attention_task, T>(function, options, queries, task) &&
               checked_query_option<T>(function, "weight_scale_gradient", options.weight_scale_gradient, queries,
                                       task.weight_scale_gradient) &&
               checked_gradient_option<T>(function, "sink_gradient", sink_gradient, "1", 1, "heads", queries.heads()) &&
               saved(function, task, queries, values, apart);
      },
      [&](const softmax_attention_backward_task<T>& task) {
        const auto run = [&](const auto& head_gradient) {
          run_attention_backward<Arch, T>(
              function, threads, options.workspace, task, options.key_bias_gradient,
              [](const auto& part) { call::softmax_attention_backward(Arch{}, part); }, head_gradient);
        };
        const auto set = [&](std::size_t h, double sum) { set_number(sink_gradient, 0, h, static_cast<T>(sum)); };
        if (!sink_gradient.empty() && !options.sink.empty()) {
          run(set);
          return;
        }
        run(no_head_gradient{});
        for (std::size_t h = 0; !sink_gradient.empty() && h < task.heads; ++h) {
          set(h, 0);
        }
      });
}

} // namespace detail

/// Gradients of softmax_attention: of a loss whose gradient with respect to out is dout, with respect to q, k and v.
/// Over the keys j that query i sees,
///   dp_ij = dout_i . v_j,   ds_ij = p_ij (dp_ij - dout_i . out_i), times 1 - tanh^2 with a softcap
///   dq_i = scale sum_j ds_ij k_j,   dk_j = scale sum_i ds_ij q_i,   dv_j = sum_i p_ij dout_i
/// where the sums over i are over the queries of all heads that share the key.
///
/// dout is [batch, heads, q_len, dv]; dq, dk and dv have the shapes of q, k and v and share no element with an input or
/// with one another. Types, strides and options: as softmax_attention (log_sum_exp is not written). Written as well,
/// where they are given: key_bias_gradient (sum over heads and queries of ds before the softcap's factor) and
/// sink_gradient, in the type that is computed in. With weight_scale a_i and weight_sum w_h, p_ij is a_i p_ij + (w_h -
/// a_i) / n_i in dv, ds_ij is a_i p_ij (dp_ij - sum_l p_il dp_il), and weight_scale_gradient is written where it is
/// given: dout_i . (sum_j p_ij v_j - [with weight_sum] the mean of the v_j). weight_sum counts as a constant.
///
/// Special values: every element is written; a query that sees no key and a key that no query sees: exactly 0 | what is
/// in a pair that is not seen: no trace | a NaN that is seen: NaN in the gradients of all that it enters.
///
/// Accuracy for float, numbers below the normal ones aside: with reach_i = 1 + max_j scale sum_c |q_ic k_jc| + max_j
/// |s_ij| and w_ij = p_ij (a_ij + sum_l p_il a_il), a_ij = sum_c |dout_ic v_jc|, every |error| of
///   dq_ic <= 4e-6 reach_i scale sum_j w_ij |k_jc|,   dk_jc <= 4e-6 scale sum_i reach_i w_ij |q_ic|,
///   dv_jc <= 4e-6 sum_i reach_i p_ij |dout_ic|       (a softcap c adds 2 |ds_ij| / c to w_ij)
/// Reproducibility: equal bits whatever the batch, strides, threads and workspace, on every architecture with fused
/// multiply-add; dq of a query depends on itself and the keys that it sees alone.
///
/// Cost: 7 products of q_len x kv_len x depth per head, for out and log_sum_exp are computed once more. Workspace of
/// attention_backward_workspace(q, k, v) bytes, allocated by the call if none is given. Throws std::invalid_argument as
/// softmax_attention does; nothing has been written then.
///
/// Source: T. Dao, "FlashAttention-2" (2023), Algorithm 2.
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument DOut, detail::attention_argument DQ,
          detail::attention_argument DK, detail::attention_argument DV>
void softmax_attention_backward(const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                const softmax_attention_options& options = {}) {
  detail::share_softmax_attention_backward<Arch>(detail::this_thread{}, q, k, v, detail::nothing_saved{}, dout,
                                                 std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv),
                                                 options);
}

/// The same from out and log_sum_exp of the forward with the same options: 5 products. The same bits, unless out was
/// rounded to halves. (With scaled weights out does not tell what is needed, and it is 7 products.)
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument Out, detail::attention_argument DOut,
          detail::attention_argument DQ, detail::attention_argument DK, detail::attention_argument DV>
void softmax_attention_backward(const Q& q, const K& k, const V& v, const Out& out, const query_input& log_sum_exp,
                                const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                const softmax_attention_options& options = {}) {
  const auto& held = detail::evaluated(out);
  using Held = std::remove_reference_t<decltype(held)>;
  detail::share_softmax_attention_backward<Arch>(
      detail::this_thread{}, q, k, v, detail::saved_results<Held>{held, "log_sum_exp", log_sum_exp}, dout,
      std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options);
}

/// Both with batch entries, heads of keys and, where those are few, queries shared out by an executor, as softmax does:
/// the same bits. Workspace of attention_backward_workspace(executor, q, k, v) bytes.
template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument DOut,
          detail::attention_argument DQ, detail::attention_argument DK, detail::attention_argument DV>
void softmax_attention_backward(Executor&& executor, const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq,
                                DK&& dk, DV&& dv, const softmax_attention_options& options = {}) {
  detail::share_softmax_attention_backward<Arch>(detail::threads_of<Executor>{executor}, q, k, v,
                                                 detail::nothing_saved{}, dout, std::forward<DQ>(dq),
                                                 std::forward<DK>(dk), std::forward<DV>(dv), options);
}

template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument Out,
          detail::attention_argument DOut, detail::attention_argument DQ, detail::attention_argument DK,
          detail::attention_argument DV>
void softmax_attention_backward(Executor&& executor, const Q& q, const K& k, const V& v, const Out& out,
                                const query_input& log_sum_exp, const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                const softmax_attention_options& options = {}) {
  const auto& held = detail::evaluated(out);
  using Held = std::remove_reference_t<decltype(held)>;
  detail::share_softmax_attention_backward<Arch>(
      detail::threads_of<Executor>{executor}, q, k, v, detail::saved_results<Held>{held, "log_sum_exp", log_sum_exp},
      dout, std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

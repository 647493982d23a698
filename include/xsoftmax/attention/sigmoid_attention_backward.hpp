// SPDX-License-Identifier: MIT
// Gradients of sigmoid attention.
#pragma once

#include <xsoftmax/attention/sigmoid_attention.hpp>
#include <xsoftmax/detail/attention_backward_arguments.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

template <class Arch, class Threads, class Q, class K, class V, class DOut, class DQ, class DK, class DV>
void share_sigmoid_attention_backward(const Threads& threads, const Q& q, const K& k, const V& v, const DOut& dout,
                                      DQ&& dq, DK&& dk, DV&& dv, const sigmoid_attention_options& options) {
  constexpr const char* function = "sigmoid_attention_backward";
  using T = attention_compute<const Q>;
  checked_attention_backward<sigmoid_attention_backward_task>(
      function, q, k, v, dout, std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv), options,
      [&](auto& task, const auto& queries, const auto&, const auto&) {
        return checked_forward_options<sigmoid_attention_task, T>(function, options, queries, task);
      },
      [&](const sigmoid_attention_backward_task<T>& task) {
        const auto run = [&](const auto& head_gradient) {
          run_attention_backward<Arch, T>(
              function, threads, options.workspace, task, options.key_bias_gradient,
              [](const auto& part) { call::sigmoid_attention_backward(Arch{}, part); }, head_gradient);
        };
        if (options.bias_gradient == nullptr) {
          run(no_head_gradient{});
        } else {
          double all = 0;
          run([&](std::size_t, double sum) { all += sum; });
          *options.bias_gradient = all;
        }
      });
}

} // namespace detail

/// Gradients of sigmoid_attention: with dp_ij = dout_i . v_j and ds_ij = sigma_ij (1 - sigma_ij) dp_ij over the keys j
/// that query i sees,
///   dq_i = scale sum_j ds_ij k_j,   dk_j = scale sum_i ds_ij q_i,   dv_j = sum_i sigma_ij dout_i
///
/// Arguments, special values, reproducibility, workspace, errors: as softmax_attention_backward. bias_gradient: the sum
/// of all ds. Accuracy: as there with w_ij = sigma_ij (1 - sigma_ij) a_ij, and sigma in the place of p. Cost: 5
/// products of q_len x kv_len x depth per head.
///
/// Source: J. Ramapuram et al., "Theory, analysis, and best practices for sigmoid self-attention" (2024).
template <class Arch = default_arch, detail::attention_argument Q, detail::attention_argument K,
          detail::attention_argument V, detail::attention_argument DOut, detail::attention_argument DQ,
          detail::attention_argument DK, detail::attention_argument DV>
void sigmoid_attention_backward(const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq, DK&& dk, DV&& dv,
                                const sigmoid_attention_options& options = {}) {
  detail::share_sigmoid_attention_backward<Arch>(detail::this_thread{}, q, k, v, dout, std::forward<DQ>(dq),
                                                 std::forward<DK>(dk), std::forward<DV>(dv), options);
}

/// The same shared out by an executor: as softmax_attention_backward.
template <class Arch = default_arch, detail::executor Executor, detail::attention_argument Q,
          detail::attention_argument K, detail::attention_argument V, detail::attention_argument DOut,
          detail::attention_argument DQ, detail::attention_argument DK, detail::attention_argument DV>
void sigmoid_attention_backward(Executor&& executor, const Q& q, const K& k, const V& v, const DOut& dout, DQ&& dq,
                                DK&& dk, DV&& dv, const sigmoid_attention_options& options = {}) {
  detail::share_sigmoid_attention_backward<Arch>(detail::threads_of<Executor>{executor}, q, k, v, dout,
                                                 std::forward<DQ>(dq), std::forward<DK>(dk), std::forward<DV>(dv),
                                                 options);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

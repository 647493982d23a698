// SPDX-License-Identifier: MIT
// The options of the three kinds of attention. The first members are the same in all.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <xsoftmax/attention/view.hpp>
#include <xsoftmax/detail/attention_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Options of softmax_attention and its backward. Members only ever join at the end.
struct softmax_attention_options {
  std::optional<double> scale = std::nullopt;                  ///< factor of the products q.k; default 1 / sqrt(depth)
  bool causal = false;                                         ///< query i sees no key beyond its own position
  causal_alignment alignment = causal_alignment::bottom_right; ///< what position query i has among the keys
  std::optional<std::size_t> window_left = std::nullopt;       ///< keys seen before the query's position; default all
  std::optional<std::size_t> window_right = std::nullopt;      ///< keys seen after it; default all
  count_view key_lengths = {};                  ///< for each entry of the batch: no query sees keys from this one on
  attention_mask mask = {};                     ///< which keys a query sees, or what is added to its scores
  number_view key_bias = {};                    ///< [batch, kv_len] or [kv_len]: added to the scores of a key
  number_view alibi_slopes = {};                ///< one per head: slope * |position of query - key| is subtracted
  std::span<std::byte> workspace = {};          ///< attention_workspace() bytes; default: allocated, once, by the call
  number_view sink = {};                        ///< one logit per head that counts in the denominator only
  std::optional<double> softcap = std::nullopt; ///< scores s become c tanh(s / c), before masks and biases
  query_output log_sum_exp = {};                ///< output: logarithm of each query's denominator, the sink included
  gradient_output key_bias_gradient = {};       ///< output of the backward: [batch, kv_len], of the bias of each key
  gradient_output sink_gradient = {};           ///< output of the backward: one per head, summed over the batch
  query_input weight_scale = {};                ///< one per query: its weights are multiplied by it; default 1
  number_view weight_sum = {};             ///< one per head: what the weights of each query are shifted to add up to
  query_output weight_scale_gradient = {}; ///< output of the backward: of weight_scale
};

/// Options of sigmoid_attention and its backward.
struct sigmoid_attention_options {
  std::optional<double> scale = std::nullopt;                  ///< as in softmax_attention_options, up to workspace
  bool causal = false;                                         ///<
  causal_alignment alignment = causal_alignment::bottom_right; ///<
  std::optional<std::size_t> window_left = std::nullopt;       ///<
  std::optional<std::size_t> window_right = std::nullopt;      ///<
  count_view key_lengths = {};                                 ///<
  attention_mask mask = {};                                    ///<
  number_view key_bias = {};                                   ///<
  number_view alibi_slopes = {};                               ///<
  std::span<std::byte> workspace = {};                         ///<
  std::optional<double> bias = std::nullopt; ///< b; default -log of the number of keys that key_lengths leaves
  gradient_output key_bias_gradient = {};    ///< as in softmax_attention_options
  double* bias_gradient = nullptr;           ///< output of the backward: of b, summed over everything
};

/// Options of softplus_attention and its backward.
struct softplus_attention_options {
  std::optional<double> scale = std::nullopt; ///< factor of the cosines; default log(depth) log(visible keys)
  bool causal = false;                        ///< from here as in softmax_attention_options, up to workspace
  causal_alignment alignment = causal_alignment::bottom_right; ///<
  std::optional<std::size_t> window_left = std::nullopt;       ///<
  std::optional<std::size_t> window_right = std::nullopt;      ///<
  count_view key_lengths = {};                                 ///<
  attention_mask mask = {};                                    ///<
  number_view key_bias = {};                                   ///<
  number_view alibi_slopes = {};                               ///<
  std::span<std::byte> workspace = {};                         ///<
  std::optional<double> reweight_power = std::nullopt; ///< p of the re-weighting (LSSAR), 15 in the paper; default none
  gradient_output key_bias_gradient = {};              ///< as in softmax_attention_options
  query_output denominator = {};                       ///< output of LSSA: sum u of each query
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// Softmax of a part of a row, once a state has seen all of it.
#pragma once

#include <xsoftmax/softmax/log_sum_exp.hpp>
#include <xsoftmax/softmax/softmax.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Softmax of a shard: p_i = exp(z_i / T) / sum exp(z / T), the sum over all that `state` has seen.
///
/// z and p are rows of the same length; z is one of the pieces that were pushed, or a part of one. Options are those of
/// softmax; T is the state's, and options.temperature, where it is given, must be the same. The algorithm is of no
/// account. Where the pieces were cut at multiples of the state's block_size the bits are those of softmax over the
/// whole row; otherwise accuracy and special values are.
///
/// Cost: no allocation; one pass over z and p.
/// Throws std::invalid_argument as softmax does, and if options.temperature is neither 1 nor the state's.
template <class Arch = default_arch, class T, class In, class Out>
XSOFTMAX_INLINE void softmax(const log_sum_exp_state<T>& state, In&& z, Out&& p, const softmax_options& options = {}) {
  static_assert(std::is_same_v<detail::compute_of<In>, T>, "xsoftmax: the row's elements are not those of the state");
  static_assert(detail::is_vector<detail::view_of<std::remove_reference_t<In>>>,
                "xsoftmax: a shard is a row, not a matrix");
  if (options.temperature != 1.0 && options.temperature != state.temperature()) {
    detail::raise_mismatch("softmax", "the state has a temperature of its own", "temperature", options.temperature,
                           "temperature of the state", state.temperature());
    return;
  }
  softmax_options of_state = options;
  of_state.temperature = state.temperature();
  detail::checked_softmax(std::forward<In>(z), std::forward<Out>(p), of_state,
                          [&](auto task, const auto&) XSOFTMAX_LAMBDA {
                            task.whole = &state.summary();
                            detail::call::softmax(Arch{}, task);
                          });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

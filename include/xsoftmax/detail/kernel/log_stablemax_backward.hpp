// SPDX-License-Identifier: MIT
// The gradient of log_stablemax: dz_i = (dlp_i - exp(lp_i) S) / (1 + |z_i|), S = sum of dlp_k.
#pragma once

#include <xsoftmax/detail/kernel/log_softmax_backward.hpp>
#include <xsoftmax/detail/kernel/stablemax_slope.hpp>
#include <xsoftmax/detail/stablemax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class log_stablemax_gradient : public stablemax_formula<A, log_softmax_gradient<A, T>> {
public:
  using stablemax_formula<A, log_softmax_gradient<A, T>>::stablemax_formula;
};

template <class A>
class log_stablemax_gradient<A, float> : public log_softmax_gradient<A, float> {
public:
  using F = batch<A, float>;
  using D = batch<A, double>;
  static constexpr bool takes_logits = true;

  using log_softmax_gradient<A, float>::log_softmax_gradient;
  XSOFTMAX_STEP log_stablemax_gradient(const log_softmax_gradient<A, float>& other)
      : log_softmax_gradient<A, float>(other) {}

  XSOFTMAX_STEP log_stablemax_gradient of_rows(const pack<D, 2>& sum, const pack<D, 2>& low) const {
    return log_softmax_gradient<A, float>::of_rows(sum, low);
  }

  XSOFTMAX_STEP F operator()(F lp, F dlp, F z) const {
    const F dz = in_double<A>(
        [](D y, D dy, D sum, D logit) XSOFTMAX_STEP_LAMBDA {
          return native<A>::negative_multiply_add(math::exp<A, double>(y), sum, dy) / inverse_slope<A>(logit);
        },
        lp, dlp, this->sum_, widened<A>(z));
    return native<A>::zero_where_equal(lp, F(-infinity<float>), dz);
  }
};

template <class A, class T>
struct log_stablemax_backward {
  XSOFTMAX_FLATTEN static void run(const log_stablemax_backward_task<T>& task) noexcept {
    backward_rows<A, T, log_stablemax_gradient<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

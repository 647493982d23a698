// SPDX-License-Identifier: MIT
// The gradient of StableMax: dz_i = p_i (dp_i - S) / (1 + |z_i|), S = sum of p_k dp_k.
#pragma once

#include <xsoftmax/detail/kernel/softmax_backward.hpp>
#include <xsoftmax/detail/kernel/stablemax_slope.hpp>
#include <xsoftmax/detail/stablemax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class stablemax_gradient : public stablemax_formula<A, softmax_gradient<A, T>> {
public:
  using stablemax_formula<A, softmax_gradient<A, T>>::stablemax_formula;
};

template <class A>
class stablemax_gradient<A, float> : public softmax_gradient<A, float> {
public:
  using F = batch<A, float>;
  using D = batch<A, double>;
  static constexpr bool takes_logits = true;

  using softmax_gradient<A, float>::softmax_gradient;
  XSOFTMAX_STEP stablemax_gradient(const softmax_gradient<A, float>& other) : softmax_gradient<A, float>(other) {}

  XSOFTMAX_STEP stablemax_gradient of_rows(const pack<D, 2>& dot, const pack<D, 2>& low) const {
    return softmax_gradient<A, float>::of_rows(dot, low);
  }

  XSOFTMAX_STEP F operator()(F p, F dp, F z) const {
    const F dz = in_double<A>([](D y, D dy, D dot, D logit)
                                  XSOFTMAX_STEP_LAMBDA { return y * (dy - dot) / inverse_slope<A>(logit); },
                              p, dp, this->dot_, widened<A>(z));
    return native<A>::zero_where_equal(p, F(0.0f), dz);
  }
};

template <class A, class T>
struct stablemax_backward {
  XSOFTMAX_FLATTEN static void run(const stablemax_backward_task<T>& task) noexcept {
    backward_rows<A, T, stablemax_gradient<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Gradients of sigmoid attention: p = sigma(s), ds = p (1 - p) dp, from nothing but the arguments.
#pragma once

#include <xsoftmax/detail/kernel/attention_backward.hpp>
#include <xsoftmax/detail/kernel/attention_steps.hpp>
#include <xsoftmax/detail/kernel/sigmoid_attention.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class sigmoid_gradients : public scaled_gradients<A, T> {
public:
  using N = native<A>;
  using V = batch<A, T>;
  using forward = sigmoid_weights<A, T>;
  static constexpr bool has_bias = true;

  XSOFTMAX_STEP sigmoid_gradients(const attention_backward_task<T>& task, std::size_t entry)
      : scaled_gradients<A, T>(task), bias_(sigmoid_bias<A, T>(task, entry)) {}

  XSOFTMAX_STEP void recall(const recalled_tile<A, T>&) const {}

  __attribute__((noinline)) XSOFTMAX_FLATTEN void slopes(std::size_t rows, matrix_rows<T>, T* scores, T* dp,
                                                         const key_bits* visible) const {
    for (std::size_t i = 0; i < rows; ++i) {
      T* const score = scores + i * key_block;
      T* const slope = dp + i * key_block;
      const auto sigma =
          map([&](V s) XSOFTMAX_STEP_LAMBDA { return math::sigmoid_with_complement<A, T>(s + V(bias_)); },
              load_block<A, T>(score));
      auto p = map([](const auto& s) XSOFTMAX_STEP_LAMBDA { return s.value; }, sigma);
      auto ds = map([](const auto& s, V of) XSOFTMAX_STEP_LAMBDA { return s.value * s.complement * of; }, sigma,
                    load_block<A, T>(slope));
      if (visible[i] != all_keys) {
        p = only_visible<A>(p, visible[i], T{});
        ds = only_visible<A>(ds, visible[i], T{});
      }
      store_block<A>(score, p);
      store_block<A>(slope, ds);
    }
  }

private:
  T bias_;
};

template <class A, class T>
struct sigmoid_attention_backward {
  static void run(const sigmoid_attention_backward_task<T>& task) noexcept {
    run_attention_gradients<A, T, sigmoid_gradients<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

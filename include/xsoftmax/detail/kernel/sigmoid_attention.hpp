// SPDX-License-Identifier: MIT
// Sigmoid attention: weights that depend on their own score alone.
#pragma once

#include <xsoftmax/detail/kernel/attention.hpp>
#include <xsoftmax/detail/kernel/attention_steps.hpp>
#include <xsoftmax/math/sigmoid.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class sigmoid_weights : public link_state<A, T> {
public:
  using V = batch<A, T>;
  static constexpr std::size_t sweeps = 1;
  static constexpr bool changes_keys = false;
  static constexpr bool scales_weights = false;

  XSOFTMAX_STEP sigmoid_weights(const attention_task<T>& task, const attention_rows<A, T>& rows,
                                const score_options<A, T>&, T* state)
      : link_state<A, T>(task, rows, state), scale_(product_scale<A>(task)),
        bias_(sigmoid_bias<A>(task, rows.entry())) {}

  XSOFTMAX_STEP void begin_sweep(std::size_t) const {}

  XSOFTMAX_STEP void end_sweep(std::size_t) const {}

  XSOFTMAX_STEP void start_totals() const {}

  XSOFTMAX_STEP void begin_segment() const { this->fill(sum_scale, T{1}); }

  XSOFTMAX_STEP void prepare_query(std::size_t, T* q) const { this->scale_query(q, scale_); }

  XSOFTMAX_STEP void prepare_keys(T*, std::size_t) const {}

  __attribute__((noinline)) XSOFTMAX_FLATTEN void link_rows(std::size_t, std::size_t rows, T* scores,
                                                            const key_bits* visible) const {
    for (std::size_t i = 0; i < rows; ++i) {
      link_row(scores + i * key_block, visible[i]);
    }
  }

  XSOFTMAX_STEP const T* scales(std::size_t r) const { return this->array(sum_scale) + r; }

  XSOFTMAX_STEP void end_segment(const T* sums, std::size_t stride, T* totals, const T*) const {
    for (std::size_t r = 0; r < this->rows_.count(); ++r) {
      this->merge_values(r, sums, stride, totals, T{1}, T{1});
    }
  }

  XSOFTMAX_STEP T finish(std::size_t) const { return T{1}; }

private:
  enum : std::size_t { sum_scale };

  XSOFTMAX_STEP void link_row(T* score, key_bits visible) const {
    auto p = map([&](V s) XSOFTMAX_STEP_LAMBDA { return math::sigmoid<A, T>(s + V(bias_)); }, load_block<A, T>(score));
    if (visible != all_keys) {
      p = only_visible<A>(p, visible, T{});
    }
    store_block<A>(score, p);
  }

  double scale_;
  T bias_;
};

template <class A, class T>
struct sigmoid_attention {
  static void run(const sigmoid_attention_task<T>& task) noexcept {
    run_attention_units<A, T, sigmoid_weights<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Gradients of softmax attention: p = exp(s - log_sum_exp), ds = p (dp - D) with D = dout . out.
#pragma once

#include <xsoftmax/detail/kernel/attention_backward.hpp>
#include <xsoftmax/detail/kernel/softmax_attention.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class softmax_gradients : public scaled_gradients<A, T> {
public:
  using N = native<A>;
  using V = batch<A, T>;
  using forward = softmax_weights<A, T>;

  XSOFTMAX_INLINE softmax_gradients(const attention_backward_task<T>& task, std::size_t)
      : scaled_gradients<A, T>(task), sink_(task.sink), exp_(make_weight_exp<A, T>()) {}

  __attribute__((noinline)) void recall(const recalled_tile<A, T>& tile) const {
    const auto& task = tile.task;
    if (!task.saved) {
      tile.template run<forward>(0);
    }
    for (std::size_t r = 0; r < tile.rows.count(); ++r) {
      T* const number = tile.number.from(r).data;
      const std::size_t h = tile.rows.head(r);
      const std::size_t i = tile.rows.query(r);
      const std::size_t b = tile.rows.entry();
      if (task.saved) {
        position_of<T>(task.saved_log_sum_exp, b, h, i).template read<A>(0, 1, number + log_sum_exp);
        read_row<A>(task.saved_out, b, h, i, task.value_depth, tile.out.stride, tile.out.from(r).data);
      }
      number[mean] = tile.gradient_times_out(r);
    }
  }

  __attribute__((noinline)) void slopes(std::size_t rows, matrix_rows<const T> numbers, T* scores, T* dp,
                                        const key_bits* visible) const {
    for (std::size_t i = 0; i < rows; ++i) {
      const T* const number = numbers.from(i).data;
      T* const score = scores + i * key_block;
      T* const slope = dp + i * key_block;
      const T l = number[log_sum_exp];
      const V shift(l == -infinity<T> ? T{} : l);
      const V d(number[mean]);
      // What rounding lifts above 0 is 0.
      auto p = map([&](V s) XSOFTMAX_LAMBDA { return exp_(N::min_keeping_nan(s - shift, V(T{}))); },
                   load_block<A, T>(score));
      auto ds = map([&](V weight, V of) XSOFTMAX_LAMBDA { return weight * (of - d); }, p, load_block<A, T>(slope));
      if (visible[i] != all_keys) {
        p = only_visible<A>(p, visible[i], T{});
        ds = only_visible<A>(ds, visible[i], T{});
      }
      store_block<A>(score, p);
      store_block<A>(slope, ds);
    }
  }

  /// Of a query's gradient with respect to the sink: its weight is exp(sink - log_sum_exp), its value 0.
  XSOFTMAX_INLINE double head_sum(std::size_t h, const T* number) const {
    const T sink = number_at<A, T>(sink_, static_cast<std::ptrdiff_t>(h) * sink_.stride[1]);
    const T weight = math::exp<A, T>(V(sink - number[log_sum_exp])).get(0);
    return -static_cast<double>(uncontracted(V(weight) * V(number[mean])).get(0));
  }

private:
  enum : std::size_t { log_sum_exp, mean };

  option_array sink_;
  weight_exp<A, T> exp_;
};

template <class A, class T>
struct softmax_attention_backward {
  static void run(const softmax_attention_backward_task<T>& task) noexcept {
    run_attention_gradients<A, T, softmax_gradients<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Gradients of softmax attention: p = exp(s - log_sum_exp), ds = p (dp - D) with D = dout . sum p v. Weights that are
// scaled and shifted are a p + b, and ds is a times that.
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

  XSOFTMAX_STEP softmax_gradients(const attention_backward_task<T>& task, std::size_t)
      : scaled_gradients<A, T>(task), sink_(task.sink), sums_seen_(sums_seen_values(task)),
        exp_(make_weight_exp<A, T>()) {}

  __attribute__((noinline)) XSOFTMAX_FLATTEN void recall(const recalled_tile<A, T>& tile) const {
    const auto& task = tile.task;
    const bool saved = task.saved && !scales_weights(task); // else out is not the mean that is needed
    if (!saved) {
      tile.template run<forward>(0);
    }
    const std::size_t b = tile.rows.entry();
    const score_options<A, T> options(task, b);
    for (std::size_t r = 0; r < tile.rows.count(); ++r) {
      T* const number = tile.number.from(r).data;
      const std::size_t h = tile.rows.head(r);
      const std::size_t i = tile.rows.query(r);
      if (saved) {
        tile.read_saved(r, number + log_sum_exp);
      }
      number[mean] = tile.gradient_times_out(r);
      number[scale] = T{1};
      number[shift] = T{};
      if (scales_weights(task)) {
        const std::size_t n = visible_keys(tile.rows, options, r);
        number[scale] = weight_scale_of<A>(task, b, h, i);
        number[shift] = weight_shift_of<A>(task, h, number[scale], n);
        number[seen_sum] = T{};
        number[keys] = static_cast<T>(n);
      }
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void slopes(std::size_t rows, matrix_rows<T> numbers, T* scores, T* dp,
                                                         const key_bits* visible) const {
    for (std::size_t i = 0; i < rows; ++i) {
      T* const number = numbers.from(i).data;
      T* const score = scores + i * key_block;
      T* const slope = dp + i * key_block;
      const T l = number[log_sum_exp];
      const V minus(l == -infinity<T> ? T{} : l);
      const V d(number[mean]);
      const V a(number[scale]);
      const V b(number[shift]);
      // What rounding lifts above 0 is 0.
      const auto p = map([&](V s) XSOFTMAX_STEP_LAMBDA { return exp_(N::min_keeping_nan(s - minus, V(T{}))); },
                         load_block<A, T>(score));
      const auto of = load_block<A, T>(slope);
      auto weight = map([&](V x) XSOFTMAX_STEP_LAMBDA { return N::multiply_add(x, a, b); }, p);
      auto ds = map([&](V x, V y) XSOFTMAX_STEP_LAMBDA { return x * a * (y - d); }, p, of);
      if (visible[i] != all_keys) {
        weight = only_visible<A>(weight, visible[i], T{});
        ds = only_visible<A>(ds, visible[i], T{});
      }
      if (sums_seen_) {
        number[seen_sum] += sum_of_block<A>(only_visible<A>(of, visible[i], T{}));
      }
      store_block<A>(score, weight);
      store_block<A>(slope, ds);
    }
  }

  /// Of a query's gradient with respect to the sink: its weight is exp(sink - log_sum_exp), its value 0.
  XSOFTMAX_STEP double head_sum(std::size_t h, const T* number) const {
    const T sink = number_at<A, T>(sink_, static_cast<std::ptrdiff_t>(h) * sink_.stride[1]);
    const T weight = math::exp<A, T>(V(sink - number[log_sum_exp])).get(0);
    return -static_cast<double>(uncontracted(V(weight) * V(number[scale]) * V(number[mean])).get(0));
  }

  /// d loss / d a = dout . (sum_j p_j v_j - the mean of the v_j that are seen, where weights are shifted)
  XSOFTMAX_STEP void write_number(const attention_backward_task<T>& task, std::size_t b, std::size_t h, std::size_t i,
                                  const T* number) const {
    if (task.weight_scale_gradient.data == nullptr) {
      return;
    }
    const T n = number[keys];
    const T of_mean = sums_seen_ && n != 0 ? number[seen_sum] / n : T{};
    const T gradient = n == 0 ? T{} : number[mean] - of_mean;
    position_of<T>(task.weight_scale_gradient, b, h, i).template write<A>(0, 1, &gradient);
  }

private:
  enum : std::size_t { log_sum_exp, mean, scale, shift, seen_sum, keys };

  /// Is something asked about the weights' scales?
  static XSOFTMAX_STEP bool scales_weights(const attention_backward_task<T>& task) {
    return task.weight_scale.data != nullptr || task.weight_sum.kind != 0 || task.weight_scale_gradient.data != nullptr;
  }

  option_array sink_;
  bool sums_seen_;
  weight_exp<A, T> exp_;
};

template <class A, class T>
struct softmax_attention_backward {
  static void run(const softmax_attention_backward_task<T>& task) noexcept {
    run_attention_gradients<A, T, softmax_gradients<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

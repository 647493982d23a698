// SPDX-License-Identifier: MIT
// Softmax attention: weights relative to a running maximum, which the sums follow.
#pragma once

#include <xsoftmax/detail/kernel/attention.hpp>
#include <xsoftmax/math/log.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// What the weights of a query are multiplied by.
template <class A, class T>
XSOFTMAX_STEP T weight_scale_of(const attention_task<T>& task, std::size_t b, std::size_t h, std::size_t i) {
  T scale{1};
  if (task.weight_scale.data != nullptr) {
    position_of<T>(task.weight_scale, b, h, i).template read<A>(0, 1, &scale);
  }
  return scale;
}

/// What the n weights of a query of head h, which add up to `scale`, are shifted by to add up to weight_sum.
template <class A, class T>
XSOFTMAX_STEP T weight_shift_of(const attention_task<T>& task, std::size_t h, T scale, std::size_t n) {
  if (task.weight_sum.kind == 0 || n == 0) {
    return T{};
  }
  const T sum = number_at<A, T>(task.weight_sum, static_cast<std::ptrdiff_t>(h) * task.weight_sum.stride[1]);
  return (sum - scale) / static_cast<T>(n);
}

template <class A, class T>
class softmax_weights : public link_state<A, T> {
public:
  using N = native<A>;
  using V = batch<A, T>;
  static constexpr std::size_t sweeps = 1;
  static constexpr bool changes_keys = false;
  static constexpr bool scales_weights = true;

  XSOFTMAX_STEP softmax_weights(const attention_task<T>& task, const attention_rows<A, T>& rows,
                                const score_options<A, T>& options, T* state)
      : link_state<A, T>(task, rows, state), options_(options), scale_(product_scale<A>(task)),
        exp_(make_weight_exp<A, T>()) {}

  XSOFTMAX_STEP void begin_sweep(std::size_t) const {}

  XSOFTMAX_STEP void end_sweep(std::size_t) const {}

  XSOFTMAX_STEP void start_totals() const {
    this->fill(total_maximum, -infinity<T>);
    this->fill(total_sum, T{});
  }

  XSOFTMAX_STEP void begin_segment() const {
    this->fill(maximum, -infinity<T>);
    this->fill(sum, T{});
    this->fill(sum_scale, T{1});
  }

  XSOFTMAX_STEP void prepare_query(std::size_t, T* q) const { this->scale_query(q, scale_); }

  XSOFTMAX_STEP void prepare_keys(T*, std::size_t) const {}

  /// m' = max(m, max_j s_j), p_j = exp(s_j - m'), l' = l exp(m - m') + sum_j p_j; all maxima first, so that no row
  /// waits for its own.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void link_rows(std::size_t first, std::size_t rows, T* scores,
                                                            key_bits* visible) const {
    alignas(64) T shift[group_rows];
    T* const m = this->array(maximum) + first;
    T* const scale = this->array(sum_scale) + first;
    bool moved = false;
    this->for_batches_of_rows(rows, [&](std::size_t i, std::size_t count) XSOFTMAX_STEP_LAMBDA {
      const V here = largest_of_blocks<A, T>(count, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA {
        return visible_scores(scores + (i + l) * key_block, visible[i + l]);
      });
      const V before = N::template load<T>(m + i);
      const V both = N::max_dropping_nan(here, before);
      N::store(m + i, both);
      N::store(shift + i, shift_of(both));
      N::store(scale + i, before - shift_of(both));
      moved = moved || N::any_less(before, both);
    });
    T* const l = this->array(sum) + first;
    this->for_batches_of_rows(rows, [&](std::size_t i, std::size_t count) XSOFTMAX_STEP_LAMBDA {
      const V of_sum = moved ? math::exp<A, T>(N::template load<T>(scale + i)) : V(T{1});
      N::store(scale + i, of_sum);
      const V here = sums_of_blocks<A, T>(count, [&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
        T* const score = scores + (i + r) * key_block;
        const V minus(shift[i + r]);
        const auto p =
            map([&](V s) XSOFTMAX_STEP_LAMBDA { return exp_(s - minus); }, visible_scores(score, visible[i + r]));
        store_block<A>(score, p);
        return p;
      });
      N::store(l + i, N::multiply_add(N::template load<T>(l + i), of_sum, here));
    });
  }

  XSOFTMAX_STEP const T* scales(std::size_t r) const { return this->array(sum_scale) + r; }

  /// The sums of a segment, whose state is at `state`, join the totals.
  XSOFTMAX_STEP void end_segment(const T* sums, std::size_t stride, T* totals, const T* state) const {
    alignas(64) T of_sum[lanes<A, T>];
    alignas(64) T of_total[lanes<A, T>];
    this->for_batches_of_rows(this->rows_.count(), [&](std::size_t r, std::size_t count) XSOFTMAX_STEP_LAMBDA {
      const V m = N::template load<T>(state + maximum * this->padded_ + r);
      const V total = N::template load<T>(this->array(total_maximum) + r);
      const V both = N::max_dropping_nan(m, total);
      N::store(this->array(total_maximum) + r, both);
      N::store(of_sum, factor(m, both));
      N::store(of_total, factor(total, both));
      const V part = uncontracted(N::template load<T>(state + sum * this->padded_ + r) * N::template load<T>(of_sum));
      T* const l = this->array(total_sum) + r;
      N::store(l, N::multiply_add(N::template load<T>(l), N::template load<T>(of_total), part));
      for (std::size_t i = 0; i < count; ++i) {
        this->merge_values(r + i, sums, stride, totals, of_sum[i], of_total[i]);
      }
    });
  }

  /// a / l, with the sink in l; writes log l + m.
  XSOFTMAX_STEP T finish(std::size_t r) const {
    using D = batch<A, double>;
    const auto& task = this->task_;
    T m = this->array(total_maximum)[r];
    T l = this->array(total_sum)[r];
    T of_sum = T{1};
    const std::size_t h = this->rows_.head(r);
    if (task.sink.kind != 0) {
      const T sink = number_at<A, T>(task.sink, static_cast<std::ptrdiff_t>(h) * task.sink.stride[1]);
      const T both = sink > m ? sink : m;
      of_sum = factor(V(m), V(both)).get(0);
      l = N::multiply_add(V(l), V(of_sum), factor(V(sink), V(both))).get(0);
      m = both;
    }
    if (task.query_number.data != nullptr) {
      const double log_sum = l == 0 ? -infinity<double> : math::log<A>(D(static_cast<double>(l))).get(0);
      const T lse = l != l ? l : static_cast<T>(l == 0 ? log_sum : log_sum + static_cast<double>(m));
      this->write_numbers(r, &lse);
    }
    if (this->array(total_sum)[r] == 0) {
      return T{};
    }
    return task.weight_scale.data == nullptr ? of_sum / l : uncontracted(V(weight_scale(r)) * V(of_sum / l)).get(0);
  }

  /// (w - a) / n: with it the n weights of the row add up to w.
  XSOFTMAX_STEP T shift(std::size_t r) const {
    const auto& task = this->task_;
    const std::size_t n = visible_keys(this->rows_, options_, r);
    return weight_shift_of<A>(task, this->rows_.head(r), weight_scale(r), n);
  }

private:
  enum : std::size_t { maximum, sum, sum_scale, total_maximum, total_sum };

  static XSOFTMAX_STEP block_pack<A, T> visible_scores(const T* score, key_bits visible) {
    const auto s = load_block<A, T>(score);
    return visible == all_keys ? s : only_visible<A>(s, visible, -infinity<T>);
  }

  XSOFTMAX_STEP T weight_scale(std::size_t r) const {
    return weight_scale_of<A>(this->task_, this->rows_.entry(), this->rows_.head(r), this->rows_.query(r));
  }

  /// A maximum, or 0 where there is none.
  static XSOFTMAX_STEP V shift_of(V m) { return N::where_equal(m, V(-infinity<T>), V(T{}), m); }

  /// exp(m - both) for both >= m; 0 of -inf.
  static XSOFTMAX_STEP V factor(V m, V both) { return math::exp<A, T>(m - shift_of(both)); }

  const score_options<A, T>& options_;
  double scale_;
  weight_exp<A, T> exp_;
};

template <class A, class T>
struct softmax_attention {
  static void run(const softmax_attention_task<T>& task) noexcept {
    run_attention_units<A, T, softmax_weights<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

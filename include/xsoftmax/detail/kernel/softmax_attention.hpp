// SPDX-License-Identifier: MIT
// Softmax attention: weights relative to a running maximum, which the sums follow.
#pragma once

#include <xsoftmax/detail/kernel/attention.hpp>
#include <xsoftmax/math/log.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class softmax_weights : public link_state<A, T> {
public:
  using N = native<A>;
  using V = batch<A, T>;
  static constexpr std::size_t sweeps = 1;
  static constexpr bool changes_keys = false;

  XSOFTMAX_INLINE softmax_weights(const attention_task<T>& task, const attention_rows<A, T>& rows,
                                  const score_options<A, T>&, T* state)
      : link_state<A, T>(task, rows, state), scale_(product_scale<A>(task)), exp_(make_weight_exp<A, T>()) {}

  XSOFTMAX_INLINE void begin_sweep(std::size_t) const {}

  XSOFTMAX_INLINE void end_sweep(std::size_t) const {}

  XSOFTMAX_INLINE void start_totals() const {
    this->fill(total_maximum, -infinity<T>);
    this->fill(total_sum, T{});
  }

  XSOFTMAX_INLINE void begin_segment() const {
    this->fill(maximum, -infinity<T>);
    this->fill(sum, T{});
    this->fill(sum_scale, T{1});
  }

  XSOFTMAX_INLINE void prepare_query(std::size_t, T* q) const { this->scale_query(q, scale_); }

  XSOFTMAX_INLINE void prepare_keys(T*, std::size_t) const {}

  /// m' = max(m, max_j s_j), p_j = exp(s_j - m'), l' = l exp(m - m') + sum_j p_j; all maxima first, so that no row
  /// waits for its own.
  __attribute__((noinline)) void link_rows(std::size_t first, std::size_t rows, T* scores, key_bits* visible) const {
    alignas(64) T shift[padded_rows];
    alignas(64) T scale[padded_rows];
    T* const m = this->array(maximum) + first;
    bool moved = false;
    for (std::size_t i = 0; i < rows; ++i) {
      const T before = m[i];
      const T here = largest_of_block<A>(visible_scores(scores + i * key_block, visible[i]));
      m[i] = here > before ? here : before; // NaN stays
      moved = moved || !(m[i] == before);
      shift[i] = m[i] == -infinity<T> ? T{} : m[i];
      scale[i] = before - shift[i];
    }
    T* const scales = this->array(sum_scale) + first;
    for (std::size_t i = 0; moved && i < rows; i += lanes<A, T>) {
      N::store(scale + i, math::exp<A, T>(N::template load<T>(scale + i)));
    }
    T* const l = this->array(sum) + first;
    for (std::size_t i = 0; i < rows; ++i) {
      T* const score = scores + i * key_block;
      const auto p = map([&](V s) XSOFTMAX_LAMBDA { return exp_(s - V(shift[i])); }, visible_scores(score, visible[i]));
      store_block<A>(score, p);
      scales[i] = moved ? scale[i] : T{1};
      l[i] = N::multiply_add(V(l[i]), V(scales[i]), V(sum_of_block<A>(p))).get(0);
    }
  }

  XSOFTMAX_INLINE const T* scales(std::size_t r) const { return this->array(sum_scale) + r; }

  /// The sums of a segment, whose state is at `state`, join the totals.
  XSOFTMAX_INLINE void end_segment(const T* sums, std::size_t stride, T* totals, const T* state) const {
    for (std::size_t r = 0; r < this->rows_.count(); ++r) {
      const T m = state[maximum * this->padded_ + r];
      T& total = this->array(total_maximum)[r];
      const T both = m > total ? m : total;
      const T of_total = factor(total, both);
      const T of_sum = factor(m, both);
      total = both;
      T& l = this->array(total_sum)[r];
      const V part = uncontracted(V(state[sum * this->padded_ + r]) * V(of_sum));
      l = N::multiply_add(V(l), V(of_total), part).get(0);
      this->merge_values(r, sums, stride, totals, of_sum, of_total);
    }
  }

  /// 1 / l, with the sink in l; writes log l + m.
  XSOFTMAX_INLINE T finish(std::size_t r) const {
    using D = batch<A, double>;
    const auto& task = this->task_;
    T m = this->array(total_maximum)[r];
    T l = this->array(total_sum)[r];
    T of_sum = T{1};
    const std::size_t h = this->rows_.head(r);
    if (task.sink.kind != 0) {
      const T sink = number_at<A, T>(task.sink, static_cast<std::ptrdiff_t>(h) * task.sink.stride[1]);
      const T both = sink > m ? sink : m;
      of_sum = factor(m, both);
      l = N::multiply_add(V(l), V(of_sum), V(factor(sink, both))).get(0);
      m = both;
    }
    if (task.log_sum_exp.data != nullptr) {
      const double log_sum = l == 0 ? -infinity<double> : math::log<A>(D(static_cast<double>(l))).get(0);
      const T lse = l != l ? l : static_cast<T>(l == 0 ? log_sum : log_sum + static_cast<double>(m));
      position_of<T>(task.log_sum_exp, this->rows_.entry(), h, this->rows_.query(r)).template write<A>(0, 1, &lse);
    }
    return l == 0 ? T{} : of_sum / l;
  }

private:
  enum : std::size_t { maximum, sum, sum_scale, total_maximum, total_sum };

  static constexpr std::size_t padded_rows = (group_rows + lanes<A, T> - 1) / lanes<A, T> * lanes<A, T>;

  static XSOFTMAX_INLINE block_pack<A, T> visible_scores(const T* score, key_bits visible) {
    const auto s = load_block<A, T>(score);
    return visible == all_keys ? s : only_visible<A>(s, visible, -infinity<T>);
  }

  /// exp(m - both) for both >= m; 0 of -inf.
  XSOFTMAX_INLINE T factor(T m, T both) const {
    return math::exp<A, T>(V(m - (both == -infinity<T> ? T{} : both))).get(0);
  }

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

// SPDX-License-Identifier: MIT
// Rows that the fast passes do not serve: infinities, NaN, nothing but -inf, logits (or temperatures) beyond the range
// of the floating-point reduction, and temperature 0. One code for any layout: it is rare, and need not be fast.
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>
#include <xsoftmax/detail/softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class unusual_row {
public:
  using Wide = math::wide_extended_exp<A, T>;

  XSOFTMAX_INLINE unusual_row(const softmax_task<T>& task, const T* z, T* p)
      : task_(task), z_{z, task.z_col_stride}, p_{p, task.p_col_stride} {}

  /// By the maximum (NaN passed over) of a row that is not regular.
  XSOFTMAX_NOINLINE row_state<T> classify(T largest, const math::reduction<A, T>& reduction) const {
    if (largest == infinity<T>) {
      return filled_row(not_a_number<T>);
    }
    if (largest == -infinity<T>) {
      return filled_row(masked());
    }
    const double scaled = static_cast<double>(largest) / task_.temperature;
    // Neighbouring floats are at least 2^-24 of their size apart, doubles 2^-53: from here on by more than 104 and 699.
    constexpr double apart = sizeof(T) == 4 ? 0x1p31 : 6.3e18;
    if (scaled >= apart || scaled <= -apart) {
      return ties(largest);
    }
    const wide_reduction wide(task_.temperature);
    row_state<T> state;
    state.kind = row_kind::wide;
    state.reference = wide.template operator()<math::exp_format<T>::step_bits>(static_cast<double>(largest)).k >>
                      math::exp_format<T>::step_bits;
    const Wide term(reduction, wide, state.reference);
    row_sum<A, T> sum;
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      const std::size_t last = task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols;
      sum.add(sum_terms<false, A, T>(term, z_, p_, first, last).sum, state.reference);
    }
    complete(state, sum, task_.sink, task_.temperature);
    return state;
  }

  /// The last pass.
  XSOFTMAX_NOINLINE void finish(const row_state<T>& state, const math::reduction<A, T>& reduction) const {
    if (state.kind == row_kind::filled) {
      fill<A, T>(p_, task_.cols, state.value);
    } else if (state.kind == row_kind::ties) {
      share_among_ties(state);
    } else {
      const wide_reduction wide(task_.temperature);
      const Wide term(reduction, wide, state.reference);
      const normaliser<A, T> normalise(state.sum);
      transform<A, T>([&](batch<A, T> x) XSOFTMAX_LAMBDA { return normalise(term(x)); }, z_, p_, task_.cols);
    }
  }

  /// T = 0, the limit of small temperatures: all weight on the first maximum, or on the sink if that is above it.
  XSOFTMAX_NOINLINE void one_hot() const {
    const T largest = maximum<A, T>(z_, 0, task_.cols);
    if (largest == infinity<T> || contains_nan<A, T>(z_, task_.cols)) {
      fill<A, T>(p_, task_.cols, not_a_number<T>);
      return;
    }
    if (largest == -infinity<T>) {
      fill<A, T>(p_, task_.cols, masked());
      return;
    }
    std::size_t first = 0;
    while (*z_.at(first) != largest) {
      ++first;
    }
    fill<A, T>(p_, task_.cols, T{});
    if (!(task_.sink > static_cast<double>(largest))) {
      *p_.at(first) = T{1};
    }
  }

private:
  /// What a row without a number above -inf gives.
  XSOFTMAX_INLINE T masked() const {
    const bool zero = task_.masked_row == masked_row_policy::zero || task_.sink != -infinity<double>;
    return zero && !contains_nan<A, T>(z_, task_.cols) ? T{} : not_a_number<T>;
  }

  /// Only elements equal to the maximum count in the sum, 1 each, and the sink with exp((sink - maximum) / T).
  XSOFTMAX_INLINE row_state<T> ties(T largest) const {
    if (contains_nan<A, T>(z_, task_.cols)) {
      return filled_row(not_a_number<T>);
    }
    std::size_t count = 0;
    for (std::size_t i = 0; i < task_.cols; ++i) {
      count += *z_.at(i) == largest ? 1u : 0u;
    }
    row_state<T> state;
    state.kind = row_kind::ties;
    state.value = largest;
    state.sum = {static_cast<double>(count), 0.0};
    if (task_.sink != -infinity<double>) {
      state.sum.high += exp_of_gap(task_.sink, static_cast<double>(largest));
    }
    return state;
  }

  XSOFTMAX_INLINE void share_among_ties(const row_state<T>& state) const {
    for (std::size_t i = 0; i < task_.cols; ++i) {
      const T x = *z_.at(i);
      if (x == state.value) {
        *p_.at(i) = static_cast<T>(1.0 / state.sum.high);
      } else if (sizeof(T) == 4 || x == -infinity<T>) {
        *p_.at(i) = T{};
      } else {
        // The next double or two can still have a subnormal share.
        const double weight = exp_of_gap(static_cast<double>(x), static_cast<double>(state.value));
        *p_.at(i) = static_cast<T>(weight / state.sum.high);
      }
    }
  }

  /// exp((x - largest) / T), where the difference is exact or the quotient beyond the range of double. The quotient's
  /// rounding error is made good to first order.
  XSOFTMAX_INLINE double exp_of_gap(double x, double largest) const {
    using N = native<A>;
    using D = batch<A, double>;
    const double gap = x - largest;
    const double quotient = gap / task_.temperature;
    const D e = math::exp<A, double>(D(quotient));
    if (!(quotient > -746.0 && quotient < 710.0)) {
      return e.get(0);
    }
    const D rest = N::fused_multiply_add(D(-quotient), D(task_.temperature), D(gap));
    return N::multiply_add(e, D(rest.get(0) / task_.temperature), e).get(0);
  }

  const softmax_task<T>& task_;
  strided_row<const T> z_;
  strided_row<T> p_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

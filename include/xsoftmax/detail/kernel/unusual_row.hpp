// SPDX-License-Identifier: MIT
// Rows that the fast passes do not serve: infinities, NaN, nothing but -inf, logits (or temperatures) beyond the range
// of the floating-point reduction, and temperature 0. One code for any layout: it is rare, and need not be fast.
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>
#include <xsoftmax/detail/softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// What a row of only -inf gives.
template <class T>
XSOFTMAX_INLINE T masked_value(const softmax_task<T>& task) {
  const bool zero = task.masked_row == masked_row_policy::zero || task.sink != -infinity<double>;
  return zero ? T{} : not_a_number<T>;
}

template <class A, class T>
class unusual_row {
public:
  using Wide = math::wide_extended_exp<A, T>;

  XSOFTMAX_STEP unusual_row(const softmax_task<T>& task, any_row<T, const void> z, any_row<T, void> p)
      : task_(task), z_(z), p_(p) {}

  /// By the maximum (NaN passed over) of a row that is not regular.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN row_state<T> classify(T largest, const math::reduction<A, T>& reduction) const {
    if (largest == infinity<T>) {
      return filled_row(not_a_number<T>);
    }
    if (largest == -infinity<T>) {
      return filled_row(masked());
    }
    if (has_only_ties(largest)) {
      return contains_nan() ? filled_row(not_a_number<T>) : ties(largest, count(largest));
    }
    row_state<T> state = wide(largest);
    const wide_reduction integers(task_.temperature);
    const Wide term(reduction, integers, state.reference);
    row_sum<A, T> sum;
    for_each_block([&](contiguous_row<const T> z, std::size_t n) XSOFTMAX_STEP_LAMBDA {
      sum.add(sum_terms<false, A, T>(term, z, contiguous_row<T>{nullptr}, n).sum, state.reference);
    });
    complete(state, sum, task_.sink, task_.temperature);
    return state;
  }

  /// The same of a row of which everything is known that a summary holds, and which is finite.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN row_state<T> classify(const log_sum_exp_summary& whole) const {
    const T largest = static_cast<T>(whole.maximum);
    if (has_only_ties(largest)) {
      return ties(largest, whole.count);
    }
    row_state<T> state = wide(largest);
    row_sum<A, T> sum(exact_sum(whole.all));
    complete(state, sum, task_.sink, task_.temperature);
    return state;
  }

  /// The last pass.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN void finish(const row_state<T>& state,
                                                 const math::reduction<A, T>& reduction) const {
    if (state.kind == row_kind::filled) {
      fill(state.value);
    } else if (state.kind == row_kind::ties) {
      share_among_ties(state);
    } else {
      const wide_reduction wide(task_.temperature);
      const Wide term(reduction, wide, state.reference);
      const normaliser<A, T> normalise(state.sum);
      write_row<A, T>([&](batch<A, T> x) XSOFTMAX_STEP_LAMBDA { return normalise(term(x)); }, z_, p_, task_.cols,
                      false);
    }
  }

  /// T = 0, the limit of small temperatures: all weight on the first maximum, or on the sink if that is above it.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN void one_hot() const {
    const T largest = maximum<A, T>(z_, 0, task_.cols);
    if (largest == infinity<T> || contains_nan()) {
      fill(not_a_number<T>);
      return;
    }
    if (largest == -infinity<T>) {
      fill(masked());
      return;
    }
    bool found = task_.sink > static_cast<double>(largest);
    rewrite([&](T x) XSOFTMAX_STEP_LAMBDA {
      const bool first = !found && x == largest;
      found = found || first;
      return first ? T{1} : T{};
    });
  }

private:
  /// body(elements, count) for each block.
  template <class Body>
  XSOFTMAX_STEP void for_each_block(Body&& body) const {
    for_each_piece<T>(z_, 0, task_.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
      block_buffer<T> room;
      body(z_.template block<A>(first, last, room), last - first);
    });
  }

  /// p_i = value(z_i), one by one in order.
  template <class Value>
  XSOFTMAX_STEP void rewrite(Value&& value) const {
    for_each_piece<T>(z_, 0, task_.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
      block_buffer<T> z_room;
      block_buffer<T> p_room;
      const contiguous_row<const T> z = z_.template block<A>(first, last, z_room);
      const contiguous_row<T> p = p_.target(first, p_room);
      for (std::size_t i = 0; i < last - first; ++i) {
        *p.at(i) = value(*z.at(i));
      }
      p_.template commit<A>(first, last, p_room);
    });
  }

  XSOFTMAX_STEP void fill(T value) const {
    for_each_piece<T>(p_, 0, task_.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
      block_buffer<T> room;
      kernel::fill<A, T>(p_.target(first, room), last - first, value);
      p_.template commit<A>(first, last, room);
    });
  }

  XSOFTMAX_STEP bool contains_nan() const {
    bool found = false;
    for_each_block([&](contiguous_row<const T> z, std::size_t n)
                       XSOFTMAX_STEP_LAMBDA { found = found || kernel::contains_nan<A, T>(z, n); });
    return found;
  }

  /// What a row without a number above -inf gives.
  XSOFTMAX_STEP T masked() const { return contains_nan() ? not_a_number<T> : masked_value<T>(task_); }

  /// Neighbouring floats are at least 2^-24 of their size apart, doubles 2^-53: from here on by more than 104 and 699.
  XSOFTMAX_STEP bool has_only_ties(T largest) const {
    const double scaled = static_cast<double>(largest) / task_.temperature;
    constexpr double apart = sizeof(T) == 4 ? 0x1p31 : 6.3e18;
    return scaled >= apart || scaled <= -apart;
  }

  XSOFTMAX_STEP row_state<T> wide(T largest) const {
    constexpr int step_bits = math::exp_format<T>::step_bits;
    row_state<T> state;
    state.kind = row_kind::wide;
    state.reference =
        wide_reduction(task_.temperature).template operator()<step_bits>(static_cast<double>(largest)).k >> step_bits;
    return state;
  }

  XSOFTMAX_STEP std::uint64_t count(T value) const {
    std::uint64_t found = 0;
    for_each_block([&](contiguous_row<const T> z, std::size_t n) XSOFTMAX_STEP_LAMBDA {
      for (std::size_t i = 0; i < n; ++i) {
        found += *z.at(i) == value ? 1u : 0u;
      }
    });
    return found;
  }

  /// Only the elements equal to the maximum count in the sum, 1 each, and the sink with exp((sink - maximum) / T).
  XSOFTMAX_STEP row_state<T> ties(T largest, std::uint64_t elements) const {
    row_state<T> state;
    state.kind = row_kind::ties;
    state.value = largest;
    state.sum = {static_cast<double>(elements), 0.0};
    if (task_.sink != -infinity<double>) {
      state.sum.high += exp_of_gap(task_.sink, static_cast<double>(largest));
    }
    return state;
  }

  XSOFTMAX_STEP void share_among_ties(const row_state<T>& state) const {
    rewrite([&](T x) XSOFTMAX_STEP_LAMBDA {
      if (x == state.value) {
        return static_cast<T>(1.0 / state.sum.high);
      }
      if (sizeof(T) == 4 || x == -infinity<T>) {
        return T{};
      }
      // The next double or two can still have a subnormal share.
      const double weight = exp_of_gap(static_cast<double>(x), static_cast<double>(state.value));
      return static_cast<T>(weight / state.sum.high);
    });
  }

  /// exp((x - largest) / T), where the difference is exact or the quotient beyond the range of double. The quotient's
  /// rounding error is made good to first order.
  XSOFTMAX_STEP double exp_of_gap(double x, double largest) const {
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
  any_row<T, const void> z_;
  any_row<T, void> p_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

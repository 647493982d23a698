// SPDX-License-Identifier: MIT
// The logarithm of a softmax element, given the denominator of its row: y = (z - M) / T - L.
#pragma once

#include <xsoftmax/detail/kernel/others.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// M and log(c + R) of a row: largest and log_sum.
struct log_denominator {
  double largest;
  double_pair log_sum;
};

/// The last pass on a batch: double, and float at temperatures near the ends of the range of double.
template <class A, class T>
class log_probability {
public:
  using D = batch<A, double>;

  XSOFTMAX_STEP log_probability(const log_denominator& row, double temperature)
      : quotient_(D(row.largest), temperature), minus_log_sum_(-row.log_sum.high), log_sum_rest_(row.log_sum.low) {}

  /// The same for other rows, of double, a lane each.
  XSOFTMAX_STEP log_probability of_rows(const pack<D, 1>& largest, const pack<D, 1>& log_sum_high,
                                        const pack<D, 1>& log_sum_low) const {
    log_probability other = *this;
    other.quotient_ = quotient_.below(largest.v[0]);
    other.minus_log_sum_ = negated(log_sum_high.v[0]);
    other.log_sum_rest_ = log_sum_low.v[0];
    return other;
  }

  XSOFTMAX_STEP batch<A, T> operator()(batch<A, T> z) const {
    if constexpr (sizeof(T) == 4) {
      D low;
      D high;
      native<A>::widen(z, low, high);
      return native<A>::narrow(of(low), of(high));
    } else {
      return of(z);
    }
  }

private:
  XSOFTMAX_STEP D of(D z) const {
    const auto q = quotient_(z);
    const auto y = two_sum(q.sum, minus_log_sum_);
    const D rest = y.error + (q.error - log_sum_rest_);
    return y.sum + native<A>::zero_where_equal(y.sum, D(-infinity<double>), rest);
  }

  gap_quotient<A> quotient_;
  D minus_log_sum_;
  D log_sum_rest_;
};

/// The last pass on a batch of float: everything in double, rounded once.
template <class A>
class usual_log_probability {
public:
  using F = batch<A, float>;
  using D = batch<A, double>;

  /// temperature in [2^-900, 2^900]
  XSOFTMAX_STEP usual_log_probability(const log_denominator& row, double temperature)
      : largest_{{D(row.largest), D(row.largest)}}, minus_log_sum_{{D(-row.log_sum.high), D(-row.log_sum.high)}},
        inverse_(1.0 / temperature) {}

  /// The same for other rows, a lane each.
  XSOFTMAX_STEP usual_log_probability of_rows(const pack<D, 2>& largest, const pack<D, 2>& log_sum_high,
                                              const pack<D, 2>&) const {
    usual_log_probability other = *this;
    other.largest_ = largest;
    other.minus_log_sum_ = map([](D v) XSOFTMAX_STEP_LAMBDA { return negated(v); }, log_sum_high);
    return other;
  }

  XSOFTMAX_STEP F operator()(F z) const {
    D low;
    D high;
    native<A>::widen(z, low, high);
    return native<A>::narrow(native<A>::multiply_add(low - largest_.v[0], inverse_, minus_log_sum_.v[0]),
                             native<A>::multiply_add(high - largest_.v[1], inverse_, minus_log_sum_.v[1]));
  }

private:
  pack<D, 2> largest_;
  pack<D, 2> minus_log_sum_;
  D inverse_;
};

/// The denominator of a row, from its maximum m, R (as a pair) and c; with the sink, if there is one.
template <class A>
class denominator_of_row {
public:
  XSOFTMAX_STEP denominator_of_row(double sink, double temperature) : sink_(sink), temperature_(temperature) {}

  XSOFTMAX_STEP log_denominator operator()(double m, double_pair rest, std::uint64_t count) const {
    double whole = static_cast<double>(count);
    if (sink_ != -infinity<double>) [[unlikely]] {
      add_sink(m, whole, rest);
    }
    using D = batch<A, double>;
    const auto log_sum = math::log_of_sum<A>(D(whole), D(rest.high), D(rest.low));
    return {m, {log_sum.sum.get(0), log_sum.error.get(0)}};
  }

private:
  /// The sink joins the sum; if it is above the maximum, it becomes what the sum is relative to.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN void add_sink(double& largest, double& whole, double_pair& rest) const {
    using N = native<A>;
    using D = batch<A, double>;
    const bool below = sink_ <= largest;
    const double base = below ? largest : sink_;
    const double_pair e =
        scaled(gap_quotient<A>(D(base), temperature_).exp(below ? sink_ : largest), -math::octave_bias<double>);
    if (below) {
      rest = sum_of(rest, e);
    } else {
      const double_pair all = sum_of({whole, 0.0}, rest);
      const double high = uncontracted(D(all.high) * D(e.high)).get(0);
      const double lost = N::fused_multiply_add(D(all.high), D(e.high), D(-high)).get(0);
      rest = sum_of({high, 0.0}, {lost, N::multiply_add(D(all.low), D(e.high), D(all.high) * D(e.low)).get(0)});
      whole = 1.0;
    }
    largest = base;
  }

  static XSOFTMAX_STEP double_pair sum_of(double_pair a, double_pair b) {
    const auto sum = two_sum(a.high, b.high);
    const auto pair = two_sum(sum.sum, sum.error + (a.low + b.low));
    return {pair.sum, pair.error};
  }

  double sink_;
  double temperature_;
};

/// What a row of only -inf gives.
template <class T>
XSOFTMAX_INLINE T masked_logarithm(const log_softmax_task<T>& task) {
  const bool zero = task.masked_row == masked_row_policy::zero || task.sink != -infinity<double>;
  return zero ? -infinity<T> : not_a_number<T>;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// The gradient of log_softmax: dz_i = (dlp_i - exp(lp_i) S) / T, S = sum of dlp_k.
#pragma once

#include <xsoftmax/detail/kernel/backward.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class log_softmax_gradient;

/// In double from end to end, the exponential too: dlp and exp(lp) S may cancel, and then the error of an exponential
/// in float would be all that is left.
template <class A>
class log_softmax_gradient<A, float> {
public:
  using F = batch<A, float>;
  using D = batch<A, double>;
  static constexpr float masked = -infinity<float>;

  template <std::size_t N>
  static XSOFTMAX_STEP auto terms(const pack<F, N>& lp, const pack<F, N>& dlp) {
    return widened<A>(
        map([](F y, F dy) XSOFTMAX_STEP_LAMBDA { return native<A>::zero_where_equal(y, F(masked), dy); }, lp, dlp));
  }

  static XSOFTMAX_STEP double_pair term(float, float dlp) { return {static_cast<double>(dlp), 0.0}; }

  XSOFTMAX_STEP log_softmax_gradient(double_pair sum, double temperature)
      : sum_{{D(sum.high), D(sum.high)}}, divided_(temperature) {}

  /// The same for other rows, a lane each, whose S is one that serves.
  XSOFTMAX_STEP log_softmax_gradient of_rows(const pack<D, 2>& sum, const pack<D, 2>&) const {
    log_softmax_gradient other = *this;
    other.sum_ = sum;
    return other;
  }

  static XSOFTMAX_STEP bool serves(double_pair sum) { return sum.high - sum.high == 0; }

  XSOFTMAX_STEP F operator()(F lp, F dlp) const {
    const F dz = in_double<A>(
        [&](D y, D dy, D sum) XSOFTMAX_STEP_LAMBDA {
          return divided_(native<A>::negative_multiply_add(math::exp<A, double>(y), sum, dy));
        },
        lp, dlp, sum_);
    return native<A>::zero_where_equal(lp, F(masked), dz);
  }

protected:
  pack<D, 2> sum_;

private:
  divided_by<A> divided_;
};

template <class A>
class log_softmax_gradient<A, double> {
public:
  using D = batch<A, double>;
  static constexpr double masked = -infinity<double>;

  template <std::size_t N>
  static XSOFTMAX_STEP auto terms(const pack<D, N>& lp, const pack<D, N>& dlp) {
    return map([](D y, D dy) XSOFTMAX_STEP_LAMBDA { return native<A>::zero_where_equal(y, D(masked), dy); }, lp, dlp);
  }

  static XSOFTMAX_STEP double_pair term(double, double dlp) { return {dlp, 0.0}; }

  XSOFTMAX_STEP log_softmax_gradient(double_pair sum, double temperature)
      : sum_(sum.high), temperature_(temperature), divides_(temperature != 1) {}

  /// The same for other rows, a lane each, whose S is one that serves.
  XSOFTMAX_STEP log_softmax_gradient of_rows(const pack<D, 1>& sum, const pack<D, 1>&) const {
    log_softmax_gradient other = *this;
    other.sum_ = sum.v[0];
    return other;
  }

  static XSOFTMAX_STEP bool serves(double_pair sum) { return sum.high - sum.high == 0; }

  XSOFTMAX_STEP D operator()(D lp, D dlp) const {
    const D dz = native<A>::negative_multiply_add(math::exp<A, double>(lp), sum_, dlp);
    return native<A>::zero_where_equal(lp, D(masked), divides_ ? dz / temperature_ : dz);
  }

private:
  D sum_;
  D temperature_;
  bool divides_;
};

template <class A, class T>
struct log_softmax_backward {
  XSOFTMAX_FLATTEN static void run(const log_softmax_backward_task<T>& task) noexcept {
    backward_rows<A, T, log_softmax_gradient<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

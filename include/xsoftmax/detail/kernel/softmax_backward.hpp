// SPDX-License-Identifier: MIT
// The gradient of softmax: dz_i = p_i (dp_i - S) / T, S = sum of p_k dp_k.
#pragma once

#include <xsoftmax/detail/kernel/backward.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T>
class softmax_gradient;

/// In double from end to end: the products of floats are exact there, and nothing over- or underflows.
template <class A>
class softmax_gradient<A, float> {
public:
  using F = batch<A, float>;
  using D = batch<A, double>;
  static constexpr float masked = 0;

  template <std::size_t N>
  static XSOFTMAX_STEP auto terms(const pack<F, N>& p, const pack<F, N>& dp) {
    const auto gradient =
        map([](F y, F dy) XSOFTMAX_STEP_LAMBDA { return native<A>::zero_where_equal(y, F(0.0f), dy); }, p, dp);
    // Contraction with the addition that follows changes nothing: the product is exact.
    return map([](D y, D dy) XSOFTMAX_STEP_LAMBDA { return y * dy; }, widened<A>(p), widened<A>(gradient));
  }

  static XSOFTMAX_STEP double_pair term(float p, float dp) {
    return {static_cast<double>(p) * static_cast<double>(dp), 0.0};
  }

  XSOFTMAX_STEP softmax_gradient(double_pair dot, double temperature)
      : dot_{{D(dot.high), D(dot.high)}}, divided_(temperature) {}

  /// The same for other rows, a lane each, whose S is one that serves.
  XSOFTMAX_STEP softmax_gradient of_rows(const pack<D, 2>& dot, const pack<D, 2>&) const {
    softmax_gradient other = *this;
    other.dot_ = dot;
    return other;
  }

  static XSOFTMAX_STEP bool serves(double_pair dot) { return dot.high - dot.high == 0; }

  XSOFTMAX_STEP F operator()(F p, F dp) const {
    const F dz =
        in_double<A>([&](D y, D dy, D dot) XSOFTMAX_STEP_LAMBDA { return divided_(y * (dy - dot)); }, p, dp, dot_);
    return native<A>::zero_where_equal(p, F(0.0f), dz);
  }

protected:
  pack<D, 2> dot_;

private:
  divided_by<A> divided_;
};

/// p (dp - S), with S a pair: the gradient at T = 1 where nothing must be scaled.
template <class A>
class plain_softmax_gradient {
public:
  using D = batch<A, double>;

  XSOFTMAX_STEP plain_softmax_gradient(D minus_high, D minus_low) : minus_high_(minus_high), minus_low_(minus_low) {}

  XSOFTMAX_STEP plain_softmax_gradient of_rows(const pack<D, 1>& dot_high, const pack<D, 1>& dot_low) const {
    return {negated(dot_high.v[0]), negated(dot_low.v[0])};
  }

  XSOFTMAX_STEP D operator()(D p, D dp) const {
    const auto difference = two_sum(dp, minus_high_);
    return native<A>::zero_where_equal(p, D(0.0), p * (difference.sum + (difference.error + minus_low_)));
  }

private:
  D minus_high_;
  D minus_low_;
};

/// Products and S as pairs, so that what cancels in dp - S leaves no error behind.
template <class A>
class softmax_gradient<A, double> {
public:
  using N = native<A>;
  using D = batch<A, double>;
  static constexpr double masked = 0;

  template <std::size_t Size>
  static XSOFTMAX_STEP auto terms(const pack<D, Size>& p, const pack<D, Size>& dp) {
    const auto gradient = map([](D y, D dy) XSOFTMAX_STEP_LAMBDA { return N::zero_where_equal(y, D(0.0), dy); }, p, dp);
    const auto product = map([](D y, D dy) XSOFTMAX_STEP_LAMBDA { return uncontracted(y * dy); }, p, gradient);
    pack<addend<D>, Size> terms;
    unroll<Size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      terms.v[at] = {product.v[at], excess_of(product.v[at], p.v[at], gradient.v[at])};
    });
    return terms;
  }

  static XSOFTMAX_STEP double_pair term(double p, double dp) {
    const double product = p * dp;
    // Smaller by 2^4, because where the operation is emulated it fails at the end of the range.
    const double rest = N::fused_multiply_add(D(p), D(dp * 0x1p-4), D(-product * 0x1p-4)).get(0) * 0x1p4;
    return {product, rest - rest == 0 ? rest : 0.0};
  }

private:
  /// product - p dp
  static XSOFTMAX_STEP D excess_of(D product, D p, D dp) {
    if constexpr (N::fused) {
      return N::negative_multiply_add(p, dp, product);
    } else {
      const D larger = product * D(0x1p20);
      if (N::any_nan(larger - larger)) [[unlikely]] {
        alignas(64) double excess[lanes<A, double>];
        for (std::size_t l = 0; l < lanes<A, double>; ++l) {
          excess[l] = -term(p.get(l), dp.get(l)).low;
        }
        return N::load(excess);
      }
      return N::fused_multiply_add(negated(p), dp, product);
    }
  }

public:
  XSOFTMAX_STEP softmax_gradient(double_pair dot, double temperature) {
    // Near the end of the range dp - S could overflow where dz does not; a temperature near the other end could make
    // p / T overflow.
    const double down = serves(dot) ? 1.0 : 0x1p-2;
    const double up = temperature < 0x1p-1000 ? 0x1p100 : 1.0;
    exact_ = dot.high - dot.high == 0;
    plain_ = temperature == 1 && serves(dot);
    order_ = temperature == 1 ? order::none : temperature < 1 ? order::first : order::last;
    scale_ = D(down);
    minus_high_ = D(-dot.high * down);
    minus_low_ = D(-dot.low * down);
    temperature_ = D(temperature * up);
    unscale_ = D(up / down);
  }

  /// The same for other rows, a lane each, whose S is one that serves.
  XSOFTMAX_STEP softmax_gradient of_rows(const pack<D, 1>& dot_high, const pack<D, 1>& dot_low) const {
    softmax_gradient other = *this;
    other.minus_high_ = negated(dot_high.v[0]);
    other.minus_low_ = negated(dot_low.v[0]);
    return other;
  }

  XSOFTMAX_STEP bool is_plain() const { return plain_; }

  XSOFTMAX_STEP plain_softmax_gradient<A> plain() const { return {minus_high_, minus_low_}; }

  /// Is S so far from the end of the range that nothing must be scaled?
  static XSOFTMAX_STEP bool serves(double_pair dot) { return dot.high < 0x1p969 && dot.high > -0x1p969; }

  XSOFTMAX_STEP D operator()(D p, D dp) const {
    const auto difference = two_sum(dp * scale_, minus_high_);
    const D t = exact_ ? difference.sum + (difference.error + minus_low_) : difference.sum;
    D dz;
    if (order_ == order::none) {
      dz = p * t;
    } else if (order_ == order::first) { // T < 1: p / T does not underflow
      dz = (p / temperature_) * t;
    } else { // T > 1: p t underflows only where dz does
      dz = p * t / temperature_;
    }
    return N::zero_where_equal(p, D(0.0), dz * unscale_);
  }

private:
  enum class order { none, first, last };

  bool plain_; // T = 1, and S serves
  bool exact_; // S is finite; otherwise plain IEEE arithmetic
  order order_;
  D scale_;
  D minus_high_;
  D minus_low_;
  D temperature_;
  D unscale_;
};

template <class A, class T>
struct softmax_backward {
  XSOFTMAX_FLATTEN static void run(const softmax_backward_task<T>& task) noexcept {
    backward_rows<A, T, softmax_gradient<A, T>>(task);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

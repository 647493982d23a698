// SPDX-License-Identifier: MIT
// d log s(z) / dz = 1 / (1 + |z|), by which the gradients of StableMax and of softmax differ.
#pragma once

#include <xsoftmax/detail/kernel/backward.hpp>
#include <xsoftmax/detail/kernel/stablemax_term.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// 1 + |z|, as a product of which one factor is 1.
template <class A, class V>
XSOFTMAX_STEP V inverse_slope(V z) {
  return stablemax_above<A>(z) * stablemax_below<A>(z);
}

/// A step of gradients of doubles, divided by 1 + |z|; +0 where y is `masked`.
template <class A, class Step>
class divided_by_inverse_slope {
public:
  using D = batch<A, double>;

  XSOFTMAX_STEP divided_by_inverse_slope(const Step& step, double masked) : step_(step), masked_(masked) {}

  /// The same for other rows, a lane each.
  XSOFTMAX_STEP divided_by_inverse_slope of_rows(const pack<D, 1>& high, const pack<D, 1>& low) const {
    return {step_.of_rows(high, low), masked_};
  }

  XSOFTMAX_STEP D operator()(D y, D dy, D z) const {
    return native<A>::zero_where_equal(y, D(masked_), step_(y, dy) / inverse_slope<A>(z));
  }

private:
  Step step_;
  double masked_;
};

/// The same as a formula: S, and what enters it, are those of Formula.
template <class A, class Formula>
class stablemax_formula : public divided_by_inverse_slope<A, Formula> {
public:
  using D = batch<A, double>;
  static constexpr bool takes_logits = true;
  static constexpr double masked = Formula::masked;

  template <std::size_t N>
  static XSOFTMAX_STEP auto terms(const pack<D, N>& y, const pack<D, N>& dy) {
    return Formula::terms(y, dy);
  }

  static XSOFTMAX_STEP double_pair term(double y, double dy) { return Formula::term(y, dy); }

  static XSOFTMAX_STEP bool serves(double_pair sum) { return Formula::serves(sum); }

  XSOFTMAX_STEP stablemax_formula(double_pair sum, double temperature)
      : divided_by_inverse_slope<A, Formula>(Formula(sum, temperature), masked) {}
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

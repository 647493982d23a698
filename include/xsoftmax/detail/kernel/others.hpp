// SPDX-License-Identifier: MIT
// The sum of a row without its largest elements, for logarithms that are accurate where one element outweighs the
// others:
//
//   sum_k exp((z_k - m) / T) = c + R      c elements equal to the maximum m, R over all others
//
// The differences are exact (a sum and its rounding error), so a constant that is exact to add changes nothing.
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>
#include <xsoftmax/math/log.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A single precise term as a pair.
template <class D>
XSOFTMAX_INLINE double_pair rounded(const precise_term<D>& e) {
  const double power = e.power.get(0);
  const double small = power * e.q.get(0); // exact
  const double sum = power + small;
  return {sum, small - (sum - power)};
}

/// (z - m) / T as a pair, for every finite m and z and every T > 0. -inf where that is its value, or z is; the lower
/// part is NaN then.
///
/// Powers of two keep the arithmetic in range: a factor <= 1/4 before the difference, so that it cannot overflow where
/// the quotient does not, or, for temperatures near the smallest numbers, a large one after it. Where the first costs a
/// logit its last digits, the quotient is too small to matter.
template <class A>
class gap_quotient {
public:
  using D = batch<A, double>;

  XSOFTMAX_STEP gap_quotient(D m, double temperature) {
    const decoded t = decode(temperature);
    const std::int64_t octave = t.exponent + 63 - __builtin_clzll(t.significand);
    before_ = power_of_two(octave > 500 ? 500 - octave : octave < -500 ? 0 : -2);
    after_ = power_of_two(octave < -500 ? -500 - octave : 0);
    const D scaled(temperature * after_ * before_);
    minus_m_ = negated(m * D(before_));
    const D inverse = D(1.0) / scaled;
    inverse_high_ = inverse;
    inverse_low_ = native<A>::fused_multiply_add(D(0.0) - inverse, scaled, D(1.0)) * inverse;
  }

  /// The same for another m.
  XSOFTMAX_STEP gap_quotient below(D m) const {
    gap_quotient other = *this;
    other.minus_m_ = negated(m * D(before_));
    return other;
  }

  XSOFTMAX_STEP two_sum_result<D> operator()(D z) const {
    using N = native<A>;
    const auto gap = two_sum(z * D(before_), minus_m_); // products by powers of two: no harm if they are contracted
    const D high = gap.sum * D(after_);
    const D low = gap.error * D(after_);
    const D q = uncontracted(high * inverse_high_);
    const D lost = N::fused_multiply_add(high, inverse_high_, D(0.0) - q);
    return {q, N::multiply_add(low, inverse_high_, N::multiply_add(high, inverse_low_, lost))};
  }

  /// exp((z - m) / T) * 2^bias<double> for a single z <= m.
  XSOFTMAX_STEP double_pair exp(double z) const {
    const auto q = (*this)(D(z));
    if (!(q.sum.get(0) > -760.0)) {
      return {0.0, 0.0};
    }
    return rounded(math::precise_exp<A, double>(math::unit_reduction<A, double>(), 0)(q.sum, q.error));
  }

private:
  double before_;
  double after_;
  D minus_m_;
  D inverse_high_;
  D inverse_low_;
};

/// v * 2^shift; 0 where that is far below the smallest number. Rounded once where it is subnormal.
XSOFTMAX_INLINE double_pair scaled(double_pair v, std::int64_t shift) {
  if (shift < -1300) {
    return {0.0, 0.0};
  }
  if (shift < -900) {
    v = {v.high * power_of_two(-500), v.low * power_of_two(-500)};
    shift += 500;
  }
  return {v.high * power_of_two(shift), v.low * power_of_two(shift)};
}

/// The sum * 2^shift as a pair, wherever it lies.
XSOFTMAX_INLINE double_pair scaled(const exact_sum& sum, std::int64_t shift) {
  return sum.empty() ? double_pair{0.0, 0.0} : scaled(sum.value(sum.octave()), sum.octave() + shift);
}

/// The sum over a block, and how many of its elements equal m.
struct others_block {
  double_pair sum;
  std::uint64_t count;
};

/// c and R of a row or of a part of one; parts merge in any order.
template <class T>
struct others_sum {
  exact_sum rest;          ///< R
  std::uint64_t count = 0; ///< c
  bool finite = true;      ///< no element was NaN

  XSOFTMAX_INLINE void merge(const others_sum& other) {
    rest.merge(other.rest);
    count += other.count;
    finite = finite && other.finite;
  }

  /// A block's part, relative to 2^-bias.
  XSOFTMAX_INLINE void add(const others_block& block) {
    if (block.sum.high - block.sum.high == 0) {
      rest.add(block.sum, -math::octave_bias<T>);
    } else {
      finite = false;
    }
    count += block.count;
  }
};

/// The lanes of v added.
template <class A, class Int>
XSOFTMAX_STEP std::uint64_t add_counts(batch<A, Int> v) {
  alignas(64) Int lane[batch<A, Int>::size];
  v.store_aligned(lane);
  Int count = 0;
  for (std::size_t l = 0; l < batch<A, Int>::size; ++l) {
    count += lane[l];
  }
  return static_cast<std::uint64_t>(count);
}

/// The term e of x, 0 where x equals m: that is counted instead.
template <class A, class V, class I>
XSOFTMAX_STEP precise_term<V> counted_apart(precise_term<V> e, V x, V m, I& count) {
  e.power = native<A>::zero_where_equal(x, m, e.power);
  count = native<A>::count_equal(x, m, count);
  return e;
}

/// Precise terms of n elements, at most a block, that are not equal to m; NaN if one is.
template <class A, class T, class Term>
XSOFTMAX_STEP others_block sum_others(const Term& term, contiguous_row<const T> z, std::size_t n, T m) {
  using V = batch<A, T>;
  lane_sum<A, T> sum;
  batch<A, bits_t<T>> count(0);
  for_each_chunk<wide_chunk<A, T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    sum.add(map([&](V x) XSOFTMAX_STEP_LAMBDA { return counted_apart<A>(term(x), x, V(m), count); },
                load_chunk<A, T>(z, i, extent, -infinity<T>)));
  });
  return {sum.total(), add_counts<A, bits_t<T>>(count)};
}

/// The terms of logits by the maximum m of their row, which may be each lane's own, relative to 1. Those below about
/// exp(-110) (double: exp(-753)) are 0.
template <class A, class T>
class term_below_maximum {
public:
  using V = batch<A, T>;

  XSOFTMAX_STEP term_below_maximum(const math::reduction<A, T>& reduction, V m)
      : term_(reduction, 0), minus_m_(negated(m)), floor_(m - V(8 * range(reduction))) {}

  XSOFTMAX_STEP precise_term<V> operator()(V x) const {
    const auto gap = two_sum(native<A>::max_keeping_nan(x, floor_), minus_m_);
    return term_(gap.sum, gap.error);
  }

  /// Is this maximum finite and so near to 0 that the floor, below which a term is 0, is no neighbour of it?
  static XSOFTMAX_STEP bool serves(const math::reduction<A, T>& reduction, T m) {
    constexpr T digits = sizeof(T) == 4 ? static_cast<T>(0x1p25) : static_cast<T>(0x1p54);
    return reduction.usable && m <= digits * range(reduction) && m >= -digits * range(reduction);
  }

private:
  using Term = math::precise_exp<A, T>;

  static XSOFTMAX_STEP T range(const math::reduction<A, T>& reduction) { return -Term::lowest_logit(reduction, 0); }

  Term term_;
  V minus_m_;
  V floor_;
};

/// The terms of a row with finite maximum m.
template <class A, class T>
class others_of_maximum {
public:
  XSOFTMAX_STEP others_of_maximum(const math::reduction<A, T>& reduction, double temperature, T m)
      : term_(reduction, batch<A, T>(m)), gap_(batch<A, double>(static_cast<double>(m)), temperature), m_(m),
        regular_(term_below_maximum<A, T>::serves(reduction, m)) {}

  /// Of n elements, at most a block, relative to 2^-bias.
  __attribute__((noinline)) XSOFTMAX_FLATTEN others_block block(contiguous_row<const T> z, std::size_t n) const {
    if (!regular_) [[unlikely]] {
      return irregular_block(z, n);
    }
    return sum_others<A, T>(term_, z, n, m_);
  }

private:
  /// Temperatures far from 1, and rows of enormous logits: element by element.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN others_block irregular_block(contiguous_row<const T> z, std::size_t n) const {
    exact_sum sum;
    std::uint64_t count = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const T x = *z.at(i);
      if (x != x) {
        return {{static_cast<double>(x), 0.0}, 0};
      }
      if (x == m_) {
        ++count;
      } else {
        sum.add(gap_.exp(static_cast<double>(x)), -math::octave_bias<double>);
      }
    }
    return {scaled(sum, math::octave_bias<T>), count};
  }

  term_below_maximum<A, T> term_;
  gap_quotient<A> gap_;
  T m_;
  bool regular_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

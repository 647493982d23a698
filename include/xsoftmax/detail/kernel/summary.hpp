// SPDX-License-Identifier: MIT
// log(sum exp(z / T)) = M / T + log(c + R / E(M))        E(x) = exp(x / T)
//
//   M    the maximum, c elements equal to it
//   R    sum of E(z_k) over the others, exact in its additions
//
// The maximum is not known in advance and the order of the blocks must not matter, so R is a sum of absolute terms, the
// exponents of which are integers without bound. A block keeps its own maximum out of its sum, in double accuracy or
// better; where a larger one is known, c E(m) joins R. What is added is the same in every order, and the additions are
// exact.
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/others.hpp>
#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/log_sum_exp_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// exp(x / T) for any finite x: significand * 2^octave, the significand near 1 and as precise as a term (precise_exp).
/// Beyond +-2^61 octaves, where no difference between logits counts, there is none.
struct scaled_exponential {
  double_pair significand;
  std::int64_t octave;
  bool exists;
};

template <class A>
XSOFTMAX_STEP scaled_exponential exponential(const wide_reduction& wide, double x) {
  using D = batch<A, double>;
  constexpr std::int64_t limit = std::int64_t{1} << 61;
  const wide_reduced r = wide.template operator()<0>(x);
  if (r.saturated || r.k > limit || r.k < -limit) {
    return {{0.0, 0.0}, 0, false};
  }
  // t again, as a pair.
  using N = native<A>;
  const D ln2(0x1.62E42FEFA39EFp-1);
  const D t = uncontracted(D(r.fraction_high) * ln2);
  const D lost = N::fused_multiply_add(D(r.fraction_high), ln2, D(0.0) - t);
  const D low = N::multiply_add(D(r.fraction_low), ln2, lost);
  const D rest = N::multiply_add(D(r.fraction_high), D(0x1.ABC9E3B39803Fp-56), low);
  return {rounded(precise_term<D>{D(1.0), math::exp_minus_one<A>(t, rest)}), r.k, true};
}

/// What of a row is summed.
enum class wanted : unsigned char {
  others, ///< what its logarithm needs
  terms,  ///< what softmax needs
  both,
};

/// A summary while it is worked on.
template <class A, class T>
class summary {
public:
  XSOFTMAX_STEP summary(const log_sum_exp_summary& stored, double temperature)
      : summary(stored, temperature, wide_reduction(temperature)) {}

  /// Of another row, of the same temperature.
  XSOFTMAX_STEP summary of(const log_sum_exp_summary& stored) const { return {stored, temperature_, wide_}; }

  XSOFTMAX_STEP log_sum_exp_summary stored() const {
    return {maximum_, count_, others_.stored(), all_.stored(), nan_, plus_infinity_};
  }

  /// The elements of a row. Without `others` their number and sum are not to be used, but for rows of ties only.
  template <wanted What, class Row>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void push(const math::reduction<A, T>& reduction, Row z, std::size_t n) {
    for (std::size_t first = 0; first < n; first += block_size<T>) {
      const std::size_t last = n - first > block_size<T> ? first + block_size<T> : n;
      typename Row::buffer room;
      push_block<What>(reduction, z.template block<A>(first, last, room), last - first);
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void merge(const log_sum_exp_summary& other) {
    nan_ = nan_ || other.nan;
    plus_infinity_ = plus_infinity_ || other.plus_infinity;
    exact_sum all(other.all);
    all.make_room();
    all_.make_room();
    all_.merge(all);
    include(other.maximum, other.count, exact_sum(other.others));
  }

  /// A block of maximum m, its sum relative to 2^(octave - bias).
  XSOFTMAX_STEP void include(T m, const others_block& block, std::int64_t octave) {
    exact_sum others;
    if (add_to(others, block, octave)) {
      include(static_cast<double>(m), block.count, others);
    }
  }

  /// `count` elements equal to m, and the sum of others that are smaller.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void include(double m, std::uint64_t count, exact_sum others) {
    others.make_room();
    others_.make_room();
    others_.merge(others);
    if (m > maximum_) {
      add_to_others(maximum_, count_);
      maximum_ = m;
      count_ = count;
    } else if (m == maximum_) {
      count_ += count;
    } else {
      add_to_others(m, count);
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN T value() const {
    if (nan_) {
      return not_a_number<T>;
    }
    if (plus_infinity_ || count_ == 0) {
      return plus_infinity_ ? infinity<T> : -infinity<T>;
    }
    using D = batch<A, double>;
    const double_pair ratio = others_ratio();
    if (count_ == 1 && ratio.high == 0) {
      const double q = maximum_ / temperature_;
      return rounded_once(q, native<A>::fused_multiply_add(D(-q), D(temperature_), D(maximum_)).get(0));
    }
    const auto q = gap_quotient<A>(D(0.0), temperature_)(D(maximum_));
    const auto log_sum = math::log_of_sum<A>(D(static_cast<double>(count_)), D(ratio.high), D(ratio.low));
    const auto sum = two_sum(q.sum.get(0), log_sum.sum.get(0));
    const double rest = sum.error + (q.error.get(0) + log_sum.error.get(0));
    const double value = sum.sum + rest;
    return sum.sum - sum.sum == 0 ? rounded_once(value, rest - (value - sum.sum)) : static_cast<T>(sum.sum);
  }

private:
  XSOFTMAX_STEP summary(const log_sum_exp_summary& stored, double temperature, const wide_reduction& wide)
      : temperature_(temperature), maximum_(stored.maximum), count_(stored.count), others_(stored.others),
        all_(stored.all), nan_(stored.nan), plus_infinity_(stored.plus_infinity), wide_(wide) {}

  /// False if there was a NaN.
  XSOFTMAX_STEP bool add_to(exact_sum& others, const others_block& block, std::int64_t octave) {
    if (!(block.sum.high - block.sum.high == 0)) {
      nan_ = true;
      return false;
    }
    others.add(block.sum, octave - math::octave_bias<T>);
    return true;
  }

  template <wanted What>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void push_block(const math::reduction<A, T>& reduction,
                                                             contiguous_row<const T> z, std::size_t n) {
    const T m = maximum<A, T>(z, n);
    if (!(m - m == 0)) [[unlikely]] {
      plus_infinity_ = plus_infinity_ || m > 0;
      nan_ = nan_ || contains_nan<A, T>(z, n);
      return;
    }
    exact_sum others;
    std::uint64_t count = 0;
    std::int64_t octave;
    if (is_regular<true>(reduction, m, octave)) [[likely]] {
      if constexpr (What != wanted::terms) {
        const math::precise_exp<A, T> exact_term(reduction, octave);
        const others_block block = sum_others<A, T>(
            [&](batch<A, T> x) XSOFTMAX_STEP_LAMBDA { return exact_term(x, batch<A, T>(T{})); }, z, n, m);
        if (!add_to(others, block, octave)) {
          return;
        }
        count = block.count;
      }
      if constexpr (What != wanted::others) {
        add_to_all(math::extended_exp<A, T, true>(reduction, octave), octave, z, n);
        count = count == 0 ? 1 : count;
      }
    } else {
      push_irregular_block<What>(reduction, z, n, m, others, count);
    }
    include(static_cast<double>(m), count, others);
  }

  /// Logits, or a temperature, beyond the range of the floating-point reduction: element by element.
  template <wanted What>
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN void push_irregular_block(const math::reduction<A, T>& reduction,
                                                               contiguous_row<const T> z, std::size_t n, T m,
                                                               exact_sum& others, std::uint64_t& count) {
    for (std::size_t i = 0; i < n; ++i) {
      const T x = *z.at(i);
      nan_ = nan_ || x != x;
      if (x == m) {
        ++count;
      } else if (x - x == 0) {
        const scaled_exponential e = exponential<A>(wide_, static_cast<double>(x));
        if (e.exists) {
          others.add(e.significand, e.octave);
        }
      }
    }
    if constexpr (What != wanted::others) {
      constexpr int step_bits = math::exp_format<T>::step_bits;
      const wide_reduced r = wide_.template operator()<step_bits>(static_cast<double>(m));
      if (!nan_ && !r.saturated) {
        const std::int64_t octave = r.k >> step_bits;
        add_to_all(math::wide_extended_exp<A, T>(reduction, wide_, octave), octave, z, n);
      }
    }
  }

  /// What softmax adds for this block.
  template <class Term>
  XSOFTMAX_STEP void add_to_all(const Term& term, std::int64_t octave, contiguous_row<const T> z, std::size_t n) {
    const double_pair sum = sum_terms<false, A, T>(term, z, contiguous_row<T>{nullptr}, n).sum;
    if (!(sum.high - sum.high == 0)) {
      nan_ = true;
      return;
    }
    all_.make_room();
    all_.add(sum, octave - math::octave_bias<T>);
  }

  /// count E(m) joins R.
  XSOFTMAX_STEP void add_to_others(double m, std::uint64_t count) {
    if (count == 0) {
      return;
    }
    const scaled_exponential e = exponential<A>(wide_, m);
    if (e.exists) {
      constexpr int half = 30;
      others_.make_room();
      others_.add(e.significand, e.octave, count & ((std::uint64_t{1} << half) - 1));
      if (count >> half != 0) { // no more than 2^60 elements are ever seen
        others_.make_room();
        others_.add(e.significand, e.octave + half, count >> half);
      }
    }
  }

  /// R / E(M)
  XSOFTMAX_STEP double_pair others_ratio() const {
    const scaled_exponential e = exponential<A>(wide_, maximum_);
    if (others_.empty() || !e.exists) {
      return {0.0, 0.0};
    }
    using D = batch<A, double>;
    const std::int64_t octave = others_.octave();
    const double_pair r = others_.value(octave);
    const double_pair divisor = e.significand;
    const double high = r.high / divisor.high;
    const D lost = native<A>::fused_multiply_add(D(-high), D(divisor.high), D(r.high));
    const double rest = native<A>::multiply_add(D(-high), D(divisor.low), lost).get(0) + r.low;
    return scaled(double_pair{high, rest / divisor.high}, octave - e.octave);
  }

  /// value, which was rounded already and has lost something of the sign of `lost`, in T as if it were rounded once.
  static XSOFTMAX_STEP T rounded_once(double value, double lost) {
    if constexpr (sizeof(T) == 4) {
      // The last digit made odd where something is missing: the second rounding then sees on which side of a tie of
      // float the value lies.
      auto bits = __builtin_bit_cast(std::uint64_t, value);
      if (lost != 0 && value != 0 && value - value == 0 && (bits & 1) == 0) {
        bits += (lost > 0) == (value > 0) ? std::uint64_t{1} : ~std::uint64_t{0};
      }
      value = __builtin_bit_cast(double, bits);
    }
    return static_cast<T>(value);
  }

  double temperature_;
  double maximum_;
  std::uint64_t count_;
  exact_sum others_;
  exact_sum all_;
  bool nan_;
  bool plus_infinity_;
  wide_reduction wide_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// The sum of block sums of either sign.
#pragma once

#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/sum.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// v * 2^octave for an octave within +-2000; two factors, because one alone may be out of range.
XSOFTMAX_INLINE double times_power_of_two(double v, std::int64_t octave) {
  return v * power_of_two(octave / 2) * power_of_two(octave - octave / 2);
}

/// Adds numbers of either sign, independent of their order and of how they are split between accumulators: the positive
/// and the negative ones exactly and apart. Infinities and NaN are added among themselves, as IEEE arithmetic does:
/// +inf and -inf together, or a NaN, give NaN. Trivially copyable; a default one is empty.
class signed_sum {
public:
  XSOFTMAX_INLINE signed_sum() {}

  XSOFTMAX_INLINE explicit signed_sum(const signed_sum_digits& stored)
      : positive_(stored.positive), negative_(stored.negative), special_(stored.special) {}

  XSOFTMAX_INLINE signed_sum_digits stored() const { return {positive_.stored(), negative_.stored(), special_}; }

  XSOFTMAX_INLINE void add(double_pair v) {
    if (!(v.high - v.high == 0)) {
      special_ += v.high;
    } else if (v.high < 0) {
      negative_.add({-v.high, -v.low}, 0);
    } else {
      positive_.add(v, 0);
    }
  }

  /// The numbers of another sum join this one.
  XSOFTMAX_INLINE void merge(const signed_sum& other) {
    positive_.merge(other.positive_);
    negative_.merge(other.negative_);
    special_ += other.special_;
  }

  /// The sum, off by at most 2^-100 of the larger of its two parts; a sum of one number is that number. Infinite where
  /// the sum is beyond the range of double.
  XSOFTMAX_INLINE double_pair value() const {
    if (special_ != 0) {
      return {special_, 0.0};
    }
    if (positive_.empty() && negative_.empty()) {
      return {0.0, 0.0};
    }
    const std::int64_t p = positive_.octave();
    const std::int64_t n = negative_.octave();
    const std::int64_t octave = p > n ? p : n;
    // A part so far below the other is lost in it.
    const double_pair up = p < octave - 512 ? double_pair{0.0, 0.0} : positive_.value(octave);
    const double_pair down = n < octave - 512 ? double_pair{0.0, 0.0} : negative_.value(octave);
    const auto high = two_sum(up.high, -down.high);
    const auto sum = two_sum(high.sum, high.error + (up.low - down.low));
    const double value = times_power_of_two(sum.sum, octave);
    return {value, value - value == 0 ? times_power_of_two(sum.error, octave) : 0.0};
  }

private:
  exact_sum positive_;
  exact_sum negative_;
  double special_ = 0.0; // the sum of infinities and NaN
};

/// The sum of a row's blocks. Of a single one there is nothing to add up, nor to set to 0 beforehand: `room` is for
/// more.
class sum_of_blocks {
public:
  XSOFTMAX_INLINE explicit sum_of_blocks(signed_sum& room) : all_(room) {}

  XSOFTMAX_INLINE void add(double_pair block) {
    if (blocks_ == 0) {
      first_ = block;
    } else {
      if (blocks_ == 1) {
        all_ = signed_sum();
        all_.add(first_);
      }
      all_.add(block);
    }
    ++blocks_;
  }

  XSOFTMAX_INLINE double value() const { return blocks_ < 2 ? first_.high : all_.value().high; }

private:
  std::size_t blocks_ = 0;
  double_pair first_{0.0, 0.0};
  signed_sum& all_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

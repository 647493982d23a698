// SPDX-License-Identifier: MIT
// Which elements of a row a draw may choose: those that come first when it is sorted, the largest first and of equal
// ones the lowest index, up to a cut that top-k, top-p and min-p set. The row is never sorted: the largest few are
// taken out of it, and where they do not suffice the cut is found by bisection over the values.
#pragma once

#include <xsoftmax/detail/kernel/log_sum_exp.hpp>
#include <xsoftmax/detail/kernel/sample.hpp>
#include <xsoftmax/detail/kernel/softmax_of_row.hpp>
#include <xsoftmax/math/exp.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// What lies above the threshold is kept, and of what equals it the first `ties`.
template <class T>
struct cut {
  T threshold = -__builtin_inff();
  std::size_t ties = npos;

  /// The one that keeps less: what both keep.
  XSOFTMAX_INLINE void join(const cut& other) {
    if (other.threshold > threshold) {
      *this = other;
    } else if (other.threshold == threshold && other.ties < ties) {
      ties = other.ties;
    }
  }

  /// Is the next element, in the order of the row, kept? Counts the ties down.
  XSOFTMAX_INLINE bool keeps(T x) {
    if (x == threshold && ties != 0) {
      --ties;
      return true;
    }
    return x > threshold;
  }
};

/// Numbers in an order of integers, so that a bisection needs as many steps as they have bits.
template <class T>
struct ordered {
  using bits = std::make_unsigned_t<bits_t<T>>;
  static constexpr bits sign = bits{1} << (8 * sizeof(T) - 1);

  static XSOFTMAX_INLINE bits of(T x) {
    const auto b = __builtin_bit_cast(bits, x);
    return (b & sign) != 0 ? static_cast<bits>(~b) : static_cast<bits>(b | sign);
  }

  static XSOFTMAX_INLINE T value(bits b) {
    return __builtin_bit_cast(T, (b & sign) != 0 ? static_cast<bits>(b ^ sign) : static_cast<bits>(~b));
  }

  /// The largest number from `low` up to `high` for which it holds, where it holds for `low` and for all below the
  /// largest.
  template <class Holds>
  static XSOFTMAX_INLINE T last(T low, T high, Holds&& holds) {
    bits known = of(low);
    for (bits rest = of(high) - known; rest != 0;) {
      const bits half = rest - rest / 2;
      if (holds(value(known + half))) {
        known += half;
        rest -= half;
      } else {
        rest = half - 1;
      }
    }
    return value(known);
  }
};

/// The cut of one row without NaN and +inf, whose maximum is finite.
template <class A, class T>
class truncation {
public:
  truncation(const sample_truncated_task<T>& task, std::size_t row, T maximum)
      : task_(task), z_(row_of<T>(task.z, row)), maximum_(maximum) {}

  __attribute__((noinline)) cut<T> run() {
    if (task_.top_k != 0 && task_.top_k < task_.cols) {
      cut_by_rank();
    }
    if (task_.top_p < 1) {
      cut_by_mass();
    }
    if (task_.min_p > 0) {
      cut_by_share();
    }
    return cut_;
  }

private:
  static constexpr std::size_t room = 1024; ///< for the largest elements

  /// body(x, first, last) for the blocks of the row; what the cut so far does not keep is -inf.
  template <class Body>
  XSOFTMAX_INLINE void for_each_kept_block(Body&& body) {
    cut<T> keep = cut_;
    block_buffer<T> buffer;
    for_each_piece<T>(z_, 0, task_.cols, [&](std::size_t first, std::size_t last) {
      block_buffer<T> room_of_z;
      const T* const x = z_.template block<A>(first, last, room_of_z).data;
      for (std::size_t i = 0; i < last - first; ++i) {
        buffer.element[i] = keep.keeps(x[i]) ? x[i] : static_cast<T>(-__builtin_inff());
      }
      body(buffer.element, first, last);
    });
  }

  /// The `count` largest elements of the row, in their order; returns how many there are.
  __attribute__((noinline)) std::size_t take_largest(std::size_t count) {
    largest_elements<A, T> largest(largest_, count);
    for_each_piece<T>(z_, 0, task_.cols, [&](std::size_t first, std::size_t last) {
      block_buffer<T> room_of_z;
      largest.look_at(z_.template block<A>(first, last, room_of_z).data, last - first, first);
    });
    largest.sort();
    taken_ = largest.count();
    return taken_;
  }

  /// Keeps the first `count` of the elements taken.
  XSOFTMAX_INLINE void keep_first(std::size_t count) {
    const T threshold = largest_[count - 1].value;
    std::size_t ties = 0;
    for (std::size_t i = count; i != 0 && largest_[i - 1].value == threshold; --i) {
      ++ties;
    }
    cut_.join({threshold, ties});
  }

  /// Top-k.
  __attribute__((noinline)) void cut_by_rank() {
    const std::size_t k = task_.top_k;
    if (k <= room) {
      if (take_largest(k) == k) {
        keep_first(k);
      }
      return;
    }
    const auto count_from = [&](T threshold) {
      std::size_t count = 0;
      for_each_kept_block([&](const T* x, std::size_t first, std::size_t last) {
        for (std::size_t i = 0; i < last - first; ++i) {
          count += x[i] >= threshold ? 1 : 0;
        }
      });
      return count;
    };
    if (count_from(lowest) < k) {
      return;
    }
    const T threshold = ordered<T>::last(lowest, maximum_, [&](T t) { return count_from(t) >= k; });
    const std::size_t above = threshold == maximum_ ? 0 : count_from(ordered<T>::value(ordered<T>::of(threshold) + 1));
    cut_.join({threshold, k - above});
  }

  /// Top-p, over what top-k has left.
  __attribute__((noinline)) void cut_by_mass() {
    const double wanted = task_.top_p;
    T probability[room];
    if (task_.top_k != 0 && task_.top_k < task_.cols && task_.top_k <= room) {
      // The survivors are at hand.
      probabilities(taken_, nullptr, probability);
      keep_mass(taken_, probability);
      return;
    }
    log_sum_exp_summary whole;
    for_each_kept_block([&](const T* x, std::size_t first, std::size_t last) {
      using task = log_sum_exp_state_task<T>;
      log_sum_exp_state<A, T>::run(task{.what = task::step::push_terms,
                                        .state = &whole,
                                        .temperature = task_.temperature,
                                        .z = source_at(x),
                                        .cols = last - first});
    });
    for (const std::size_t count : {room / 16, room}) {
      const std::size_t taken = take_largest(count);
      probabilities(taken, &whole, probability);
      if (keep_mass(taken, probability)) {
        return;
      }
      if (taken < count) {
        return; // that was the row
      }
    }
    // By the values: the mass from each on.
    const auto mass_from = [&](T threshold) {
      double lane[8] = {};
      for_each_kept_block([&](const T* x, std::size_t first, std::size_t last) {
        block_buffer<T> p;
        softmax_of(x, last - first, &whole, p.element);
        for (std::size_t i = 0; i < last - first; ++i) {
          lane[i % 8] += x[i] >= threshold ? static_cast<double>(p.element[i]) : 0.0;
        }
      });
      return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
    };
    if (mass_from(lowest) < wanted) {
      return; // but for a rounding
    }
    const T threshold = ordered<T>::last(lowest, largest_[room - 1].value, [&](T t) { return mass_from(t) >= wanted; });
    double mass = mass_from(ordered<T>::value(ordered<T>::of(threshold) + 1));
    softmax_of(&threshold, 1, &whole, probability);
    std::size_t ties = 0;
    while (ties < task_.cols && (mass < wanted || ties == 0)) {
      mass += static_cast<double>(probability[0]);
      ++ties;
    }
    cut_.join({threshold, ties});
  }

  /// Softmax of n elements, of a row where its summary is given.
  XSOFTMAX_INLINE void softmax_of(const T* x, std::size_t n, const log_sum_exp_summary* whole, T* p) const {
    softmax<A, T>::run(softmax_of_row<T>(source_at(x), destination_at(p), n, task_.temperature, whole));
  }

  /// Of the elements taken.
  XSOFTMAX_INLINE void probabilities(std::size_t count, const log_sum_exp_summary* whole, T* p) const {
    T x[room];
    for (std::size_t i = 0; i < count; ++i) {
      x[i] = largest_[i].value;
    }
    softmax_of(x, count, whole, p);
  }

  /// Keeps the fewest of the elements taken whose probabilities reach top_p, if they do.
  XSOFTMAX_INLINE bool keep_mass(std::size_t count, const T* p) {
    double mass = 0;
    for (std::size_t i = 0; i < count; ++i) {
      mass += static_cast<double>(p[i]);
      if (mass >= task_.top_p) {
        keep_first(i + 1);
        return true;
      }
    }
    return false;
  }

  /// Min-p: exp((z - max) / T) >= min_p.
  __attribute__((noinline)) void cut_by_share() {
    using D = batch<A, double>;
    const auto maximum = static_cast<double>(maximum_);
    // The least that is kept is the least of which the negative exponent is not too large.
    const auto kept = [&](T z) {
      const double exponent = (static_cast<double>(z) - maximum) / task_.temperature;
      return math::exp<A>(D(exponent)).get(0) >= task_.min_p;
    };
    if (kept(lowest)) {
      return;
    }
    const T below = ordered<T>::last(lowest, maximum_, [&](T z) { return !kept(z); });
    cut_.join({ordered<T>::value(ordered<T>::of(below) + 1), npos});
  }

  static constexpr T lowest = sizeof(T) == sizeof(float) ? T(-0x1.FFFFFEp127) : T(-0x1.FFFFFFFFFFFFFp1023);

  const sample_truncated_task<T>& task_;
  any_row<T, const void> z_;
  T maximum_;
  cut<T> cut_;
  placed<T> largest_[room];
  std::size_t taken_ = 0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Which elements of a row a draw may choose: those that come first when it is sorted, the largest first and of equal
// ones the lowest index, up to a cut that top-k, top-p and min-p set. The row is never sorted: the largest few are
// taken out of it, and where they do not suffice its values are weighed in bins, and the elements of the bin in which
// the cut lies are sorted, or weighed in finer bins.
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

/// Numbers in the order of integers.
template <class T>
struct ordered {
  using bits = std::make_unsigned_t<bits_t<T>>;
  static constexpr bits sign = bits{1} << (8 * sizeof(T) - 1);

  static XSOFTMAX_INLINE bits of(T x) {
    const bits b = x == T{0} ? bits{0} : __builtin_bit_cast(bits, x); // -0 is 0
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

  __attribute__((noinline)) XSOFTMAX_FLATTEN cut<T> run() {
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
  static constexpr std::size_t few = 64;    ///< of them that are taken out first
  static constexpr std::size_t bin_count = 512;

  /// body(x, first, last) for the blocks of the row; what the cut so far does not keep is -inf.
  template <class Body>
  XSOFTMAX_STEP void for_each_kept_block(Body&& body) {
    cut<T> keep = cut_;
    block_buffer<T> buffer;
    for_each_piece<T>(z_, 0, task_.cols, [&](std::size_t first, std::size_t last) {
      block_buffer<T> room_of_z;
      const T* const x = z_.template block<A>(first, last, room_of_z).data;
      if (cut_.threshold == -__builtin_inff()) { // all of them
        body(x, first, last);
        return;
      }
      for (std::size_t i = 0; i < last - first; ++i) {
        buffer.element[i] = keep.keeps(x[i]) ? x[i] : static_cast<T>(-__builtin_inff());
      }
      body(buffer.element, first, last);
    });
  }

  /// The `count` largest elements of the row, in their order; returns how many there are.
  __attribute__((noinline)) XSOFTMAX_FLATTEN std::size_t take_largest(std::size_t count) {
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
  XSOFTMAX_STEP void keep_first(std::size_t count) {
    const T threshold = largest_[count - 1].value;
    std::size_t ties = 0;
    for (std::size_t i = count; i != 0 && largest_[i - 1].value == threshold; --i) {
      ++ties;
    }
    cut_.join({threshold, ties});
  }

  /// Top-k.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void cut_by_rank() {
    const std::size_t k = task_.top_k;
    if (k <= room) {
      if (take_largest(k) == k) {
        keep_first(k);
      }
      return;
    }
    cut_by_weight(static_cast<double>(k), [](const T*, std::size_t n, T* weight) {
      for (std::size_t i = 0; i < n; ++i) {
        weight[i] = T{1};
      }
    });
  }

  /// Top-p, over what top-k has left.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void cut_by_mass() {
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
    const std::size_t taken = take_largest(few);
    probabilities(taken, &whole, probability);
    if (keep_mass(taken, probability) || taken < few) {
      return; // it is reached, or that was the row
    }
    cut_by_weight(wanted, [&](const T* x, std::size_t n, T* weight) { softmax_of(x, n, &whole, weight); });
  }

  /// What is known of the elements in a part of the range of values.
  struct bin {
    double weight = 0;
    std::size_t count = 0;
    T least;
    T most;
  };

  /// Keeps the fewest first elements whose weights reach `wanted`, if all together do. weigh(x, n, weights).
  template <class Weigh>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void cut_by_weight(double wanted, Weigh&& weigh) {
    double above = 0; // of the elements above the range
    T most = maximum_;
    T least = lowest;
    for (bool first_pass = true;; first_pass = false) {
      bin bins[bin_count];
      if (first_pass) {
        // Of equal width, down to where logits weigh nothing; what lies below is in the last.
        const double scale = static_cast<double>(bin_count - 1) / (64 * task_.temperature);
        fill(bins, least, most, weigh, [&](T value) XSOFTMAX_STEP_LAMBDA {
          const double place = (static_cast<double>(most) - static_cast<double>(value)) * scale;
          return place < bin_count - 1 ? static_cast<std::size_t>(place) : bin_count - 1;
        });
      } else {
        // Of as many numbers each: then one at least is divided.
        const auto top = ordered<T>::of(most);
        const auto width = (top - ordered<T>::of(least)) / bin_count + 1;
        fill(bins, least, most, weigh, [&](T value) XSOFTMAX_STEP_LAMBDA {
          return static_cast<std::size_t>((top - ordered<T>::of(value)) / width);
        });
      }
      std::size_t b = 0;
      while (b < bin_count && !(above + bins[b].weight >= wanted)) {
        above += bins[b].weight;
        ++b;
      }
      if (b == bin_count) { // reached but for a rounding
        if (!first_pass) {
          cut_.join({least, npos});
        }
        return;
      }
      const bin& chosen = bins[b];
      if (chosen.least == chosen.most) {
        keep_ties(chosen.least, above, wanted, weigh);
        return;
      }
      if (chosen.count <= room) {
        keep_within(chosen, above, wanted, weigh);
        return;
      }
      least = chosen.least;
      most = chosen.most;
    }
  }

  /// Weighs the elements from `least` to `most`, which place() puts into bins, the largest first.
  template <class Weigh, class Place>
  XSOFTMAX_STEP void fill(bin (&bins)[bin_count], T least, T most, Weigh&& weigh, Place&& place) {
    for_each_kept_block([&](const T* x, std::size_t first, std::size_t last) {
      block_buffer<T> weight;
      weigh(x, last - first, weight.element);
      for (std::size_t i = 0; i < last - first; ++i) {
        const T value = x[i];
        if (value > most || value < least) { // also -inf
          continue;
        }
        bin& of = bins[place(value)];
        of.weight += static_cast<double>(weight.element[i]);
        of.least = of.count == 0 || value < of.least ? value : of.least;
        of.most = of.count == 0 || value > of.most ? value : of.most;
        ++of.count;
      }
    });
  }

  /// Elements above the threshold weigh `above`; of those equal to it as many as are needed.
  template <class Weigh>
  XSOFTMAX_STEP void keep_ties(T threshold, double above, double wanted, Weigh&& weigh) {
    T weight;
    weigh(&threshold, 1, &weight);
    std::size_t ties = 0;
    while (ties < task_.cols && (above < wanted || ties == 0)) {
      above += static_cast<double>(weight);
      ++ties;
    }
    cut_.join({threshold, ties});
  }

  /// The same for a bin of few elements.
  template <class Weigh>
  XSOFTMAX_STEP void keep_within(const bin& chosen, double above, double wanted, Weigh&& weigh) {
    largest_elements<A, T> largest(largest_, chosen.count);
    for_each_kept_block([&](const T* x, std::size_t first, std::size_t last) {
      block_buffer<T> within;
      for (std::size_t i = 0; i < last - first; ++i) {
        within.element[i] = x[i] >= chosen.least && x[i] <= chosen.most ? x[i] : static_cast<T>(-__builtin_inff());
      }
      largest.look_at(within.element, last - first, first);
    });
    largest.sort();
    T x[room];
    T weight[room];
    for (std::size_t i = 0; i < chosen.count; ++i) {
      x[i] = largest_[i].value;
    }
    weigh(x, chosen.count, weight);
    for (std::size_t i = 0; i < chosen.count; ++i) {
      above += static_cast<double>(weight[i]);
      if (above >= wanted || i + 1 == chosen.count) {
        keep_first(i + 1);
        return;
      }
    }
  }

  /// Softmax of n elements, of a row where its summary is given.
  XSOFTMAX_STEP void softmax_of(const T* x, std::size_t n, const log_sum_exp_summary* whole, T* p) const {
    softmax<A, T>::run(softmax_of_row<T>(source_at(x), destination_at(p), n, task_.temperature, whole));
  }

  /// Of the elements taken.
  XSOFTMAX_STEP void probabilities(std::size_t count, const log_sum_exp_summary* whole, T* p) const {
    T x[room];
    for (std::size_t i = 0; i < count; ++i) {
      x[i] = largest_[i].value;
    }
    softmax_of(x, count, whole, p);
  }

  /// Keeps the fewest of the elements taken whose probabilities reach top_p, if they do.
  XSOFTMAX_STEP bool keep_mass(std::size_t count, const T* p) {
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
  __attribute__((noinline)) XSOFTMAX_FLATTEN void cut_by_share() {
    using D = batch<A, double>;
    // In halves where the temperature allows it: no difference overflows.
    const double unit = task_.temperature >= 1 ? 0.5 : 1.0;
    const double maximum = static_cast<double>(maximum_) * unit;
    const double temperature = task_.temperature * unit;
    // The least that is kept is the least of which the negative exponent is not too large.
    const auto kept = [&](T z) {
      const double exponent = (static_cast<double>(z) * unit - maximum) / temperature;
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

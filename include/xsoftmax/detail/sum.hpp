// SPDX-License-Identifier: MIT
// The reduction: one fixed tree, whatever the architecture, the algorithm, the number of threads.
//
//   lane    Element i of a block enters virtual lane i mod L. In float two neighbours of a lane (elements i and i + L
//           of an aligned run of 2L) are added first, with a relative error of 2^-24 at most, and everything beyond is
//           double; in double each element is added without error (Knuth's TwoSum).
//   block   The L lanes of a block are added as a binary tree: i with i + L/2, then i + L/4, ...
//   row     Block sums enter an integer accumulator that is exact down to 2^-128 of the largest: blocks may come in any
//           order, from any thread, relative to any power of two.
//
// Elements that are absent or masked add exact zeros, so padding changes nothing.
#pragma once

#include <xsoftmax/detail/chunk.hpp>
#include <xsoftmax/detail/sum_digits.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// L, the virtual lanes of a block. Few enough for L accumulators per column in a kernel over columns.
template <class T>
inline constexpr std::size_t virtual_lanes = 64 / sizeof(T);

/// Elements of a block: 8 KiB, so that a block stays in the first-level cache between two looks at it.
template <class T>
inline constexpr std::size_t block_size = 8192 / sizeof(T);

/// The smallest run that the tree is defined on: neighbours of a lane are added in pairs.
template <class T>
inline constexpr std::size_t group_size = 2 * virtual_lanes<T>;

/// An unevaluated sum high + low, |low| <= ulp(high) / 2.
struct double_pair {
  double high;
  double low;
};

/// s + error = a + b exactly (Knuth).
template <class B>
struct two_sum_result {
  B sum;
  B error;
};

template <class B>
XSOFTMAX_INLINE two_sum_result<B> two_sum(B a, B b) {
  const B sum = a + b;
  const B b_part = sum - a;
  const B a_part = sum - b_part;
  return {sum, (a - a_part) + (b - b_part)};
}

/// The lower part of a pair, or of a batch of pairs, rounded to about 2^-102 of the upper. What has been through it
/// once stays as it is, so that a block's sum and the accumulator's value of that one block are the same pair.
template <class D>
XSOFTMAX_INLINE D rounded_low(D high, D low) {
  const D grid = high * D(0x1p-50);
  return (low + grid) - grid;
}

XSOFTMAX_INLINE double_pair rounded_pair(double high, double low) {
  return {high, rounded_low(high, low)};
}

/// The lanes of v added as a binary tree: i with i + half.
template <class N, class V>
XSOFTMAX_INLINE double add_lanes(V v) {
  if constexpr (std::is_same_v<V, double>) {
    return v;
  } else {
    return add_lanes<typename N::half>(N::lower_half(v) + N::upper_half(v));
  }
}

/// The same without rounding errors: those of the sums are collected in the lower parts.
template <class N, class V>
XSOFTMAX_INLINE double_pair add_lanes(V high, V low) {
  if constexpr (std::is_same_v<V, double>) {
    const auto s = two_sum(high, low); // sums of either sign may cancel: low need not be the smaller
    return rounded_pair(s.sum, s.error);
  } else {
    const auto s = two_sum(N::lower_half(high), N::upper_half(high));
    return add_lanes<typename N::half>(s.sum, (N::lower_half(low) + N::upper_half(low)) + s.error);
  }
}

/// power * (1 + q), not yet rounded: |q| < 1/2, and for double the power is one of 2.
template <class V>
struct precise_term {
  V power;
  V q;
};

/// A number that enters a lane of doubles, and by how much it was rounded up.
template <class D>
struct addend {
  D value;
  D excess;
};

/// Sums of several rows, as pairs, a lane each.
template <class D>
struct row_totals {
  D high;
  D low;
};

/// A batch of virtual lanes.
template <class A, class T>
struct lane_batch;

/// Doubles: floats added in pairs lose nothing that counts there.
template <class A>
struct lane_batch<A, float> {
  using D = batch<A, double>;
  static constexpr std::size_t parts = 1;

  D sum = D(0.0);

  XSOFTMAX_STEP void add(D e) { sum += e; }

  XSOFTMAX_STEP void merge(const lane_batch& other) { sum += other.sum; }

  /// The lanes added as a tree.
  XSOFTMAX_STEP double_pair total() const { return {add_lanes<native<A>>(sum), 0.0}; }

  /// One level of the trees of several rows: their lanes in units of `Unit`, even ones with odd ones.
  template <std::size_t Unit>
  static XSOFTMAX_STEP lane_batch level(const lane_batch& a, const lane_batch& b) {
    lane_batch even;
    lane_batch odd;
    native<A>::template deal<Unit>(a.sum, b.sum, even.sum, odd.sum);
    even.merge(odd);
    return even;
  }

  /// Where each lane is the sum of a row.
  XSOFTMAX_STEP row_totals<D> totals() const { return {sum, D(0.0)}; }

  /// part(j) is where the numbers number j of all lanes lie.
  template <class Part>
  XSOFTMAX_STEP void load(Part&& part) {
    sum = native<A>::load(part(0));
  }

  template <class Part>
  XSOFTMAX_STEP void store(Part&& part) const {
    native<A>::store(part(0), sum);
  }
};

/// Pairs of doubles, which lose nothing.
template <class A>
struct lane_batch<A, double> {
  using D = batch<A, double>;
  static constexpr std::size_t parts = 2;

  D high = D(0.0);
  D low = D(0.0);

  XSOFTMAX_STEP void add(D e) { low += add_high(e); }

  XSOFTMAX_STEP void add(const addend<D>& e) { low += add_high(e.value) - e.excess; }

  /// Without rounding error: power * q is exact.
  XSOFTMAX_STEP void add(const precise_term<D>& e) {
    const D small = e.power * e.q;
    const D rounded = e.power + small;
    low += add_high(rounded) + (small - (rounded - e.power));
  }

  XSOFTMAX_STEP void merge(const lane_batch& other) { low = (low + other.low) + add_high(other.high); }

  XSOFTMAX_STEP double_pair total() const { return add_lanes<native<A>>(high, low); }

  template <std::size_t Unit>
  static XSOFTMAX_STEP lane_batch level(const lane_batch& a, const lane_batch& b) {
    lane_batch even;
    lane_batch odd;
    native<A>::template deal<Unit>(a.high, b.high, even.high, odd.high);
    native<A>::template deal<Unit>(a.low, b.low, even.low, odd.low);
    even.merge(odd);
    return even;
  }

  XSOFTMAX_STEP row_totals<D> totals() const {
    const auto s = two_sum(high, low);
    return {s.sum, rounded_low(s.sum, s.error)};
  }

  template <class Part>
  XSOFTMAX_STEP void load(Part&& part) {
    high = native<A>::load(part(0));
    low = native<A>::load(part(1));
  }

  template <class Part>
  XSOFTMAX_STEP void store(Part&& part) const {
    native<A>::store(part(0), high);
    native<A>::store(part(1), low);
  }

private:
  /// Returns what the addition rounds away.
  XSOFTMAX_STEP D add_high(D e) {
    const auto s = two_sum(high, e);
    high = s.sum;
    return s.error;
  }
};

/// What two neighbours of a lane add to it.
template <class A>
XSOFTMAX_STEP pack<batch<A, double>, 2> neighbours(batch<A, float> x, batch<A, float> y) {
  pack<batch<A, double>, 2> both;
  native<A>::widen(x + y, both.v[0], both.v[1]);
  return both;
}

/// The same of precise terms: only the small parts power * q of two neighbours are added in float.
template <class A>
XSOFTMAX_STEP pack<batch<A, double>, 2> neighbours(const precise_term<batch<A, float>>& x,
                                                   const precise_term<batch<A, float>>& y) {
  using D = batch<A, double>;
  D x_low, x_high, y_low, y_high, small_low, small_high;
  native<A>::widen(x.power, x_low, x_high);
  native<A>::widen(y.power, y_low, y_high);
  native<A>::widen(native<A>::multiply_add(y.power, y.q, x.power * x.q), small_low, small_high);
  return {{(x_low + y_low) + small_low, (x_high + y_high) + small_high}};
}

/// The neighbour of one that has none.
template <class A>
XSOFTMAX_STEP batch<A, float> absent_neighbour(batch<A, float>) {
  return batch<A, float>(0.0f);
}

template <class A>
XSOFTMAX_STEP precise_term<batch<A, float>> absent_neighbour(const precise_term<batch<A, float>>&) {
  return {batch<A, float>(0.0f), batch<A, float>(0.0f)};
}

/// Are elements E of a lane added in pairs before they enter it?
template <class A, class E>
inline constexpr bool enters_in_pairs =
    std::is_same_v<E, batch<A, float>> || std::is_same_v<E, precise_term<batch<A, float>>>;

/// The lanes of one block.
template <class A, class T>
class lane_sum {
public:
  /// Adds an aligned run of one or more groups, the last of which may be half of one: terms as T, as precise terms, or
  /// what else a lane takes.
  template <class E, std::size_t N>
  XSOFTMAX_STEP void add(const pack<E, N>& e) {
    if constexpr (enters_in_pairs<A, E>) {
      constexpr std::size_t per_lanes = virtual_lanes<T> / lanes<A, T>;
      static_assert(N % per_lanes == 0);
      const auto enter = [&](auto b, const pack<batch<A, double>, 2>& both) XSOFTMAX_STEP_LAMBDA {
        lane_[2 * decltype(b)::value].add(both.v[0]);
        lane_[2 * decltype(b)::value + 1].add(both.v[1]);
      };
      unroll<N / (2 * per_lanes)>([&](auto g) XSOFTMAX_STEP_LAMBDA {
        unroll<per_lanes>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          constexpr std::size_t first = decltype(g)::value * 2 * per_lanes + decltype(b)::value;
          enter(b, neighbours<A>(e.v[first], e.v[first + per_lanes]));
        });
      });
      if constexpr (N % (2 * per_lanes) != 0) {
        unroll<per_lanes>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          const E& alone = e.v[N - per_lanes + decltype(b)::value];
          enter(b, neighbours<A>(alone, absent_neighbour<A>(alone)));
        });
      }
    } else {
      static_assert(N % batches == 0);
      unroll<N>([&](auto b) XSOFTMAX_STEP_LAMBDA { lane_[decltype(b)::value % batches].add(e.v[decltype(b)::value]); });
    }
  }

  /// The block's sum, lanes added as a tree: batches first, then the lanes of the one that is left.
  XSOFTMAX_STEP double_pair total() const { return one_batch().total(); }

  /// The levels of the tree that need no lane of another batch.
  XSOFTMAX_STEP lane_batch<A, T> one_batch() const {
    lane_sum t = *this;
    t.template add_halves<batches>();
    return t.lane_[0];
  }

private:
  static constexpr std::size_t batches = virtual_lanes<T> / lanes<A, double>;

  template <std::size_t Count>
  XSOFTMAX_STEP void add_halves() {
    if constexpr (Count > 1) {
      unroll<Count / 2>(
          [&](auto b) XSOFTMAX_STEP_LAMBDA { lane_[decltype(b)::value].merge(lane_[decltype(b)::value + Count / 2]); });
      add_halves<Count / 2>();
    }
  }

  lane_batch<A, T> lane_[batches];
};

/// Floats as doubles, in the same order.
template <class A, std::size_t N>
XSOFTMAX_STEP pack<batch<A, double>, 2 * N> widened(const pack<batch<A, float>, N>& x) {
  pack<batch<A, double>, 2 * N> y;
  unroll<N>([&](auto b) XSOFTMAX_STEP_LAMBDA {
    native<A>::widen(x.v[decltype(b)::value], y.v[2 * decltype(b)::value], y.v[2 * decltype(b)::value + 1]);
  });
  return y;
}

/// A pack of floats or doubles in double.
template <class A, class V, std::size_t N>
XSOFTMAX_STEP auto in_doubles(const pack<V, N>& x) {
  if constexpr (sizeof(typename V::value_type) == sizeof(float)) {
    return widened<A>(x);
  } else {
    return x;
  }
}

/// Are terms of float added in pairs before they become doubles, at 2^-24 of their sum?
enum class neighbour_sum : unsigned char { in_float, in_double };

/// The lanes of one block of terms, which are not negative: the same sum, but not finite if a term is not.
template <class A, class T, neighbour_sum Neighbours = neighbour_sum::in_float>
class term_sum : public lane_sum<A, T> {
public:
  XSOFTMAX_STEP term_sum() {}

  /// Of such a run.
  template <std::size_t N>
  XSOFTMAX_STEP explicit term_sum(const pack<batch<A, T>, N>& e) {
    add(e);
  }

  template <std::size_t N>
  XSOFTMAX_STEP void add(const pack<batch<A, T>, N>& e) {
    if constexpr (Neighbours == neighbour_sum::in_double && sizeof(T) == sizeof(float)) {
      lane_sum<A, T>::add(widened<A>(e));
    } else {
      lane_sum<A, T>::add(e);
    }
  }
};

/// Can positive floats become doubles by a shift of their bits?
template <class A>
inline constexpr bool shifts_to_double = requires(batch<A, float> v, batch<A, double>& d) {
  native<A>::shift_to_double(v, d, d);
};

/// What term_sum leaves of the lanes of a row, or of several rows.
template <class A>
struct shifted_lanes {
  using D = batch<A, double>;

  D even; ///< the lanes at even places
  D odd;

  /// As in lane_batch.
  template <std::size_t Unit>
  static XSOFTMAX_STEP shifted_lanes level(const shifted_lanes& a, const shifted_lanes& b) {
    D even_first, even_second, odd_first, odd_second;
    native<A>::template deal<Unit>(a.even, b.even, even_first, even_second);
    native<A>::template deal<Unit>(a.odd, b.odd, odd_first, odd_second);
    return {even_first + even_second, odd_first + odd_second};
  }

  /// As in lane_batch, and the last level.
  XSOFTMAX_STEP row_totals<D> totals() const { return {(even + odd) * D(0x1p896), D(0.0)}; }
};

/// Shifted, which takes less than a conversion: 2^-896 times the terms, since the exponents keep their bits. Even lanes
/// are in one batch, odd lanes in another, and meet at the last level of the tree. Terms are below 2^111, so that a
/// block's sum is below 2^128, which is what the exponent of an infinite or NaN float stands for.
template <class A, neighbour_sum Neighbours>
requires shifts_to_double<A>
class term_sum<A, float, Neighbours> {
public:
  XSOFTMAX_STEP term_sum() : even_(zeros()), odd_(zeros()) {}

  /// Of such a run.
  template <std::size_t N>
  XSOFTMAX_STEP explicit term_sum(const pack<batch<A, float>, N>& e) {
    enter<true>(e);
  }

  /// As lane_sum.
  template <std::size_t N>
  XSOFTMAX_STEP void add(const pack<batch<A, float>, N>& e) {
    enter<false>(e);
  }

  /// The levels of the tree that need no lane of another batch.
  XSOFTMAX_STEP shifted_lanes<A> one_batch() const {
    if constexpr (per_lanes == 2) {
      return {even_.v[0] + even_.v[1], odd_.v[0] + odd_.v[1]};
    } else {
      return {even_.v[0], odd_.v[0]};
    }
  }

  /// The tree of lane_sum.
  XSOFTMAX_STEP double_pair total() const {
    const auto lanes = one_batch();
    const double sum = add_lanes_apart<native<A>>(lanes.even, lanes.odd) * 0x1p896;
    return {sum < 0x1p128 ? sum : __builtin_inf(), 0.0};
  }

private:
  using D = batch<A, double>;
  static constexpr std::size_t per_lanes = virtual_lanes<float> / lanes<A, float>;
  static_assert(per_lanes <= 2);

  static XSOFTMAX_STEP pack<D, per_lanes> zeros() {
    return make_pack<per_lanes>([](auto) XSOFTMAX_STEP_LAMBDA { return D(0.0); });
  }

  /// IsFirst: what it is added to is 0.
  template <bool IsFirst, std::size_t N>
  XSOFTMAX_STEP void enter(const pack<batch<A, float>, N>& e) {
    static_assert(N % per_lanes == 0);
    if constexpr (Neighbours == neighbour_sum::in_double) {
      unroll<N>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        constexpr bool is_first = IsFirst && at < per_lanes;
        enter_lanes<is_first, at % per_lanes>(e.v[at]);
      });
    } else {
      unroll<N / (2 * per_lanes)>([&](auto g) XSOFTMAX_STEP_LAMBDA {
        unroll<per_lanes>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          constexpr std::size_t at = decltype(b)::value;
          constexpr std::size_t first = decltype(g)::value * 2 * per_lanes + at;
          constexpr bool is_first = IsFirst && first < per_lanes;
          enter_lanes<is_first, at>(e.v[first] + e.v[first + per_lanes]);
        });
      });
      if constexpr (N % (2 * per_lanes) != 0) {
        unroll<per_lanes>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          constexpr std::size_t at = decltype(b)::value;
          enter_lanes<IsFirst && N == per_lanes, at>(e.v[N - per_lanes + at]);
        });
      }
    }
  }

  template <bool IsFirst, std::size_t At>
  XSOFTMAX_STEP void enter_lanes(batch<A, float> e) {
    D even;
    D odd;
    native<A>::shift_to_double(e, even, odd);
    even_.v[At] = IsFirst ? even : even_.v[At] + even;
    odd_.v[At] = IsFirst ? odd : odd_.v[At] + odd;
  }

  template <class N, class V>
  static XSOFTMAX_STEP double add_lanes_apart(V even, V odd) {
    if constexpr (V::size == 2) {
      // The last two levels of either: (0, 1) + (2, 3), then the lanes of both.
      V first, second;
      N::template deal<1>(even, odd, first, second);
      return add_lanes<N>(first + second);
    } else {
      return add_lanes_apart<typename N::half>(N::lower_half(even) + N::upper_half(even),
                                               N::lower_half(odd) + N::upper_half(odd));
    }
  }

  pack<D, per_lanes> even_;
  pack<D, per_lanes> odd_;
};

/// The sums of as many rows as a batch of doubles has lanes, a lane each in their order. lanes_of_row(index_constant)
/// gives the one_batch() of a row, by reference, since g++ copies it in small pieces; the levels of the trees that are
/// left are those of all rows at once.
template <class A, std::size_t Unit = 1, std::size_t First = 0, std::size_t Step = 1, class Lanes>
XSOFTMAX_STEP decltype(auto) sums_of_rows(Lanes&& lanes_of_row) {
  constexpr std::size_t width = lanes<A, double>;
  if constexpr (Unit == width) {
    return lanes_of_row(index_constant<First>{});
  } else {
    // What is dealt one by one comes out from either in turn, larger units one after the other.
    constexpr std::size_t step = Unit == 1 ? 2 : Step;
    constexpr std::size_t second = Unit == 1 ? 1 : First + Step * (width / (2 * Unit));
    const auto& a = sums_of_rows<A, 2 * Unit, First, step>(lanes_of_row);
    const auto& b = sums_of_rows<A, 2 * Unit, second, step>(lanes_of_row);
    return std::remove_cvref_t<decltype(a)>::template level<Unit>(a, b);
  }
}

/// The value of a positive double as integer significand * 2^exponent.
struct decoded {
  std::uint64_t significand;
  std::int64_t exponent;
};

XSOFTMAX_INLINE decoded decode(double v) {
  const auto bits = __builtin_bit_cast(std::uint64_t, v);
  const std::uint64_t fraction = bits & 0xFFFFFFFFFFFFFu;
  const auto field = static_cast<std::int64_t>((bits >> 52) & 0x7FF);
  return field == 0 ? decoded{fraction, -1074} : decoded{fraction | 0x10000000000000u, field - 1075};
}

/// 2^exponent for -1022 <= exponent <= 1023.
XSOFTMAX_INLINE constexpr double power_of_two(std::int64_t exponent) {
  return __builtin_bit_cast(double, static_cast<std::uint64_t>(exponent + 1023) << 52);
}

/// The octave of a positive normal double: floor(log2(v)).
XSOFTMAX_INLINE constexpr std::int64_t octave_of_double(double v) {
  return static_cast<std::int64_t>(__builtin_bit_cast(std::uint64_t, v) >> 52) - 1023;
}

/// Sum of non-negative numbers (high + low) * 2^octave, independent of their order and of how they are split between
/// accumulators: digits of 32 bits at fixed places of the binary expansion, five of them, from the leading digit of the
/// largest number down. What lies below is dropped number by number, so that nothing depends on the order either.
/// Trivially copyable; a default one is empty.
class exact_sum : private sum_digits {
public:
  XSOFTMAX_INLINE exact_sum() {}

  XSOFTMAX_INLINE explicit exact_sum(const sum_digits& stored) : sum_digits(stored) {}

  XSOFTMAX_INLINE const sum_digits& stored() const { return *this; }

  /// high finite and positive or zero, octave in +-2^62. The number counts `times` times, which is less than 2^31: as
  /// if it had been added as often.
  XSOFTMAX_INLINE void add(double_pair v, std::int64_t octave, std::uint64_t times = 1) {
    if (v.high == 0) {
      return;
    }
    // value = (upper * 2^64 + lower) * 2^exponent
    const decoded high = decode(v.high);
    std::uint64_t upper = high.significand;
    std::uint64_t lower = 0;
    if (v.low != 0) {
      const decoded low = decode(v.low);
      const std::int64_t shift = low.exponent - high.exponent + 64;
      if (shift >= 64) { // both subnormal: the lower part is not small, only smaller
        const std::uint64_t part = low.significand << (shift - 64);
        upper = v.low > 0 ? upper + part : upper - part;
      } else {
        const std::uint64_t part = shift >= 0 ? low.significand << shift : shift > -64 ? low.significand >> -shift : 0;
        if (v.low > 0) {
          lower = part;
        } else if (part != 0) {
          upper -= 1;
          lower = 0 - part;
        }
      }
    }
    const std::int64_t exponent = high.exponent - 64 + octave;
    const std::int64_t place = exponent >> 5;
    const auto shift = static_cast<unsigned>(exponent & 31);
    // The 117 bits shifted left by less than 32, in five digits.
    const std::uint64_t shifted_low = lower << shift;
    const std::uint64_t shifted_mid = (upper << shift) | (shift == 0 ? 0 : lower >> (64 - shift));
    const std::uint64_t shifted_top = shift == 0 ? 0 : upper >> (64 - shift);
    const std::uint64_t digit[5] = {shifted_low & mask, shifted_low >> 32, shifted_mid & mask, shifted_mid >> 32,
                                    shifted_top};
    const std::int64_t leading = place + (digit[4] != 0 ? 4 : digit[3] != 0 ? 3 : 2);
    raise_to(leading);
    for (std::int64_t j = 0; j < 5; ++j) {
      const std::int64_t below = top_ - (place + j);
      if (below >= 0 && below < digits) {
        digit_[below] += digit[j] * times;
      }
    }
  }

  /// The numbers of another sum join this one.
  XSOFTMAX_INLINE void merge(const exact_sum& other) {
    raise_to(other.top_);
    for (std::int64_t j = 0; j < digits; ++j) {
      const std::int64_t below = top_ - (other.top_ - j);
      if (below < digits) {
        digit_[below] += other.digit_[j];
      }
    }
  }

  static constexpr std::int64_t octaves = 96;

  XSOFTMAX_INLINE bool empty() const { return top_ == lowest; }

  /// The binary place of the leading digit: the sum is in [2^octave, 2^(octave + octaves)). Far below every number if
  /// it is empty.
  XSOFTMAX_INLINE std::int64_t octave() const { return empty() ? lowest : top_ * digit_bits; }

  /// Makes room for 2^31 more additions of normal digits, if there is none left: carries move up, and only what they
  /// leave in the leading digit can cost the lowest one, after the sum has grown by 2^32. The bits then depend on when
  /// that was, by less than 2^-126 of the sum.
  XSOFTMAX_INLINE void make_room() {
    std::uint64_t largest = 0;
    for (const std::uint64_t digit : digit_) {
      largest = digit > largest ? digit : largest;
    }
    if (largest >> 62 == 0) {
      return;
    }
    for (std::int64_t j = digits - 1; j > 0; --j) {
      digit_[j - 1] += digit_[j] >> 32;
      digit_[j] &= mask;
    }
    if (digit_[0] > mask) {
      raise_to(top_ + 1);
      digit_[0] = digit_[1] >> 32;
      digit_[1] &= mask;
    }
  }

  /// The sum * 2^-octave as a rounded pair. It must be in the range of normal doubles.
  XSOFTMAX_INLINE double_pair value(std::int64_t octave) const {
    // Carries first: six digits, the leading one from the carries.
    std::uint64_t word[digits + 1];
    std::uint64_t carry = 0;
    for (std::int64_t j = digits - 1; j >= 0; --j) {
      const std::uint64_t sum = digit_[j] + carry;
      word[j + 1] = sum & mask;
      carry = sum >> 32;
    }
    word[0] = carry;
    // Then the 128 bits from the leading one on.
    std::int64_t first = 0;
    while (first < 2 && word[first] == 0) {
      ++first;
    }
    const auto at = [&](std::int64_t j) XSOFTMAX_LAMBDA { return j <= digits ? word[j] : 0; };
    std::uint64_t upper = (at(first) << 32) | at(first + 1);
    std::uint64_t lower = (at(first + 2) << 32) | at(first + 3);
    const std::uint64_t rest = at(first + 4) << 32;
    const int zeros = __builtin_clzll(upper);
    if (zeros != 0) {
      upper = (upper << zeros) | (lower >> (64 - zeros));
      lower = (lower << zeros) | (rest >> (64 - zeros));
    }
    // upper * 2^exponent + lower * 2^(exponent - 64): the nearest 53 bits, and 64 of the rest.
    const std::int64_t exponent = (top_ - first) * digit_bits - zeros - octave;
    const std::uint64_t below = upper & 0x7FF;
    const bool up = below > 0x400 || (below == 0x400 && (lower != 0 || (upper & 0x800) != 0));
    const auto high = static_cast<double>((upper >> 11) + (up ? 1 : 0));
    const auto low = static_cast<std::int64_t>(((below - (up ? 0x800 : 0)) << 52) | (lower >> 12));
    return rounded_pair(high * power_of_two(exponent + 11), static_cast<double>(low) * power_of_two(exponent - 52));
  }

private:
  static constexpr std::int64_t digit_bits = 32;
  static constexpr std::uint64_t mask = 0xFFFFFFFFu;

  XSOFTMAX_INLINE void raise_to(std::int64_t leading) {
    if (leading <= top_) {
      return;
    }
    const std::int64_t by = leading - top_;
    for (std::int64_t j = digits - 1; j >= 0; --j) {
      digit_[j] = j >= by ? digit_[j - by] : 0;
    }
    top_ = leading;
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

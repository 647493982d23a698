// SPDX-License-Identifier: MIT
// The partition function of a line of logits, over one row, in double:
//
//   F(t) = sum of exp(zeta_k + d_k t)        zeta_k = (z_k - largest) / T, d_k the scaled slope from an origin
//
// at real and at complex points. Elements enter one of 16 lanes of a block by their place, and blocks are added
// exactly: the same bits on every architecture. Classes whose logit is -inf take no part, whatever their slope.
#pragma once

#include <xsoftmax/detail/convergence_task.hpp>
#include <xsoftmax/detail/kernel/backward.hpp>
#include <xsoftmax/detail/kernel/slope_range.hpp>
#include <xsoftmax/math/sincos.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A sum of T in 16 lanes, however many there are in a batch. Chunks begin at multiples of 16.
template <class A, class T>
class fixed_lanes {
public:
  template <std::size_t N>
  XSOFTMAX_STEP void add(const pack<batch<A, T>, N>& e) {
    unroll<N>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      lane_.v[at % batches] = lane_.v[at % batches] + e.v[at];
    });
  }

  /// As a tree, in double.
  XSOFTMAX_STEP double total() const {
    return add_lanes<native<A>>(
        fold_batches(in_doubles<A>(lane_), [](auto a, auto b) XSOFTMAX_STEP_LAMBDA { return a + b; }));
  }

private:
  static constexpr std::size_t count = 16;
  static constexpr std::size_t batches = count / lanes<A, T>;

  pack<batch<A, T>, batches> lane_ = make_pack<batches>([](auto) XSOFTMAX_STEP_LAMBDA { return batch<A, T>(T{}); });
};

/// The classes whose weights reach a level first, to the right and to the left. By their speeds d / gap, the inverse of
/// the distances: no division by 0.
template <class A>
class fastest_classes {
public:
  template <class V, std::size_t Size>
  XSOFTMAX_STEP void add(const pack<V, Size>& zeta, const pack<V, Size>& d, double level) {
    using N = native<A>;
    using Value = typename V::value_type;
    const V least_gap(static_cast<Value>(sizeof(Value) == 4 ? 0x1p-60 : 0x1p-500)); // no speed is infinite
    const V unit(static_cast<Value>(speed_unit<V>));
    const V zero(Value{});
    speeds<V>& fastest = of(zero);
    unroll<Size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      const V gap = N::max_keeping_nan(V(static_cast<Value>(level)) - zeta.v[at], least_gap);
      const V speed = N::zero_where_equal(d.v[at], zero, N::divide(d.v[at] * unit, gap));
      fastest.right = N::max_dropping_nan(speed, fastest.right);
      fastest.left = N::max_dropping_nan(negated(speed), fastest.left);
    });
  }

  /// The distances.
  XSOFTMAX_STEP void write(double* right_and_left) const {
    right_and_left[0] = distance(floats_.right, doubles_.right);
    right_and_left[1] = distance(floats_.left, doubles_.left);
  }

private:
  template <class V>
  struct speeds {
    V right = V(typename V::value_type{});
    V left = V(typename V::value_type{});
  };

  using F = batch<A, float>;
  using D = batch<A, double>;

  /// Keeps those of the largest gaps of doubles above the subnormal numbers.
  template <class V>
  static constexpr double speed_unit = sizeof(typename V::value_type) == 4 ? 1.0 : 0x1p60;

  XSOFTMAX_STEP speeds<F>& of(F) { return floats_; }

  XSOFTMAX_STEP speeds<D>& of(D) { return doubles_; }

  static XSOFTMAX_STEP double distance(F floats, D doubles) {
    const auto f = static_cast<double>(native<A>::largest_lane(floats)) * (speed_unit<D> / speed_unit<F>);
    const double d = native<A>::largest_lane(doubles);
    return speed_unit<D> / (f > d ? f : d);
  }

  speeds<F> floats_;
  speeds<D> doubles_;
};

template <class A, class T>
class partition_row {
public:
  XSOFTMAX_STEP explicit partition_row(const partition_function_task<T>& task)
      : task_(task), divided_(task.temperature), z_(row_of<T>(task.z, 0)), a_(row_of<T>(task.a, 0)) {}

  __attribute__((noinline)) XSOFTMAX_FLATTEN void range() const {
    const slope_range<T> found = range_of_row<A, T, true>(z_, a_, task_.cols);
    task_.result[0] = static_cast<double>(found.least);
    task_.result[1] = static_cast<double>(found.greatest);
    task_.result[2] = static_cast<double>(found.largest);
    task_.result[3] = found.valid ? slope_of(found.largest) : 0.0;
    task_.result[4] = found.valid ? 1.0 : 0.0;
  }

  /// Each slope votes with its weight, for itself or against whoever leads (Boyer and Moore). As many ballots as there
  /// are lanes, however wide a batch is.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void vote() const {
    constexpr std::size_t ballots = 16;
    constexpr std::size_t width = lanes<A, float>;
    pack<F, ballots / width> leader = make_pack<ballots / width>([](auto) XSOFTMAX_STEP_LAMBDA { return F(0.0f); });
    pack<F, ballots / width> lead = leader;
    const scaled_exp<float> exp;
    each_rough_chunk([&](const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA {
      const auto weight = exp.template of<false>(in_floats(zeta));
      const auto slope = in_floats(d);
      unroll<std::remove_cvref_t<decltype(weight)>::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        F& first = leader.v[at % (ballots / width)];
        F& margin = lead.v[at % (ballots / width)];
        const F against = N::zero_where_equal(slope.v[at], first, weight.v[at]);
        const F left = margin + (weight.v[at] - against) - against;
        const F kept = N::max_dropping_nan(left, F(0.0f));
        first = N::where_equal(kept, left, first, slope.v[at]);
        margin = N::max_dropping_nan(negated(left), left);
      });
    });
    alignas(64) float name[ballots];
    alignas(64) float votes[ballots];
    unroll<ballots / width>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      N::store(name + decltype(b)::value * width, leader.v[decltype(b)::value]);
      N::store(votes + decltype(b)::value * width, lead.v[decltype(b)::value]);
    });
    float winner = name[0];
    float margin = votes[0];
    for (std::size_t i = 1; i < ballots; ++i) {
      if (name[i] == winner) {
        margin += votes[i];
      } else if (votes[i] > margin) {
        winner = name[i];
        margin = votes[i] - margin;
      } else {
        margin -= votes[i];
      }
    }
    task_.result[0] = nearest_slope(winner);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void tail() const {
    if constexpr (sizeof(T) == 4) {
      if (is_ordinary() && task_.single && task_.u <= scaled_exp<double>::reach &&
          task_.u >= -scaled_exp<double>::reach) [[likely]] {
        tail_as<range_kind::ordinary, origin_kind::left_out>();
        return;
      }
    }
    tail_as<range_kind::any, origin_kind::weighed>();
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void rough() const {
    tail_sums<4, float, range_kind::any, origin_kind::left_out>(
        [&](auto&& add, const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA {
          using V = std::remove_cvref_t<decltype(d.v[0])>;
          const V u(static_cast<typename V::value_type>(task_.u));
          const auto x = map([&](V c, V by) XSOFTMAX_STEP_LAMBDA { return N::multiply_add(by, u, c); }, zeta, d);
          add(in_floats(d), in_floats(x));
        });
  }

  /// rough at u = 0, with the weight of the origin, and crossings, in one pass.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void start() const {
    fastest_classes<A> fastest;
    tail_sums<3, float, range_kind::any, origin_kind::capped>([&](auto&& add, const auto& zeta, const auto& d)
                                                                  XSOFTMAX_STEP_LAMBDA {
                                                                    fastest.add(zeta, d, 0.0);
                                                                    add(in_floats(d), in_floats(zeta));
                                                                  });
    fastest.write(task_.result + 4);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void crossings() const {
    fastest_classes<A> fastest;
    each_chunk([&](const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA { fastest.add(zeta, d, task_.level); });
    fastest.write(task_.result);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void value(partition_point& point) const {
    const D u(point.u);
    const D y(point.y);
    D largest(-infinity<double>);
    const auto exponent = [&](D c, D by) XSOFTMAX_STEP_LAMBDA { return N::multiply_add(by, u, c); };
    each_chunk([&](const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA {
      const auto x = map(exponent, zeta, d);
      unroll<std::remove_cvref_t<decltype(x)>::size>(
          [&](auto b) XSOFTMAX_STEP_LAMBDA { largest = N::max_dropping_nan(x.v[decltype(b)::value], largest); });
    });
    const D top(N::largest_lane(largest));
    double sum[4];
    sums<4, double>(
        [&](auto& lanes, const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA {
          const auto e =
              map([&](D c, D by) XSOFTMAX_STEP_LAMBDA { return math::exp<A, double>(exponent(c, by) - top); }, zeta, d);
          const auto turn = map([&](D by) XSOFTMAX_STEP_LAMBDA { return math::sincos<A>(uncontracted(by * y)); }, d);
          using turned = math::sincos_result<D>;
          const auto product = [](D a, D b) XSOFTMAX_STEP_LAMBDA { return uncontracted(a * b); };
          const auto re = map([&](D v, const turned& w) XSOFTMAX_STEP_LAMBDA { return product(v, w.cos); }, e, turn);
          const auto im = map([&](D v, const turned& w) XSOFTMAX_STEP_LAMBDA { return product(v, w.sin); }, e, turn);
          lanes[0].add(re);
          lanes[1].add(im);
          lanes[2].add(map(product, d, re));
          lanes[3].add(map(product, d, im));
        },
        sum);
    point.f[0] = sum[0];
    point.f[1] = sum[1];
    point.slope[0] = sum[2];
    point.slope[1] = sum[3];
  }

private:
  using N = native<A>;
  using D = batch<A, double>;
  using F = batch<A, float>;

  /// ordinary: floats, and temperature and scale far from the ends of their range
  enum class range_kind : unsigned char { any, ordinary };

  /// What is added up of the classes with d = 0: nothing, their terms, or so much of each that one of them leaves none
  /// that counts unseen.
  enum class origin_kind : unsigned char { left_out, weighed, capped };

  template <range_kind Kind, origin_kind Origin>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void tail_as() const {
    const D u(task_.u);
    tail_sums<3, double, Kind, Origin>([&](auto&& add, const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA {
      add(d, map([&](D c, D by) XSOFTMAX_STEP_LAMBDA { return N::multiply_add(by, u, c); }, zeta, d));
    });
  }

  /// The slope of a class with this logit, the largest.
  XSOFTMAX_STEP double slope_of(T largest) const {
    using V = batch<A, T>;
    V found(not_a_number<T>);
    each_block([&](const auto& z, const auto& a, std::size_t n) XSOFTMAX_STEP_LAMBDA {
      for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
        found = N::where_equal(load_chunk<A, T>(z, i, extent, -infinity<T>).v[0], V(largest),
                               load_chunk<A, T>(a, i, extent, T{}).v[0], found);
      });
    });
    alignas(64) T lane[lanes<A, T>];
    N::store(lane, found);
    T slope{};
    for (const T candidate : lane) {
      slope = candidate == candidate ? candidate : slope;
    }
    return static_cast<double>(slope);
  }

  template <std::size_t Size>
  static XSOFTMAX_STEP auto in_floats(const pack<D, Size>& x) {
    return make_pack<Size / 2>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = 2 * decltype(b)::value;
      return N::narrow(x.v[at], x.v[at + 1]);
    });
  }

  template <std::size_t Size>
  static XSOFTMAX_STEP auto in_floats(const pack<F, Size>& x) {
    return x;
  }

  /// exp(x) times `one`; 0 where that is below 2^-155 (double: 2^-1080).
  template <class Value>
  class scaled_exp {
  public:
    using V = batch<A, Value>;

    /// Exponents within it need not be kept below the upper end.
    static constexpr double reach = sizeof(Value) == 4 ? 50.0 : 500.0;

    /// Step by step for all: the chain of one is long.
    template <bool WithinReach, std::size_t N>
    XSOFTMAX_STEP pack<V, N> of(const pack<V, N>& x) const {
      const V lowest(function::lowest_logit(reduction, 0));
      const V highest(function::highest_logit(reduction, 0));
      return function_.from_lowest(map(
          [=](V v) XSOFTMAX_STEP_LAMBDA {
            return native<A>::max_keeping_nan(WithinReach ? v : native<A>::min_keeping_nan(v, highest), lowest);
          },
          x));
    }

    XSOFTMAX_STEP double one() const {
      return static_cast<double>(native<A>::largest_lane(function_.clamped(V(Value{}))));
    }

  private:
    using function = math::extended_exp<A, Value, false>;
    static constexpr auto reduction = math::unit_reduction<A, Value>();

    function function_{reduction, 0};
  };

  /// So many moments of what step(add, zeta, d) adds by add(d, exponents), of type Value: the terms with d != 0, those
  /// times d, ...; and after them, what Origin says. What is ordinary has exponents below reach.
  template <std::size_t Moments, class Value, range_kind Kind, origin_kind Origin, class Step>
  XSOFTMAX_STEP void tail_sums(Step&& step) const {
    using V = batch<A, Value>;
    constexpr std::size_t count = Origin == origin_kind::left_out ? Moments : Moments + 1;
    const scaled_exp<Value> exp;
    const V cap(static_cast<Value>(origin_cap * exp.one()));
    sums<count, Value, Kind>(
        [&](auto& lanes, const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA {
          step(
              [&](const auto& distance, const auto& x) XSOFTMAX_STEP_LAMBDA {
                const auto e = exp.template of<Kind == range_kind::ordinary>(x);
                const auto others = map(
                    [](V by, V v) XSOFTMAX_STEP_LAMBDA { return N::zero_where_equal(by, V(Value{}), v); }, distance, e);
                if constexpr (Origin != origin_kind::left_out) {
                  const auto own = [&](V all, V rest) XSOFTMAX_STEP_LAMBDA {
                    const V term = all - rest; // one of the two is 0
                    return Origin == origin_kind::capped ? N::min_keeping_nan(term, cap) : term;
                  };
                  lanes[Moments].add(map(own, e, others));
                }
                auto moment = others;
                lanes[0].add(moment);
                unroll<Moments - 1>([&](auto power) XSOFTMAX_STEP_LAMBDA {
                  moment = map([](V by, V v) XSOFTMAX_STEP_LAMBDA { return uncontracted(by * v); }, distance, moment);
                  lanes[decltype(power)::value + 1].add(moment);
                });
              },
              zeta, d);
        },
        task_.result);
    const double one = exp.one();
    for (std::size_t i = 0; i < count; ++i) {
      task_.result[i] /= one;
    }
  }

  /// body(z, a, n) on blocks.
  template <class Body>
  XSOFTMAX_STEP void each_block(Body&& body) const {
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      const std::size_t last = task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols;
      block_buffer<T> z_room;
      block_buffer<T> a_room;
      body(z_.template block<A>(first, last, z_room), a_.template block<A>(first, last, a_room), last - first);
    }
  }

  /// step(zeta, d) on the chunks of a block, in double. However far a logit is from the largest, in units of T, its
  /// zeta is finite, unless all is ordinary and the logit -inf; d is 0 where the class is masked.
  template <range_kind Kind = range_kind::any, class Step>
  XSOFTMAX_STEP void chunks_of_block(contiguous_row<const T> z, contiguous_row<const T> a, std::size_t n,
                                     Step&& step) const {
    const D largest(task_.largest);
    const D scale(task_.scale);
    const D origin(task_.origin);
    const D masked(-infinity<double>);
    const D lowest(-0x1p1023);
    const D inverse(1.0 / task_.temperature);
    const auto scaled = [&](D v) XSOFTMAX_STEP_LAMBDA {
      if constexpr (Kind == range_kind::ordinary) {
        return uncontracted(v * inverse);
      } else {
        return N::max_keeping_nan(divided_(v), lowest);
      }
    };
    each_pair(z, a, n, [&](const auto& logits, const auto& slopes) XSOFTMAX_STEP_LAMBDA {
      const auto x = in_doubles<A>(logits);
      step(
          map([&](D v) XSOFTMAX_STEP_LAMBDA { return scaled(v - largest); }, x),
          map([&](D v, D slope)
                  XSOFTMAX_STEP_LAMBDA { return N::zero_where_equal(v, masked, uncontracted(slope * scale) - origin); },
              x, in_doubles<A>(slopes)));
    });
  }

  /// The same in float.
  template <class Step>
  XSOFTMAX_STEP void float_chunks_of_block(contiguous_row<const float> z, contiguous_row<const float> a, std::size_t n,
                                           Step&& step) const {
    const F largest(static_cast<float>(task_.largest));
    const F inverse(static_cast<float>(1.0 / task_.temperature));
    const F scale(static_cast<float>(task_.scale));
    const F origin(static_cast<float>(task_.origin));
    const F masked(-infinity<float>);
    each_pair(z, a, n, [&](const auto& logits, const auto& slopes) XSOFTMAX_STEP_LAMBDA {
      step(
          map([&](F v) XSOFTMAX_STEP_LAMBDA { return uncontracted((v - largest) * inverse); }, logits),
          map([&](F v, F slope)
                  XSOFTMAX_STEP_LAMBDA { return N::zero_where_equal(v, masked, uncontracted(slope * scale) - origin); },
              logits, slopes));
    });
  }

  /// step(z, a) on the chunks of a block.
  template <class Step>
  static XSOFTMAX_STEP void each_pair(contiguous_row<const T> z, contiguous_row<const T> a, std::size_t n,
                                      Step&& step) {
    for_each_chunk<group_size<T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
      step(load_chunk<A, T>(z, i, extent, -infinity<T>), load_chunk<A, T>(a, i, extent, T{}));
    });
  }

  XSOFTMAX_STEP bool is_ordinary() const {
    const auto ordinary = [](double v) XSOFTMAX_STEP_LAMBDA { return v >= 0x1p-60 && v <= 0x1p60; };
    return sizeof(T) == 4 && ordinary(task_.temperature) && ordinary(task_.scale);
  }

  /// Are floats enough for what is only wanted roughly? Where terms count, zeta and d u nearly cancel.
  XSOFTMAX_STEP bool floats_serve() const { return is_ordinary() && task_.u <= 128.0 && task_.u >= -128.0; }

  template <class Step>
  XSOFTMAX_STEP void each_chunk(Step&& step) const {
    each_block([&](const auto& z, const auto& a, std::size_t n)
                   XSOFTMAX_STEP_LAMBDA { chunks_of_block(z, a, n, step); });
  }

  template <class Step>
  XSOFTMAX_STEP void rough_chunks_of_block(contiguous_row<const T> z, contiguous_row<const T> a, std::size_t n,
                                           Step&& step) const {
    if constexpr (sizeof(T) == 4) {
      if (floats_serve()) [[likely]] {
        float_chunks_of_block(z, a, n, step);
        return;
      }
    }
    chunks_of_block(z, a, n, step);
  }

  template <class Step>
  XSOFTMAX_STEP void each_rough_chunk(Step&& step) const {
    each_block([&](const auto& z, const auto& a, std::size_t n)
                   XSOFTMAX_STEP_LAMBDA { rough_chunks_of_block(z, a, n, step); });
  }

  /// The slope, scaled, that is this float when rounded: the vote may have been by floats.
  XSOFTMAX_STEP double nearest_slope(float winner) const {
    double slope = static_cast<double>(winner);
    if constexpr (sizeof(T) == 8) {
      each_chunk([&](const auto&, const auto& d) XSOFTMAX_STEP_LAMBDA {
        const auto rounded = in_floats(d);
        alignas(64) float lane[group_size<T>];
        alignas(64) double exact[group_size<T>];
        unroll<std::remove_cvref_t<decltype(rounded)>::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          N::store(lane + decltype(b)::value * lanes<A, float>, rounded.v[decltype(b)::value]);
        });
        unroll<std::remove_cvref_t<decltype(d)>::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
          N::store(exact + decltype(b)::value * lanes<A, double>, d.v[decltype(b)::value]);
        });
        for (std::size_t i = 0; i < std::remove_cvref_t<decltype(d)>::size * lanes<A, double>; ++i) {
          slope = lane[i] == winner ? exact[i] : slope;
        }
      });
    }
    return slope;
  }

  /// The sums of what step(lanes, zeta, d) adds to Size lanes of type Value: of floats roughly.
  template <std::size_t Size, class Value, range_kind Kind = range_kind::any, class Step>
  XSOFTMAX_STEP void sums(Step&& step, double* result) const {
    const auto of_block = [&](const auto& z, const auto& a, std::size_t n, double* total) XSOFTMAX_STEP_LAMBDA {
      fixed_lanes<A, Value> lanes[Size];
      const auto enter = [&](const auto& zeta, const auto& d) XSOFTMAX_STEP_LAMBDA { step(lanes, zeta, d); };
      if constexpr (sizeof(Value) == 4) {
        rough_chunks_of_block(z, a, n, enter);
      } else {
        chunks_of_block<Kind>(z, a, n, enter);
      }
      for (std::size_t i = 0; i < Size; ++i) {
        total[i] = lanes[i].total();
      }
    };
    signed_sum total[Size];
    each_block([&](const auto& z, const auto& a, std::size_t n) XSOFTMAX_STEP_LAMBDA {
      of_block(z, a, n, result);
      if (task_.cols > block_size<T>) {
        for (std::size_t i = 0; i < Size; ++i) {
          total[i].add({result[i], 0.0});
        }
      }
    });
    if (task_.cols > block_size<T>) {
      for (std::size_t i = 0; i < Size; ++i) {
        result[i] = total[i].value().high;
      }
    }
  }

  const partition_function_task<T>& task_;
  divided_by<A> divided_;
  any_row<T, const void> z_;
  any_row<T, const void> a_;
};

template <class A, class T>
struct partition_function {
  XSOFTMAX_FLATTEN static void run(const partition_function_task<T>& task) noexcept {
    const partition_row<A, T> row(task);
    switch (task.step) {
    case partition_step::range:
      row.range();
      break;
    case partition_step::vote:
      row.vote();
      break;
    case partition_step::tail:
      row.tail();
      break;
    case partition_step::rough:
      row.rough();
      break;
    case partition_step::start:
      row.start();
      break;
    case partition_step::crossings:
      row.crossings();
      break;
    case partition_step::values:
      for (std::size_t i = 0; i < task.count; ++i) {
        row.value(task.points[i]);
      }
      break;
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

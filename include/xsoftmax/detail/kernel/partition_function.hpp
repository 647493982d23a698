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

/// The sum of doubles in 16 lanes, however many there are in a batch.
template <class A>
class double_lanes {
public:
  template <std::size_t N>
  XSOFTMAX_INLINE void add(const pack<batch<A, double>, N>& e) {
    unroll<N>([&](auto b) XSOFTMAX_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      lane_.v[at % batches] = lane_.v[at % batches] + e.v[at];
    });
  }

  XSOFTMAX_INLINE double total() const {
    alignas(64) double lane[count];
    unroll<batches>([&](auto b) XSOFTMAX_LAMBDA {
      native<A>::store(lane + decltype(b)::value * lanes<A, double>, lane_.v[decltype(b)::value]);
    });
    for (std::size_t half = count / 2; half != 0; half /= 2) {
      for (std::size_t i = 0; i < half; ++i) {
        lane[i] += lane[i + half];
      }
    }
    return lane[0];
  }

private:
  static constexpr std::size_t count = 16;
  static constexpr std::size_t batches = count / lanes<A, double>;

  pack<batch<A, double>, batches> lane_ =
      make_pack<batches>([](auto) XSOFTMAX_LAMBDA { return batch<A, double>(0.0); });
};

template <class A, class T>
class partition_row {
public:
  explicit partition_row(const partition_function_task<T>& task)
      : task_(task), divided_(task.temperature), z_(row_of<T>(task.z, 0)), a_(row_of<T>(task.a, 0)) {}

  __attribute__((noinline)) void range() const {
    const slope_range<T> found = range_of_row<A, T, true>(z_, a_, task_.cols);
    task_.result[0] = static_cast<double>(found.least);
    task_.result[1] = static_cast<double>(found.greatest);
    task_.result[2] = static_cast<double>(found.largest);
    task_.result[3] = found.valid ? 1.0 : 0.0;
  }

  /// Each slope votes with its weight, for itself or against whoever leads (Boyer and Moore). Eight ballots, however
  /// many lanes there are.
  __attribute__((noinline)) void vote() const {
    constexpr std::size_t ballots = 8;
    constexpr std::size_t width = lanes<A, double>;
    pack<D, ballots / width> leader = make_pack<ballots / width>([](auto) XSOFTMAX_LAMBDA { return D(0.0); });
    pack<D, ballots / width> lead = leader;
    each_chunk([&](const auto& zeta, const auto& slope) XSOFTMAX_LAMBDA {
      unroll<std::remove_cvref_t<decltype(zeta)>::size>([&](auto b) XSOFTMAX_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        D& first = leader.v[at % (ballots / width)];
        D& margin = lead.v[at % (ballots / width)];
        const D weight = math::exp<A, double>(zeta.v[at]);
        const D against = N::zero_where_equal(slope.v[at], first, weight);
        const D left = margin + (weight - against) - against;
        const D kept = N::max_dropping_nan(left, D(0.0));
        first = N::where_equal(kept, left, first, slope.v[at]);
        margin = N::max_dropping_nan(negated(left), left);
      });
    });
    alignas(64) double name[ballots];
    alignas(64) double votes[ballots];
    unroll<ballots / width>([&](auto b) XSOFTMAX_LAMBDA {
      N::store(name + decltype(b)::value * width, leader.v[decltype(b)::value]);
      N::store(votes + decltype(b)::value * width, lead.v[decltype(b)::value]);
    });
    double winner = name[0];
    double margin = votes[0];
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
    task_.result[0] = winner;
  }

  __attribute__((noinline)) void tail() const {
    const D u(task_.u);
    sums<3>([&](auto& lanes, const auto& zeta, const auto& slope) XSOFTMAX_LAMBDA {
      const auto d = distances(slope);
      const auto e =
          map([&](D c, D by) XSOFTMAX_LAMBDA { return math::exp<A, double>(N::multiply_add(by, u, c)); }, zeta, d);
      const auto others = map([](D by, D v) XSOFTMAX_LAMBDA { return N::zero_where_equal(by, D(0.0), v); }, d, e);
      lanes[0].add(map([](D all, D rest) XSOFTMAX_LAMBDA { return all - rest; }, e, others)); // one of them is 0
      lanes[1].add(others);
      lanes[2].add(map([](D by, D v) XSOFTMAX_LAMBDA { return uncontracted(by * v); }, d, others));
    });
  }

  __attribute__((noinline)) void crossings() const {
    const D none(-infinity<double>);
    const D zero(0.0);
    // Nearest is largest: distances are negative here.
    D found[4] = {none, none, none, none};
    each_chunk([&](const auto& zeta, const auto& slope) XSOFTMAX_LAMBDA {
      const auto d = distances(slope);
      unroll<std::remove_cvref_t<decltype(zeta)>::size>([&](auto b) XSOFTMAX_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        const D gap = D(task_.level) - zeta.v[at];
        const D certain = N::max_keeping_nan(gap - D(task_.margin), zero);
        const D right = N::max_keeping_nan(d.v[at], zero);
        const D left = N::max_keeping_nan(zero - d.v[at], zero);
        const auto enter = [&](D& nearest, D way, D speed) XSOFTMAX_LAMBDA {
          nearest = N::max_dropping_nan(negated(N::divide(way, speed)), nearest); // 0 / 0: never
        };
        enter(found[0], gap, right);
        enter(found[1], certain, right);
        enter(found[2], gap, left);
        enter(found[3], certain, left);
      });
    });
    for (std::size_t i = 0; i < 4; ++i) {
      task_.result[i] = -N::largest_lane(found[i]);
    }
  }

  __attribute__((noinline)) void value(partition_point& point) const {
    const D u(point.u);
    const D y(point.y);
    D largest(-infinity<double>);
    const auto exponent = [&](D c, D by) XSOFTMAX_LAMBDA { return N::multiply_add(by, u, c); };
    each_chunk([&](const auto& zeta, const auto& slope) XSOFTMAX_LAMBDA {
      const auto x = map(exponent, zeta, distances(slope));
      unroll<std::remove_cvref_t<decltype(x)>::size>(
          [&](auto b) XSOFTMAX_LAMBDA { largest = N::max_dropping_nan(x.v[decltype(b)::value], largest); });
    });
    const D top(N::largest_lane(largest));
    double sum[4];
    task_sums<4>(
        [&](auto& lanes, const auto& zeta, const auto& slope) XSOFTMAX_LAMBDA {
          const auto d = distances(slope);
          const auto e =
              map([&](D c, D by) XSOFTMAX_LAMBDA { return math::exp<A, double>(exponent(c, by) - top); }, zeta, d);
          const auto turn = map([&](D by) XSOFTMAX_LAMBDA { return math::sincos<A>(uncontracted(by * y)); }, d);
          using turned = math::sincos_result<D>;
          const auto product = [](D a, D b) XSOFTMAX_LAMBDA { return uncontracted(a * b); };
          const auto re = map([&](D v, const turned& w) XSOFTMAX_LAMBDA { return product(v, w.cos); }, e, turn);
          const auto im = map([&](D v, const turned& w) XSOFTMAX_LAMBDA { return product(v, w.sin); }, e, turn);
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

  template <std::size_t Size>
  XSOFTMAX_INLINE auto distances(const pack<D, Size>& slope) const {
    return map([&](D a) XSOFTMAX_LAMBDA { return uncontracted(a * D(task_.scale)) - D(task_.origin); }, slope);
  }

  template <std::size_t Size>
  static XSOFTMAX_INLINE auto in_doubles(const pack<batch<A, T>, Size>& x) {
    if constexpr (sizeof(T) == 4) {
      return widened<A>(x);
    } else {
      return x;
    }
  }

  /// step(zeta, a) on the chunks of elements [first, last), at most a block.
  template <class Step>
  XSOFTMAX_INLINE void chunks_of_block(std::size_t first, std::size_t last, Step&& step) const {
    block_buffer<T> z_room;
    block_buffer<T> a_room;
    const auto z = z_.template block<A>(first, last, z_room);
    const auto a = a_.template block<A>(first, last, a_room);
    const D largest(task_.largest);
    const auto zeta = [&](D x) XSOFTMAX_LAMBDA { return divided_(x - largest); };
    for_each_chunk<group_size<T>, group_size<T>>(0, last - first, [&](std::size_t i, auto extent) XSOFTMAX_LAMBDA {
      const auto logits = load_chunk<A, T>(z, i, extent, -infinity<T>);
      const auto slopes = map([](auto x, auto slope)
                                  XSOFTMAX_LAMBDA { return N::zero_where_equal(x, batch<A, T>(-infinity<T>), slope); },
                              logits, load_chunk<A, T>(a, i, extent, T{}));
      step(map(zeta, in_doubles(logits)), in_doubles(slopes));
    });
  }

  template <class Step>
  XSOFTMAX_INLINE void each_chunk(Step&& step) const {
    for_each_piece<T>(z_, 0, task_.cols,
                      [&](std::size_t first, std::size_t last) XSOFTMAX_LAMBDA { chunks_of_block(first, last, step); });
  }

  /// The sums of what step(lanes, zeta, a) adds to Size of them.
  template <std::size_t Size, class Step>
  XSOFTMAX_INLINE void task_sums(Step&& step, double* result) const {
    signed_sum total[Size];
    for_each_piece<T>(z_, 0, task_.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_LAMBDA {
      double_lanes<A> lanes[Size];
      chunks_of_block(first, last,
                      [&](const auto& zeta, const auto& slope) XSOFTMAX_LAMBDA { step(lanes, zeta, slope); });
      for (std::size_t i = 0; i < Size; ++i) {
        total[i].add({lanes[i].total(), 0.0});
      }
    });
    for (std::size_t i = 0; i < Size; ++i) {
      result[i] = total[i].value().high;
    }
  }

  template <std::size_t Size, class Step>
  XSOFTMAX_INLINE void sums(Step&& step) const {
    task_sums<Size>(step, task_.result);
  }

  const partition_function_task<T>& task_;
  divided_by<A> divided_;
  any_row<T, const void> z_;
  any_row<T, const void> a_;
};

template <class A, class T>
struct partition_function {
  static void run(const partition_function_task<T>& task) noexcept {
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

// SPDX-License-Identifier: MIT
// Logarithms of the StableMax of rows: w = s of stablemax_term.hpp, whose two parts are
//
//   s(x) = above(x) / below(x)            above(x) = 1 + max(x, 0), below(x) = 1 - min(x, 0)
//
// so that the ratio to the maximum m is a product of two quotients that are not above 1, whatever the signs:
//
//   s(x) / s(m) = (above(x) / above(m)) (below(m) / below(x))
//
// All of it is in double. The ratio is exactly 1 at m, where it is counted instead of added, and nothing cancels in
// its logarithm: y of the others is below -log 2.
#pragma once

#include <xsoftmax/detail/kernel/log_row.hpp>
#include <xsoftmax/detail/kernel/stablemax_term.hpp>
#include <xsoftmax/detail/stablemax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// s(x) / s(m), a maximum to each lane. T is where x and m come from.
template <class A, class T>
class stablemax_ratio;

/// Of floats the products are far within the range.
template <class A>
class stablemax_ratio<A, float> {
public:
  using D = batch<A, double>;

  /// Times `unit`, a power of two.
  XSOFTMAX_STEP explicit stablemax_ratio(D m, double unit = 1.0)
      : above_m_(stablemax_above<A>(m)), below_m_(stablemax_below<A>(m) * D(unit)) {}

  XSOFTMAX_STEP D operator()(D x) const {
    return (stablemax_above<A>(x) * below_m_) / (stablemax_below<A>(x) * above_m_);
  }

  /// Its logarithm, with unit 1; some number for x = -inf.
  XSOFTMAX_STEP D logarithm(D x) const { return math::log<A>((*this)(x)); }

private:
  D above_m_;
  D below_m_;
};

/// Of doubles they may be as large as the square of what is in the range: one quotient divides the other. Rounded three
/// times at most, m apart.
template <class A>
class stablemax_ratio<A, double> {
public:
  using D = batch<A, double>;

  /// far: for m <= -2^1000.
  XSOFTMAX_STEP explicit stablemax_ratio(D m, double unit = 1.0, bool far = false)
      : above_m_(stablemax_above<A>(m)), below_m_(stablemax_below<A>(m)), divisor_(above_m_ * D(far ? 1.0 : 0x1p-2)),
        unscale_(D((far ? 1.0 : 0x1p2) / unit)) {}

  /// Powers of two keep the first quotient normal where above(m) is largest, and finite where below(m) is.
  XSOFTMAX_STEP D operator()(D x) const {
    return (stablemax_above<A>(x) * below_m_ / divisor_) / (stablemax_below<A>(x) * unscale_);
  }

  XSOFTMAX_STEP D logarithm(D x) const {
    return D(0.0) - (math::log<A>(stablemax_below<A>(x) / below_m_) + math::log<A>(above_m_ / stablemax_above<A>(x)));
  }

private:
  D above_m_;
  D below_m_;
  D divisor_;
  D unscale_;
};

/// By what s(m), as ratios have it, is above s(m), relative to it.
template <class A>
XSOFTMAX_STEP batch<A, double> ratio_lost(batch<A, double> m) {
  using D = batch<A, double>;
  const auto above = two_sum(D(1.0), native<A>::max_keeping_nan(m, D(0.0)));
  const auto below = two_sum(D(1.0), D(0.0) - native<A>::min_keeping_nan(m, D(0.0)));
  return below.error / below.sum - above.error / above.sum;
}

/// The same for batches of T, in batches of double.
template <class A, class T>
class stablemax_ratios {
public:
  using V = batch<A, T>;
  using D = batch<A, double>;
  using Ratio = stablemax_ratio<A, T>;
  static constexpr std::size_t parts = sizeof(double) / sizeof(T);

  template <class... Options>
  XSOFTMAX_STEP explicit stablemax_ratios(V m, Options... options)
      : m_(m), ratio_(map([&](D part) XSOFTMAX_STEP_LAMBDA { return Ratio(part, options...); }, in_double(m))) {}

  /// Of all but those equal to m, which are counted, times 2^octave_bias.
  XSOFTMAX_STEP pack<D, parts> others(V x, batch<A, bits_t<T>>& count) const {
    count = native<A>::count_equal(x, m_, count);
    return map(
        [](const Ratio& ratio, D part, D m) XSOFTMAX_STEP_LAMBDA {
          return native<A>::zero_where_equal(part, m,
                                             native<A>::zero_where_equal(part, D(-infinity<double>), ratio(part)));
        },
        ratio_, in_double(x), in_double(m_));
  }

  XSOFTMAX_STEP pack<D, parts> logarithms(V x) const {
    return map([](const Ratio& ratio, D part) XSOFTMAX_STEP_LAMBDA { return ratio.logarithm(part); }, ratio_,
               in_double(x));
  }

private:
  static XSOFTMAX_STEP pack<D, parts> in_double(V v) {
    pack<D, parts> d;
    if constexpr (parts == 2) {
      native<A>::widen(v, d.v[0], d.v[1]);
    } else {
      d.v[0] = v;
    }
    return d;
  }

  V m_;
  pack<Ratio, parts> ratio_;
};

/// The last pass on a batch.
template <class A, class T>
class log_stablemax_step {
public:
  using V = batch<A, T>;
  using D = batch<A, double>;
  using Ratios = stablemax_ratios<A, T>;

  XSOFTMAX_STEP log_stablemax_step(V m, const pack<D, Ratios::parts>& log_sum_high,
                                   const pack<D, Ratios::parts>& log_sum_low)
      : m_(m), ratios_(m), log_sum_high_(log_sum_high), log_sum_low_(log_sum_low) {}

  /// The same for other rows, a lane each.
  template <std::size_t N>
  XSOFTMAX_STEP log_stablemax_step of_rows(const pack<D, N>& largest, const pack<D, N>& log_sum_high,
                                           const pack<D, N>& log_sum_low) const {
    if constexpr (N == 2) {
      return {native<A>::narrow(largest.v[0], largest.v[1]), log_sum_high, log_sum_low};
    } else {
      return {largest.v[0], log_sum_high, log_sum_low};
    }
  }

  XSOFTMAX_STEP V operator()(V x) const {
    constexpr T lowest = -std::numeric_limits<T>::max();
    const auto y =
        map([](D log, D sum) XSOFTMAX_STEP_LAMBDA { return log - sum; }, ratios_.logarithms(x), log_sum_high_);
    // 0 for what is finite, -inf for that.
    const V masked = native<A>::min_keeping_nan(x, V(lowest)) - V(lowest);
    if constexpr (Ratios::parts == 2) {
      return native<A>::narrow(y.v[0], y.v[1]) + masked;
    } else {
      // The ratios are to s(m) as it was rounded; m itself has none.
      const D lost = native<A>::zero_where_equal(x, m_, ratio_lost<A>(m_));
      return (y.v[0] + (lost - log_sum_low_.v[0])) + masked;
    }
  }

private:
  V m_;
  Ratios ratios_;
  pack<D, Ratios::parts> log_sum_high_;
  pack<D, Ratios::parts> log_sum_low_;
};

/// The sum over a row of maximum m.
template <class A, class T>
class stablemax_others {
public:
  XSOFTMAX_STEP explicit stablemax_others(const stablemax_ratios<A, T>& ratios) : ratios_(ratios) {}

  /// Of n elements, at most a block, relative to 2^-bias.
  __attribute__((noinline)) XSOFTMAX_FLATTEN others_block block(contiguous_row<const T> z, std::size_t n) const {
    using V = batch<A, T>;
    constexpr std::size_t parts = stablemax_ratios<A, T>::parts;
    lane_sum<A, T> sum;
    batch<A, bits_t<T>> count(0);
    for_each_chunk<wide_chunk<A, T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
      const auto x = load_chunk<A, T>(z, i, extent, -infinity<T>);
      sum.add(flattened<parts>(map([&](V v) XSOFTMAX_STEP_LAMBDA { return ratios_.others(v, count); }, x)));
    });
    return {sum.total(), add_counts<A, bits_t<T>>(count)};
  }

  template <std::size_t Parts, std::size_t N>
  static XSOFTMAX_STEP auto flattened(const pack<pack<batch<A, double>, Parts>, N>& x) {
    return make_pack<Parts * N>(
        [&](auto b) XSOFTMAX_STEP_LAMBDA { return x.v[decltype(b)::value / Parts].v[decltype(b)::value % Parts]; });
  }

private:
  stablemax_ratios<A, T> ratios_;
};

/// As log_row.hpp has it.
template <class A, class T>
class stablemax_link {
public:
  using V = batch<A, T>;
  using I = batch<A, bits_t<T>>;
  using D = batch<A, double>;

  static constexpr bool is_one_hot() { return false; }

  XSOFTMAX_STEP stablemax_others<A, T> others(T m) const {
    if constexpr (sizeof(T) == sizeof(double)) {
      return stablemax_others<A, T>(Ratios(V(m), unit, !serves(m)));
    } else {
      return stablemax_others<A, T>(Ratios(V(m), unit));
    }
  }

  XSOFTMAX_STEP log_denominator denominator(double m, double_pair rest, std::uint64_t count) const {
    if constexpr (sizeof(T) == sizeof(double)) {
      rest.low += uncontracted(D(rest.high) * ratio_lost<A>(D(m))).get(0);
    }
    return denominator_of_row<A>(-infinity<double>, 1.0)(m, rest, count);
  }

  template <class F>
  XSOFTMAX_STEP void with_step(const log_denominator& row, F&& f) const {
    f(Step(V(static_cast<T>(row.largest)), everywhere(row.log_sum.high), everywhere(row.log_sum.low)));
  }

  static constexpr bool serves(T m) { return sizeof(T) == sizeof(float) || static_cast<double>(m) > -0x1p1000; }

  template <std::size_t N>
  XSOFTMAX_STEP auto terms(const pack<V, N>& m) const {
    const auto ratios = map([](V v) XSOFTMAX_STEP_LAMBDA { return Ratios(v, unit); }, m);
    return [ratios](const pack<V, N>& x, pack<I, N>& count) XSOFTMAX_STEP_LAMBDA {
      return stablemax_others<A, T>::flattened(make_pack<N>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        return ratios.v[at].others(x.v[at], count.v[at]);
      }));
    };
  }

  XSOFTMAX_STEP auto step_of_rows() const { return Step(V(T{0}), everywhere(0.0), everywhere(0.0)); }

private:
  using Ratios = stablemax_ratios<A, T>;
  using Step = log_stablemax_step<A, T>;
  static constexpr double unit = power_of_two(math::octave_bias<T>);

  static XSOFTMAX_STEP pack<D, Ratios::parts> everywhere(double v) {
    return make_pack<Ratios::parts>([&](auto) XSOFTMAX_STEP_LAMBDA { return D(v); });
  }
};

template <class A, class T>
struct log_stablemax {
  XSOFTMAX_FLATTEN static void run(const log_stablemax_task<T>& task) noexcept {
    if (task.cols != 0) {
      log_rows<A, T, stablemax_link<A, T>>::run(task, stablemax_link<A, T>());
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Logarithms of the softmax of rows, in three passes:
//
//   m    the maximum; M = max(m, sink)
//   L    = log(c + R): c elements equal to m, R = sum of exp((z_k - m) / T) over the others, and the sink's term
//   y_i  = (z_i - M) / T - L     two numbers of the same sign: nothing cancels
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/others.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The last pass on a batch: double, and float at temperatures near the ends of the range of double.
template <class A, class T>
class log_probability {
public:
  using D = batch<A, double>;

  XSOFTMAX_INLINE log_probability(double largest, double temperature, double_pair log_sum)
      : quotient_(largest, temperature), log_sum_(log_sum) {}

  XSOFTMAX_INLINE batch<A, T> operator()(batch<A, T> z) const {
    if constexpr (sizeof(T) == 4) {
      D low;
      D high;
      native<A>::widen(z, low, high);
      return native<A>::narrow(of(low), of(high));
    } else {
      return of(z);
    }
  }

private:
  XSOFTMAX_INLINE D of(D z) const {
    const auto q = quotient_(z);
    const auto y = two_sum(q.sum, D(-log_sum_.high));
    const D rest = y.error + (q.error - D(log_sum_.low));
    return y.sum + native<A>::zero_where_equal(y.sum, D(-infinity<double>), rest);
  }

  gap_quotient<A> quotient_;
  double_pair log_sum_;
};

/// The last pass on a batch of float: everything in double, rounded once.
template <class A>
class usual_log_probability {
public:
  using F = batch<A, float>;
  using D = batch<A, double>;

  /// temperature in [2^-900, 2^900]
  XSOFTMAX_INLINE usual_log_probability(double largest, double temperature, double_pair log_sum)
      : largest_(largest), inverse_(1.0 / temperature), minus_log_sum_(-log_sum.high) {}

  XSOFTMAX_INLINE F operator()(F z) const {
    D low;
    D high;
    native<A>::widen(z, low, high);
    return native<A>::narrow(native<A>::multiply_add(low - largest_, inverse_, minus_log_sum_),
                             native<A>::multiply_add(high - largest_, inverse_, minus_log_sum_));
  }

private:
  D largest_;
  D inverse_;
  D minus_log_sum_;
};

/// One row. In and Out as access.hpp has them. The passes work on ranges [first, last) that begin at a multiple of the
/// block size; `others` merges.
template <class A, class T, class In, class Out>
class log_softmax_row {
public:
  XSOFTMAX_INLINE log_softmax_row(const log_softmax_task<T>& task, const math::reduction<A, T>& reduction, In z, Out y)
      : task_(task), reduction_(reduction), z_(z), y_(y) {}

  XSOFTMAX_INLINE void run() const {
    const std::size_t n = task_.cols;
    const T m = largest(0, n);
    if (!(m - m == 0)) [[unlikely]] {
      write_value(m < 0 ? masked() : not_a_number<T>);
    } else if (task_.temperature == 0.0) [[unlikely]] {
      one_hot(m);
    } else if (n <= block_size<T>) {
      const others_block all = only_block(m);
      finish(m, scaled(all.sum, -math::octave_bias<T>), all.count);
    } else {
      const others_sum<T> all = others(0, n, m);
      finish(m, all.finite ? scaled(all.rest, 0) : double_pair{not_a_number<double>, 0.0}, all.count);
    }
  }

  /// One step over a part of a row, T > 0.
  XSOFTMAX_INLINE void run(log_softmax_step step, log_softmax_summary& summary,
                           const log_softmax_summary* other) const {
    const std::size_t n = task_.cols;
    const T m = static_cast<T>(summary.largest);
    others_sum<T> sum{exact_sum(summary.others), summary.count, !summary.nan};
    switch (step) {
    case log_softmax_step::largest:
      summary.largest = static_cast<double>(largest(0, n));
      summary.nan = summary.largest == -infinity<double> && has_nan();
      return;
    case log_softmax_step::others:
      sum.merge(others(0, n, m));
      break;
    case log_softmax_step::merge:
      sum.merge({exact_sum(other->others), other->count, !other->nan});
      break;
    default:
      if (summary.nan || m == infinity<T>) {
        write_value(not_a_number<T>);
      } else if (m == -infinity<T>) {
        write_value(masked_value());
      } else {
        finish(m, scaled(sum.rest, 0), sum.count);
      }
      return;
    }
    summary.others = sum.rest.stored();
    summary.count = sum.count;
    summary.nan = !sum.finite;
  }

  /// The largest of [first, last); NaN is passed over.
  __attribute__((noinline)) T largest(std::size_t first, std::size_t last) const {
    T m = -infinity<T>;
    pieces(first, last, [&](auto z, std::size_t, std::size_t size) XSOFTMAX_LAMBDA {
      const T found = maximum<A, T>(z, size);
      m = found > m ? found : m;
      return true;
    });
    return m;
  }

  /// The sum over [first, last) by the row's finite maximum.
  __attribute__((noinline)) others_sum<T> others(std::size_t first, std::size_t last, T m) const {
    const others_of_maximum<A, T> terms(reduction_, task_.temperature, m);
    others_sum<T> all;
    for (; first < last; first = block_end(first, last)) {
      typename In::buffer room;
      const std::size_t end = block_end(first, last);
      terms.add(all, terms.block(z_.template block<A>(first, end, room), 0, end - first));
    }
    return all;
  }

  /// y over [first, last), given the row's M and L.
  __attribute__((noinline)) void write(std::size_t first, std::size_t last, double largest, double_pair log_sum) const {
    if constexpr (sizeof(T) == 4) {
      if (task_.temperature >= 0x1p-900 && task_.temperature <= 0x1p900) [[likely]] {
        transform_pieces(usual_log_probability<A>(largest, task_.temperature, log_sum), first, last);
        return;
      }
    }
    transform_pieces(log_probability<A, T>(largest, task_.temperature, log_sum), first, last);
  }

private:
  static XSOFTMAX_INLINE std::size_t block_end(std::size_t first, std::size_t last) {
    return last - first > block_size<T> ? first + block_size<T> : last;
  }

  /// body(elements, where they begin, how many) until it returns false: all at once where they lie side by side.
  template <class Body>
  XSOFTMAX_INLINE void pieces(std::size_t first, std::size_t last, Body&& body) const {
    for (bool more = true; more && first < last;) {
      typename In::buffer room;
      const std::size_t end = In::plain ? last : block_end(first, last);
      more = body(z_.template block<A>(first, end, room), first, end - first);
      first = end;
    }
  }

  template <class Step>
  XSOFTMAX_INLINE void transform_pieces(const Step& step, std::size_t first, std::size_t last) const {
    pieces(first, last, [&](auto z, std::size_t begin, std::size_t size) XSOFTMAX_LAMBDA {
      typename Out::buffer room;
      transform<A, T>(step, z, y_.target(begin, room), size);
      y_.template commit<A>(begin, begin + size, room);
      return true;
    });
  }

  __attribute__((noinline)) others_block only_block(T m) const {
    typename In::buffer room;
    const others_of_maximum<A, T> terms(reduction_, task_.temperature, m);
    return terms.block(z_.template block<A>(0, task_.cols, room), 0, task_.cols);
  }

  /// The last pass, once c and R (NaN if an element was) are known.
  XSOFTMAX_INLINE void finish(T m, double_pair rest, std::uint64_t count) const {
    if (!(rest.high - rest.high == 0)) [[unlikely]] {
      write_value(not_a_number<T>);
      return;
    }
    double largest = static_cast<double>(m);
    double whole = static_cast<double>(count);
    if (task_.sink != -infinity<double>) [[unlikely]] {
      add_sink(largest, whole, rest);
    }
    using D = batch<A, double>;
    const auto log_sum = math::log_of_sum<A>(D(whole), D(rest.high), D(rest.low));
    write(0, task_.cols, largest, {log_sum.sum.get(0), log_sum.error.get(0)});
  }

  /// The sink joins the sum; if it is above the maximum, it becomes what the sum is relative to.
  XSOFTMAX_NOINLINE void add_sink(double& largest, double& whole, double_pair& rest) const {
    using N = native<A>;
    using D = batch<A, double>;
    const bool below = task_.sink <= largest;
    const double base = below ? largest : task_.sink;
    const double_pair e =
        scaled(gap_quotient<A>(base, task_.temperature).exp(below ? task_.sink : largest), -math::octave_bias<double>);
    if (below) {
      rest = sum_of(rest, e);
    } else {
      const double_pair all = sum_of({whole, 0.0}, rest);
      const double high = all.high * e.high;
      const double lost = N::fused_multiply_add(D(all.high), D(e.high), D(-high)).get(0);
      rest = sum_of({high, 0.0}, {lost, N::multiply_add(D(all.low), D(e.high), D(all.high) * D(e.low)).get(0)});
      whole = 1.0;
    }
    largest = base;
  }

  static XSOFTMAX_INLINE double_pair sum_of(double_pair a, double_pair b) {
    const auto sum = two_sum(a.high, b.high);
    const auto pair = two_sum(sum.sum, sum.error + (a.low + b.low));
    return {pair.sum, pair.error};
  }

  XSOFTMAX_NOINLINE bool has_nan() const {
    bool found = false;
    pieces(0, task_.cols, [&](auto z, std::size_t, std::size_t size) XSOFTMAX_LAMBDA {
      found = contains_nan<A, T>(z, size);
      return !found;
    });
    return found;
  }

  /// What a row without a number above -inf gives.
  XSOFTMAX_NOINLINE T masked() const { return has_nan() ? not_a_number<T> : masked_value(); }

  /// What a row of only -inf gives.
  XSOFTMAX_INLINE T masked_value() const {
    const bool zero = task_.masked_row == masked_row_policy::zero || task_.sink != -infinity<double>;
    return zero ? -infinity<T> : not_a_number<T>;
  }

  XSOFTMAX_NOINLINE void write_value(T value) const {
    transform_pieces([&](batch<A, T>) XSOFTMAX_LAMBDA { return batch<A, T>(value); }, 0, task_.cols);
  }

  /// T = 0: all weight on the first maximum, or on the sink if that is above it.
  XSOFTMAX_NOINLINE void one_hot(T m) const {
    if (has_nan()) {
      write_value(not_a_number<T>);
      return;
    }
    std::size_t first = 0;
    pieces(0, task_.cols, [&](auto z, std::size_t begin, std::size_t size) XSOFTMAX_LAMBDA {
      for (std::size_t i = 0; i < size; ++i) {
        if (*z.at(i) == m) {
          first = begin + i;
          return false;
        }
      }
      return true;
    });
    write_value(-infinity<T>);
    if (!(task_.sink > static_cast<double>(m))) {
      typename Out::buffer room;
      *y_.target(first, room).at(0) = T{};
      y_.template commit<A>(first, first + 1, room);
    }
  }

  const log_softmax_task<T>& task_;
  const math::reduction<A, T>& reduction_;
  In z_;
  Out y_;
};

template <class A, class T>
struct log_softmax {
  static void run(const log_softmax_task<T>& task) noexcept {
    if (task.cols == 0) {
      return;
    }
    if (has_plain_rows<T>(task.z, task.cols) && has_plain_rows<T>(task.y, task.cols)) {
      rows(task, [](const auto& matrix, std::size_t r) XSOFTMAX_LAMBDA { return plain_row_of<T>(matrix, r); });
    } else {
      rows(task, [](const auto& matrix, std::size_t r) XSOFTMAX_LAMBDA { return row_of<T>(matrix, r); });
    }
  }

private:
  template <class Access>
  static __attribute__((noinline)) void rows(const log_softmax_task<T>& task, Access access) noexcept {
    using In = decltype(access(task.z, 0));
    using Out = decltype(access(task.y, 0));
    const auto reduction = math::make_reduction<A, T>(task.temperature);
    for (std::size_t r = 0; r < task.rows; ++r) {
      const log_softmax_row<A, T, In, Out> row(task, reduction, access(task.z, r), access(task.y, r));
      if (task.step == log_softmax_step::all) [[likely]] {
        row.run();
      } else {
        row.run(task.step, *task.summary, task.other);
      }
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

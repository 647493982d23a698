// SPDX-License-Identifier: MIT
// Logarithms of the softmax of rows, in three passes:
//
//   m    the maximum; M = max(m, sink)
//   L    = log(c + R): c elements equal to m, R = sum of exp((z_k - m) / T) over the others, and the sink's term
//   y_i  = (z_i - M) / T - L     two numbers of the same sign: nothing cancels
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/log_probability.hpp>
#include <xsoftmax/detail/kernel/log_softmax_columns.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

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
        write_value(masked_logarithm(task_));
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
      all.add(terms.block(z_.template block<A>(first, end, room), end - first));
    }
    return all;
  }

  /// y over [first, last), given the row's M and L.
  __attribute__((noinline)) void write(std::size_t first, std::size_t last, const log_denominator& row) const {
    if constexpr (sizeof(T) == 4) {
      if (task_.temperature >= 0x1p-900 && task_.temperature <= 0x1p900) [[likely]] {
        transform_pieces(usual_log_probability<A>(row, task_.temperature), first, last);
        return;
      }
    }
    transform_pieces(log_probability<A, T>(row, task_.temperature), first, last);
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
    return terms.block(z_.template block<A>(0, task_.cols, room), task_.cols);
  }

  /// The last pass, once c and R (NaN if an element was) are known.
  XSOFTMAX_INLINE void finish(T m, double_pair rest, std::uint64_t count) const {
    if (!(rest.high - rest.high == 0)) [[unlikely]] {
      write_value(not_a_number<T>);
      return;
    }
    const denominator_of_row<A> denominator(task_.sink, task_.temperature);
    write(0, task_.cols, denominator(static_cast<double>(m), rest, count));
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
  XSOFTMAX_NOINLINE T masked() const { return has_nan() ? not_a_number<T> : masked_logarithm(task_); }

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
    } else if (are_columns(task.rows, task.z, task.y) && task.temperature != 0.0) {
      columns(task);
    } else {
      rows(task, [](const auto& matrix, std::size_t r) XSOFTMAX_LAMBDA { return row_of<T>(matrix, r); });
    }
  }

private:
  static __attribute__((noinline)) void columns(const log_softmax_task<T>& task) noexcept {
    const auto reduction = math::make_reduction<A, T>(task.temperature);
    for_each_strip<T>(
        task.rows,
        [&](std::size_t, std::size_t rows, auto z, auto y) XSOFTMAX_LAMBDA {
          return log_softmax_strip<A, T, decltype(z), decltype(y)>(task, reduction, z, y, rows).run();
        },
        [&](std::size_t r) XSOFTMAX_LAMBDA {
          const auto z = row_of<T>(task.z, r);
          const auto y = row_of<T>(task.y, r);
          log_softmax_row<A, T, std::remove_const_t<decltype(z)>, std::remove_const_t<decltype(y)>>(task, reduction, z,
                                                                                                    y)
              .run();
        },
        task.z, task.y);
  }

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

// SPDX-License-Identifier: MIT
// Logarithms of probabilities w(z_i) / sum w(z_k), in three passes:
//
//   m    the maximum
//   L    = log(c + R): c elements equal to m, R = sum of w(z_k) / w(m) over the others
//   y_i  = log(w(z_i) / w(m)) - L     two numbers of the same sign: nothing cancels
//
// A Link<A, T> says what w is:
//   is_one_hot()                   is all weight on the maximum?
//   others(m).block(z, n)          the terms of R of a block, and how many elements equal m
//   denominator(m, R, c)           M and L: M is m, or what else the row is relative to in the end
//   with_step(row, f)              f(step): y of a batch, by M and L of its row
// and for rows side by side
//   serves(m)                      do the next two serve a row of this maximum?
//   terms(m)(x, count)             terms of the elements x, a maximum to each lane
//   step_of_rows()                 a step with of_rows(M, L as two numbers)
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/kernel/log_columns.hpp>
#include <xsoftmax/detail/kernel/log_probability.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// One row. In and Out as access.hpp has them. The passes work on ranges [first, last) that begin at a multiple of the
/// block size; `others` merges.
template <class A, class T, class Link, class In, class Out>
class log_row {
public:
  XSOFTMAX_STEP log_row(const log_softmax_task<T>& task, const Link& link, In z, Out y)
      : task_(task), link_(link), z_(z), y_(y) {}

  XSOFTMAX_STEP void run() const {
    const std::size_t n = task_.cols;
    const T m = largest(0, n);
    if (!(m - m == 0)) [[unlikely]] {
      write_value(m < 0 ? masked() : not_a_number<T>);
    } else if (link_.is_one_hot()) [[unlikely]] {
      one_hot(m);
    } else if (n <= block_size<T>) {
      const others_block all = only_block(m);
      finish(m, scaled(all.sum, -math::octave_bias<T>), all.count);
    } else {
      const others_sum<T> all = others(0, n, m);
      finish(m, all.finite ? scaled(all.rest, 0) : double_pair{not_a_number<double>, 0.0}, all.count);
    }
  }

  /// One step over a part of a row that is not one-hot.
  XSOFTMAX_STEP void run(log_softmax_step step, log_softmax_summary& summary, const log_softmax_summary* other) const {
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
  __attribute__((noinline)) XSOFTMAX_FLATTEN T largest(std::size_t first, std::size_t last) const {
    T m = -infinity<T>;
    pieces(first, last, [&](auto z, std::size_t, std::size_t size) XSOFTMAX_STEP_LAMBDA {
      const T found = maximum<A, T>(z, size);
      m = found > m ? found : m;
      return true;
    });
    return m;
  }

  /// The sum over [first, last) by the row's finite maximum.
  __attribute__((noinline)) XSOFTMAX_FLATTEN others_sum<T> others(std::size_t first, std::size_t last, T m) const {
    const auto terms = link_.others(m);
    others_sum<T> all;
    for (; first < last; first = block_end(first, last)) {
      typename In::buffer room;
      const std::size_t end = block_end(first, last);
      all.add(terms.block(z_.template block<A>(first, end, room), end - first));
    }
    return all;
  }

  /// y over [first, last), given the row's M and L.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write(std::size_t first, std::size_t last,
                                                        const log_denominator& row) const {
    link_.with_step(row, [&](const auto& step) XSOFTMAX_STEP_LAMBDA { transform_pieces(step, first, last); });
  }

private:
  static XSOFTMAX_STEP std::size_t block_end(std::size_t first, std::size_t last) {
    return last - first > block_size<T> ? first + block_size<T> : last;
  }

  /// body(elements, where they begin, how many) until it returns false: all at once where they lie side by side.
  template <class Body>
  XSOFTMAX_STEP void pieces(std::size_t first, std::size_t last, Body&& body) const {
    for (bool more = true; more && first < last;) {
      typename In::buffer room;
      const std::size_t end = In::plain ? last : block_end(first, last);
      more = body(z_.template block<A>(first, end, room), first, end - first);
      first = end;
    }
  }

  template <class Step>
  XSOFTMAX_STEP void transform_pieces(const Step& step, std::size_t first, std::size_t last) const {
    pieces(first, last, [&](auto z, std::size_t begin, std::size_t size) XSOFTMAX_STEP_LAMBDA {
      typename Out::buffer room;
      transform<A, T>(step, z, y_.target(begin, room), size);
      y_.template commit<A>(begin, begin + size, room);
      return true;
    });
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN others_block only_block(T m) const {
    typename In::buffer room;
    return link_.others(m).block(z_.template block<A>(0, task_.cols, room), task_.cols);
  }

  /// The last pass, once c and R (NaN if an element was) are known.
  XSOFTMAX_STEP void finish(T m, double_pair rest, std::uint64_t count) const {
    if (!(rest.high - rest.high == 0)) [[unlikely]] {
      write_value(not_a_number<T>);
      return;
    }
    write(0, task_.cols, link_.denominator(static_cast<double>(m), rest, count));
  }

  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN bool has_nan() const {
    bool found = false;
    pieces(0, task_.cols, [&](auto z, std::size_t, std::size_t size) XSOFTMAX_STEP_LAMBDA {
      found = contains_nan<A, T>(z, size);
      return !found;
    });
    return found;
  }

  /// What a row without a number above -inf gives.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN T masked() const { return has_nan() ? not_a_number<T> : masked_logarithm(task_); }

  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN void write_value(T value) const {
    transform_pieces([&](batch<A, T>) XSOFTMAX_STEP_LAMBDA { return batch<A, T>(value); }, 0, task_.cols);
  }

  /// All weight on the first maximum, or on the sink if that is above it.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN void one_hot(T m) const {
    if (has_nan()) {
      write_value(not_a_number<T>);
      return;
    }
    std::size_t first = 0;
    pieces(0, task_.cols, [&](auto z, std::size_t begin, std::size_t size) XSOFTMAX_STEP_LAMBDA {
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
  const Link& link_;
  In z_;
  Out y_;
};

/// The rows of a task, by what is nearest at hand.
template <class A, class T, class Link>
class log_rows {
public:
  static XSOFTMAX_STEP void run(const log_softmax_task<T>& task, const Link& link) noexcept {
    if (has_plain_rows<T>(task.z, task.cols) && has_plain_rows<T>(task.y, task.cols)) {
      rows(task, link,
           [](const auto& matrix, std::size_t r) XSOFTMAX_STEP_LAMBDA { return plain_row_of<T>(matrix, r); });
    } else if (are_columns(task.rows, task.z, task.y) && !link.is_one_hot()) {
      columns(task, link);
    } else {
      rows(task, link, [](const auto& matrix, std::size_t r) XSOFTMAX_STEP_LAMBDA { return row_of<T>(matrix, r); });
    }
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void columns(const log_softmax_task<T>& task,
                                                                 const Link& link) noexcept {
    for_each_strip<T>(
        task.rows, task.cols,
        [&](std::size_t, std::size_t rows, auto z, auto y) XSOFTMAX_STEP_LAMBDA {
          return log_strip<A, T, Link, decltype(z), decltype(y)>(task, link, z, y, rows).run();
        },
        [&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
          const auto z = row_of<T>(task.z, r);
          const auto y = row_of<T>(task.y, r);
          log_row<A, T, Link, std::remove_const_t<decltype(z)>, std::remove_const_t<decltype(y)>>(task, link, z, y)
              .run();
        },
        task.z, task.y);
  }

  template <class Access>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void rows(const log_softmax_task<T>& task, const Link& link,
                                                              Access access) noexcept {
    using In = decltype(access(task.z, 0));
    using Out = decltype(access(task.y, 0));
    for (std::size_t r = 0; r < task.rows; ++r) {
      const log_row<A, T, Link, In, Out> row(task, link, access(task.z, r), access(task.y, r));
      if (task.step == log_softmax_step::all) [[likely]] {
        row.run();
      } else {
        row.run(task.step, *task.summary, task.other);
      }
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

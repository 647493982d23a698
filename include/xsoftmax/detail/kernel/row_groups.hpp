// SPDX-License-Identifier: MIT
// Rows of a few batches, as many at a time as a batch of doubles has lanes. The steps are those of short_row; what a
// single row has to wait for is done for all of them at once: the levels of the sums' trees, the division, and one
// decision. A group is written when the next one has been summed, so that there is work while its division lasts.
// Rows may be overwritten in place: all of a group has been read before any of it is written.
#pragma once

#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/kernel/row.hpp>
#include <xsoftmax/detail/softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T, bool HasTemperature>
class row_groups {
public:
  /// Rows of a group.
  static constexpr std::size_t rows = lanes<A, double>;

  /// The longest row.
  static constexpr std::size_t capacity = 4 * virtual_lanes<T>;

  /// The rows from `first` on, group by group, as long as the usual reference serves; returns the first row that is not
  /// done. Elements of T side by side, no sink.
  static XSOFTMAX_INLINE std::size_t run(const softmax_task<T>& task, const math::reduction<A, T>& reduction,
                                         std::size_t first) {
    return task.rows - first < rows ? first : run_up_to<virtual_lanes<T>>(task, reduction, first);
  }

private:
  using V = batch<A, T>;
  using D = batch<A, double>;
  using Term = math::extended_exp<A, T, HasTemperature>;

  /// By the smallest multiple of the virtual lanes that holds a row. One copy of the code where T is not 1.
  template <std::size_t Size>
  static XSOFTMAX_INLINE std::size_t run_up_to(const softmax_task<T>& task, const math::reduction<A, T>& reduction,
                                               std::size_t first) {
    if constexpr (Size < capacity) {
      if (task.cols > Size) {
        return run_up_to<Size + virtual_lanes<T>>(task, reduction, first);
      }
    }
    if constexpr (!HasTemperature) {
      if (task.cols == Size) {
        return run_sized(task, reduction, first, full_chunk<Size>{});
      }
    }
    return run_sized(task, reduction, first, partial_chunk<Size>{task.cols});
  }

  template <class Extent>
  static __attribute__((noinline)) std::size_t
  run_sized(const softmax_task<T>& task, const math::reduction<A, T>& reduction, std::size_t first, Extent extent) {
    // As in short_row.
    constexpr double floor =
        power_of_two(math::octave_bias<T> - reference_slack<T>) * static_cast<double>(Extent::padded);
    constexpr double ceiling = power_of_two(math::octave_bias<T> + math::headroom<T> - 1);
    const auto z = task.z;
    const auto p = task.p;
    const Term term(reduction, usual_reference<T>);
    // Of two groups in turn: one is summed, then the other is written.
    alignas(64) T terms[2][rows][Extent::padded];
    alignas(64) T inverse[2 * rows];
    const auto terms_of = [&](std::size_t row)
                              XSOFTMAX_LAMBDA { return contiguous_row<T>{terms[row / rows % 2][row % rows]}; };
    const auto write = [&](std::size_t group) XSOFTMAX_LAMBDA {
      for (std::size_t r = 0; r < rows; ++r) {
        const normaliser<A, T> normalise{V(inverse[r]), V(inverse[r + rows])};
        const auto e = load_chunk<A, T>(terms_of(group - first + r), 0, full_chunk<Extent::padded>{}, T{});
        store_chunk<A, false, T>(plain_row_of<T>(p, group + r), 0, extent,
                                 map([&](V v) XSOFTMAX_LAMBDA { return normalise(v); }, e));
      }
    };
    std::size_t group = first;
    for (; task.rows - group >= rows; group += rows) {
      pack<decltype(term_sum<A, T>().one_batch()), rows> lanes_of;
      for (std::size_t r = 0; r < rows; ++r) {
        const auto e = map([&](V x) XSOFTMAX_LAMBDA { return term.clamped(x); },
                           load_chunk<A, T>(plain_row_of<T>(z, group + r), 0, extent, -infinity<T>));
        store_chunk<A, false, T>(terms_of(group - first + r), 0, full_chunk<Extent::padded>{}, e);
        lanes_of.v[r] = term_sum<A, T>(e).one_batch();
      }
      const row_totals<D> sum = sums_of_rows<A>([&](auto r) XSOFTMAX_LAMBDA -> const auto& {
                                  return lanes_of.v[decltype(r)::value];
                                }).totals();
      if (group != first) {
        write(group - rows);
      }
      if (!native<A>::all_between(sum.high, D(floor), D(ceiling))) {
        return group;
      }
      normaliser<A, T>::reciprocals_of(sum, inverse);
    }
    if (group != first) {
      write(group - rows);
    }
    return group;
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

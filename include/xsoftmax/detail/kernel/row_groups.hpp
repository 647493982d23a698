// SPDX-License-Identifier: MIT
// Rows of a few batches, as many at a time as a batch of doubles has lanes. The steps are those of short_row; what a
// single row has to wait for is done for all of them at once: the levels of the sums' trees, the division, and one
// decision. A group is written when the next one has been summed, so that there is work while its division lasts.
// Rows may be overwritten in place: all of a group has been read before any of it is written.
#pragma once

#include <xsoftmax/detail/kernel/near_zero.hpp>
#include <xsoftmax/detail/kernel/reference.hpp>
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
    if constexpr (has_near) {
      while (task.cols % virtual_lanes<T> == 0 && task.rows - first >= rows) {
        first = run_groups<true>(task, reduction, first, task.rows);
        // Where one is not near 0, the next ones are taken not to be either.
        const std::size_t last = task.rows - first > 8 * rows ? first + 8 * rows : task.rows;
        first = run_groups<false>(task, reduction, first, last);
        if (last - first >= rows) {
          return first;
        }
      }
    }
    return run_groups<false>(task, reduction, first, task.rows);
  }

private:
  using V = batch<A, T>;
  using D = batch<A, double>;
  using Term = math::extended_exp<A, T, HasTemperature>;
  using Normaliser = normaliser<A, T>;

  /// Rows of whole batches near 0 have kernels of their own (near_zero.hpp). One copy of the code where T is not 1.
  static constexpr bool has_near = may_be_near<Term, contiguous_row<const T>>;

  /// The octaves from 0 up to which no part of a row's results is subnormal, and terms are within the headroom.
  static constexpr std::int64_t near_octaves = 30;

  /// The same up to `last`: only whole groups.
  template <bool Near>
  static XSOFTMAX_INLINE std::size_t run_groups(const softmax_task<T>& task, const math::reduction<A, T>& reduction,
                                                std::size_t first, std::size_t last) {
    return last - first < rows ? first : run_up_to<Near, virtual_lanes<T>>(task, reduction, first, last);
  }

  /// By the smallest multiple of the virtual lanes that holds a row.
  template <bool Near, std::size_t Size>
  static XSOFTMAX_INLINE std::size_t run_up_to(const softmax_task<T>& task, const math::reduction<A, T>& reduction,
                                               std::size_t first, std::size_t last) {
    if constexpr (Size < capacity) {
      if (task.cols > Size) {
        return run_up_to<Near, Size + virtual_lanes<T>>(task, reduction, first, last);
      }
    }
    if constexpr (Near) {
      return run_sized<true>(task, reduction, first, last, full_chunk<Size>{});
    } else {
      if constexpr (!HasTemperature && !has_near) {
        if (task.cols == Size) {
          return run_sized<false>(task, reduction, first, last, full_chunk<Size>{});
        }
      }
      return run_sized<false>(task, reduction, first, last, partial_chunk<Size>{task.cols});
    }
  }

  template <bool Near, class Extent>
  static __attribute__((noinline)) std::size_t run_sized(const softmax_task<T>& task,
                                                         const math::reduction<A, T>& reduction, std::size_t first,
                                                         std::size_t last, Extent extent) {
    constexpr std::size_t size = Extent::padded;
    constexpr std::size_t part = wide_chunk<A, T>; // what is worked on step by step
    constexpr std::int64_t lowered = Near ? Normaliser::lift_octaves : 0;
    static_assert(!Near || (near_octaves < usual_reference<T> + math::headroom<T> &&
                            Normaliser::may_lower(math::octave_bias<T> - usual_reference<T> - near_octaves - 2,
                                                  math::octave_bias<T> - usual_reference<T> + near_octaves + 2 +
                                                      octave_of_double(static_cast<double>(size)))));
    // As in short_row; a NaN is all that near terms can leave outside.
    constexpr double floor =
        Near ? 0 : power_of_two(math::octave_bias<T> - reference_slack<T>) * static_cast<double>(size);
    constexpr double ceiling = power_of_two(math::octave_bias<T> + math::headroom<T> - 1);
    const T reach = static_cast<T>(near_octaves) * reduction.ln2_high;
    const auto z = task.z;
    const auto p = task.p;
    const Term term(reduction, usual_reference<T> + lowered);
    // Of two groups in turn: one is summed, then the other is written.
    alignas(64) T terms[2][rows][size];
    alignas(64) T inverse[2 * rows];
    const auto terms_of = [&](std::size_t row)
                              XSOFTMAX_LAMBDA { return contiguous_row<T>{terms[row / rows % 2][row % rows]}; };
    const auto write = [&](std::size_t group) XSOFTMAX_LAMBDA {
      for (std::size_t r = 0; r < rows; ++r) {
        const Normaliser normalise{V(inverse[r]), V(inverse[r + rows])};
        const auto e = load_chunk<A, T>(terms_of(group - first + r), 0, full_chunk<size>{}, T{});
        store_chunk<A, false, T>(
            plain_row_of<T>(p, group + r), 0, extent,
            map([&](V v) XSOFTMAX_LAMBDA { return Near ? normalise.of_lowered(v) : normalise(v); }, e));
      }
    };
    std::size_t group = first;
    for (; last - group >= rows; group += rows) {
      pack<decltype(term_sum<A, T>().one_batch()), rows> lanes_of;
      V farthest(T{});
      for (std::size_t r = 0; r < rows; ++r) {
        const auto row = plain_row_of<T>(z, group + r);
        if constexpr (Near) {
          term_sum<A, T> sum;
          unroll<(size + part - 1) / part>([&](auto b) XSOFTMAX_LAMBDA {
            constexpr std::size_t at = decltype(b)::value * part;
            constexpr std::size_t elements = size - at < part ? size - at : part;
            const full_chunk<elements> chunk{};
            const auto x = load_chunk<A, T>(row, at, chunk, T{});
            farthest = largest_magnitude<A>(x, farthest);
            const auto e = term.above_lowest(x);
            store_chunk<A, false, T>(terms_of(group - first + r), at, chunk, e);
            if constexpr (at == 0) {
              sum = term_sum<A, T>(e);
            } else {
              sum.add(e);
            }
          });
          lanes_of.v[r] = sum.one_batch();
        } else {
          const auto e =
              map([&](V x) XSOFTMAX_LAMBDA { return term.clamped(x); }, load_chunk<A, T>(row, 0, extent, -infinity<T>));
          store_chunk<A, false, T>(terms_of(group - first + r), 0, full_chunk<size>{}, e);
          lanes_of.v[r] = term_sum<A, T>(e).one_batch();
        }
      }
      row_totals<D> sum = sums_of_rows<A>([&](auto r) XSOFTMAX_LAMBDA -> const auto& {
                            return lanes_of.v[decltype(r)::value];
                          }).totals();
      if (group != first) {
        write(group - rows);
      }
      if (!native<A>::all_between(sum.high, D(floor), D(ceiling)) || (Near && !native<A>::all_below(farthest, reach))) {
        return group;
      }
      if constexpr (Near) {
        sum = {sum.high * D(power_of_two(lowered)), sum.low * D(power_of_two(lowered))};
      }
      Normaliser::reciprocals_of(sum, inverse);
    }
    if (group != first) {
      write(group - rows);
    }
    return group;
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Rows of a few batches, as many at a time as a batch of doubles has lanes. The steps are those of short_row; what a
// single row has to wait for is done for all of them at once: the levels of the sums' trees, the division, and one
// decision. A group is written when the next one has been summed, so that there is work while its division lasts.
// Rows may be overwritten in place: all of a group has been read before any of it is written.
//
// A Terms says what the shares are of:
//   has_near             do rows of whole batches near 0 have terms of their own, lowered as normaliser has it?
//   step<Near>()         from a batch, or from a chunk, to terms
//   reach()              |x| below which the near ones serve
//   neighbours           how the sum takes them
//   sizes_apart          do rows that fill their batches exactly get code of their own?
//   floor<Size>(),       the range in which the sum of a row of at most Size elements says that the others have served
//   ceiling
#pragma once

#include <xsoftmax/detail/kernel/near_zero.hpp>
#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/softmax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The longest row of a group.
template <class T>
inline constexpr std::size_t row_group_capacity = 4 * virtual_lanes<T>;

/// The terms of softmax, relative to the usual reference.
template <class A, class T, bool HasTemperature>
class softmax_group_terms {
public:
  using V = batch<A, T>;
  using Term = math::extended_exp<A, T, HasTemperature>;

  /// Where T is not 1 there is one copy of the code.
  static constexpr bool has_near = may_be_near<Term, contiguous_row<const T>>;

  static constexpr neighbour_sum neighbours = neighbour_sum::in_float;

  /// Rows that fill their batches exactly get code of their own.
  static constexpr bool sizes_apart = !HasTemperature && !has_near;

  XSOFTMAX_STEP explicit softmax_group_terms(const math::reduction<A, T>& reduction) : reduction_(reduction) {}

  template <bool Near>
  XSOFTMAX_STEP auto step() const {
    if constexpr (Near) {
      return [term = Term(reduction_, usual_reference<T> + normaliser<A, T>::lift_octaves)]<std::size_t N>(
                 const pack<V, N>& x) XSOFTMAX_STEP_LAMBDA { return term.above_lowest(x); };
    } else {
      return [term = Term(reduction_, usual_reference<T>)](V x) XSOFTMAX_STEP_LAMBDA { return term.clamped(x); };
    }
  }

  XSOFTMAX_STEP T reach() const {
    constexpr std::int64_t octaves = near_octaves<A, T>(row_group_capacity<T>);
    return static_cast<T>(octaves) * reduction_.ln2_high;
  }

  /// As in short_row.
  template <std::size_t Size>
  static constexpr double floor() {
    return power_of_two(math::octave_bias<T> - reference_slack<T>) * static_cast<double>(Size);
  }

  static constexpr double ceiling = power_of_two(math::octave_bias<T> + math::headroom<T> - 1);

private:
  const math::reduction<A, T>& reduction_;
};

template <class A, class T, class Terms>
class row_groups {
public:
  /// Rows of a group.
  static constexpr std::size_t rows = lanes<A, double>;

  /// The longest row.
  static constexpr std::size_t capacity = row_group_capacity<T>;

  /// The rows from `first` on, group by group, as long as the usual reference serves; returns the first row that is not
  /// done. Elements of T side by side, no sink.
  template <class Task>
  static XSOFTMAX_STEP std::size_t run(const Task& task, const Terms& terms, std::size_t first) {
    if constexpr (Terms::has_near) {
      while (task.cols % virtual_lanes<T> == 0 && task.rows - first >= rows) {
        first = run_groups<true>(task, terms, first, task.rows);
        // Where one is not near 0, the next ones are taken not to be either.
        const std::size_t last = task.rows - first > 8 * rows ? first + 8 * rows : task.rows;
        first = run_groups<false>(task, terms, first, last);
        if (last - first >= rows) {
          return first;
        }
      }
    }
    return run_groups<false>(task, terms, first, task.rows);
  }

private:
  using V = batch<A, T>;
  using D = batch<A, double>;
  using Normaliser = normaliser<A, T>;
  using Sum = term_sum<A, T, Terms::neighbours>;

  /// The same up to `last`: only whole groups.
  template <bool Near, class Task>
  static XSOFTMAX_STEP std::size_t run_groups(const Task& task, const Terms& terms, std::size_t first,
                                              std::size_t last) {
    return last - first < rows ? first : run_up_to<Near, virtual_lanes<T>>(task, terms, first, last);
  }

  /// By the smallest multiple of the virtual lanes that holds a row.
  template <bool Near, std::size_t Size, class Task>
  static XSOFTMAX_STEP std::size_t run_up_to(const Task& task, const Terms& terms, std::size_t first,
                                             std::size_t last) {
    if constexpr (Size < capacity) {
      if (task.cols > Size) {
        return run_up_to<Near, Size + virtual_lanes<T>>(task, terms, first, last);
      }
    }
    if constexpr (Near) {
      return run_sized<true>(task, terms, first, last, full_chunk<Size>{});
    } else {
      if constexpr (Terms::sizes_apart) {
        if (task.cols == Size) {
          return run_sized<false>(task, terms, first, last, full_chunk<Size>{});
        }
      }
      return run_sized<false>(task, terms, first, last, partial_chunk<Size>{task.cols});
    }
  }

  /// body(r) for the rows of a group; where they are shortest, in code of its own for each, which takes an eighth less.
  template <std::size_t Size, class Body>
  static XSOFTMAX_STEP void each_row(Body&& body) {
    constexpr std::size_t together = Size <= 2 * lanes<A, T> ? rows : 1;
    for (std::size_t first = 0; first < rows; first += together) {
      unroll<together>([&](auto r) XSOFTMAX_STEP_LAMBDA { body(first + decltype(r)::value); });
    }
  }

  template <bool Near, class Task, class Extent>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN std::size_t
  run_sized(const Task& task, const Terms& terms, std::size_t first, std::size_t last, Extent extent) {
    constexpr std::size_t size = Extent::padded;
    constexpr std::size_t part = wide_chunk<A, T>; // what is worked on step by step
    constexpr std::int64_t lowered = Near ? Normaliser::lift_octaves : 0;
    // A NaN is all that near terms can leave outside.
    constexpr double floor = Near ? 0 : Terms::template floor<size>();
    const auto z = task.z;
    const auto p = task.p;
    const auto step = terms.template step<Near>();
    // Of two groups in turn: one is summed, then the other is written.
    alignas(64) T held[2][rows][size];
    alignas(64) T inverse[2 * rows];
    const auto terms_of = [&](std::size_t row)
                              XSOFTMAX_STEP_LAMBDA { return contiguous_row<T>{held[row / rows % 2][row % rows]}; };
    const auto write = [&](std::size_t group) XSOFTMAX_STEP_LAMBDA {
      each_row<size>([&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
        const Normaliser normalise{V(inverse[r]), V(inverse[r + rows])};
        const auto e = load_chunk<A, T>(terms_of(group - first + r), 0, full_chunk<size>{}, T{});
        store_chunk<A, false, T>(
            plain_row_of<T>(p, group + r), 0, extent,
            map([&](V v) XSOFTMAX_STEP_LAMBDA { return Near ? normalise.of_lowered(v) : normalise(v); }, e));
      });
    };
    std::size_t group = first;
    for (; last - group >= rows; group += rows) {
      pack<decltype(Sum().one_batch()), rows> lanes_of;
      V farthest(T{});
      each_row<size>([&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
        const auto row = plain_row_of<T>(z, group + r);
        if constexpr (Near) {
          Sum sum;
          unroll<(size + part - 1) / part>([&](auto b) XSOFTMAX_STEP_LAMBDA {
            constexpr std::size_t at = decltype(b)::value * part;
            constexpr std::size_t elements = size - at < part ? size - at : part;
            const full_chunk<elements> chunk{};
            const auto x = load_chunk<A, T>(row, at, chunk, T{});
            farthest = largest_magnitude<A>(x, farthest);
            const auto e = step(x);
            store_chunk<A, false, T>(terms_of(group - first + r), at, chunk, e);
            if constexpr (at == 0) {
              sum = Sum(e);
            } else {
              sum.add(e);
            }
          });
          lanes_of.v[r] = sum.one_batch();
        } else {
          const auto e = map(step, load_chunk<A, T>(row, 0, extent, -infinity<T>));
          store_chunk<A, false, T>(terms_of(group - first + r), 0, full_chunk<size>{}, e);
          lanes_of.v[r] = Sum(e).one_batch();
        }
      });
      row_totals<D> sum = sums_of_rows<A>([&](auto r) XSOFTMAX_STEP_LAMBDA -> const auto& {
                            return lanes_of.v[decltype(r)::value];
                          }).totals();
      if (group != first) {
        write(group - rows);
      }
      if (!native<A>::all_between(sum.high, D(floor), D(Terms::ceiling))) {
        return group;
      }
      if constexpr (Near) {
        if (!native<A>::all_below(farthest, terms.reach())) {
          return group;
        }
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

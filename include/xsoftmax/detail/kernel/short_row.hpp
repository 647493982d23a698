// SPDX-License-Identifier: MIT
// A row of at most one block, where latency is what counts: one pass for the terms and their sum, no maximum, no
// accumulator, and a single decision, on the sum. Logits are clamped to what a guessed reference can hold, and
//
//   S >= 2^(bias + headroom - 1)          if one was clamped from above, +inf included: its term alone is as large
//   S < n * 2^(bias - slack)              if all may lie too far below
//   S = NaN                               if one was
//
// The rest of the chain is the sum over the lanes, a division and a product, during which nothing else of the row is
// left to do; what the processor finds to do is the next row.
#pragma once

#include <bit>
#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T, bool HasTemperature>
class short_row {
public:
  /// The longest row.
  static constexpr std::size_t capacity = block_size<T>;

  /// p = softmax(z), or false if the guess failed; then only `terms`, where the terms of a longer row wait, may have
  /// been written.
  template <class In, class Terms, class Out>
  static XSOFTMAX_INLINE bool run(const math::reduction<A, T>& reduction, In z, Terms terms, Out p, std::size_t n) {
    if constexpr (HasTemperature) { // less usual: one copy of the code for rows of every access
      return run_out_of_line(reduction, z, terms, p, n);
    } else {
      return run_here(reduction, z, terms, p, n);
    }
  }

  /// May the row be overwritten by its result? Only where the guess is checked before anything is written.
  static XSOFTMAX_INLINE bool may_run_in_place(std::size_t n) { return n <= in_registers; }

private:
  using V = batch<A, T>;
  using Term = math::extended_exp<A, T, HasTemperature>;

  /// Elements of a row whose terms stay in registers.
  static constexpr std::size_t in_registers = native<A>::template batches_in_registers<T> * lanes<A, T>;

  template <class In, class Terms, class Out>
  static __attribute__((noinline)) bool run_out_of_line(const math::reduction<A, T>& reduction, In z, Terms terms,
                                                        Out p, std::size_t n) {
    return run_here(reduction, z, terms, p, n);
  }

  template <class In, class Terms, class Out>
  static XSOFTMAX_INLINE bool run_here(const math::reduction<A, T>& reduction, In z, Terms terms, Out p,
                                       std::size_t n) {
    const Term term(reduction, guessed_reference<HasTemperature>(reduction, z.get(0)));
    if constexpr (in_registers != 0 && In::addressable && Out::addressable) {
      if (n <= in_registers) {
        return run_in_registers<in_registers>(term, z, p, n);
      }
    }
    return run_in_memory(term, z, terms, p, n);
  }

  /// Does the sum of at most n terms say that the guess served?
  static XSOFTMAX_INLINE bool holds(double sum, std::size_t n) {
    const double floor = power_of_two(math::octave_bias<T> - reference_slack<T>) * static_cast<double>(n);
    const double ceiling = power_of_two(math::octave_bias<T> + math::headroom<T> - 1);
    return sum >= floor && sum < ceiling;
  }

  template <class In, class Terms, class Out>
  static XSOFTMAX_INLINE bool run_in_memory(const Term& term, In z, Terms terms, Out p, std::size_t n) {
    term_sum<A, T> sum;
    for_each_chunk<wide_chunk<A, T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_LAMBDA {
      const auto e =
          map([&](V x) XSOFTMAX_LAMBDA { return term.clamped(x); }, load_chunk<A, T>(z, i, extent, -infinity<T>));
      store_chunk<A, false, T>(terms, i, extent, e);
      sum.add(e);
    });
    const double_pair total = sum.total();
    if (!holds(total.high, n)) {
      return false;
    }
    const normaliser<A, T> normalise(total);
    transform<A, T>([&](V e) XSOFTMAX_LAMBDA { return normalise(e); }, terms, p, n);
    return true;
  }

  /// A row of at most Size elements; shorter ones go to the next smaller power of two.
  template <std::size_t Size>
  static XSOFTMAX_INLINE bool run_in_registers(const Term& term, contiguous_row<const T> z, contiguous_row<T> p,
                                               std::size_t n) {
    if constexpr (Size > virtual_lanes<T>) {
      constexpr std::size_t smaller = std::bit_floor(Size - 1);
      if (n <= smaller) {
        return run_in_registers<smaller>(term, z, p, n);
      }
    }
    const auto shares = [&](auto extent) XSOFTMAX_LAMBDA {
      const auto e =
          map([&](V x) XSOFTMAX_LAMBDA { return term.clamped(x); }, load_chunk<A, T>(z, 0, extent, -infinity<T>));
      const double_pair total = term_sum<A, T>(e).total();
      if (!holds(total.high, Size)) {
        return false;
      }
      const normaliser<A, T> normalise(total);
      store_chunk<A, false, T>(p, 0, extent, map([&](V v) XSOFTMAX_LAMBDA { return normalise(v); }, e));
      return true;
    };
    return n == Size ? shares(full_chunk<Size>{}) : shares(partial_chunk<Size>{n});
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

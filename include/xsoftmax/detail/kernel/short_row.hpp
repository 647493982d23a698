// SPDX-License-Identifier: MIT
// A row of at most one block, where latency is what counts: one pass for the terms and their sum, relative to a guessed
// reference, no maximum, no accumulator. Where the terms of a row stay in registers, logits are clamped to what the
// reference can hold, and there is a single decision, on the sum:
//
//   S >= 2^(bias + headroom - 1)          if one was clamped from above, +inf included: its term alone is as large
//   S < n * 2^(bias - slack)              if all may lie too far below
//   S = NaN                               if one was
//
// The rest of the chain is the sum over the lanes, a division and a product, during which nothing else of the row is
// left to do. Of a longer row the terms wait in memory, so that it can be scaled when the next one has been summed.
#pragma once

#include <bit>
#include <xsoftmax/detail/kernel/near_zero.hpp>
#include <xsoftmax/detail/kernel/reference.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

template <class A, class T, bool HasTemperature>
class short_row {
public:
  /// The longest row.
  static constexpr std::size_t capacity = block_size<T>;

  /// p = softmax(z), or false if the guess failed; then only `terms`, where the terms of a longer row wait, may have
  /// been written. `far`: rows, this one included, that are taken not to be near 0 altogether; kept up to date.
  template <class In, class Terms, class Out>
  static XSOFTMAX_STEP bool run(const math::reduction<A, T>& reduction, In z, Terms terms, Out p, std::size_t n,
                                std::size_t& far) {
    if constexpr (HasTemperature) { // less usual: one copy of the code for rows of every access
      return run_out_of_line(reduction, z, terms, p, n, far);
    } else {
      return run_here(reduction, z, terms, p, n, far);
    }
  }

  /// What is known of a row whose terms are stored.
  struct stored {
    double_pair sum;
    bool may_lower; ///< does the last pass bear lowered terms?
  };

  /// The first half of run, for rows that do not stay in registers: false if the guess failed.
  template <class In, class Terms>
  static XSOFTMAX_STEP bool store_terms(const math::reduction<A, T>& reduction, In z, Terms terms, std::size_t n,
                                        std::size_t& far, stored& row) {
    const T example = larger(z.get(0), z.get(n - 1));
    const std::int64_t reference = guessed_reference<HasTemperature>(reduction, example);
    const bool may_try = far == 0 && n > nearness<A, T>::first_run / 2;
    nearness<A, T> near = may_try ? nearness<A, T>(Term::reach(reduction, reference), example) : nearness<A, T>();
    const block_terms all = sum_terms_near_zero<true, A, T>(Term(reduction, reference), reference, z, terms, n, near);
    constexpr std::size_t rows_to_pass = 8;
    far = far != 0 ? far - 1 : near.everywhere() ? 0 : rows_to_pass;
    row = {all.sum, near.may_lower(reduction, reference, all.sum)};
    // A NaN whose sign is set has no octave: the sum tells.
    return all.sum.high - all.sum.high == 0 && all.octave <= reference + math::headroom<T> &&
           (near.everywhere() || kernel::holds<A, T>(reference, all.octave));
  }

  /// The second half.
  template <class In, class Terms, class Out>
  static XSOFTMAX_STEP void scale(const stored& row, Terms terms, Out p, std::size_t n) {
    normaliser<A, T>(row.sum).template with_step<may_be_near<Term, In>>(
        row.may_lower, [&](const auto& step) XSOFTMAX_STEP_LAMBDA { transform<A, T>(step, terms, p, n); });
  }

  /// Do the terms of a row of n elements stay in registers?
  static XSOFTMAX_STEP bool stays_in_registers(std::size_t n) { return n <= in_registers; }

  /// May the row be overwritten by its result? Only where the guess is checked before anything is written.
  static XSOFTMAX_STEP bool may_run_in_place(std::size_t n) { return stays_in_registers(n); }

private:
  using V = batch<A, T>;
  using Term = math::extended_exp<A, T, HasTemperature>;

  /// Elements of a row whose terms stay in registers.
  static constexpr std::size_t in_registers = native<A>::template batches_in_registers<T> * lanes<A, T>;

  template <class In, class Terms, class Out>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN bool
  run_out_of_line(const math::reduction<A, T>& reduction, In z, Terms terms, Out p, std::size_t n, std::size_t& far) {
    return run_here(reduction, z, terms, p, n, far);
  }

  template <class In, class Terms, class Out>
  static XSOFTMAX_STEP bool run_here(const math::reduction<A, T>& reduction, In z, Terms terms, Out p, std::size_t n,
                                     std::size_t& far) {
    if constexpr (in_registers != 0 && In::addressable && Out::addressable) {
      if (n <= in_registers) {
        const Term term(reduction, guessed_reference<HasTemperature>(reduction, z.get(0)));
        return run_in_registers<in_registers>(term, z, p, n);
      }
    }
    stored row;
    if (!store_terms(reduction, z, terms, n, far, row)) {
      return false;
    }
    scale<In>(row, terms, p, n);
    return true;
  }

  /// Does the sum of at most n terms say that the guess served?
  static XSOFTMAX_STEP bool holds(double sum, std::size_t n) {
    const double floor = power_of_two(math::octave_bias<T> - reference_slack<T>) * static_cast<double>(n);
    const double ceiling = power_of_two(math::octave_bias<T> + math::headroom<T> - 1);
    return sum >= floor && sum < ceiling;
  }

  /// A row of at most Size elements; shorter ones go to the next smaller power of two.
  template <std::size_t Size>
  static XSOFTMAX_STEP bool run_in_registers(const Term& term, contiguous_row<const T> z, contiguous_row<T> p,
                                             std::size_t n) {
    if constexpr (Size > virtual_lanes<T>) {
      constexpr std::size_t smaller = std::bit_floor(Size - 1);
      if (n <= smaller) {
        return run_in_registers<smaller>(term, z, p, n);
      }
    }
    const auto shares = [&](auto extent) XSOFTMAX_STEP_LAMBDA {
      const auto e =
          map([&](V x) XSOFTMAX_STEP_LAMBDA { return term.clamped(x); }, load_chunk<A, T>(z, 0, extent, -infinity<T>));
      const double_pair total = term_sum<A, T>(e).total();
      if (!holds(total.high, Size)) {
        return false;
      }
      const normaliser<A, T> normalise(total);
      store_chunk<A, false, T>(p, 0, extent, map([&](V v) XSOFTMAX_STEP_LAMBDA { return normalise(v); }, e));
      return true;
    };
    return n == Size ? shares(full_chunk<Size>{}) : shares(partial_chunk<Size>{n});
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

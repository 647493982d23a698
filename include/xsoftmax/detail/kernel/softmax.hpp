// SPDX-License-Identifier: MIT
// Softmax of rows. Four ways over a row, one result:
//
//   e_i = E(z_i) 2^(bias - n)      E = scale * exp(z / T) as mantissa and exponent, which depend on z_i and T alone
//   S   = sum of e_i               one fixed tree (sum.hpp)
//   p_i = e_i * (1 / S)            1 / S as a pair, one rounding
//
// n is a reference octave. Scaling by powers of two commutes with rounding, so a running, a guessed and the true
// maximum give the same S, and the ways differ in speed only.
#pragma once

#include <type_traits>
#include <xsoftmax/detail/kernel/deferred_rows.hpp>
#include <xsoftmax/detail/kernel/half_row.hpp>
#include <xsoftmax/detail/kernel/near_zero.hpp>
#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/kernel/row_groups.hpp>
#include <xsoftmax/detail/kernel/short_row.hpp>
#include <xsoftmax/detail/kernel/softmax_columns.hpp>
#include <xsoftmax/detail/kernel/unusual_row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The passes over one row. In and Out give access to its elements; HasTemperature = false says T = 1.
template <class A, class T, bool HasTemperature, class In, class Out>
class softmax_row {
public:
  using V = batch<A, T>;
  using Regular = math::extended_exp<A, T, HasTemperature>;

  XSOFTMAX_STEP softmax_row(const softmax_task<T>& task, const math::reduction<A, T>& reduction, In z, Out p)
      : task_(task), reduction_(reduction), z_(z), p_(p) {}

  XSOFTMAX_STEP void run(softmax_algorithm algorithm, bool stream) const {
    row_state<T> state;
    switch (algorithm) {
    case softmax_algorithm::automatic: // reload without its pass for the maximum, if a guess serves
    case softmax_algorithm::three_pass_reload:
      if constexpr (has_terms) {
        if (p_.holds_terms(task_.cols)) {
          if ((algorithm == softmax_algorithm::automatic && guess_and_store_terms(state)) || store_terms(state)) {
            scale_stored(state, stream);
            return;
          }
          break;
        }
      }
      state = maximum_first(); // terms would be rounded to what p is stored as
      break;
    case softmax_algorithm::two_pass:
      state = pairs();
      break;
    case softmax_algorithm::online:
      state = running_maximum();
      break;
    case softmax_algorithm::three_pass_recompute:
      state = maximum_first();
      break;
    }
    finish(state, stream);
  }

  /// p of a part of a row of which everything is known already.
  XSOFTMAX_STEP void run(const log_sum_exp_summary& whole, bool stream) const { finish(state_of(whole), stream); }

  /// The row's state in the way that serves every row.
  XSOFTMAX_STEP row_state<T> state() const { return maximum_first(); }

private:
  static constexpr std::int64_t limit = math::reduction_octaves<A, T>;
  static constexpr bool has_terms = requires(Out p) { p.terms(); };
  static constexpr bool has_near =
      may_be_near<Regular, contiguous_row<const T>> && std::is_same_v<In, plain_row<const T>>;
  static constexpr bool may_estimate = has_words<A> && !HasTemperature && requires(Out p) { p.halves(); };

  XSOFTMAX_STEP unusual_row<A, T> unusual() const { return {task_, as_any_row(z_), as_any_row(p_)}; }

  XSOFTMAX_STEP bool regular(T largest, std::int64_t& octave) const {
    return is_regular<HasTemperature>(reduction_, largest, octave);
  }

  /// The row's kind by its maximum: the same decision in every algorithm.
  XSOFTMAX_STEP row_state<T> classify(T largest) const {
    row_state<T> state;
    return regular(largest, state.reference) ? state : unusual().classify(largest, reduction_);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN row_state<T> state_of(const log_sum_exp_summary& whole) const {
    if (whole.nan || whole.plus_infinity) {
      return filled_row(not_a_number<T>);
    }
    if (whole.count == 0) {
      return filled_row(masked_value<T>(task_));
    }
    row_state<T> state;
    if (!regular(static_cast<T>(whole.maximum), state.reference)) {
      return unusual().classify(whole);
    }
    row_sum<A, T> sum(exact_sum(whole.all));
    complete(state, sum, task_.sink, task_.temperature);
    return state;
  }

  XSOFTMAX_STEP std::size_t block_end(std::size_t first) const {
    return task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN T largest(std::size_t first, std::size_t last) const {
    return maximum<A, T>(z_, first, last);
  }

  /// May what a row is stored in be written and then written again?
  XSOFTMAX_STEP bool may_store_twice() const { return Out::terms_apart || task_.z.data != task_.p.data; }

  /// Of a row that nothing has been summed of, where terms will be relative to `reference`.
  XSOFTMAX_STEP nearness<A, T> nearness_of(std::int64_t reference, bool may_try = true) const {
    return may_try ? nearness<A, T>(Regular::reach(reduction_, reference), example()) : nearness<A, T>();
  }

  /// What is known of a row beforehand.
  XSOFTMAX_STEP T example() const { return larger(z_.template element<A>(0), z_.template element<A>(task_.cols - 1)); }

  template <bool Store>
  __attribute__((noinline)) XSOFTMAX_FLATTEN block_terms block(std::size_t first, std::int64_t reference,
                                                               nearness<A, T>& near) const {
    const std::size_t last = block_end(first);
    typename In::buffer z_room;
    contiguous_row<T> terms{};
    if constexpr (Store) {
      terms = p_.terms().from(static_cast<std::ptrdiff_t>(first));
    }
    const auto z = z_.template block<A>(first, last, z_room);
    const Regular term(reduction_, reference);
    if constexpr (requires { z.halves(); }) {
      if (!z.is_native()) { // whose last pass needs to know the maximum
        near = nearness<A, T>();
        if constexpr (has_words<A>) {
          const T lowest = Regular::lowest_normal(reduction_, reference);
          if (lowest < 0 && z.format == storage_format::bfloat16) {
            return sum_half_terms<Store, storage_format::bfloat16, A>(term, lowest, z, terms, last - first);
          }
          if (lowest < 0) {
            return sum_half_terms<Store, storage_format::float16, A>(term, lowest, z, terms, last - first);
          }
        }
        return sum_terms<Store, A, T>(term, z, terms, last - first);
      }
    }
    return sum_terms_near_zero<Store, A, T>(term, reference, z, terms, last - first, near);
  }

  /// The denominator of a row whose terms have been summed relative to state.reference.
  XSOFTMAX_STEP void complete_row(row_state<T>& state, row_sum<A, T>& sum, const nearness<A, T>& near) const {
    complete(state, sum, task_.sink, task_.temperature);
    state.may_lower = task_.sink == -infinity<double> && state.kind == row_kind::regular &&
                      near.may_lower(reduction_, state.reference, state.sum);
  }

  template <bool Store>
  XSOFTMAX_STEP void sum_row(row_state<T>& state) const {
    row_sum<A, T> sum;
    nearness<A, T> near = nearness_of(state.reference, !Store || may_store_twice());
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      sum.add(block<Store>(first, state.reference, near).sum, state.reference);
    }
    complete_row(state, sum, near);
  }

  /// Three passes: the maximum, then the sum. This way serves every row.
  __attribute__((noinline)) XSOFTMAX_FLATTEN row_state<T> maximum_first() const {
    row_state<T> state = classify(largest(0, task_.cols));
    if (state.kind == row_kind::regular) {
      sum_row<false>(state);
    }
    return state;
  }

  /// Two-pass: every term is a pair (mantissa, exponent), and a block's terms share the exponent of a reference that is
  /// guessed and corrected: no pass for the maximum. The octave of a block's largest term tells whether the guess held.
  __attribute__((noinline)) XSOFTMAX_FLATTEN row_state<T> pairs() const {
    std::int64_t reference = guessed_reference<HasTemperature>(reduction_, example());
    std::int64_t highest = -limit - 1;
    row_sum<A, T> sum;
    nearness<A, T> near = nearness_of(reference);
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      block_terms terms = block<false>(first, reference, near);
      if (terms.octave > limit || !reduction_.usable) {
        return maximum_first(); // beyond the range, +inf or NaN
      }
      if (terms.octave > reference + math::headroom<T>) {
        reference = terms.octave;
        near = nearness<A, T>();
        terms = block<false>(first, reference, near);
      }
      sum.add(terms.sum, reference);
      highest = terms.octave > highest ? terms.octave : highest;
    }
    if (!near.everywhere() && !holds<A, T>(reference, highest)) {
      return maximum_first();
    }
    row_state<T> state;
    state.reference = near.everywhere() ? reference : highest;
    complete_row(state, sum, near);
    return state;
  }

  /// Online: the maximum of a block, then its terms relative to the largest so far.
  __attribute__((noinline)) XSOFTMAX_FLATTEN row_state<T> running_maximum() const {
    row_state<T> state;
    row_sum<A, T> sum;
    state.reference = -limit;
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      std::int64_t octave;
      if (!regular(largest(first, block_end(first)), octave)) {
        return maximum_first();
      }
      state.reference = octave > state.reference ? octave : state.reference;
      nearness<A, T> near = nearness_of(state.reference);
      sum.add(block<false>(first, state.reference, near).sum, state.reference);
    }
    complete(state, sum, task_.sink, task_.temperature);
    return state;
  }

  /// May p hold the terms before the reference is final? Not with a sink, which can move it at the end; and a row that
  /// is overwritten in place cannot be tried twice.
  XSOFTMAX_STEP bool may_store_guess() const {
    return task_.sink == -infinity<double> && reduction_.usable && may_store_twice();
  }

  /// Reload without the pass for the maximum: true if a guessed reference held for all blocks, and p holds the terms.
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool guess_and_store_terms(row_state<T>& state) const {
    if (!may_store_guess()) {
      return false;
    }
    state.reference = guessed_reference<HasTemperature>(reduction_, example());
    std::int64_t highest = -limit - 1;
    row_sum<A, T> sum;
    nearness<A, T> near = nearness_of(state.reference);
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      const block_terms terms = block<true>(first, state.reference, near);
      if (terms.octave > state.reference + math::headroom<T> || terms.octave > limit) {
        return false;
      }
      sum.add(terms.sum, state.reference);
      highest = terms.octave > highest ? terms.octave : highest;
    }
    if ((!near.everywhere() && !holds<A, T>(state.reference, highest)) || !sum.finite()) {
      return false;
    }
    complete_row(state, sum, near);
    return true;
  }

  /// Three-pass reload, and whether p now holds the terms: not for unusual rows, nor with a sink, which may turn out to
  /// be the largest when the terms are stored already.
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool store_terms(row_state<T>& state) const {
    if (task_.sink != -infinity<double>) {
      state = maximum_first();
      return false;
    }
    state = classify(largest(0, task_.cols));
    if (state.kind != row_kind::regular) {
      return false;
    }
    sum_row<true>(state);
    return state.kind == row_kind::regular;
  }

  /// The last pass: p_i = e_i / S, the terms computed again.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void finish(const row_state<T>& state, bool stream) const {
    if constexpr (has_near) {
      if (state.may_lower) {
        const Regular lowered(reduction_, state.reference + normaliser<A, T>::lift_octaves);
        const normaliser<A, T> normalise(state.sum);
        const auto step = [=]<std::size_t N>(const pack<V, N>& x) XSOFTMAX_STEP_LAMBDA {
          return map([&](V e) XSOFTMAX_STEP_LAMBDA { return normalise.of_lowered(e); }, lowered.above_lowest(x));
        };
        write(step, z_, stream);
        return;
      }
    }
    if (state.kind == row_kind::regular) [[likely]] {
      const Regular term(reduction_, state.reference);
      const normaliser<A, T> normalise(state.sum);
      const auto step = [=](V x) XSOFTMAX_STEP_LAMBDA { return normalise(term(x)); };
      if constexpr (may_estimate) {
        const bool estimated = math::probability_estimate<A>::serves(state.reference) &&
                               (write_estimated<storage_format::bfloat16>(state, step, stream) ||
                                write_estimated<storage_format::float16>(state, step, stream));
        if (estimated) {
          return;
        }
      }
      write(step, z_, stream);
    } else {
      unusual().finish(state, reduction_);
    }
  }

  /// The last pass from Format to Format by an estimate, if it can be had.
  template <storage_format Format, class Step>
  XSOFTMAX_STEP bool write_estimated(const row_state<T>& state, const Step& step, bool stream) const {
    return z_.format == Format && p_.format == Format &&
           estimated_row<A, Format, Step>(state.reference, state.sum.high, step).write(z_, p_, task_.cols, stream);
  }

  /// The last pass where p already holds the terms.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void scale_stored(const row_state<T>& state, bool stream) const {
    normaliser<A, T>(state.sum).template with_step<has_near>(
        state.may_lower, [&](const auto& step) XSOFTMAX_STEP_LAMBDA { write(step, p_.terms(), stream); });
  }

  template <class Step, class From>
  XSOFTMAX_STEP void write(Step&& step, From from, bool stream) const {
    write_row<A, T>(step, from, p_, task_.cols, stream);
  }

  const softmax_task<T>& task_;
  const math::reduction<A, T>& reduction_;
  In z_;
  Out p_;
};

/// Bytes of a row, input and output together, up to which three-pass reload is the fastest: it has one exponential per
/// element where the others have two, for one more pass over p. Beyond, p falls out of the caches between the passes,
/// and two passes are faster where an exponential costs less than the memory traffic of a pass: float with fused
/// multiply-add.
template <class A, class T>
inline constexpr std::size_t reload_bytes = sizeof(T) == 4 && native<A>::fused
                                                ? std::size_t{16} << 20
                                                : std::numeric_limits<std::size_t>::max();

template <class A, class T>
struct softmax {
  XSOFTMAX_FLATTEN static void run(const softmax_task<T>& task) noexcept {
    if (task.cols == 0) {
      return;
    }
    const bool plain = has_plain_rows<T>(task.z, task.cols) && has_plain_rows<T>(task.p, task.cols);
    if (task.whole != nullptr) [[unlikely]] {
      part(task, plain);
    } else if (plain && task.temperature == 1.0) {
      usual_rows(task);
    } else {
      other_rows(task, plain);
    }
  }

private:
  static constexpr math::reduction<A, T> unit = math::unit_reduction<A, T>();

  // Out of line, so that the usual rows need not save what only the others need.

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void usual_rows(const softmax_task<T>& task) noexcept {
    rows<false>(task, unit, plain_access);
  }

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void other_rows(const softmax_task<T>& task, bool plain) noexcept {
    if (task.temperature == 0.0) {
      for (std::size_t r = 0; r < task.rows; ++r) {
        unusual_row<A, T>(task, row_of<T>(task.z, r), row_of<T>(task.p, r)).one_hot();
      }
    } else if (plain) {
      rows<true>(task, math::make_reduction<A, T>(task.temperature), plain_access);
    } else if (task.z.col_stride == 1 && task.p.col_stride == 1 && task.temperature == 1.0) {
      formatted_rows(task);
    } else if (are_columns(task.rows, task.z, task.p)) {
      columns(task, math::make_reduction<A, T>(task.temperature));
    } else {
      rows<true>(task, math::make_reduction<A, T>(task.temperature), any_access);
    }
  }

  /// Halves side by side, as input, output or both.
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void formatted_rows(const softmax_task<T>& task) noexcept {
    if constexpr (sizeof(T) == sizeof(float)) {
      terms_room room;
      rows<false>(task, unit, [&]<class Void>(const elements<Void>& matrix, std::size_t r) XSOFTMAX_STEP_LAMBDA {
        return formatted_row<Void>{row_of<T>(matrix, r).data, matrix.format, &room};
      });
    }
  }

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void part(const softmax_task<T>& task, bool plain) noexcept {
    const math::reduction<A, T> reduction = math::make_reduction<A, T>(task.temperature);
    const bool stream = streams(task, false);
    if (plain) {
      plain_softmax_row(task, reduction, plain_row_of<T>(task.z, 0), plain_row_of<T>(task.p, 0))
          .run(*task.whole, stream);
    } else {
      any_softmax_row(task, reduction, row_of<T>(task.z, 0), row_of<T>(task.p, 0)).run(*task.whole, stream);
    }
  }

  static __attribute__((noinline)) XSOFTMAX_FLATTEN void columns(const softmax_task<T>& task,
                                                                 const math::reduction<A, T>& reduction) noexcept {
    softmax_columns<A, T>(
        task, reduction,
        [&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
          return any_softmax_row(task, reduction, row_of<T>(task.z, r), row_of<T>(task.p, r)).state();
        },
        [&](std::size_t r)
            XSOFTMAX_STEP_LAMBDA { long_row<true>(task, reduction, row_of<T>(task.z, r), row_of<T>(task.p, r)); });
  }

  using plain_softmax_row = softmax_row<A, T, true, plain_row<const T>, plain_row<T>>;
  using any_softmax_row = softmax_row<A, T, true, any_row<T, const void>, any_row<T, void>>;

  static constexpr auto plain_access = [](const auto& matrix, std::size_t r)
                                           XSOFTMAX_STEP_LAMBDA { return plain_row_of<T>(matrix, r); };
  static constexpr auto any_access = [](const auto& matrix, std::size_t r)
                                         XSOFTMAX_STEP_LAMBDA { return row_of<T>(matrix, r); };

  template <bool HasTemperature, class Access>
  static XSOFTMAX_STEP void rows(const softmax_task<T>& task, const math::reduction<A, T>& reduction,
                                 Access&& access) noexcept {
    using In = decltype(access(task.z, 0));
    using Out = decltype(access(task.p, 0));
    using short_row = short_row<A, T, HasTemperature>;
    using group_terms = softmax_group_terms<A, T, HasTemperature>;
    using row_groups = row_groups<A, T, group_terms>;
    const bool may_guess = task.algorithm == softmax_algorithm::automatic && task.store != store_kind::streaming &&
                           task.sink == -infinity<double> && reduction.usable;
    const bool is_short = may_guess && task.cols <= short_row::capacity &&
                          (Out::terms_apart || task.z.data != task.p.data || short_row::may_run_in_place(task.cols));
    const bool is_grouped = may_guess && task.cols <= row_groups::capacity;
    std::size_t ungrouped = 0; // rows that are seen to one by one before a group is tried again
    // Rows that are taken to hold logits far from 0: where rows are short, the first, as a vain trial costs it much.
    std::size_t far = task.cols <= 2 * nearness<A, T>::first_run ? 1 : 0;
    if constexpr (std::is_same_v<In, plain_row<const T>>) {
      if (is_short && !is_grouped && !short_row::stays_in_registers(task.cols)) {
        using stored = typename short_row::stored;
        deferred_rows<stored>(
            task.rows,
            [&](std::size_t r, stored& row) XSOFTMAX_STEP_LAMBDA {
              return short_row::store_terms(reduction, contiguous_row<const T>(access(task.z, r)),
                                            contiguous_row<T>(access(task.p, r)), task.cols, far, row);
            },
            [&](std::size_t r, const stored& row) XSOFTMAX_STEP_LAMBDA {
              const contiguous_row<T> p = access(task.p, r);
              short_row::template scale<contiguous_row<const T>>(row, p, p, task.cols);
            },
            [&](std::size_t r) XSOFTMAX_STEP_LAMBDA {
              long_row<HasTemperature, In, Out>(task, reduction, access(task.z, r), access(task.p, r), false);
            });
        return;
      }
    }
    for (std::size_t r = 0; r < task.rows; ++r) {
      if constexpr (std::is_same_v<In, plain_row<const T>>) {
        if (is_grouped && ungrouped == 0) {
          r = row_groups::run(task, group_terms(reduction), r);
          ungrouped = row_groups::rows;
          if (r == task.rows) {
            break;
          }
        }
        --ungrouped;
      }
      const In z = access(task.z, r);
      const Out p = access(task.p, r);
      typename In::buffer z_room;
      typename Out::buffer p_room;
      const auto y = p.target(0, p_room);
      const auto terms = [&]() XSOFTMAX_STEP_LAMBDA {
        if constexpr (Out::terms_apart) {
          return p.terms();
        } else {
          return y;
        }
      };
      if (is_short &&
          short_row::run(reduction, z.template block<A>(0, task.cols, z_room), terms(), y, task.cols, far)) {
        p.template commit<A>(0, task.cols, p_room);
      } else {
        long_row<HasTemperature, In, Out>(task, reduction, z, p, !is_short);
      }
    }
  }

  /// may_guess: no reference has been guessed in vain.
  template <bool HasTemperature, class In, class Out>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void long_row(const softmax_task<T>& task,
                                                                  const math::reduction<A, T>& reduction, In z, Out p,
                                                                  bool may_guess = true) noexcept {
    softmax_algorithm algorithm = task.algorithm;
    if (algorithm == softmax_algorithm::automatic) {
      bool reload = task.cols * sizeof(T) <= reload_bytes<A, T> / 2;
      if constexpr (requires { p.terms(); }) {
        reload = reload && p.holds_terms(task.cols);
      } else {
        reload = false;
      }
      algorithm = !reload     ? softmax_algorithm::two_pass
                  : may_guess ? softmax_algorithm::automatic
                              : softmax_algorithm::three_pass_reload;
    }
    const bool reloads = algorithm == softmax_algorithm::automatic || algorithm == softmax_algorithm::three_pass_reload;
    softmax_row<A, T, HasTemperature, In, Out>(task, reduction, z, p).run(algorithm, streams(task, reloads));
  }

  /// Does the last pass go past the caches? `reloads`: it reads what the pass before has written.
  static XSOFTMAX_STEP bool streams(const softmax_task<T>& task, bool reloads) {
    return task.store == store_kind::streaming ||
           (task.store == store_kind::automatic && !reloads && task.cols * sizeof(T) >= stream_bytes);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Sums of terms for the usual row, whose logits are near enough to 0 for every term to be a normal number: nothing is
// clamped, and one operation to a batch keeps the largest |x|. A row is summed in runs; a run that turns out to hold
// something else, -inf for instance, is summed again in the way that serves all, and so are the next ones, so that a
// masked row loses little. How near the logits were also tells whether the last pass can do with fewer operations.
// The bits are those of sum_terms.
#pragma once

#include <xsoftmax/detail/kernel/reference.hpp>
#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The rows that have this way: floats side by side at T = 1, which are most. Doubles gain little (with AVX-512
/// nothing), and loops for every other kind of row would take as long to compile as all the rest.
template <class Term, class In>
inline constexpr bool may_be_near = !Term::has_temperature && std::is_same_v<In, contiguous_row<const float>>;

/// So many octaves from 0 may the logits of a row of n elements lie for its terms to serve as lowered ones (normaliser)
/// relative to the usual reference, come what may: no part of a result is subnormal.
template <class A, class T>
XSOFTMAX_STEP constexpr std::int64_t near_octaves(std::size_t n) {
  constexpr std::int64_t one = math::octave_bias<T> - usual_reference<T>;      // the octave of exp(0)
  const std::int64_t terms = octave_of_double(static_cast<double>(2 * n - 1)); // n is not above 2^terms
  std::int64_t octaves = usual_reference<T> + math::headroom<T> - 1;
  while (!normaliser<A, T>::may_lower(one - octaves - 2, one + octaves + 2 + terms)) {
    --octaves;
  }
  return octaves;
}

/// What the sums of a row have found of its logits so far, and how to go on.
template <class A, class T>
class nearness {
public:
  using V = batch<A, T>;

  /// Nothing is near.
  XSOFTMAX_STEP nearness() {}

  /// reach: terms of all |x| below it are normal numbers; 0 or less: of none. example: an element of the row.
  XSOFTMAX_STEP nearness(T reach, T example)
      : reach_(reach), may_try_(example < reach && -example < reach), everywhere_(may_try_) {}

  /// Is the next run worth a trial?
  XSOFTMAX_STEP bool is_likely() {
    if (waiting_ != 0) {
      --waiting_;
      return false;
    }
    return may_try_;
  }

  /// Its elements: fewer at the beginning of a row and where one has failed.
  XSOFTMAX_STEP std::size_t run() const { return run_; }

  XSOFTMAX_STEP bool are_near(V farthest) const { return native<A>::all_below(farthest, reach_); }

  XSOFTMAX_STEP void held() { run_ = 2 * first_run; }

  /// Twice as many runs as the last time go without a trial.
  XSOFTMAX_STEP void failed() {
    everywhere_ = false;
    run_ = first_run;
    waiting_ = pause_;
    pause_ *= 2;
  }

  /// A block has been summed, of which this is the largest |x| but for the runs that were not near.
  XSOFTMAX_STEP void add(V farthest) {
    everywhere_ = everywhere_ && are_near(farthest);
    const T distance = native<A>::largest_lane(farthest);
    farthest_ = distance > farthest_ ? distance : farthest_;
  }

  /// Was every logit of the row near?
  XSOFTMAX_STEP bool everywhere() const { return everywhere_; }

  /// Will the last pass bear lowered terms (normaliser)? sum relative to 2^(reference - bias).
  XSOFTMAX_STEP bool may_lower(const math::reduction<A, T>& r, std::int64_t reference, double_pair sum) const {
    if (!everywhere_) {
      return false; // and farthest_ may be anything
    }
    const auto octaves = static_cast<std::int64_t>(farthest_ * r.log2e_over_temperature);
    const std::int64_t lowest = math::octave_bias<T> - reference - octaves - 2;
    return normaliser<A, T>::may_lower(lowest, octave_of_double(sum.high));
  }

  /// Elements of the first run. A row of half as many has nothing to gain.
  static constexpr std::size_t first_run = block_size<T> / 8;

private:
  T reach_ = 0;
  T farthest_ = 0;
  bool may_try_ = false;
  bool everywhere_ = false;
  std::size_t run_ = first_run;
  std::size_t waiting_ = 0;
  std::size_t pause_ = 4;
};

/// sum_terms of n elements, at most a block. The octave may be lower than that of the largest term, if that is within
/// the headroom.
template <bool Store, class A, class T, class Term, class In, class Out>
requires may_be_near<Term, In> XSOFTMAX_STEP block_terms sum_terms_near_zero(const Term& term, std::int64_t reference,
                                                                             In z, Out p, std::size_t n,
                                                                             nearness<A, T>& near) {
  using V = batch<A, T>;
  constexpr std::size_t wide = wide_chunk<A, T>;
  term_sum<A, T> sum;
  batch<A, bits_t<T>> largest(std::numeric_limits<bits_t<T>>::min());
  V farthest(T{});
  const auto add = [&](std::size_t i, auto extent, const auto& e) XSOFTMAX_STEP_LAMBDA {
    if constexpr (Store) {
      store_chunk<A, false, T>(p, i, extent, e);
    }
    sum.add(e);
  };
  const auto add_any = [&](std::size_t i, auto extent, const auto& x) XSOFTMAX_STEP_LAMBDA {
    add(i, extent, map([&](V v) XSOFTMAX_STEP_LAMBDA { return term(v, largest); }, x));
  };
  for (std::size_t first = 0, last = 0; first < n; first = last) {
    last = n - first > near.run() ? first + near.run() : n;
    const std::size_t whole = last - (last - first) % wide;
    bool is_near = near.is_likely();
    if (is_near) {
      const auto sum_before = sum;
      V farthest_here = farthest;
      for (std::size_t i = first; i != whole; i += wide) {
        const auto x = load_chunk<A, T>(z, i, full_chunk<wide>{}, T{});
        farthest_here = largest_magnitude<A>(x, farthest_here);
        add(i, full_chunk<wide>{}, term.above_lowest(x));
      }
      is_near = near.are_near(farthest_here);
      if (is_near) {
        farthest = farthest_here;
        near.held();
      } else {
        sum = sum_before;
        near.failed();
      }
    }
    if (!is_near) {
      for (std::size_t i = first; i != whole; i += wide) {
        add_any(i, full_chunk<wide>{}, load_chunk<A, T>(z, i, full_chunk<wide>{}, T{}));
      }
    }
    // The rest may be anything; what is not there is far away as a term and near as a logit.
    for_each_chunk<group_size<T>, group_size<T>>(whole, last, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
      add_any(i, extent, load_chunk<A, T>(z, i, extent, -infinity<T>));
      if (near.everywhere()) {
        farthest = largest_magnitude<A>(load_chunk<A, T>(z, i, extent, T{}), farthest);
      }
    });
  }
  near.add(farthest);
  const double_pair total = sum.total();
  std::int64_t octave = math::octave_of<T>(native<A>::largest_lane(largest));
  if (octave <= reference + math::headroom<T>) { // at least the average's; beyond every range where a sum is NaN
    constexpr std::int64_t terms = octave_of_double(static_cast<double>(block_size<T>)) + 2;
    const std::int64_t average = octave_of_double(total.high) - terms + reference - math::octave_bias<T>;
    octave = average > octave ? average : octave;
  }
  return {total, octave};
}

/// Other rows.
template <bool Store, class A, class T, class Term, class In, class Out>
XSOFTMAX_STEP block_terms sum_terms_near_zero(const Term& term, std::int64_t, In z, Out p, std::size_t n,
                                              nearness<A, T>& near) {
  near = nearness<A, T>();
  return sum_terms<Store, A, T>(term, z, p, n);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// What the kernels over rows share: simple passes, sums of terms, and the state of a row between its passes.
#pragma once

#include <limits>
#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/math/exp.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Elements of the chunk in which every pass goes over a row: enough batches in flight to hide latencies.
template <class A, class T>
inline constexpr std::size_t wide_chunk =
    group_size<T> >= native<A>::interleave* lanes<A, T> ? group_size<T> : native<A>::interleave* lanes<A, T>;

template <class T>
inline constexpr T infinity = static_cast<T>(__builtin_inf());

template <class T>
inline constexpr T not_a_number = static_cast<T>(__builtin_nan(""));

/// Largest of n elements; NaN is passed over, -inf if there is nothing else.
template <class A, class T, class Row>
XSOFTMAX_STEP T maximum(Row z, std::size_t n) {
  using V = batch<A, T>;
  constexpr std::size_t width = lanes<A, T>;
  constexpr std::size_t chains = 4; // two loads a cycle against a latency of two to four
  V largest[chains];
  unroll<chains>([&](auto c) XSOFTMAX_STEP_LAMBDA { largest[decltype(c)::value] = V(-infinity<T>); });
  for_each_chunk<chains * width, width>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    const auto x = load_chunk<A, T>(z, i, extent, -infinity<T>);
    unroll<decltype(x)::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      V& chain = largest[decltype(b)::value];
      chain = native<A>::max_dropping_nan(x.v[decltype(b)::value], chain);
    });
  });
  unroll<chains - 1>([&](auto c) XSOFTMAX_STEP_LAMBDA {
    largest[0] = native<A>::max_dropping_nan(largest[decltype(c)::value + 1], largest[0]);
  });
  return native<A>::largest_lane(largest[0]);
}

/// The same of the elements [first, last) of any row.
template <class A, class T, class Row>
XSOFTMAX_STEP T maximum(Row z, std::size_t first, std::size_t last) {
  T largest = -infinity<T>;
  for_each_piece<T>(z, first, last, [&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
    typename Row::buffer room;
    const T x = maximum<A, T>(z.template block<A>(from, to, room), to - from);
    largest = x > largest ? x : largest;
  });
  return largest;
}

template <class A, class T>
XSOFTMAX_STEP void fill(contiguous_row<T> p, std::size_t n, T value) {
  for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    store_chunk<A, false, T>(p, i, extent, pack<batch<A, T>, 1>{{batch<A, T>(value)}});
  });
}

template <class A, class T>
XSOFTMAX_STEP bool contains_nan(contiguous_row<const T> z, std::size_t n) {
  bool found = false;
  for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    found = found || native<A>::any_nan(load_chunk<A, T>(z, i, extent, T{}).v[0]);
  });
  return found;
}

/// max(|x|, m), lane by lane over all batches.
template <class A, class V, std::size_t N>
XSOFTMAX_STEP V largest_magnitude(const pack<V, N>& x, V m) {
  unroll<N>([&](auto b) XSOFTMAX_STEP_LAMBDA { m = native<A>::max_magnitude(x.v[decltype(b)::value], m); });
  return m;
}

/// Sums the terms of n elements, at most a block. With Store they are also written to p.
template <bool Store, class A, class T, neighbour_sum Neighbours = neighbour_sum::in_float, class Term, class In,
          class Out>
XSOFTMAX_STEP double_pair add_terms(Term&& term, In z, Out p, std::size_t n) {
  term_sum<A, T, Neighbours> sum;
  for_each_chunk<wide_chunk<A, T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    const auto e = map(term, load_chunk<A, T>(z, i, extent, -infinity<T>));
    if constexpr (Store) {
      store_chunk<A, false, T>(p, i, extent, e);
    }
    sum.add(e);
  });
  return sum.total();
}

/// A block's sum relative to a reference, and the octave of its largest term. The octave is beyond every range where
/// that is +inf or NaN.
struct block_terms {
  double_pair sum;
  std::int64_t octave;
};

/// The same, and what the terms say of their octave.
template <bool Store, class A, class T, class Term, class In, class Out>
XSOFTMAX_STEP block_terms sum_terms(const Term& term, In z, Out p, std::size_t n) {
  batch<A, bits_t<T>> largest(std::numeric_limits<bits_t<T>>::min());
  const double_pair sum =
      add_terms<Store, A, T>([&](batch<A, T> x) XSOFTMAX_STEP_LAMBDA { return term(x, largest); }, z, p, n);
  return {sum, math::octave_of<T>(native<A>::largest_lane(largest))};
}

/// A step on the batches of a chunk, one by one or all together.
template <class Step, class Pack>
XSOFTMAX_STEP auto apply(Step&& step, const Pack& x) {
  if constexpr (requires { step(x); }) {
    return step(x);
  } else {
    return map(step, x);
  }
}

/// p = step(source), chunk by chunk.
template <class A, class T, class Step, class Source, class Out>
XSOFTMAX_STEP void transform(Step&& step, Source source, Out p, std::size_t n) {
  for_each_chunk<wide_chunk<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    store_chunk<A, false, T>(p, i, extent, apply(step, load_chunk<A, T>(source, i, extent, T{})));
  });
}

/// The same past the caches, but for the elements up to the first address that a streaming store accepts. To be fenced.
template <class A, class T, class Step, class Source, class Out>
XSOFTMAX_STEP void transform_streamed(Step&& step, Source source, Out p, std::size_t n) {
  constexpr std::size_t width = lanes<A, T>;
  const auto address = reinterpret_cast<std::uintptr_t>(p.data);
  const std::size_t misaligned = address / p.element_bytes() % width;
  std::size_t head = misaligned == 0 ? 0 : width - misaligned;
  head = head < n && address % p.element_bytes() == 0 ? head : n;
  const auto pass = [&](auto streamed, std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
    for_each_chunk<wide_chunk<A, T>, width>(first, last, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
      store_chunk<A, decltype(streamed)::value != 0, T>(p, i, extent,
                                                        apply(step, load_chunk<A, T>(source, i, extent, T{})));
    });
  };
  pass(index_constant<0>{}, 0, head);
  pass(index_constant<1>{}, head, n);
}

/// p = step(source) over a whole row; `stream`: past the caches where the elements of p lie side by side.
template <class A, class T, class Step, class From, class Out>
XSOFTMAX_STEP void write_row(Step&& step, From source, Out p, std::size_t n, bool stream) {
  for_each_piece<T>(source, 0, n, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
    typename From::buffer source_room;
    typename Out::buffer p_room;
    const auto x = source.template block<A>(first, last, source_room);
    const auto y = p.target(first, p_room);
    if (stream && p.direct()) {
      transform_streamed<A, T>(step, x, y, last - first);
    } else {
      transform<A, T>(step, x, y, last - first);
    }
    p.template commit<A>(first, last, p_room, stream);
  });
  if (stream) {
    native<A>::fence();
  }
}

/// Bytes of an output row from which stores go past the caches: it would not stay there anyway.
inline constexpr std::size_t stream_bytes = std::size_t{8} << 20;

/// v cut to the leading 24 binary digits, by a mask that stays in a vector register.
XSOFTMAX_INLINE double leading_digits(double v) {
  using bits = std::int64_t __attribute__((vector_size(16)));
  using values = double __attribute__((vector_size(16)));
  const auto cut = reinterpret_cast<bits>(values{v, 0.0}) & ~std::int64_t{0x1FFFFFFF};
  return reinterpret_cast<values>(cut)[0];
}

/// 1 / S as a pair, lifted.
template <class T>
struct reciprocal {
  T high;
  T low;
};

/// p = e / S with one rounding: e times 1 / S as a pair.
template <class A, class T>
class normaliser {
public:
  using V = batch<A, T>;

  static constexpr int lift_octaves = sizeof(T) == 4 ? 64 : 128;

  /// S relative to the reference of the terms
  XSOFTMAX_STEP explicit normaliser(double_pair sum) : normaliser(reciprocal_of(sum)) {}

  XSOFTMAX_STEP explicit normaliser(reciprocal<T> r) : high_(r.high), low_(r.low) {}

  XSOFTMAX_STEP normaliser(V high, V low) : high_(high), low_(low) {}

  XSOFTMAX_STEP V operator()(V e) const { return of_lowered(e) * V(static_cast<T>(1.0 / lift)); }

  /// p of 2^-lift_octaves times a term: the same number of fewer operations where no part of the product is subnormal.
  XSOFTMAX_STEP V of_lowered(V e) const { return native<A>::fused_multiply_add(e, high_, e * low_); }

  /// 2^-lift_octaves e, if that is a normal number.
  static XSOFTMAX_STEP V lowered(V e) {
    constexpr bits_t<T> octaves = bits_t<T>{lift_octaves} << math::exp_format<T>::fraction_bits;
    return native<A>::from_bits(native<A>::bits(e) - batch<A, bits_t<T>>(octaves));
  }

  /// Is no part of the product subnormal, if 2^lowest is the octave of the smallest term and 2^sum that of S? The parts
  /// of 1 / S are not below 2^-53 (double: 2^-106, but for rounding errors) of it.
  static XSOFTMAX_STEP constexpr bool may_lower(std::int64_t lowest, std::int64_t sum) {
    constexpr std::int64_t normal = math::exp_format<T>::exponent_bias - 1;
    constexpr std::int64_t parts = sizeof(T) == 4 ? 54 : 222;
    return lowest - lift_octaves >= -normal && lowest - sum - 1 - parts >= -normal;
  }

  /// run(step), the step from a term to p that fits. With CanLower = false, may_lower is not.
  template <bool CanLower, class Run>
  XSOFTMAX_STEP void with_step(bool may_lower, Run&& run) const {
    if constexpr (CanLower) {
      if (may_lower) {
        run([&](V e) XSOFTMAX_STEP_LAMBDA { return of_lowered(lowered(e)); });
        return;
      }
    }
    run(*this);
  }

  static XSOFTMAX_STEP reciprocal<T> reciprocal_of(double_pair sum) {
    if constexpr (sizeof(T) == 4) {
      const double r = lift / sum.high;
      const double high = leading_digits(r);
      return {static_cast<float>(high), static_cast<float>(r - high)};
    } else {
      const double r = 1.0 / sum.high;
      return {r * lift, r * lift * rest_of(V(sum.high), V(sum.low), V(r)).get(0)};
    }
  }

  /// The same for several rows: of row r, high is element r of the result and low element r + lanes<A, double>.
  static XSOFTMAX_STEP void reciprocals_of(const row_totals<batch<A, double>>& sum, T* result) {
    using N = native<A>;
    using D = batch<A, double>;
    if constexpr (sizeof(T) == 4) {
      const D r = D(lift) / sum.high;
      const D high = N::from_bits(N::bits(r) & batch<A, std::int64_t>(~std::int64_t{0x1FFFFFFF}));
      N::store(result, N::narrow(high, r - high));
    } else {
      const D r = D(1.0) / sum.high;
      N::store(result, r * D(lift));
      N::store(result + lanes<A, double>, r * D(lift) * rest_of(sum.high, sum.low, r));
    }
  }

private:
  /// Neither part of the product is subnormal where p is not, so that flushing such numbers to zero takes nothing else:
  /// the product is formed far above its place and put there by an exact multiplication (which rounds once more only if
  /// p is subnormal).
  static constexpr double lift = power_of_two(lift_octaves);

  /// One step of Newton's method in twice the precision: 1 / S = r + r (1 - S r); this is 1 - S r.
  static XSOFTMAX_STEP V rest_of(V high, V low, V r) {
    using N = native<A>;
    return N::negative_multiply_add(low, r, N::fused_multiply_add(high, -r, V(1.0)));
  }

  V high_;
  V low_;
};

/// How the terms of a row can be had.
enum class row_kind : unsigned char {
  regular, ///< by the floating-point reduction
  wide,    ///< by the reduction in integers
  ties,    ///< logits so large that distinct ones differ by more than the range of T
  filled,  ///< special: one value everywhere
};

/// What is known of a row between its passes.
template <class T>
struct row_state {
  row_kind kind = row_kind::regular;
  T value = T{};              ///< filled: the value; ties: the maximum
  std::int64_t reference = 0; ///< octave of the maximum (or of the sink, if that is larger)
  double_pair sum = {};       ///< relative to 2^(reference - bias)
  bool may_lower = false;     ///< may the last pass take lowered terms (normaliser)?
};

template <class T>
XSOFTMAX_INLINE row_state<T> filled_row(T value) {
  row_state<T> state;
  state.kind = row_kind::filled;
  state.value = value;
  return state;
}

/// The sum of a row, block by block, and `finite` unset once a term was NaN.
template <class A, class T>
class row_sum {
public:
  XSOFTMAX_STEP row_sum() {}

  XSOFTMAX_STEP explicit row_sum(const exact_sum& sum) : sum_(sum) {}

  XSOFTMAX_STEP void add(double_pair block, std::int64_t reference) {
    if (block.high - block.high == 0) {
      accumulate(sum_, block, reference - math::octave_bias<T>);
    } else {
      finite_ = false;
    }
  }

  /// Adds the sink's term: exp(sink / T), scaled as the row's. Moves the reference up to it, if it is larger; false if
  /// then nothing is left of the row.
  XSOFTMAX_NOINLINE XSOFTMAX_FLATTEN bool add_sink(double sink, double temperature, std::int64_t& reference) {
    const wide_reduced r = wide_reduction(temperature).template operator()<0>(sink);
    if (r.saturated) {
      return sink < 0;
    }
    const batch<A, double> one(1.0);
    const batch<A, double> e = native<A>::multiply_add(math::exp_minus_one<A>(batch<A, double>(r.t)), one, one);
    // 2^1100 above the row, no probability is left. The reference may be a guess far below the row, its sum is not.
    const std::int64_t row = sum_.octave() + exact_sum::octaves;
    const bool alone = r.k > row && static_cast<std::uint64_t>(r.k) - static_cast<std::uint64_t>(row) > 1100;
    accumulate(sum_, {e.get(0) * math::extended_exp<A, T, true>::scale, 0.0}, r.k);
    reference = r.k > reference ? r.k : reference;
    return !alone;
  }

  XSOFTMAX_STEP bool finite() const { return finite_; }

  /// Relative to 2^(reference - bias).
  __attribute__((noinline)) XSOFTMAX_FLATTEN double_pair value(std::int64_t reference) const {
    return sum_.value(reference - math::octave_bias<T>);
  }

private:
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void accumulate(exact_sum& sum, double_pair v,
                                                                    std::int64_t octave) {
    sum.add(v, octave);
  }

  exact_sum sum_;
  bool finite_ = true;
};

/// The denominator of a row whose terms have been summed: completes `state`.
template <class A, class T>
XSOFTMAX_STEP void complete(row_state<T>& state, row_sum<A, T>& sum, double sink, double temperature) {
  if (!sum.finite()) {
    state = filled_row(not_a_number<T>);
  } else if (sink != -infinity<double> && !sum.add_sink(sink, temperature, state.reference)) {
    state = filled_row(T{});
  } else {
    state.sum = sum.value(state.reference);
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// The passes of softmax over a row of halves side by side, where the sixteen bits of an element tell what floats have
// to be asked for. Bits of the general passes (row.hpp), in less time:
//
//   sum_half_terms   A chunk without a word below the range needs no clamping, and the largest word of a block has its
//                    largest term.
//   estimated_row    An estimate, which saves the pair of 1 / S and to bfloat16 the careful rounding, decides nearly
//                    every result. In a long row it is tried beforehand on all values there are; in another, what lies
//                    within its error of the middle between two numbers is computed in full (A. Ziv, "Fast evaluation
//                    of elementary mathematical functions with correctly rounded last bit", 1991).
//
// Words compare as numbers do: positive ones signed, negative ones unsigned and backwards.
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The negative half nearest to x that is not below it, but finite.
XSOFTMAX_INLINE std::uint16_t lowest_half(float x, storage_format format) {
  const std::uint16_t most = format == storage_format::float16 ? 0xFBFF : 0xFF7F;
  const std::uint16_t nearest = half_bits(x, format);
  const auto above = static_cast<std::uint16_t>(half_value(nearest, format) < x ? nearest - 1 : nearest);
  return above < most ? above : most;
}

/// Sixteen-bit elements of a chunk, and what they are as floats, in their order.
template <class A, storage_format Format>
struct half_chunk {
  using N = native<A>;
  using F = batch<A, float>;
  static constexpr std::size_t size = wide_chunk<A, float>;
  static constexpr std::size_t width = 2 * lanes<A, float>;

  pack<typename N::words, size / width> words;

  XSOFTMAX_STEP explicit half_chunk(const std::uint16_t* z)
      : words(make_pack<size / width>(
            [&](auto b) XSOFTMAX_STEP_LAMBDA { return N::load_words(z + decltype(b)::value * width); })),
        z_(z) {}

  /// Fetches the chunk that comes a page after the one at z: out of cache, what the processor fetches by itself is not
  /// enough for passes as short as these.
  static XSOFTMAX_STEP void prefetch(const std::uint16_t* z) {
    const auto address = reinterpret_cast<std::uintptr_t>(z) + 4096; // may lie beyond the row
    unroll<size / width>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t offset = decltype(b)::value * width * sizeof(*z);
      __builtin_prefetch(reinterpret_cast<const void*>(address + offset), 0, 3);
    });
  }

  XSOFTMAX_STEP auto floats() const {
    return by_pairs([&](std::size_t offset, auto w, F& first, F& second) XSOFTMAX_STEP_LAMBDA {
      if constexpr (Format == storage_format::float16) {
        N::widen_float16(w, z_ + offset, first, second);
      } else {
        N::widen_bfloat16(w, first, second);
      }
    });
  }

  /// In the order that round_bfloat16 and round_float16 reverse.
  XSOFTMAX_STEP auto floats_apart() const {
    if constexpr (Format == storage_format::float16) {
      return floats();
    } else {
      return by_pairs([](std::size_t, auto w, F& first, F& second)
                          XSOFTMAX_STEP_LAMBDA { N::widen_bfloat16_apart(w, first, second); });
    }
  }

  /// f(f(w_0, w_1), w_2)...
  template <class Combine>
  XSOFTMAX_STEP typename N::words all(Combine&& f) const {
    auto w = words.v[0];
    unroll<size / width - 1>([&](auto b) XSOFTMAX_STEP_LAMBDA { w = f(w, words.v[decltype(b)::value + 1]); });
    return w;
  }

private:
  template <class Widen>
  XSOFTMAX_STEP auto by_pairs(Widen&& widen) const {
    pack<F, size / lanes<A, float>> x;
    unroll<size / width>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = decltype(b)::value;
      widen(at * width, words.v[at], x.v[2 * at], x.v[2 * at + 1]);
    });
    return x;
  }

  const std::uint16_t* z_;
};

/// sum_terms of n halves, at most a block, where the terms' lowest logit is negative.
template <bool Store, storage_format Format, class A, class Term>
XSOFTMAX_STEP block_terms sum_half_terms(const Term& term, float lowest_normal, formatted_row<const void> z,
                                         contiguous_row<float> p, std::size_t n) {
  using N = native<A>;
  using F = batch<A, float>;
  using Chunk = half_chunk<A, Format>;
  constexpr auto max_signed = [](auto a, auto b) XSOFTMAX_STEP_LAMBDA { return N::max_signed(a, b); };
  constexpr auto max_unsigned = [](auto a, auto b) XSOFTMAX_STEP_LAMBDA { return N::max_unsigned(a, b); };
  constexpr auto min_unsigned = [](auto a, auto b) XSOFTMAX_STEP_LAMBDA { return N::min_unsigned(a, b); };
  const std::uint16_t lowest = lowest_half(lowest_normal, Format);
  term_sum<A, float> sum;
  batch<A, std::int32_t> largest(std::numeric_limits<std::int32_t>::min());
  const auto clamped = [&](F x) XSOFTMAX_STEP_LAMBDA { return term(x, largest); };
  const auto add = [&](std::size_t i, auto extent, const auto& e) XSOFTMAX_STEP_LAMBDA {
    if constexpr (Store) {
      store_chunk<A, false, float>(p, i, extent, e);
    }
    sum.add(e);
  };
  std::size_t i = 0;
  if (n >= Chunk::size) {
    auto highest = N::load_words(z.halves());
    for (; n - i >= Chunk::size; i += Chunk::size) {
      Chunk::prefetch(z.halves() + i);
      const Chunk chunk(z.halves() + i);
      highest = N::max_signed(highest, chunk.all(max_signed));
      const auto x = chunk.floats();
      const bool outside = N::any_above(chunk.all(max_unsigned), lowest);
      const auto e = outside ? map(clamped, x) : term.above_lowest(x);
      add(i, full_chunk<Chunk::size>{}, e);
    }
    std::uint16_t word = N::largest_word(highest);
    if (word >= 0x8000) { // all are negative: the largest is the one that is least far from 0
      auto nearest = N::load_words(z.halves());
      for (std::size_t j = 0; j < i; j += Chunk::size) {
        nearest = N::min_unsigned(nearest, Chunk(z.halves() + j).all(min_unsigned));
      }
      word = N::smallest_word(nearest);
    }
    (void)clamped(F(half_value(word, Format)));
  }
  for_each_chunk<group_size<float>, group_size<float>>(i, n, [&](std::size_t at, auto extent) XSOFTMAX_STEP_LAMBDA {
    add(at, extent, map(clamped, load_chunk<A, float>(z, at, extent, -infinity<float>)));
  });
  return {sum.total(), math::octave_of<float>(N::largest_lane(largest))};
}

/// The last pass from halves to halves of the same format: p = step(z), in most cases by an estimate.
template <class A, storage_format Format, class Step>
class estimated_row {
public:
  using N = native<A>;
  using Estimate = math::probability_estimate<A>;

  /// For a row whose maximum is of the reference's octave, S relative to 2^(reference - bias).
  XSOFTMAX_STEP estimated_row(std::int64_t reference, double sum, Step step)
      : step_(step), estimate_(reference, sum), lowest_(lowest_half(estimate_.lowest(), Format)) {}

  /// False, with nothing written, if that would take longer than without an estimate; `stream`: past the caches.
  template <class In, class Out>
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool write(In z, Out p, std::size_t n, bool stream) {
    const auto address = reinterpret_cast<std::uintptr_t>(p.data);
    constexpr std::size_t bytes = sizeof(std::uint16_t);
    stream = stream && address % bytes == 0;
    const std::size_t misaligned = address / bytes % Chunk::width;
    const std::size_t head = stream && misaligned != 0 ? Chunk::width - misaligned : 0;
    const std::size_t first = head < n ? head : n;
    const Estimate bounded = estimate_;
    const bool proven = n >= worth_a_proof && prove();
    if (!proven && !has_margins) {
      return false;
    }
    if (!proven) {
      estimate_ = bounded;
    }
    in_full(z, p, 0, first);
    const auto pass = [&](auto streams) XSOFTMAX_STEP_LAMBDA {
      constexpr bool stream_all = decltype(streams)::value != 0;
      if constexpr (has_margins) {
        return proven ? chunks<true, stream_all>(z, p, first, n) : chunks<false, stream_all>(z, p, first, n);
      } else {
        return chunks<true, stream_all>(z, p, first, n);
      }
    };
    const std::size_t last = stream ? pass(index_constant<1>{}) : pass(index_constant<0>{});
    if (stream) {
      N::fence();
    }
    in_full(z, p, last, n);
    return true;
  }

private:
  using Chunk = half_chunk<A, Format>;
  using Words = pack<typename N::words, Chunk::size / Chunk::width>;

  /// What the estimate may be off, in units in the last place of a float: 9 * 2^-24 of the number and one more.
  static constexpr int slack = 10;

  /// Can an estimate tell how near it is to the middle? To float16 rounds an instruction that does not.
  static constexpr bool has_margins = Format == storage_format::bfloat16;

  /// Elements of a row from which on a proof pays: float16 has more values.
  static constexpr std::size_t worth_a_proof = std::size_t{1} << (has_margins ? 19 : 22);

  /// Whole chunks from `first` on; returns where they end.
  template <bool Proven, bool Stream, class In, class Out>
  XSOFTMAX_STEP std::size_t chunks(In z, Out p, std::size_t first, std::size_t n) const {
    constexpr int used_slack = Proven ? 0 : slack;
    const Estimate estimate = estimate_;
    std::size_t i = first;
    for (; n - i >= Chunk::size; i += Chunk::size) {
      Chunk::prefetch(z.halves() + i);
      const Chunk chunk(z.halves() + i);
      auto margin = N::widest_margin();
      const Words rounded = round<used_slack>(estimate, chunk, margin);
      const auto farthest = chunk.all([](auto a, auto b) XSOFTMAX_STEP_LAMBDA { return N::max_unsigned(a, b); });
      if (Proven ? N::any_above(farthest, lowest_) : N::template any_undecided<slack>(farthest, lowest_, margin))
          [[unlikely]] {
        in_full(z, p, i, i + Chunk::size);
        continue;
      }
      unroll<Words::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        std::uint16_t* const to = p.halves() + i + at * Chunk::width;
        if constexpr (Stream) {
          N::stream_words(to, rounded.v[at]);
        } else {
          N::store_words(to, rounded.v[at]);
        }
      });
    }
    return i;
  }

  template <int Slack>
  static XSOFTMAX_STEP Words round(const Estimate& estimate, const Chunk& chunk, typename N::words& margin) {
    const auto y = estimate(chunk.floats_apart());
    return make_pack<Words::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t at = 2 * decltype(b)::value;
      if constexpr (has_margins) {
        return N::template round_bfloat16<Slack>(y.v[at], y.v[at + 1], margin);
      } else {
        return N::round_float16(y.v[at], y.v[at + 1]);
      }
    });
  }

  template <class In, class Out>
  XSOFTMAX_STEP void in_full(In z, Out p, std::size_t first, std::size_t last) const {
    const auto offset = static_cast<std::ptrdiff_t>(first);
    transform<A, float>(step_, z.from(offset), p.from(offset), last - first);
  }

  /// A row of halves has few values. Tries the estimate on all of them, and where it is wrong, moves the entry of its
  /// table that is to blame; true once it is right for all.
  XSOFTMAX_STEP bool prove() {
    constexpr int sweeps = 4;
    // Values closer to 0 than 2^-26 have the result of 0: they add less than half a unit to the power 1.
    constexpr std::uint32_t smallest = Format == storage_format::bfloat16 ? 0x3280 : 1;
    const std::uint32_t highest = estimate_.highest() > 0 ? half_bits(estimate_.highest(), Format) : 0;
    for (int sweep = 0; sweep < sweeps; ++sweep) {
      bool right = true;
      right = mend(0x8000 + smallest, std::uint32_t{lowest_} + 1) && right;
      right = mend(0, 1) && right;
      right = mend(smallest, highest + 1) && right;
      if (right) {
        return true;
      }
    }
    return false;
  }

  /// The same for the words [first, last), once; were all right?
  XSOFTMAX_STEP bool mend(std::uint32_t first, std::uint32_t last) {
    bool right = true;
    for (; first < last; first += Chunk::size) {
      alignas(64) std::uint16_t word[Chunk::size];
      alignas(64) std::uint16_t result[Chunk::size];
      for (std::uint32_t j = 0; j < Chunk::size; ++j) {
        word[j] = static_cast<std::uint16_t>(first + j < last ? first + j : last - 1);
      }
      transform<A, float>(step_, formatted_row<const void>{word, Format}, formatted_row<void>{result, Format},
                          Chunk::size);
      auto margin = N::widest_margin();
      const Words rounded = round<0>(estimate_, Chunk(word), margin);
      const Words wanted = make_pack<Words::size>(
          [&](auto b) XSOFTMAX_STEP_LAMBDA { return N::load_words(result + decltype(b)::value * Chunk::width); });
      bool differ = false;
      unroll<Words::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        differ = differ || N::any_different(rounded.v[decltype(b)::value], wanted.v[decltype(b)::value]);
      });
      if (differ) {
        right = false;
        blame(word, rounded, result);
      }
    }
    return right;
  }

  XSOFTMAX_STEP void blame(const std::uint16_t (&word)[Chunk::size], const Words& rounded,
                           const std::uint16_t (&wanted)[Chunk::size]) {
    alignas(64) std::uint16_t result[Chunk::size];
    unroll<Words::size>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      N::store_words(result + decltype(b)::value * Chunk::width, rounded.v[decltype(b)::value]);
    });
    for (std::size_t j = 0; j < Chunk::size; ++j) {
      if (result[j] != wanted[j]) {
        estimate_.nudge(half_value(word[j], Format), result[j] < wanted[j]);
        return;
      }
    }
  }

  Step step_;
  Estimate estimate_;
  std::uint16_t lowest_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

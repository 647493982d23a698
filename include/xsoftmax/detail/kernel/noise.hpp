// SPDX-License-Identifier: MIT
// Noise v1: which random words belong to which element, and rows of noise.
//
// The elements of a row come in groups of 64, counted from index 0. Element i of a group takes word i / 16 of block
// 16 * group + i mod 16: sixteen blocks side by side make 64 words in the order of the elements, on every architecture
// without a transposition. The counter of a block:
//   c0 = lower half of the block's number
//   c1 = its upper half (6 bits) | 2 * kind + half (from bit 8) | upper 8 bits of stream (16) | of row (24)
//   c2 = lower half of the stream,  c3 = lower half of the row
// where `half` is 0 for the upper words of the 64 bits of each element and 1 for the lower ones.
#pragma once

#include <xsoftmax/detail/kernel/access.hpp>
#include <xsoftmax/detail/noise_task.hpp>
#include <xsoftmax/math/noise.hpp>
#include <xsoftmax/math/philox.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Elements that are drawn together.
inline constexpr std::size_t noise_group = 64;

/// Groups that are drawn side by side: one has too few wide batches to hide the latency of the arithmetic.
template <class A>
inline constexpr std::size_t groups_together = lanes<A, float> == 4 ? 1 : 2;

/// The words of a group's elements, in their order.
template <class A>
struct group_words {
  static constexpr std::size_t size = noise_group / lanes<A, std::int32_t>;
  batch<A, std::int32_t> v[size];
};

/// The words of a row's elements.
template <class A>
class row_words {
public:
  XSOFTMAX_STEP row_words(const noise_key& key, noise_kind kind)
      : fields_(2 * static_cast<std::uint32_t>(kind) << 8 | static_cast<std::uint32_t>(key.stream >> 32) << 16 |
                static_cast<std::uint32_t>(key.row >> 32) << 24),
        stream_(static_cast<std::uint32_t>(key.stream)), row_(static_cast<std::uint32_t>(key.row)),
        generator_(key.seed, fields_, stream_, row_) {}

  /// The upper ones of the group. more: those of the next will be wanted too, and are drawn with them.
  XSOFTMAX_STEP const group_words<A>& upper(std::uint64_t group, bool more) {
    if (group != drawn_ahead_) {
      set_block(16 * group);
      more = more && !ends_with(group);
      if (more) {
        generate<2>(generator_, static_cast<std::uint32_t>(16 * group), drawn_);
        drawn_ahead_ = group + 1;
      } else {
        generate<1>(generator_, static_cast<std::uint32_t>(16 * group), drawn_);
      }
      return drawn_[0];
    }
    drawn_ahead_ = none;
    return drawn_[1];
  }

  /// The upper ones of N groups, the named one and those after it.
  template <std::size_t N>
  XSOFTMAX_STEP const group_words<A>* upper(std::uint64_t group) {
    set_block(16 * group);
    drawn_ahead_ = none;
    if (N == 2 && ends_with(group)) [[unlikely]] {
      generate<1>(generator_, static_cast<std::uint32_t>(16 * group), drawn_);
      set_block(16 * (group + 1));
      generate<1>(generator_, static_cast<std::uint32_t>(16 * (group + 1)), drawn_ + 1);
    } else {
      generate<N>(generator_, static_cast<std::uint32_t>(16 * group), drawn_);
    }
    return drawn_;
  }

  /// The 64 bits of element i of the group, whose upper words these are.
  XSOFTMAX_STEP std::uint64_t both(std::uint64_t group, const group_words<A>& upper, std::size_t i) const {
    std::uint32_t high;
    __builtin_memcpy(&high, static_cast<const char*>(static_cast<const void*>(upper.v)) + i * sizeof high, sizeof high);
    const std::uint64_t block = 16 * group + i % 16;
    const std::uint32_t low =
        generator_.word(static_cast<std::uint32_t>(block), fields_ | static_cast<std::uint32_t>(block >> 32) | 1 << 8,
                        stream_, row_, i / 16);
    return std::uint64_t{high} << 32 | low;
  }

  /// The lower ones.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void lower(std::uint64_t group, group_words<A>& words) const {
    const std::uint64_t first = 16 * group;
    generator other = generator_;
    other.counter(fields_ | static_cast<std::uint32_t>(first >> 32) | 1 << 8, stream_, row_);
    generate<1>(other, static_cast<std::uint32_t>(first), &words);
  }

private:
  using generator = math::philox<A>;
  static constexpr std::uint64_t none = ~std::uint64_t{0};

  /// The upper half of the blocks' numbers.
  XSOFTMAX_STEP void set_block(std::uint64_t first) {
    if (const auto high = static_cast<std::uint32_t>(first >> 32); high != high_) [[unlikely]] {
      high_ = high;
      generator_.counter(fields_ | high, stream_, row_);
    }
  }

  /// Has the group after this one another upper half?
  static XSOFTMAX_STEP bool ends_with(std::uint64_t group) { return static_cast<std::uint32_t>(16 * group + 16) == 0; }

  /// Of `Groups` groups from block `first` on.
  template <std::size_t Groups>
  static XSOFTMAX_STEP void generate(const generator& from, std::uint32_t first, group_words<A>* words) {
    constexpr std::size_t sets = 16 / generator::blocks; // of a group
    constexpr std::size_t together = sets == 1 ? Groups : 1;
    for (std::size_t set = 0; set < sets * Groups; set += together) {
      batch<A, std::int32_t> word[together][4];
      from(first + static_cast<std::uint32_t>(set * generator::blocks), word);
      unroll<4 * together>([&](auto w) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t s = decltype(w)::value / 4;
        constexpr std::size_t i = decltype(w)::value % 4;
        words[(set + s) / sets].v[i * sets + (set + s) % sets] = word[s][i];
      });
    }
  }

  std::uint32_t fields_;
  std::uint32_t stream_;
  std::uint32_t row_;
  std::uint32_t high_ = 0;
  generator generator_;
  group_words<A> drawn_[2];
  std::uint64_t drawn_ahead_ = none; ///< the group of drawn_[1]
};

/// 64 bits as one bit `side` and a number v in (0, 1/2), resolved to 2^-65 at 0.
///   logistic     log(v / (1 - v)), positive on one side
///   exponential  -log(v) on one side, -log(1 - v) on the other
/// so that both ends of the distribution are as fine as Gumbel noise is above.
template <class A, class T, noise_kind Kind>
struct variate {
  using V = batch<A, T>;
  using I = batch<A, std::int32_t>;
  static constexpr bool two_sided = Kind != noise_kind::gumbel;
  /// Upper words from 2^this on decide a float.
  static constexpr int decisive_bits = two_sided ? 24 : 23;

  /// The first bit leaves the words.
  static XSOFTMAX_STEP I without_side(I upper) {
    return two_sided ? I(native<A>::template shift_left<1>(upper)) : upper;
  }

  static XSOFTMAX_STEP void without_side(I& upper, I& lower) {
    if constexpr (two_sided) {
      upper = native<A>::template shift_left<1>(upper) | native<A>::template shift_right<31>(lower);
      lower = native<A>::template shift_left<1>(lower);
    }
  }

  /// side: 0 or 1
  template <std::size_t N>
  static XSOFTMAX_STEP pack<V, N> values(const pack<V, N>& v, const pack<V, N>& side) {
    if constexpr (Kind == noise_kind::gumbel) {
      return math::gumbel<A, T>(v);
    } else {
      const pack<V, N> half = map([](V x) XSOFTMAX_STEP_LAMBDA { return x * V(T(0.5)); }, v);
      return map(
          [](V of_v, V of_complement, V s) XSOFTMAX_STEP_LAMBDA {
            if constexpr (Kind == noise_kind::logistic) {
              return (of_v - of_complement) * (s + s - V(T{1}));
            } else {
              return s * of_v + (V(T{1}) - s) * of_complement; // one of them is exactly 0
            }
          },
          math::negative_log<A, T>(half), math::negative_log_of_complement<A, T>(half), side);
    }
  }
};

/// The noise of a row's elements.
template <class A, class T, noise_kind Kind>
class row_noise {
public:
  using V = batch<A, T>;
  using I = batch<A, std::int32_t>;
  using variate = kernel::variate<A, T, Kind>;

  /// From words of another kind where one is named.
  XSOFTMAX_STEP explicit row_noise(const noise_key& key, noise_kind kind = Kind) : words(key, kind) {}

  /// Writes the values of N groups, the named one and those after it. more: the next will be wanted, too.
  template <std::size_t N>
  XSOFTMAX_STEP void draw(std::uint64_t group, bool more, T* out) {
    if constexpr (N == 1) {
      // Those of several are not drawn ahead.
      values<1>(group, &words.upper(group, more && groups_together<A> == 1), out);
    } else {
      values<N>(group, words.template upper<N>(group), out);
    }
  }

  /// The same where the upper words are known.
  template <std::size_t N>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void values(std::uint64_t group, const group_words<A>* upper,
                                                         T* out) const {
    alignas(64) T uniform[N * noise_group];
    bool decided = true;
    for (std::size_t g = 0; g < N; ++g) {
      decided = decided && decides(upper[g]);
    }
    for (std::size_t g = 0; g < N && !decided; ++g) {
      uniform_of_both(group + g, upper[g], 0, group_words<A>::size, uniform + g * noise_group);
    }
    constexpr std::size_t together = values_together<N>;
    constexpr std::size_t step = together * lanes<A, T>;
    constexpr std::size_t groups = step > noise_group ? step / noise_group : 1; // of a step, or that its steps lie in
    for (std::size_t g = 0; g < N; g += groups) {
      const auto word = [&](std::size_t j) XSOFTMAX_STEP_LAMBDA {
        return groups == 1 ? upper[g].v[j] : upper[g + j / group_words<A>::size].v[j % group_words<A>::size];
      };
      for (std::size_t i = 0; i < groups * noise_group; i += step) {
        const std::size_t to = g * noise_group + i;
        pack<V, together> v;
        if constexpr (sizeof(T) == sizeof(float)) {
          v = make_pack<together>([&](auto b) XSOFTMAX_STEP_LAMBDA {
            return math::uniform_of_upper<A>(variate::without_side(word(i / lanes<A, T> + decltype(b)::value)));
          });
        }
        if (!decided) [[unlikely]] {
          v = make_pack<together>([&](auto b) XSOFTMAX_STEP_LAMBDA {
            return native<A>::template load<T>(uniform + to + decltype(b)::value * lanes<A, T>);
          });
        }
        store_chunk<A, false, T>(contiguous_row<T>{out}, to, full_chunk<step>{},
                                 variate::values(v, sides<together>(word, i / lanes<A, float>)));
      }
    }
  }

  static constexpr std::size_t batches = sizeof(T) / sizeof(float); ///< of values to a batch of words

  /// The values of batch j of the words alone.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void values_of_batch(std::uint64_t group, const group_words<A>& upper,
                                                                  std::size_t j, T* out) const {
    pack<V, batches> v;
    if (!decides(variate::without_side(upper.v[j]))) [[unlikely]] {
      alignas(64) T uniform[lanes<A, float>];
      uniform_of_both(group, upper, j, j + 1, uniform);
      v = make_pack<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        return native<A>::template load<T>(uniform + decltype(b)::value * lanes<A, T>);
      });
    } else if constexpr (sizeof(T) == sizeof(float)) {
      v.v[0] = math::uniform_of_upper<A>(variate::without_side(upper.v[j]));
    }
    store_chunk<A, false, T>(
        contiguous_row<T>{out}, 0, full_chunk<batches * lanes<A, T>>{},
        variate::values(v, sides<batches>([&](std::size_t k) XSOFTMAX_STEP_LAMBDA { return upper.v[k]; }, j)));
  }

  row_words<A> words;

private:
  /// Batches of values of N groups that are worked on step by step: as many chains as hide one another's latency. Of
  /// the narrowest batches, 8 measure slower than 4.
  template <std::size_t N>
  static constexpr std::size_t values_together = [] {
    constexpr std::size_t all = N * noise_group / lanes<A, T>;
    constexpr std::size_t most = lanes<A, float> == 4 ? 4 : 8;
    return all < most ? all : most;
  }();

  /// Do upper words of which these are the smallest decide the values?
  static XSOFTMAX_STEP bool decides(I smallest) {
    return sizeof(T) == sizeof(float) && !native<A>::template any_below_power<variate::decisive_bits>(smallest);
  }

  static XSOFTMAX_STEP bool decides(const group_words<A>& upper) {
    I smallest = variate::without_side(upper.v[0]);
    for (std::size_t j = 1; j < group_words<A>::size; ++j) {
      smallest = native<A>::min_unsigned(smallest, variate::without_side(upper.v[j]));
    }
    return decides(smallest);
  }

  /// v of the batches [first, last) of words. Of floats, few need their lower words: those are drawn alone, beside the
  /// arithmetic of the vectors.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void uniform_of_both(std::uint64_t group, const group_words<A>& upper,
                                                                  std::size_t first, std::size_t last, T* out) const {
    constexpr std::size_t width = lanes<A, float>;
    if constexpr (sizeof(T) == sizeof(float)) {
      for (std::size_t j = first; j < last; ++j, out += width) {
        const I word = variate::without_side(upper.v[j]);
        native<A>::store(out, math::uniform_of_upper<A>(word));
        const V above = native<A>::to_float(native<A>::template shift_right<variate::decisive_bits>(word));
        for (unsigned left = native<A>::equal_bits(above, V(T{})); left != 0; left &= left - 1) {
          const auto l = static_cast<std::size_t>(__builtin_ctz(left));
          out[l] = math::uniform_of_both<A>(words.both(group, upper, j * width + l) << (variate::two_sided ? 1 : 0));
        }
      }
    } else {
      group_words<A> lower;
      words.lower(group, lower);
      for (std::size_t j = first; j < last; ++j, out += width) {
        I high = upper.v[j];
        I low = lower.v[j];
        variate::without_side(high, low);
        pack<V, batches> v;
        math::uniform_of_both<A>(high, low, v);
        store_chunk<A, false, T>(contiguous_row<T>{out}, 0, full_chunk<width>{}, v);
      }
    }
  }

  /// The sides of N batches of values, from batch j of words on.
  template <std::size_t N, class Word>
  static XSOFTMAX_STEP pack<V, N> sides(const Word& word, std::size_t j) {
    pack<V, N> side;
    unroll<N / batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t i = decltype(b)::value;
      const I bit = native<A>::template shift_right<31>(word(j + i));
      if constexpr (sizeof(T) == sizeof(float)) {
        side.v[i] = native<A>::to_float(bit);
      } else {
        native<A>::widen_unsigned(bit, side.v[2 * i], side.v[2 * i + 1]);
      }
    });
    return side;
  }
};

/// body(group, first, last, skipped) for the groups that hold the elements [0, n) of a row that begins at `index`: its
/// elements [first, last) lie in the group from place `skipped` on.
template <class Body>
XSOFTMAX_STEP void for_each_group(std::uint64_t index, std::size_t n, Body&& body) {
  std::size_t first = 0;
  std::uint64_t group = index / noise_group;
  std::size_t skipped = static_cast<std::size_t>(index % noise_group);
  while (first < n) {
    const std::size_t room = noise_group - skipped;
    const std::size_t last = n - first < room ? n : first + room;
    body(group, first, last, skipped);
    first = last;
    skipped = 0;
    ++group;
  }
}

/// The same, by as many groups: body(group, first, last, skipped, index_constant<groups>{}).
template <class A, class Body>
XSOFTMAX_STEP void for_each_groups(std::uint64_t index, std::size_t n, Body&& body) {
  std::size_t first = 0;
  while (first < n) {
    const std::uint64_t group = (index + first) / noise_group;
    const auto skipped = static_cast<std::size_t>((index + first) % noise_group);
    const bool several = groups_together<A> != 1 && skipped == 0 && n - first > noise_group;
    const std::size_t room = (several ? groups_together<A> : 1) * noise_group - skipped;
    const std::size_t last = n - first < room ? n : first + room;
    if (several) {
      body(group, first, last, skipped, index_constant<groups_together<A>>{});
    } else {
      body(group, first, last, skipped, index_constant<1>{});
    }
    first = last;
  }
}

template <class A, class T>
struct noise {
  XSOFTMAX_FLATTEN static void run(const noise_task<T>& task) noexcept {
    switch (task.kind) {
    case noise_kind::gumbel:
      rows<noise_kind::gumbel>(task);
      break;
    case noise_kind::logistic:
      rows<noise_kind::logistic>(task);
      break;
    default:
      rows<noise_kind::exponential>(task);
      break;
    }
  }

private:
  template <noise_kind Kind>
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void rows(const noise_task<T>& task) noexcept {
    noise_key key = task.key;
    for (std::size_t r = 0; r < task.rows; ++r, ++key.row) {
      row_noise<A, T, Kind> values(key);
      const any_row<T, void> out = row_of<T>(task.out, r);
      block_buffer<T> room;
      for_each_piece<T>(out, 0, task.cols, [&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        const contiguous_row<T> target = out.target(from, room);
        for_each_groups<A>(key.index + from, to - from,
                           [&](std::uint64_t group, std::size_t first, std::size_t last, std::size_t skipped,
                               auto groups) XSOFTMAX_STEP_LAMBDA {
                             constexpr std::size_t n = decltype(groups)::value;
                             const bool more = last < to - from;
                             if (last - first == n * noise_group) {
                               values.template draw<n>(group, more, target.data + first);
                             } else {
                               alignas(64) T value[n * noise_group];
                               values.template draw<n>(group, more, value);
                               for (std::size_t i = first; i < last; ++i) {
                                 target.data[i] = value[skipped + i - first];
                               }
                             }
                           });
        out.template commit<A>(from, to, room);
      });
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

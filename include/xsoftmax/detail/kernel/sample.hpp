// SPDX-License-Identifier: MIT
// One categorical draw from each row, in one pass: the place of the largest perturbed logit
//   p_i = z_i + T G_i  for T <= 1,   z_i / T + G_i  above,      G_i = -log(-log(1 - v_i)).
//
// Nearly all elements lose without a logarithm. p_i exceeds the largest so far, b, only if v_i < 1 - exp(-exp(d)) <=
// exp(d), where d = (z_i - b) / T or z_i / T - b. Each lane takes the largest logit and the smallest word of its
// elements in a group, and the exponential is bounded from above by 2^k (1 + f) >= 2^(k + f), which is one conversion.
// Only groups that this does not settle are computed: about as many as the logarithm of the length.
#pragma once

#include <xsoftmax/detail/kernel/perturbed.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// How logits are perturbed at a temperature T > 0.
template <class A, class T>
class perturbation {
public:
  using V = batch<A, T>;

  XSOFTMAX_STEP explicit perturbation(double temperature)
      : divides_(temperature > 1), noise_factor_(divides_ ? T{1} : static_cast<T>(temperature)) {
    const double inverse = 1 / temperature;
    rate_ = static_cast<T>(octave * 0x1.715476p0 * (divides_ ? 1.0 : inverse < 0x1p90 ? inverse : 0x1p90));
    if (divides_) {
      // Near the end of T's range and beyond, z and the temperature are both made smaller.
      shrink_ = temperature > (single ? 0x1p100 : 0x1p1000) ? T(0x1p-64) : T{1};
      const double divisor = temperature * static_cast<double>(shrink_);
      constexpr double most = single ? 0x1.FFFFFEp127 : 0x1.FFFFFFFFFFFFFp1023;
      divisor_ = static_cast<T>(divisor < most ? divisor : most);
      const double scale = 1 / divisor;
      scale_ = static_cast<T>(scale > 0x1p-126 || !single ? scale : 0x1p-126);
    }
  }

  /// The perturbed logits of x with noise g.
  XSOFTMAX_STEP V operator()(V x, V g) const {
    if (divides_) {
      return native<A>::divide(x * V(shrink_), V(divisor_)) + g;
    }
    return x + uncontracted(V(noise_factor_) * g);
  }

  /// What the bound takes for b: the largest so far, less what x * scale may be off.
  XSOFTMAX_STEP T floor(T largest) const {
    constexpr T lowest = single ? T(-0x1.FFFFFEp127) : T(-0x1.FFFFFFFFFFFFFp1023);
    const T magnitude = largest < 0 ? -largest : largest;
    const T least = divides_ ? largest - magnitude * T(0x1p-20) : largest;
    return least > lowest ? least : lowest; // before the first: everything finite may win
  }

  /// d in octaves, in units of the last place of a float's exponent.
  XSOFTMAX_STEP V distance(V x, V floor) const { return ((x * V(shrink_)) * V(scale_) - floor) * V(rate_); }

  static constexpr double octave = 0x1p23;

private:
  static constexpr bool single = sizeof(T) == sizeof(float);

  bool divides_;
  T noise_factor_;
  T shrink_ = T{1};
  T divisor_ = T{1};
  T scale_ = T{1}; ///< 1 / divisor, for the bound
  T rate_;
};

/// Looks for the largest perturbed logits of a row.
template <class A, class T>
class sampled_row {
public:
  using N = native<A>;
  using V = batch<A, T>;
  using F = batch<A, float>;
  using I = batch<A, std::int32_t>;

  XSOFTMAX_STEP sampled_row(const perturbation<A, T>& perturbed, const noise_key& key, largest_elements<A, T>& largest,
                            noise_kind kind = noise_kind::gumbel)
      : perturbed_(perturbed), index_(key.index), noise_(key, kind), largest_(largest) {}

  /// The elements [first, last) of the row, at x.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void scan(const T* x, std::size_t first, std::size_t last) {
    V watch(T{0});
    V floor(perturbed_.floor(largest_.floor()));
    for_each_group(index_ + first, last - first,
                   [&](std::uint64_t group, std::size_t from, std::size_t to, std::size_t skipped)
                       XSOFTMAX_STEP_LAMBDA {
                         alignas(64) T padded[noise_group];
                         const T* logits = x + from;
                         if (to - from != noise_group) [[unlikely]] {
                           pad(logits, to - from, skipped, padded);
                           logits = padded;
                         }
                         const group_words<A>& words = noise_.words.upper(group, to < last - first);
                         if (may_win(logits, words, floor, watch)) [[unlikely]] {
                           look_closely(group, words, logits, first + from - skipped);
                           floor = V(perturbed_.floor(largest_.floor()));
                         }
                       });
    if (!N::all_below(watch, __builtin_inff())) [[unlikely]] {
      find_irregular(x, last - first);
    }
  }

  /// The same without those that keep(x) does not keep: keep_some(x, count) says whether one of them may be.
  template <class Keep, class KeepSome>
  XSOFTMAX_STEP void scan_kept(const T* x, std::size_t first, std::size_t last, Keep&& keep, KeepSome&& keep_some) {
    for_each_group(index_ + first, last - first,
                   [&](std::uint64_t group, std::size_t from, std::size_t to, std::size_t skipped)
                       XSOFTMAX_STEP_LAMBDA {
                         if (!keep_some(x + from, to - from)) {
                           return;
                         }
                         alignas(64) T kept[noise_group];
                         pad(x + from, to - from, skipped, kept);
                         for (std::size_t i = 0; i < to - from; ++i) {
                           kept[skipped + i] = keep(kept[skipped + i]) ? kept[skipped + i] : -__builtin_inff();
                         }
                         look_closely(group, noise_.words.upper(group, false), kept, first + from - skipped);
                       });
  }

private:
  static constexpr std::size_t batches = noise_group / lanes<A, T>;
  static constexpr std::size_t batches_per_words = sizeof(T) / sizeof(float);

  /// x at its places in a group, -inf elsewhere.
  static __attribute__((noinline)) XSOFTMAX_FLATTEN void pad(const T* x, std::size_t count, std::size_t skipped,
                                                             T* padded) {
    for (std::size_t i = 0; i < noise_group; i += lanes<A, T>) {
      N::template store<T>(padded + i, V(-__builtin_inff()));
    }
    for (std::size_t i = 0; i < count; ++i) {
      padded[skipped + i] = x[i];
    }
  }

  /// A sum of logits was NaN or +inf: is one of them?
  __attribute__((noinline)) XSOFTMAX_FLATTEN void find_irregular(const T* x, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
      if (!(x[i] < __builtin_inff())) {
        largest_.found_irregular();
      }
    }
  }

  /// Not, for sure, if this is false. `watch` becomes NaN or +inf where a logit is, and seldom elsewhere.
  XSOFTMAX_STEP bool may_win(const T* x, const group_words<A>& words, V floor, V& watch) const {
    pack<V, batches_per_words> largest;
    I smallest = words.v[0];
    unroll<batches>([&](auto b) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t i = decltype(b)::value;
      constexpr std::size_t part = i % batches_per_words;
      const V logits = N::template load<T>(x + i * lanes<A, T>);
      watch = watch + logits;
      if constexpr (i < batches_per_words) {
        largest.v[part] = logits;
      } else {
        largest.v[part] = N::max_dropping_nan(logits, largest.v[part]);
      }
      if constexpr (part == 0 && i != 0) {
        smallest = N::min_unsigned(smallest, words.v[i / batches_per_words]);
      }
    });
    return may_win(largest, smallest, floor);
  }

  /// The same for logits x with upper words `words`.
  XSOFTMAX_STEP bool may_win(const pack<V, batches_per_words>& x, I words, V floor) const {
    F distance;
    if constexpr (batches_per_words == 1) {
      distance = perturbed_.distance(x.v[0], floor);
    } else {
      distance = N::narrow(perturbed_.distance(x.v[0], floor), perturbed_.distance(x.v[1], floor));
    }
    // Beyond two octaves above everything wins, 80 below nothing but a word of 0 or 1.
    const F limited = N::min_keeping_nan(N::max_keeping_nan(distance, F(-80 * 0x1p23f)), F(2 * 0x1p23f));
    // exp(d) * 2^31 from above, with 2^-9 to spare for what is rounded here, in the noise and in p.
    constexpr std::int32_t bias = ((127 + 31) << 23) + (1 << 14);
    const F bound = N::from_bits(N::to_integer(limited) + I(bias));
    return N::any_less(N::to_float(N::template shift_right<1>(words)), bound);
  }

  /// A group that may win, whose place 0 is `first`: those batches of its words that may.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void look_closely(std::uint64_t group, const group_words<A>& words,
                                                               const T* x, std::size_t first) {
    constexpr std::size_t width = lanes<A, float>;
    const V floor(perturbed_.floor(largest_.floor()));
    std::size_t chosen[group_words<A>::size];
    std::size_t count = 0;
    for (std::size_t j = 0; j < group_words<A>::size; ++j) {
      const auto logits = make_pack<batches_per_words>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        return N::template load<T>(x + j * width + decltype(b)::value * lanes<A, T>);
      });
      chosen[count] = j;
      count += may_win(logits, words.v[j], floor) ? 1 : 0;
    }
    alignas(64) T noise[noise_group];
    const bool together = 2 * count > group_words<A>::size; // which is faster than one by one
    if (together) {
      noise_.template values<1>(group, &words, noise);
    }
    for (std::size_t c = 0; c < count; ++c) {
      const std::size_t place = chosen[c] * width;
      if (!together) {
        noise_.values_of_batch(group, words, chosen[c], noise + place);
      }
      for (std::size_t i = place; i < place + width; i += lanes<A, T>) {
        largest_.look_at(perturbed_(N::template load<T>(x + i), N::template load<T>(noise + i)), first + i);
      }
    }
  }

  const perturbation<A, T>& perturbed_;
  std::uint64_t index_;
  row_noise<A, T, noise_kind::gumbel> noise_;
  largest_elements<A, T>& largest_;
};

/// body(x, first, last): the elements [from, to) of a row in contiguous pieces.
template <class A, class T, class Body>
XSOFTMAX_STEP void for_each_contiguous(const any_row<T, const void>& z, std::size_t from, std::size_t to, Body&& body) {
  if (z.direct()) {
    body(static_cast<const T*>(z.data) + from, from, to);
    return;
  }
  block_buffer<T> room;
  for_each_piece<T>(z, from, to, [&](std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
    body(z.template block<A>(first, last, room).data, first, last);
  });
}

/// The largest perturbed logits among the elements [from, to) of a row.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN void
find_largest(const perturbation<A, T>& perturbed, const noise_key& key, const any_row<T, const void>& z,
             std::size_t from, std::size_t to, largest_elements<A, T>& largest, noise_kind kind = noise_kind::gumbel) {
  sampled_row<A, T> row(perturbed, key, largest, kind);
  for_each_contiguous<A, T>(z, from, to, [&](const T* x, std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
    row.scan(x, first, last);
  });
}

/// The largest logit and its place; npos where there is none, or a NaN or +inf.
template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN placed<T> maximum_of_row(const any_row<T, const void>& z, std::size_t n) {
  largest_element<A, T> largest;
  for_each_contiguous<A, T>(z, 0, n, [&](const T* x, std::size_t first, std::size_t last) XSOFTMAX_STEP_LAMBDA {
    largest.look_at(x, last - first, first);
  });
  return largest.result();
}

template <class A, class T>
struct sample {
  XSOFTMAX_FLATTEN static void run(const sample_task<T>& task) noexcept {
    if (task.temperature == 0) {
      for (std::size_t r = 0; r < task.rows; ++r) {
        set(task, r, maximum_of_row<A, T>(row_of<T>(task.z, r), task.cols));
      }
      return;
    }
    const perturbation<A, T> perturbed(task.temperature);
    noise_key key = task.key;
    for (std::size_t r = 0; r < task.rows; ++r, ++key.row) {
      largest_element<A, T> largest;
      find_largest<A, T>(perturbed, key, row_of<T>(task.z, r), 0, task.cols, largest);
      set(task, r, largest.result());
    }
  }

private:
  static XSOFTMAX_STEP void set(const sample_task<T>& task, std::size_t row, const placed<T>& winner) {
    task.indices.set(row, winner.place);
    if (task.winner != nullptr) {
      *task.winner = winner.value;
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

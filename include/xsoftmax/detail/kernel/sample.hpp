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

  XSOFTMAX_INLINE explicit perturbation(double temperature)
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
  XSOFTMAX_INLINE V operator()(V x, V g) const {
    if (divides_) {
      return (x * V(shrink_)) / V(divisor_) + g;
    }
    return x + uncontracted(V(noise_factor_) * g);
  }

  /// What the bound takes for b: the largest so far, less what x * scale may be off.
  XSOFTMAX_INLINE T floor(T largest) const {
    constexpr T lowest = single ? T(-0x1.FFFFFEp127) : T(-0x1.FFFFFFFFFFFFFp1023);
    const T magnitude = largest < 0 ? -largest : largest;
    const T least = divides_ ? largest - magnitude * T(0x1p-20) : largest;
    return least > lowest ? least : lowest; // before the first: everything finite may win
  }

  /// d in octaves, in units of the last place of a float's exponent.
  XSOFTMAX_INLINE V distance(V x, V floor) const { return ((x * V(shrink_)) * V(scale_) - floor) * V(rate_); }

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

/// The draw from one row.
template <class A, class T>
class sampled_row {
public:
  using N = native<A>;
  using V = batch<A, T>;
  using F = batch<A, float>;
  using I = batch<A, std::int32_t>;

  XSOFTMAX_INLINE sampled_row(const perturbation<A, T>& perturbed, const noise_key& key)
      : perturbed_(perturbed), index_(key.index), noise_(key) {}

  /// The elements [first, last) of the row, at x.
  __attribute__((noinline)) void scan(const T* x, std::size_t first, std::size_t last) {
    V watch(T{0});
    V floor(perturbed_.floor(largest_.value));
    for_each_group(index_ + first, last - first,
                   [&](std::uint64_t group, std::size_t from, std::size_t to, std::size_t skipped) XSOFTMAX_LAMBDA {
                     alignas(64) T padded[noise_group];
                     const T* logits = x + from;
                     if (to - from != noise_group) [[unlikely]] {
                       pad(logits, to - from, skipped, padded);
                       logits = padded;
                     }
                     const group_words<A>& words = noise_.words.upper(group, to < last - first);
                     if (may_win(logits, words, floor, watch)) [[unlikely]] {
                       look_closely(group, words, logits, first + from - skipped);
                       floor = V(perturbed_.floor(largest_.value));
                     }
                   });
    if (!N::all_below(watch, __builtin_inff())) [[unlikely]] {
      irregular_ = irregular_ || has_nan_or_infinity<A, T>(x, last - first);
    }
  }

  std::size_t place() const { return irregular_ ? npos : largest_.place; }

private:
  static constexpr std::size_t batches = noise_group / lanes<A, T>;
  static constexpr std::size_t batches_per_words = sizeof(T) / sizeof(float);

  static __attribute__((noinline)) void pad(const T* x, std::size_t count, std::size_t skipped, T* padded) {
    for (std::size_t i = 0; i < noise_group; ++i) {
      padded[i] = i >= skipped && i - skipped < count ? x[i - skipped] : -__builtin_inff();
    }
  }

  /// Not, for sure, if this is false. `watch` becomes NaN or +inf where a logit is, and seldom elsewhere.
  XSOFTMAX_INLINE bool may_win(const T* x, const group_words<A>& words, V floor, V& watch) const {
    V largest[batches_per_words];
    I smallest = words.v[0];
    unroll<batches>([&](auto b) XSOFTMAX_LAMBDA {
      constexpr std::size_t i = decltype(b)::value;
      constexpr std::size_t part = i % batches_per_words;
      const V logits = N::template load<T>(x + i * lanes<A, T>);
      watch = watch + logits;
      if constexpr (i < batches_per_words) {
        largest[part] = logits;
      } else {
        largest[part] = N::max_dropping_nan(logits, largest[part]);
      }
      if constexpr (part == 0 && i != 0) {
        smallest = N::min_unsigned(smallest, words.v[i / batches_per_words]);
      }
    });
    F distance;
    if constexpr (batches_per_words == 1) {
      distance = perturbed_.distance(largest[0], floor);
    } else {
      distance = N::narrow(perturbed_.distance(largest[0], floor), perturbed_.distance(largest[1], floor));
    }
    // Beyond two octaves above everything wins, 80 below nothing but a word of 0 or 1.
    const F limited = N::min_keeping_nan(N::max_keeping_nan(distance, F(-80 * 0x1p23f)), F(2 * 0x1p23f));
    // exp(d) * 2^31 from above, with 2^-9 to spare for what is rounded here, in the noise and in p.
    constexpr std::int32_t bias = ((127 + 31) << 23) + (1 << 14);
    const F bound = N::from_bits(N::to_integer(limited) + I(bias));
    return N::any_less(N::to_float(N::template shift_right<1>(smallest)), bound);
  }

  __attribute__((noinline)) void look_closely(std::uint64_t group, const group_words<A>& words, const T* x,
                                              std::size_t first) {
    alignas(64) T value[noise_group];
    noise_.values(group, words, value);
    for (std::size_t i = 0; i < noise_group; i += lanes<A, T>) {
      N::template store<T>(value + i, perturbed_(N::template load<T>(x + i), N::template load<T>(value + i)));
    }
    largest_.look_at(value, noise_group, first);
  }

  const perturbation<A, T>& perturbed_;
  std::uint64_t index_;
  row_noise<A, T, noise_kind::gumbel> noise_;
  largest_element<A, T> largest_;
  bool irregular_ = false;
};

template <class A, class T>
struct sample {
  static void run(const sample_task<T>& task) noexcept {
    if (task.temperature == 0) {
      greedy(task);
      return;
    }
    const perturbation<A, T> perturbed(task.temperature);
    noise_key key = task.key;
    for (std::size_t r = 0; r < task.rows; ++r, ++key.row) {
      sampled_row<A, T> row(perturbed, key);
      for_each_block(
          task, r, [&](const T* x, std::size_t first, std::size_t last) XSOFTMAX_LAMBDA { row.scan(x, first, last); });
      task.indices.set(r, row.place());
    }
  }

private:
  /// body(x, first, last): the row in contiguous pieces.
  template <class Body>
  static XSOFTMAX_INLINE void for_each_block(const sample_task<T>& task, std::size_t r, Body&& body) {
    const any_row<T, const void> z = row_of<T>(task.z, r);
    if (z.direct()) {
      body(static_cast<const T*>(z.data), 0, task.cols);
      return;
    }
    block_buffer<T> room;
    for_each_piece<T>(z, 0, task.cols, [&](std::size_t first, std::size_t last) XSOFTMAX_LAMBDA {
      body(z.template block<A>(first, last, room).data, first, last);
    });
  }

  /// The place of the largest logit.
  static __attribute__((noinline)) void greedy(const sample_task<T>& task) noexcept {
    for (std::size_t r = 0; r < task.rows; ++r) {
      largest_element<A, T> largest;
      bool irregular = false;
      for_each_block(task, r, [&](const T* x, std::size_t first, std::size_t last) XSOFTMAX_LAMBDA {
        largest.look_at(x, last - first, first);
        irregular = irregular || has_nan_or_infinity<A, T>(x, last - first);
      });
      task.indices.set(r, irregular ? npos : largest.place);
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

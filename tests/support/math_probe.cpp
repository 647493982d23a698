// SPDX-License-Identifier: MIT
// Compiled once per architecture with -DXSOFTMAX_TARGET_ARCH and that architecture's flags. As in the units of the
// dispatch library, everything is instantiated for a type of this unit's own and no std:: function is called.

#include <cstddef>
#include <cstdint>
#include <xsoftmax/detail/kernel/noise.hpp>
#include <xsoftmax/math/exp.hpp>
#include <xsoftmax/math/log.hpp>
#include <xsoftmax/math/log1p.hpp>
#include <xsoftmax/math/sigmoid.hpp>
#include <xsoftmax/math/sincos.hpp>
#include <xsoftmax/math/softplus.hpp>
#include <xsoftmax/math/tanh.hpp>

namespace {

struct unit_arch : xsoftmax::arch::XSOFTMAX_TARGET_ARCH {};

/// y = step(x), a batch at a time; the last one is filled up.
template <class T, class Y, class Step>
void apply(const T* x, Y* y, std::size_t n, Step step) {
  constexpr std::size_t width = xsoftmax::detail::lanes<unit_arch, T>;
  using V = xsoftmax::detail::batch<unit_arch, T>;
  alignas(64) T in[width];
  alignas(64) T out[width];
  for (std::size_t i = 0; i < n; i += width) {
    for (std::size_t l = 0; l < width; ++l) {
      in[l] = i + l < n ? x[i + l] : T(0);
    }
    step(V::load_aligned(in)).store_aligned(out);
    for (std::size_t l = 0; l < width && i + l < n; ++l) {
      y[i + l] = static_cast<Y>(out[l]);
    }
  }
}

template <class T>
void apply_exp(const T* x, T* y, std::size_t n) {
  apply(x, y, n, [](auto v) { return xsoftmax::math::exp<unit_arch>(v); });
}

template <class T>
void apply_extended_exp(const T* x, double* y, std::size_t n, double temperature, std::int64_t reference) {
  const auto reduction = xsoftmax::math::make_reduction<unit_arch, T>(temperature);
  const xsoftmax::math::extended_exp<unit_arch, T, true> term(reduction, reference);
  apply(x, y, n, [&](auto v) { return term(v); });
  // What the kernel's quotient cancels: the constant factor and the bias of the exponent.
  const double factor = term.scale * __builtin_ldexp(1.0, static_cast<int>(xsoftmax::math::octave_bias<T>));
  for (std::size_t i = 0; i < n; ++i) {
    y[i] /= factor;
  }
}

template <class T>
void apply_link_function(int function, const T* x, T* y, std::size_t n) {
  namespace math = xsoftmax::math;
  switch (function) {
  case 0:
    return apply(x, y, n, [](auto v) { return math::sigmoid<unit_arch, T>(v); });
  case 1:
    return apply(x, y, n, [](auto v) { return math::sigmoid_with_complement<unit_arch, T>(v).value; });
  case 2:
    return apply(x, y, n, [](auto v) { return math::sigmoid_with_complement<unit_arch, T>(v).complement; });
  case 3:
    return apply(x, y, n, [](auto v) { return math::softplus<unit_arch, T>(v); });
  case 4:
    return apply(x, y, n, [](auto v) { return math::tanh<unit_arch, T>(v); });
  default:
    return apply(x, y, n, [](auto v) { return math::log1p_unit<unit_arch, T>(v); });
  }
}

/// By the way that takes both words, which serves all.
template <xsoftmax::detail::noise_kind Kind, class T>
void apply_noise(const std::uint64_t* words, T* y, std::size_t n) {
  using namespace xsoftmax::detail;
  using variate = kernel::variate<unit_arch, T, Kind>;
  using I = batch<unit_arch, std::int32_t>;
  constexpr std::size_t width = lanes<unit_arch, std::int32_t>;
  constexpr std::size_t batches = sizeof(T) / sizeof(float);
  for (std::size_t i = 0; i < n; i += width) {
    alignas(64) std::int32_t upper[width];
    alignas(64) std::int32_t lower[width];
    alignas(64) T side[width];
    alignas(64) T value[width];
    for (std::size_t l = 0; l < width; ++l) {
      const std::uint64_t word = i + l < n ? words[i + l] : 0;
      upper[l] = static_cast<std::int32_t>(word >> 32);
      lower[l] = static_cast<std::int32_t>(word);
      side[l] = T(word >> 63);
    }
    pack<batch<unit_arch, T>, batches> v;
    if constexpr (sizeof(T) == sizeof(float)) {
      alignas(64) float uniform[width];
      for (std::size_t l = 0; l < width; ++l) {
        const std::uint64_t word = i + l < n ? words[i + l] : 0;
        uniform[l] = xsoftmax::math::uniform_of_both<unit_arch>(word << (variate::two_sided ? 1 : 0));
      }
      v.v[0] = native<unit_arch>::template load<float>(uniform);
    } else {
      I above = I::load_aligned(upper);
      I below = I::load_aligned(lower);
      variate::without_side(above, below);
      xsoftmax::math::uniform_of_both<unit_arch>(above, below, v);
    }
    const auto sides = make_pack<batches>(
        [&](auto b) { return native<unit_arch>::template load<T>(side + decltype(b)::value * lanes<unit_arch, T>); });
    const auto result = variate::values(v, sides);
    for (std::size_t b = 0; b < batches; ++b) {
      result.v[b].store_aligned(value + b * lanes<unit_arch, T>);
    }
    for (std::size_t l = 0; l < width && i + l < n; ++l) {
      y[i + l] = value[l];
    }
  }
}

template <class T>
void apply_noise(int kind, const std::uint64_t* words, T* y, std::size_t n) {
  using xsoftmax::detail::noise_kind;
  switch (kind) {
  case 0:
    return apply_noise<noise_kind::gumbel>(words, y, n);
  case 1:
    return apply_noise<noise_kind::logistic>(words, y, n);
  default:
    return apply_noise<noise_kind::exponential>(words, y, n);
  }
}

} // namespace

namespace xsoftmax::test::probe::XSOFTMAX_TARGET_ARCH {

void exp(const float* x, float* y, std::size_t n);
void exp(const double* x, double* y, std::size_t n);
void extended_exp(const float* x, double* y, std::size_t n, double temperature, std::int64_t reference);
void extended_exp(const double* x, double* y, std::size_t n, double temperature, std::int64_t reference);
void log_of_sum(const double* c, const double* r, double* high, double* low, std::size_t n);
void sincos(const double* x, double* cosine, double* sine, std::size_t n);
void noise(int kind, const std::uint64_t* words, float* y, std::size_t n);
void noise(int kind, const std::uint64_t* words, double* y, std::size_t n);
void philox(std::uint64_t key, const std::uint32_t* counter, std::uint32_t* words);
void link_function(int function, const float* x, float* y, std::size_t n);
void link_function(int function, const double* x, double* y, std::size_t n);

void link_function(int function, const float* x, float* y, std::size_t n) {
  apply_link_function(function, x, y, n);
}

void link_function(int function, const double* x, double* y, std::size_t n) {
  apply_link_function(function, x, y, n);
}

void noise(int kind, const std::uint64_t* words, float* y, std::size_t n) {
  apply_noise(kind, words, y, n);
}

void noise(int kind, const std::uint64_t* words, double* y, std::size_t n) {
  apply_noise(kind, words, y, n);
}

void philox(std::uint64_t key, const std::uint32_t* counter, std::uint32_t* words) {
  using generator = xsoftmax::math::philox<unit_arch>;
  const generator blocks(key, counter[1], counter[2], counter[3]);
  const auto lane = static_cast<std::uint32_t>(counter[0] % generator::blocks);
  typename generator::I word[1][4];
  blocks(counter[0] - lane, word);
  for (std::size_t w = 0; w < 4; ++w) {
    alignas(64) std::int32_t lanes[generator::blocks];
    word[0][w].store_aligned(lanes);
    words[w] = static_cast<std::uint32_t>(lanes[lane]);
  }
}

void exp(const float* x, float* y, std::size_t n) {
  apply_exp(x, y, n);
}

void exp(const double* x, double* y, std::size_t n) {
  apply_exp(x, y, n);
}

void extended_exp(const float* x, double* y, std::size_t n, double temperature, std::int64_t reference) {
  apply_extended_exp(x, y, n, temperature, reference);
}

void extended_exp(const double* x, double* y, std::size_t n, double temperature, std::int64_t reference) {
  apply_extended_exp(x, y, n, temperature, reference);
}

void log_of_sum(const double* c, const double* r, double* high, double* low, std::size_t n) {
  using D = xsoftmax::detail::batch<unit_arch, double>;
  for (std::size_t i = 0; i < n; ++i) {
    const auto log = xsoftmax::math::log_of_sum<unit_arch>(D(c[i]), D(r[i]), D(0.0));
    high[i] = log.sum.get(0);
    low[i] = log.error.get(0);
  }
}

void sincos(const double* x, double* cosine, double* sine, std::size_t n) {
  apply(x, cosine, n, [](auto v) { return xsoftmax::math::sincos<unit_arch>(v).cos; });
  apply(x, sine, n, [](auto v) { return xsoftmax::math::sincos<unit_arch>(v).sin; });
}

} // namespace xsoftmax::test::probe::XSOFTMAX_TARGET_ARCH

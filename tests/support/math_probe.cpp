// SPDX-License-Identifier: MIT
// Compiled once per architecture with -DXSOFTMAX_TARGET_ARCH and that architecture's flags. As in the units of the
// dispatch library, everything is instantiated for a type of this unit's own and no std:: function is called.

#include <cstddef>
#include <cstdint>
#include <xsoftmax/math/exp.hpp>
#include <xsoftmax/math/log.hpp>

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

} // namespace

namespace xsoftmax::test::probe::XSOFTMAX_TARGET_ARCH {

void exp(const float* x, float* y, std::size_t n);
void exp(const double* x, double* y, std::size_t n);
void extended_exp(const float* x, double* y, std::size_t n, double temperature, std::int64_t reference);
void extended_exp(const double* x, double* y, std::size_t n, double temperature, std::int64_t reference);
void log_of_sum(const double* c, const double* r, double* high, double* low, std::size_t n);

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

} // namespace xsoftmax::test::probe::XSOFTMAX_TARGET_ARCH

// SPDX-License-Identifier: MIT
// The building blocks of the kernels as functions over arrays, compiled once per architecture (math_probe.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "types.hpp"

#define XSOFTMAX_TEST_DECLARE_PROBE(tag)                                                                               \
  namespace xsoftmax::test::probe::tag {                                                                               \
  void exp(const float* x, float* y, std::size_t n);                                                                   \
  void exp(const double* x, double* y, std::size_t n);                                                                 \
  /* exp(x / temperature) * 2^-reference, a constant factor divided out in double */                                   \
  void extended_exp(const float* x, double* y, std::size_t n, double temperature, std::int64_t reference);             \
  void extended_exp(const double* x, double* y, std::size_t n, double temperature, std::int64_t reference);            \
  /* log(c + r) = high + low */                                                                                        \
  void log_of_sum(const double* c, const double* r, double* high, double* low, std::size_t n);                         \
  void sincos(const double* x, double* cosine, double* sine, std::size_t n);                                           \
  /* noise of 64 bits each, of kind 0 (Gumbel), 1 (logistic) or 2 (exponential) */                                     \
  void noise(int kind, const std::uint64_t* words, float* y, std::size_t n);                                           \
  void noise(int kind, const std::uint64_t* words, double* y, std::size_t n);                                          \
  void philox(std::uint64_t key, const std::uint32_t* counter, std::uint32_t* words);                                  \
  /* sigmoid (0), both of sigmoid_with_complement (1, 2), softplus (3), tanh (4) or log1p_unit (5) */                  \
  void link_function(int function, const float* x, float* y, std::size_t n);                                           \
  void link_function(int function, const double* x, double* y, std::size_t n);                                         \
  }

#if defined(__x86_64__)
XSOFTMAX_TEST_DECLARE_PROBE(sse2)
XSOFTMAX_TEST_DECLARE_PROBE(avx2)
XSOFTMAX_TEST_DECLARE_PROBE(avx512)
#else
XSOFTMAX_TEST_DECLARE_PROBE(neon64)
#endif

namespace xsoftmax::test {

/// The probe functions of one architecture.
template <class T>
struct math_probe {
  const char* arch;
  bool fused;
  void (*exp)(const T*, T*, std::size_t);
  void (*extended_exp)(const T*, double*, std::size_t, double, std::int64_t);
  void (*log_of_sum)(const double*, const double*, double*, double*, std::size_t);
  void (*sincos)(const double*, double*, double*, std::size_t);
  void (*noise)(int, const std::uint64_t*, T*, std::size_t);
  void (*philox)(std::uint64_t, const std::uint32_t*, std::uint32_t*);
  void (*link_function)(int, const T*, T*, std::size_t);
};

/// Those that this processor can run.
template <class T>
std::vector<math_probe<T>> math_probes() {
  std::vector<math_probe<T>> list;
#define XSOFTMAX_TEST_PROBE(tag)                                                                                       \
  if (runnable<arch::tag>()) {                                                                                         \
    using namespace probe::tag;                                                                                        \
    list.push_back({#tag, has_fused_multiply_add<arch::tag>, exp, extended_exp, log_of_sum, sincos, noise, philox,     \
                    link_function});                                                                                   \
  }
#if defined(__x86_64__)
  XSOFTMAX_TEST_PROBE(sse2)
  XSOFTMAX_TEST_PROBE(avx2)
  XSOFTMAX_TEST_PROBE(avx512)
#else
  XSOFTMAX_TEST_PROBE(neon64)
#endif
#undef XSOFTMAX_TEST_PROBE
  return list;
}

} // namespace xsoftmax::test

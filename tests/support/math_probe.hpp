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
};

/// Those that this processor can run.
template <class T>
std::vector<math_probe<T>> math_probes() {
  std::vector<math_probe<T>> list;
#if defined(__x86_64__)
  list.push_back({"sse2", false, probe::sse2::exp, probe::sse2::extended_exp, probe::sse2::log_of_sum});
  if (runnable<arch::avx2>()) {
    list.push_back({"avx2", true, probe::avx2::exp, probe::avx2::extended_exp, probe::avx2::log_of_sum});
  }
  if (runnable<arch::avx512>()) {
    list.push_back({"avx512", true, probe::avx512::exp, probe::avx512::extended_exp, probe::avx512::log_of_sum});
  }
#else
  list.push_back({"neon64", true, probe::neon64::exp, probe::neon64::extended_exp, probe::neon64::log_of_sum});
#endif
  return list;
}

} // namespace xsoftmax::test

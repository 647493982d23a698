// SPDX-License-Identifier: MIT
// The vector conversions between halves and float as functions over arrays, compiled once per architecture
// (half_probe.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>
#include <xsoftmax/half.hpp>

#include "types.hpp"

#define XSOFTMAX_TEST_DECLARE_PROBE_HALF(half)                                                                         \
  void load_##half(const std::uint16_t* h, float* x, std::size_t n);                                                   \
  void store_##half(const float* x, std::uint16_t* h, std::size_t n);                                                  \
  void stream_##half(const float* x, std::uint16_t* h, std::size_t n);
#define XSOFTMAX_TEST_DECLARE_HALF_PROBE(name)                                                                         \
  namespace xsoftmax::test::probe::name {                                                                              \
  std::size_t half_width();                                                                                            \
  XSOFTMAX_TEST_DECLARE_PROBE_HALF(float16)                                                                            \
  XSOFTMAX_TEST_DECLARE_PROBE_HALF(bfloat16)                                                                           \
  }

#if defined(__x86_64__)
XSOFTMAX_TEST_DECLARE_HALF_PROBE(sse2)
XSOFTMAX_TEST_DECLARE_HALF_PROBE(avx2)
XSOFTMAX_TEST_DECLARE_HALF_PROBE(avx2_without_f16c)
XSOFTMAX_TEST_DECLARE_HALF_PROBE(avx512)
#else
XSOFTMAX_TEST_DECLARE_HALF_PROBE(neon64)
#endif

namespace xsoftmax::test {

/// The probe functions of one architecture. n is a multiple of `width`, the lanes of a batch; `stream` needs h aligned
/// to a batch.
struct half_probe {
  const char* arch;
  std::size_t width;
  void (*load)(const std::uint16_t* h, float* x, std::size_t n);
  void (*store)(const float* x, std::uint16_t* h, std::size_t n);
  void (*stream)(const float* x, std::uint16_t* h, std::size_t n);
};

/// Those that this processor can run, for one of our two half types.
template <class Half>
std::vector<half_probe> half_probes() {
  std::vector<half_probe> list;
  constexpr bool is_float16 = std::is_same_v<Half, float16>;
#define XSOFTMAX_TEST_HALF_PROBE(name)                                                                                 \
  list.push_back({#name, probe::name::half_width(),                                                                    \
                  is_float16 ? probe::name::load_float16 : probe::name::load_bfloat16,                                 \
                  is_float16 ? probe::name::store_float16 : probe::name::store_bfloat16,                               \
                  is_float16 ? probe::name::stream_float16 : probe::name::stream_bfloat16})
#if defined(__x86_64__)
  XSOFTMAX_TEST_HALF_PROBE(sse2);
  if (runnable<arch::avx2>()) {
    XSOFTMAX_TEST_HALF_PROBE(avx2);
    XSOFTMAX_TEST_HALF_PROBE(avx2_without_f16c);
  }
  if (runnable<arch::avx512>()) {
    XSOFTMAX_TEST_HALF_PROBE(avx512);
  }
#else
  XSOFTMAX_TEST_HALF_PROBE(neon64);
#endif
#undef XSOFTMAX_TEST_HALF_PROBE
  return list;
}

} // namespace xsoftmax::test

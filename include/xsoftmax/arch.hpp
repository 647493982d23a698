// SPDX-License-Identifier: MIT
// The architecture tags: first template parameter of every public function.
#pragma once

#include <xsoftmax/config.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

/// Instruction sets that kernels are written for. Which of them can be named in a program follows from its compiler
/// flags or, with the target `xsoftmax::dispatch`, from the list built into it; any other is refused at compile time.
namespace arch {

/// x86-64 baseline, no fused multiply-add: inside the accuracy bounds, but its bits differ from the others'.
struct sse2 {
  static constexpr const char* name = "sse2";
};

/// AVX2 with FMA, and with F16C for float16 where the flags have it.
struct avx2 {
  static constexpr const char* name = "avx2";
};

/// AVX-512 F, CD, DQ, BW and VL.
struct avx512 {
  static constexpr const char* name = "avx512";
};

/// 64-bit Arm with Advanced SIMD.
struct neon64 {
  static constexpr const char* name = "neon64";
};

} // namespace arch

/// The best architecture of the processor and operating system that the program runs on, chosen at the first call.
/// Needs the target `xsoftmax::dispatch`.
struct runtime {
  static constexpr const char* name = "runtime";
};

namespace detail {

// The best tag that the compiler flags allow. Flags between two tags take the lower one.
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__) &&                 \
    defined(__AVX512VL__) && defined(__FMA__)
using flags_arch = arch::avx512;
#elif defined(__AVX2__) && defined(__FMA__)
using flags_arch = arch::avx2;
#elif defined(__SSE2__)
using flags_arch = arch::sse2;
#elif defined(__aarch64__)
using flags_arch = arch::neon64;
#else
#error "xsoftmax: no architecture tag fits these compiler flags (x86-64 or 64-bit Arm is needed)"
#endif

template <class Arch>
inline constexpr int rank = -1;
template <>
inline constexpr int rank<arch::sse2> = 0;
template <>
inline constexpr int rank<arch::avx2> = 1;
template <>
inline constexpr int rank<arch::avx512> = 2;
template <>
inline constexpr int rank<arch::neon64> = 16;

/// Do the compiler flags of this translation unit allow kernels for Arch?
template <class Arch>
inline constexpr bool flags_allow =
    rank<Arch> >= 0 && rank<Arch> <= rank<flags_arch>&& rank<Arch> / 16 == rank<flags_arch> / 16;

} // namespace detail

/// The architecture of a call that names none: `runtime` where the program links `xsoftmax::dispatch`, otherwise the
/// best that the compiler flags allow.
#if defined(XSOFTMAX_DISPATCH)
using default_arch = runtime;
#else
using default_arch = detail::flags_arch;
#endif

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

// SPDX-License-Identifier: MIT
// What the processor offers and the operating system saves. The decision is a function of register values alone, so
// that a test can ask it about machines that are not at hand. Everything has internal linkage: only the run-time unit
// of the dispatch library (and that test) includes this file.
#pragma once

#include <cstdint>
#include <xsoftmax/arch.hpp>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

namespace {

/// The registers that decide.
struct cpu_registers {
  std::uint32_t max_leaf = 0;  ///< CPUID leaf 0, EAX: the highest leaf that means anything
  std::uint32_t leaf1_ecx = 0; ///< CPUID leaf 1
  std::uint32_t leaf7_ebx = 0; ///< CPUID leaf 7, subleaf 0
  std::uint64_t xcr0 = 0;      ///< XGETBV 0: the register state that the operating system saves; 0 without OSXSAVE
};

constexpr bool has_bits(std::uint64_t word, std::uint64_t bits) {
  return (word & bits) == bits;
}

constexpr bool runs(arch::sse2, const cpu_registers&) {
  return true;
} // part of x86-64
constexpr bool runs(arch::neon64, const cpu_registers&) {
  return true;
} // part of AArch64

constexpr bool runs(arch::avx2, const cpu_registers& cpu) {
  // All that -mavx2 -mfma -mf16c lets a compiler use: SSE3, SSSE3, FMA, SSE4.1, SSE4.2, POPCNT, AVX, F16C (every
  // processor with AVX2 has it); OSXSAVE makes XCR0 readable.
  constexpr std::uint32_t leaf1 =
      1U << 0 | 1U << 9 | 1U << 12 | 1U << 19 | 1U << 20 | 1U << 23 | 1U << 28 | 1U << 29 | 1U << 27;
  constexpr std::uint32_t leaf7 = 1U << 5;           // AVX2
  constexpr std::uint64_t state = 1U << 1 | 1U << 2; // XMM, upper halves of YMM
  return cpu.max_leaf >= 7 && has_bits(cpu.leaf1_ecx, leaf1) && has_bits(cpu.leaf7_ebx, leaf7) &&
         has_bits(cpu.xcr0, state);
}

constexpr bool runs(arch::avx512, const cpu_registers& cpu) {
  constexpr std::uint32_t leaf7 = 1U << 16 | 1U << 17 | 1U << 28 | 1U << 30 | 1U << 31; // F, DQ, CD, BW, VL
  constexpr std::uint64_t state = 1U << 5 | 1U << 6 | 1U << 7; // mask registers, upper halves of ZMM, ZMM16 to 31
  return runs(arch::avx2{}, cpu) && has_bits(cpu.leaf7_ebx, leaf7) && has_bits(cpu.xcr0, state);
}

/// The registers of this machine.
inline cpu_registers read_cpu() {
  cpu_registers cpu;
#if defined(__x86_64__)
  std::uint32_t a = 0;
  std::uint32_t b = 0;
  std::uint32_t c = 0;
  std::uint32_t d = 0;
  __cpuid(0, a, b, c, d);
  cpu.max_leaf = a;
  __cpuid(1, a, b, c, d);
  cpu.leaf1_ecx = c;
  if (cpu.max_leaf >= 7) {
    __cpuid_count(7, 0, a, b, c, d);
    cpu.leaf7_ebx = b;
  }
  if (has_bits(cpu.leaf1_ecx, 1U << 27)) { // without OSXSAVE the instruction faults
    // The instruction itself: the intrinsic would need a flag beyond the baseline.
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    cpu.xcr0 = static_cast<std::uint64_t>(d) << 32 | a;
  }
#endif
  return cpu;
}

} // namespace

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

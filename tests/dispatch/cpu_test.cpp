// SPDX-License-Identifier: MIT
// The check of processor and operating system, asked about machines that are not at hand.
#include "../support/catch.hpp"
#include "../support/types.hpp"
#include <string>
#include <xsoftmax/detail/cpu.hpp>

namespace xs = xsoftmax;
using xs::detail::cpu_registers;

namespace {

constexpr std::uint32_t bit(int i) {
  return 1U << i;
}

// CPUID leaf 1, ECX
constexpr std::uint32_t sse3 = bit(0), ssse3 = bit(9), fma3 = bit(12), sse41 = bit(19), sse42 = bit(20),
                        popcnt = bit(23), osxsave = bit(27), avx = bit(28), f16c = bit(29);
// CPUID leaf 7, EBX
constexpr std::uint32_t avx2 = bit(5), avx512f = bit(16), avx512dq = bit(17), avx512cd = bit(28), avx512bw = bit(30),
                        avx512vl = bit(31);
// XCR0
constexpr std::uint64_t x87 = 1, xmm = 2, ymm = 4, opmask = 32, zmm_low = 64, zmm_high = 128;

constexpr std::uint32_t nehalem1 = sse3 | ssse3 | sse41 | sse42 | popcnt;
constexpr std::uint32_t haswell1 = nehalem1 | fma3 | osxsave | avx | f16c;
constexpr std::uint32_t skylake7 = avx2 | avx512f | avx512dq | avx512cd | avx512bw | avx512vl;
constexpr std::uint64_t avx_state = x87 | xmm | ymm;
constexpr std::uint64_t avx512_state = avx_state | opmask | zmm_low | zmm_high;

const char* best(const cpu_registers& cpu) {
  return xs::detail::runs(xs::arch::avx512{}, cpu) ? "avx512"
         : xs::detail::runs(xs::arch::avx2{}, cpu) ? "avx2"
                                                   : "sse2";
}

} // namespace

TEST_CASE("cpu check: machines", "[dispatch]") {
  struct machine {
    const char* name;
    cpu_registers cpu;
    const char* best;
  };
  const machine machines[] = {
      {"first x86-64", {1, sse3, 0, 0}, "sse2"},
      {"Nehalem", {11, nehalem1, 0, 0}, "sse2"},
      {"Sandy Bridge: AVX, no FMA, no AVX2", {13, nehalem1 | osxsave | avx, 0, avx_state}, "sse2"},
      {"Piledriver: AVX and FMA, no AVX2", {13, haswell1, 0, avx_state}, "sse2"},
      {"Haswell", {13, haswell1, avx2, avx_state}, "avx2"},
      {"AVX2 without F16C", {13, haswell1 & ~f16c, avx2, avx_state}, "sse2"},
      {"AVX2 without FMA", {13, haswell1 & ~fma3, avx2, avx_state}, "sse2"},
      {"Skylake-X", {22, haswell1, skylake7, avx512_state}, "avx512"},
      {"Knights Landing: F and CD only", {13, haswell1, avx2 | avx512f | avx512cd, avx512_state}, "avx2"},
      {"AVX-512 processor without FMA", {22, haswell1 & ~fma3, skylake7, avx512_state}, "sse2"},
      {"AVX-512 without AVX2", {22, haswell1, skylake7 & ~avx2, avx512_state}, "sse2"},
      {"operating system without XSAVE", {22, haswell1 & ~osxsave, skylake7, 0}, "sse2"},
      {"OSXSAVE off, whatever XCR0 was read as", {22, haswell1 & ~osxsave, skylake7, avx512_state}, "sse2"},
      {"virtual machine that saves only SSE state", {22, haswell1, skylake7, x87 | xmm}, "sse2"},
      {"YMM enabled without XMM", {22, haswell1, skylake7, x87 | ymm}, "sse2"},
      {"operating system without AVX-512 state", {22, haswell1, skylake7, avx_state}, "avx2"},
      {"mask registers not saved", {22, haswell1, skylake7, avx512_state & ~opmask}, "avx2"},
      {"upper ZMM halves not saved", {22, haswell1, skylake7, avx512_state & ~zmm_low}, "avx2"},
      {"ZMM16 to 31 not saved", {22, haswell1, skylake7, avx512_state & ~zmm_high}, "avx2"},
      {"ZMM saved, YMM not", {22, haswell1, skylake7, avx512_state & ~ymm}, "sse2"},
      {"highest leaf below 7: its words mean nothing", {6, haswell1, skylake7, avx512_state}, "sse2"},
  };
  for (const machine& m : machines) {
    INFO(m.name);
    CHECK(std::string(best(m.cpu)) == m.best);
  }
}

TEST_CASE("cpu check: every bit counts", "[dispatch]") {
  const cpu_registers full{22, haswell1, skylake7, avx512_state};
  REQUIRE(std::string(best(full)) == "avx512");
  for (const std::uint32_t feature : {avx512f, avx512dq, avx512cd, avx512bw, avx512vl}) {
    cpu_registers cpu = full;
    cpu.leaf7_ebx &= ~feature;
    CHECK(std::string(best(cpu)) == "avx2");
  }
  for (const std::uint32_t feature : {sse3, ssse3, fma3, sse41, sse42, popcnt, osxsave, avx, f16c}) {
    cpu_registers cpu = full;
    cpu.leaf1_ecx &= ~feature;
    CHECK(std::string(best(cpu)) == "sse2");
  }
}

#if defined(__x86_64__)
TEST_CASE("cpu check: this machine, against the compiler's own check", "[dispatch]") {
  const cpu_registers cpu = xs::detail::read_cpu();
  CHECK(xs::detail::runs(xs::arch::avx2{}, cpu) == xs::test::runnable<xs::arch::avx2>());
  CHECK(xs::detail::runs(xs::arch::avx512{}, cpu) == xs::test::runnable<xs::arch::avx512>());
}
#endif

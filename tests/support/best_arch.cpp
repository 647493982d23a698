// SPDX-License-Identifier: MIT
// Prints the best architecture tag that this machine runs, for the configuration of the tests.
#include <cstdio>
#include <xsoftmax/detail/cpu.hpp>

int main() {
  using namespace xsoftmax;
#if defined(__aarch64__)
  const char* best = arch::neon64::name;
#else
  const detail::cpu_registers cpu = detail::read_cpu();
  const char* best = detail::runs(arch::avx512{}, cpu) ? arch::avx512::name
                     : detail::runs(arch::avx2{}, cpu) ? arch::avx2::name
                                                       : arch::sse2::name;
#endif
  std::fputs(best, stdout);
}

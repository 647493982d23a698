// SPDX-License-Identifier: MIT
// Flush-to-zero, as a caller may have set it.
#pragma once

#include <cstdint>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace xsoftmax::test {

#if defined(__x86_64__)

// MXCSR
inline constexpr std::uint64_t flush_to_zero = 0x8000;
inline constexpr std::uint64_t denormals_are_zero = 0x0040;

inline std::uint64_t floating_point_control() {
  return _mm_getcsr();
}

inline void set_floating_point_control(std::uint64_t control) {
  _mm_setcsr(static_cast<unsigned>(control));
}

#else

// FPCR, where one bit is both.
inline constexpr std::uint64_t flush_to_zero = 1U << 24;
inline constexpr std::uint64_t denormals_are_zero = 1U << 24;

inline std::uint64_t floating_point_control() {
  std::uint64_t control = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  return control;
}

inline void set_floating_point_control(std::uint64_t control) {
  __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}

#endif

/// Sets the named bits for a scope.
class flushing {
public:
  explicit flushing(std::uint64_t bits) : before_(floating_point_control()) {
    set_floating_point_control(before_ | bits);
  }

  flushing(const flushing&) = delete;
  flushing& operator=(const flushing&) = delete;

  ~flushing() { set_floating_point_control(before_); }

private:
  std::uint64_t before_;
};

} // namespace xsoftmax::test

// SPDX-License-Identifier: MIT
// Compiled once per architecture with -DXSOFTMAX_TARGET_ARCH and that architecture's flags; XSOFTMAX_PROBE_NAME names
// what was compiled with others. As in the units of the dispatch library, no std:: function is called.

#include <cstddef>
#include <cstdint>
#include <xsoftmax/detail/simd.hpp>

#if !defined(XSOFTMAX_PROBE_NAME)
#define XSOFTMAX_PROBE_NAME XSOFTMAX_TARGET_ARCH
#endif

namespace {

struct unit_arch : xsoftmax::arch::XSOFTMAX_TARGET_ARCH {};

using simd = xsoftmax::detail::native<unit_arch>;
constexpr std::size_t width = xsoftmax::detail::lanes<unit_arch, float>;

template <class Step>
void for_batches(std::size_t n, Step step) {
  for (std::size_t i = 0; i < n; i += width) {
    step(i);
  }
}

} // namespace

#define XSOFTMAX_PROBE_HALF(half)                                                                                      \
  void load_##half(const std::uint16_t* h, float* x, std::size_t n);                                                   \
  void store_##half(const float* x, std::uint16_t* h, std::size_t n);                                                  \
  void stream_##half(const float* x, std::uint16_t* h, std::size_t n);                                                 \
                                                                                                                       \
  void load_##half(const std::uint16_t* h, float* x, std::size_t n) {                                                  \
    for_batches(n, [=](std::size_t i) { simd::store<float>(x + i, simd::load_##half(h + i)); });                       \
  }                                                                                                                    \
                                                                                                                       \
  void store_##half(const float* x, std::uint16_t* h, std::size_t n) {                                                 \
    for_batches(n, [=](std::size_t i) { simd::store_##half(h + i, simd::load<float>(x + i)); });                       \
  }                                                                                                                    \
                                                                                                                       \
  void stream_##half(const float* x, std::uint16_t* h, std::size_t n) {                                                \
    for_batches(n, [=](std::size_t i) { simd::stream_##half(h + i, simd::load<float>(x + i)); });                      \
    simd::fence();                                                                                                     \
  }

namespace xsoftmax::test::probe::XSOFTMAX_PROBE_NAME {

std::size_t half_width();

std::size_t half_width() {
  return width;
}

XSOFTMAX_PROBE_HALF(float16)
XSOFTMAX_PROBE_HALF(bfloat16)

} // namespace xsoftmax::test::probe::XSOFTMAX_PROBE_NAME

// SPDX-License-Identifier: MIT
// The only place that knows xsimd and its versions (8.1 to 14): which of its architectures a tag stands for, and the
// few operations that it lacks or words differently from release to release. Everything above works on batch<A, T> and
// these.
//
// Every function here is force-inlined: none is ever emitted, so none can be merged with a copy for another
// architecture.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <xsimd/xsimd.hpp>
#include <xsoftmax/arch.hpp>
#if defined(__AVX__)
#include <immintrin.h>
#elif defined(__x86_64__)
#include <emmintrin.h> // the rest would take as long to compile as the library
#endif

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// The integer of the same width as T, for work on its bits.
template <class T>
struct bits_of;
template <>
struct bits_of<float> {
  using type = std::int32_t;
};
template <>
struct bits_of<double> {
  using type = std::int64_t;
};
template <class T>
using bits_t = typename bits_of<T>::type;

/// A compile-time index that needs no function of the standard library.
template <std::size_t I>
struct index_constant {
  static constexpr std::size_t value = I;
};

template <class Body, std::size_t... I>
XSOFTMAX_STEP void unroll_over(std::index_sequence<I...>, Body&& body) {
  (body(index_constant<I>{}), ...);
}

/// body(index_constant<0>{}), ..., body(index_constant<N - 1>{}): unrolled by the front end, not by the optimiser's
/// leave.
template <std::size_t N, class Body>
XSOFTMAX_STEP void unroll(Body&& body) {
  unroll_over(std::make_index_sequence<N>{}, body);
}

namespace simd {

struct sse2;
struct avx2;
struct avx512;
struct neon64;

sse2 native_of(const arch::sse2*);
avx2 native_of(const arch::avx2*);
avx512 native_of(const arch::avx512*);
neon64 native_of(const arch::neon64*);

} // namespace simd

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

#if defined(__x86_64__)
#include <xsoftmax/detail/simd/sse2.hpp>
#if defined(__AVX2__) && defined(__FMA__)
#include <xsoftmax/detail/simd/avx2.hpp>
#endif
#if defined(__AVX512F__) && defined(__AVX512CD__) && defined(__AVX512DQ__) && defined(__AVX512BW__) &&                 \
    defined(__AVX512VL__)
#include <xsoftmax/detail/simd/avx512.hpp>
#endif
#elif defined(__aarch64__)
#include <xsoftmax/detail/simd/neon64.hpp>
#endif

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// The operations of architecture A, which is a tag or a type derived from one.
template <class A>
using native = decltype(simd::native_of(static_cast<const A*>(nullptr)));

template <class A, class T>
using batch = typename native<A>::template batch<T>;

/// Lanes of a batch<A, T>.
template <class A, class T>
inline constexpr std::size_t lanes = batch<A, T>::size;

/// -v, also of zeros.
template <class B>
XSOFTMAX_INLINE B negated(B v) {
  return B(static_cast<typename B::value_type>(-0.0)) - v;
}

/// v, of which the compiler no longer knows that it is a product: it cannot contract it with an addition that follows.
template <class B>
XSOFTMAX_INLINE B uncontracted(B v) {
  typename B::register_type content = v;
#if defined(__x86_64__)
  __asm__("" : "+v"(content));
#elif defined(__aarch64__)
  __asm__("" : "+w"(content));
#endif
  return B(content);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

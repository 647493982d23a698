// SPDX-License-Identifier: MIT
// What AVX2 with FMA does in its own way.
#pragma once

#include <xsoftmax/detail/simd.hpp>
#include <xsoftmax/detail/simd/sse2.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd {

struct avx2 {
  template <class T>
  using batch = xsimd::batch<T, xsimd::fma3<xsimd::avx2>>;
  using F = batch<float>;
  using D = batch<double>;
  using I = batch<std::int32_t>;
  using L = batch<std::int64_t>;

  static constexpr bool fused = true;
  /// Batches of a short row whose terms stay in registers: whole groups.
  template <class T>
  static constexpr std::size_t batches_in_registers = 0;
  static constexpr bool masks = true;
  /// Batches in flight that hide the latency of the exponential without spilling.
  static constexpr std::size_t interleave = 2;

  static XSOFTMAX_INLINE I bits(F v) { return I(_mm256_castps_si256(v)); }

  static XSOFTMAX_INLINE L bits(D v) { return L(_mm256_castpd_si256(v)); }

  static XSOFTMAX_INLINE F from_bits(I v) { return F(_mm256_castsi256_ps(v)); }

  static XSOFTMAX_INLINE D from_bits(L v) { return D(_mm256_castsi256_pd(v)); }

  template <int Count>
  static XSOFTMAX_INLINE I shift_left(I v) {
    return I(_mm256_slli_epi32(v, Count));
  }

  template <int Count>
  static XSOFTMAX_INLINE L shift_left(L v) {
    return L(_mm256_slli_epi64(v, Count));
  }

  /// Half the sign bit of each lane: 2^30 or 2^62 where it is set.
  static XSOFTMAX_INLINE I half_sign(I v) {
    return I(_mm256_and_si256(_mm256_srli_epi32(v, 1), _mm256_set1_epi32(1 << 30)));
  }

  static XSOFTMAX_INLINE L half_sign(L v) {
    return L(_mm256_and_si256(_mm256_srli_epi64(v, 1), _mm256_set1_epi64x(std::int64_t{1} << 62)));
  }

  /// Negative lanes become 0.
  static XSOFTMAX_INLINE I not_below_zero(I v) { return I(_mm256_max_epi32(v, _mm256_setzero_si256())); }

  static XSOFTMAX_INLINE I max(I a, I b) { return I(_mm256_max_epi32(a, b)); }

  static XSOFTMAX_INLINE L max(L a, L b) { return L(_mm256_blendv_epi8(b, a, _mm256_cmpgt_epi64(a, b))); }

  /// max(x, m) where a NaN in x is dropped.
  static XSOFTMAX_INLINE F max_dropping_nan(F x, F m) { return F(_mm256_max_ps(x, m)); }

  static XSOFTMAX_INLINE D max_dropping_nan(D x, D m) { return D(_mm256_max_pd(x, m)); }

  /// min(x, high) where a NaN in x stays.
  static XSOFTMAX_INLINE F min_keeping_nan(F x, F high) { return F(_mm256_min_ps(high, x)); }

  static XSOFTMAX_INLINE D min_keeping_nan(D x, D high) { return D(_mm256_min_pd(high, x)); }

  /// max(x, low) where a NaN in x stays.
  static XSOFTMAX_INLINE F max_keeping_nan(F x, F low) { return F(_mm256_max_ps(low, x)); }

  static XSOFTMAX_INLINE D max_keeping_nan(D x, D low) { return D(_mm256_max_pd(low, x)); }

  /// v, but 0 where a = b.
  static XSOFTMAX_INLINE F zero_where_equal(F a, F b, F v) {
    return F(_mm256_andnot_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), v));
  }

  static XSOFTMAX_INLINE D zero_where_equal(D a, D b, D v) {
    return D(_mm256_andnot_pd(_mm256_cmp_pd(a, b, _CMP_EQ_OQ), v));
  }

  static XSOFTMAX_INLINE bool any_nan(F x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0; }

  static XSOFTMAX_INLINE bool any_nan(D x) { return _mm256_movemask_pd(_mm256_cmp_pd(x, x, _CMP_UNORD_Q)) != 0; }

  /// The largest lane; no lane is NaN.
  static XSOFTMAX_INLINE float largest_lane(F v) {
    return sse2::largest_lane(sse2::F(_mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1))));
  }

  static XSOFTMAX_INLINE double largest_lane(D v) {
    return sse2::largest_lane(sse2::D(_mm_max_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1))));
  }

  static XSOFTMAX_INLINE std::int32_t largest_lane(I v) {
    return sse2::largest_lane(sse2::I(_mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1))));
  }

  static XSOFTMAX_INLINE std::int64_t largest_lane(L v) {
    return sse2::largest_lane(sse2::max(sse2::L(_mm256_castsi256_si128(v)), sse2::L(_mm256_extracti128_si256(v, 1))));
  }

  /// Whose batches the halves are.
  using half = sse2;

  static XSOFTMAX_INLINE sse2::D lower_half(D v) { return sse2::D(_mm256_castpd256_pd128(v)); }

  static XSOFTMAX_INLINE sse2::D upper_half(D v) { return sse2::D(_mm256_extractf128_pd(v, 1)); }

  /// The lowest lane.
  static XSOFTMAX_INLINE std::int32_t first_lane(I v) { return _mm_cvtsi128_si32(_mm256_castsi256_si128(v)); }

  static XSOFTMAX_INLINE std::int64_t first_lane(L v) { return _mm_cvtsi128_si64(_mm256_castsi256_si128(v)); }

  /// a * b + c, rounded once.
  static XSOFTMAX_INLINE F multiply_add(F a, F b, F c) { return F(_mm256_fmadd_ps(a, b, c)); }

  static XSOFTMAX_INLINE D multiply_add(D a, D b, D c) { return D(_mm256_fmadd_pd(a, b, c)); }

  /// c - a * b, rounded once.
  static XSOFTMAX_INLINE F negative_multiply_add(F a, F b, F c) { return F(_mm256_fnmadd_ps(a, b, c)); }

  static XSOFTMAX_INLINE D negative_multiply_add(D a, D b, D c) { return D(_mm256_fnmadd_pd(a, b, c)); }

  template <class B>
  static XSOFTMAX_INLINE B fused_multiply_add(B a, B b, B c) {
    return multiply_add(a, b, c);
  }

  /// Sixteen int32 in two registers: look up in both, bit 3 of the index chooses.
  struct table {
    I first;
    I second;

    XSOFTMAX_INLINE table(const std::int32_t (&values)[16], std::int32_t offset)
        : first(I::load_unaligned(values) + I(offset)), second(I::load_unaligned(values + 8) + I(offset)) {}

    /// entry[low 4 bits of k]
    XSOFTMAX_INLINE I operator()(I k) const {
      const __m256 low = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(first, k));
      const __m256 high = _mm256_castsi256_ps(_mm256_permutevar8x32_epi32(second, k));
      return I(_mm256_castps_si256(_mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(k, 28)))));
    }
  };

  /// The lanes of v as doubles: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen(F v, D& low, D& high) {
    low = D(_mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    high = D(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }

  /// The inverse of widen, rounded to nearest.
  static XSOFTMAX_INLINE F narrow(D low, D high) {
    return F(_mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high), 1));
  }

  template <class T>
  static XSOFTMAX_INLINE batch<T> load(const T* p) {
    return batch<T>::load_unaligned(p);
  }

  template <class T>
  static XSOFTMAX_INLINE void store(T* p, batch<T> v) {
    v.store_unaligned(p);
  }

  static XSOFTMAX_INLINE __m256i first_lanes_32(std::size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }

  static XSOFTMAX_INLINE __m256i first_lanes_64(std::size_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<std::int64_t>(count)), _mm256_setr_epi64x(0, 1, 2, 3));
  }

  /// The first `count` lanes from p, `fill` in the others; nothing beyond is touched.
  static XSOFTMAX_INLINE F load_partial(const float* p, std::size_t count, float fill) {
    const __m256i first = first_lanes_32(count);
    return F(_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, first), _mm256_castsi256_ps(first)));
  }

  static XSOFTMAX_INLINE D load_partial(const double* p, std::size_t count, double fill) {
    const __m256i first = first_lanes_64(count);
    return D(_mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(p, first), _mm256_castsi256_pd(first)));
  }

  static XSOFTMAX_INLINE void store_partial(float* p, std::size_t count, F v) {
    _mm256_maskstore_ps(p, first_lanes_32(count), v);
  }

  static XSOFTMAX_INLINE void store_partial(double* p, std::size_t count, D v) {
    _mm256_maskstore_pd(p, first_lanes_64(count), v);
  }

  /// Past the caches; p is aligned to the batch.
  static XSOFTMAX_INLINE void stream(float* p, F v) { _mm256_stream_ps(p, v); }

  static XSOFTMAX_INLINE void stream(double* p, D v) { _mm256_stream_pd(p, v); }

  /// Makes streamed stores visible before any later store.
  static XSOFTMAX_INLINE void fence() { _mm_sfence(); }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd

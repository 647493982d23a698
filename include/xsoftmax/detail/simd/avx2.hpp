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
  static constexpr std::size_t registers = 16;
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

  /// Zeros come in at the top.
  template <int Count>
  static XSOFTMAX_INLINE L shift_right(L v) {
    return L(_mm256_srli_epi64(v, Count));
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

  /// max(|x|, m) where a NaN in x is dropped.
  static XSOFTMAX_INLINE F max_magnitude(F x, F m) {
    return max_dropping_nan(F(_mm256_andnot_ps(_mm256_set1_ps(-0.0F), x)), m);
  }

  static XSOFTMAX_INLINE D max_magnitude(D x, D m) {
    return max_dropping_nan(D(_mm256_andnot_pd(_mm256_set1_pd(-0.0), x)), m);
  }

  static XSOFTMAX_INLINE bool all_below(F v, float bound) {
    return _mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_set1_ps(bound), _CMP_LT_OQ)) == 0xFF;
  }

  static XSOFTMAX_INLINE bool all_below(D v, double bound) {
    return _mm256_movemask_pd(_mm256_cmp_pd(v, _mm256_set1_pd(bound), _CMP_LT_OQ)) == 0xF;
  }

  /// min(x, high) where a NaN in x stays.
  static XSOFTMAX_INLINE F min_keeping_nan(F x, F high) { return F(_mm256_min_ps(high, x)); }

  static XSOFTMAX_INLINE D min_keeping_nan(D x, D high) { return D(_mm256_min_pd(high, x)); }

  /// Rounded to nearest.
  template <class B>
  static XSOFTMAX_INLINE B divide(B a, B b) {
    return a / b;
  }

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

  /// x where a = b, y elsewhere.
  static XSOFTMAX_INLINE F where_equal(F a, F b, F x, F y) {
    return F(_mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
  }

  static XSOFTMAX_INLINE D where_equal(D a, D b, D x, D y) {
    return D(_mm256_blendv_pd(y, x, _mm256_cmp_pd(a, b, _CMP_EQ_OQ)));
  }

  /// count + 1 where a = b.
  static XSOFTMAX_INLINE I count_equal(F a, F b, I count) {
    return I(_mm256_sub_epi32(count, _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_EQ_OQ))));
  }

  static XSOFTMAX_INLINE L count_equal(D a, D b, L count) {
    return L(_mm256_sub_epi64(count, _mm256_castpd_si256(_mm256_cmp_pd(a, b, _CMP_EQ_OQ))));
  }

  static XSOFTMAX_INLINE bool any_nan(F x) { return _mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)) != 0; }

  static XSOFTMAX_INLINE bool any_nan(D x) { return _mm256_movemask_pd(_mm256_cmp_pd(x, x, _CMP_UNORD_Q)) != 0; }

  /// Lane l of x where bit l is set, of y elsewhere.
  static XSOFTMAX_INLINE F select(unsigned bits, F x, F y) {
    const __m256i lane = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
    const __m256i chosen = _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int>(bits)), lane), lane);
    return F(_mm256_blendv_ps(y, x, _mm256_castsi256_ps(chosen)));
  }

  static XSOFTMAX_INLINE D select(unsigned bits, D x, D y) {
    const __m256i lane = _mm256_set_epi64x(8, 4, 2, 1);
    const __m256i chosen = _mm256_cmpeq_epi64(_mm256_and_si256(_mm256_set1_epi64x(bits), lane), lane);
    return D(_mm256_blendv_pd(y, x, _mm256_castsi256_pd(chosen)));
  }

  /// Rounded to nearest.
  static XSOFTMAX_INLINE F square_root(F v) { return F(_mm256_sqrt_ps(v)); }

  static XSOFTMAX_INLINE D square_root(D v) { return D(_mm256_sqrt_pd(v)); }

  /// Bit l is set where the lanes l are equal.
  static XSOFTMAX_INLINE unsigned equal_bits(F a, F b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)));
  }

  static XSOFTMAX_INLINE unsigned equal_bits(D a, D b) {
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_EQ_OQ)));
  }

  /// The sum of all lanes, the upper half added to the lower until one is left.
  static XSOFTMAX_INLINE float fold_sum(F v) {
    return sse2::fold_sum(sse2::F(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1))));
  }

  static XSOFTMAX_INLINE double fold_sum(D v) {
    return sse2::fold_sum(sse2::D(_mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1))));
  }

  /// Lane c of row r becomes lane r of row c: within units of two lanes, of four, of eight.
  static XSOFTMAX_INLINE void transpose(F (&row)[8]) {
    __m256 t[8];
    unroll<4>([&](auto g) XSOFTMAX_LAMBDA {
      constexpr std::size_t r = 2 * decltype(g)::value;
      t[r] = _mm256_unpacklo_ps(row[r], row[r + 1]);
      t[r + 1] = _mm256_unpackhi_ps(row[r], row[r + 1]);
    });
    __m256d u[8];
    unroll<2>([&](auto g) XSOFTMAX_LAMBDA {
      constexpr std::size_t r = 4 * decltype(g)::value;
      unroll<2>([&](auto h) XSOFTMAX_LAMBDA {
        const __m256d a = _mm256_castps_pd(t[r + decltype(h)::value]);
        const __m256d b = _mm256_castps_pd(t[r + 2 + decltype(h)::value]);
        u[r + 2 * decltype(h)::value] = _mm256_unpacklo_pd(a, b);
        u[r + 2 * decltype(h)::value + 1] = _mm256_unpackhi_pd(a, b);
      });
    });
    unroll<4>([&](auto c) XSOFTMAX_LAMBDA {
      constexpr std::size_t i = decltype(c)::value;
      row[i] = F(_mm256_castpd_ps(_mm256_permute2f128_pd(u[i], u[4 + i], 0x20)));
      row[4 + i] = F(_mm256_castpd_ps(_mm256_permute2f128_pd(u[i], u[4 + i], 0x31)));
    });
  }

  static XSOFTMAX_INLINE void transpose(D (&row)[4]) {
    const __m256d a = _mm256_unpacklo_pd(row[0], row[1]);
    const __m256d b = _mm256_unpackhi_pd(row[0], row[1]);
    const __m256d c = _mm256_unpacklo_pd(row[2], row[3]);
    const __m256d d = _mm256_unpackhi_pd(row[2], row[3]);
    row[0] = D(_mm256_permute2f128_pd(a, c, 0x20));
    row[1] = D(_mm256_permute2f128_pd(b, d, 0x20));
    row[2] = D(_mm256_permute2f128_pd(a, c, 0x31));
    row[3] = D(_mm256_permute2f128_pd(b, d, 0x31));
  }

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

  /// As for AVX-512.
  template <std::size_t Unit>
  static XSOFTMAX_INLINE void deal(D a, D b, D& even, D& odd) {
    if constexpr (Unit == 2) {
      even = D(_mm256_permute2f128_pd(a, b, 0x20));
      odd = D(_mm256_permute2f128_pd(a, b, 0x31));
    } else {
      static_assert(Unit == 1);
      even = D(_mm256_unpacklo_pd(a, b));
      odd = D(_mm256_unpackhi_pd(a, b));
    }
  }

  static XSOFTMAX_INLINE bool all_between(D v, D floor, D ceiling) {
    const __m256d within = _mm256_and_pd(_mm256_cmp_pd(v, floor, _CMP_GE_OQ), _mm256_cmp_pd(v, ceiling, _CMP_LT_OQ));
    return _mm256_movemask_pd(within) == 0xF;
  }

  // For random words, which are unsigned.

  static XSOFTMAX_INLINE L exclusive_or(L a, L b, L c) { return L(_mm256_xor_si256(_mm256_xor_si256(a, b), c)); }

  /// The products of the lower halves of the lanes.
  static XSOFTMAX_INLINE L multiply_lower_halves(L a, L b) { return L(_mm256_mul_epu32(a, b)); }

  /// The lower halves of the lanes, of `even` and `odd` in turn.
  static XSOFTMAX_INLINE I join_lower_halves(L even, L odd) {
    return I(_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA));
  }

  static XSOFTMAX_INLINE I min_unsigned(I a, I b) { return I(_mm256_min_epu32(a, b)); }

  /// Is a lane below 2^Bits?
  template <int Bits>
  static XSOFTMAX_INLINE bool any_below_power(I v) {
    const __m256i upper = _mm256_srli_epi32(v, Bits);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi32(upper, _mm256_setzero_si256())) != 0;
  }

  /// The lanes as numbers from 0 to 2^32, rounded towards 0.
  static XSOFTMAX_INLINE F truncate_unsigned(I v) {
    const __m256 upper = _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_srli_epi32(v, 16)), _mm256_set1_ps(0x1p16F)); // exact
    const __m256 lower = _mm256_cvtepi32_ps(_mm256_and_si256(v, _mm256_set1_epi32(0xFFFF)));
    const __m256 nearest = _mm256_add_ps(upper, lower);
    // What the sum lost, exactly; where it is negative the sum was rounded up.
    const __m256i lost = _mm256_castps_si256(_mm256_sub_ps(lower, _mm256_sub_ps(nearest, upper)));
    return F(_mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(nearest), _mm256_srai_epi32(lost, 31))));
  }

  /// The lanes as numbers: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen_unsigned(I v, D& low, D& high) {
    const auto widen_half = [](__m128i half) XSOFTMAX_LAMBDA {
      const __m256i exponent = _mm256_castpd_si256(_mm256_set1_pd(0x1p52));
      const __m256i bits = _mm256_or_si256(_mm256_cvtepu32_epi64(half), exponent);
      return D(_mm256_sub_pd(_mm256_castsi256_pd(bits), _mm256_set1_pd(0x1p52)));
    };
    low = widen_half(_mm256_castsi256_si128(v));
    high = widen_half(_mm256_extracti128_si256(v, 1));
  }

  static XSOFTMAX_INLINE F to_float(I v) { return F(_mm256_cvtepi32_ps(v)); }

  /// To the nearest integer.
  static XSOFTMAX_INLINE I to_integer(F v) { return I(_mm256_cvtps_epi32(v)); }

  /// Zeros come in at the top.
  template <int Count>
  static XSOFTMAX_INLINE I shift_right(I v) {
    return I(_mm256_srli_epi32(v, Count));
  }

  /// Is a lane of a below that of b? Not where one is NaN.
  static XSOFTMAX_INLINE bool any_less(F a, F b) { return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)) != 0; }

  static XSOFTMAX_INLINE bool any_less(D a, D b) { return _mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LT_OQ)) != 0; }

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

  /// Steps to the octave of the table that an estimate takes.
  static constexpr int estimate_step_bits = 4;

  struct estimate_table : table {
    XSOFTMAX_INLINE explicit estimate_table(const std::int32_t (&values)[16]) : table(values, 0) {}
  };

  /// The lanes of v as doubles: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen(F v, D& low, D& high) {
    low = D(_mm256_cvtps_pd(_mm256_castps256_ps128(v)));
    high = D(_mm256_cvtps_pd(_mm256_extractf128_ps(v, 1)));
  }

  /// As for AVX-512.
  static XSOFTMAX_INLINE void shift_to_double(F v, D& even, D& odd) {
    const __m256i both = _mm256_castps_si256(v);
    even = D(_mm256_castsi256_pd(_mm256_mul_epu32(both, _mm256_set1_epi64x(1 << 29))));
    odd = D(_mm256_castsi256_pd(_mm256_and_si256(_mm256_srli_epi64(both, 3), _mm256_set1_epi64x(-(1 << 29)))));
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

  // Halves: the bits of the scalar conversions in half.hpp, NaN included. F16C does the same under any MXCSR:
  // VCVTPH2PS ignores denormals-are-zero and VCVTPS2PH flush-to-zero; a float that is subnormal, which
  // denormals-are-zero makes 0, rounds to 0 as a float16 anyway. The rounding is named in the instruction.

  /// Eight float16 as float, exactly.
  static XSOFTMAX_INLINE F load_float16(const std::uint16_t* p) {
#if defined(__F16C__)
    return F(_mm256_cvtph_ps(load_128(p)));
#else
    return F(_mm256_insertf128_ps(_mm256_castps128_ps256(sse2::load_float16(p)), sse2::load_float16(p + 4), 1));
#endif
  }

  /// Eight bfloat16 as float, exactly: the load duplicates all eight, one shuffle puts each lane's own between zeros.
  static XSOFTMAX_INLINE F load_bfloat16(const std::uint16_t* p) {
    const __m256i both = _mm256_broadcastsi128_si256(load_128(p));
    const __m256i place = _mm256_setr_epi8(-1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, //
                                           -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15);
    return F(_mm256_castsi256_ps(_mm256_shuffle_epi8(both, place)));
  }

  /// Sixteen halves.
  struct words {
    __m256i v;
  };

  static XSOFTMAX_INLINE words load_words(const std::uint16_t* p) {
    return {_mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(p)))};
  }

  /// Sixteen bfloat16 as float: three instructions.
  static XSOFTMAX_INLINE void widen_bfloat16(words w, F& first, F& second) {
    // Interleaving goes by lanes of 128 bits: their halves, first those of the first eight.
    const __m256i halves = _mm256_permute4x64_epi64(w.v, _MM_SHUFFLE(3, 1, 2, 0));
    first = F(_mm256_castsi256_ps(_mm256_unpacklo_epi16(_mm256_setzero_si256(), halves)));
    second = F(_mm256_castsi256_ps(_mm256_unpackhi_epi16(_mm256_setzero_si256(), halves)));
  }

  /// The same in no particular order: two instructions. round_bfloat16 takes them back to their places.
  static XSOFTMAX_INLINE void widen_bfloat16_apart(words w, F& first, F& second) {
    first = F(_mm256_castsi256_ps(_mm256_slli_epi32(w.v, 16)));
    second = F(_mm256_castsi256_ps(_mm256_and_si256(w.v, _mm256_set1_epi32(static_cast<int>(0xFFFF0000)))));
  }

  /// Sixteen float16 as float; they are those at p.
  static XSOFTMAX_INLINE void widen_float16(words, const std::uint16_t* p, F& first, F& second) {
    first = load_float16(p);
    second = load_float16(p + 8);
  }

  static XSOFTMAX_INLINE words max_signed(words a, words b) {
    return {_mm256_max_epi16(a.v, b.v)};
  }

  static XSOFTMAX_INLINE words max_unsigned(words a, words b) {
    return {_mm256_max_epu16(a.v, b.v)};
  }

  static XSOFTMAX_INLINE words min_unsigned(words a, words b) {
    return {_mm256_min_epu16(a.v, b.v)};
  }

  static XSOFTMAX_INLINE bool any_different(words a, words b) {
    return _mm256_movemask_epi8(_mm256_cmpeq_epi16(a.v, b.v)) != -1;
  }

  static XSOFTMAX_INLINE bool any_above(words w, std::uint16_t bound) {
    return _mm256_movemask_epi8(above(w, bound)) != 0;
  }

  /// The smallest word, unsigned.
  static XSOFTMAX_INLINE std::uint16_t smallest_word(words w) {
    const __m128i least = _mm_min_epu16(_mm256_castsi256_si128(w.v), _mm256_extracti128_si256(w.v, 1));
    return static_cast<std::uint16_t>(_mm_cvtsi128_si32(_mm_minpos_epu16(least)));
  }

  /// The largest word, signed.
  static XSOFTMAX_INLINE std::uint16_t largest_word(words w) {
    constexpr short reverse = 0x7FFF; // makes it the smallest unsigned
    const auto word = smallest_word({_mm256_xor_si256(w.v, _mm256_set1_epi16(reverse))});
    return static_cast<std::uint16_t>(word ^ reverse);
  }

  /// As for AVX-512.
  template <int Slack>
  static XSOFTMAX_INLINE words round_bfloat16(F first, F second, words& margin) {
    const __m256i half = _mm256_set1_epi32(0x8000 + Slack);
    const __m256i even = _mm256_add_epi32(_mm256_castps_si256(first), half);
    const __m256i odd = _mm256_add_epi32(_mm256_castps_si256(second), half);
    margin.v = _mm256_min_epu16(margin.v, _mm256_min_epu16(even, odd));
    return {_mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xAA)};
  }

  /// As for AVX-512.
  static XSOFTMAX_INLINE words round_float16(F first, F second) {
    return {_mm256_inserti128_si256(_mm256_castsi128_si256(to_float16(first)), to_float16(second), 1)};
  }

  static XSOFTMAX_INLINE words widest_margin() {
    return {_mm256_set1_epi16(-1)};
  }

  /// As for AVX-512.
  template <int Slack>
  static XSOFTMAX_INLINE bool any_undecided(words w, std::uint16_t bound, words margin) {
    // With zeros in the upper words no lane is decided by them.
    const __m256i low = _mm256_and_si256(margin.v, _mm256_set1_epi32(0xFFFF));
    const __m256i unsure = _mm256_cmpgt_epi32(_mm256_set1_epi32(2 * Slack + 1), low);
    return _mm256_movemask_epi8(_mm256_or_si256(unsure, above(w, bound))) != 0;
  }

  static XSOFTMAX_INLINE void store_words(std::uint16_t* p, words w) {
    _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(p)), w.v);
  }

  /// Past the caches; p is aligned to the 32 bytes.
  static XSOFTMAX_INLINE void stream_words(std::uint16_t* p, words w) {
    _mm256_stream_si256(static_cast<__m256i*>(static_cast<void*>(p)), w.v);
  }

  /// Rounds to nearest even.
  static XSOFTMAX_INLINE void store_float16(std::uint16_t* p, F v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_float16(v));
  }

  static XSOFTMAX_INLINE void store_bfloat16(std::uint16_t* p, F v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), to_bfloat16(v));
  }

  /// Past the caches; p is aligned to the 16 bytes.
  static XSOFTMAX_INLINE void stream_float16(std::uint16_t* p, F v) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), to_float16(v));
  }

  static XSOFTMAX_INLINE void stream_bfloat16(std::uint16_t* p, F v) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), to_bfloat16(v));
  }

  static XSOFTMAX_INLINE __m128i to_float16(F v) {
#if defined(__F16C__)
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT);
#else
    return _mm_unpacklo_epi64(sse2::to_float16(sse2::F(_mm256_castps256_ps128(v))),
                              sse2::to_float16(sse2::F(_mm256_extractf128_ps(v, 1))));
#endif
  }

  /// Nine instructions, ten micro-operations where a blend is two.
  static XSOFTMAX_INLINE __m128i to_bfloat16(F v) {
    const __m256i x = _mm256_castps_si256(v);
    // Just under half a unit, and the rest where that leaves an odd tie.
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(x, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(x, _mm256_set1_epi32(0x00400000));
    const __m256 result =
        _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), _mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    // The upper halves of each half's lanes, then of both halves.
    const __m256i upper = _mm256_setr_epi8(2, 3, 6, 7, 10, 11, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, //
                                           2, 3, 6, 7, 10, 11, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i gathered = _mm256_shuffle_epi8(_mm256_castps_si256(result), upper);
    return _mm256_castsi256_si128(_mm256_permute4x64_epi64(gathered, _MM_SHUFFLE(3, 1, 2, 0)));
  }

private:
  /// All ones in the words above the bound, which is not the largest of all words.
  static XSOFTMAX_INLINE __m256i above(words w, std::uint16_t bound) {
    const __m256i least = _mm256_set1_epi16(static_cast<short>(bound + 1));
    return _mm256_cmpeq_epi16(_mm256_max_epu16(w.v, least), w.v);
  }

  static XSOFTMAX_INLINE __m128i load_128(const std::uint16_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd

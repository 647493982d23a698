// SPDX-License-Identifier: MIT
// What AVX-512 (F, CD, DQ, BW, VL) does in its own way. xsimd 8.1 has no fused multiply-add, permutation or masked load
// for it, hence the intrinsics. They are the zero-masked forms with a full mask (the same instructions), because g++ 12
// warns of an uninitialised variable inside the plain ones.
#pragma once

#include <xsoftmax/detail/simd.hpp>
#include <xsoftmax/detail/simd/avx2.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd {

struct avx512 {
  template <class T>
  using batch = xsimd::batch<T, xsimd::avx512bw>;
  using F = batch<float>;
  using D = batch<double>;
  using I = batch<std::int32_t>;
  using L = batch<std::int64_t>;

  static constexpr bool fused = true;
  static constexpr std::size_t registers = 32;
  /// Batches of a short row whose terms stay in registers: whole groups.
  template <class T>
  static constexpr std::size_t batches_in_registers = sizeof(T) == 4 ? 10 : 8;
  static constexpr bool masks = true;
  /// Batches in flight that hide the latency of the exponential without spilling.
  static constexpr std::size_t interleave = 4;

  static XSOFTMAX_INLINE I bits(F v) { return I(_mm512_castps_si512(v)); }

  static XSOFTMAX_INLINE L bits(D v) { return L(_mm512_castpd_si512(v)); }

  static XSOFTMAX_INLINE F from_bits(I v) { return F(_mm512_castsi512_ps(v)); }

  static XSOFTMAX_INLINE D from_bits(L v) { return D(_mm512_castsi512_pd(v)); }

  template <unsigned Count>
  static XSOFTMAX_INLINE I shift_left(I v) {
    return I(_mm512_maskz_slli_epi32(0xFFFF, v, Count));
  }

  template <unsigned Count>
  static XSOFTMAX_INLINE L shift_left(L v) {
    return L(_mm512_maskz_slli_epi64(0xFF, v, Count));
  }

  /// Zeros come in at the top.
  template <unsigned Count>
  static XSOFTMAX_INLINE L shift_right(L v) {
    return L(_mm512_maskz_srli_epi64(0xFF, v, Count));
  }

  /// Half the sign bit of each lane: 2^30 or 2^62 where it is set.
  static XSOFTMAX_INLINE I half_sign(I v) {
    return I(_mm512_and_si512(_mm512_maskz_srli_epi32(0xFFFF, v, 1), _mm512_set1_epi32(1 << 30)));
  }

  static XSOFTMAX_INLINE L half_sign(L v) {
    return L(_mm512_and_si512(_mm512_maskz_srli_epi64(0xFF, v, 1), _mm512_set1_epi64(std::int64_t{1} << 62)));
  }

  /// Negative lanes become 0.
  static XSOFTMAX_INLINE I not_below_zero(I v) { return I(_mm512_maskz_max_epi32(0xFFFF, v, _mm512_setzero_si512())); }

  static XSOFTMAX_INLINE I max(I a, I b) { return I(_mm512_maskz_max_epi32(0xFFFF, a, b)); }

  static XSOFTMAX_INLINE L max(L a, L b) { return L(_mm512_maskz_max_epi64(0xFF, a, b)); }

  /// max(x, m) where a NaN in x is dropped.
  static XSOFTMAX_INLINE F max_dropping_nan(F x, F m) { return F(_mm512_maskz_max_ps(0xFFFF, x, m)); }

  static XSOFTMAX_INLINE D max_dropping_nan(D x, D m) { return D(_mm512_maskz_max_pd(0xFF, x, m)); }

  /// max(|x|, m) where a quiet NaN in x is dropped.
  static XSOFTMAX_INLINE F max_magnitude(F x, F m) { return F(_mm512_maskz_range_ps(0xFFFF, x, m, 0b1011)); }

  static XSOFTMAX_INLINE D max_magnitude(D x, D m) { return D(_mm512_maskz_range_pd(0xFF, x, m, 0b1011)); }

  static XSOFTMAX_INLINE bool all_below(F v, float bound) {
    return _mm512_cmp_ps_mask(v, _mm512_set1_ps(bound), _CMP_LT_OQ) == 0xFFFF;
  }

  static XSOFTMAX_INLINE bool all_below(D v, double bound) {
    return _mm512_cmp_pd_mask(v, _mm512_set1_pd(bound), _CMP_LT_OQ) == 0xFF;
  }

  /// min(x, high) where a NaN in x stays.
  static XSOFTMAX_INLINE F min_keeping_nan(F x, F high) { return F(_mm512_maskz_min_ps(0xFFFF, high, x)); }

  static XSOFTMAX_INLINE D min_keeping_nan(D x, D high) { return D(_mm512_maskz_min_pd(0xFF, high, x)); }

  /// Rounded to nearest.
  template <class B>
  static XSOFTMAX_INLINE B divide(B a, B b) {
    return a / b;
  }

  /// max(x, low) where a NaN in x stays.
  static XSOFTMAX_INLINE F max_keeping_nan(F x, F low) { return F(_mm512_maskz_max_ps(0xFFFF, low, x)); }

  static XSOFTMAX_INLINE D max_keeping_nan(D x, D low) { return D(_mm512_maskz_max_pd(0xFF, low, x)); }

  /// v, but 0 where a = b.
  static XSOFTMAX_INLINE F zero_where_equal(F a, F b, F v) {
    return F(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), v));
  }

  static XSOFTMAX_INLINE D zero_where_equal(D a, D b, D v) {
    return D(_mm512_maskz_mov_pd(_mm512_cmp_pd_mask(a, b, _CMP_NEQ_UQ), v));
  }

  /// x where a = b, y elsewhere.
  static XSOFTMAX_INLINE F where_equal(F a, F b, F x, F y) {
    return F(_mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), x));
  }

  static XSOFTMAX_INLINE D where_equal(D a, D b, D x, D y) {
    return D(_mm512_mask_mov_pd(y, _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ), x));
  }

  /// count + 1 where a = b.
  static XSOFTMAX_INLINE I count_equal(F a, F b, I count) {
    return I(_mm512_mask_sub_epi32(count, _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), count, _mm512_set1_epi32(-1)));
  }

  static XSOFTMAX_INLINE L count_equal(D a, D b, L count) {
    return L(_mm512_mask_sub_epi64(count, _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ), count, _mm512_set1_epi64(-1)));
  }

  static XSOFTMAX_INLINE bool any_nan(F x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q) != 0; }

  static XSOFTMAX_INLINE bool any_nan(D x) { return _mm512_cmp_pd_mask(x, x, _CMP_UNORD_Q) != 0; }

  static XSOFTMAX_INLINE __m256 lower(__m512 v) {
    return static_cast<__m256>(__builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7));
  }

  static XSOFTMAX_INLINE __m256 upper(__m512 v) {
    return static_cast<__m256>(__builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15));
  }

  static XSOFTMAX_INLINE __m256d lower(__m512d v) {
    return static_cast<__m256d>(__builtin_shufflevector(v, v, 0, 1, 2, 3));
  }

  static XSOFTMAX_INLINE __m256d upper(__m512d v) {
    return static_cast<__m256d>(__builtin_shufflevector(v, v, 4, 5, 6, 7));
  }

  static XSOFTMAX_INLINE __m256i lower(__m512i v) {
    return static_cast<__m256i>(__builtin_shufflevector(v, v, 0, 1, 2, 3));
  }

  static XSOFTMAX_INLINE __m256i upper(__m512i v) {
    return static_cast<__m256i>(__builtin_shufflevector(v, v, 4, 5, 6, 7));
  }

  /// Lane l of x where bit l is set, of y elsewhere.
  static XSOFTMAX_INLINE F select(unsigned bits, F x, F y) {
    return F(_mm512_mask_mov_ps(y, static_cast<__mmask16>(bits), x));
  }

  static XSOFTMAX_INLINE D select(unsigned bits, D x, D y) {
    return D(_mm512_mask_mov_pd(y, static_cast<__mmask8>(bits), x));
  }

  /// Rounded to nearest.
  static XSOFTMAX_INLINE F square_root(F v) { return F(_mm512_maskz_sqrt_ps(0xFFFF, v)); }

  static XSOFTMAX_INLINE D square_root(D v) { return D(_mm512_maskz_sqrt_pd(0xFF, v)); }

  /// Bit l is set where the lanes l are equal.
  static XSOFTMAX_INLINE unsigned equal_bits(F a, F b) { return whole(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)); }

  static XSOFTMAX_INLINE unsigned equal_bits(D a, D b) { return whole(_mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ)); }

  /// The sum of all lanes, the upper half added to the lower until one is left.
  static XSOFTMAX_INLINE float fold_sum(F v) { return avx2::fold_sum(avx2::F(_mm256_add_ps(lower(v), upper(v)))); }

  static XSOFTMAX_INLINE double fold_sum(D v) { return avx2::fold_sum(avx2::D(_mm256_add_pd(lower(v), upper(v)))); }

  /// Lane c of row r becomes lane r of row c: within units of two lanes, of four, then units of four among themselves.
  static XSOFTMAX_INLINE void transpose(F (&row)[16]) {
    __m512 t[16];
    unroll<8>([&](auto g) XSOFTMAX_LAMBDA {
      constexpr std::size_t r = 2 * decltype(g)::value;
      t[r] = _mm512_maskz_unpacklo_ps(0xFFFF, row[r], row[r + 1]);
      t[r + 1] = _mm512_maskz_unpackhi_ps(0xFFFF, row[r], row[r + 1]);
    });
    __m512d u[16];
    unroll<4>([&](auto g) XSOFTMAX_LAMBDA {
      constexpr std::size_t r = 4 * decltype(g)::value;
      unroll<2>([&](auto h) XSOFTMAX_LAMBDA {
        const __m512d a = _mm512_castps_pd(t[r + decltype(h)::value]);
        const __m512d b = _mm512_castps_pd(t[r + 2 + decltype(h)::value]);
        u[r + 2 * decltype(h)::value] = _mm512_maskz_unpacklo_pd(0xFF, a, b);
        u[r + 2 * decltype(h)::value + 1] = _mm512_maskz_unpackhi_pd(0xFF, a, b);
      });
    });
    unroll<4>([&](auto c) XSOFTMAX_LAMBDA {
      constexpr std::size_t i = decltype(c)::value;
      transpose_units(u[i], u[4 + i], u[8 + i], u[12 + i]);
      unroll<4>([&](auto l) XSOFTMAX_LAMBDA {
        row[4 * decltype(l)::value + i] = F(_mm512_castpd_ps(u[4 * decltype(l)::value + i]));
      });
    });
  }

  static XSOFTMAX_INLINE void transpose(D (&row)[8]) {
    __m512d t[8];
    unroll<4>([&](auto g) XSOFTMAX_LAMBDA {
      constexpr std::size_t r = 2 * decltype(g)::value;
      t[r] = _mm512_maskz_unpacklo_pd(0xFF, row[r], row[r + 1]);
      t[r + 1] = _mm512_maskz_unpackhi_pd(0xFF, row[r], row[r + 1]);
    });
    unroll<2>([&](auto c) XSOFTMAX_LAMBDA {
      constexpr std::size_t i = decltype(c)::value;
      transpose_units(t[i], t[2 + i], t[4 + i], t[6 + i]);
      unroll<4>([&](auto l) XSOFTMAX_LAMBDA { row[2 * decltype(l)::value + i] = D(t[2 * decltype(l)::value + i]); });
    });
  }

  /// The same for the quarters of four registers.
  static XSOFTMAX_INLINE void transpose_units(__m512d& a, __m512d& b, __m512d& c, __m512d& d) {
    const __m512d even_ab = _mm512_maskz_shuffle_f64x2(0xFF, a, b, 0x88);
    const __m512d odd_ab = _mm512_maskz_shuffle_f64x2(0xFF, a, b, 0xDD);
    const __m512d even_cd = _mm512_maskz_shuffle_f64x2(0xFF, c, d, 0x88);
    const __m512d odd_cd = _mm512_maskz_shuffle_f64x2(0xFF, c, d, 0xDD);
    a = _mm512_maskz_shuffle_f64x2(0xFF, even_ab, even_cd, 0x88);
    b = _mm512_maskz_shuffle_f64x2(0xFF, odd_ab, odd_cd, 0x88);
    c = _mm512_maskz_shuffle_f64x2(0xFF, even_ab, even_cd, 0xDD);
    d = _mm512_maskz_shuffle_f64x2(0xFF, odd_ab, odd_cd, 0xDD);
  }

  /// The largest lane; no lane is NaN.
  static XSOFTMAX_INLINE float largest_lane(F v) {
    return avx2::largest_lane(avx2::F(_mm256_max_ps(lower(v), upper(v))));
  }

  static XSOFTMAX_INLINE double largest_lane(D v) {
    return avx2::largest_lane(avx2::D(_mm256_max_pd(lower(v), upper(v))));
  }

  static XSOFTMAX_INLINE std::int32_t largest_lane(I v) {
    return avx2::largest_lane(avx2::I(_mm256_max_epi32(lower(__m512i(v)), upper(__m512i(v)))));
  }

  static XSOFTMAX_INLINE std::int64_t largest_lane(L v) {
    return avx2::largest_lane(avx2::max(avx2::L(lower(__m512i(v))), avx2::L(upper(__m512i(v)))));
  }

  /// Whose batches the halves are.
  using half = avx2;

  static XSOFTMAX_INLINE avx2::D lower_half(D v) { return avx2::D(lower(__m512d(v))); }

  static XSOFTMAX_INLINE avx2::D upper_half(D v) { return avx2::D(upper(__m512d(v))); }

  /// Of a, then b, in units of `Unit` lanes: those at even places, those at odd places. Unit = 1: from a and b in turn.
  template <std::size_t Unit>
  static XSOFTMAX_INLINE void deal(D a, D b, D& even, D& odd) {
    if constexpr (Unit == 4) {
      even = D(_mm512_maskz_shuffle_f64x2(0xFF, a, b, 0b01000100));
      odd = D(_mm512_maskz_shuffle_f64x2(0xFF, a, b, 0b11101110));
    } else if constexpr (Unit == 2) {
      even = D(_mm512_maskz_shuffle_f64x2(0xFF, a, b, 0b10001000));
      odd = D(_mm512_maskz_shuffle_f64x2(0xFF, a, b, 0b11011101));
    } else {
      static_assert(Unit == 1);
      even = D(_mm512_maskz_unpacklo_pd(0xFF, a, b));
      odd = D(_mm512_maskz_unpackhi_pd(0xFF, a, b));
    }
  }

  /// floor <= v < ceiling in every lane?
  static XSOFTMAX_INLINE bool all_between(D v, D floor, D ceiling) {
    return _mm512_mask_cmp_pd_mask(_mm512_cmp_pd_mask(v, floor, _CMP_GE_OQ), v, ceiling, _CMP_LT_OQ) == 0xFF;
  }

  // For random words, which are unsigned.

  static XSOFTMAX_INLINE L exclusive_or(L a, L b, L c) {
    return L(_mm512_maskz_ternarylogic_epi64(0xFF, a, b, c, 0b10010110));
  }

  /// The products of the lower halves of the lanes.
  static XSOFTMAX_INLINE L multiply_lower_halves(L a, L b) { return L(_mm512_maskz_mul_epu32(0xFF, a, b)); }

  /// The lower halves of the lanes, of `even` and `odd` in turn.
  static XSOFTMAX_INLINE I join_lower_halves(L even, L odd) {
    const __m512 joined = _mm512_mask_moveldup_ps(_mm512_castsi512_ps(even), 0xAAAA, _mm512_castsi512_ps(odd));
    return I(_mm512_castps_si512(joined));
  }

  static XSOFTMAX_INLINE I min_unsigned(I a, I b) { return I(_mm512_maskz_min_epu32(0xFFFF, a, b)); }

  /// Is a lane below 2^Bits?
  template <int Bits>
  static XSOFTMAX_INLINE bool any_below_power(I v) {
    return _mm512_cmplt_epu32_mask(v, _mm512_set1_epi32(1 << Bits)) != 0;
  }

  /// The lanes as numbers from 0 to 2^32, rounded towards 0.
  static XSOFTMAX_INLINE F truncate_unsigned(I v) {
    const __m512i word = v; // a macro where nothing is optimised
    const __mmask16 all = 0xFFFF;
    return F(_mm512_maskz_cvt_roundepu32_ps(all, word, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC));
  }

  /// The lanes as numbers: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen_unsigned(I v, D& low, D& high) {
    low = D(_mm512_maskz_cvtepu32_pd(0xFF, lower(__m512i(v))));
    high = D(_mm512_maskz_cvtepu32_pd(0xFF, upper(__m512i(v))));
  }

  static XSOFTMAX_INLINE F to_float(I v) { return F(_mm512_maskz_cvtepi32_ps(0xFFFF, v)); }

  /// To the nearest integer.
  static XSOFTMAX_INLINE I to_integer(F v) { return I(_mm512_maskz_cvtps_epi32(0xFFFF, v)); }

  /// Zeros come in at the top.
  template <unsigned Count>
  static XSOFTMAX_INLINE I shift_right(I v) {
    return I(_mm512_maskz_srli_epi32(0xFFFF, v, Count));
  }

  /// Is a lane of a below that of b? Not where one is NaN.
  static XSOFTMAX_INLINE bool any_less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) != 0; }

  static XSOFTMAX_INLINE bool any_less(D a, D b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ) != 0; }

  /// The lowest lane.
  static XSOFTMAX_INLINE std::int32_t first_lane(I v) { return _mm512_cvtsi512_si32(v); }

  static XSOFTMAX_INLINE std::int64_t first_lane(L v) {
    const __m512i lane = v;
    return lane[0];
  }

  /// a * b + c, rounded once.
  static XSOFTMAX_INLINE F multiply_add(F a, F b, F c) { return F(_mm512_fmadd_ps(a, b, c)); }

  static XSOFTMAX_INLINE D multiply_add(D a, D b, D c) { return D(_mm512_fmadd_pd(a, b, c)); }

  /// c - a * b, rounded once.
  static XSOFTMAX_INLINE F negative_multiply_add(F a, F b, F c) { return F(_mm512_fnmadd_ps(a, b, c)); }

  static XSOFTMAX_INLINE D negative_multiply_add(D a, D b, D c) { return D(_mm512_fnmadd_pd(a, b, c)); }

  template <class B>
  static XSOFTMAX_INLINE B fused_multiply_add(B a, B b, B c) {
    return multiply_add(a, b, c);
  }

  /// Sixteen int32 in one register.
  struct table {
    I entry;

    XSOFTMAX_INLINE table(const std::int32_t (&values)[16], std::int32_t offset)
        : entry(I::load_unaligned(values) + I(offset)) {}

    /// entry[low 4 bits of k]
    XSOFTMAX_INLINE I operator()(I k) const { return I(_mm512_maskz_permutexvar_epi32(0xFFFF, k, entry)); }
  };

  /// Steps to the octave of the table that an estimate takes.
  static constexpr int estimate_step_bits = 5;

  /// Thirty-two int32 in two registers.
  struct estimate_table {
    I low;
    I high;

    XSOFTMAX_INLINE explicit estimate_table(const std::int32_t (&values)[32])
        : low(I::load_aligned(values)), high(I::load_aligned(values + 16)) {}

    /// entry[low 5 bits of k]
    XSOFTMAX_INLINE I operator()(I k) const { return I(_mm512_maskz_permutex2var_epi32(0xFFFF, low, k, high)); }
  };

  /// The lanes of v as doubles: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen(F v, D& low, D& high) {
    low = D(_mm512_maskz_cvtps_pd(0xFF, lower(v)));
    high = D(_mm512_maskz_cvtps_pd(0xFF, upper(v)));
  }

  /// 2^-896 times the lanes of v, which are not negative, as doubles: those at even places, those at odd places. Three
  /// operations, where widen takes five of which two are slow.
  static XSOFTMAX_INLINE void shift_to_double(F v, D& even, D& odd) {
    const __m512i both = _mm512_castps_si512(v);
    even = D(_mm512_castsi512_pd(_mm512_maskz_mul_epu32(0xFF, both, _mm512_set1_epi64(1 << 29))));
    const __m512i from_odd = _mm512_maskz_srli_epi64(0xFF, both, 3);
    odd = D(_mm512_castsi512_pd(_mm512_and_si512(from_odd, _mm512_set1_epi64(-(1 << 29)))));
  }

  /// The inverse of widen, rounded to nearest.
  static XSOFTMAX_INLINE F narrow(D low, D high) {
    const __m256 first = _mm512_maskz_cvtpd_ps(0xFF, low);
    const __m256 second = _mm512_maskz_cvtpd_ps(0xFF, high);
    return F(__m512(__builtin_shufflevector(first, second, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)));
  }

  template <class T>
  static XSOFTMAX_INLINE batch<T> load(const T* p) {
    return batch<T>::load_unaligned(p);
  }

  template <class T>
  static XSOFTMAX_INLINE void store(T* p, batch<T> v) {
    v.store_unaligned(p);
  }

  /// The first `count` lanes from p, `fill` in the others; nothing beyond is touched.
  static XSOFTMAX_INLINE F load_partial(const float* p, std::size_t count, float fill) {
    return F(_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>((1u << count) - 1), p));
  }

  static XSOFTMAX_INLINE D load_partial(const double* p, std::size_t count, double fill) {
    return D(_mm512_mask_loadu_pd(_mm512_set1_pd(fill), static_cast<__mmask8>((1u << count) - 1), p));
  }

  static XSOFTMAX_INLINE void store_partial(float* p, std::size_t count, F v) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), v);
  }

  static XSOFTMAX_INLINE void store_partial(double* p, std::size_t count, D v) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << count) - 1), v);
  }

  /// Past the caches; p is aligned to the batch.
  static XSOFTMAX_INLINE void stream(float* p, F v) { _mm512_stream_ps(p, v); }

  static XSOFTMAX_INLINE void stream(double* p, D v) { _mm512_stream_pd(p, v); }

  /// Makes streamed stores visible before any later store.
  static XSOFTMAX_INLINE void fence() { _mm_sfence(); }

  /// Thirty-two halves.
  struct words {
    __m512i v;
  };

  // Halves: the bits of the scalar conversions in half.hpp, NaN included, under any MXCSR (see avx2).

  /// Sixteen float16 as float, exactly.
  static XSOFTMAX_INLINE F load_float16(const std::uint16_t* p) {
    return F(_mm512_maskz_cvtph_ps(0xFFFF, load_256(p)));
  }

  /// Sixteen bfloat16 as float, exactly: two instructions.
  static XSOFTMAX_INLINE F load_bfloat16(const std::uint16_t* p) {
    const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xFFFF, load_256(p));
    return F(_mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xFFFF, wide, 16)));
  }

  static XSOFTMAX_INLINE words load_words(const std::uint16_t* p) { return {_mm512_loadu_si512(p)}; }

  /// Thirty-two bfloat16 as float, by two permutations of words into the upper halves of lanes, with zeros below.
  static XSOFTMAX_INLINE void widen_bfloat16(words w, F& first, F& second) {
    const __m512i front = _mm512_set_epi32(15 << 16, 14 << 16, 13 << 16, 12 << 16, 11 << 16, 10 << 16, 9 << 16, 8 << 16,
                                           7 << 16, 6 << 16, 5 << 16, 4 << 16, 3 << 16, 2 << 16, 1 << 16, 0);
    const __m512i back =
        _mm512_set_epi32(31 << 16, 30 << 16, 29 << 16, 28 << 16, 27 << 16, 26 << 16, 25 << 16, 24 << 16, 23 << 16,
                         22 << 16, 21 << 16, 20 << 16, 19 << 16, 18 << 16, 17 << 16, 16 << 16);
    first = F(_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, front, w.v)));
    second = F(_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xAAAAAAAA, back, w.v)));
  }

  /// The same in no particular order: two instructions. round_bfloat16 takes them back to their places.
  static XSOFTMAX_INLINE void widen_bfloat16_apart(words w, F& first, F& second) {
    const __m512i zero = _mm512_setzero_si512();
    first = F(_mm512_castsi512_ps(_mm512_maskz_unpacklo_epi16(0xFFFFFFFF, zero, w.v)));
    second = F(_mm512_castsi512_ps(_mm512_maskz_unpackhi_epi16(0xFFFFFFFF, zero, w.v)));
  }

  /// Thirty-two float16 as float; they are those at p.
  static XSOFTMAX_INLINE void widen_float16(words w, const std::uint16_t*, F& first, F& second) {
    first = F(_mm512_maskz_cvtph_ps(0xFFFF, lower(w.v)));
    second = F(_mm512_maskz_cvtph_ps(0xFFFF, upper(w.v)));
  }

  static XSOFTMAX_INLINE words max_signed(words a, words b) { return {_mm512_max_epi16(a.v, b.v)}; }

  static XSOFTMAX_INLINE words max_unsigned(words a, words b) { return {_mm512_max_epu16(a.v, b.v)}; }

  static XSOFTMAX_INLINE words min_unsigned(words a, words b) { return {_mm512_min_epu16(a.v, b.v)}; }

  /// The smallest word, unsigned.
  static XSOFTMAX_INLINE std::uint16_t smallest_word(words w) {
    return avx2::smallest_word({_mm256_min_epu16(lower(w.v), upper(w.v))});
  }

  /// The largest word, signed.
  static XSOFTMAX_INLINE std::uint16_t largest_word(words w) {
    return avx2::largest_word({_mm256_max_epi16(lower(w.v), upper(w.v))});
  }

  static XSOFTMAX_INLINE bool any_different(words a, words b) { return _mm512_cmpneq_epi16_mask(a.v, b.v) != 0; }

  static XSOFTMAX_INLINE bool any_above(words w, std::uint16_t bound) {
    return _mm512_cmpgt_epu16_mask(w.v, _mm512_set1_epi16(static_cast<short>(bound))) != 0;
  }

  /// Positive normal numbers that widen_bfloat16_apart's have become, rounded to bfloat16. `margin` becomes at most the
  /// distance of each from the middle between two of those, in units of its last place and from -Slack on; below Slack
  /// the result is not to be had.
  template <int Slack>
  static XSOFTMAX_INLINE words round_bfloat16(F first, F second, words& margin) {
    const __m512i half = _mm512_set1_epi32(0x8000 + Slack);
    const __m512i a = _mm512_add_epi32(_mm512_castps_si512(first), half);
    const __m512i b = _mm512_add_epi32(_mm512_castps_si512(second), half);
    margin.v = _mm512_min_epu16(margin.v, _mm512_min_epu16(a, b)); // the lower words are looked at
    // The upper words of a and b, lane of 128 bits by lane.
    const __m512i upper_words = _mm512_set_epi16(63, 61, 59, 57, 31, 29, 27, 25, 55, 53, 51, 49, 23, 21, 19, 17, //
                                                 47, 45, 43, 41, 15, 13, 11, 9, 39, 37, 35, 33, 7, 5, 3, 1);
    return {_mm512_maskz_permutex2var_epi16(0xFFFFFFFF, a, upper_words, b)};
  }

  /// What widen_float16's have become, rounded to nearest even.
  static XSOFTMAX_INLINE words round_float16(F first, F second) {
    return {_mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(to_float16(first)), to_float16(second), 1)};
  }

  static XSOFTMAX_INLINE words widest_margin() { return {_mm512_set1_epi16(-1)}; }

  /// Is a word above the bound, or a number within Slack units of the middle?
  template <int Slack>
  static XSOFTMAX_INLINE bool any_undecided(words w, std::uint16_t bound, words margin) {
    const __mmask32 outside = _mm512_cmpgt_epu16_mask(w.v, _mm512_set1_epi16(static_cast<short>(bound)));
    return (outside | _mm512_mask_cmple_epu16_mask(0x55555555, margin.v, _mm512_set1_epi16(2 * Slack))) != 0;
  }

  static XSOFTMAX_INLINE void store_words(std::uint16_t* p, words w) { _mm512_storeu_si512(p, w.v); }

  /// Past the caches; p is aligned to the 64 bytes.
  static XSOFTMAX_INLINE void stream_words(std::uint16_t* p, words w) {
    _mm512_stream_si512(static_cast<__m512i*>(static_cast<void*>(p)), w.v);
  }

  /// Rounds to nearest even.
  static XSOFTMAX_INLINE void store_float16(std::uint16_t* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_float16(v));
  }

  static XSOFTMAX_INLINE void store_bfloat16(std::uint16_t* p, F v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), to_bfloat16(v));
  }

  /// Past the caches; p is aligned to the 32 bytes.
  static XSOFTMAX_INLINE void stream_float16(std::uint16_t* p, F v) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_float16(v));
  }

  static XSOFTMAX_INLINE void stream_bfloat16(std::uint16_t* p, F v) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), to_bfloat16(v));
  }

  static XSOFTMAX_INLINE __m256i to_float16(F v) { return _mm512_maskz_cvtps_ph(0xFFFF, v, _MM_FROUND_TO_NEAREST_INT); }

  /// Five instructions, six micro-operations where a permutation of words is two.
  static XSOFTMAX_INLINE __m256i to_bfloat16(F v) {
    const __m512i x = _mm512_castps_si512(v);
    // Half a unit where the last place is odd, just under it elsewhere: a tie goes to even.
    const __mmask16 odd = _mm512_test_epi32_mask(x, _mm512_set1_epi32(0x00010000));
    const __m512i below = _mm512_maskz_add_epi32(0xFFFF, x, _mm512_set1_epi32(0x7FFF));
    const __m512i rounded = _mm512_mask_add_epi32(below, odd, x, _mm512_set1_epi32(0x8000));
    // The table's answer to a NaN of either kind is that NaN, quiet; to all else, what was there before.
    const __m512 result = _mm512_maskz_fixupimm_ps(0xFFFF, _mm512_castsi512_ps(rounded), v, _mm512_set1_epi32(0x22), 0);
    return lower(upper_words(_mm512_castps_si512(result)));
  }

private:
  /// A mask as a number, in a register of its own: g++ 12 at -O1 stores the two bytes of one and reads eight of it.
  static XSOFTMAX_INLINE unsigned whole(unsigned mask) {
    __asm__("" : "+r"(mask));
    return mask;
  }

  static XSOFTMAX_INLINE __m256i load_256(const std::uint16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }

  /// The upper half of every lane, in the first sixteen words.
  static XSOFTMAX_INLINE __m512i upper_words(__m512i v) {
    const __m512i odd_words = _mm512_set_epi16(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1, //
                                               31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
    return _mm512_maskz_permutexvar_epi16(0xFFFFFFFF, odd_words, v);
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd

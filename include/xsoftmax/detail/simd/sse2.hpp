// SPDX-License-Identifier: MIT
// What the x86-64 baseline does in its own way. No fused multiply-add: multiply_add rounds twice, fused_multiply_add
// emulates one rounding.
#pragma once

#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd {

struct sse2 {
  template <class T>
  using batch = xsimd::batch<T, xsimd::sse2>;
  using F = batch<float>;
  using D = batch<double>;
  using I = batch<std::int32_t>;
  using L = batch<std::int64_t>;

  static constexpr bool fused = false;
  static constexpr std::size_t registers = 16;
  /// Batches of a short row whose terms stay in registers: whole groups.
  template <class T>
  static constexpr std::size_t batches_in_registers = 0;
  static constexpr bool masks = false;
  /// Batches in flight that hide the latency of the exponential without spilling.
  static constexpr std::size_t interleave = 1;

  static XSOFTMAX_INLINE I bits(F v) { return I(_mm_castps_si128(v)); }

  static XSOFTMAX_INLINE L bits(D v) { return L(_mm_castpd_si128(v)); }

  static XSOFTMAX_INLINE F from_bits(I v) { return F(_mm_castsi128_ps(v)); }

  static XSOFTMAX_INLINE D from_bits(L v) { return D(_mm_castsi128_pd(v)); }

  template <int Count>
  static XSOFTMAX_INLINE I shift_left(I v) {
    return I(_mm_slli_epi32(v, Count));
  }

  template <int Count>
  static XSOFTMAX_INLINE L shift_left(L v) {
    return L(_mm_slli_epi64(v, Count));
  }

  /// Zeros come in at the top.
  template <int Count>
  static XSOFTMAX_INLINE L shift_right(L v) {
    return L(_mm_srli_epi64(v, Count));
  }

  /// Half the sign bit of each lane: 2^30 or 2^62 where it is set.
  static XSOFTMAX_INLINE I half_sign(I v) { return I(_mm_and_si128(_mm_srli_epi32(v, 1), _mm_set1_epi32(1 << 30))); }

  static XSOFTMAX_INLINE L half_sign(L v) {
    return L(_mm_and_si128(_mm_srli_epi64(v, 1), _mm_set1_epi64x(std::int64_t{1} << 62)));
  }

  /// Negative lanes become 0.
  static XSOFTMAX_INLINE I not_below_zero(I v) { return I(_mm_andnot_si128(_mm_srai_epi32(v, 31), v)); }

  static XSOFTMAX_INLINE I max(I a, I b) {
    const __m128i above = _mm_cmpgt_epi32(a, b);
    return I(_mm_or_si128(_mm_and_si128(above, a), _mm_andnot_si128(above, b)));
  }

  /// Signed 64-bit maximum of bit patterns of doubles, by their upper halves where those differ.
  static XSOFTMAX_INLINE L max(L a, L b) {
    const __m128i high_above = _mm_cmpgt_epi32(a, b);
    const __m128i high_equal = _mm_cmpeq_epi32(a, b);
    const __m128i flip = _mm_set1_epi32(INT32_MIN);
    const __m128i low_above = _mm_cmpgt_epi32(_mm_xor_si128(a, flip), _mm_xor_si128(b, flip));
    const __m128i upper_above = _mm_shuffle_epi32(high_above, _MM_SHUFFLE(3, 3, 1, 1));
    const __m128i upper_equal = _mm_shuffle_epi32(high_equal, _MM_SHUFFLE(3, 3, 1, 1));
    const __m128i lower_above = _mm_shuffle_epi32(low_above, _MM_SHUFFLE(2, 2, 0, 0));
    const __m128i above = _mm_or_si128(upper_above, _mm_and_si128(upper_equal, lower_above));
    return L(_mm_or_si128(_mm_and_si128(above, a), _mm_andnot_si128(above, b)));
  }

  /// max(x, m) where a NaN in x is dropped.
  static XSOFTMAX_INLINE F max_dropping_nan(F x, F m) { return F(_mm_max_ps(x, m)); }

  static XSOFTMAX_INLINE D max_dropping_nan(D x, D m) { return D(_mm_max_pd(x, m)); }

  /// max(|x|, m) where a NaN in x is dropped.
  static XSOFTMAX_INLINE F max_magnitude(F x, F m) {
    return max_dropping_nan(F(_mm_andnot_ps(_mm_set1_ps(-0.0F), x)), m);
  }

  static XSOFTMAX_INLINE D max_magnitude(D x, D m) {
    return max_dropping_nan(D(_mm_andnot_pd(_mm_set1_pd(-0.0), x)), m);
  }

  static XSOFTMAX_INLINE bool all_below(F v, float bound) {
    return _mm_movemask_ps(_mm_cmplt_ps(v, _mm_set1_ps(bound))) == 0xF;
  }

  static XSOFTMAX_INLINE bool all_below(D v, double bound) {
    return _mm_movemask_pd(_mm_cmplt_pd(v, _mm_set1_pd(bound))) == 0x3;
  }

  /// min(x, high) where a NaN in x stays.
  static XSOFTMAX_INLINE F min_keeping_nan(F x, F high) { return F(_mm_min_ps(high, x)); }

  static XSOFTMAX_INLINE D min_keeping_nan(D x, D high) { return D(_mm_min_pd(high, x)); }

  /// Rounded to nearest.
  template <class B>
  static XSOFTMAX_INLINE B divide(B a, B b) {
    return a / b;
  }

  /// max(x, low) where a NaN in x stays.
  static XSOFTMAX_INLINE F max_keeping_nan(F x, F low) { return F(_mm_max_ps(low, x)); }

  static XSOFTMAX_INLINE D max_keeping_nan(D x, D low) { return D(_mm_max_pd(low, x)); }

  /// v, but 0 where a = b.
  static XSOFTMAX_INLINE F zero_where_equal(F a, F b, F v) { return F(_mm_andnot_ps(_mm_cmpeq_ps(a, b), v)); }

  static XSOFTMAX_INLINE D zero_where_equal(D a, D b, D v) { return D(_mm_andnot_pd(_mm_cmpeq_pd(a, b), v)); }

  /// x where a = b, y elsewhere.
  static XSOFTMAX_INLINE F where_equal(F a, F b, F x, F y) {
    const __m128 equal = _mm_cmpeq_ps(a, b);
    return F(_mm_or_ps(_mm_and_ps(equal, x), _mm_andnot_ps(equal, y)));
  }

  static XSOFTMAX_INLINE D where_equal(D a, D b, D x, D y) {
    const __m128d equal = _mm_cmpeq_pd(a, b);
    return D(_mm_or_pd(_mm_and_pd(equal, x), _mm_andnot_pd(equal, y)));
  }

  /// count + 1 where a = b.
  static XSOFTMAX_INLINE I count_equal(F a, F b, I count) {
    return I(_mm_sub_epi32(count, _mm_castps_si128(_mm_cmpeq_ps(a, b))));
  }

  static XSOFTMAX_INLINE L count_equal(D a, D b, L count) {
    return L(_mm_sub_epi64(count, _mm_castpd_si128(_mm_cmpeq_pd(a, b))));
  }

  static XSOFTMAX_INLINE bool any_nan(F x) { return _mm_movemask_ps(_mm_cmpunord_ps(x, x)) != 0; }

  static XSOFTMAX_INLINE bool any_nan(D x) { return _mm_movemask_pd(_mm_cmpunord_pd(x, x)) != 0; }

  /// Lane l of x where bit l is set, of y elsewhere.
  static XSOFTMAX_INLINE F select(unsigned bits, F x, F y) {
    const __m128i lane = _mm_set_epi32(8, 4, 2, 1);
    const __m128i chosen = _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(bits)), lane), lane);
    const __m128 mask = _mm_castsi128_ps(chosen);
    return F(_mm_or_ps(_mm_and_ps(mask, x), _mm_andnot_ps(mask, y)));
  }

  static XSOFTMAX_INLINE D select(unsigned bits, D x, D y) {
    const __m128i lane = _mm_set_epi32(2, 2, 1, 1);
    const __m128i chosen = _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(bits)), lane), lane);
    const __m128d mask = _mm_castsi128_pd(chosen);
    return D(_mm_or_pd(_mm_and_pd(mask, x), _mm_andnot_pd(mask, y)));
  }

  /// Rounded to nearest.
  static XSOFTMAX_INLINE F square_root(F v) { return F(_mm_sqrt_ps(v)); }

  static XSOFTMAX_INLINE D square_root(D v) { return D(_mm_sqrt_pd(v)); }

  /// Bit l is set where the lanes l are equal.
  static XSOFTMAX_INLINE unsigned equal_bits(F a, F b) {
    return static_cast<unsigned>(_mm_movemask_ps(_mm_cmpeq_ps(a, b)));
  }

  static XSOFTMAX_INLINE unsigned equal_bits(D a, D b) {
    return static_cast<unsigned>(_mm_movemask_pd(_mm_cmpeq_pd(a, b)));
  }

  /// The sum of all lanes, the upper half added to the lower until one is left.
  static XSOFTMAX_INLINE float fold_sum(F v) {
    const __m128 pair = _mm_add_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
  }

  static XSOFTMAX_INLINE double fold_sum(D v) { return _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v))); }

  /// Lane c of row r becomes lane r of row c.
  static XSOFTMAX_INLINE void transpose(F (&row)[4]) {
    const __m128 a = _mm_unpacklo_ps(row[0], row[1]);
    const __m128 b = _mm_unpackhi_ps(row[0], row[1]);
    const __m128 c = _mm_unpacklo_ps(row[2], row[3]);
    const __m128 d = _mm_unpackhi_ps(row[2], row[3]);
    row[0] = F(_mm_movelh_ps(a, c));
    row[1] = F(_mm_movehl_ps(c, a));
    row[2] = F(_mm_movelh_ps(b, d));
    row[3] = F(_mm_movehl_ps(d, b));
  }

  static XSOFTMAX_INLINE void transpose(D (&row)[2]) {
    const __m128d low = _mm_unpacklo_pd(row[0], row[1]);
    row[1] = D(_mm_unpackhi_pd(row[0], row[1]));
    row[0] = D(low);
  }

  /// The largest lane; no lane is NaN.
  static XSOFTMAX_INLINE float largest_lane(F v) {
    const __m128 half = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_shuffle_ps(half, half, 1)));
  }

  static XSOFTMAX_INLINE double largest_lane(D v) { return _mm_cvtsd_f64(_mm_max_sd(v, _mm_unpackhi_pd(v, v))); }

  static XSOFTMAX_INLINE std::int32_t largest_lane(I v) {
    const I half = max(v, I(_mm_shuffle_epi32(v, _MM_SHUFFLE(1, 0, 3, 2))));
    return first_lane(max(half, I(_mm_shuffle_epi32(half, _MM_SHUFFLE(2, 3, 0, 1)))));
  }

  static XSOFTMAX_INLINE std::int64_t largest_lane(L v) {
    return first_lane(max(v, L(_mm_shuffle_epi32(v, _MM_SHUFFLE(1, 0, 3, 2)))));
  }

  /// Its halves are single numbers.
  using half = sse2;

  static XSOFTMAX_INLINE double lower_half(D v) { return _mm_cvtsd_f64(v); }

  static XSOFTMAX_INLINE double upper_half(D v) { return _mm_cvtsd_f64(_mm_unpackhi_pd(v, v)); }

  /// The first lanes of a and b, and the second ones.
  template <std::size_t Unit>
  static XSOFTMAX_INLINE void deal(D a, D b, D& even, D& odd) {
    static_assert(Unit == 1);
    even = D(_mm_unpacklo_pd(a, b));
    odd = D(_mm_unpackhi_pd(a, b));
  }

  /// floor <= v < ceiling in every lane?
  static XSOFTMAX_INLINE bool all_between(D v, D floor, D ceiling) {
    return _mm_movemask_pd(_mm_and_pd(_mm_cmpge_pd(v, floor), _mm_cmplt_pd(v, ceiling))) == 0x3;
  }

  // For random words, which are unsigned.

  static XSOFTMAX_INLINE L exclusive_or(L a, L b, L c) { return L(_mm_xor_si128(_mm_xor_si128(a, b), c)); }

  /// The products of the lower halves of the lanes.
  static XSOFTMAX_INLINE L multiply_lower_halves(L a, L b) { return L(_mm_mul_epu32(a, b)); }

  /// The lower halves of the lanes, of `even` and `odd` in turn.
  static XSOFTMAX_INLINE I join_lower_halves(L even, L odd) {
    return I(_mm_or_si128(_mm_and_si128(even, _mm_set1_epi64x(0xFFFFFFFF)), _mm_slli_epi64(odd, 32)));
  }

  static XSOFTMAX_INLINE I min_unsigned(I a, I b) {
    const __m128i flip = _mm_set1_epi32(INT32_MIN);
    const __m128i above = _mm_cmpgt_epi32(_mm_xor_si128(a, flip), _mm_xor_si128(b, flip));
    return I(_mm_or_si128(_mm_and_si128(above, b), _mm_andnot_si128(above, a)));
  }

  /// Is a lane below 2^Bits?
  template <int Bits>
  static XSOFTMAX_INLINE bool any_below_power(I v) {
    return _mm_movemask_epi8(_mm_cmpeq_epi32(_mm_srli_epi32(v, Bits), _mm_setzero_si128())) != 0;
  }

  /// The lanes as numbers from 0 to 2^32, rounded towards 0.
  static XSOFTMAX_INLINE F truncate_unsigned(I v) {
    const __m128 upper = _mm_mul_ps(_mm_cvtepi32_ps(_mm_srli_epi32(v, 16)), _mm_set1_ps(0x1p16F)); // exact
    const __m128 lower = _mm_cvtepi32_ps(_mm_and_si128(v, _mm_set1_epi32(0xFFFF)));
    const __m128 nearest = _mm_add_ps(upper, lower);
    // What the sum lost, exactly; where it is negative the sum was rounded up.
    const __m128 lost = _mm_sub_ps(lower, _mm_sub_ps(nearest, upper));
    return F(_mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(nearest), _mm_srai_epi32(_mm_castps_si128(lost), 31))));
  }

  /// The lanes as numbers: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen_unsigned(I v, D& low, D& high) {
    const __m128i exponent = _mm_set1_epi32(0x43300000); // of 2^52
    const __m128d offset = _mm_set1_pd(0x1p52);
    low = D(_mm_sub_pd(_mm_castsi128_pd(_mm_unpacklo_epi32(v, exponent)), offset));
    high = D(_mm_sub_pd(_mm_castsi128_pd(_mm_unpackhi_epi32(v, exponent)), offset));
  }

  static XSOFTMAX_INLINE F to_float(I v) { return F(_mm_cvtepi32_ps(v)); }

  /// To the nearest integer.
  static XSOFTMAX_INLINE I to_integer(F v) { return I(_mm_cvtps_epi32(v)); }

  /// Zeros come in at the top.
  template <int Count>
  static XSOFTMAX_INLINE I shift_right(I v) {
    return I(_mm_srli_epi32(v, Count));
  }

  /// Is a lane of a below that of b? Not where one is NaN.
  static XSOFTMAX_INLINE bool any_less(F a, F b) { return _mm_movemask_ps(_mm_cmplt_ps(a, b)) != 0; }

  static XSOFTMAX_INLINE bool any_less(D a, D b) { return _mm_movemask_pd(_mm_cmplt_pd(a, b)) != 0; }

  /// The lowest lane.
  static XSOFTMAX_INLINE std::int32_t first_lane(I v) { return _mm_cvtsi128_si32(v); }

  static XSOFTMAX_INLINE std::int64_t first_lane(L v) { return _mm_cvtsi128_si64(v); }

  /// a * b + c, rounded twice.
  template <class B>
  static XSOFTMAX_INLINE B multiply_add(B a, B b, B c) {
    return a * b + c;
  }

  /// c - a * b, rounded twice.
  template <class B>
  static XSOFTMAX_INLINE B negative_multiply_add(B a, B b, B c) {
    return c - a * b;
  }

  struct two_sum_parts {
    D high;
    D low;
  };

  static XSOFTMAX_INLINE two_sum_parts two_sum(D a, D b) {
    const D high = a + b;
    const D b_part = high - a;
    return {high, (a - (high - b_part)) + (b - b_part)};
  }

  /// a * b + c with one rounding to float: the product is exact in double, and the second rounding of the sum changes a
  /// result by at most 2^-29 ULP.
  static XSOFTMAX_INLINE F fused_multiply_add(F a, F b, F c) {
    const __m128d low = _mm_add_pd(_mm_mul_pd(_mm_cvtps_pd(a), _mm_cvtps_pd(b)), _mm_cvtps_pd(c));
    const auto upper = [](__m128 v) XSOFTMAX_LAMBDA { return _mm_cvtps_pd(_mm_movehl_ps(v, v)); };
    const __m128d high = _mm_add_pd(_mm_mul_pd(upper(a), upper(b)), upper(c));
    return F(_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high)));
  }

  /// a * b + c in about one rounding: the product's error by Dekker's splitting. The upper halves are
  /// rounded to 26 bits in integers, so that every partial product is exact and contraction cannot change it.
  static XSOFTMAX_INLINE D fused_multiply_add(D a, D b, D c) {
    const auto upper_half = [](D v) XSOFTMAX_LAMBDA {
      const __m128i rounded = _mm_add_epi64(_mm_castpd_si128(v), _mm_set1_epi64x(0x4000000));
      return D(_mm_castsi128_pd(_mm_and_si128(rounded, _mm_set1_epi64x(~std::int64_t{0x7FFFFFF}))));
    };
    const D a1 = upper_half(a);
    const D a2 = a - a1;
    const D b1 = upper_half(b);
    const D b2 = b - b1;
    const D product = a * b;
    const D error = ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2;
    // Infinite where a partial product overflows although the product does not: then it is left out.
    const D finite = _mm_and_pd(error, _mm_cmpord_pd(error - error, error));
    const two_sum_parts sum = two_sum(product, c);
    return sum.high + (sum.low + finite);
  }

  /// Sixteen int32 in memory, four loads per lookup.
  struct table {
    alignas(16) std::int32_t entry[16];

    XSOFTMAX_INLINE table(const std::int32_t (&values)[16], std::int32_t offset) {
      for (int j = 0; j < 16; ++j) {
        entry[j] =
            static_cast<std::int32_t>(static_cast<std::uint32_t>(values[j]) + static_cast<std::uint32_t>(offset));
      }
    }

    /// entry[low 4 bits of k]
    XSOFTMAX_INLINE I operator()(I k) const {
      alignas(16) std::int32_t lane[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(lane), _mm_and_si128(k, _mm_set1_epi32(15)));
      return I(_mm_set_epi32(entry[lane[3]], entry[lane[2]], entry[lane[1]], entry[lane[0]]));
    }
  };

  /// The lanes of v as doubles: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen(F v, D& low, D& high) {
    low = D(_mm_cvtps_pd(v));
    high = D(_mm_cvtps_pd(_mm_movehl_ps(v, v)));
  }

  /// The inverse of widen, rounded to nearest.
  static XSOFTMAX_INLINE F narrow(D low, D high) { return F(_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high))); }

  template <class T>
  static XSOFTMAX_INLINE batch<T> load(const T* p) {
    return batch<T>::load_unaligned(p);
  }

  template <class T>
  static XSOFTMAX_INLINE void store(T* p, batch<T> v) {
    v.store_unaligned(p);
  }

  /// Past the caches; p is aligned to the batch.
  static XSOFTMAX_INLINE void stream(float* p, F v) { _mm_stream_ps(p, v); }

  static XSOFTMAX_INLINE void stream(double* p, D v) { _mm_stream_pd(p, v); }

  /// Makes streamed stores visible before any later store.
  static XSOFTMAX_INLINE void fence() { _mm_sfence(); }

  // Halves, in integers but for sums and products that are exact and normal whatever the caller's MXCSR says about
  // subnormal numbers. The results, NaN included, are the bits of the scalar conversions in half.hpp.

  /// Four float16 as float, exactly.
  static XSOFTMAX_INLINE F load_float16(const std::uint16_t* p) {
    const __m128i half = _mm_unpacklo_epi16(load_64(p), _mm_setzero_si128());
    const __m128i magnitude = _mm_and_si128(half, _mm_set1_epi32(0x7FFF));
    const __m128i sign = _mm_slli_epi32(_mm_xor_si128(half, magnitude), 16);
    // Normal numbers: the exponent's bias grows from 15 to 127. Infinity and NaN: the exponent goes to 255.
    const __m128i bias = _mm_set1_epi32(112 << 23);
    const __m128i no_number = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7BFF));
    const __m128i rebias = _mm_add_epi32(bias, _mm_and_si128(no_number, bias));
    const __m128i nan = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x7C00));
    const __m128i quiet = _mm_and_si128(nan, _mm_set1_epi32(0x00400000));
    const __m128i normal = _mm_or_si128(_mm_add_epi32(_mm_slli_epi32(magnitude, 13), rebias), quiet);
    // Subnormal numbers and 0 are multiples of 2^-24.
    const __m128 multiple = _mm_mul_ps(_mm_cvtepi32_ps(magnitude), _mm_set1_ps(0x1p-24F));
    const __m128i is_normal = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x03FF));
    const __m128i result = select(is_normal, normal, _mm_castps_si128(multiple));
    return F(_mm_castsi128_ps(_mm_or_si128(sign, result)));
  }

  /// Four bfloat16 as float, exactly: an interleaving with zeros.
  static XSOFTMAX_INLINE F load_bfloat16(const std::uint16_t* p) {
    return F(_mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), load_64(p))));
  }

  /// Rounds to nearest even.
  static XSOFTMAX_INLINE void store_float16(std::uint16_t* p, F v) { store_64(p, to_float16(v)); }

  static XSOFTMAX_INLINE void store_bfloat16(std::uint16_t* p, F v) { store_64(p, to_bfloat16(v)); }

  /// Past the caches by MOVNTI, the only such store of 8 bytes, through a general register; p is aligned to them.
  static XSOFTMAX_INLINE void stream_float16(std::uint16_t* p, F v) { stream_64(p, to_float16(v)); }

  static XSOFTMAX_INLINE void stream_bfloat16(std::uint16_t* p, F v) { stream_64(p, to_bfloat16(v)); }

  /// Four float16 in the lower half.
  static XSOFTMAX_INLINE __m128i to_float16(F v) {
    const __m128i bits = _mm_castps_si128(v);
    const __m128i magnitude = _mm_and_si128(bits, _mm_set1_epi32(0x7FFFFFFF));
    const __m128i sign = _mm_xor_si128(bits, magnitude);
    // What is too small rounds to 0 as 2^-25 does, what is too large to infinity as 2^16 does; a NaN becomes 2^-25.
    const __m128 clamped =
        _mm_min_ps(_mm_max_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p-25F)), _mm_set1_ps(0x1p16F));
    const __m128i x = _mm_castps_si128(clamped);
    // Normal results: add just under half a unit, and the rest where that leaves an odd tie.
    const __m128i odd = _mm_and_si128(_mm_srli_epi32(x, 13), _mm_set1_epi32(1));
    const __m128i normal =
        _mm_srli_epi32(_mm_add_epi32(_mm_add_epi32(x, _mm_set1_epi32(0x0FFF - (112 << 23))), odd), 13);
    // Below 2^-14 the addition of 0.5 rounds to a multiple of 2^-24.
    const __m128i half = _mm_castps_si128(_mm_set1_ps(0.5F));
    const __m128i multiple = _mm_sub_epi32(_mm_castps_si128(_mm_add_ps(clamped, _mm_set1_ps(0.5F))), half);
    const __m128i is_normal = _mm_cmpgt_epi32(x, _mm_set1_epi32(0x387FFFFF));
    const __m128i payload = _mm_and_si128(_mm_srli_epi32(magnitude, 13), _mm_set1_epi32(0x03FF));
    const __m128i nan =
        _mm_and_si128(_mm_castps_si128(_mm_cmpunord_ps(v, v)), _mm_or_si128(payload, _mm_set1_epi32(0x7E00)));
    const __m128i result = _mm_or_si128(select(is_normal, normal, multiple), nan);
    // With the sign extended, the signed packing changes nothing.
    const __m128i lanes = _mm_or_si128(_mm_srai_epi32(sign, 16), result);
    return _mm_packs_epi32(lanes, lanes);
  }

  /// Four bfloat16 in the lower half.
  static XSOFTMAX_INLINE __m128i to_bfloat16(F v) {
    const __m128i x = _mm_castps_si128(v);
    const __m128i nan = _mm_castps_si128(_mm_cmpunord_ps(v, v));
    const __m128i odd = _mm_and_si128(_mm_srli_epi32(x, 16), _mm_set1_epi32(1));
    const __m128i round = _mm_andnot_si128(nan, _mm_add_epi32(odd, _mm_set1_epi32(0x7FFF)));
    const __m128i quiet = _mm_and_si128(nan, _mm_set1_epi32(0x00400000));
    const __m128i lanes = _mm_srai_epi32(_mm_or_si128(_mm_add_epi32(x, round), quiet), 16);
    return _mm_packs_epi32(lanes, lanes);
  }

private:
  /// a where the mask is set, b elsewhere.
  static XSOFTMAX_INLINE __m128i select(__m128i mask, __m128i a, __m128i b) {
    return _mm_or_si128(_mm_and_si128(mask, a), _mm_andnot_si128(mask, b));
  }

  static XSOFTMAX_INLINE __m128i load_64(const std::uint16_t* p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
  }

  static XSOFTMAX_INLINE void store_64(std::uint16_t* p, __m128i v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), v);
  }

  static XSOFTMAX_INLINE void stream_64(std::uint16_t* p, __m128i v) {
    _mm_stream_si64(reinterpret_cast<long long*>(p), _mm_cvtsi128_si64(v));
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd

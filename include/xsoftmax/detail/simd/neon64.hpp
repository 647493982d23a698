// SPDX-License-Identifier: MIT
// What 64-bit Arm with Advanced SIMD does in its own way.
#pragma once

#include <arm_neon.h>
#include <xsoftmax/detail/simd.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd {

struct neon64 {
  template <class T>
  using batch = xsimd::batch<T, xsimd::neon64>;
  using F = batch<float>;
  using D = batch<double>;
  using I = batch<std::int32_t>;
  using L = batch<std::int64_t>;

  static constexpr bool fused = true;
  static constexpr std::size_t registers = 32;
  /// Batches of a short row whose terms stay in registers: whole groups.
  template <class T>
  static constexpr std::size_t batches_in_registers = 0;
  static constexpr bool masks = false;
  /// Batches in flight that hide the latency of the exponential without spilling.
  static constexpr std::size_t interleave = 4;

  static XSOFTMAX_INLINE I bits(F v) { return I(vreinterpretq_s32_f32(v)); }

  static XSOFTMAX_INLINE L bits(D v) { return L(vreinterpretq_s64_f64(v)); }

  static XSOFTMAX_INLINE F from_bits(I v) { return F(vreinterpretq_f32_s32(v)); }

  static XSOFTMAX_INLINE D from_bits(L v) { return D(vreinterpretq_f64_s64(v)); }

  template <int Count>
  static XSOFTMAX_INLINE I shift_left(I v) {
    return I(vshlq_n_s32(v, Count));
  }

  template <int Count>
  static XSOFTMAX_INLINE L shift_left(L v) {
    return L(vshlq_n_s64(v, Count));
  }

  /// Zeros come in at the top.
  template <int Count>
  static XSOFTMAX_INLINE L shift_right(L v) {
    return L(vreinterpretq_s64_u64(vshrq_n_u64(vreinterpretq_u64_s64(v), Count)));
  }

  /// Half the sign bit of each lane: 2^30 or 2^62 where it is set.
  static XSOFTMAX_INLINE I half_sign(I v) { return I(vandq_s32(vshrq_n_s32(v, 1), vdupq_n_s32(1 << 30))); }

  static XSOFTMAX_INLINE L half_sign(L v) {
    return L(vandq_s64(vshrq_n_s64(v, 1), vdupq_n_s64(std::int64_t{1} << 62)));
  }

  /// Negative lanes become 0.
  static XSOFTMAX_INLINE I not_below_zero(I v) { return I(vmaxq_s32(v, vdupq_n_s32(0))); }

  static XSOFTMAX_INLINE I max(I a, I b) { return I(vmaxq_s32(a, b)); }

  static XSOFTMAX_INLINE L max(L a, L b) {
    const int64x2_t left = a;
    const int64x2_t right = b;
    return L(vbslq_s64(vcgtq_s64(left, right), left, right));
  }

  /// max(x, m) where a NaN in x is dropped.
  static XSOFTMAX_INLINE F max_dropping_nan(F x, F m) { return F(vmaxnmq_f32(x, m)); }

  static XSOFTMAX_INLINE D max_dropping_nan(D x, D m) { return D(vmaxnmq_f64(x, m)); }

  /// max(|x|, m) where a quiet NaN in x is dropped.
  static XSOFTMAX_INLINE F max_magnitude(F x, F m) { return F(vmaxnmq_f32(vabsq_f32(x), m)); }

  static XSOFTMAX_INLINE D max_magnitude(D x, D m) { return D(vmaxnmq_f64(vabsq_f64(x), m)); }

  static XSOFTMAX_INLINE bool all_below(F v, float bound) { return vminvq_u32(vcltq_f32(v, vdupq_n_f32(bound))) != 0; }

  static XSOFTMAX_INLINE bool all_below(D v, double bound) {
    const uint64x2_t below = vcltq_f64(v, vdupq_n_f64(bound));
    return (vgetq_lane_u64(below, 0) & vgetq_lane_u64(below, 1)) != 0;
  }

  /// min(x, high) where a NaN in x stays.
  static XSOFTMAX_INLINE F min_keeping_nan(F x, F high) { return F(vminq_f32(x, high)); }

  static XSOFTMAX_INLINE D min_keeping_nan(D x, D high) { return D(vminq_f64(x, high)); }

  /// Rounded to nearest, which the quotient of xsimd's floats is not on this architecture.
  static XSOFTMAX_INLINE F divide(F a, F b) { return F(vdivq_f32(a, b)); }

  static XSOFTMAX_INLINE D divide(D a, D b) { return D(vdivq_f64(a, b)); }

  /// max(x, low) where a NaN in x stays.
  static XSOFTMAX_INLINE F max_keeping_nan(F x, F low) { return F(vmaxq_f32(x, low)); }

  static XSOFTMAX_INLINE D max_keeping_nan(D x, D low) { return D(vmaxq_f64(x, low)); }

  /// v, but 0 where a = b.
  static XSOFTMAX_INLINE F zero_where_equal(F a, F b, F v) {
    return F(vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vceqq_f32(a, b))));
  }

  static XSOFTMAX_INLINE D zero_where_equal(D a, D b, D v) {
    return D(vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(v), vceqq_f64(a, b))));
  }

  /// x where a = b, y elsewhere.
  static XSOFTMAX_INLINE F where_equal(F a, F b, F x, F y) { return F(vbslq_f32(vceqq_f32(a, b), x, y)); }

  static XSOFTMAX_INLINE D where_equal(D a, D b, D x, D y) { return D(vbslq_f64(vceqq_f64(a, b), x, y)); }

  /// count + 1 where a = b.
  static XSOFTMAX_INLINE I count_equal(F a, F b, I count) {
    return I(vsubq_s32(count, vreinterpretq_s32_u32(vceqq_f32(a, b))));
  }

  static XSOFTMAX_INLINE L count_equal(D a, D b, L count) {
    return L(vsubq_s64(count, vreinterpretq_s64_u64(vceqq_f64(a, b))));
  }

  static XSOFTMAX_INLINE bool any_nan(F x) {
    const float32x4_t v = x;
    return vminvq_u32(vceqq_f32(v, v)) == 0;
  }

  static XSOFTMAX_INLINE bool any_nan(D x) {
    const float64x2_t v = x;
    const uint64x2_t ordered = vceqq_f64(v, v);
    return (vgetq_lane_u64(ordered, 0) & vgetq_lane_u64(ordered, 1)) == 0;
  }

  /// Lane l of x where bit l is set, of y elsewhere.
  static XSOFTMAX_INLINE F select(unsigned bits, F x, F y) {
    const uint32x4_t lane = {1, 2, 4, 8};
    return F(vbslq_f32(vtstq_u32(vdupq_n_u32(bits), lane), x, y));
  }

  static XSOFTMAX_INLINE D select(unsigned bits, D x, D y) {
    const uint64x2_t lane = {1, 2};
    return D(vbslq_f64(vtstq_u64(vdupq_n_u64(bits), lane), x, y));
  }

  /// Rounded to nearest.
  static XSOFTMAX_INLINE F square_root(F v) { return F(vsqrtq_f32(v)); }

  static XSOFTMAX_INLINE D square_root(D v) { return D(vsqrtq_f64(v)); }

  /// Bit l is set where the lanes l are equal.
  static XSOFTMAX_INLINE unsigned equal_bits(F a, F b) {
    const uint32x4_t lane = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vceqq_f32(a, b), lane));
  }

  static XSOFTMAX_INLINE unsigned equal_bits(D a, D b) {
    const uint64x2_t lane = {1, 2};
    return static_cast<unsigned>(vaddvq_u64(vandq_u64(vceqq_f64(a, b), lane)));
  }

  /// The sum of all lanes, the upper half added to the lower until one is left.
  static XSOFTMAX_INLINE float fold_sum(F v) {
    const float32x2_t pair = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(pair, 0) + vget_lane_f32(pair, 1);
  }

  static XSOFTMAX_INLINE double fold_sum(D v) { return vgetq_lane_f64(v, 0) + vgetq_lane_f64(v, 1); }

  /// Lane c of row r becomes lane r of row c.
  static XSOFTMAX_INLINE void transpose(F (&row)[4]) {
    const float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(row[0], row[1]));
    const float64x2_t b = vreinterpretq_f64_f32(vtrn2q_f32(row[0], row[1]));
    const float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(row[2], row[3]));
    const float64x2_t d = vreinterpretq_f64_f32(vtrn2q_f32(row[2], row[3]));
    row[0] = F(vreinterpretq_f32_f64(vtrn1q_f64(a, c)));
    row[1] = F(vreinterpretq_f32_f64(vtrn1q_f64(b, d)));
    row[2] = F(vreinterpretq_f32_f64(vtrn2q_f64(a, c)));
    row[3] = F(vreinterpretq_f32_f64(vtrn2q_f64(b, d)));
  }

  static XSOFTMAX_INLINE void transpose(D (&row)[2]) {
    const float64x2_t low = vtrn1q_f64(row[0], row[1]);
    row[1] = D(vtrn2q_f64(row[0], row[1]));
    row[0] = D(low);
  }

  /// The largest lane; no lane is NaN.
  static XSOFTMAX_INLINE float largest_lane(F v) { return vmaxvq_f32(v); }

  static XSOFTMAX_INLINE double largest_lane(D v) { return vmaxvq_f64(v); }

  static XSOFTMAX_INLINE std::int32_t largest_lane(I v) { return vmaxvq_s32(v); }

  static XSOFTMAX_INLINE std::int64_t largest_lane(L v) {
    const int64x2_t lanes = v;
    const std::int64_t a = vgetq_lane_s64(lanes, 0);
    const std::int64_t b = vgetq_lane_s64(lanes, 1);
    return a > b ? a : b;
  }

  /// Its halves are single numbers.
  using half = neon64;

  static XSOFTMAX_INLINE double lower_half(D v) { return vgetq_lane_f64(v, 0); }

  static XSOFTMAX_INLINE double upper_half(D v) { return vgetq_lane_f64(v, 1); }

  /// The first lanes of a and b, and the second ones.
  template <std::size_t Unit>
  static XSOFTMAX_INLINE void deal(D a, D b, D& even, D& odd) {
    static_assert(Unit == 1);
    even = D(vtrn1q_f64(a, b));
    odd = D(vtrn2q_f64(a, b));
  }

  /// floor <= v < ceiling in every lane?
  static XSOFTMAX_INLINE bool all_between(D v, D floor, D ceiling) {
    const uint64x2_t within = vandq_u64(vcgeq_f64(v, floor), vcltq_f64(v, ceiling));
    return (vgetq_lane_u64(within, 0) & vgetq_lane_u64(within, 1)) != 0;
  }

  // For random words, which are unsigned.

  static XSOFTMAX_INLINE L exclusive_or(L a, L b, L c) { return L(veorq_s64(veorq_s64(a, b), c)); }

  /// The products of the lower halves of the lanes.
  static XSOFTMAX_INLINE L multiply_lower_halves(L a, L b) {
    const uint32x2_t left = vmovn_u64(vreinterpretq_u64_s64(a));
    return L(vreinterpretq_s64_u64(vmull_u32(left, vmovn_u64(vreinterpretq_u64_s64(b)))));
  }

  /// The lower halves of the lanes, of `even` and `odd` in turn.
  static XSOFTMAX_INLINE I join_lower_halves(L even, L odd) {
    return I(vtrn1q_s32(vreinterpretq_s32_s64(even), vreinterpretq_s32_s64(odd)));
  }

  static XSOFTMAX_INLINE I min_unsigned(I a, I b) {
    return I(vreinterpretq_s32_u32(vminq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))));
  }

  /// Is a lane below 2^Bits?
  template <int Bits>
  static XSOFTMAX_INLINE bool any_below_power(I v) {
    return vminvq_u32(vreinterpretq_u32_s32(v)) < (1U << Bits);
  }

  /// The lanes as numbers from 0 to 2^32, rounded towards 0.
  static XSOFTMAX_INLINE F truncate_unsigned(I v) {
    const uint32x4_t word = vreinterpretq_u32_s32(v);
    const float32x4_t upper = vmulq_f32(vcvtq_f32_u32(vshrq_n_u32(word, 16)), vdupq_n_f32(0x1p16F)); // exact
    const float32x4_t lower = vcvtq_f32_u32(vandq_u32(word, vdupq_n_u32(0xFFFF)));
    const float32x4_t nearest = vaddq_f32(upper, lower);
    // What the sum lost, exactly; where it is negative the sum was rounded up.
    const int32x4_t lost = vreinterpretq_s32_f32(vsubq_f32(lower, vsubq_f32(nearest, upper)));
    return F(vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(nearest), vshrq_n_s32(lost, 31))));
  }

  /// The lanes as numbers: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen_unsigned(I v, D& low, D& high) {
    const uint32x4_t word = vreinterpretq_u32_s32(v);
    low = D(vcvtq_f64_u64(vmovl_u32(vget_low_u32(word))));
    high = D(vcvtq_f64_u64(vmovl_high_u32(word)));
  }

  static XSOFTMAX_INLINE F to_float(I v) { return F(vcvtq_f32_s32(v)); }

  /// To the nearest integer.
  static XSOFTMAX_INLINE I to_integer(F v) { return I(vcvtnq_s32_f32(v)); }

  /// Zeros come in at the top.
  template <int Count>
  static XSOFTMAX_INLINE I shift_right(I v) {
    return I(vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(v), Count)));
  }

  /// Is a lane of a below that of b? Not where one is NaN.
  static XSOFTMAX_INLINE bool any_less(F a, F b) { return vmaxvq_u32(vcltq_f32(a, b)) != 0; }

  static XSOFTMAX_INLINE bool any_less(D a, D b) {
    const uint64x2_t less = vcltq_f64(a, b);
    return (vgetq_lane_u64(less, 0) | vgetq_lane_u64(less, 1)) != 0;
  }

  /// The lowest lane.
  static XSOFTMAX_INLINE std::int32_t first_lane(I v) { return vgetq_lane_s32(v, 0); }

  static XSOFTMAX_INLINE std::int64_t first_lane(L v) { return vgetq_lane_s64(v, 0); }

  /// a * b + c, rounded once.
  static XSOFTMAX_INLINE F multiply_add(F a, F b, F c) { return F(vfmaq_f32(c, a, b)); }

  static XSOFTMAX_INLINE D multiply_add(D a, D b, D c) { return D(vfmaq_f64(c, a, b)); }

  /// c - a * b, rounded once.
  static XSOFTMAX_INLINE F negative_multiply_add(F a, F b, F c) { return F(vfmsq_f32(c, a, b)); }

  static XSOFTMAX_INLINE D negative_multiply_add(D a, D b, D c) { return D(vfmsq_f64(c, a, b)); }

  template <class B>
  static XSOFTMAX_INLINE B fused_multiply_add(B a, B b, B c) {
    return multiply_add(a, b, c);
  }

  /// Sixteen int32 as a table of 64 bytes: each byte of a lane is looked up by its own index.
  struct table {
    uint8x16x4_t bytes;

    XSOFTMAX_INLINE table(const std::int32_t (&values)[16], std::int32_t offset) {
      const int32x4_t add = vdupq_n_s32(offset);
      bytes.val[0] = vreinterpretq_u8_s32(vaddq_s32(vld1q_s32(values), add));
      bytes.val[1] = vreinterpretq_u8_s32(vaddq_s32(vld1q_s32(values + 4), add));
      bytes.val[2] = vreinterpretq_u8_s32(vaddq_s32(vld1q_s32(values + 8), add));
      bytes.val[3] = vreinterpretq_u8_s32(vaddq_s32(vld1q_s32(values + 12), add));
    }

    /// entry[low 4 bits of k]
    XSOFTMAX_INLINE I operator()(I k) const {
      // 4 j in each of the lane's four bytes, plus 0, 1, 2, 3.
      const int32x4_t first = vandq_s32(vshlq_n_s32(k, 2), vdupq_n_s32(60));
      const int32x4_t index = vaddq_s32(vmulq_s32(first, vdupq_n_s32(0x01010101)), vdupq_n_s32(0x03020100));
      return I(vreinterpretq_s32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_s32(index))));
    }
  };

  /// The lanes of v as doubles: the lower half into low, the upper into high.
  static XSOFTMAX_INLINE void widen(F v, D& low, D& high) {
    low = D(vcvt_f64_f32(vget_low_f32(v)));
    high = D(vcvt_high_f64_f32(v));
  }

  /// The inverse of widen, rounded to nearest.
  static XSOFTMAX_INLINE F narrow(D low, D high) { return F(vcvt_high_f32_f64(vcvt_f32_f64(low), high)); }

  template <class T>
  static XSOFTMAX_INLINE batch<T> load(const T* p) {
    return batch<T>::load_unaligned(p);
  }

  template <class T>
  static XSOFTMAX_INLINE void store(T* p, batch<T> v) {
    v.store_unaligned(p);
  }

  /// Past the caches where there is a way; here ordinary stores are as good as it gets from C++.
  template <class T>
  static XSOFTMAX_INLINE void stream(T* p, batch<T> v) {
    v.store_unaligned(p);
  }

  static XSOFTMAX_INLINE void fence() {}

  // Halves: the bits of the scalar conversions in half.hpp, NaN included. The instructions for float16 heed no flag but
  // the ones for alternative half precision and default NaNs; FPCR.FZ makes 0 of a subnormal float alone, which rounds
  // to 0 as a float16 anyway.

  /// Four float16 as float, exactly.
  static XSOFTMAX_INLINE F load_float16(const std::uint16_t* p) {
    return F(vcvt_f32_f16(vreinterpret_f16_u16(load_64(p))));
  }

  /// Four bfloat16 as float, exactly.
  static XSOFTMAX_INLINE F load_bfloat16(const std::uint16_t* p) {
    return F(vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(load_64(p)), 16)));
  }

  /// Rounds to nearest even.
  static XSOFTMAX_INLINE void store_float16(std::uint16_t* p, F v) {
    store_64(p, vreinterpret_u16_f16(vcvt_f16_f32(v)));
  }

  static XSOFTMAX_INLINE void store_bfloat16(std::uint16_t* p, F v) {
    const float32x4_t lanes = v;
    const uint32x4_t x = vreinterpretq_u32_f32(lanes);
    // Half a unit where the last place is odd, just under it elsewhere: a tie goes to even. The sum's upper half.
    const uint32x4_t round = vsraq_n_u32(vdupq_n_u32(0x7FFF), vandq_u32(x, vdupq_n_u32(0x00010000)), 16);
    const uint16x4_t rounded = vaddhn_u32(x, round);
    const uint16x4_t quiet = vorr_u16(vshrn_n_u32(x, 16), vdup_n_u16(0x0040));
    store_64(p, vbsl_u16(vmovn_u32(vceqq_f32(lanes, lanes)), rounded, quiet));
  }

  static XSOFTMAX_INLINE void stream_float16(std::uint16_t* p, F v) { store_float16(p, v); }

  static XSOFTMAX_INLINE void stream_bfloat16(std::uint16_t* p, F v) { store_bfloat16(p, v); }

private:
  // By memcpy: the elements may be of any type of 2 bytes.

  static XSOFTMAX_INLINE uint16x4_t load_64(const std::uint16_t* p) {
    uint16x4_t v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }

  static XSOFTMAX_INLINE void store_64(std::uint16_t* p, uint16x4_t v) { __builtin_memcpy(p, &v, sizeof v); }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::simd

// SPDX-License-Identifier: MIT
#include "limits.hpp"
#include <cstring>
#include <immintrin.h>

namespace bench {

namespace {

// The scalar ends: what is left of a multiple of the vector loop's stride.
std::uint32_t read_words(const unsigned char* from, std::size_t bytes) {
  std::uint32_t all = 0;
  for (; bytes >= 4; bytes -= 4, from += 4) {
    std::uint32_t word;
    std::memcpy(&word, from, 4);
    all ^= word;
  }
  return all;
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") != 0;
}

bool has_avx2() {
  return __builtin_cpu_supports("avx2") != 0;
}

__attribute__((target("avx512f"))) std::uint32_t read_avx512(const unsigned char* from, std::size_t bytes) {
  __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
  for (; bytes >= 256; bytes -= 256, from += 256) {
    a = _mm512_xor_si512(a, _mm512_loadu_si512(from));
    b = _mm512_xor_si512(b, _mm512_loadu_si512(from + 64));
    c = _mm512_xor_si512(c, _mm512_loadu_si512(from + 128));
    d = _mm512_xor_si512(d, _mm512_loadu_si512(from + 192));
  }
  alignas(64) unsigned char lanes[64];
  _mm512_store_si512(lanes, _mm512_xor_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(c, d)));
  return read_words(lanes, sizeof lanes) ^ read_words(from, bytes);
}

__attribute__((target("avx2"))) std::uint32_t read_avx2(const unsigned char* from, std::size_t bytes) {
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  for (; bytes >= 128; bytes -= 128, from += 128) {
    const auto* at = reinterpret_cast<const __m256i*>(from);
    a = _mm256_xor_si256(a, _mm256_loadu_si256(at));
    b = _mm256_xor_si256(b, _mm256_loadu_si256(at + 1));
    c = _mm256_xor_si256(c, _mm256_loadu_si256(at + 2));
    d = _mm256_xor_si256(d, _mm256_loadu_si256(at + 3));
  }
  alignas(32) unsigned char lanes[32];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lanes),
                     _mm256_xor_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(c, d)));
  return read_words(lanes, sizeof lanes) ^ read_words(from, bytes);
}

// Non-temporal stores need an aligned target: the bytes before the first boundary are copied by themselves.
std::size_t bytes_to_boundary(const void* to, std::size_t boundary, std::size_t bytes) {
  const std::size_t before = (boundary - reinterpret_cast<std::uintptr_t>(to) % boundary) % boundary;
  return before < bytes ? before : bytes;
}

template <bool nontemporal>
__attribute__((target("avx512f"))) void copy_avx512(unsigned char* to, const unsigned char* from, std::size_t bytes) {
  const std::size_t before = bytes_to_boundary(to, 64, bytes);
  std::memcpy(to, from, before);
  to += before, from += before, bytes -= before;
  for (; bytes >= 64; bytes -= 64, to += 64, from += 64) {
    const __m512i v = _mm512_loadu_si512(from);
    if constexpr (nontemporal) {
      _mm512_stream_si512(reinterpret_cast<__m512i*>(to), v);
    } else {
      _mm512_store_si512(to, v);
    }
  }
  std::memcpy(to, from, bytes);
  if constexpr (nontemporal) {
    _mm_sfence();
  }
}

template <bool nontemporal>
__attribute__((target("avx2"))) void copy_avx2(unsigned char* to, const unsigned char* from, std::size_t bytes) {
  const std::size_t before = bytes_to_boundary(to, 32, bytes);
  std::memcpy(to, from, before);
  to += before, from += before, bytes -= before;
  for (; bytes >= 32; bytes -= 32, to += 32, from += 32) {
    const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    if constexpr (nontemporal) {
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to), v);
    } else {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), v);
    }
  }
  std::memcpy(to, from, bytes);
  if constexpr (nontemporal) {
    _mm_sfence();
  }
}

template <bool nontemporal>
void copy_sse2(unsigned char* to, const unsigned char* from, std::size_t bytes) {
  const std::size_t before = bytes_to_boundary(to, 16, bytes);
  std::memcpy(to, from, before);
  to += before, from += before, bytes -= before;
  for (; bytes >= 16; bytes -= 16, to += 16, from += 16) {
    const __m128i v = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    if constexpr (nontemporal) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to), v);
    } else {
      _mm_store_si128(reinterpret_cast<__m128i*>(to), v);
    }
  }
  std::memcpy(to, from, bytes);
  if constexpr (nontemporal) {
    _mm_sfence();
  }
}

template <bool nontemporal>
void copy(void* to, const void* from, std::size_t bytes) {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  if (has_avx512()) {
    copy_avx512<nontemporal>(out, in, bytes);
  } else if (has_avx2()) {
    copy_avx2<nontemporal>(out, in, bytes);
  } else {
    copy_sse2<nontemporal>(out, in, bytes);
  }
}

} // namespace

std::uint32_t read_pass(const void* from, std::size_t bytes) {
  const auto* in = static_cast<const unsigned char*>(from);
  if (has_avx512()) {
    return read_avx512(in, bytes);
  }
  return has_avx2() ? read_avx2(in, bytes) : read_words(in, bytes);
}

void copy_pass(void* to, const void* from, std::size_t bytes) {
  copy<false>(to, from, bytes);
}

void nontemporal_copy_pass(void* to, const void* from, std::size_t bytes) {
  copy<true>(to, from, bytes);
}

} // namespace bench

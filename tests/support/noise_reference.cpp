// SPDX-License-Identifier: MIT
#include "noise_reference.hpp"

#include <bit>
#include <cmath>
#include <limits>

namespace xsoftmax::test {

std::array<std::uint32_t, 4> philox(std::uint64_t key, std::array<std::uint32_t, 4> c) {
  auto k0 = static_cast<std::uint32_t>(key);
  auto k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

const char* name(noise kind) {
  constexpr const char* names[] = {"gumbel_noise", "logistic_noise", "exponential_noise"};
  return names[static_cast<int>(kind)];
}

std::uint64_t noise_bits(noise kind, const noise_key& key, std::size_t i) {
  const std::uint64_t index = key.index + i;
  const std::uint64_t place = index % 64;
  const std::uint64_t block = index / 64 * 16 + place % 16;
  std::uint64_t result = 0;
  for (std::uint32_t half = 0; half < 2; ++half) {
    const auto fields = static_cast<std::uint32_t>(block >> 32) | (2 * static_cast<std::uint32_t>(kind) + half) << 8 |
                        static_cast<std::uint32_t>(key.stream >> 32) << 16 |
                        static_cast<std::uint32_t>(key.row >> 32) << 24;
    const auto words = philox(key.seed, {static_cast<std::uint32_t>(block), fields,
                                         static_cast<std::uint32_t>(key.stream), static_cast<std::uint32_t>(key.row)});
    result = result << 32 | words[place / 16];
  }
  return result;
}

template <class T>
long double noise_uniform(std::uint64_t bits) {
  bits = bits == 0 ? 1 : bits;
  const int digits = 64 - std::countl_zero(bits);
  if (digits > std::numeric_limits<T>::digits) {
    bits &= ~std::uint64_t{0} << (digits - std::numeric_limits<T>::digits);
  }
  return std::ldexp(static_cast<long double>(bits), -64);
}

template <class T>
long double noise_value(noise kind, std::uint64_t bits) {
  if (kind == noise::gumbel) {
    return -std::log(-std::log1p(-noise_uniform<T>(bits)));
  }
  const bool side = bits >> 63 != 0;
  const long double v = noise_uniform<T>(bits << 1) / 2;
  const long double of_v = -std::log(v);
  const long double of_complement = -std::log1p(-v);
  if (kind == noise::exponential) {
    return side ? of_v : of_complement;
  }
  return side ? of_v - of_complement : of_complement - of_v;
}

template <class T>
std::size_t drawn(const std::vector<T>& z, const std::vector<T>& g, double temperature) {
  using limits = std::numeric_limits<T>;
  std::size_t place = npos;
  T largest = -limits::infinity();
  // Divisors that T cannot hold: both sides of the quotient are made smaller.
  const double shrink = sizeof(T) == 4 && temperature > 0x1p100 ? 0x1p-64 : 1.0;
  const double divisor = temperature * shrink;
  const T t = divisor > limits::max() ? limits::max() : static_cast<T>(divisor);
  for (std::size_t i = 0; i < z.size(); ++i) {
    if (!(z[i] < limits::infinity())) {
      return npos;
    }
    volatile T p = temperature <= 1 ? static_cast<T>(t * g[i]) : static_cast<T>(z[i] * static_cast<T>(shrink)) / t;
    p = temperature == 0 ? z[i] : temperature <= 1 ? z[i] + p : p + g[i];
    if (p > largest) {
      largest = p;
      place = i;
    }
  }
  return place;
}

template long double noise_uniform<float>(std::uint64_t);
template long double noise_value<float>(noise, std::uint64_t);
template std::size_t drawn(const std::vector<float>&, const std::vector<float>&, double);
template long double noise_uniform<double>(std::uint64_t);
template long double noise_value<double>(noise, std::uint64_t);
template std::size_t drawn(const std::vector<double>&, const std::vector<double>&, double);

} // namespace xsoftmax::test

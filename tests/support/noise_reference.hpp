// SPDX-License-Identifier: MIT
// Noise v1 from its definition, one element at a time, sharing nothing with the library.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>
#include <xsoftmax/gumbel.hpp>

namespace xsoftmax::test {

/// Philox4x32-10 as its paper has it.
std::array<std::uint32_t, 4> philox(std::uint64_t key, std::array<std::uint32_t, 4> c);

enum class noise { gumbel, logistic, exponential };

inline constexpr noise noises[] = {noise::gumbel, noise::logistic, noise::exponential};

const char* name(noise kind);

/// The 64 bits of element i of a row.
std::uint64_t noise_bits(noise kind, const noise_key& key, std::size_t i);

/// v of 64 bits: truncated to T's digits, at least 2^-64.
template <class T>
long double noise_uniform(std::uint64_t bits);

/// The value of 64 bits.
template <class T>
long double noise_value(noise kind, std::uint64_t bits);

/// The noise of a row by the library.
template <class Arch, class T>
std::vector<T> noise_row(noise kind, const noise_key& key, std::size_t n) {
  std::vector<T> row(n);
  switch (kind) {
  case noise::gumbel:
    gumbel_noise<Arch>(key, row);
    break;
  case noise::logistic:
    logistic_noise<Arch>(key, row);
    break;
  case noise::exponential:
    exponential_noise<Arch>(key, row);
    break;
  }
  return row;
}

/// The draw that a row's logits and noise make: the lowest place of the largest perturbed logit, every step rounded by
/// itself.
template <class T>
std::size_t drawn(const std::vector<T>& z, const std::vector<T>& g, double temperature);

} // namespace xsoftmax::test

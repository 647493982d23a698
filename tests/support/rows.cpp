// SPDX-License-Identifier: MIT
#include "rows.hpp"

#include <cmath>
#include <limits>

namespace xsoftmax::test {

std::uint64_t generator::next() {
  std::uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::size_t generator::below(std::size_t bound) {
  return static_cast<std::size_t>(next() % bound);
}

double generator::unit() {
  return static_cast<double>(next() >> 11) * 0x1p-53;
}

double generator::uniform(double low, double high) {
  return low + (high - low) * unit();
}

double generator::normal() {
  double sum = -6;
  for (int i = 0; i < 12; ++i) {
    sum += unit();
  }
  return sum;
}

const char* name(row_kind kind) {
  constexpr const char* names[] = {"normal",      "narrow",        "wide",         "very_wide", "masked",
                                   "finite_mask", "sentinel_1e30", "sentinel_2e4", "enormous",  "enormous_close",
                                   "ascending",   "descending",    "spike",        "spikes",    "ties",
                                   "constant",    "subnormal"};
  return names[static_cast<int>(kind)];
}

template <class T>
std::vector<T> make_row(row_kind kind, std::size_t n, std::uint64_t seed) {
  using limits = std::numeric_limits<T>;
  // exp(-range) is the smallest subnormal: 103.3 and 744.4.
  const double range = std::is_same_v<T, float> ? 104 : 746;
  generator random(seed * 1000003 + n * 31 + static_cast<std::uint64_t>(kind));
  std::vector<T> z(n);
  const auto half_masked = [&](T mask) {
    for (T& x : z) {
      x = static_cast<T>(3 * random.normal());
      x = random.below(2) == 0 ? mask : x;
    }
    if (n != 0) {
      z[random.below(n)] = static_cast<T>(3 * random.normal());
    }
  };
  switch (kind) {
  case row_kind::normal:
    for (T& x : z) {
      x = static_cast<T>(3 * random.normal());
    }
    break;
  case row_kind::narrow: {
    const double centre = random.uniform(-20, 20);
    for (T& x : z) {
      x = static_cast<T>(centre + random.uniform(-0x1p-11, 0x1p-11));
    }
    break;
  }
  case row_kind::wide:
    for (T& x : z) {
      x = static_cast<T>(random.uniform(-range / 2, range / 2));
    }
    break;
  case row_kind::very_wide:
    for (T& x : z) {
      x = static_cast<T>(random.uniform(-1000, 1000));
    }
    break;
  case row_kind::masked:
    half_masked(-limits::infinity());
    break;
  case row_kind::finite_mask:
    half_masked(limits::lowest());
    break;
  case row_kind::sentinel_1e30:
    half_masked(static_cast<T>(-1e30));
    break;
  case row_kind::sentinel_2e4:
    half_masked(static_cast<T>(-2e4));
    break;
  case row_kind::enormous:
    for (T& x : z) {
      x = static_cast<T>(limits::max() * static_cast<T>(random.uniform(0.9, 0.99)));
      x = random.below(2) == 0 ? x : -x;
    }
    break;
  case row_kind::enormous_close: {
    const T start = static_cast<T>(limits::max() * static_cast<T>(random.uniform(-0.99, 0.99)));
    for (T& x : z) {
      x = random.below(2) == 0 ? start : std::nextafter(start, T(0));
    }
    break;
  }
  case row_kind::ascending:
    for (std::size_t i = 0; i < n; ++i) {
      z[i] = static_cast<T>(-50 + 0.37 * static_cast<double>(i) + 0.1 * random.unit());
    }
    break;
  case row_kind::descending:
    for (std::size_t i = 0; i < n; ++i) {
      z[i] = static_cast<T>(50 - 0.37 * static_cast<double>(i) + 0.1 * random.unit());
    }
    break;
  case row_kind::spike:
    z.assign(n, static_cast<T>(-absorbed<T>));
    if (n != 0) {
      z[random.below(n)] = 0;
    }
    break;
  case row_kind::spikes:
    for (std::size_t i = 0; i < n; ++i) {
      z[i] = i % 2048 < 16 ? T(0) : static_cast<T>(-absorbed<T>);
    }
    break;
  case row_kind::ties:
    for (T& x : z) {
      x = static_cast<T>(static_cast<double>(random.below(3)) * 0.7);
    }
    break;
  case row_kind::constant:
    z.assign(n, static_cast<T>(random.uniform(-90, 90)));
    break;
  case row_kind::subnormal:
    for (T& x : z) {
      x = static_cast<T>(static_cast<double>(random.below(1000)) - 500) * limits::denorm_min();
    }
    break;
  }
  return z;
}

template <class T>
std::vector<T> make_dyadic_row(std::size_t n, std::uint64_t seed, int spread_bits, int grain_bits) {
  generator random(seed);
  std::vector<T> z(n);
  const auto span = std::uint64_t{1} << (spread_bits + grain_bits);
  for (T& x : z) {
    const auto k = static_cast<std::int64_t>(random.next() % span) - static_cast<std::int64_t>(span / 2);
    x = static_cast<T>(std::ldexp(static_cast<double>(k), -grain_bits));
  }
  return z;
}

template std::vector<float> make_row(row_kind, std::size_t, std::uint64_t);
template std::vector<double> make_row(row_kind, std::size_t, std::uint64_t);
template std::vector<float> make_dyadic_row(std::size_t, std::uint64_t, int, int);
template std::vector<double> make_dyadic_row(std::size_t, std::uint64_t, int, int);

} // namespace xsoftmax::test

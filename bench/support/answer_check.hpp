// SPDX-License-Identifier: MIT
// Every benchmark's answer is checked before it is timed: against a reference in a wider type, by the sum of each row,
// and, among the library's own variants, bit by bit through a hash.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace bench {

/// What a check found. Errors are the worst over what was looked at.
struct answer {
  double worst_ulp = 0;     ///< of the probabilities looked at
  double worst_row_sum = 0; ///< |sum of a row - 1|
  std::uint64_t hash = 0;   ///< of all bits of the output, where bits are compared
  std::string failure;      ///< empty: right
};

/// How wrong an answer may be.
struct tolerance {
  double ulp;
  double row_sum;
};

/// The library's own promise.
template <class T>
tolerance promised() {
  return {4, 4 * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2};
}

/// A peer promises nothing. It must compute softmax, with the error that adding n terms in T one after the other may
/// have (n half-ULP, the a priori bound) plus 128 ULP for the rounding of z - max and the exponential. Beyond one half
/// nothing is left of the answer.
template <class T>
tolerance expected_of_peer(std::size_t cols) {
  const double ulp = static_cast<double>(std::numeric_limits<T>::epsilon());
  const double relative = std::min(0.5, (static_cast<double>(cols) / 2 + 128) * ulp);
  return {relative / ulp * 2, relative};
}

/// The exact softmax of the rows of z, as nearly as long double can say: it keeps one sum per row and evaluates the
/// elements on demand.
template <class T>
class reference {
public:
  reference(const T* z, std::size_t rows, std::size_t cols) : z_(z), cols_(cols), sums_(rows), shifts_(rows) {
    for (std::size_t r = 0; r < rows; ++r) {
      const T* row = z + r * cols;
      shifts_[r] = *std::max_element(row, row + cols);
      // Four sums: an addition of long doubles has a latency of four cycles and more.
      std::array<long double, 4> sum{};
      for (std::size_t i = 0; i < cols; ++i) {
        sum[i % 4] += weight(row[i], shifts_[r]);
      }
      sums_[r] = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    }
  }

  long double operator()(std::size_t row, std::size_t col) const {
    return weight(z_[row * cols_ + col], shifts_[row]) / sums_[row];
  }

  /// The logarithm of it. No digits cancel: a logit is at most the shift, and the sum at least 1.
  long double log(std::size_t row, std::size_t col) const {
    return static_cast<long double>(z_[row * cols_ + col]) - shifts_[row] - std::log(sums_[row]);
  }

  /// The logarithm of the sum of the exponentials of a row.
  long double log_sum(std::size_t row) const { return shifts_[row] + std::log(sums_[row]); }

private:
  static long double weight(T x, T shift) {
    // A double exponential is 2^29 times finer than a float, and eight times faster than a long double's.
    if constexpr (std::is_same_v<T, float>) {
      return static_cast<long double>(std::exp(static_cast<double>(x) - static_cast<double>(shift)));
    } else {
      return std::exp(static_cast<long double>(x) - static_cast<long double>(shift));
    }
  }

  const T* z_;
  std::size_t cols_;
  std::vector<long double> sums_;
  std::vector<T> shifts_;
};

template <class T>
long double unit_in_last_place(long double x) {
  constexpr int smallest = std::numeric_limits<T>::min_exponent - 1;
  const int exponent = x == 0 ? smallest : std::max(std::ilogb(x), smallest);
  return std::ldexp(1.0L, exponent - (std::numeric_limits<T>::digits - 1));
}

/// |p - exact| in units of the last place of exact.
template <class T>
double ulp_distance(T p, long double exact) {
  return static_cast<double>(std::fabs(static_cast<long double>(p) - exact) / unit_in_last_place<T>(exact));
}

/// Sum of a row to well below an ULP: eight sums, each with the rounding errors of its additions collected beside it.
template <class T>
long double accurate_sum(const T* p, std::size_t size) {
  constexpr std::size_t lanes = 8;
  std::array<double, lanes> sum{};
  std::array<double, lanes> error{};
  std::size_t i = 0;
  for (; i + lanes <= size; i += lanes) {
    for (std::size_t k = 0; k < lanes; ++k) {
      const double x = static_cast<double>(p[i + k]);
      const double s = sum[k] + x;
      const double t = s - sum[k];
      error[k] += (sum[k] - (s - t)) + (x - t);
      sum[k] = s;
    }
  }
  long double total = 0;
  for (std::size_t k = 0; k < lanes; ++k) {
    total += static_cast<long double>(sum[k]) + static_cast<long double>(error[k]);
  }
  for (; i < size; ++i) {
    total += static_cast<long double>(p[i]);
  }
  return total;
}

/// A hash of all bits; equal answers have equal hashes, and different ones practically never.
inline std::uint64_t hash_bits(const void* data, std::size_t bytes) {
  constexpr std::uint64_t multiplier = 0x9E3779B97F4A7C15u;
  std::array<std::uint64_t, 4> state{1, 2, 3, 4};
  const auto* at = static_cast<const unsigned char*>(data);
  const auto mix = [&](std::size_t k, std::size_t count) {
    std::uint64_t word = 0;
    std::memcpy(&word, at, count);
    state[k] = (state[k] ^ word) * multiplier;
    state[k] ^= state[k] >> 29;
    at += count;
  };
  for (; bytes >= 32; bytes -= 32) {
    for (std::size_t k = 0; k < 4; ++k) {
      mix(k, 8);
    }
  }
  while (bytes > 0) {
    const std::size_t count = std::min<std::size_t>(8, bytes);
    mix(0, count);
    bytes -= count;
  }
  std::uint64_t hash = 0;
  for (const std::uint64_t s : state) {
    hash = (hash ^ s) * multiplier;
    hash ^= hash >> 32;
  }
  return hash;
}

/// Calls look(i) for every element of a short output, and for both ends and 2^16 elements between of a long one.
template <class Look>
void for_each_of_sample(std::size_t total, const Look& look) {
  constexpr std::size_t edge = 4096;
  const std::size_t step = total <= 65536 ? 1 : (total >> 16) | 1;
  std::size_t i = 0;
  while (i < total) {
    look(i);
    const bool near_an_end = i < edge || i + edge >= total;
    i = near_an_end ? i + 1 : std::min(i + step, total - edge);
  }
}

/// In words, the first number of a sample that is further from exact(i) than allowed(i); empty where all are right.
template <class T, class Exact, class Allowed>
std::string first_wrong(const T* y, std::size_t size, const Exact& exact, const Allowed& allowed) {
  std::string failure;
  for_each_of_sample(size, [&](std::size_t i) {
    const long double off = std::fabs(y[i] - exact(i));
    if (failure.empty() && !(off <= allowed(i))) {
      char text[160];
      std::snprintf(text, sizeof text, "element %zu: %.9g is off by %.3Lg (allowed: %.3Lg)", i,
                    static_cast<double>(y[i]), off, allowed(i));
      failure = text;
    }
  });
  return failure;
}

/// The probabilities of a sample; the sums see all.
template <class T>
answer check(const reference<T>& exact, const T* p, std::size_t rows, std::size_t cols, const tolerance& allowed) {
  answer found;
  const auto fail = [&](const std::string& text) {
    if (found.failure.empty()) {
      found.failure = text;
    }
  };
  for_each_of_sample(rows * cols, [&](std::size_t i) {
    const double distance = ulp_distance(p[i], exact(i / cols, i % cols));
    if (!(distance <= allowed.ulp)) {
      char text[160];
      std::snprintf(text, sizeof text, "row %zu, element %zu: %.9g is %.3g ULP from %.9Lg (allowed: %.3g)", i / cols,
                    i % cols, static_cast<double>(p[i]), distance, exact(i / cols, i % cols), allowed.ulp);
      fail(text);
    }
    found.worst_ulp = distance <= found.worst_ulp ? found.worst_ulp : distance;
  });
  for (std::size_t r = 0; r < rows; ++r) {
    const double off = static_cast<double>(std::fabs(accurate_sum(p + r * cols, cols) - 1));
    if (!(off <= allowed.row_sum)) {
      char text[160];
      std::snprintf(text, sizeof text, "row %zu: the sum is off by %.3g (allowed: %.3g)", r, off, allowed.row_sum);
      fail(text);
    }
    found.worst_row_sum = off <= found.worst_row_sum ? found.worst_row_sum : off;
  }
  return found;
}

} // namespace bench

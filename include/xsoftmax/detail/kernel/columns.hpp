// SPDX-License-Identifier: MIT
// Rows whose elements lie a stride apart while their neighbours lie side by side: the columns of a row-major matrix. A
// batch holds one element each of neighbouring rows, and a strip of a few batches goes down the rows together: every
// load and store is a vector, nothing is moved to other lanes. Each row keeps its own L virtual lanes, so its sum is
// the same tree as that of a row laid out side by side.
#pragma once

#include <xsoftmax/detail/kernel/row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// Rows of a strip: 1 KiB side by side, so that lines come in runs and pages are looked up less often, while the lanes
/// of all rows take no more than a first-level cache.
template <class T>
inline constexpr std::size_t strip_rows = 1024 / sizeof(T);

/// Rows that are worked on together.
template <class A, class T>
inline constexpr std::size_t strip_chunk = 2 * lanes<A, T>;

/// So many rows fill batches.
template <class A, class T>
XSOFTMAX_INLINE std::size_t whole_batches(std::size_t rows) {
  return (rows + lanes<A, T> - 1) / lanes<A, T> * lanes<A, T>;
}

/// body(row, extent) over the rows of a strip.
template <class A, class T, class Body>
XSOFTMAX_INLINE void for_each_strip_chunk(std::size_t rows, Body&& body) {
  for_each_chunk<strip_chunk<A, T>, lanes<A, T>>(0, rows, body);
}

/// The sums of one block of each row of a strip.
template <class A, class T>
class column_sum {
public:
  /// rows: how many there are
  XSOFTMAX_INLINE void clear(std::size_t rows) {
    const std::size_t end = whole_batches<A, T>(rows);
    for (std::size_t l = 0; l < virtual_lanes<T>; ++l) {
      for (std::size_t r = 0; r < end; r += lanes<A, double>) {
        native<A>::store(high_[l] + r, D(0.0));
        if constexpr (compensated) {
          native<A>::store(low_[l] + r, D(0.0));
        }
      }
    }
  }

  /// Adds to lane l of the rows from r on an element each; in float a pair of elements, added already.
  template <std::size_t N>
  XSOFTMAX_INLINE void add(std::size_t l, std::size_t r, const pack<batch<A, T>, N>& e) {
    unroll<N>([&](auto b) XSOFTMAX_LAMBDA {
      double* const high = high_[l] + r + decltype(b)::value * lanes<A, T>;
      if constexpr (compensated) {
        double* const low = low_[l] + r + decltype(b)::value * lanes<A, T>;
        const auto s = two_sum(native<A>::load(high), e.v[decltype(b)::value]);
        native<A>::store(high, s.sum);
        native<A>::store(low, native<A>::load(low) + s.error);
      } else {
        D lower;
        D upper;
        native<A>::widen(e.v[decltype(b)::value], lower, upper);
        native<A>::store(high, native<A>::load(high) + lower);
        native<A>::store(high + lanes<A, double>, native<A>::load(high + lanes<A, double>) + upper);
      }
    });
  }

  /// Adds the lanes as a tree. To be called once; then total(r) is the sum of row r.
  XSOFTMAX_INLINE void finish(std::size_t rows) {
    for (std::size_t half = virtual_lanes<T> / 2; half != 0; half /= 2) {
      for (std::size_t l = 0; l < half; ++l) {
        for (std::size_t r = 0; r < rows; r += lanes<A, double>) {
          const D a = native<A>::load(high_[l] + r);
          const D b = native<A>::load(high_[l + half] + r);
          if constexpr (compensated) {
            const auto s = two_sum(a, b);
            native<A>::store(high_[l] + r, s.sum);
            native<A>::store(low_[l] + r,
                             (native<A>::load(low_[l] + r) + native<A>::load(low_[l + half] + r)) + s.error);
          } else {
            native<A>::store(high_[l] + r, a + b);
          }
        }
      }
    }
  }

  XSOFTMAX_INLINE double_pair total(std::size_t r) const {
    if constexpr (compensated) {
      const double sum = high_[0][r] + low_[0][r];
      return rounded_pair(sum, low_[0][r] - (sum - high_[0][r]));
    } else {
      return {high_[0][r], 0.0};
    }
  }

private:
  using D = batch<A, double>;
  static constexpr bool compensated = sizeof(T) == 8;

  alignas(64) double high_[virtual_lanes<T>][strip_rows<T>];
  alignas(64) double low_[compensated ? virtual_lanes<T> : 1][compensated ? strip_rows<T> : 1];
};

/// Sums the elements [first, last), at most a block, of each row of a strip: element(i, r, extent) gives those of
/// number i of the rows from r on.
template <class A, class T, class Element>
XSOFTMAX_INLINE void sum_strip(column_sum<A, T>& sum, std::size_t first, std::size_t last, std::size_t rows,
                               Element&& element) {
  constexpr std::size_t L = virtual_lanes<T>;
  sum.clear(rows);
  for (std::size_t group = first; group < last; group += 2 * L) {
    const std::size_t end = last - group < 2 * L ? last : group + 2 * L;
    const std::size_t upper = end - group < L ? end : group + L;
    for (std::size_t i = group; i < upper; ++i) {
      const bool has_next = i + L < end;
      for_each_strip_chunk<A, T>(rows, [&](std::size_t r, auto extent) XSOFTMAX_LAMBDA {
        auto e = element(i, r, extent);
        if (has_next) {
          const auto next = element(i + L, r, extent);
          if constexpr (sizeof(T) == 4) { // two neighbours of a lane are added first
            unroll<decltype(e)::size>([&](auto b)
                                          XSOFTMAX_LAMBDA { e.v[decltype(b)::value] += next.v[decltype(b)::value]; });
          } else {
            sum.add(i - group, r, e);
            e = next;
          }
        }
        sum.add(i - group, r, e);
      });
    }
  }
  sum.finish(rows);
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

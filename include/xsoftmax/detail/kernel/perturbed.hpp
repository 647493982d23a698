// SPDX-License-Identifier: MIT
// Logits with Gumbel noise added, and the largest of them.
#pragma once

#include <xsoftmax/detail/kernel/noise.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The largest value seen and the lowest place where it stands. NaN and -inf are never the largest.
template <class A, class T>
struct largest_element {
  T value = -__builtin_inff();
  std::size_t place = npos;

  /// Those of x, which begin at place `first`.
  XSOFTMAX_INLINE void look_at(const T* x, std::size_t count, std::size_t first) {
    std::size_t i = 0;
    for (; count - i >= lanes<A, T>; i += lanes<A, T>) {
      if (native<A>::any_less(batch<A, T>(value), native<A>::template load<T>(x + i))) [[unlikely]] {
        one_by_one(x + i, lanes<A, T>, first + i);
      }
    }
    one_by_one(x + i, count - i, first + i);
  }

private:
  XSOFTMAX_INLINE void one_by_one(const T* x, std::size_t count, std::size_t first) {
    for (std::size_t i = 0; i < count; ++i) {
      if (x[i] > value) {
        value = x[i];
        place = first + i;
      }
    }
  }
};

/// Does x hold a NaN or +inf?
template <class A, class T>
__attribute__((noinline)) bool has_nan_or_infinity(const T* x, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    if (!(x[i] < __builtin_inff())) {
      return true;
    }
  }
  return false;
}

/// y_i = z_i + g_i for i in [first, last), at x and y; `largest` sees them.
template <class A, class T>
__attribute__((noinline)) void perturb(row_noise<A, T, noise_kind::gumbel>& noise, std::uint64_t index, const T* x,
                                       T* y, std::size_t first, std::size_t last, largest_element<A, T>& largest) {
  using V = batch<A, T>;
  for_each_group(index + first, last - first,
                 [&](std::uint64_t group, std::size_t from, std::size_t to, std::size_t skipped) XSOFTMAX_LAMBDA {
                   alignas(64) T value[noise_group];
                   noise(group, to < last - first, value);
                   if (to - from == noise_group) {
                     for (std::size_t i = 0; i < noise_group; i += lanes<A, T>) {
                       native<A>::template store<T>(y + from + i, native<A>::template load<T>(x + from + i) +
                                                                      V(native<A>::template load<T>(value + i)));
                     }
                   } else {
                     for (std::size_t i = from; i < to; ++i) {
                       y[i] = x[i] + value[skipped + i - from];
                     }
                   }
                   largest.look_at(y + from, to - from, first + from);
                 });
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

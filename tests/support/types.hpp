// SPDX-License-Identifier: MIT
// The architectures that this build can name, and their products with the element types.
#pragma once

#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <xsoftmax/arch.hpp>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace xsoftmax::test {

#if defined(__x86_64__)

/// By CPUID, since clang's __builtin_cpu_supports has not always known it.
inline bool has_f16c() {
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

#endif

/// Can this processor run kernels for Arch?
template <class Arch>
bool runnable() {
#if defined(__x86_64__)
  if constexpr (std::is_same_v<Arch, arch::avx2>) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
  } else if constexpr (std::is_same_v<Arch, arch::avx512>) {
    return runnable<arch::avx2>() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
  }
#endif
  return true;
}

/// Do all architectures for which this holds give the same bits?
template <class Arch>
inline constexpr bool has_fused_multiply_add = !std::is_same_v<Arch, arch::sse2>;

template <class Arch, class Scalar>
struct subject {
  using arch = Arch;
  using scalar = Scalar;
};

template <class... Lists>
using joined = decltype(std::tuple_cat(std::declval<Lists>()...));

/// With the dispatch library, every architecture built into it; headers only, the one that the compiler flags select.
/// (xs::runtime is one of them again: the tests that name no architecture go through it.)
#if defined(XSOFTMAX_DISPATCH)
using architectures = joined<
#if defined(XSOFTMAX_DISPATCH_SSE2)
    std::tuple<arch::sse2>,
#endif
#if defined(XSOFTMAX_DISPATCH_AVX2)
    std::tuple<arch::avx2>,
#endif
#if defined(XSOFTMAX_DISPATCH_AVX512)
    std::tuple<arch::avx512>,
#endif
#if defined(XSOFTMAX_DISPATCH_NEON64)
    std::tuple<arch::neon64>,
#endif
    std::tuple<>>;
#else
using architectures = std::tuple<default_arch>;
#endif

namespace type_lists {

template <class Scalar, class... Archs>
std::tuple<subject<Archs, Scalar>...> with_scalar(std::tuple<Archs...>);

} // namespace type_lists

using float_subjects = decltype(type_lists::with_scalar<float>(architectures{}));
using double_subjects = decltype(type_lists::with_scalar<double>(architectures{}));
using subjects = joined<float_subjects, double_subjects>;

using scalars = std::tuple<float, double>;

/// Calls body(Arch{}) for each architecture that this build can name and this processor can run.
template <class Body>
void for_each_architecture(Body&& body) {
  const auto visit = [&]<class... Archs>(std::tuple<Archs...>) {
    const auto one = [&]<class Arch>(Arch tag) {
      if (runnable<Arch>()) {
        body(tag);
      }
    };
    (one(Archs{}), ...);
  };
  visit(architectures{});
}

template <class T>
std::string scalar_name() {
  return std::is_same_v<T, float> ? "float" : "double";
}

} // namespace xsoftmax::test

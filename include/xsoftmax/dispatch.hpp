// SPDX-License-Identifier: MIT
// Run-time dispatch as a caller sees it: declarations of the kernels that were built for each architecture, and the
// call that goes to the best of them. Nothing here needs xsimd or flags beyond the baseline. The other half is
// dispatch_unit.hpp; the CMake target xsoftmax::dispatch ties both together.
#pragma once

#include <atomic>
#include <cstddef>
#include <type_traits>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/error.hpp>

#if !defined(XSOFTMAX_DISPATCH)
#error "xsoftmax: dispatch.hpp needs the CMake target xsoftmax::dispatch, or -DXSOFTMAX_DISPATCH and its objects"
#endif

// The built list. Who names none has them all.
#if !defined(XSOFTMAX_DISPATCH_SSE2) && !defined(XSOFTMAX_DISPATCH_AVX2) && !defined(XSOFTMAX_DISPATCH_AVX512) &&      \
    !defined(XSOFTMAX_DISPATCH_NEON64)
#if defined(__x86_64__)
#define XSOFTMAX_DISPATCH_SSE2 1
#define XSOFTMAX_DISPATCH_AVX2 1
#define XSOFTMAX_DISPATCH_AVX512 1
#else
#define XSOFTMAX_DISPATCH_NEON64 1
#endif
#endif

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// Does the dispatch library of this program hold kernels for Arch?
template <class Arch>
inline constexpr bool in_dispatch_list = false;

#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  template <class>                                                                                                     \
  struct name##_task;
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

/// State and choice. Hidden, like the kernels: two shared libraries of one process may each carry their own.
namespace dispatch __attribute__((visibility("hidden"))) {

// One pointer per kernel, null until the first dispatched call and from then on the same for good.
// Constant-initialised, so that the initialiser of any other object may call; every thread that finds null stores the
// same values.
#define XSOFTMAX_KERNEL(name, T) extern std::atomic<void (*)(const name##_task<T>&) noexcept> name##_##T;
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL
  extern std::atomic<const char*> active_name;

  /// Chooses and stores all pointers, or stores none and writes into `message` why.
  bool resolve(char* message, std::size_t capacity) noexcept;

  /// The same as the caller sees it. The error is raised here and not in the library, so that the caller's own flags
  /// (-fno-exceptions) and handler decide how.
  XSOFTMAX_NOINLINE inline bool resolve_or_raise() {
    char message[400];
    if (resolve(message, sizeof message)) {
      return true;
    }
    raise<std::runtime_error>(message);
    return false;
  }

} // namespace )

namespace call __attribute__((visibility("hidden"))) {

  /// Has the choice been made, so that calls from other threads raise no error? Makes it, and raises the error here.
  template <class Arch>
  constexpr bool ready(Arch) noexcept {
    return true;
  }

  inline bool ready(runtime) {
    return dispatch::active_name.load(std::memory_order_relaxed) != nullptr || dispatch::resolve_or_raise();
  }

// A tag that is not in the list. The overloads below are better matches for those that are.
#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  template <class Arch>                                                                                                \
  void name(Arch, const name##_task<T>&) noexcept {                                                                    \
    static_assert(in_dispatch_list<Arch>,                                                                              \
                  "xsoftmax: this architecture tag is not in the list that xsoftmax::dispatch was built for");         \
  }
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  inline void name(runtime, const name##_task<T>& task) {                                                              \
    auto* kernel = dispatch::name##_##T.load(std::memory_order_relaxed);                                               \
    if (kernel == nullptr) [[unlikely]] {                                                                              \
      if (!dispatch::resolve_or_raise()) {                                                                             \
        return;                                                                                                        \
      }                                                                                                                \
      kernel = dispatch::name##_##T.load(std::memory_order_relaxed);                                                   \
    }                                                                                                                  \
    kernel(task);                                                                                                      \
  }
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

} // namespace )

#if defined(XSOFTMAX_DISPATCH_SSE2)
template <>
inline constexpr bool in_dispatch_list<arch::sse2> = true;
#define XSOFTMAX_KERNEL(name, T) void name(arch::sse2, const name##_task<T>& task) noexcept;
namespace call __attribute__((visibility("hidden"))) {
#include <xsoftmax/detail/kernels.def>
}
#undef XSOFTMAX_KERNEL
#endif

#if defined(XSOFTMAX_DISPATCH_AVX2)
template <>
inline constexpr bool in_dispatch_list<arch::avx2> = true;
#define XSOFTMAX_KERNEL(name, T) void name(arch::avx2, const name##_task<T>& task) noexcept;
namespace call __attribute__((visibility("hidden"))) {
#include <xsoftmax/detail/kernels.def>
}
#undef XSOFTMAX_KERNEL
#endif

#if defined(XSOFTMAX_DISPATCH_AVX512)
template <>
inline constexpr bool in_dispatch_list<arch::avx512> = true;
#define XSOFTMAX_KERNEL(name, T) void name(arch::avx512, const name##_task<T>& task) noexcept;
namespace call __attribute__((visibility("hidden"))) {
#include <xsoftmax/detail/kernels.def>
}
#undef XSOFTMAX_KERNEL
#endif

#if defined(XSOFTMAX_DISPATCH_NEON64)
template <>
inline constexpr bool in_dispatch_list<arch::neon64> = true;
#define XSOFTMAX_KERNEL(name, T) void name(arch::neon64, const name##_task<T>& task) noexcept;
namespace call __attribute__((visibility("hidden"))) {
#include <xsoftmax/detail/kernels.def>
}
#undef XSOFTMAX_KERNEL
#endif

} // namespace detail

/// Name of the architecture that a call without a tag uses: "sse2", "avx2", "avx512" or "neon64". With `runtime` it
/// makes the choice if no call has made it yet, and raises std::runtime_error as a call would.
template <class Arch = default_arch>
const char* active_architecture() {
  if constexpr (std::is_same_v<Arch, runtime>) {
    const char* name = detail::dispatch::active_name.load(std::memory_order_relaxed);
    if (name == nullptr && detail::dispatch::resolve_or_raise()) {
      name = detail::dispatch::active_name.load(std::memory_order_relaxed);
    }
    return name == nullptr ? "none" : name;
  } else {
    static_assert(detail::in_dispatch_list<Arch>,
                  "xsoftmax: this architecture tag is not in the list that xsoftmax::dispatch was built for");
    return Arch::name;
  }
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

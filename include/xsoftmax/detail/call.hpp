// SPDX-License-Identifier: MIT
// How a public function reaches a kernel: detail::call::NAME(Arch{}, task).
//  - headers only: the kernel is a template, compiled right here with the flags of this translation unit;
//  - with xsoftmax::dispatch: the kernel lies in an object built for its architecture, and this translation unit sees
//  only
//    its declaration, so not a line of xsimd is included and plain baseline flags suffice.
#pragma once

#if defined(XSOFTMAX_DISPATCH)

#include <xsoftmax/dispatch.hpp>

#else

#include <type_traits>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/kernels.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail::call {

/// Can calls from other threads raise no error of the choice? Nothing is chosen here.
template <class Arch>
constexpr bool ready(Arch) noexcept {
  return true;
}

#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  template <class Arch>                                                                                                \
  void name(Arch, const name##_task<T>& task) noexcept {                                                               \
    static_assert(!std::is_same_v<Arch, runtime>,                                                                      \
                  "xsoftmax: the tag xsoftmax::runtime needs the CMake target xsoftmax::dispatch");                    \
    static_assert(flags_allow<Arch>, "xsoftmax: the compiler flags of this file do not allow this architecture tag");  \
    if constexpr (flags_allow<Arch>) {                                                                                 \
      kernel::name<Arch, T>::run(task);                                                                                \
    }                                                                                                                  \
  }
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

} // namespace detail::call

/// Name of the architecture that a call without a tag uses.
template <class Arch = default_arch>
const char* active_architecture() noexcept {
  return Arch::name;
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

#endif

// SPDX-License-Identifier: MIT
// The compiled half of run-time dispatch. A translation unit that defines XSOFTMAX_TARGET_ARCH and includes this file
// becomes
//   sse2, avx2, avx512, neon64    the kernels of that architecture (compile it with the architecture's flags), or
//   runtime                       the check of the processor and the choice (compile it with baseline flags).
// One unit of each architecture in the list and one runtime unit make the library.
#pragma once

#if !defined(XSOFTMAX_TARGET_ARCH)
#error                                                                                                                 \
    "xsoftmax: define XSOFTMAX_TARGET_ARCH as sse2, avx2, avx512, neon64 or runtime before including dispatch_unit.hpp"
#endif

#define XSOFTMAX_UNIT_OF_runtime 1
#define XSOFTMAX_UNIT_OF_sse2 2
#define XSOFTMAX_UNIT_OF_avx2 2
#define XSOFTMAX_UNIT_OF_avx512 2
#define XSOFTMAX_UNIT_OF_neon64 2
#define XSOFTMAX_UNIT_KIND_OF(arch) XSOFTMAX_UNIT_OF_##arch
#define XSOFTMAX_UNIT_KIND(arch) XSOFTMAX_UNIT_KIND_OF(arch)

#if XSOFTMAX_UNIT_KIND(XSOFTMAX_TARGET_ARCH) == 2

#include <xsoftmax/detail/attention_backward_task.hpp>
#include <xsoftmax/detail/attention_task.hpp>
#include <xsoftmax/detail/backward_task.hpp>
#include <xsoftmax/detail/convergence_task.hpp>
#include <xsoftmax/detail/cross_entropy_task.hpp>
#include <xsoftmax/detail/kernels.hpp>
#include <xsoftmax/detail/log_softmax_task.hpp>
#include <xsoftmax/detail/log_sum_exp_task.hpp>
#include <xsoftmax/detail/noise_task.hpp>
#include <xsoftmax/detail/perpendicular_task.hpp>
#include <xsoftmax/detail/softmax_task.hpp>
#include <xsoftmax/detail/stablemax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

static_assert(flags_allow<arch::XSOFTMAX_TARGET_ARCH>,
              "xsoftmax: this unit's compiler flags do not allow its XSOFTMAX_TARGET_ARCH (avx2 needs -mavx2 -mfma, "
              "avx512 needs -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl -mfma)");

namespace {

/// A type that no other unit can name: whatever is instantiated with it has internal linkage, so the linker can never
/// put this unit's code in the place of another's.
struct unit_arch : arch::XSOFTMAX_TARGET_ARCH {};

} // namespace

namespace call __attribute__((visibility("hidden"))) {

#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  void name(arch::XSOFTMAX_TARGET_ARCH, const name##_task<T>& task) noexcept;                                          \
  void name(arch::XSOFTMAX_TARGET_ARCH, const name##_task<T>& task) noexcept {                                         \
    kernel::name<unit_arch, T>::run(task);                                                                             \
  }
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

} // namespace )

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

#elif XSOFTMAX_UNIT_KIND(XSOFTMAX_TARGET_ARCH) == 1

#if !defined(XSOFTMAX_DISPATCH)
#define XSOFTMAX_DISPATCH 1
#endif

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <xsimd/xsimd.hpp>
#include <xsoftmax/detail/cpu.hpp>
#include <xsoftmax/dispatch.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

namespace {

template <class Tag>
struct xsimd_arch_of;
template <>
struct xsimd_arch_of<arch::sse2> {
  using type = xsimd::sse2;
};
template <>
struct xsimd_arch_of<arch::avx2> {
  using type = xsimd::fma3<xsimd::avx2>;
};
template <>
struct xsimd_arch_of<arch::avx512> {
  using type = xsimd::avx512bw;
};
template <>
struct xsimd_arch_of<arch::neon64> {
  using type = xsimd::neon64;
};

/// An element of the list: xsimd orders it, our tag names it.
template <class Tag>
struct candidate : xsimd_arch_of<Tag>::type {
  using tag = Tag;
};

template <class List, class Tag>
using with = std::conditional_t<in_dispatch_list<Tag>, typename List::template add<candidate<Tag>>, List>;

/// The built list, best first.
using built_list = with<with<with<with<xsimd::arch_list<>, arch::avx512>, arch::avx2>, arch::sse2>, arch::neon64>;

/// Text of limited length, always terminated.
struct text {
  char* data;
  std::size_t capacity;
  std::size_t size = 0;

  void add(const char* part) noexcept {
    while (*part != '\0' && size + 1 < capacity) {
      data[size++] = *part++;
    }
    data[size] = '\0';
  }
};

template <class Tag>
void store() noexcept {
#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  dispatch::name##_##T.store([](const name##_task<T>& task) noexcept { call::name(Tag{}, task); },                     \
                             std::memory_order_relaxed);
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL
  dispatch::active_name.store(Tag::name, std::memory_order_relaxed);
}

} // namespace

namespace dispatch __attribute__((visibility("hidden"))) {

#define XSOFTMAX_KERNEL(name, T) constinit std::atomic<void (*)(const name##_task<T>&) noexcept> name##_##T{nullptr};
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL
  constinit std::atomic<const char*> active_name{nullptr};

  bool resolve(char* message, std::size_t capacity) noexcept {
    const char* forced = std::getenv("XSOFTMAX_ARCH");
    if (forced != nullptr && *forced == '\0') {
      forced = nullptr;
    }
    const cpu_registers cpu = read_cpu();
    bool found = false;
    bool known = false;
    char runnable_text[64] = "";
    text runnable{runnable_text, sizeof runnable_text};
    built_list::for_each([&](auto entry) {
      using tag = typename decltype(entry)::tag;
      const bool wanted = forced == nullptr || std::strcmp(forced, tag::name) == 0;
      known = known || wanted;
      if (!runs(tag{}, cpu)) {
        return;
      }
      runnable.add(runnable.size == 0 ? "" : ", ");
      runnable.add(tag::name);
      if (wanted && !found) {
        found = true;
        store<tag>();
      }
    });
    if (found) {
      return true;
    }
    text out{message, capacity};
    out.add("xsoftmax: ");
    if (forced == nullptr) {
      out.add("this processor runs none of the architectures that the dispatch library was built for");
      return false;
    }
    out.add("XSOFTMAX_ARCH=");
    for (std::size_t i = 0; i < 64 && forced[i] != '\0'; ++i) { // leaves room for the choices
      const char letter[2] = {forced[i], '\0'};
      out.add(letter);
    }
    out.add(known ? " is not supported by this processor and operating system"
                  : " names no architecture of this program's dispatch library");
    out.add("; choices: ");
    out.add(runnable_text);
    return false;
  }

} // namespace )

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

#else
#error "xsoftmax: XSOFTMAX_TARGET_ARCH must be sse2, avx2, avx512, neon64 or runtime"
#endif

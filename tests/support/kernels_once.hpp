// SPDX-License-Identifier: MIT
// Headers only, every translation unit that calls softmax would compile the kernels again. The tests declare them here
// and compile them once, in unit/kernels_test.cpp; with the dispatch library they are compiled already.
#pragma once

#include <xsoftmax/xsoftmax.hpp>

#if !defined(XSOFTMAX_DISPATCH)

#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  template <>                                                                                                          \
  void xsoftmax::detail::kernel::name<xsoftmax::default_arch, T>::run(                                                 \
      const xsoftmax::detail::name##_task<T>&) noexcept;
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

#endif

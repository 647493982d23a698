// SPDX-License-Identifier: MIT
// expect: neither a contiguous sized range nor a view
// flags:
#include <list>
#include <xsoftmax/xsoftmax.hpp>

#if defined(CORRECTED)
using container = std::vector<float>;
#else
using container = std::list<float>;
#endif

auto f(const container& z) {
  return xsoftmax::as_view(z).size();
}

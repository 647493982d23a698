// SPDX-License-Identifier: MIT
// The kernels of the headers-only build, compiled once for all test files, and the bits they must give in every build.

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "../support/catch.hpp"
#include "../support/kernels_once.hpp"
#include "../support/log_checks.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

#if !defined(XSOFTMAX_DISPATCH)

namespace {

/// Another name for the same architecture: the kernels below are instantiated for it, in this file only.
struct compiled_here : xs::default_arch {};

} // namespace

#define XSOFTMAX_KERNEL(name, T)                                                                                       \
  template <>                                                                                                          \
  void xs::detail::kernel::name<xs::default_arch, T>::run(const xs::detail::name##_task<T>& task) noexcept {           \
    xs::detail::kernel::name<compiled_here, T>::run(task);                                                             \
  }
#include <xsoftmax/detail/kernels.def>
#undef XSOFTMAX_KERNEL

#endif

namespace {

/// FNV-1a over the bits of what `numbers` returns for a fixed set of rows and options.
template <class T, class Numbers>
std::uint64_t digest(Numbers numbers) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  const auto add = [&](const std::vector<T>& z, const xs::softmax_options& options) {
    for (const T p : numbers(z, options)) {
      hash = (hash ^ static_cast<std::uint64_t>(std::isnan(p) ? bits(T(-1)) : bits(p))) * 0x100000001b3u;
    }
  };
  std::uint64_t seed = 0;
  for (const std::size_t n : {1u, 3u, 16u, 40u, 100u, 257u, 1030u, 2049u, 5000u}) {
    for (const int spread_bits : {-4, 2, 6, 8, 13, 20}) {
      for (const double temperature : {1.0, 0.75, 0.1, 3.0}) {
        const std::vector<T> z = make_dyadic_row<T>(n, ++seed, spread_bits, 10);
        xs::softmax_options options{.temperature = temperature, .algorithm = algorithms[seed % std::size(algorithms)]};
        add(z, options);
        options.sink = 0.5;
        add(z, options);
      }
    }
    // Beyond the range of the floating-point reduction.
    std::vector<T> z = make_dyadic_row<T>(n, ++seed, 4, 0);
    for (T& x : z) {
      x = std::ldexp(x, std::is_same_v<T, float> ? 20 : 48);
    }
    add(z, {.temperature = std::is_same_v<T, float> ? 0x1.8p18 : 0x1.8p46});
    add(z, {});
  }
  return hash;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: the bits do not depend on compiler, flags or, with fused multiply-add, architecture",
                        "[softmax][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // A change of a kernel's arithmetic changes these numbers; nothing else may.
  constexpr bool single = std::is_same_v<T, float>;
  const std::uint64_t golden = has_fused_multiply_add<Arch> ? (single ? 0x96a6660239c77a3cu : 0xff0461a93e3ed5afu)
                                                            : (single ? 0xef17ea4951155d6du : 0xf852960bbb1cd9a0u);
  CAPTURE(Arch::name, scalar_name<T>());
  CHECK(digest<T>([](const std::vector<T>& z, const xs::softmax_options& options) {
          return probabilities<Arch>(z, options);
        }) == golden);
}

TEMPLATE_LIST_TEST_CASE("log_softmax, log_sum_exp: the bits do not depend on compiler, flags or, with fused "
                        "multiply-add, architecture",
                        "[log_softmax][log_sum_exp][invariance][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr bool single = std::is_same_v<T, float>;
  // In float nearly all of the arithmetic is in double, so these rows give the same bits without fma, too.
  const std::uint64_t golden = single                         ? 0xe0f1f622d1f24e08u
                               : has_fused_multiply_add<Arch> ? 0xba6683fda60f8aa4u
                                                              : 0x04f40c089bdaab00u;
  CAPTURE(Arch::name, scalar_name<T>());
  CHECK(digest<T>([](const std::vector<T>& z, const xs::softmax_options& options) {
          std::vector<T> y = log_probabilities<Arch>(z, {.temperature = options.temperature, .sink = options.sink});
          y.push_back(xs::log_sum_exp<Arch>(z, {.temperature = options.temperature, .sink = options.sink}));
          return y;
        }) == golden);
}

// SPDX-License-Identifier: MIT
// What every operation promises of its surroundings: no allocation, little stack, and the same bits where the caller
// flushes subnormal numbers to zero.

#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <functional>
#include <limits>
#include <new>
#include <pthread.h>
#include <string>
#include <vector>
#include <xsoftmax/half.hpp>

#include "../support/catch.hpp"
#include "../support/flushing.hpp"
#include "../support/kernels_once.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace {

std::size_t allocations = 0;

} // namespace

void* operator new(std::size_t size) {
  ++allocations;
  if (void* place = std::malloc(size == 0 ? 1 : size)) {
    return place;
  }
  throw std::bad_alloc();
}

void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size == 0 ? 1 : size);
}

void operator delete(void* place) noexcept {
  std::free(place);
}

void operator delete(void* place, const std::nothrow_t&) noexcept {
  std::free(place);
}

void operator delete(void* place, std::size_t) noexcept {
  std::free(place);
}

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Every operation once, on rows that take the usual paths and all others: results one after another. Subnormal
/// probabilities do not become inputs: a caller who flushes has none.
template <class Arch, class T>
void run_everything(const std::vector<std::vector<T>>& rows, const std::vector<T>& gradient, std::vector<T>& scratch,
                    std::vector<T>& results) {
  std::size_t at = 0;
  const auto next = [&](std::size_t n) {
    at += n;
    return xs::vector_view<T>(results.data() + at - n, n);
  };
  const auto serial = [](std::size_t count, const auto& body) {
    for (std::size_t i = 0; i < count; ++i) {
      body(i);
    }
  };
  for (const std::vector<T>& z : rows) {
    const std::size_t n = z.size();
    const xs::vector_view<const T> dy(gradient.data(), n);
    for (const double temperature : {1.0, 0.6, 0.0}) {
      const auto p = next(n);
      xs::softmax<Arch>(z, p, {.temperature = temperature, .algorithm = xs::softmax_algorithm::two_pass});
      xs::softmax<Arch>(serial, z, next(n), {.temperature = temperature, .sink = 1.0});
      const auto lp = next(n);
      xs::log_softmax<Arch>(z, lp, {.temperature = temperature});
      const xs::vector_view<T> normal(scratch.data(), n);
      for (std::size_t i = 0; i < n; ++i) {
        scratch[i] = p.data()[i] < std::numeric_limits<T>::min() ? T(0) : p.data()[i];
      }
      xs::softmax_backward<Arch>(normal, dy, next(n), {.temperature = temperature});
      xs::log_softmax_backward<Arch>(lp, dy, next(n), {.temperature = temperature});
    }
    const auto sp = next(n);
    xs::stablemax<Arch>(z, sp);
    const auto slp = next(n);
    xs::log_stablemax<Arch>(z, slp);
    const xs::vector_view<T> normal(scratch.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      scratch[i] = sp.data()[i] < std::numeric_limits<T>::min() ? T(0) : sp.data()[i];
    }
    xs::stablemax_backward<Arch>(z, normal, dy, next(n));
    xs::log_stablemax_backward<Arch>(z, slp, dy, next(n));
    for (const xs::loss_link link : {xs::loss_link::softmax, xs::loss_link::stablemax}) {
      // A loss below 2^-100 is a sum of probabilities that may be subnormal themselves.
      const auto dz = next(n);
      const auto kept = [](T x) { return std::fabs(x) < T(0x1p-100) ? T(0) : x; };
      *next(1).data() = kept(xs::cross_entropy<Arch>(z, n / 2, dz, {.link = link}));
      dz.data()[n / 2] = kept(dz.data()[n / 2]);
      *next(1).data() = xs::cross_entropy<Arch>(z, n / 2, next(n), {.link = link, .label_smoothing = 0.25});
      std::fill_n(scratch.data(), n, T(1) / static_cast<T>(n));
      *next(1).data() =
          xs::cross_entropy<Arch>(z, xs::vector_view<const T>(scratch.data(), n), next(n), {.link = link});
    }
    *next(1).data() = static_cast<T>(xs::convergence_radius_bound<Arch>(dy));
    *next(1).data() = static_cast<T>(xs::convergence_radius_tight_bound<Arch>(z, dy));
    *next(1).data() = static_cast<T>(xs::convergence_radius<Arch>(z, dy));
    const auto rest = next(n);
    std::copy_n(dy.data(), n, rest.data());
    std::fill_n(scratch.data(), n, T(1));
    xs::perpendicular_gradient<Arch>(xs::vector_view<const T>(scratch.data(), n), rest);
    const xs::noise_key key{.seed = n, .index = 5};
    xs::gumbel_noise<Arch>(key, next(n));
    xs::gumbel_softmax<Arch>(key, z, next(n), {.temperature = 0.7});
    xs::gumbel_softmax<Arch>(key, z, next(n), {.hard = true});
    std::size_t indices[3];
    for (const xs::sample_options& options :
         {xs::sample_options{.temperature = 0.6}, {.top_p = 0.9}, {.temperature = 2.0, .top_k = 2000, .min_p = 0.01}}) {
      *next(1).data() = static_cast<T>(xs::sample<Arch>(key, z, options));
    }
    xs::sample_many<Arch>(key, z, indices);
    *next(1).data() = static_cast<T>(indices[2]);
    *next(1).data() = static_cast<T>(xs::sample_without_replacement<Arch>(key, z, indices));
    *next(1).data() = xs::log_sum_exp<Arch>(z);
    xs::log_sum_exp_state<T> state;
    state.template push<Arch>(z);
    xs::softmax<Arch>(state, z, next(n));
    // Columns: the row as n rows of one, and as two columns where it can be.
    const xs::matrix_view<const T> matrix(z.data(), n / 2, 2);
    xs::softmax<Arch>(matrix.transposed(), xs::matrix_view<T>(next(n / 2 * 2).data(), n / 2, 2).transposed());
  }
}

template <class T>
std::vector<std::vector<T>> rows_of_every_kind() {
  std::vector<std::vector<T>> rows;
  for (const std::size_t n : {1u, 20u, 100u, 3000u}) {
    for (const row_kind kind : row_kinds) {
      if (kind != row_kind::subnormal) { // logits that are flushed themselves
        rows.push_back(make_row<T>(kind, n, 4));
      }
    }
    rows.push_back(rows.back());
    rows.back()[n / 2] = std::numeric_limits<T>::quiet_NaN();
    rows.emplace_back(n, -std::numeric_limits<T>::infinity());
  }
  return rows;
}

/// Room for what run_everything writes.
template <class T>
std::size_t size_of_results(const std::vector<std::vector<T>>& rows) {
  std::size_t size = 0;
  for (const std::vector<T>& z : rows) {
    size += 31 * z.size() + 15;
  }
  return size;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("environment: no operation allocates", "[environment][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const auto rows = rows_of_every_kind<T>();
  const std::vector<T> gradient = make_row<T>(row_kind::normal, 3000, 8);
  std::vector<T> results(size_of_results(rows));
  std::vector<T> scratch(3000);
  const std::size_t before = allocations;
  run_everything<Arch>(rows, gradient, scratch, results);
  CHECK(allocations == before);
  CHECK(before > 0); // the count counts
}

TEMPLATE_LIST_TEST_CASE("environment: flush-to-zero takes subnormal results and nothing else", "[environment][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const auto rows = rows_of_every_kind<T>();
  const std::vector<T> gradient = make_row<T>(row_kind::normal, 3000, 8);
  std::vector<T> gradual(size_of_results(rows));
  std::vector<T> flushed(gradual.size());
  std::vector<T> scratch(3000);
  run_everything<Arch>(rows, gradient, scratch, gradual);
  {
    const flushing scope(flush_to_zero | denormals_are_zero);
    run_everything<Arch>(rows, gradient, scratch, flushed);
  }
  findings found;
  for (std::size_t i = 0; i < gradual.size(); ++i) {
    const bool subnormal = gradual[i] != 0 && std::fabs(gradual[i]) < std::numeric_limits<T>::min();
    const bool right = subnormal ? flushed[i] == 0 || bits(flushed[i]) == bits(gradual[i])
                                 : first_difference(&gradual[i], &flushed[i], 1) == 1;
    found.expect(right, [&] {
      return "result " + std::to_string(i) + " is " + exact_text(flushed[i]) + ", not " + exact_text(gradual[i]);
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// Instrumented functions need several times as much.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define XSOFTMAX_TESTS_INSTRUMENTED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define XSOFTMAX_TESTS_INSTRUMENTED 1
#endif
#endif

#if !defined(XSOFTMAX_TESTS_INSTRUMENTED)

namespace {

/// Runs `body` in a thread with so much stack, at whose end a page is protected.
void run_with_stack(std::size_t bytes, std::function<void()> body) {
  pthread_attr_t attributes;
  REQUIRE(pthread_attr_init(&attributes) == 0);
  REQUIRE(pthread_attr_setstacksize(&attributes, bytes) == 0);
  pthread_t thread;
  const auto call = [](void* function) -> void* {
    (*static_cast<std::function<void()>*>(function))();
    return nullptr;
  };
  REQUIRE(pthread_create(&thread, &attributes, call, &body) == 0);
  pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

} // namespace

// Some systems give no more to a thread; overflow ends the program.
TEMPLATE_LIST_TEST_CASE("environment: 128 KiB of stack are enough", "[environment][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  const auto rows = rows_of_every_kind<T>();
  const std::vector<T> gradient = make_row<T>(row_kind::normal, 3000, 8);
  std::vector<T> results(size_of_results(rows));
  std::vector<T> scratch(3000);
  const std::size_t n = 4500;
  const std::size_t columns = 300;
  const std::vector<T> matrix = make_row<T>(row_kind::normal, n * columns, 9);
  std::vector<T> p(n * columns);
  const std::vector<xs::bfloat16> halves(n, xs::bfloat16(1.0F));
  std::vector<xs::bfloat16> half_p(n);
  run_with_stack(std::size_t{128} << 10, [&] {
    run_everything<Arch>(rows, gradient, scratch, results);
    xs::softmax<Arch>(xs::matrix_view<const T>(matrix.data(), n, columns).transposed(),
                      xs::matrix_view<T>(p.data(), n, columns).transposed());
    if constexpr (sizeof(T) == sizeof(float)) {
      xs::softmax<Arch>(halves, half_p);
    }
  });
  CHECK(p[0] > 0);
}

#endif

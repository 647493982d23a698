// SPDX-License-Identifier: MIT
// The benchmarks of one shape: what each of them runs, and how Google Benchmark times them.
#pragma once

#include "answer_check.hpp"
#include "json_log.hpp"
#include "peer.hpp"
#include "plan.hpp"
#include "progress.hpp"
#include <xsoftmax/arch.hpp>

namespace bench {

/// What goes through a run: the plan, where results go, and the line in the terminal.
struct session {
  const plan& p;
  json_log& log;
  progress& line;
};

/// Rows of logits, and where their softmax goes.
template <class T>
struct row_set {
  const T* z;
  T* p;
  std::size_t rows;
  std::size_t cols;

  std::size_t size() const { return rows * cols; }

  std::size_t bytes() const { return size() * sizeof(T); }
};

template <class T>
constexpr const char* type_name = sizeof(T) == sizeof(float) ? "float" : "double";

/// One benchmark of a shape.
struct variant {
  std::string name; ///< "who/architecture/algorithm/store"
  bool own;         ///< the library's: held to its promise
  bool limit;       ///< no softmax but the traffic of one
  double guess;     ///< ns per element, for the progress line only
  runner run;
  bool real_time = false; ///< by the clock on the wall: more than one thread works
  answer found{};
};

/// Has the processor (and its operating system, libgcc asks it too) what the tag needs?
template <class Arch>
bool supported() {
  if constexpr (std::is_same_v<Arch, xsoftmax::arch::avx512>) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
  } else if constexpr (std::is_same_v<Arch, xsoftmax::arch::avx2>) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  } else {
    return true;
  }
}

/// Calls body(tag) for each architecture that was built and that the processor has, the baseline first.
template <class Body>
void for_each_architecture(const Body& body) {
  const auto offer = [&]<class Arch>(Arch tag) {
    if (supported<Arch>()) {
      body(tag);
    }
  };
#if XSOFTMAX_DISPATCH_SSE2
  offer(xsoftmax::arch::sse2{});
#endif
#if XSOFTMAX_DISPATCH_AVX2
  offer(xsoftmax::arch::avx2{});
#endif
#if XSOFTMAX_DISPATCH_AVX512
  offer(xsoftmax::arch::avx512{});
#endif
}

/// What a benchmark will cost: its repetitions, the search for the number of iterations, and the check of its answer.
double expected_seconds(const plan& p, double ns_per_element, std::size_t elements, std::size_t bytes);

/// Times all variants of a shape interleaved, but for those whose answer is wrong: these are printed. `bytes` is the
/// size of the input. Returns how many are wrong, those of peers not counted.
int time_variants(const session& run, const shape& s, const std::string& type, std::size_t bytes,
                  const std::vector<variant>& all);

} // namespace bench

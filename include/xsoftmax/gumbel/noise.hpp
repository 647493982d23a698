// SPDX-License-Identifier: MIT
// Noise that is a function of its key: Gumbel, logistic and exponential.
#pragma once

#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/key.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE {

namespace detail {

/// Rows [first, first + count) of the task.
template <class T>
noise_task<T> rows_of(noise_task<T> task, std::size_t first, std::size_t count) {
  task.key.row += first;
  task.out = rows_from<T>(task.out, first);
  task.rows = count;
  return task;
}

/// One long row in parts, each of which begins at an index of its own.
template <class Arch, class Run, class T, class Kernel>
bool run_long_row(const Run& run, const noise_task<T>& row, const part_split& split, const Kernel& kernel) {
  run([&](std::size_t part) {
    noise_task<T> task = row;
    task.key.index += split.first(part);
    task.out = elements_from<T>(row.out, 0, split.first(part));
    task.cols = split.count(part);
    kernel(task);
  });
  return true;
}

/// Checks the arguments and hands launch(task, output) what is to be done.
template <class Out, class Launch>
XSOFTMAX_INLINE void checked_noise(const char* function, noise_kind kind, const noise_key& key, Out&& out,
                                   Launch&& launch) {
  check_types<Out, Out>();
  const auto view = output_matrix(out);
  if (!valid_key(function, key, view.rows(), view.cols())) {
    return;
  }
  launch(
      noise_task<compute_of<Out>>{
          .key = key, .out = destination_of(view), .rows = view.rows(), .cols = view.cols(), .kind = kind},
      view);
}

template <class Arch, class Out>
XSOFTMAX_INLINE void write_noise(const char* function, noise_kind kind, const noise_key& key, Out&& out) {
  checked_noise(function, kind, key, std::forward<Out>(out),
                [](const auto& task, const auto&) XSOFTMAX_LAMBDA { call::noise(Arch{}, task); });
}

template <class Arch, class Executor, class Out>
void write_noise(const char* function, noise_kind kind, Executor& executor, const noise_key& key, Out&& out) {
  checked_noise(function, kind, key, std::forward<Out>(out), [&](const auto& task, const auto& view) {
    run_rows<Arch>(executor, view, task, [](const auto& part) { call::noise(Arch{}, part); });
  });
}

} // namespace detail

/// Gumbel(0, 1) noise: G = -log(-log(1 - v)) with v uniform in (0, 1).
///
/// out is a row (any contiguous sized range, or a vector_view) or a matrix (matrix_view) of float, double or halves.
/// Element i of row r is a function of (key.seed, key.stream, key.row + r, key.index + i) and nothing else: neither of
/// the shape, the strides, the chunks in which a row is asked for, the threads, nor of the architecture: "noise v1".
/// Noise of other kinds with the same key is independent of it.
///
/// v is r * 2^-64, r = max(64 random bits, 1), truncated to the 24 digits of float or the 53 of double; both types see
/// the same 64 bits. So large values, which decide what is drawn, are resolved to probabilities of 2^-64. All values
/// are finite: in float from -2.8115 (a fraction of 2^-24 that lies below is left out) to 44.3614, in double from
/// -3.6038.
///
/// Accuracy: within 3 units in the last place of max(1, |G|) of the exact value at v. Largest errors that searches
/// have found (scripts/test --exhaustive prints them): 2.31 for float at v = 0xd.ca142p-6, 1.24 for double at v =
/// 0x9.709b335a37a48p-5. Halves are the float rounded once.
///
/// Cost: no allocation; a word of Philox4x32-10 and two logarithms for each element.
/// Throws std::invalid_argument if key.stream is 2^40 or more, or if rows from key.row on or elements from key.index on
/// would be.
///
/// Sources: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC11);
/// E. Gumbel, "Statistical theory of extreme values" (1954).
template <class Arch = default_arch, class Out>
XSOFTMAX_INLINE void gumbel_noise(const noise_key& key, Out&& out) {
  detail::write_noise<Arch>("gumbel_noise", detail::noise_kind::gumbel, key, std::forward<Out>(out));
}

/// The same with the rows, and parts of a long row, shared out by an executor, as softmax does.
template <class Arch = default_arch, detail::executor Executor, class Out>
void gumbel_noise(Executor&& executor, const noise_key& key, Out&& out) {
  detail::write_noise<Arch>("gumbel_noise", detail::noise_kind::gumbel, executor, key, std::forward<Out>(out));
}

/// Logistic(0, 1) noise: log(v / (1 - v)).
///
/// As gumbel_noise, but of 64 bits the first is the sign and the others are a number v in (0, 1/2): both ends are
/// resolved to 2^-64, from -45.0546 to 45.0546. Accuracy: within 3 units of max(1, |x|) as well; 2.48 for float at v =
/// 0xf.89f44p-7, 1.58 for double at v = 0x8.9235f5adfc2a8p-6.
template <class Arch = default_arch, class Out>
XSOFTMAX_INLINE void logistic_noise(const noise_key& key, Out&& out) {
  detail::write_noise<Arch>("logistic_noise", detail::noise_kind::logistic, key, std::forward<Out>(out));
}

template <class Arch = default_arch, detail::executor Executor, class Out>
void logistic_noise(Executor&& executor, const noise_key& key, Out&& out) {
  detail::write_noise<Arch>("logistic_noise", detail::noise_kind::logistic, executor, key, std::forward<Out>(out));
}

/// Exponential(1) noise.
///
/// As gumbel_noise, but of 64 bits the first says on which side of ln 2 the value lies, -log(v) above or -log(1 - v)
/// below for a number v in (0, 1/2): both ends are resolved to 2^-64, from 2.7e-20 to 45.0546. Never 0. Accuracy:
/// within 3 units in the last place of the value itself; 2.39 for float at v = 0xf.6b165p-8 and 0.91 for double at v =
/// 0x9.7119c49f9645p-5, both below ln 2.
template <class Arch = default_arch, class Out>
XSOFTMAX_INLINE void exponential_noise(const noise_key& key, Out&& out) {
  detail::write_noise<Arch>("exponential_noise", detail::noise_kind::exponential, key, std::forward<Out>(out));
}

template <class Arch = default_arch, detail::executor Executor, class Out>
void exponential_noise(Executor&& executor, const noise_key& key, Out&& out) {
  detail::write_noise<Arch>("exponential_noise", detail::noise_kind::exponential, executor, key,
                            std::forward<Out>(out));
}

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE

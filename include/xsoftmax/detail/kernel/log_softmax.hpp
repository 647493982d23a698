// SPDX-License-Identifier: MIT
// Logarithms of the softmax of rows: w(x) = exp(x / T), the sink a term among the others.
//
//   M    = max(m, sink)
//   L    = log(c + R): c elements equal to M, R = sum of exp((z_k - M) / T) over the others, and the sink's term
//   y_i  = (z_i - M) / T - L
#pragma once

#include <xsoftmax/detail/kernel/log_row.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// As log_row.hpp has it.
template <class A, class T>
class softmax_link {
public:
  using V = batch<A, T>;
  using I = batch<A, bits_t<T>>;

  XSOFTMAX_STEP explicit softmax_link(const log_softmax_task<T>& task)
      : task_(task), reduction_(math::make_reduction<A, T>(task.temperature)) {}

  XSOFTMAX_STEP bool is_one_hot() const { return task_.temperature == 0.0; }

  XSOFTMAX_STEP others_of_maximum<A, T> others(T m) const { return {reduction_, task_.temperature, m}; }

  XSOFTMAX_STEP log_denominator denominator(double m, double_pair rest, std::uint64_t count) const {
    return denominator_of_row<A>(task_.sink, task_.temperature)(m, rest, count);
  }

  template <class F>
  XSOFTMAX_STEP void with_step(const log_denominator& row, F&& f) const {
    if constexpr (sizeof(T) == 4) {
      if (task_.temperature >= 0x1p-900 && task_.temperature <= 0x1p900) [[likely]] {
        f(usual_log_probability<A>(row, task_.temperature));
        return;
      }
    }
    f(log_probability<A, T>(row, task_.temperature));
  }

  XSOFTMAX_STEP bool serves(T m) const { return Term::serves(reduction_, m); }

  template <std::size_t N>
  XSOFTMAX_STEP auto terms(const pack<V, N>& m) const {
    const auto term = map([&](V v) XSOFTMAX_STEP_LAMBDA { return Term(reduction_, v); }, m);
    return [m, term](const pack<V, N>& x, pack<I, N>& count) XSOFTMAX_STEP_LAMBDA {
      return make_pack<N>([&](auto b) XSOFTMAX_STEP_LAMBDA {
        constexpr std::size_t at = decltype(b)::value;
        return counted_apart<A>(term.v[at](x.v[at]), x.v[at], m.v[at], count.v[at]);
      });
    };
  }

  XSOFTMAX_STEP auto step_of_rows() const {
    using Step = std::conditional_t<sizeof(T) == 4, usual_log_probability<A>, log_probability<A, T>>;
    return Step(log_denominator{0.0, {0.0, 0.0}}, task_.temperature);
  }

private:
  using Term = term_below_maximum<A, T>;

  const log_softmax_task<T>& task_;
  math::reduction<A, T> reduction_;
};

template <class A, class T>
struct log_softmax {
  XSOFTMAX_FLATTEN static void run(const log_softmax_task<T>& task) noexcept {
    if (task.cols != 0) {
      log_rows<A, T, softmax_link<A, T>>::run(task, softmax_link<A, T>(task));
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

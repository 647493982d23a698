// SPDX-License-Identifier: MIT
// What cross_entropy asks of the link between logits and probabilities: probabilities and logarithms of a row, block by
// block.
#pragma once

#include <xsoftmax/detail/cross_entropy_task.hpp>
#include <xsoftmax/detail/kernel/log_softmax.hpp>
#include <xsoftmax/detail/kernel/log_stablemax.hpp>
#include <xsoftmax/detail/kernel/log_sum_exp.hpp>
#include <xsoftmax/detail/kernel/softmax_of_row.hpp>
#include <xsoftmax/detail/kernel/stablemax.hpp>
#include <xsoftmax/detail/kernel/stablemax_slope.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The logarithms of a row's probabilities by the kernel that gives all of them, which is asked for the sum once and
/// for its last pass as often as elements are wanted.
template <class A, class T, class Kernel, class Task>
class row_logarithms {
public:
  __attribute__((noinline)) XSOFTMAX_FLATTEN row_logarithms(const source& z, std::size_t n)
      : task_{log_softmax_task<T>{.z = z,
                                  .y = {},
                                  .rows = 1,
                                  .cols = n,
                                  .temperature = 1.0,
                                  .sink = -infinity<double>,
                                  .masked_row = masked_row_policy::nan}} {
    task_.summary = &summary_;
    task_.step = log_softmax_step::largest;
    Kernel::run(task_);
    if (summary_.largest - summary_.largest == 0) {
      task_.step = log_softmax_step::others;
      Kernel::run(task_);
    }
    task_.step = log_softmax_step::write;
  }

  row_logarithms(const row_logarithms&) = delete;
  row_logarithms& operator=(const row_logarithms&) = delete;

  /// Those of n elements of the row.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void write(const source& z, std::size_t n, T* y) const {
    Task task = task_;
    task.z = z;
    task.y = destination_at(y);
    task.cols = n;
    Kernel::run(task);
  }

  /// That of element y.
  XSOFTMAX_STEP T of_element(std::size_t y) const {
    T value;
    write(elements_from<T>(task_.z, 0, y), 1, &value);
    return value;
  }

  /// Is there a probability at all?
  XSOFTMAX_STEP bool exist() const { return !summary_.nan && summary_.largest - summary_.largest == 0; }

  XSOFTMAX_STEP T largest() const { return static_cast<T>(summary_.largest); }

  /// The probability of all elements but the largest, 1 - p, if there is one whose p is above 1/2; infinite otherwise.
  XSOFTMAX_STEP double below_dominating() const {
    const double rest = scaled(exact_sum(summary_.others), 0).high;
    return summary_.count == 1 && rest < 1.0 ? rest / (1.0 + rest) : infinity<double>;
  }

private:
  Task task_;
  log_softmax_summary summary_;
};

template <class A, class T>
class softmax_loss {
public:
  static constexpr bool has_slope = false;

  __attribute__((noinline)) XSOFTMAX_FLATTEN softmax_loss(const source& z, std::size_t n) {
    using task = log_sum_exp_state_task<T>;
    log_sum_exp_state<A, T>::run(task{.what = task::step::push_terms, .state = &whole_, .z = z, .cols = n});
  }

  /// Those of n elements of the row, at most a block.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void probabilities(const T* x, T* p, std::size_t n) const {
    softmax<A, T>::run(softmax_of_row<T>(source_at(x), destination_at(p), n, 1.0, &whole_));
  }

  using logarithms = row_logarithms<A, T, log_softmax<A, T>, log_softmax_task<T>>;

private:
  log_sum_exp_summary whole_;
};

template <class A, class T>
class stablemax_loss {
public:
  static constexpr bool has_slope = true;

  __attribute__((noinline)) XSOFTMAX_FLATTEN stablemax_loss(const source& z, std::size_t n) {
    const stablemax_task<T> task{
        .z = z, .p = {}, .rows = 1, .cols = n, .masked_row = masked_row_policy::nan, .store = store_kind::cached};
    using In = any_row<T, const void>;
    using Out = any_row<T, void>;
    state_ = stablemax_row<A, T, In, Out>(task, row_of<T>(z, 0), Out{}).state();
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void probabilities(const T* x, T* p, std::size_t n) const {
    state_.template with_step<A>([&](const auto& step) XSOFTMAX_STEP_LAMBDA {
      transform<A, T>(step, contiguous_row<const T>{x}, contiguous_row<T>{p}, n);
    });
  }

  using logarithms = row_logarithms<A, T, log_stablemax<A, T>, log_stablemax_task<T>>;

private:
  stablemax_state<T> state_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Targets of cross_entropy that are distributions, and what their loss needs:
//
//   q_i    = w_i ((1 - eps) t_i + [z_i > -inf] eps / C)     t_i given, or 1 at an index; C classes with z_i > -inf
//   loss   = sum of q_i (-log p_i)                          0 where q_i = 0, whatever p_i
//   W      = sum of q_i
//   dz_i   = W p_i - q_i                                    what a link with a slope divides by that
//   dz_m   = (sum of q_i over the others) - W R             where p_m > 1/2, R = 1 - p_m: nothing collapses
#pragma once

#include <xsoftmax/detail/kernel/loss_link.hpp>
#include <xsoftmax/detail/kernel/softmax_backward.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// How many of n elements, at most a block, are -inf.
template <class A, class T>
XSOFTMAX_STEP std::uint64_t count_masked(contiguous_row<const T> z, std::size_t n) {
  using I = batch<A, bits_t<T>>;
  I count(0);
  for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    count = native<A>::count_equal(load_chunk<A, T>(z, i, extent, T{}).v[0], batch<A, T>(-infinity<T>), count);
  });
  return add_counts<A, bits_t<T>>(count);
}

/// q of one row, block by block.
template <class A, class T>
class target_distribution {
public:
  /// `classes` are C; y is the index, where the task has no distributions.
  XSOFTMAX_STEP target_distribution(const cross_entropy_task<T>& task, std::size_t r, std::uint64_t classes,
                                    std::uint64_t y)
      : given_(row_of<T>(task.distributions, r)), weights_(task.weights), y_(y), indexed_(!task.has_distributions),
        keep_(static_cast<T>(1.0 - task.smoothing)), smoothed_(task.smoothing != 0),
        share_(classes == 0 ? T{} : static_cast<T>(task.smoothing / static_cast<double>(classes))) {}

  /// [first, last), at most a block, whose logits are x.
  __attribute__((noinline)) XSOFTMAX_FLATTEN contiguous_row<const T>
  block(contiguous_row<const T> x, std::size_t first, std::size_t last, block_buffer<T>& room) const {
    const std::size_t n = last - first;
    const contiguous_row<T> q{room.element};
    contiguous_row<const T> t{room.element};
    if (indexed_) {
      fill<A, T>(q, n, T{});
      if (y_ - first < n) {
        room.element[y_ - first] = T{1};
      }
    } else {
      t = {given_.template block<A>(first, last, room).data};
    }
    if (smoothed_) {
      for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
        store_chunk<A, false, T>(q, i, extent,
                                 map(
                                     [&](V given, V logit) XSOFTMAX_STEP_LAMBDA {
                                       const V share = N::zero_where_equal(logit, V(-infinity<T>), V(share_));
                                       return N::multiply_add(given, V(keep_), share);
                                     },
                                     load_chunk<A, T>(t, i, extent, T{}), load_chunk<A, T>(x, i, extent, T{})));
      });
      t = {room.element};
    }
    if (weights_.data != nullptr) {
      for (std::size_t i = 0; i < n; ++i) {
        room.element[i] = static_cast<T>(static_cast<double>(*t.at(i)) * weights_.get(first + i));
      }
      t = {room.element};
    }
    return t;
  }

private:
  using N = native<A>;
  using V = batch<A, T>;

  any_row<T, const void> given_;
  weight_row weights_;
  std::uint64_t y_;
  bool indexed_;
  T keep_;
  bool smoothed_;
  T share_;
};

/// The terms of sum q_k log p_k, as those of softmax's backward pass: exact products, none where q = 0.
template <class A, class T>
using loss_terms = softmax_gradient<A, T>;

/// The terms of sum q_k.
template <class A, class T>
struct weight_terms {
  static constexpr T masked = 0;

  template <std::size_t Size>
  static XSOFTMAX_STEP auto terms(const pack<batch<A, T>, Size>& q, const pack<batch<A, T>, Size>&) {
    return in_doubles<A>(q);
  }

  static XSOFTMAX_STEP double_pair term(T q, T) { return {static_cast<double>(q), 0.0}; }
};

/// The sums over a row, and with them its loss and its gradient.
template <class A, class T>
class distribution_loss {
public:
  /// A dominating element has the value `top`, and the others the probability `below` together; infinite: there is
  /// none.
  XSOFTMAX_STEP distribution_loss(T top, double below) : top_(top), below_(below) {}

  /// Elements [first, first + n), at most a block: logits, targets and logarithms. `room` is where q may lie.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void add(contiguous_row<const T> x, contiguous_row<const T> q,
                                                      contiguous_row<const T> logs, std::size_t first, std::size_t n,
                                                      block_buffer<T>& room) {
    add_block<A, T, loss_terms<A, T>>(minus_loss_, q, logs, n);
    if (dominated() && at_ == npos) {
      for (std::size_t i = 0; i < n; ++i) {
        if (*x.at(i) == top_) {
          at_ = first + i;
          q_top_ = *q.at(i);
          transform<A, T>([](batch<A, T> v) XSOFTMAX_STEP_LAMBDA { return v; }, q, contiguous_row<T>{room.element}, n);
          room.element[i] = T{};
          q = {room.element};
          break;
        }
      }
    }
    add_block<A, T, weight_terms<A, T>>(rest_, q, q, n);
  }

  /// After all blocks.
  XSOFTMAX_STEP void settle() {
    const double rest = rest_.value().high;
    whole_ = dominated() ? rest + static_cast<double>(q_top_) : rest;
    using D = batch<A, double>;
    top_gradient_ = static_cast<T>(native<A>::negative_multiply_add(D(whole_), D(below_), D(rest)).get(0));
    loss_ = 0.0 - minus_loss_.value().high; // not -0
    if (!(whole_ - whole_ == 0)) {
      invalidate();
    }
  }

  /// Everything is NaN.
  XSOFTMAX_STEP void invalidate() {
    whole_ = not_a_number<double>;
    top_gradient_ = not_a_number<T>;
    loss_ = not_a_number<double>;
  }

  XSOFTMAX_STEP double loss() const { return loss_; }

  /// p becomes W p - q, for the elements [first, first + n).
  __attribute__((noinline)) XSOFTMAX_FLATTEN void gradient(T* p, contiguous_row<const T> q, std::size_t first,
                                                           std::size_t n) const {
    using D = batch<A, double>;
    using V = batch<A, T>;
    const D whole(whole_);
    const auto difference = [&](D probability, D target) XSOFTMAX_STEP_LAMBDA {
      return native<A>::multiply_add(probability, whole, negated(target));
    };
    for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
      store_chunk<A, false, T>(contiguous_row<T>{p}, i, extent,
                               map(
                                   [&](V probability, V target) XSOFTMAX_STEP_LAMBDA {
                                     if constexpr (sizeof(T) == 4) {
                                       return in_double<A>(difference, probability, target);
                                     } else {
                                       return difference(probability, target);
                                     }
                                   },
                                   load_chunk<A, T>(contiguous_row<const T>{p}, i, extent, T{}),
                                   load_chunk<A, T>(q, i, extent, T{})));
    });
    if (at_ - first < n) {
      p[at_ - first] = top_gradient_;
    }
  }

private:
  XSOFTMAX_STEP bool dominated() const { return below_ < 1.0; }

  T top_;
  double below_;
  std::size_t at_ = npos;
  T q_top_{};
  T top_gradient_{};
  signed_sum minus_loss_;
  signed_sum rest_; ///< of q, but for the dominating element
  double whole_ = 0;
  double loss_ = 0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

// SPDX-License-Identifier: MIT
// Targets of cross_entropy that are distributions, and what their loss needs:
//
//   q_i    = w_i ((1 - eps) t_i + [z_i > -inf] eps / C)     t_i given, or 1 at an index; C classes with z_i > -inf
//   loss   = sum of q_i (-log p_i)                          0 where q_i = 0, whatever p_i
//   W      = sum of q_i
//          = sum of q_i (z_m - z_i) + W (-log p_m)          softmax, z_m the largest: one logarithm in a row
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

/// Of a block: sum of q_i (m - x_i), none where q = 0, and sum of q_i, but for x_i = out.
struct weighed_gaps {
  double_pair gaps;
  double_pair weights;
};

template <class A, class T>
__attribute__((noinline)) XSOFTMAX_FLATTEN weighed_gaps weigh_gaps(contiguous_row<const T> x, contiguous_row<const T> q,
                                                                   std::size_t n, T m, T out) {
  using V = batch<A, T>;
  using D = batch<A, double>;
  lane_sum<A, T> gaps;
  lane_sum<A, T> weights;
  const D largest(static_cast<double>(m));
  for_each_chunk<group_size<T>, group_size<T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
    const auto all = load_chunk<A, T>(q, i, extent, T{});
    const auto z = load_chunk<A, T>(x, i, extent, T{});
    const auto weight = in_doubles<A>(
        map([&](V w, V v) XSOFTMAX_STEP_LAMBDA { return native<A>::zero_where_equal(v, V(out), w); }, all, z));
    // Where there is no weight, something finite.
    const auto logit = in_doubles<A>(
        map([](V w, V v) XSOFTMAX_STEP_LAMBDA { return native<A>::zero_where_equal(w, V(T{}), v); }, all, z));
    gaps.add(map([&](D w, D v) XSOFTMAX_STEP_LAMBDA { return uncontracted(w * (largest - v)); }, weight, logit));
    weights.add(weight);
  });
  return {gaps.total(), weights.total()};
}

/// Where the sums of a row are added up.
struct row_rooms {
  signed_sum loss;
  signed_sum rest;
  signed_sum others;
};

/// The sums over a row, and with them its loss and its gradient.
template <class A, class T>
class distribution_loss {
public:
  /// A dominating element has the value `top`, and the others the probability `below` together; infinite: there is
  /// none.
  XSOFTMAX_STEP distribution_loss(row_rooms& rooms, T top, double below)
      : top_(top), below_(below), loss_sum_(rooms.loss), rest_(rooms.rest) {}

  /// The same for softmax: the largest element, at `at`, has the loss `loss_of_top`.
  XSOFTMAX_STEP distribution_loss(row_rooms& rooms, T top, double below, std::size_t at, double loss_of_top)
      : distribution_loss(rooms, top, below) {
    at_ = dominated() ? at : npos;
    loss_of_top_ = loss_of_top;
  }

  /// Elements [first, first + n), at most a block: logits, targets and logarithms. `room` is where q may lie.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void add(contiguous_row<const T> x, contiguous_row<const T> q,
                                                      contiguous_row<const T> logs, std::size_t first, std::size_t n,
                                                      block_buffer<T>& room) {
    loss_sum_.add(sum_of_block<loss_terms<A, T>>(q, logs, n));
    if (dominated() && at_ == npos) {
      for (std::size_t i = 0; i < n; ++i) {
        if (*x.at(i) == top_) {
          at_ = first + i;
          break;
        }
      }
    }
    take_top_out(q, first, n, room);
    rest_.add(sum_of_block<weight_terms<A, T>>(q, q, n));
  }

  /// The same for softmax, without logarithms.
  XSOFTMAX_STEP void add(contiguous_row<const T> x, contiguous_row<const T> q, std::size_t first, std::size_t n) {
    if (at_ - first < n) {
      q_top_ = *q.at(at_ - first);
    }
    const weighed_gaps block = weigh_gaps<A, T>(x, q, n, top_, dominated() ? top_ : not_a_number<T>);
    if (sizeof(T) == 4 || (is_finite(block.gaps) && is_finite(block.weights))) [[likely]] {
      loss_sum_.add(block.gaps);
      rest_.add(block.weights);
    } else {
      add_one_by_one(x, q, n);
    }
  }

  /// After all blocks.
  XSOFTMAX_STEP void settle() {
    settle_weights();
    loss_ = 0.0 - loss_sum_.value(); // not -0
    validate();
  }

  /// The same for softmax.
  XSOFTMAX_STEP void settle_gaps() {
    using D = batch<A, double>;
    settle_weights();
    loss_ = native<A>::multiply_add(D(whole_), D(loss_of_top_), D(loss_sum_.value())).get(0) + 0.0; // not -0
    validate();
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

  /// q without the dominating element, if that is among [first, first + n).
  XSOFTMAX_STEP void take_top_out(contiguous_row<const T>& q, std::size_t first, std::size_t n, block_buffer<T>& room) {
    if (at_ - first < n) {
      q_top_ = *q.at(at_ - first);
      transform<A, T>([](batch<A, T> v) XSOFTMAX_STEP_LAMBDA { return v; }, q, contiguous_row<T>{room.element}, n);
      room.element[at_ - first] = T{};
      q = {room.element};
    }
  }

  /// A block that holds infinities or NaN, or products that overflow.
  __attribute__((noinline, cold)) XSOFTMAX_FLATTEN void add_one_by_one(contiguous_row<const T> x,
                                                                       contiguous_row<const T> q, std::size_t n) {
    signed_sum gaps;
    signed_sum weights;
    for (std::size_t i = 0; i < n; ++i) {
      const auto w = static_cast<double>(*q.at(i));
      if (w != 0) {
        gaps.add({w * (static_cast<double>(top_) - static_cast<double>(*x.at(i))), 0.0});
        if (!dominated() || *x.at(i) != top_) {
          weights.add({w, 0.0});
        }
      }
    }
    loss_sum_.add(gaps.value());
    rest_.add(weights.value());
  }

  template <class Formula>
  static XSOFTMAX_STEP double_pair sum_of_block(contiguous_row<const T> x, contiguous_row<const T> y, std::size_t n) {
    signed_sum sum;
    add_block<A, T, Formula>(sum, x, y, n);
    return sum.value();
  }

  XSOFTMAX_STEP void settle_weights() {
    using D = batch<A, double>;
    const double rest = rest_.value();
    whole_ = dominated() ? rest + static_cast<double>(q_top_) : rest;
    top_gradient_ = static_cast<T>(native<A>::negative_multiply_add(D(whole_), D(below_), D(rest)).get(0));
  }

  XSOFTMAX_STEP void validate() {
    if (!(whole_ - whole_ == 0)) {
      invalidate();
    }
  }

  T top_;
  double below_;
  std::size_t at_ = npos; ///< of the dominating element
  double loss_of_top_ = 0;
  T q_top_{};
  T top_gradient_{};
  sum_of_blocks loss_sum_; ///< of its terms, negative; for softmax of the gaps
  sum_of_blocks rest_;     ///< of q, but for the dominating element
  double whole_ = 0;
  double loss_ = 0;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

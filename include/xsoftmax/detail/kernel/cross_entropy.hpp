// SPDX-License-Identifier: MIT
// The loss of each row and its gradient, from the probabilities p that softmax or StableMax gives, to the bit:
//
//   loss   = -log p_y                      where p_y <= 1/2
//          = -log(1 - R)                   above: R = sum of p_k over the others, so that nothing collapses
//   dz_y   = p_y - 1, or -R
//   dz_i   = p_i                           both times 1 / (1 + |z_i|) for StableMax
//
// A p_y so small that it underflows, or might, says nothing; then the loss is that of the logarithm itself.
//
// Targets that are distributions, or become them by smoothing: target_distribution.hpp.
#pragma once

#include <xsoftmax/detail/kernel/loss_link.hpp>
#include <xsoftmax/detail/kernel/target_distribution.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// The sum of probabilities of which one is left out, block by block.
template <class A, class T>
class sum_of_others {
public:
  /// The one is above 1/2: no other has this value.
  XSOFTMAX_STEP sum_of_others(T one, signed_sum& room) : one_(one), sum_(room) {}

  XSOFTMAX_STEP void add(const T* p, std::size_t n) {
    using V = batch<A, T>;
    const auto other = [one = V(one_)](V v) XSOFTMAX_STEP_LAMBDA {
      return native<A>::zero_where_equal(v, one, native<A>::max_keeping_nan(v, V(T{}))); // what is absent is -inf
    };
    sum_.add(add_terms<false, A, T>(other, contiguous_row<const T>{p}, contiguous_row<T>{nullptr}, n));
  }

  XSOFTMAX_STEP double value() const { return sum_.value(); }

private:
  T one_;
  sum_of_blocks sum_;
};

/// -log(1 - R) = log(1 + R / (1 - R))
template <class A>
XSOFTMAX_STEP batch<A, double> minus_log_of_complement(batch<A, double> rest) {
  using D = batch<A, double>;
  return math::log_of_sum<A>(D(1.0), rest / (D(1.0) - rest), D(0.0)).sum;
}

/// The loss, what the gradient of the target is, and R where p is above 1/2 (infinite elsewhere).
template <class T>
struct loss_of_row {
  double loss;
  T gradient;
  double rest;
};

/// Is p above 1/2? No other is then.
template <class T>
XSOFTMAX_INLINE bool is_dominating(T p) {
  return static_cast<double>(p) > 0.5;
}

/// Of such a p, from R and minus_log_of_complement(R). An R of which subnormal probabilities may lack a part that
/// counts says too little: log_probability() then gives R, too, since both agree to their squares.
template <class T, class Log>
XSOFTMAX_STEP loss_of_row<T> loss_of_dominating(double rest, double loss, Log&& log_probability) {
  if (rest < (sizeof(T) == 4 ? 0x1p-90 : 0x1p-900)) [[unlikely]] {
    rest = loss = 0.0 - static_cast<double>(log_probability()); // not -0
  }
  return {loss, static_cast<T>(-rest), rest};
}

/// Of any other. minus_log() is -log p, and only called where p says enough; log_probability() where it says nothing.
template <class T, class MinusLog, class Log>
XSOFTMAX_STEP loss_of_row<T> loss_of_probability(T p, MinusLog&& minus_log, Log&& log_probability) {
  const auto value = static_cast<double>(p);
  const T gradient = p - T{1};
  if (value >= 0x1p-100) {
    return {minus_log(), gradient, infinity<double>};
  }
  if (value != value) {
    return {value, gradient, infinity<double>};
  }
  return {-static_cast<double>(log_probability()), gradient, infinity<double>};
}

/// One row after the other.
template <class A, class T>
class cross_entropy_rows {
public:
  explicit cross_entropy_rows(const cross_entropy_task<T>& task)
      : task_(task), total_(task.total != nullptr ? *task.total : signed_sum_digits{}) {}

  void run() {
    const bool indices = is_of_indices();
    const bool batched = task_.link == loss_link::softmax && wants_gradient() && task_.cols != 0 &&
                         has_plain_rows<T>(task_.z, task_.cols) && has_plain_rows<T>(task_.dz, task_.cols) &&
                         task_.z.data != task_.dz.data &&
                         (!task_.has_distributions || task_.distributions.data != task_.dz.data);
    if (batched) {
      // As many rows at a time as stay in the first-level cache between softmax and what is left to do.
      constexpr std::size_t cached = 4096;
      const std::size_t most = task_.cols < cached ? cached / (task_.cols + 1) + 1 : 1;
      for (std::size_t r = 0; r < task_.rows; r += most) {
        stored_rows(r, task_.rows - r < most ? task_.rows - r : most);
      }
    } else {
      for (std::size_t r = 0; r < task_.rows; ++r) {
        if (task_.link == loss_link::softmax) {
          indices ? row<softmax_loss<A, T>>(r) : distribution_row<softmax_loss<A, T>>(r);
        } else {
          indices ? row<stablemax_loss<A, T>>(r) : distribution_row<stablemax_loss<A, T>>(r);
        }
      }
    }
    if (task_.total != nullptr) {
      *task_.total = total_.stored();
    }
  }

private:
  using V = batch<A, T>;
  using D = batch<A, double>;

  /// No target is a distribution.
  XSOFTMAX_STEP bool is_of_indices() const { return !task_.has_distributions && task_.smoothing == 0; }

  /// A class may be the one that is ignored.
  XSOFTMAX_STEP bool is_class(std::uint64_t y) const { return y < task_.cols && y != task_.ignored; }

  XSOFTMAX_STEP bool wants_gradient() const { return task_.dz.data != nullptr; }

  /// Rows whose logarithms are taken together, and whose losses are added up.
  static constexpr std::size_t loss_group = 64;

  /// Softmax of rows from z to dz, which then holds all there is to know.
  __attribute__((noinline)) XSOFTMAX_FLATTEN void stored_rows(std::size_t first, std::size_t rows) {
    softmax_task<T> forward =
        softmax_of_row<T>(rows_from<T>(task_.z, first), rows_from<T>(task_.dz, first), task_.cols, 1.0);
    forward.rows = rows;
    softmax<A, T>::run(forward);
    for (std::size_t r = first; r < first + rows; r += loss_group) {
      const std::size_t count = first + rows - r < loss_group ? first + rows - r : loss_group;
      is_of_indices() ? stored_group(r, count) : stored_distributions(r, count);
    }
  }

  /// The losses of one class in each of some rows whose probabilities are in dz, all logarithms at once. npos: of none.
  XSOFTMAX_STEP void stored_losses(std::size_t first, std::size_t rows, const std::size_t* classes,
                                   loss_of_row<T>* found) {
    alignas(64) double p_of[loss_group];
    alignas(64) double rest_of[loss_group]; // only where p dominates
    for (std::size_t i = 0; i < rows; ++i) {
      const T* const p = stored_row(first + i);
      const T p_y = classes[i] == npos ? T{} : p[classes[i]];
      p_of[i] = static_cast<double>(p_y);
      rest_of[i] = 0.0;
      if (is_dominating(p_y)) {
        sum_of_others<A, T> others(p_y, rooms_.others);
        for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA { others.add(p + from, to - from); });
        rest_of[i] = others.value();
      }
    }
    alignas(64) double minus_log_of[loss_group];
    alignas(64) double of_complement[loss_group];
    for_each_chunk<lanes<A, double>, lanes<A, double>>(0, rows, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
      const auto p = load_chunk<A, double>(contiguous_row<const double>{p_of}, i, extent, 1.0);
      const auto rest = load_chunk<A, double>(contiguous_row<const double>{rest_of}, i, extent, 0.0);
      store_chunk<A, false, double>(contiguous_row<double>{minus_log_of}, i, extent,
                                    map([](D v) XSOFTMAX_STEP_LAMBDA { return negated(math::log<A>(v)); }, p));
      store_chunk<A, false, double>(contiguous_row<double>{of_complement}, i, extent,
                                    map([](D v) XSOFTMAX_STEP_LAMBDA { return minus_log_of_complement<A>(v); }, rest));
    });
    for (std::size_t i = 0; i < rows; ++i) {
      if (classes[i] == npos) {
        continue;
      }
      const T p_y = stored_row(first + i)[classes[i]];
      const auto logarithm = [&]() XSOFTMAX_STEP_LAMBDA {
        return log_probability<softmax_loss<A, T>>(first + i, classes[i]);
      };
      if (is_dominating(p_y)) {
        found[i] = loss_of_dominating<T>(rest_of[i], of_complement[i], logarithm);
      } else {
        found[i] = loss_of_probability(
            p_y, [&]() XSOFTMAX_STEP_LAMBDA { return minus_log_of[i]; }, logarithm);
      }
    }
  }

  /// The losses of rows whose probabilities are in dz, and what is left to do for the gradient.
  XSOFTMAX_STEP void stored_group(std::size_t first, std::size_t rows) {
    std::size_t classes[loss_group];
    for (std::size_t i = 0; i < rows; ++i) {
      const std::uint64_t y = task_.targets.get(first + i);
      classes[i] = is_class(y) ? static_cast<std::size_t>(y) : npos;
    }
    loss_of_row<T> found[loss_group];
    stored_losses(first, rows, classes, found);
    double loss_of[loss_group];
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t r = first + i;
      const std::uint64_t y = task_.targets.get(r);
      if (!is_class(y)) {
        loss_of[i] = static_cast<double>(without_target(r, y));
        continue;
      }
      stored_row(r)[y] = found[i].gradient;
      loss_of[i] = found[i].loss * weight_of(y);
    }
    set_losses(first, rows, loss_of);
    // The factor, of as many elements at a time as have the same. It is finite: rows without a target stay 0 or NaN.
    if (task_.weights.data == nullptr && has_adjacent_rows()) {
      multiply(stored_row(first), rows * task_.cols, static_cast<T>(task_.scale));
      return;
    }
    for (std::size_t r = first; r < first + rows; ++r) {
      const std::uint64_t y = task_.targets.get(r);
      if (is_class(y)) {
        multiply(stored_row(r), task_.cols, static_cast<T>(weight_of(y) * task_.scale));
      }
    }
  }

  /// The same for targets that are distributions.
  XSOFTMAX_STEP void stored_distributions(std::size_t first, std::size_t rows) {
    std::size_t largest[loss_group];
    for (std::size_t i = 0; i < rows; ++i) {
      largest[i] = index_of_largest(plain_row_of<T>(task_.z, first + i));
    }
    loss_of_row<T> of_largest[loss_group];
    stored_losses(first, rows, largest, of_largest);
    double loss_of[loss_group];
    block_buffer<T> q_room;
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t r = first + i;
      if (!has_target(r)) {
        loss_of[i] = static_cast<double>(without_target(r, task_.targets.get(r)));
        continue;
      }
      const contiguous_row<const T> z{static_cast<const T*>(rows_from<T>(task_.z, r).data)};
      T* const p = stored_row(r);
      const target_distribution<A, T> target = target_of(r, plain_row_of<T>(task_.z, r));
      distribution_loss<A, T> loss = loss_by_largest(*z.at(largest[i]), largest[i], of_largest[i]);
      const auto targets_at = [&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        return target.block(z.from(static_cast<std::ptrdiff_t>(from)), from, to, q_room);
      };
      for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        loss.add(z.from(static_cast<std::ptrdiff_t>(from)), targets_at(from, to), from, to - from);
      });
      loss.settle_gaps();
      loss_of[i] = loss.loss();
      for_each_block([&](std::size_t from, std::size_t to)
                         XSOFTMAX_STEP_LAMBDA { loss.gradient(p + from, targets_at(from, to), from, to - from); });
    }
    set_losses(first, rows, loss_of);
    if (has_adjacent_rows()) {
      multiply(stored_row(first), rows * task_.cols, static_cast<T>(task_.scale));
      return;
    }
    for (std::size_t r = first; r < first + rows; ++r) {
      multiply(stored_row(r), task_.cols, static_cast<T>(task_.scale));
    }
  }

  /// Is there a distribution for row r?
  XSOFTMAX_STEP bool has_target(std::size_t r) const {
    return task_.has_distributions || is_class(task_.targets.get(r));
  }

  /// That of a row with these logits.
  template <class Row>
  XSOFTMAX_STEP target_distribution<A, T> target_of(std::size_t r, const Row& z) const {
    std::uint64_t classes = task_.cols;
    if (task_.smoothing != 0) {
      typename Row::buffer room;
      for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        classes -= count_masked<A, T>(z.template block<A>(from, to, room), to - from);
      });
    }
    return target_distribution<A, T>(task_, r, classes, task_.has_distributions ? 0 : task_.targets.get(r));
  }

  /// What there is to know of a row by its largest element m.
  XSOFTMAX_STEP distribution_loss<A, T> loss_by_largest(T z_m, std::size_t m, const loss_of_row<T>& of_m) {
    return {rooms_, z_m, of_m.rest, m, of_m.loss};
  }

  /// The first of the largest of a row's elements; 0 if all are NaN.
  template <class Row>
  __attribute__((noinline)) XSOFTMAX_FLATTEN std::size_t index_of_largest(const Row& z) {
    const T m = maximum<A, T>(z, 0, task_.cols);
    std::size_t found = npos;
    typename Row::buffer room;
    for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
      const contiguous_row<const T> x = found == npos ? z.template block<A>(from, to, room) : contiguous_row<const T>{};
      for (std::size_t i = 0; i < to - from && found == npos; i += lanes<A, T>) {
        const std::size_t count = to - from - i < lanes<A, T> ? to - from - i : lanes<A, T>;
        const V here = load_chunk<A, T>(x, i, partial_chunk<lanes<A, T>>{count}, not_a_number<T>).v[0];
        if (!native<A>::all_below(here, m)) {
          // 0 in the lanes that equal m, less their number: the largest is the first of them.
          const V other = native<A>::zero_where_equal(here, V(m), V(-infinity<T>));
          const T first = native<A>::largest_lane(other - lane_numbers());
          found = first == -infinity<T> ? npos : from + i + static_cast<std::size_t>(-first);
        }
      }
    });
    return found == npos ? 0 : found;
  }

  static XSOFTMAX_STEP V lane_numbers() {
    alignas(64) T number[lanes<A, T>];
    for (std::size_t l = 0; l < lanes<A, T>; ++l) {
      number[l] = static_cast<T>(l);
    }
    return native<A>::load(number);
  }

  XSOFTMAX_STEP T* stored_row(std::size_t r) const { return static_cast<T*>(rows_from<T>(task_.dz, r).data); }

  XSOFTMAX_STEP bool has_adjacent_rows() const {
    return task_.dz.row_stride == static_cast<std::ptrdiff_t>(task_.cols);
  }

  static XSOFTMAX_STEP void multiply(T* x, std::size_t n, T factor) {
    if (factor != T{1}) {
      transform<A, T>([=](V v) XSOFTMAX_STEP_LAMBDA { return v * V(factor); }, contiguous_row<const T>{x},
                      contiguous_row<T>{x}, n);
    }
  }

  template <class Loss>
  XSOFTMAX_STEP T log_probability(std::size_t r, std::size_t y) const {
    return typename Loss::logarithms(rows_from<T>(task_.z, r), task_.cols).of_element(y);
  }

  template <class Body>
  XSOFTMAX_STEP void for_each_block(Body&& body) const {
    for (std::size_t first = 0; first < task_.cols; first += block_size<T>) {
      body(first, task_.cols - first > block_size<T> ? first + block_size<T> : task_.cols);
    }
  }

  /// Probabilities block by block, in rooms of their own: z may be what is written.
  template <class Loss>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void row(std::size_t r) {
    const std::uint64_t y = task_.targets.get(r);
    if (!is_class(y)) {
      set_loss(r, static_cast<double>(without_target(r, y)));
      return;
    }
    const Loss link(rows_from<T>(task_.z, r), task_.cols);
    T p_y;
    const auto found = loss_of_class(link, r, y, p_y);
    set_loss(r, found.loss * weight_of(y));
    if (wants_gradient()) {
      write_gradient(link, r, static_cast<T>(weight_of(y) * task_.scale),
                     [&](contiguous_row<const T>, T* p, std::size_t from, std::size_t n) XSOFTMAX_STEP_LAMBDA {
                       if (y - from < n) {
                         p[y - from] = found.gradient;
                       }
                     });
    }
  }

  /// The loss of class y in row r, and its probability.
  template <class Loss>
  XSOFTMAX_STEP loss_of_row<T> loss_of_class(const Loss& link, std::size_t r, std::uint64_t y, T& p_y) {
    const any_row<T, const void> z = row_of<T>(task_.z, r);
    block_buffer<T> z_room;
    block_buffer<T> p_room;
    const T z_y = z.template element<A>(y);
    link.probabilities(&z_y, &p_y, 1);
    const auto logarithm = [&]() XSOFTMAX_STEP_LAMBDA { return log_probability<Loss>(r, y); };
    if (is_dominating(p_y)) {
      sum_of_others<A, T> others(p_y, rooms_.others);
      for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        link.probabilities(z.template block<A>(from, to, z_room).data, p_room.element, to - from);
        others.add(p_room.element, to - from);
      });
      const double rest = others.value();
      return loss_of_dominating<T>(rest, minus_log_of_complement<A>(D(rest)).get(0), logarithm);
    }
    return loss_of_probability(
        p_y, [&]() XSOFTMAX_STEP_LAMBDA { return -math::log<A>(D(static_cast<double>(p_y))).get(0); }, logarithm);
  }

  /// The same for a target that is a distribution.
  template <class Loss>
  __attribute__((noinline)) XSOFTMAX_FLATTEN void distribution_row(std::size_t r) {
    if (!has_target(r)) {
      set_loss(r, static_cast<double>(without_target(r, task_.targets.get(r))));
      return;
    }
    const source row = rows_from<T>(task_.z, r);
    const any_row<T, const void> z = row_of<T>(task_.z, r);
    block_buffer<T> q_room;
    const target_distribution<A, T> target = target_of(r, z);
    const distribution_loss<A, T> loss = loss_of_distribution<Loss>(r, target, q_room);
    set_loss(r, loss.loss());
    if (wants_gradient()) {
      write_gradient(Loss(row, task_.cols), r, static_cast<T>(task_.scale),
                     [&](contiguous_row<const T> x, T* p, std::size_t from, std::size_t n)
                         XSOFTMAX_STEP_LAMBDA { loss.gradient(p, target.block(x, from, from + n, q_room), from, n); });
    }
  }

  template <class Loss>
  XSOFTMAX_STEP distribution_loss<A, T> loss_of_distribution(std::size_t r, const target_distribution<A, T>& target,
                                                             block_buffer<T>& q_room) {
    const source row = rows_from<T>(task_.z, r);
    const any_row<T, const void> z = row_of<T>(task_.z, r);
    block_buffer<T> z_room;
    if constexpr (Loss::has_slope) {
      const typename Loss::logarithms logarithms(row, task_.cols);
      distribution_loss<A, T> loss(rooms_, logarithms.largest(), logarithms.below_dominating());
      for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        block_buffer<T> log_room;
        const auto x = z.template block<A>(from, to, z_room);
        logarithms.write(source_at(x.data), to - from, log_room.element);
        loss.add(x, target.block(x, from, to, q_room), {log_room.element}, from, to - from, q_room);
      });
      loss.settle();
      if (task_.cols != 0 && !logarithms.exist()) {
        loss.invalidate();
      }
      return loss;
    } else {
      if (task_.cols == 0) {
        return distribution_loss<A, T>(rooms_, T{}, infinity<double>);
      }
      const std::size_t m = index_of_largest(z);
      const T z_m = z.template element<A>(m);
      T p_m;
      const auto of_m = loss_of_class(Loss(row, task_.cols), r, m, p_m);
      distribution_loss<A, T> loss = loss_by_largest(z_m, m, of_m);
      for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        const auto x = z.template block<A>(from, to, z_room);
        loss.add(x, target.block(x, from, to, q_room), from, to - from);
      });
      loss.settle_gaps();
      return loss;
    }
  }

  /// dz, block by block: adjust(x, p, from, n) makes of n probabilities, from element `from` on, the gradient of a link
  /// without slope at the logits x.
  template <class Loss, class Adjust>
  XSOFTMAX_STEP void write_gradient(const Loss& link, std::size_t r, T factor, const Adjust& adjust) const {
    const V scale(factor);
    const any_row<T, const void> z = row_of<T>(task_.z, r);
    const any_row<T, void> dz = row_of<T>(task_.dz, r);
    block_buffer<T> z_room;
    block_buffer<T> p_room;
    block_buffer<T> room;
    for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
      const std::size_t n = to - from;
      const contiguous_row<const T> x = z.template block<A>(from, to, z_room);
      link.probabilities(x.data, p_room.element, n);
      adjust(x, p_room.element, from, n);
      const contiguous_row<T> target = dz.target(from, room);
      for_each_chunk<lanes<A, T>, lanes<A, T>>(0, n, [&](std::size_t i, auto extent) XSOFTMAX_STEP_LAMBDA {
        const auto p = load_chunk<A, T>(contiguous_row<const T>{p_room.element}, i, extent, T{});
        const auto logits = load_chunk<A, T>(x, i, extent, T{});
        store_chunk<A, false, T>(target, i, extent,
                                 map(
                                     [&](V v, V logit) XSOFTMAX_STEP_LAMBDA {
                                       if constexpr (Loss::has_slope) {
                                         return native<A>::divide(v * scale, inverse_slope<A>(logit));
                                       } else {
                                         return v * scale;
                                       }
                                     },
                                     p, logits));
      });
      dz.template commit<A>(from, to, room);
    });
  }

  /// The gradient of a row that is ignored, or whose target is none of its classes; returns the loss.
  __attribute__((noinline)) XSOFTMAX_FLATTEN T without_target(std::size_t r, std::uint64_t y) {
    const T value = y == task_.ignored ? T{} : not_a_number<T>;
    if (wants_gradient()) {
      const any_row<T, void> dz = row_of<T>(task_.dz, r);
      block_buffer<T> room;
      for_each_block([&](std::size_t from, std::size_t to) XSOFTMAX_STEP_LAMBDA {
        fill<A, T>(dz.target(from, room), to - from, value);
        dz.template commit<A>(from, to, room);
      });
    }
    return value;
  }

  XSOFTMAX_STEP double weight_of(std::uint64_t y) const { return task_.weights.get(static_cast<std::size_t>(y)); }

  XSOFTMAX_STEP void set_loss(std::size_t r, double loss) { set_losses(r, 1, &loss); }

  /// Of rows from r on, a group at most.
  XSOFTMAX_STEP void set_losses(std::size_t r, std::size_t rows, const double* loss) {
    if (task_.losses.data != nullptr) {
      const any_row<T, void> losses = row_of<T>(task_.losses, 0);
      block_buffer<T> room;
      T* const target = losses.target(r, room).at(0);
      for (std::size_t i = 0; i < rows; ++i) {
        target[i] = static_cast<T>(loss[i]);
      }
      losses.template commit<A>(r, r + rows, room);
    }
    if (task_.total == nullptr) {
      return;
    }
    double sum = 0.0;
    for (std::size_t i = 0; i < rows; ++i) {
      const auto rounded = static_cast<double>(static_cast<T>(loss[i]));
      if (adds_exactly(rounded)) {
        sum += rounded;
      } else {
        total_.add({rounded, 0.0});
      }
    }
    total_.add({sum, 0.0});
  }

  /// Is the sum of a group of such losses exact in double? Floats that are multiples of 2^-40 below 2^7 are.
  static XSOFTMAX_STEP bool adds_exactly(double rounded) {
    return sizeof(T) == sizeof(float) && rounded >= 0x1p-17 && rounded < 0x1p7;
  }

  const cross_entropy_task<T>& task_;
  signed_sum total_;
  row_rooms rooms_;
};

template <class A, class T>
struct cross_entropy {
  XSOFTMAX_FLATTEN static void run(const cross_entropy_task<T>& task) noexcept {
    signed_sum total;
    switch (task.step) {
    case cross_entropy_step::rows:
      cross_entropy_rows<A, T>(task).run();
      break;
    case cross_entropy_step::merge:
      total = signed_sum(*task.total);
      total.merge(signed_sum(*task.other));
      *task.total = total.stored();
      break;
    case cross_entropy_step::value:
      *task.result = static_cast<T>(signed_sum(*task.total).value().high / task.divisor);
      break;
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

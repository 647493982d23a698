// SPDX-License-Identifier: MIT
// Softplus attention: scaled cosines, softplus, normalised by their sum (LSSA), and re-weighted by a power of what is
// above their mean (LSSAR).
#pragma once

#include <xsoftmax/detail/kernel/attention.hpp>
#include <xsoftmax/detail/kernel/attention_steps.hpp>
#include <xsoftmax/math/log.hpp>
#include <xsoftmax/math/softplus.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// LSSA: u = softplus(s), out = sum u v / sum u.
template <class A, class T>
class softplus_weights : public link_state<A, T> {
public:
  using N = native<A>;
  using V = batch<A, T>;
  static constexpr std::size_t sweeps = 1;
  static constexpr bool changes_keys = true;
  static constexpr bool scales_weights = false;

  XSOFTMAX_STEP softplus_weights(const attention_task<T>& task, const attention_rows<A, T>& rows,
                                 const score_options<A, T>& options, T* state)
      : link_state<A, T>(task, rows, state), options_(options), factor_(task.scale) {}

  XSOFTMAX_STEP void begin_sweep(std::size_t) const {}

  XSOFTMAX_STEP void end_sweep(std::size_t) const {}

  XSOFTMAX_STEP void start_totals() const { this->fill(total_sum, T{}); }

  XSOFTMAX_STEP void begin_segment() const {
    this->fill(sum_scale, T{1});
    this->fill(sum, T{});
  }

  /// q / |q| * log d * log n
  XSOFTMAX_STEP void prepare_query(std::size_t r, T* q) {
    const auto& task = this->task_;
    if (task.depth == 0) {
      return;
    }
    if (task.scale != task.scale) {
      const std::size_t n = keys_seen(r);
      if (n != keys_of_factor_) { // or it is the factor of the query before
        factor_ = log_of(task.depth) * log_of(n == 0 ? 1 : n);
        keys_of_factor_ = n;
      }
    }
    normalise<A>(q, attention_room::padded(task.depth), factor_);
  }

  XSOFTMAX_STEP void prepare_keys(T* block, std::size_t count) const {
    normalise_keys<A>(block, this->task_.depth, count);
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void link_rows(std::size_t first, std::size_t rows, T* scores,
                                                            const key_bits* visible) const {
    T* const sums = this->array(sum) + first;
    this->for_batches_of_rows(rows, [&](std::size_t i, std::size_t count) XSOFTMAX_STEP_LAMBDA {
      this->add(sums + i, sums_of_blocks<A, T>(count, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA {
                  T* const score = scores + (i + l) * key_block;
                  const auto u = softplus_of(score, visible[i + l]);
                  store_block<A>(score, u);
                  return u;
                }));
    });
  }

  XSOFTMAX_STEP const T* scales(std::size_t r) const { return this->array(sum_scale) + r; }

  XSOFTMAX_STEP void end_segment(const T* sums, std::size_t stride, T* totals, const T* state) const {
    for (std::size_t r = 0; r < this->rows_.count(); ++r) {
      this->array(total_sum)[r] += state[sum * this->padded_ + r];
      if (sums != nullptr) {
        this->merge_values(r, sums, stride, totals, T{1}, T{1});
      }
    }
  }

  XSOFTMAX_STEP T finish(std::size_t r) const {
    const T total = this->array(total_sum)[r];
    if (this->task_.query_number.data != nullptr) {
      this->write_numbers(r, &total);
    }
    return total == 0 ? T{} : T{1} / total;
  }

protected:
  enum : std::size_t { sum_scale, sum, total_sum, largest_term, mean_high, mean_low, inverse_largest };

  XSOFTMAX_STEP block_pack<A, T> softplus_of(const T* score, key_bits visible) const {
    const auto u = map([](V s) XSOFTMAX_STEP_LAMBDA { return math::softplus<A, T>(s); }, load_block<A, T>(score));
    return visible == all_keys ? u : only_visible<A>(u, visible, T{});
  }

  /// How many keys row r sees.
  XSOFTMAX_STEP std::size_t keys_seen(std::size_t r) const { return visible_keys(this->rows_, options_, r); }

private:
  static XSOFTMAX_STEP double log_of(std::size_t n) {
    return math::log<A>(batch<A, double>(static_cast<double>(n))).get(0);
  }

  const score_options<A, T>& options_;
  double factor_;
  std::size_t keys_of_factor_ = ~std::size_t{0};
};

/// LSSAR, in two sweeps: sum and maximum of u; then weights c = (r / max r)^p with r = max(u - o mean, 0), the offset o
/// being 0 where there are at most 3 keys and 1 elsewhere.
template <class A, class T>
class reweighted_weights : public softplus_weights<A, T> {
public:
  using Base = softplus_weights<A, T>;
  using N = native<A>;
  using V = batch<A, T>;
  static constexpr std::size_t sweeps = 2;

  XSOFTMAX_STEP reweighted_weights(const attention_task<T>& task, const attention_rows<A, T>& rows,
                                   const score_options<A, T>& options, T* state)
      : Base(task, rows, options, state), power_of_(task.reweight_power), keeps_terms_(task.keeps_terms) {
    this->fill(Base::largest_term, T{});
  }

  XSOFTMAX_STEP void begin_sweep(std::size_t sweep) { second_ = sweep == 1; }

  XSOFTMAX_STEP void end_sweep(std::size_t sweep) const {
    if (sweep == 0) {
      for (std::size_t r = 0; r < this->rows_.count(); ++r) {
        set_offset(r);
      }
    }
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void link_rows(std::size_t first, std::size_t rows, T* scores,
                                                            key_bits* visible) const {
    T* const sums = this->array(Base::sum) + first;
    T* const largest = this->array(Base::largest_term) + first;
    this->for_batches_of_rows(rows, [&](std::size_t i, std::size_t count) XSOFTMAX_STEP_LAMBDA {
      if (second_) {
        this->add(sums + i, sums_of_blocks<A, T>(count, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA {
                    return weights_of_row(first + i + l, scores + (i + l) * key_block, visible[i + l]);
                  }));
        return;
      }
      this->add(sums + i, sums_of_blocks<A, T>(count, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA {
                  T* const score = scores + (i + l) * key_block;
                  const auto u = this->softplus_of(score, visible[i + l]);
                  store_block<A>(score, u);
                  return u;
                }));
      const V here = largest_of_blocks<A, T>(
          count, [&](std::size_t l) XSOFTMAX_STEP_LAMBDA { return load_block<A, T>(scores + (i + l) * key_block); });
      N::store(largest + i, N::max_dropping_nan(here, N::template load<T>(largest + i)));
    });
  }

private:
  /// Scores, or terms where they were kept, become weights; `visible` keeps the keys that have one.
  XSOFTMAX_STEP block_pack<A, T> weights_of_row(std::size_t r, T* score, key_bits& visible) const {
    const auto u = keeps_terms_ ? load_block<A, T>(score) : this->softplus_of(score, visible);
    const T inverse = this->array(Base::inverse_largest)[r];
    if (inverse == 0) { // a uniform row: B = A
      store_block<A>(score, u);
      return u;
    }
    const V high(this->array(Base::mean_high)[r]);
    const V low(this->array(Base::mean_low)[r]);
    auto c =
        map([&](V v)
                XSOFTMAX_STEP_LAMBDA { return power_of_(N::max_keeping_nan(((v - high) - low) * V(inverse), V(T{}))); },
            u);
    if (visible != all_keys) {
      c = only_visible<A>(c, visible, T{});
    }
    store_block<A>(score, c);
    key_bits without = 0;
    unroll<block_pack<A, T>::size>([&](auto n) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t i = decltype(n)::value;
      without |= key_bits{N::equal_bits(c.v[i], V(T{}))} << (i * lanes<A, T>);
    });
    visible &= ~without;
    return c;
  }

  /// mean = S / n, and the reciprocal of what the largest is above it.
  XSOFTMAX_STEP void set_offset(std::size_t r) const {
    const double largest = static_cast<double>(this->array(Base::largest_term)[r]);
    const std::size_t n = this->keys_seen(r);
    double mean = 0.0;
    if (n > 3) {
      mean = static_cast<double>(this->array(Base::total_sum)[r]) / static_cast<double>(n);
      constexpr double uniform = sizeof(T) == sizeof(float) ? 1e-6 : 1e-14;
      if (largest <= mean + uncontracted(batch<A, double>(uniform) * batch<A, double>(mean)).get(0)) {
        this->array(Base::inverse_largest)[r] = 0;
        return;
      }
    }
    const T high = static_cast<T>(mean);
    this->array(Base::mean_high)[r] = high;
    this->array(Base::mean_low)[r] = static_cast<T>(mean - static_cast<double>(high));
    this->array(Base::inverse_largest)[r] = largest == 0 ? T{} : static_cast<T>(1.0 / (largest - mean));
  }

  power_of_excess<A, T> power_of_;
  bool keeps_terms_;
  bool second_ = false;
};

template <class A, class T>
struct softplus_attention {
  static void run(const softplus_attention_task<T>& task) noexcept {
    if (task.reweight_power == 0) {
      run_attention_units<A, T, softplus_weights<A, T>>(task);
    } else {
      run_attention_units<A, T, reweighted_weights<A, T>>(task);
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

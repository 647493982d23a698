// SPDX-License-Identifier: MIT
// StableMax down the columns of a row-major matrix, a strip of them at a time: the passes of kernel/stablemax.hpp with
// a row to each lane, hence the same bits.
#pragma once

#include <xsoftmax/detail/kernel/columns.hpp>
#include <xsoftmax/detail/kernel/stablemax_term.hpp>
#include <xsoftmax/detail/stablemax_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// A strip of columns.
template <class A, class T, class In, class Out>
class stablemax_strip {
public:
  XSOFTMAX_STEP stablemax_strip(const stablemax_task<T>& task, In z, Out p, std::size_t rows)
      : cols_(task.cols), z_(matrix_of<T>(z, task.z, task.rows, task.cols)),
        p_(matrix_of<T>(p, task.p, task.rows, task.cols)), rows_(rows) {}

  /// False, with nothing written, if the usual unit does not serve one of the rows.
  __attribute__((noinline)) XSOFTMAX_FLATTEN bool run() {
    const bool served = cols_ <= block_size<T> ? only_block() : blocks();
    if (served) {
      write();
    }
    return served;
  }

private:
  using V = batch<A, T>;
  using Term = stablemax_term<A, T>;
  using Units = stablemax_units<T>;

  // Out of line: the lanes of a strip take much of the stack that is needed.

  __attribute__((noinline)) XSOFTMAX_FLATTEN bool only_block() {
    column_sum<A, T> block;
    sum_block(block, 0, cols_);
    bool served = true;
    for (std::size_t r = 0; r < rows_; ++r) {
      served = finish(r, block.total(r)) && served;
    }
    return served;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN bool blocks() {
    column_sum<A, T> block;
    exact_sum all[strip_rows<T>];
    for (std::size_t first = 0; first < cols_; first += block_size<T>) {
      sum_block(block, first, cols_ - first > block_size<T> ? first + block_size<T> : cols_);
      for (std::size_t r = 0; r < rows_; ++r) {
        const double_pair v = block.total(r);
        if (!Units::may_add(v)) {
          return false;
        }
        all[r].add(v, 0);
      }
    }
    bool served = true;
    for (std::size_t r = 0; r < rows_; ++r) {
      served = !all[r].empty() && finish(r, all[r].value(0)) && served;
    }
    return served;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void sum_block(column_sum<A, T>& block, std::size_t first,
                                                            std::size_t last) const {
    const Term term(Units::usual);
    block.sum(first, last, rows_, [&](const strip_visit& visit, auto extent, auto&& add) XSOFTMAX_STEP_LAMBDA {
      auto z = z_.template over<A, T>(visit);
      add([&]() XSOFTMAX_STEP_LAMBDA {
        const auto e = map(term, z.read(extent, -infinity<T>));
        if constexpr (sizeof(T) == sizeof(float)) {
          return widened<A>(e);
        } else {
          return e;
        }
      });
    });
  }

  XSOFTMAX_STEP bool finish(std::size_t r, double_pair sum) {
    if (!Units::serves(sum)) {
      return false;
    }
    const reciprocal<T> inverse = normaliser<A, T>::reciprocal_of(sum);
    high_[r] = inverse.high;
    low_[r] = inverse.low;
    return true;
  }

  __attribute__((noinline)) XSOFTMAX_FLATTEN void write() const {
    const Term term(Units::usual);
    walk_strip<A, T>(0, cols_, rows_, [&](const strip_visit& visit, auto extent, auto&& each) XSOFTMAX_STEP_LAMBDA {
      constexpr std::size_t padded = decltype(extent)::padded;
      const auto high = known<A, padded>(high_, visit.r);
      const auto low = known<A, padded>(low_, visit.r);
      auto z = z_.template over<A, T>(visit);
      auto p = p_.template over<A, T>(visit);
      each([&]() XSOFTMAX_STEP_LAMBDA {
        p.write(extent, map([&](V x, V h, V l) XSOFTMAX_STEP_LAMBDA { return normaliser<A, T>(h, l)(term(x)); },
                            z.read(extent, -infinity<T>), high, low));
      });
    });
  }

  std::size_t cols_;
  strip_matrix<In> z_;
  strip_matrix<Out> p_;
  std::size_t rows_;
  alignas(64) T high_[strip_rows<T>] = {};
  alignas(64) T low_[strip_rows<T>] = {};
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

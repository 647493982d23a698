// SPDX-License-Identifier: MIT
// Steps that the forward and the backward of a kind of attention share.
#pragma once

#include <xsoftmax/detail/kernel/attention_heads.hpp>
#include <xsoftmax/detail/kernel/attention_mask.hpp>
#include <xsoftmax/math/log.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel {

/// What sigmoid attention adds to the scores of entry b, by default -log of its number of keys.
template <class A, class T>
XSOFTMAX_STEP T sigmoid_bias(const attention_task<T>& task, std::size_t b) {
  if (task.bias == task.bias) {
    return static_cast<T>(task.bias);
  }
  const std::size_t keys = keys_of_entry<A>(task.key_lengths, b, task.kv_len);
  return keys == 0 ? T{} : static_cast<T>(-math::log<A>(batch<A, double>(static_cast<double>(keys))).get(0));
}

/// x^power for x in [0, 1]; 0 of 0, whatever the power.
template <class A, class T>
class power_of_excess {
public:
  using N = native<A>;
  using V = batch<A, T>;

  XSOFTMAX_STEP explicit power_of_excess(double power)
      : power_(power), whole_(power >= 1 && power <= 1024 && power == static_cast<double>(static_cast<unsigned>(power))
                                  ? static_cast<unsigned>(power)
                                  : 0) {}

  XSOFTMAX_STEP V operator()(V x) const {
    if (whole_ == 0) { // of numbers above 0; NaN stays
      return N::where_equal(x, V(T{}), x, N::where_equal(x, x, any_power(x), x));
    }
    V square = x;
    unsigned left = whole_;
    while ((left & 1) == 0) {
      square = square * square;
      left >>= 1;
    }
    V result = square;
    for (left >>= 1; left != 0; left >>= 1) {
      square = square * square;
      if ((left & 1) != 0) {
        result = result * square;
      }
    }
    return result;
  }

private:
  __attribute__((noinline)) XSOFTMAX_FLATTEN V any_power(V x) const {
    using D = batch<A, double>;
    return through_double<A, T>(
        x, [&](D v) XSOFTMAX_STEP_LAMBDA { return math::exp<A, double>(math::log<A>(v) * D(power_)); });
  }

  double power_;
  unsigned whole_;
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail::kernel

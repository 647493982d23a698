// SPDX-License-Identifier: MIT
// The gradients of softmax and log_softmax from their formulas, far more precise than the library, and the bounds that
// the library promises.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels_once.hpp"
#include "layouts.hpp"
#include "reference.hpp"
#include "rows.hpp"
#include "softmax_checks.hpp"
#include "types.hpp"
#include "ulp.hpp"

namespace xsoftmax::test {

/// Of which forward pass.
struct of_softmax {
  static constexpr const char* name = "softmax_backward";

  /// p of an element without weight.
  template <class T>
  static constexpr T masked = T{};

  template <class T>
  static T forward(long double probability) {
    return static_cast<T>(probability);
  }

  template <class Arch, class... Arguments>
  static void run(Arguments&&... arguments) {
    softmax_backward<Arch>(std::forward<Arguments>(arguments)...);
  }
};

struct of_log_softmax {
  static constexpr const char* name = "log_softmax_backward";

  template <class T>
  static constexpr T masked = -std::numeric_limits<T>::infinity();

  template <class T>
  static T forward(long double probability) {
    return static_cast<T>(std::log(probability));
  }

  template <class Arch, class... Arguments>
  static void run(Arguments&&... arguments) {
    log_softmax_backward<Arch>(std::forward<Arguments>(arguments)...);
  }
};

/// Architecture, element type and forward pass.
template <class Subject, class Of>
struct backward_subject : Subject {
  using of = Of;
};

namespace type_lists {

template <class... Subjects>
std::tuple<backward_subject<Subjects, of_softmax>..., backward_subject<Subjects, of_log_softmax>...>
    with_backward(std::tuple<Subjects...>);

} // namespace type_lists

using backward_subjects = decltype(type_lists::with_backward(subjects{}));

/// The results of the forward pass on the logits z, to the nearest.
template <class Of, class T>
std::vector<T> forward(const std::vector<T>& z) {
  const reference_softmax<T> exact(z.data(), z.size());
  std::vector<T> y(z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    y[i] = std::isinf(z[i]) ? Of::template masked<T> : Of::template forward<T>(exact.probability(i));
  }
  return y;
}

enum class gradient_kind {
  normal,     ///< mean 0, variance 1
  huge,       ///< normal, near the end of the range
  small,      ///< normal, where the products are far below the range of float
  one_hot,    ///< 1 at one element, 0 elsewhere: the gradient of one probability
  equal,      ///< one value: the exact result is 0 for softmax, if p adds up to 1
  near_equal, ///< nearly one value: dp - S cancels
  opposite,   ///< large terms of alternating sign: S cancels
};

inline constexpr gradient_kind gradient_kinds[] = {
    gradient_kind::normal, gradient_kind::huge,       gradient_kind::small,   gradient_kind::one_hot,
    gradient_kind::equal,  gradient_kind::near_equal, gradient_kind::opposite};

template <class T>
std::vector<T> make_gradient(gradient_kind kind, std::size_t n, std::uint64_t seed) {
  generator random(seed * 7919 + n * 3 + static_cast<std::uint64_t>(kind));
  const double end = std::is_same_v<T, float> ? 1e37 : 1e306;
  const double tiny = std::is_same_v<T, float> ? 1e-30 : 1e-250;
  std::vector<T> dy(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double x = random.normal();
    switch (kind) {
    case gradient_kind::normal:
      dy[i] = static_cast<T>(x);
      break;
    case gradient_kind::huge:
      dy[i] = static_cast<T>(x * end);
      break;
    case gradient_kind::small:
      dy[i] = static_cast<T>(x * tiny);
      break;
    case gradient_kind::one_hot:
      dy[i] = i == n / 2 ? T(1) : T(0);
      break;
    case gradient_kind::equal:
      dy[i] = T(0.7);
      break;
    case gradient_kind::near_equal:
      dy[i] = static_cast<T>(0.7 + x * 1e-6);
      break;
    case gradient_kind::opposite:
      dy[i] = static_cast<T>((i % 2 == 0 ? 1e6 : -1e6) + x);
      break;
    }
  }
  return dy;
}

/// The exact gradient, and how far from it a result may be.
template <class Of, class T>
class reference_backward {
public:
  static constexpr bool single = std::is_same_v<T, float>;
  static constexpr bool logarithmic = std::is_same_v<Of, of_log_softmax>;

  reference_backward(const std::vector<T>& y, const std::vector<T>& dy, double temperature)
      : y_(y), dy_(dy), temperature_(temperature) {
    wide::accumulator sum;
    wide::accumulator magnitude;
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (y[i] == Of::template masked<T>) {
        continue;
      }
      const long double factor = logarithmic ? 1 : y[i];
      const long double product = factor * dy[i];
      sum.add(product);
      sum.add(std::fma(factor, static_cast<long double>(dy[i]), -product));
      magnitude.add(std::fabs(product));
    }
    sum_ = sum.parts();
    magnitude_ = magnitude.value();
  }

  [[nodiscard]] long double value(std::size_t i) const {
    if (y_[i] == Of::template masked<T> || temperature_ == 0) {
      return 0;
    }
    const auto dy = static_cast<long double>(dy_[i]);
    if constexpr (logarithmic) {
      return std::fma(-weight(i), sum_.high, dy) / temperature_;
    } else {
      const wide::pair difference = wide::sum(dy, -sum_.high);
      return y_[i] * (difference.high + (difference.low - sum_.low)) / temperature_;
    }
  }

  /// What the docstrings allow beside the ULP: what the rounding errors of the sum (and the exponential) leave, where
  /// dy and the sum cancel, and where numbers inside the formula are subnormal.
  [[nodiscard]] long double allowance(std::size_t i) const {
    const long double scale = weight(i) / temperature_;
    const long double unit = single ? 0x1p-45L : 0x1p-89L;
    const long double exponential = logarithmic && !single ? 0x1p-51L * std::fabs(sum_.high) : 0.0L;
    // Products, an exponential or p / T below the range of double.
    constexpr long double smallest = std::numeric_limits<double>::denorm_min();
    long double lost = smallest * static_cast<long double>(y_.size()) * scale;
    if constexpr (logarithmic) {
      lost += smallest * std::fabs(sum_.high) / temperature_;
    } else if constexpr (!single) {
      lost += smallest * std::fabs(dy_[i] - sum_.high);
    }
    return scale * (unit * magnitude_ + exponential) + lost;
  }

  /// A rounding each: in float that of the result; in double of dp - S, of its product with p, of the quotient by T.
  [[nodiscard]] double ulp() const { return single ? 0.51 : (logarithmic ? 1 : 2) + (temperature_ == 1 ? 0 : 1); }

private:
  [[nodiscard]] long double weight(std::size_t i) const {
    return logarithmic ? std::exp(static_cast<long double>(y_[i])) : static_cast<long double>(std::fabs(y_[i]));
  }

  const std::vector<T>& y_;
  const std::vector<T>& dy_;
  long double temperature_;
  wide::pair sum_ = {};
  long double magnitude_ = 0;
};

template <class Arch, class Of, class T>
std::vector<T> gradient(const std::vector<T>& y, const std::vector<T>& dy, double temperature = 1) {
  std::vector<T> dz(y.size(), T(-7));
  Of::template run<Arch>(y, dy, dz, softmax_backward_options{.temperature = temperature});
  return dz;
}

template <class T>
std::string describe_gradient(const std::vector<T>& y, const std::vector<T>& dy, double temperature) {
  return describe(y, {.temperature = temperature}) + "; dy = " + (dy.empty() ? "" : exact_text(dy[0])) + " ...";
}

/// Each element within the bound, and masked ones exactly +0. Returns the largest error beyond the allowance in ULP.
template <class Of, class T>
double expect_right_gradient(findings& found, const std::vector<T>& y, const std::vector<T>& dy, double temperature,
                             const std::vector<T>& dz, const std::string& what) {
  const reference_backward<Of, T> exact(y, dy, temperature);
  double largest = 0;
  std::size_t where = 0;
  bool masked_is_zero = true;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const long double value = exact.value(i);
    double error = ulp_distance(dz[i], value);
    if (temperature == 0 || y[i] == Of::template masked<T>) {
      masked_is_zero = masked_is_zero && bits(dz[i]) == 0;
    } else {
      error = std::fmax(0.0, error - static_cast<double>(exact.allowance(i) / unit_in_last_place<T>(value)));
    }
    if (error > largest || !(error <= largest)) {
      largest = error;
      where = i;
    }
  }
  found.expect(largest <= exact.ulp(), [&] {
    return what + ": element " + std::to_string(where) + " is " + exact_text(dz[where]) + ", off by " +
           std::to_string(largest) + " ULP from " + exact_text(exact.value(where)) +
           "; y, dy there = " + exact_text(y[where]) + ", " + exact_text(dy[where]) + "; " +
           describe_gradient(y, dy, temperature);
  });
  found.expect(masked_is_zero, [&] { return what + ": a masked element's gradient is not +0"; });
  return largest;
}

} // namespace xsoftmax::test

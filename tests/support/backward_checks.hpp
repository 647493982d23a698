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
std::vector<T> forward(const std::vector<T>& z);

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
std::vector<T> make_gradient(gradient_kind kind, std::size_t n, std::uint64_t seed);

/// The exact gradient, and how far from it a result may be.
template <class Of, class T>
class reference_backward {
public:
  static constexpr bool single = std::is_same_v<T, float>;
  static constexpr bool logarithmic = std::is_same_v<Of, of_log_softmax>;

  reference_backward(const std::vector<T>& y, const std::vector<T>& dy, double temperature);

  [[nodiscard]] long double value(std::size_t i) const;

  /// What the docstrings allow beside the ULP: what the rounding errors of the sum (and the exponential) leave, where
  /// dy and the sum cancel, and where numbers inside the formula are subnormal.
  [[nodiscard]] long double allowance(std::size_t i) const;

  /// A rounding each: in float that of the result; in double of dp - S, of its product with p, of the quotient by T.
  [[nodiscard]] double ulp() const { return single ? 0.51 : (logarithmic ? 1 : 2) + (temperature_ == 1 ? 0 : 1); }

private:
  [[nodiscard]] long double weight(std::size_t i) const;

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
std::string describe_gradient(const std::vector<T>& y, const std::vector<T>& dy, double temperature);

/// Each element within the bound, and masked ones exactly +0. Returns the largest error beyond the allowance in ULP.
template <class Of, class T>
double expect_right_gradient(findings& found, const std::vector<T>& y, const std::vector<T>& dy, double temperature,
                             const std::vector<T>& dz, const std::string& what);

} // namespace xsoftmax::test

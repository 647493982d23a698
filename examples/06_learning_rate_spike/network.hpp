// SPDX-License-Identifier: MIT
// A network small enough for a second of training: values, gradients, and slopes along a direction.
#pragma once

#include "digits.hpp"

#include <cmath>
#include <random>
#include <type_traits>

namespace spike {

inline constexpr Eigen::Index hidden_units = 128;

/// All weights and biases in one vector, as the length and the direction of a step are those of all together.
using parameters = Eigen::VectorXf;

/// The parts of such a vector. T is float or const float.
template <class T>
struct layers {
  template <class Array>
  using map = Eigen::Map<std::conditional_t<std::is_const_v<T>, const Array, Array>>;

  map<matrix> hidden;
  map<Eigen::RowVectorXf> hidden_bias;
  map<matrix> out;
  map<Eigen::RowVectorXf> out_bias;

  static constexpr Eigen::Index hidden_size = pixels * hidden_units, out_size = hidden_units * classes;
  static constexpr Eigen::Index size = hidden_size + hidden_units + out_size + classes;

  explicit layers(T* p)
      : hidden(p, pixels, hidden_units), hidden_bias(p + hidden_size, hidden_units),
        out(p + hidden_size + hidden_units, hidden_units, classes),
        out_bias(p + hidden_size + hidden_units + out_size, classes) {}
};

inline layers<const float> parts(const parameters& p) {
  return layers<const float>(p.data());
}
inline layers<float> parts(parameters& p) {
  return layers<float>(p.data());
}

/// As PyTorch initialises linear layers: weights and biases uniform in +-1 / sqrt(inputs).
inline parameters initial_parameters(std::mt19937_64& random) {
  parameters p(layers<float>::size);
  for (Eigen::Index i = 0; i < p.size(); ++i) {
    const bool of_hidden = i < layers<float>::hidden_size + hidden_units;
    const double bound = 1 / std::sqrt(static_cast<double>(of_hidden ? pixels : hidden_units));
    p(i) = static_cast<float>(uniform(random, -bound, bound));
  }
  return p;
}

/// What a batch leaves in each layer.
struct activations {
  matrix hidden, logits;
};

inline void forward(const parameters& p, const matrix& images, activations& x) {
  const auto w = parts(p);
  x.hidden.noalias() = images * w.hidden;
  x.hidden.rowwise() += w.hidden_bias;
  x.hidden = x.hidden.cwiseMax(0.0f);
  x.logits.noalias() = x.hidden * w.out;
  x.logits.rowwise() += w.out_bias;
}

/// From the gradient by the logits, by.logits, to that by the parameters.
inline void backward(const parameters& p, const matrix& images, const activations& x, activations& by,
                     parameters& gradient) {
  const auto w = parts(p);
  gradient.resize(p.size());
  auto g = parts(gradient);
  g.out.noalias() = x.hidden.transpose() * by.logits;
  g.out_bias = by.logits.colwise().sum();
  by.hidden.noalias() = by.logits * w.out.transpose();
  by.hidden = (x.hidden.array() > 0).select(by.hidden, 0.0f);
  g.hidden.noalias() = images.transpose() * by.hidden;
  g.hidden_bias = by.hidden.colwise().sum();
}

/// d logits / d t as the parameters move along the direction: forward mode, the product rule layer by layer. Exact but
/// for rounding, and for the cost of two more evaluations. `along` holds the slopes of both layers.
inline void slopes(const parameters& p, const parameters& direction, const matrix& images, const activations& x,
                   activations& along) {
  const auto w = parts(p);
  const auto d = parts(direction);
  along.hidden.noalias() = images * d.hidden;
  along.hidden.rowwise() += d.hidden_bias;
  along.hidden = (x.hidden.array() > 0).select(along.hidden, 0.0f);
  along.logits.noalias() = along.hidden * w.out;
  along.logits.noalias() += x.hidden * d.out;
  along.logits.rowwise() += d.out_bias;
}

/// Adam's direction: the step is that, times the learning rate.
class adam {
public:
  const parameters& direction(const parameters& gradient) {
    constexpr float beta1 = 0.9f;
    constexpr float beta2 = 0.999f;
    constexpr float epsilon = 1e-8f;
    if (steps_++ == 0) {
      first_ = second_ = parameters::Zero(gradient.size());
    }
    first_ = beta1 * first_ + (1 - beta1) * gradient;
    second_ = beta2 * second_ + (1 - beta2) * gradient.cwiseAbs2();
    const float correction1 = 1 - std::pow(beta1, static_cast<float>(steps_));
    const float correction2 = 1 - std::pow(beta2, static_cast<float>(steps_));
    direction_ = -(first_ / correction1).array() / ((second_ / correction2).array().sqrt() + epsilon);
    return direction_;
  }

private:
  parameters first_, second_, direction_;
  int steps_ = 0;
};

/// Share of the images whose largest logit is that of the digit.
inline double accuracy(const matrix& logits, const std::vector<int>& digits) {
  Eigen::Index right = 0;
  for (Eigen::Index r = 0; r < logits.rows(); ++r) {
    Eigen::Index best;
    logits.row(r).maxCoeff(&best);
    right += best == digits[static_cast<std::size_t>(r)] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(logits.rows());
}

} // namespace spike

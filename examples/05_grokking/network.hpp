// SPDX-License-Identifier: MIT
// Addition modulo p, and a small network that is to learn it.
#pragma once

#include "loss.hpp"

#include <cmath>
#include <cstdint>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

namespace grokking {

/// Pairs (a, b) and their sums modulo p.
struct samples {
  std::vector<int> a, b, sum;

  Eigen::Index size() const { return static_cast<Eigen::Index>(sum.size()); }
};

struct data_set {
  samples training, test;
};

/// All p * p pairs in random order; the first of them are for training.
inline data_set modular_addition(int p, double fraction, std::mt19937_64& random) {
  std::vector<int> pairs(static_cast<std::size_t>(p) * static_cast<std::size_t>(p));
  std::iota(pairs.begin(), pairs.end(), 0);
  for (std::size_t i = pairs.size(); i > 1; --i) {
    std::swap(pairs[i - 1], pairs[random() % i]);
  }
  data_set data;
  const auto training = static_cast<std::size_t>(fraction * static_cast<double>(pairs.size()));
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    samples& s = i < training ? data.training : data.test;
    s.a.push_back(pairs[i] / p);
    s.b.push_back(pairs[i] % p);
    s.sum.push_back((pairs[i] / p + pairs[i] % p) % p);
  }
  return data;
}

struct adam_options {
  double rate = 0.01;
  double beta2 = 0.999;
  double epsilon = 1e-25; ///< so small as gradients become small
};

/// A matrix of weights (inputs x outputs), its gradient, and Adam's moments of it.
struct layer {
  matrix weights, gradient;

  /// As PyTorch initialises a linear layer: uniform in +-1 / sqrt(inputs).
  layer(Eigen::Index inputs, Eigen::Index outputs, std::mt19937_64& random)
      : weights(inputs, outputs), gradient(inputs, outputs) {
    const double bound = 1 / std::sqrt(static_cast<double>(inputs));
    for (Eigen::Index i = 0; i < weights.size(); ++i) {
      const double unit = static_cast<double>(random() >> 11) * 0x1p-53;
      weights.data()[i] = static_cast<float>(bound * (2 * unit - 1));
    }
    first_ = second_ = Eigen::ArrayXd::Zero(weights.size());
  }

  /// AdamW without weight decay. The moments are double: a training set known by heart leaves gradients whose squares
  /// are below the smallest float.
  void step(const adam_options& o, int epoch) {
    constexpr double beta1 = 0.9;
    const Eigen::ArrayXd g = gradient.reshaped<Eigen::RowMajor>().cast<double>();
    first_ = beta1 * first_ + (1 - beta1) * g;
    second_ = o.beta2 * second_ + (1 - o.beta2) * g.square();
    const double correction1 = 1 - std::pow(beta1, epoch);
    const double correction2 = 1 - std::pow(o.beta2, epoch);
    weights.reshaped<Eigen::RowMajor>().array() -=
        (o.rate / correction1 * first_ / ((second_ / correction2).sqrt() + o.epsilon)).cast<float>();
  }

private:
  Eigen::ArrayXd first_, second_;
};

/// What a batch leaves in each layer.
struct activations {
  matrix hidden1, hidden2, logits;
};

/// 2 p inputs, two hidden layers with ReLU, p outputs; no biases.
struct network {
  layer in, middle, out;

  network(int p, int hidden, std::mt19937_64& random)
      : in(2 * p, hidden, random), middle(hidden, hidden, random), out(hidden, p, random) {}

  void forward(const samples& s, activations& x) const {
    // The input is two ones among zeros, so its product with the weights is the sum of two of their rows.
    const Eigen::Index p = out.weights.cols();
    x.hidden1.resize(s.size(), in.weights.cols());
    for (Eigen::Index r = 0; r < s.size(); ++r) {
      const auto i = static_cast<std::size_t>(r);
      x.hidden1.row(r) = (in.weights.row(s.a[i]) + in.weights.row(p + s.b[i])).cwiseMax(0.0f);
    }
    x.hidden2.noalias() = x.hidden1 * middle.weights;
    x.hidden2 = x.hidden2.cwiseMax(0.0f);
    x.logits.noalias() = x.hidden2 * out.weights;
  }

  /// From the gradient by the logits, by.logits, to those by the weights.
  void backward(const samples& s, const activations& x, activations& by) {
    const Eigen::Index p = out.weights.cols();
    out.gradient.noalias() = x.hidden2.transpose() * by.logits;
    by.hidden2.noalias() = by.logits * out.weights.transpose();
    by.hidden2 = (x.hidden2.array() > 0).select(by.hidden2, 0.0f);
    middle.gradient.noalias() = x.hidden1.transpose() * by.hidden2;
    by.hidden1.noalias() = by.hidden2 * middle.weights.transpose();
    by.hidden1 = (x.hidden1.array() > 0).select(by.hidden1, 0.0f);
    in.gradient.setZero();
    for (Eigen::Index r = 0; r < s.size(); ++r) {
      const auto i = static_cast<std::size_t>(r);
      in.gradient.row(s.a[i]) += by.hidden1.row(r);
      in.gradient.row(p + s.b[i]) += by.hidden1.row(r);
    }
  }

  double norm() const {
    return std::sqrt(
        static_cast<double>(in.weights.squaredNorm() + middle.weights.squaredNorm() + out.weights.squaredNorm()));
  }
};

/// Share of the rows whose largest logit is that of the target.
inline double accuracy(const matrix& logits, const std::vector<int>& targets) {
  Eigen::Index right = 0;
  for (Eigen::Index r = 0; r < logits.rows(); ++r) {
    Eigen::Index best;
    logits.row(r).maxCoeff(&best);
    right += best == targets[static_cast<std::size_t>(r)] ? 1 : 0;
  }
  return static_cast<double>(right) / static_cast<double>(logits.rows());
}

/// Share of the rows where the gradient of the target's logit is 0.
inline double without_gradient(const matrix& by_logits, const std::vector<int>& targets) {
  Eigen::Index none = 0;
  for (Eigen::Index r = 0; r < by_logits.rows(); ++r) {
    none += by_logits(r, targets[static_cast<std::size_t>(r)]) == 0 ? 1 : 0;
  }
  return static_cast<double>(none) / static_cast<double>(by_logits.rows());
}

} // namespace grokking

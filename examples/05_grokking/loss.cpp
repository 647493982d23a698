// SPDX-License-Identifier: MIT
#include "loss.hpp"

#include <cmath>
#include <xsoftmax/cross_entropy.hpp>
#include <xsoftmax/eigen.hpp>

namespace xs = xsoftmax;

namespace grokking {
namespace {

/// Softmax cross-entropy the usual way, all of it in float: the sum is rounded before anyone asks how far above 1 it
/// is.
double naive_loss(const matrix& logits, const std::vector<int>& targets, matrix* gradient) {
  const auto rows = static_cast<float>(logits.rows());
  Eigen::RowVectorXf e(logits.cols());
  double total = 0;
  for (Eigen::Index r = 0; r < logits.rows(); ++r) {
    const Eigen::Index y = targets[static_cast<std::size_t>(r)];
    const float m = logits.row(r).maxCoeff();
    float sum = 0;
    for (Eigen::Index k = 0; k < logits.cols(); ++k) {
      e(k) = std::exp(logits(r, k) - m);
      sum += e(k);
    }
    total += std::log(sum) - (logits(r, y) - m);
    if (gradient != nullptr) {
      gradient->row(r) = e / sum;
      (*gradient)(r, y) -= 1;
      gradient->row(r) /= rows;
    }
  }
  return total / static_cast<double>(logits.rows());
}

xs::cross_entropy_options options_of(method m) {
  return {.link = m == method::stablemax ? xs::loss_link::stablemax : xs::loss_link::softmax};
}

} // namespace

double loss_and_gradient(method m, const matrix& logits, const std::vector<int>& targets, matrix& gradient) {
  if (m == method::naive) {
    return naive_loss(logits, targets, &gradient);
  }
  return static_cast<double>(xs::cross_entropy(logits, targets, gradient, options_of(m)));
}

double loss_of(method m, const matrix& logits, const std::vector<int>& targets) {
  if (m == method::naive) {
    return naive_loss(logits, targets, nullptr);
  }
  return static_cast<double>(xs::cross_entropy(logits, targets, options_of(m)));
}

void prepare_gradient(method m, const matrix& weights, matrix& gradient) {
  if (m == method::perpendicular) {
    xs::perpendicular_gradient(weights, gradient, {.keep_norm = true});
  }
}

double collapsed_fraction(method m, const matrix& logits, const std::vector<int>& targets) {
  const auto rows = static_cast<double>(logits.rows());
  Eigen::Index collapsed = 0;
  if (m == method::stablemax) { // the same question of another link: is 1 + R, R of the others, rounded to 1?
    Eigen::VectorXf losses(logits.rows());
    xs::cross_entropy(logits, targets, losses, options_of(m));
    return static_cast<double>((losses.array() <= 0x1p-24f).count()) / rows;
  }
  for (Eigen::Index r = 0; r < logits.rows(); ++r) {
    collapsed += xs::softmax_collapse(logits.row(r), targets[static_cast<std::size_t>(r)]) ? 1 : 0;
  }
  return static_cast<double>(collapsed) / rows;
}

} // namespace grokking

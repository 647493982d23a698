// SPDX-License-Identifier: MIT
// Loss and gradients: all that xsoftmax does in this example, in a translation unit of its own, as its kernels take a
// minute to compile.
#pragma once

#include <Eigen/Core>
#include <vector>

namespace grokking {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>; // a row is a sample

enum class method { naive, softmax, stablemax, perpendicular };

/// Mean cross-entropy of the rows, and its gradient.
double loss_and_gradient(method m, const matrix& logits, const std::vector<int>& targets, matrix& gradient);

/// The loss alone.
double loss_of(method m, const matrix& logits, const std::vector<int>& targets);

/// What the optimizer is to see: the gradient, or what of it does not merely scale the weights.
void prepare_gradient(method m, const matrix& weights, matrix& gradient);

/// Share of the rows where the method's probability of the target, evaluated in float, is 1: a loss of 0 and no
/// gradient for the target, unless the others are kept apart from that 1, as xsoftmax does.
double collapsed_fraction(method m, const matrix& logits, const std::vector<int>& targets);

} // namespace grokking

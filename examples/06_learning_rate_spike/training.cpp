// SPDX-License-Identifier: MIT
#include "training.hpp"

#include "network.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>
#include <xsoftmax/convergence_radius.hpp>
#include <xsoftmax/cross_entropy.hpp>
#include <xsoftmax/eigen.hpp>

namespace xs = xsoftmax;

namespace spike {
namespace {

/// Batches of 64 (the last of an epoch may be smaller), each epoch in a new order.
class batches {
public:
  batches(const samples& all, std::mt19937_64& random)
      : all_(all), random_(random), order_(all.digits.size()), at_(order_.size()) {
    std::iota(order_.begin(), order_.end(), 0);
  }

  void next(samples& batch) {
    if (at_ == order_.size()) {
      shuffle(order_, random_);
      at_ = 0;
    }
    const std::size_t size = std::min<std::size_t>(64, order_.size() - at_);
    batch.images.resize(static_cast<Eigen::Index>(size), pixels);
    batch.digits.resize(size);
    for (std::size_t i = 0; i < size; ++i, ++at_) {
      batch.images.row(static_cast<Eigen::Index>(i)) = all_.images.row(order_[at_]);
      batch.digits[i] = all_.digits[static_cast<std::size_t>(order_[at_])];
    }
  }

private:
  const samples& all_;
  std::mt19937_64& random_;
  std::vector<Eigen::Index> order_;
  std::size_t at_;
};

/// Gradient clipping: no longer than 1.
void clip(parameters& gradient) {
  const float norm = gradient.norm();
  if (norm > 1) {
    gradient /= norm;
  }
}

} // namespace

history train(const run_options& o) {
  const auto begin = std::chrono::steady_clock::now();
  std::mt19937_64 random(o.seed); // so that every method sees the same images, weights and batches
  const data_set data = noisy_digits(random);
  parameters p = initial_parameters(random);
  parameters gradient, direction;
  batches source(data.training, random);
  samples batch;
  activations of_batch, by, of_training, along, of_test;
  adam optimizer;
  xs::radius_controller controller; // it watches every method, and only one listens

  history result{o, {}, 0, 0, 0};
  for (int step = 0;; ++step) {
    forward(p, data.training.images, of_training);
    forward(p, data.test.images, of_test);
    result.points.push_back({
        .step = step,
        .training_loss = static_cast<double>(xs::cross_entropy(of_training.logits, data.training.digits)),
        .test_accuracy = accuracy(of_test.logits, data.test.digits),
        .ratio = std::numeric_limits<double>::quiet_NaN(),
        .scale = 1,
    });
    if (step == o.steps) {
      break;
    }

    source.next(batch);
    forward(p, batch.images, of_batch);
    by.logits.resize(of_batch.logits.rows(), classes);
    xs::cross_entropy(of_batch.logits, batch.digits, by.logits);
    backward(p, batch.images, of_batch, by, gradient);
    if (o.which == method::clipping) {
      clip(gradient);
    }
    direction = optimizer.direction(gradient);
    const double norm = static_cast<double>(direction.norm());
    const double rate = o.rate * (step < o.spike ? 1 : o.factor);
    double length = rate * norm;

    // The slopes are those of the step itself, momentum included, and of all images that the network is trained with.
    direction /= static_cast<float>(norm);
    slopes(p, direction, data.training.images, of_training, along);
    const double scale = controller.scale(along.logits, length);
    if (o.which == method::controller) {
      length = scale == 0 ? 0 : scale * length; // 0 also rejects a step that is not a number
    }
    if (length != 0) {
      p += static_cast<float>(length) * direction;
    }
    result.points.back().ratio = controller.ratio();
    result.points.back().scale = o.which == method::controller ? scale : 1;
  }
  result.largest_ratio = controller.largest_ratio();
  result.beyond_radius = controller.limited_steps();
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

} // namespace spike

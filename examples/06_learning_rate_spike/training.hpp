// SPDX-License-Identifier: MIT
// One training run, in a translation unit of its own, as the kernels of xsoftmax take a minute to compile.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace spike {

enum class method { plain, clipping, controller };

struct run_options {
  method which;
  double rate;   ///< the learning rate before the spike
  double factor; ///< by which it is multiplied from the spike on
  std::uint64_t seed;
  int steps;
  int spike; ///< how many steps come before it
};

/// The network after so many steps, and the step that follows; there is none after the last.
struct point {
  int step;
  double training_loss, test_accuracy;
  double ratio; ///< r of the step that Adam wants, NaN if there is none
  double scale; ///< what is left of it

  double taken_ratio() const { return scale == 0 ? 0 : scale * ratio; }
};

struct history {
  run_options options;
  std::vector<point> points;
  double largest_ratio;      ///< as Adam wants it
  std::size_t beyond_radius; ///< how many steps it wants longer than the radius
  double seconds;
};

history train(const run_options& options);

} // namespace spike

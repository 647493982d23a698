// SPDX-License-Identifier: MIT
// A data set to be made rather than downloaded: digits of 8 x 8 pixels, about as many and as difficult as those that
// come with scikit-learn.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <random>
#include <utility>
#include <vector>

namespace spike {

using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>; // a row is a sample

inline constexpr Eigen::Index pixels = 64, classes = 10;

/// What each digit looks like before anything happens to it. A row is a line of all ten.
inline constexpr const char* glyphs[8] = {
    "..####.....##.....####....####......##...######....###...######...####....####..",
    ".##..##...###....##..##..##..##....###...##.......##.........##..##..##..##..##.",
    ".##..##..####........##......##...####...##......##.........##...##..##..##..##.",
    ".##..##....##........##....###...##.##...#####...#####......##....####...##..##.",
    ".##..##....##.......##.......##..##.##.......##..##..##....##....##..##...#####.",
    ".##..##....##......##........##..######......##..##..##....##....##..##......##.",
    ".##..##....##.....##.....##..##.....##...##..##..##..##...##.....##..##.....##..",
    "..####...######..######...####......##....####....####....##......####....###...",
};

struct samples {
  matrix images; ///< pixels from 0, paper, to 1, ink
  std::vector<int> digits;

  Eigen::Index size() const { return images.rows(); }
};

struct data_set {
  samples training, test;
};

/// Uniform in [low, high): the same on every platform, which std::uniform_real_distribution does not promise.
inline double uniform(std::mt19937_64& random, double low, double high) {
  return low + (high - low) * static_cast<double>(random() >> 11) * 0x1p-53;
}

template <class T>
void shuffle(std::vector<T>& values, std::mt19937_64& random) {
  for (std::size_t i = values.size(); i > 1; --i) {
    std::swap(values[i - 1], values[random() % i]);
  }
}

/// The ink of a glyph at a point between its pixels: bilinear, and paper around.
inline double ink_at(int digit, double x, double y) {
  const auto pixel = [&](int column, int row) {
    return column >= 0 && column < 8 && row >= 0 && row < 8 && glyphs[row][8 * digit + column] == '#' ? 1.0 : 0.0;
  };
  const int column = static_cast<int>(std::floor(x));
  const int row = static_cast<int>(std::floor(y));
  const double right = x - column;
  const double down = y - row;
  return (1 - down) * ((1 - right) * pixel(column, row) + right * pixel(column + 1, row)) +
         down * ((1 - right) * pixel(column, row + 1) + right * pixel(column + 1, row + 1));
}

/// Turned and slanted by up to 11 degrees, stretched or shrunk by up to 15 %, shifted by up to a pixel, fainter, and
/// noisy.
inline void draw(int digit, std::mt19937_64& random, float* image) {
  const double angle = uniform(random, -0.2, 0.2);
  const double slant = uniform(random, -0.2, 0.2);
  const double width = uniform(random, 0.85, 1.15);
  const double height = uniform(random, 0.85, 1.15);
  const double right = uniform(random, -1, 1);
  const double down = uniform(random, -1, 1);
  const double ink = uniform(random, 0.6, 1);
  for (int row = 0; row < 8; ++row) {
    for (int column = 0; column < 8; ++column) {
      const double u = column - 3.5 - right;
      const double v = row - 3.5 - down;
      const double x = (std::cos(angle) * u + (std::sin(angle) + slant) * v) / width + 3.5;
      const double y = (std::cos(angle) * v - std::sin(angle) * u) / height + 3.5;
      const double value = ink * ink_at(digit, x, y) + uniform(random, -0.25, 0.25);
      image[8 * row + column] = static_cast<float>(std::clamp(value, 0.0, 1.0));
    }
  }
}

inline samples draw(Eigen::Index of_each, std::mt19937_64& random) {
  samples s{matrix(classes * of_each, pixels), {}};
  for (Eigen::Index i = 0; i < s.size(); ++i) {
    s.digits.push_back(static_cast<int>(i % classes));
    draw(s.digits.back(), random, s.images.row(i).data());
  }
  return s;
}

/// 1800 images, as many of each digit: 1440 for training, 360 for test.
inline data_set noisy_digits(std::mt19937_64& random) {
  data_set data;
  data.training = draw(144, random);
  data.test = draw(36, random);
  return data;
}

} // namespace spike

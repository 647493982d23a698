// SPDX-License-Identifier: MIT
// Eigen's array expressions, row by row.
#include "../support/peer.hpp"
#include <Eigen/Core>

namespace {

template <class T>
bench::runner eigen_rows(const T* z, T* p, std::size_t rows, std::size_t cols) {
  return [=] {
    using array = Eigen::Array<T, Eigen::Dynamic, 1>;
    const auto size = static_cast<Eigen::Index>(cols);
    for (std::size_t r = 0; r < rows; ++r) {
      const Eigen::Map<const array> in(z + r * cols, size);
      Eigen::Map<array> out(p + r * cols, size);
      out = (in - in.maxCoeff()).exp();
      out *= T(1) / out.sum();
    }
  };
}

bench::runner eigen_log_rows(const float* z, float* y, std::size_t rows, std::size_t cols) {
  return [=] {
    const auto size = static_cast<Eigen::Index>(cols);
    for (std::size_t r = 0; r < rows; ++r) {
      const Eigen::Map<const Eigen::ArrayXf> in(z + r * cols, size);
      const float maximum = in.maxCoeff();
      Eigen::Map<Eigen::ArrayXf>(y + r * cols, size) = in - maximum - std::log((in - maximum).exp().sum());
    }
  };
}

} // namespace

bench::peer bench::eigen_peer() {
  const std::string version = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                              std::to_string(EIGEN_MINOR_VERSION);
  return {"Eigen", version + ", compiled with " XSOFTMAX_BENCH_EIGEN_FLAGS, eigen_rows<float>, eigen_rows<double>,
          eigen_log_rows};
}

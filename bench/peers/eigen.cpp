// SPDX-License-Identifier: MIT
// Eigen's array expressions, row by row, and its matrix products.
#include "../support/peer.hpp"
#include <Eigen/Core>
#include <limits>
#include <memory>

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

bench::runner eigen_gumbel_noise(float* g, std::size_t n) {
  return [=] {
    Eigen::Map<Eigen::ArrayXf> out(g, static_cast<Eigen::Index>(n));
    // Random() is written out first: as a part of the expression it would keep the logarithms from being vectorised.
    out.setRandom();
    // It is in [-1, 1] with both ends, where the noise would be infinite.
    const float smallest = std::numeric_limits<float>::min();
    const float largest = 1 - std::numeric_limits<float>::epsilon() / 2;
    out = -(-(out * 0.5f + 0.5f).max(smallest).min(largest).log()).log();
  };
}

bench::runner eigen_products(const float* q, const float* k, const float* v, float* out, std::size_t n,
                             std::size_t depth) {
  using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const auto length = static_cast<Eigen::Index>(n);
  const auto columns = static_cast<Eigen::Index>(depth);
  const auto scores = std::make_shared<matrix>(length, length);
  return [=] {
    const Eigen::Map<const matrix> queries(q, length, columns), keys(k, length, columns), values(v, length, columns);
    scores->noalias() = 1 / std::sqrt(static_cast<float>(depth)) * queries * keys.transpose();
    Eigen::Map<matrix>(out, length, columns).noalias() = *scores * values;
  };
}

} // namespace

bench::peer bench::eigen_peer() {
  const std::string version = std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                              std::to_string(EIGEN_MINOR_VERSION);
  return {.name = "Eigen",
          .version = version + ", compiled with " XSOFTMAX_BENCH_EIGEN_FLAGS,
          .float_rows = eigen_rows<float>,
          .double_rows = eigen_rows<double>,
          .float_log_softmax_rows = eigen_log_rows,
          .float_gumbel_noise = eigen_gumbel_noise,
          .float_products = eigen_products};
}

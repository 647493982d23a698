// SPDX-License-Identifier: MIT
// OpenBLAS's matrix products, of which attention has two. One thread.
#include "../support/peer.hpp"
#include <cblas.h>
#include <cmath>
#include <memory>
#include <vector>

namespace {

bench::runner openblas_products(const float* q, const float* k, const float* v, float* out, std::size_t n,
                                std::size_t depth) {
  openblas_set_num_threads(1);
  const auto scores = std::make_shared<std::vector<float>>(n * n);
  return [=] {
    const auto length = static_cast<blasint>(n);
    const auto columns = static_cast<blasint>(depth);
    const float scale = 1 / std::sqrt(static_cast<float>(depth));
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, length, length, columns, scale, q, columns, k, columns, 0,
                scores->data(), length);
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, length, columns, length, 1, scores->data(), length, v,
                columns, 0, out, columns);
  };
}

} // namespace

bench::peer bench::openblas_peer() { // its configuration names the processor whose kernels it has chosen
  return {.name = "OpenBLAS",
          .version = std::string(openblas_get_config()) + ", as packaged, one thread",
          .float_rows = {},
          .double_rows = {},
          .float_products = openblas_products};
}

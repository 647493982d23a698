// SPDX-License-Identifier: MIT
// XNNPACK's softmax operator: the library of the two-pass paper's authors. Its operator runs a three-pass kernel.
#include "../support/peer.hpp"
#include <memory>
#include <stdexcept>
#include <xnnpack.h>

namespace {

struct operator_deleter {
  void operator()(xnn_operator* op) const { xnn_delete_operator(op); }
};

void require(xnn_status status, const char* what) {
  if (status != xnn_status_success) {
    throw std::runtime_error(std::string("XNNPACK: ") + what + " failed with status " + std::to_string(status));
  }
}

bench::runner xnnpack_rows(const float* z, float* p, std::size_t rows, std::size_t cols) {
  require(xnn_initialize(nullptr), "xnn_initialize");
  xnn_operator_t created = nullptr;
  require(xnn_create_softmax_nc_f32(cols, cols, cols, 0, &created), "xnn_create_softmax_nc_f32");
  const std::shared_ptr<xnn_operator> op(created, operator_deleter{});
  require(xnn_setup_softmax_nc_f32(op.get(), rows, z, p, nullptr), "xnn_setup_softmax_nc_f32");
  return [op] { xnn_run_operator(op.get(), nullptr); };
}

} // namespace

bench::peer bench::xnnpack_peer() {
  return {"XNNPACK", "as packaged, operator softmax_nc_f32, one thread", xnnpack_rows, {}};
}

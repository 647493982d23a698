// SPDX-License-Identifier: MIT
// What a user of libtorch writes: softmax, softmax and multinomial, and the Gumbel-Softmax of its Python module. One
// thread, without gradients.
#include "../support/peer.hpp"
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <algorithm>
#include <torch/csrc/api/include/torch/version.h>

namespace {

/// The caller's memory as a tensor.
template <class T>
at::Tensor tensor(const T* data, std::size_t rows, std::size_t cols) {
  at::set_num_threads(1);
  return at::from_blob(const_cast<T*>(data), {static_cast<std::int64_t>(rows), static_cast<std::int64_t>(cols)},
                       c10::CppTypeToScalarType<T>::value);
}

template <class T>
bench::runner libtorch_rows(const T* z, T* p, std::size_t rows, std::size_t cols) {
  return [logits = tensor(z, rows, cols), out = tensor(p, rows, cols)]() mutable {
    const at::NoGradGuard no_gradients;
    at::softmax_out(out, logits, 1);
  };
}

bench::runner libtorch_log_rows(const float* z, float* y, std::size_t rows, std::size_t cols) {
  return [logits = tensor(z, rows, cols), out = tensor(y, rows, cols)]() mutable {
    const at::NoGradGuard no_gradients;
    at::log_softmax_out(out, logits, 1);
  };
}

/// Each answer is checked on the first run, which is always the same this way.
void seed() {
  at::manual_seed(1);
}

bench::runner libtorch_sample(const float* z, std::size_t* indices, std::size_t rows, std::size_t cols) {
  seed();
  return [logits = tensor(z, rows, cols), indices] {
    const at::NoGradGuard no_gradients;
    const at::Tensor drawn = at::multinomial(at::softmax(logits, 1), 1);
    std::copy_n(drawn.data_ptr<std::int64_t>(), drawn.numel(), indices);
  };
}

bench::runner libtorch_gumbel_softmax_rows(const float* z, float* y, std::size_t rows, std::size_t cols) {
  seed();
  return [logits = tensor(z, rows, cols), out = tensor(y, rows, cols)]() mutable {
    const at::NoGradGuard no_gradients;
    const at::Tensor noise = -at::empty_like(logits).exponential_().log();
    at::softmax_out(out, logits + noise, 1);
  };
}

bench::runner libtorch_gumbel_noise(float* g, std::size_t n) {
  seed();
  return [out = tensor(g, 1, n)]() mutable {
    const at::NoGradGuard no_gradients;
    out.exponential_().log_().neg_();
  };
}

} // namespace

bench::peer bench::libtorch_peer() {
  return {.name = "libtorch",
          .version = TORCH_VERSION " as packaged, one thread",
          .float_rows = libtorch_rows<float>,
          .double_rows = libtorch_rows<double>,
          .float_log_softmax_rows = libtorch_log_rows,
          .float_gumbel_noise = libtorch_gumbel_noise,
          .float_sample = libtorch_sample,
          .float_gumbel_softmax_rows = libtorch_gumbel_softmax_rows};
}

// SPDX-License-Identifier: MIT
// What a user of libtorch writes: softmax, softmax and multinomial, the Gumbel-Softmax of its Python module, and
// scaled_dot_product_attention. One thread, without gradients.
#include "../support/peer.hpp"
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <dlfcn.h>
#include <torch/csrc/api/include/torch/version.h>

namespace {

/// libtorch does not pass its number of threads on to OpenBLAS, which may compute its products.
void use_one_thread() {
  at::set_num_threads(1);
  if (void* const set = dlsym(RTLD_DEFAULT, "openblas_set_num_threads")) {
    reinterpret_cast<void (*)(int)>(set)(1);
  }
}

/// The caller's memory as a tensor.
template <class T>
at::Tensor tensor(const T* data, std::size_t rows, std::size_t cols) {
  use_one_thread();
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

#if TORCH_VERSION_MAJOR >= 2 // before, it is neither public nor fused

/// Its result is a new tensor: the first one, which is checked, is copied to out, and no copy is timed.
bench::attention_preparation attention(bool causal) {
  return [causal](const float* q, const float* k, const float* v, float* out, std::size_t n, std::size_t depth) {
    const auto head = [=](const float* x) { return tensor(x, n, depth).unsqueeze(0).unsqueeze(0); };
    return [=, queries = head(q), keys = head(k), values = head(v), copied = false]() mutable {
      const at::NoGradGuard no_gradients;
      const at::Tensor result = at::scaled_dot_product_attention(queries, keys, values, {}, 0, causal);
      if (!copied) {
        std::copy_n(result.contiguous().data_ptr<float>(), n * depth, out);
        copied = true;
      }
    };
  };
}

#else

bench::attention_preparation attention(bool) {
  return {};
}

#endif

} // namespace

bench::peer bench::libtorch_peer() {
  return {.name = "libtorch",
          .version = TORCH_VERSION " as packaged, one thread",
          .float_rows = libtorch_rows<float>,
          .double_rows = libtorch_rows<double>,
          .float_log_softmax_rows = libtorch_log_rows,
          .float_gumbel_noise = libtorch_gumbel_noise,
          .float_sample = libtorch_sample,
          .float_gumbel_softmax_rows = libtorch_gumbel_softmax_rows,
          .float_attention = attention(false),
          .float_causal_attention = attention(true)};
}

// SPDX-License-Identifier: MIT
// oneDNN's forward softmax and its matrix products; it generates its own code for the processor. One thread.
#include "../support/peer.hpp"
#include <cmath>
#include <memory>
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

namespace {

struct primitive {
  primitive(const float* z, float* p, std::size_t rows, std::size_t cols)
      : engine(dnnl::engine::kind::cpu, 0), stream(engine),
        description({static_cast<dnnl::memory::dim>(rows), static_cast<dnnl::memory::dim>(cols)},
                    dnnl::memory::data_type::f32, dnnl::memory::format_tag::ab),
        in(description, engine, const_cast<float*>(z)), out(description, engine, p), softmax(details()) {}

  dnnl::softmax_forward::primitive_desc details() const {
    const int axis = 1;
#if DNNL_VERSION_MAJOR >= 3
    return {engine, dnnl::prop_kind::forward_inference, dnnl::algorithm::softmax_accurate, description, description,
            axis};
#else
    return {dnnl::softmax_forward::desc(dnnl::prop_kind::forward_inference, description, axis), engine};
#endif
  }

  void run() {
    softmax.execute(stream, {{DNNL_ARG_SRC, in}, {DNNL_ARG_DST, out}});
    stream.wait();
  }

  dnnl::engine engine;
  dnnl::stream stream;
  dnnl::memory::desc description;
  dnnl::memory in;
  dnnl::memory out;
  dnnl::softmax_forward softmax;
};

bench::runner onednn_rows(const float* z, float* p, std::size_t rows, std::size_t cols) {
  omp_set_num_threads(1);
  const auto call = std::make_shared<primitive>(z, p, rows, cols);
  return [call] { call->run(); };
}

struct product {
  using description = dnnl::memory::desc;

  product(const dnnl::engine& engine, const description& a, const description& b, const description& c)
      : matmul(details(engine, a, b, c)) {}

  static dnnl::matmul::primitive_desc details(const dnnl::engine& engine, const description& a, const description& b,
                                              const description& c) {
#if DNNL_VERSION_MAJOR >= 3
    return {engine, a, b, c};
#else
    return {dnnl::matmul::desc(a, b, c), engine};
#endif
  }

  void run(const dnnl::stream& stream, const dnnl::memory& a, const dnnl::memory& b, const dnnl::memory& c) {
    matmul.execute(stream, {{DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, c}});
  }

  dnnl::matmul matmul;
};

/// Product, softmax in place, product.
struct attention_primitives {
  attention_primitives(const float* q, const float* k, const float* v, float* out, std::size_t n, std::size_t depth)
      : scaled(q, q + n * depth), scores(n * n), softmax(scores.data(), scores.data(), n, n) {
    for (float& x : scaled) { // once, before the clock runs: releases differ in how a product is scaled
      x /= std::sqrt(static_cast<float>(depth));
    }
    const auto rows = static_cast<dnnl::memory::dim>(n), columns = static_cast<dnnl::memory::dim>(depth);
    const auto describe = [](dnnl::memory::dim m, dnnl::memory::dim c, dnnl::memory::format_tag layout) {
      return dnnl::memory::desc({m, c}, dnnl::memory::data_type::f32, layout);
    };
    using tag = dnnl::memory::format_tag;
    const auto tall = describe(rows, columns, tag::ab), turned = describe(columns, rows, tag::ba);
    const auto memory = [this](const dnnl::memory::desc& description, const float* data) {
      return dnnl::memory(description, softmax.engine, const_cast<float*>(data));
    };
    queries = memory(tall, scaled.data()), keys = memory(turned, k), values = memory(tall, v),
    result = memory(tall, out);
    first = std::make_unique<product>(softmax.engine, tall, turned, softmax.description);
    second = std::make_unique<product>(softmax.engine, softmax.description, tall, tall);
  }

  void run() {
    first->run(softmax.stream, queries, keys, softmax.in);
    softmax.run();
    second->run(softmax.stream, softmax.out, values, result);
    softmax.stream.wait();
  }

  std::vector<float> scaled;
  std::vector<float> scores;
  primitive softmax;
  dnnl::memory queries, keys, values, result;
  std::unique_ptr<product> first, second;
};

bench::runner onednn_attention(const float* q, const float* k, const float* v, float* out, std::size_t n,
                               std::size_t depth) {
  omp_set_num_threads(1);
  const auto call = std::make_shared<attention_primitives>(q, k, v, out, n, depth);
  return [call] { call->run(); };
}

} // namespace

bench::peer bench::onednn_peer() {
  const dnnl_version_t* version = dnnl_version();
  return {.name = "oneDNN",
          .version = std::to_string(version->major) + "." + std::to_string(version->minor) + "." +
                     std::to_string(version->patch) + " as packaged, softmax_forward and matmul, one thread",
          .float_rows = onednn_rows,
          .double_rows = {},
          .float_attention = onednn_attention};
}

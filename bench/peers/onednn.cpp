// SPDX-License-Identifier: MIT
// oneDNN's forward softmax primitive; it generates its own code for the processor. One thread.
#include "../support/peer.hpp"
#include <memory>
#include <omp.h>
#include <oneapi/dnnl/dnnl.hpp>

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

} // namespace

bench::peer bench::onednn_peer() {
  const dnnl_version_t* version = dnnl_version();
  return {"oneDNN",
          std::to_string(version->major) + "." + std::to_string(version->minor) + "." + std::to_string(version->patch) +
              " as packaged, softmax_forward, one thread",
          onednn_rows,
          {}};
}

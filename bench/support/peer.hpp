// SPDX-License-Identifier: MIT
// What the library is compared with. Each peer lives in a unit of its own, built with the flags that suit it best.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace bench {

/// One timed call; everything that can be prepared once (descriptors, operators) has been.
using runner = std::function<void()>;

/// Makes a runner that writes softmax (or another operation) of each row of z (rows x cols, contiguous) to p.
template <class T>
using preparation = std::function<runner(const T* z, T* p, std::size_t rows, std::size_t cols)>;

/// Makes a runner that writes n values of Gumbel noise, other ones in each run.
using noise_preparation = std::function<runner(float* g, std::size_t n)>;

/// Makes a runner that draws an index from the softmax of each row, other ones in each run.
using sample_preparation =
    std::function<runner(const float* z, std::size_t* indices, std::size_t rows, std::size_t cols)>;

/// Makes a runner that writes attention of one head, or what is compared with it, to out: q, k, v and out are n x
/// depth, contiguous.
using attention_preparation =
    std::function<runner(const float* q, const float* k, const float* v, float* out, std::size_t n, std::size_t depth)>;

struct peer {
  std::string name;                               ///< as the report shows it
  std::string version;                            ///< release and what it was built with
  preparation<float> float_rows;                  ///< empty: the peer has no float
  preparation<double> double_rows;                ///< empty: the peer has no double
  preparation<float> float_log_softmax_rows{};    ///< empty: the peer has no log_softmax, or it is not compared
  noise_preparation float_gumbel_noise{};         ///< so too
  sample_preparation float_sample{};              ///< so too
  preparation<float> float_gumbel_softmax_rows{}; ///< so too, at temperature 1
  attention_preparation float_attention{};        ///< so too: softmax attention
  attention_preparation float_causal_attention{}; ///< so too: query i sees the keys up to i
  attention_preparation float_products{};         ///< so too: its two products without the softmax, (q k^T / sqrt d) v
};

peer loop_peer();
peer fast_loop_peer();
peer eigen_peer();
peer onednn_peer();
peer xnnpack_peer();
peer openblas_peer();
peer libtorch_peer();

/// The peers of this build.
inline std::vector<peer> available_peers() {
  std::vector<peer> peers{loop_peer(), fast_loop_peer()};
#if defined(XSOFTMAX_BENCH_EIGEN)
  peers.push_back(eigen_peer());
#endif
#if defined(XSOFTMAX_BENCH_ONEDNN)
  peers.push_back(onednn_peer());
#endif
#if defined(XSOFTMAX_BENCH_XNNPACK)
  peers.push_back(xnnpack_peer());
#endif
#if defined(XSOFTMAX_BENCH_OPENBLAS)
  peers.push_back(openblas_peer());
#endif
#if defined(XSOFTMAX_BENCH_LIBTORCH)
  peers.push_back(libtorch_peer());
#endif
  return peers;
}

} // namespace bench

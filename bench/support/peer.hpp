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

struct peer {
  std::string name;                            ///< as the report shows it
  std::string version;                         ///< release and what it was built with
  preparation<float> float_rows;               ///< empty: the peer has no float
  preparation<double> double_rows;             ///< empty: the peer has no double
  preparation<float> float_log_softmax_rows{}; ///< empty: the peer has no log_softmax, or it is not compared
};

peer loop_peer();
peer fast_loop_peer();
peer eigen_peer();
peer onednn_peer();
peer xnnpack_peer();

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
  return peers;
}

} // namespace bench

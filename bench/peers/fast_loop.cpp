// SPDX-License-Identifier: MIT
// The textbook loop with every licence a compiler can be given: g++ then calls the vector exp of libmvec.
#include "loop.hpp"

bench::peer bench::fast_loop_peer() {
  return {"fast-math loop", "the same source, compiled with " XSOFTMAX_BENCH_FAST_LOOP_FLAGS, loop_rows<float>,
          loop_rows<double>};
}

// SPDX-License-Identifier: MIT
// The textbook loop as a plain Release build compiles it: one scalar std::exp per element.
#include "loop.hpp"

bench::peer bench::loop_peer() {
  return {"std::exp loop", "compiled with " XSOFTMAX_BENCH_LOOP_FLAGS, loop_rows<float>, loop_rows<double>};
}

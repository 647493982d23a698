// SPDX-License-Identifier: MIT
// Which shapes are measured, how often and for how long.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace bench {

enum class scope {
  smoke,    ///< seconds: does the suite work?
  quick,    ///< half a minute: a first impression
  standard, ///< minutes: the report
  full,     ///< long: more lengths, more repetitions
  tune,     ///< minutes: lengths close together, with every store, to see where which choice is the fastest
  guard,    ///< a minute: the few shapes whose ratios tell whether a kernel has lost its speed
};

/// One shape. All its variants are interleaved.
struct shape {
  /// length | vocabulary | short_rows | logits; of costs columns | halves | threads | sample_threads | operations |
  /// kinds | calls | noise | losses | radius | attention | attention_threads | decode
  std::string section;
  std::size_t rows;
  std::size_t cols;
};

struct plan {
  std::vector<shape> float_shapes;
  std::vector<shape> double_shapes;
  int repetitions;
  double min_time; ///< seconds per repetition
  std::vector<shape> float_costs{};
  std::vector<shape> double_costs{};
  bool with_peers = true;
  std::size_t every_store_from = 0; ///< bytes of an output from which every kind of store is measured; 0: out of cache

  /// Rows of hundreds of megabytes are repeated less often: one repetition of all variants takes half a minute there.
  int repetitions_of(std::size_t bytes) const {
    const int kept = bytes >= (std::size_t{1} << 29) ? 3 : bytes >= (std::size_t{1} << 25) ? 5 : 7;
    return (repetitions * kept + 6) / 7;
  }
};

plan make_plan(scope how_much);

} // namespace bench

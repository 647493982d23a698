// SPDX-License-Identifier: MIT
// Attention: what it computes in the time of its two matrix products, of other libraries' attention, and of the
// arithmetic alone; a token against a cache of keys and values, against reading that cache.
#pragma once

#include "measure.hpp"

namespace bench {

/// Is this a shape of the sections attention | attention_threads (rows: queries and keys, cols: depth) or decode (rows:
/// keys of each head, cols: depth)?
bool is_of_attention(const shape& s);

/// What the benchmarks of such a shape will take together, roughly.
double expected_seconds_of_attention(const plan& p, const shape& s);

/// Compares what the shape's section says: attention on every architecture, the others on the best. `second_core` as in
/// run_cost. Returns how many answers were wrong.
int run_attention_cost(const session& run, const shape& s, int second_core);

} // namespace bench

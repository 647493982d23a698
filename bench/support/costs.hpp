// SPDX-License-Identifier: MIT
// The costs that the library promises relative to each other: columns against rows, halves against float, two threads
// against one, and the other operations against softmax. On the best architecture; attention on all.
#pragma once

#include "measure.hpp"
#include <string>

namespace bench {

/// What the benchmarks of a shape will take together, roughly.
template <class T>
double expected_seconds_of_cost(const plan& p, const shape& s);

/// Compares what the shape's section (columns | halves | threads | sample_threads | operations | kinds | calls | noise
/// | losses | radius | attention | attention_threads | decode) says. Reads data.z, writes data.p and memory of its own.
/// `second_core` is for the second thread; where there is none (-1), threads are left out. Returns how many answers
/// were wrong.
template <class T>
int run_cost(const session& run, const shape& s, const row_set<T>& data, int second_core);

/// Cores and overhead of the two threads, in words for the report.
std::string describe_two_threads(int core, int second_core);

} // namespace bench

// SPDX-License-Identifier: MIT
// The costs that the library promises relative to each other: columns against rows, halves against float, two threads
// against one, and the other operations against softmax. On the best architecture.
#pragma once

#include "measure.hpp"
#include <string>

namespace bench {

/// What a benchmark of a cost takes, roughly, in ns per element; and how many a shape has.
inline constexpr double guess_of_cost = 0.5;
inline constexpr int costs_of_shape = 4;

/// Compares what the shape's section (columns | halves | threads | sample_threads | operations | kinds | calls | noise
/// | losses) says. Reads data.z, writes data.p and memory of its own. `second_core` is for the second thread; where
/// there is none
/// (-1), threads are left out. Returns how many answers were wrong.
template <class T>
int run_cost(const session& run, const shape& s, const row_set<T>& data, int second_core);

/// Cores and overhead of the two threads, in words for the report.
std::string describe_two_threads(int core, int second_core);

} // namespace bench

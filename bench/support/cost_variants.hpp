// SPDX-License-Identifier: MIT
// What the benchmarks of costs are made of.
#pragma once

#include "measure.hpp"
#include <cstring>
#include <string>
#include <utility>

namespace bench {

/// What a benchmark of a cost takes, roughly, in ns per element.
inline constexpr double guess_of_cost = 0.5;

/// One of the library's, or what it is compared with on the same architecture.
template <class Arch>
variant own(const std::string& what, runner run, double guess = guess_of_cost) {
  return {std::string("xsoftmax/") + Arch::name + "/" + what + "/-", true, false, guess, std::move(run)};
}

/// Runs it on an output of NaN: what is not written is not right.
template <class T>
void run_once(const variant& v, T* output, std::size_t size) {
  std::memset(static_cast<void*>(output), 0xFF, size * sizeof(T));
  v.run();
}

/// Says that element i is wrong, unless something was said before.
inline void blame(variant& v, const std::string& what, std::size_t i) {
  if (v.found.failure.empty()) {
    v.found.failure = "element " + std::to_string(i) + " is not that of " + what;
  }
}

template <class T>
bool same_bits(const T& a, const T& b) {
  return std::memcmp(&a, &b, sizeof(T)) == 0;
}

/// body(tag) for the best architecture that was built and that the processor has; 0 where there is none.
template <class Body>
int on_the_best_architecture(const Body& body) {
  std::function<int()> best = [] { return 0; };
  for_each_architecture([&]<class Arch>(Arch tag) { best = [&body, tag] { return body(tag); }; });
  return best();
}

} // namespace bench

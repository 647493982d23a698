// SPDX-License-Identifier: MIT
// Every float there is, on all cores.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <thread>
#include <vector>

namespace xsoftmax::test {

/// Runs work(next) in every thread. next(x) fills x with floats of consecutive bit patterns, none of them ever given
/// before; false means that all 2^32 have been.
template <class Work>
void for_all_floats(Work work) {
  constexpr std::uint32_t blocks = 1U << 14;
  constexpr std::uint32_t block = 1U << 18;
  std::atomic<std::uint32_t> given{0};
  const auto next = [&given](std::vector<float>& x) {
    const std::uint32_t b = given++;
    if (b >= blocks) {
      return false;
    }
    x.resize(block);
    for (std::uint32_t i = 0; i < block; ++i) {
      x[i] = std::bit_cast<float>(b * block + i);
    }
    return true;
  };
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(2U, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] { work(next); });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
}

} // namespace xsoftmax::test

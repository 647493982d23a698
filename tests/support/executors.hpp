// SPDX-License-Identifier: MIT
// Executors of every kind: in order, backwards, shuffled, and on threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "rows.hpp"

namespace xsoftmax::test {

using executor_body = std::function<void(std::size_t)>;

/// One after the other on this thread, in the order that `order` gives.
template <class Order>
void run_in_order(std::size_t count, const executor_body& run, Order order) {
  for (std::size_t i = 0; i < count; ++i) {
    run(order(i));
  }
}

/// On threads that take the next body as soon as they are free.
inline void run_on_threads(std::size_t threads, std::size_t count, const executor_body& run) {
  std::atomic<std::size_t> next = 0;
  std::vector<std::thread> pool;
  for (std::size_t t = 0; t < threads; ++t) {
    pool.emplace_back([&] {
      for (std::size_t i = next++; i < count; i = next++) {
        run(i);
      }
    });
  }
  for (std::thread& thread : pool) {
    thread.join();
  }
}

struct named_executor {
  std::string name;
  std::function<void(std::size_t, const executor_body&)> run;
};

inline std::vector<named_executor> every_executor() {
  std::vector<named_executor> list;
  list.push_back({"in order", [](std::size_t count, const executor_body& run) {
                    run_in_order(count, run, [](std::size_t i) { return i; });
                  }});
  list.push_back({"backwards", [](std::size_t count, const executor_body& run) {
                    run_in_order(count, run, [count](std::size_t i) { return count - 1 - i; });
                  }});
  list.push_back({"shuffled", [](std::size_t count, const executor_body& run) {
                    generator random(count);
                    std::vector<std::size_t> order(count);
                    for (std::size_t i = 0; i < count; ++i) {
                      order[i] = i;
                    }
                    for (std::size_t i = count; i > 1; --i) {
                      std::swap(order[i - 1], order[random.below(i)]);
                    }
                    run_in_order(count, run, [&](std::size_t i) { return order[i]; });
                  }});
  for (std::size_t threads = 1; threads <= 8; ++threads) {
    list.push_back({std::to_string(threads) + " threads",
                    [threads](std::size_t count, const executor_body& run) { run_on_threads(threads, count, run); }});
  }
  return list;
}

} // namespace xsoftmax::test

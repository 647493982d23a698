// SPDX-License-Identifier: MIT
// The first dispatched call of a process, made by many threads at once.
#include "answer_check.hpp"
#include <atomic>
#include <barrier>
#include <string>
#include <thread>

int main() {
  constexpr int count = 32;
  std::barrier start(count);
  std::atomic<int> wrong = 0;
  std::vector<std::string> names(count);
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      if (i % 2 == 0) { // half of them ask for the name first
        names[static_cast<std::size_t>(i)] = xsoftmax::active_architecture();
      }
      if (!answers_are_right<xsoftmax::runtime>()) {
        ++wrong;
      }
      names[static_cast<std::size_t>(i)] = xsoftmax::active_architecture();
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  for (const std::string& name : names) {
    if (name != names.front()) {
      std::printf("two architectures in one process: %s, %s\n", names.front().c_str(), name.c_str());
      ++wrong;
    }
  }
  return wrong == 0 ? 0 : 1;
}

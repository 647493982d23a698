// SPDX-License-Identifier: MIT
// An executor for the library: the calling thread and one more, each on a core of its own.
#pragma once

#include "machine.hpp"
#include <algorithm>
#include <atomic>
#include <chrono>
#include <immintrin.h>
#include <thread>

namespace bench {

/// A call costs well under a microsecond while calls follow one another: the second thread spins for the next one, and
/// sleeps only where none comes, so that it disturbs no measurement of one thread.
class two_threads {
public:
  /// The second thread is moved from outside: it may never run where this one spins, under a real-time scheduler.
  explicit two_threads(int core) : second_([this] { serve(); }) { pin_to_core(core, second_.native_handle()); }

  ~two_threads() {
    stop_ = true;
    announce();
    second_.join();
  }

  two_threads(const two_threads&) = delete;
  two_threads& operator=(const two_threads&) = delete;

  /// body(i) for each i below count, from both threads; returns when all have returned.
  template <class Body>
  void operator()(std::size_t count, const Body& body) {
    call_ = [](const void* b, std::size_t i) { (*static_cast<const Body*>(b))(i); };
    body_ = &body;
    count_ = count;
    next_.store(0, std::memory_order_relaxed);
    const unsigned job = announce();
    share();
    while (finished_.load(std::memory_order_acquire) != job) {
      _mm_pause();
    }
  }

private:
  using clock = std::chrono::steady_clock;

  static constexpr std::chrono::microseconds patience{200};

  unsigned announce() {
    const unsigned job = job_.fetch_add(1) + 1;
    job_.notify_one();
    return job;
  }

  void share() {
    for (std::size_t i = next_.fetch_add(1); i < count_; i = next_.fetch_add(1)) {
      call_(body_, i);
    }
  }

  void serve() {
    for (unsigned job = 1;; ++job) {
      const clock::time_point until = clock::now() + patience;
      while (job_.load(std::memory_order_acquire) != job) {
        if (clock::now() < until) {
          _mm_pause();
        } else {
          job_.wait(job - 1);
        }
      }
      if (stop_) {
        return;
      }
      share();
      finished_.store(job, std::memory_order_release);
    }
  }

  void (*call_)(const void*, std::size_t) = nullptr;
  const void* body_ = nullptr;
  std::size_t count_ = 0;
  bool stop_ = false;
  // What both threads write is kept apart.
  alignas(64) std::atomic<std::size_t> next_{0};
  alignas(64) std::atomic<unsigned> job_{0};
  alignas(64) std::atomic<unsigned> finished_{0};
  std::thread second_; // last: it uses all the others
};

} // namespace bench

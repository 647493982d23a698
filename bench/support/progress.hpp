// SPDX-License-Identifier: MIT
// One line in the terminal: how much is done and how long it will take.
#pragma once

#include <chrono>
#include <string>

namespace bench {

class progress {
public:
  /// `expected` seconds of work, roughly: only the proportions matter, the clock corrects the rest.
  explicit progress(double expected);
  ~progress();
  progress(const progress&) = delete;
  progress& operator=(const progress&) = delete;

  /// What is being measured now.
  void begin(const std::string& what);
  /// Counts `expected` seconds as done.
  void advance(double expected);

private:
  void show(bool always);

  using clock = std::chrono::steady_clock;
  double total_;
  double done_ = 0;
  bool terminal_;
  std::string what_;
  clock::time_point start_ = clock::now();
  clock::time_point shown_ = start_;
};

} // namespace bench

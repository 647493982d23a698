// SPDX-License-Identifier: MIT
#include "progress.hpp"
#include <algorithm>
#include <cstdio>
#include <unistd.h>

namespace bench {

progress::progress(double expected) : total_(expected), terminal_(isatty(STDERR_FILENO) != 0) {}

progress::~progress() {
  if (terminal_) {
    std::fputs("\r\033[K", stderr);
  }
}

void progress::begin(const std::string& what) {
  what_ = what;
  show(true);
}

void progress::advance(double expected) {
  done_ = std::min(done_ + expected, total_);
  if (terminal_) {
    show(false);
  }
}

void progress::show(bool always) {
  const auto now = clock::now();
  if (!always && now - shown_ < std::chrono::milliseconds(200)) {
    return; // drawing must not disturb what is measured
  }
  shown_ = now;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const double share = total_ > 0 ? done_ / total_ : 0;
  char remaining[48] = "";
  if (share > 0.02 && elapsed > 1) {
    const int seconds = static_cast<int>(elapsed * (1 - share) / share + 0.5);
    std::snprintf(remaining, sizeof remaining, ", %d:%02d left", seconds / 60, seconds % 60);
  }
  std::fprintf(stderr, "%s[%3.0f %%%s] %s%s", terminal_ ? "\r\033[K" : "", 100 * share, remaining, what_.c_str(),
               terminal_ ? "" : "\n");
  std::fflush(stderr);
}

} // namespace bench

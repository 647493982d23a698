// SPDX-License-Identifier: MIT
// Collects the failures of millions of cheap comparisons, so that a test makes one assertion over all of them.
#pragma once

#include <cstddef>
#include <string>

namespace xsoftmax::test {

class findings {
public:
  /// Counts a comparison; `message` is called for the first few failures only.
  template <class Message>
  void expect(bool holds, Message&& message) {
    ++comparisons_;
    if (holds) {
      return;
    }
    if (++failures_ <= 6) {
      text_ += message();
      text_ += '\n';
    }
  }

  [[nodiscard]] std::size_t failures() const { return failures_; }

  [[nodiscard]] std::size_t comparisons() const { return comparisons_; }

  [[nodiscard]] const std::string& text() const { return text_; }

private:
  std::size_t comparisons_ = 0;
  std::size_t failures_ = 0;
  std::string text_;
};

} // namespace xsoftmax::test

/// A test that compared nothing fails as well.
#define XSOFTMAX_CHECK_FINDINGS(found)                                                                                 \
  do {                                                                                                                 \
    INFO((found).text());                                                                                              \
    CHECK((found).failures() == 0);                                                                                    \
    CHECK((found).comparisons() > 0);                                                                                  \
  } while (false)

// SPDX-License-Identifier: MIT
// The memory that the benchmarks read and write.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

namespace bench {

/// `size` elements, uninitialised, on a page boundary plus `offset` bytes. Input and output are given different offsets
/// so that equal indices do not share the low 12 bits of their addresses, which some processors take for a dependency
/// of a load on an earlier store.
template <class T>
class row_buffer {
public:
  explicit row_buffer(std::size_t size, std::size_t offset = 0)
      : memory_(std::aligned_alloc(page, (size * sizeof(T) + offset + page - 1) / page * page)), size_(size),
        offset_(offset) {
    if (memory_ == nullptr) {
      throw std::bad_alloc();
    }
  }

  T* data() const { return reinterpret_cast<T*>(static_cast<std::byte*>(memory_.get()) + offset_); }

  std::size_t size() const { return size_; }

private:
  static constexpr std::size_t page = 4096;

  struct release {
    void operator()(void* memory) const { std::free(memory); }
  };

  std::unique_ptr<void, release> memory_;
  std::size_t size_;
  std::size_t offset_;
};

/// The offset of outputs: half a page.
inline constexpr std::size_t output_offset = 2048;

} // namespace bench

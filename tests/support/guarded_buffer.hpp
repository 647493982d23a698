// SPDX-License-Identifier: MIT
// Memory between two pages that fault on any access: reading or writing one byte outside ends the test.
#pragma once

#include <cstddef>
#include <new>
#include <sys/mman.h>
#include <unistd.h>

namespace xsoftmax::test {

enum class flush_with { front, back };

/// `count` elements that touch the guard page on one side, or keep `offset` elements from it.
template <class T>
class guarded_buffer {
public:
  guarded_buffer(std::size_t count, flush_with side, std::size_t offset = 0) : count_(count) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t used = (count + offset) * sizeof(T);
    const std::size_t inner = (used + page - 1) / page * page;
    mapped_ = inner + 2 * page;
    base_ = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      throw std::bad_alloc();
    }
    auto* first = static_cast<unsigned char*>(base_) + page;
    if (inner != 0 && ::mprotect(first, inner, PROT_READ | PROT_WRITE) != 0) {
      ::munmap(base_, mapped_);
      throw std::bad_alloc();
    }
    data_ = reinterpret_cast<T*>(side == flush_with::front ? first + offset * sizeof(T) : first + inner - used);
  }

  guarded_buffer(const guarded_buffer&) = delete;
  guarded_buffer& operator=(const guarded_buffer&) = delete;

  ~guarded_buffer() { ::munmap(base_, mapped_); }

  [[nodiscard]] T* data() const { return data_; }

  [[nodiscard]] std::size_t size() const { return count_; }

  [[nodiscard]] T* begin() const { return data_; }

  [[nodiscard]] T* end() const { return data_ + count_; }

private:
  void* base_ = nullptr;
  std::size_t mapped_ = 0;
  std::size_t count_;
  T* data_ = nullptr;
};

} // namespace xsoftmax::test

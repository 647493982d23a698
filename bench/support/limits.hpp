// SPDX-License-Identifier: MIT
// What the machine allows: the same memory traffic as a softmax pass without any arithmetic. Measured in the same run.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

/// Exclusive or of all 32-bit words: a read pass whose result does not depend on the order. The widest vectors that
/// the processor has. `bytes` is a multiple of 4.
std::uint32_t read_pass(const void* from, std::size_t bytes);

/// Copies with ordinary vector stores.
void copy_pass(void* to, const void* from, std::size_t bytes);

/// Copies with stores that bypass the caches, fenced.
void nontemporal_copy_pass(void* to, const void* from, std::size_t bytes);

} // namespace bench

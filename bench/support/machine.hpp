// SPDX-License-Identifier: MIT
// Where the numbers were measured, as (key, value) pairs for the report.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace bench {

std::vector<std::pair<std::string, std::string>> describe_machine();

/// Bytes of the largest cache, 0 if the system does not say.
std::size_t last_level_cache();

/// Moves this thread to one core and keeps it there; without a choice the last one allowed, because interrupts prefer
/// the first. Returns the core, or -1 if the system refuses.
int pin_to_core(int wanted);

} // namespace bench

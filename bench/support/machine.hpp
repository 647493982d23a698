// SPDX-License-Identifier: MIT
// Where the numbers were measured, as (key, value) pairs for the report.
#pragma once

#include <cstddef>
#include <pthread.h>
#include <string>
#include <utility>
#include <vector>

namespace bench {

std::vector<std::pair<std::string, std::string>> describe_machine();

/// Bytes of the largest cache, 0 if the system does not say.
std::size_t last_level_cache();

/// Moves a thread to one core and keeps it there; without a choice the last one allowed, because interrupts prefer the
/// first. Returns the core, or -1 if the system refuses.
int pin_to_core(int wanted, pthread_t thread = pthread_self());

/// The cores on which this thread may run.
std::vector<int> allowed_cores();

/// Are these two threads of one physical core?
bool share_a_core(int core, int other);

/// The nearest of the cores that is not this one, on another physical core if there is one; -1: there is none.
int second_core(const std::vector<int>& cores, int core);

} // namespace bench

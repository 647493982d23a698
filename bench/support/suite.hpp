// SPDX-License-Identifier: MIT
// Runs a plan: registers every variant of a shape, checks its answer, lets Google Benchmark time it.
#pragma once

#include "json_log.hpp"
#include "logits_file.hpp"
#include "plan.hpp"
#include "progress.hpp"

namespace bench {

/// Adds what the report needs to know besides the results.
void add_context(const plan& p, const std::string& source, int core);

/// How many answers of the library were wrong (those variants are not timed); notes about peers go to stderr. The
/// second core is for what runs on two threads; -1: there is none.
int run(const plan& p, int second_core, json_log& log);

/// The same for the user's own logits.
int run(const plan& p, const logits& own, json_log& log);

} // namespace bench

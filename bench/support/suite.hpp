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

/// How many answers of the library were wrong (those variants are not timed); notes about peers go to stderr.
int run(const plan& p, json_log& log);

/// The same for the user's own logits.
int run(const plan& p, const logits& own, json_log& log);

} // namespace bench

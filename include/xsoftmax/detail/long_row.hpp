// SPDX-License-Identifier: MIT
// A long row that an executor takes in parts: what all of it holds, summed up.
#pragma once

#include <xsoftmax/detail/call.hpp>
#include <xsoftmax/detail/executor.hpp>
#include <xsoftmax/detail/log_sum_exp_task.hpp>

namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail {

/// The summary of each part, by the step push or push_terms, and in the first that of the row.
template <class T>
struct part_summaries {
  using task = log_sum_exp_state_task<T>;
  using step = typename task::step;

  log_sum_exp_summary part[part_split::most];

  template <class Arch, class Run>
  part_summaries(Arch, const Run& run, step push, const source& z, double temperature, const part_split& split) {
    run([&](std::size_t i) {
      call::log_sum_exp_state(Arch{}, task{.what = push,
                                           .state = &part[i],
                                           .temperature = temperature,
                                           .z = elements_from<T>(z, 0, split.first(i)),
                                           .cols = split.count(i)});
    });
    for (std::size_t i = 1; i < split.parts; ++i) {
      call::log_sum_exp_state(
          Arch{}, task{.what = step::merge, .state = &part[0], .temperature = temperature, .other = &part[i]});
    }
  }
};

} // namespace xsoftmax::inline XSOFTMAX_ABI_NAMESPACE::detail

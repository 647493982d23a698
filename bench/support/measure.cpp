// SPDX-License-Identifier: MIT
#include "measure.hpp"

namespace bench {

namespace {

using clock = std::chrono::steady_clock;

/// Counts the repetitions of one variant. Google Benchmark calls its function several times before the first repetition
/// counts, to find the number of iterations.
struct repetition_counter {
  bool found_iterations = false;
};

} // namespace

double expected_seconds(const plan& p, double ns_per_element, std::size_t elements, std::size_t bytes) {
  const double once = ns_per_element * 1e-9 * static_cast<double>(elements);
  const double search = once < p.min_time ? 2 * p.min_time : 0;
  return p.repetitions_of(bytes) * std::max(once, 1.1 * p.min_time) + search + 2 * once;
}

int time_variants(const session& run, const shape& s, const std::string& type, std::size_t bytes,
                  const std::vector<variant>& all) {
  const std::string where = s.section + "/" + type + "/" + std::to_string(s.rows) + "x" + std::to_string(s.cols);
  const std::size_t elements = s.rows * s.cols;
  const int repetitions = run.p.repetitions_of(bytes);
  int wrong = 0;
  std::vector<repetition_counter> counters(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const variant& v = all[i];
    if (!v.found.failure.empty()) {
      std::fprintf(stderr, "\nwrong answer, not timed: %s %s: %s\n", where.c_str(), v.name.c_str(),
                   v.found.failure.c_str());
      wrong += v.own || v.limit;
    }
    repetition_counter& counter = counters[i];
    const double per_repetition = expected_seconds(run.p, v.guess, elements, bytes) / repetitions;
    const auto measure = [&, per_repetition](benchmark::State& state) {
      if (!v.found.failure.empty()) {
        state.SkipWithError(v.found.failure.c_str());
        return;
      }
      const auto begin = clock::now();
      for (auto _ : state) {
        v.run();
        benchmark::ClobberMemory();
      }
      const double seconds = std::chrono::duration<double>(clock::now() - begin).count();
      counter.found_iterations = counter.found_iterations || seconds >= run.p.min_time;
      if (counter.found_iterations) {
        run.line.advance(per_repetition);
      }
      state.counters["elements"] = static_cast<double>(elements);
      if (v.found.worst_ulp > 0 || v.found.worst_row_sum > 0) {
        state.counters["worst_ulp"] = v.found.worst_ulp;
        state.counters["worst_row_sum"] = v.found.worst_row_sum;
      }
    };
    benchmark::internal::Benchmark* registered = benchmark::RegisterBenchmark((where + "/" + v.name).c_str(), measure)
                                                     ->Repetitions(repetitions)
                                                     ->MinTime(run.p.min_time)
                                                     ->Unit(benchmark::kNanosecond);
    if (v.real_time) {
      registered->UseRealTime();
    }
  }
  benchmark::RunSpecifiedBenchmarks(&run.log);
  benchmark::ClearRegisteredBenchmarks();
  return wrong;
}

} // namespace bench

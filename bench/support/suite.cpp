// SPDX-License-Identifier: MIT
#include "suite.hpp"
#include "answer_check.hpp"
#include "distribution.hpp"
#include "limits.hpp"
#include "machine.hpp"
#include "peer.hpp"
#include "row_buffer.hpp"
#include <cstring>
#include <map>
#include <xsoftmax/softmax.hpp>

namespace bench {

namespace {

namespace xs = xsoftmax;

using clock = std::chrono::steady_clock;

/// One benchmark of a shape.
struct variant {
  std::string name; ///< "who/architecture/algorithm/store"
  bool own;         ///< the library's: held to its promise
  bool limit;       ///< no softmax but the traffic of one
  double guess;     ///< ns per element, for the progress line only
  runner run;
  answer found{};
};

struct named_algorithm {
  const char* name;
  xs::softmax_algorithm algorithm;
};

constexpr named_algorithm algorithms[] = {
    {"automatic", xs::softmax_algorithm::automatic},
    {"three_pass_recompute", xs::softmax_algorithm::three_pass_recompute},
    {"three_pass_reload", xs::softmax_algorithm::three_pass_reload},
    {"two_pass", xs::softmax_algorithm::two_pass},
    {"online", xs::softmax_algorithm::online},
};

// Has the processor (and its operating system, libgcc asks it too) what the tag needs?
template <class Arch>
bool supported() {
  if constexpr (std::is_same_v<Arch, xs::arch::avx512>) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512cd") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
  } else if constexpr (std::is_same_v<Arch, xs::arch::avx2>) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  } else {
    return true;
  }
}

template <class T>
struct row_set {
  const T* z;
  T* p;
  std::size_t rows;
  std::size_t cols;

  std::size_t size() const { return rows * cols; }

  std::size_t bytes() const { return size() * sizeof(T); }
};

template <class Arch, class T>
void add_own_variants(std::vector<variant>& all, const row_set<T>& data, double guess) {
  if (!supported<Arch>()) {
    return;
  }
  const auto add = [&](const named_algorithm& a, xs::store_kind store, const char* store_name) {
    const xs::matrix_view<const T> in(data.z, data.rows, data.cols);
    const xs::matrix_view<T> out(data.p, data.rows, data.cols);
    xs::softmax_options options;
    options.algorithm = a.algorithm;
    options.store = store;
    all.push_back({std::string("xsoftmax/") + Arch::name + "/" + a.name + "/" + store_name, true, false, guess,
                   [=] { xs::softmax<Arch>(in, out, options); }});
  };
  // Where input and output together leave the caches, the kind of store decides as much as the algorithm does: both are
  // measured, so that algorithms are compared with equal stores.
  const bool out_of_cache = 2 * data.bytes() > last_level_cache();
  for (const named_algorithm& a : algorithms) {
    if (!out_of_cache || a.algorithm == xs::softmax_algorithm::automatic) {
      add(a, xs::store_kind::automatic, "automatic");
    } else {
      add(a, xs::store_kind::cached, "cached");
      add(a, xs::store_kind::streaming, "streaming");
    }
  }
}

template <class T>
void add_peers(std::vector<variant>& all, const row_set<T>& data) {
  static const std::vector<peer> peers = available_peers();
  for (const peer& other : peers) {
    const preparation<T>* prepare;
    if constexpr (std::is_same_v<T, float>) {
      prepare = &other.float_rows;
    } else {
      prepare = &other.double_rows;
    }
    if (*prepare) {
      variant v{other.name + "/-/-/-", false, false, 1.5, {}};
      try {
        v.run = (*prepare)(data.z, data.p, data.rows, data.cols);
      } catch (const std::exception& problem) {
        v.found.failure = problem.what();
      }
      all.push_back(std::move(v));
    }
  }
}

template <class T>
void add_limits(std::vector<variant>& all, const row_set<T>& data) {
  all.push_back(
      {"limit/-/read/-", false, true, 0.2, [=] { benchmark::DoNotOptimize(read_pass(data.z, data.bytes())); }});
  all.push_back({"limit/-/copy/-", false, true, 0.4, [=] { copy_pass(data.p, data.z, data.bytes()); }});
  all.push_back(
      {"limit/-/copy_nontemporal/-", false, true, 0.3, [=] { nontemporal_copy_pass(data.p, data.z, data.bytes()); }});
}

template <class T>
std::vector<variant> variants_of(const row_set<T>& data) {
  std::vector<variant> all;
  const double width = sizeof(T) / 4.0;
#if XSOFTMAX_DISPATCH_SSE2
  add_own_variants<xs::arch::sse2>(all, data, 1.5 * width * width);
#endif
#if XSOFTMAX_DISPATCH_AVX2
  add_own_variants<xs::arch::avx2>(all, data, 0.7 * width * width);
#endif
#if XSOFTMAX_DISPATCH_AVX512
  add_own_variants<xs::arch::avx512>(all, data, 0.5 * width * width);
#endif
  add_peers(all, data);
  add_limits(all, data);
  return all;
}

/// Runs each variant once and looks at what it wrote. Returns how many of the library's own are wrong.
template <class T>
int check_answers(std::vector<variant>& all, const row_set<T>& data, const std::string& where) {
  const reference<T> exact(data.z, data.rows, data.cols);
  // Speed choices must not show: one hash for all algorithms and stores, and for all architectures with fused
  // multiply-add.
  std::map<std::string, const variant*> first_of_kind;
  int wrong = 0;
  for (variant& v : all) {
    if (v.limit || !v.found.failure.empty()) {
      continue;
    }
    std::memset(static_cast<void*>(data.p), 0xFF, data.bytes()); // NaN: what is not written is not right
    v.run();
    if (!v.own) {
      v.found = check(exact, data.p, data.rows, data.cols, expected_of_peer<T>(data.cols));
      continue;
    }
    const std::uint64_t hash = hash_bits(data.p, data.bytes());
    const std::string kind = v.name.rfind("xsoftmax/sse2/", 0) == 0 ? "without fma" : "with fma";
    const auto [first, is_new] = first_of_kind.emplace(kind, &v);
    if (!is_new && first->second->found.hash == hash) {
      v.found = first->second->found; // the same bits are as right
    } else {
      v.found = check(exact, data.p, data.rows, data.cols, promised<T>());
      v.found.hash = hash;
      if (!is_new && v.found.failure.empty()) {
        v.found.failure = "its bits differ from those of " + first->second->name;
      }
    }
    wrong += v.own && !v.found.failure.empty();
  }
  // The limits too: a pass that the compiler removed would be a fine limit.
  for (variant& v : all) {
    if (v.limit) {
      std::memset(static_cast<void*>(data.p), 0xFF, data.bytes());
      v.run();
      if (v.name.find("copy") != std::string::npos && std::memcmp(data.p, data.z, data.bytes()) != 0) {
        v.found.failure = "the copy differs from its source";
      }
      wrong += !v.found.failure.empty();
    }
  }
  std::uint32_t words = 0;
  for (std::size_t i = 0; i < data.bytes(); i += 4) {
    std::uint32_t word;
    std::memcpy(&word, reinterpret_cast<const char*>(data.z) + i, 4);
    words ^= word;
  }
  if (words != read_pass(data.z, data.bytes())) {
    std::fprintf(stderr, "the read pass does not read what is there\n");
    ++wrong;
  }
  for (const variant& v : all) {
    if (!v.found.failure.empty()) {
      std::fprintf(stderr, "\nwrong answer, not timed: %s %s: %s\n", where.c_str(), v.name.c_str(),
                   v.found.failure.c_str());
    }
  }
  return wrong;
}

// What a variant will cost: its repetitions, the search for the number of iterations, and the check of its answer.
template <class T>
double expected_seconds(const plan& p, const variant& v, std::size_t size) {
  const double once = v.guess * 1e-9 * static_cast<double>(size);
  const double search = once < p.min_time ? 2 * p.min_time : 0;
  return p.repetitions_of(size * sizeof(T)) * std::max(once, 1.1 * p.min_time) + search + 2 * once;
}

/// Counts the repetitions of one variant. Google Benchmark calls its function several times before the first repetition
/// counts, to find the number of iterations.
struct repetition_counter {
  bool found_iterations = false;
};

template <class T>
int run_shape(const plan& p, const shape& s, const row_set<T>& data, json_log& log, progress& line) {
  const std::string type = std::is_same_v<T, float> ? "float" : "double";
  const std::string where = s.section + "/" + type + "/" + std::to_string(data.rows) + "x" + std::to_string(data.cols);
  line.begin(type + ", " + (data.rows == 1 ? "" : std::to_string(data.rows) + " rows of ") + std::to_string(data.cols));
  std::vector<variant> all = variants_of(data);
  const int wrong = check_answers(all, data, where);
  std::vector<repetition_counter> counters(all.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    const variant& v = all[i];
    repetition_counter& counter = counters[i];
    const int repetitions = p.repetitions_of(data.bytes());
    const double per_repetition = expected_seconds<T>(p, v, data.size()) / repetitions;
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
      counter.found_iterations = counter.found_iterations || seconds >= p.min_time;
      if (counter.found_iterations) {
        line.advance(per_repetition);
      }
      state.counters["elements"] = static_cast<double>(data.size());
      if (!v.limit) {
        state.counters["worst_ulp"] = v.found.worst_ulp;
        state.counters["worst_row_sum"] = v.found.worst_row_sum;
      }
    };
    benchmark::RegisterBenchmark((where + "/" + v.name).c_str(), measure)
        ->Repetitions(repetitions)
        ->MinTime(p.min_time)
        ->Unit(benchmark::kNanosecond);
  }
  benchmark::RunSpecifiedBenchmarks(&log);
  benchmark::ClearRegisteredBenchmarks();
  return wrong;
}

template <class T>
double expected_seconds(const plan& p, const std::vector<shape>& shapes) {
  double seconds = 0;
  for (const shape& s : shapes) {
    for (const variant& v : variants_of(row_set<T>{nullptr, nullptr, s.rows, s.cols})) {
      seconds += expected_seconds<T>(p, v, s.rows * s.cols);
    }
  }
  return seconds;
}

// Of the output, half a page: see row_buffer.
constexpr std::size_t output_offset = 2048;

template <class T>
int run_generated(const plan& p, const std::vector<shape>& shapes, json_log& log, progress& line) {
  std::size_t largest = 0;
  for (const shape& s : shapes) {
    largest = std::max(largest, s.rows * s.cols);
  }
  if (largest == 0) {
    return 0;
  }
  line.begin("generating logits");
  const row_buffer<T> z(largest);
  const row_buffer<T> out(largest, output_offset);
  fill_with_logits(z.data(), largest);
  int wrong = 0;
  for (const shape& s : shapes) {
    wrong += run_shape(p, s, row_set<T>{z.data(), out.data(), s.rows, s.cols}, log, line);
  }
  return wrong;
}

} // namespace

void add_context(const plan& p, const std::string& source, int core) {
  for (const auto& [key, value] : describe_machine()) {
    benchmark::AddCustomContext(key, value);
  }
  std::string architectures;
#if XSOFTMAX_DISPATCH_SSE2
  architectures += supported<xs::arch::sse2>() ? " sse2" : "";
#endif
#if XSOFTMAX_DISPATCH_AVX2
  architectures += supported<xs::arch::avx2>() ? " avx2" : "";
#endif
#if XSOFTMAX_DISPATCH_AVX512
  architectures += supported<xs::arch::avx512>() ? " avx512" : "";
#endif
  benchmark::AddCustomContext("architectures", architectures.empty() ? "" : architectures.substr(1));
  benchmark::AddCustomContext("xsoftmax_version", std::to_string(XSOFTMAX_VERSION_MAJOR) + "." +
                                                      std::to_string(XSOFTMAX_VERSION_MINOR) + "." +
                                                      std::to_string(XSOFTMAX_VERSION_PATCH));
  benchmark::AddCustomContext("flags", XSOFTMAX_BENCH_FLAGS);
  benchmark::AddCustomContext("core", core < 0 ? "not pinned" : std::to_string(core));
  benchmark::AddCustomContext("repetitions", std::to_string(p.repetitions));
  benchmark::AddCustomContext("min_time", std::to_string(p.min_time));
  benchmark::AddCustomContext("logits", source);
  for (const peer& other : available_peers()) {
    benchmark::AddCustomContext("peer " + other.name, other.version);
  }
}

int run(const plan& p, json_log& log) {
  progress line(expected_seconds<float>(p, p.float_shapes) + expected_seconds<double>(p, p.double_shapes));
  int wrong = run_generated<float>(p, p.float_shapes, log, line);
  wrong += run_generated<double>(p, p.double_shapes, log, line);
  return wrong;
}

int run(const plan& p, const logits& own, json_log& log) {
  return std::visit(
      [&](const auto& values) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        const shape s{"logits", own.rows, own.cols};
        const row_buffer<T> out(values.size(), output_offset);
        progress line(expected_seconds<T>(p, {s}));
        return run_shape(p, s, row_set<T>{values.data(), out.data(), own.rows, own.cols}, log, line);
      },
      own.values);
}

} // namespace bench

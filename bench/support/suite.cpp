// SPDX-License-Identifier: MIT
#include "suite.hpp"
#include "costs.hpp"
#include "distribution.hpp"
#include "limits.hpp"
#include "machine.hpp"
#include "measure.hpp"
#include "row_buffer.hpp"
#include <cstring>
#include <map>
#include <xsoftmax/softmax.hpp>

namespace bench {

namespace {

namespace xs = xsoftmax;

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

/// every_store: is each kind of store measured, or the library's choice?
template <class Arch, class T>
void add_own_variants(std::vector<variant>& all, const row_set<T>& data, double guess, bool every_store) {
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
  for (const named_algorithm& a : algorithms) {
    if (!every_store || a.algorithm == xs::softmax_algorithm::automatic) {
      add(a, xs::store_kind::automatic, "automatic");
    } else {
      add(a, xs::store_kind::cached, "cached");
      add(a, xs::store_kind::streaming, "streaming");
    }
  }
  if (data.rows > 1) { // the same rows by a call for each
    all.push_back({std::string("xsoftmax/") + Arch::name + "/row_by_row/automatic", true, false, 4 * guess, [=] {
                     for (std::size_t r = 0; r < data.rows; ++r) {
                       const std::size_t first = r * data.cols;
                       xs::softmax<Arch>(xs::vector_view<const T>(data.z + first, data.cols),
                                         xs::vector_view<T>(data.p + first, data.cols));
                     }
                   }});
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
std::vector<variant> variants_of(const plan& p, const row_set<T>& data) {
  std::vector<variant> all;
  for_each_architecture([&]<class Arch>(Arch) {
    const double guess = std::is_same_v<Arch, xs::arch::avx512> ? 0.5
                         : std::is_same_v<Arch, xs::arch::avx2> ? 0.7
                                                                : 1.5;
    const double width = sizeof(T) / 4.0;
    const bool every_store =
        p.every_store_from != 0 ? data.bytes() >= p.every_store_from : 2 * data.bytes() > last_level_cache();
    add_own_variants<Arch>(all, data, guess * width * width, every_store);
  });
  if (p.with_peers) {
    add_peers(all, data);
  }
  add_limits(all, data);
  return all;
}

/// Runs each variant once and looks at what it wrote. Returns how many faults belong to no variant.
template <class T>
int check_answers(std::vector<variant>& all, const row_set<T>& data) {
  const reference<T> exact(data.z, data.rows, data.cols);
  // Speed choices must not show: one hash for all algorithms and stores, and for all architectures with fused
  // multiply-add.
  std::map<std::string, const variant*> first_of_kind;
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
  }
  // The limits too: a pass that the compiler removed would be a fine limit.
  for (variant& v : all) {
    if (v.limit) {
      std::memset(static_cast<void*>(data.p), 0xFF, data.bytes());
      v.run();
      if (v.name.find("copy") != std::string::npos && std::memcmp(data.p, data.z, data.bytes()) != 0) {
        v.found.failure = "the copy differs from its source";
      }
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
    return 1;
  }
  return 0;
}

template <class T>
int run_shape(const session& run, const shape& s, const row_set<T>& data) {
  run.line.begin(type_name<T> + (", " + (s.rows == 1 ? "" : std::to_string(s.rows) + " rows of ")) +
                 std::to_string(s.cols));
  std::vector<variant> all = variants_of(run.p, data);
  const int wrong = check_answers(all, data);
  return wrong + time_variants(run, s, type_name<T>, data.bytes(), all);
}

template <class T>
double expected_seconds(const plan& p, const std::vector<shape>& shapes, const std::vector<shape>& costs = {}) {
  double seconds = 0;
  for (const shape& s : shapes) {
    const row_set<T> data{nullptr, nullptr, s.rows, s.cols};
    for (const variant& v : variants_of(p, data)) {
      seconds += expected_seconds(p, v.guess, data.size(), data.bytes());
    }
  }
  for (const shape& s : costs) {
    seconds += expected_seconds_of_cost<T>(p, s);
  }
  return seconds;
}

template <class T>
int run_generated(const session& run, const std::vector<shape>& shapes, const std::vector<shape>& costs,
                  int second_core) {
  std::size_t largest = 0;
  for (const std::vector<shape>& list : {shapes, costs}) {
    for (const shape& s : list) {
      largest = std::max(largest, s.rows * s.cols);
    }
  }
  if (largest == 0) {
    return 0;
  }
  run.line.begin("generating logits");
  const row_buffer<T> z(largest);
  const row_buffer<T> out(largest, output_offset);
  fill_with_logits(z.data(), largest);
  int wrong = 0;
  for (const shape& s : shapes) {
    wrong += run_shape(run, s, row_set<T>{z.data(), out.data(), s.rows, s.cols});
  }
  for (const shape& s : costs) {
    wrong += run_cost(run, s, row_set<T>{z.data(), out.data(), s.rows, s.cols}, second_core);
  }
  return wrong;
}

} // namespace

void add_context(const plan& p, const std::string& source, int core) {
  for (const auto& [key, value] : describe_machine()) {
    benchmark::AddCustomContext(key, value);
  }
  std::string architectures;
  for_each_architecture([&]<class Arch>(Arch) { architectures += std::string(" ") + Arch::name; });
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

int run(const plan& p, int second_core, json_log& log) {
  progress line(expected_seconds<float>(p, p.float_shapes, p.float_costs) +
                expected_seconds<double>(p, p.double_shapes, p.double_costs));
  const session all{p, log, line};
  int wrong = run_generated<float>(all, p.float_shapes, p.float_costs, second_core);
  wrong += run_generated<double>(all, p.double_shapes, p.double_costs, second_core);
  return wrong;
}

int run(const plan& p, const logits& own, json_log& log) {
  return std::visit(
      [&](const auto& values) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        const shape s{"logits", own.rows, own.cols};
        const row_buffer<T> out(values.size(), output_offset);
        progress line(expected_seconds<T>(p, {s}));
        return run_shape({p, log, line}, s, row_set<T>{values.data(), out.data(), own.rows, own.cols});
      },
      own.values);
}

} // namespace bench

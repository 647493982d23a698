// SPDX-License-Identifier: MIT
// xsoftmax_bench: the comparison of softmax's variants with each other, with peers and with the machine's limits.
#include "support/costs.hpp"
#include "support/distribution.hpp"
#include "support/machine.hpp"
#include "support/suite.hpp"
#include <cstdio>
#include <cstring>

namespace {

constexpr const char* usage = R"(xsoftmax_bench [--smoke | --quick | --full | --tune | --guard] [--logits FILE]
               [--output FILE] [--core N]
  --quick          half a minute; the default takes a few minutes
  --full           more lengths and more repetitions: about an hour
  --tune           lengths close together, to see where which choice is the fastest: minutes
  --guard          what tells whether a kernel has lost its speed: about a minute
  --smoke          seconds: checks that the suite works
  --logits FILE    the comparison on your own logits: .npy (little-endian float32 or float64, C order, one or
                   two dimensions) or raw little-endian float32
  --output FILE    where the JSON goes (xsoftmax_bench.json)
  --core N         the core to run on (the last one allowed)
)";

struct arguments {
  bench::scope how_much = bench::scope::standard;
  std::string logits;
  std::string output = "xsoftmax_bench.json";
  int core = -1;
};

arguments parse(int count, char** words) {
  arguments given;
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == count) {
        throw std::runtime_error(word + " needs a value");
      }
      return words[++i];
    };
    if (word == "--smoke") {
      given.how_much = bench::scope::smoke;
    } else if (word == "--quick") {
      given.how_much = bench::scope::quick;
    } else if (word == "--full") {
      given.how_much = bench::scope::full;
    } else if (word == "--tune") {
      given.how_much = bench::scope::tune;
    } else if (word == "--guard") {
      given.how_much = bench::scope::guard;
    } else if (word == "--logits") {
      given.logits = value();
    } else if (word == "--output") {
      given.output = value();
    } else if (word == "--core") {
      const std::string core = value();
      if (core.empty() || core.size() > 4 || core.find_first_not_of("0123456789") != std::string::npos) {
        throw std::runtime_error("--core " + core + ": not the number of a core");
      }
      given.core = std::stoi(core);
    } else {
      throw std::runtime_error("unknown argument " + word + "\n\n" + usage);
    }
  }
  return given;
}

} // namespace

int main(int count, char** words) {
  if (count == 2 && (std::strcmp(words[1], "--help") == 0 || std::strcmp(words[1], "-h") == 0)) {
    std::fputs(usage, stdout);
    return 0;
  }
  try {
    const arguments given = parse(count, words);
    const std::vector<int> cores = bench::allowed_cores();
    const int core = bench::pin_to_core(given.core);
    if (given.core >= 0 && core < 0) {
      throw std::runtime_error("--core " + std::to_string(given.core) + ": this core cannot be used");
    }
    char program[] = "xsoftmax_bench";
    char interleaving[] = "--benchmark_enable_random_interleaving=true";
    char* settings[] = {program, interleaving, nullptr};
    int settings_count = 2;
    benchmark::Initialize(&settings_count, settings);

    const bench::plan plan = bench::make_plan(given.how_much);
    int wrong = 0;
    if (given.logits.empty()) {
      const int second_core = core < 0 ? -1 : bench::second_core(cores, core);
      bench::add_context(plan, bench::distribution_name, core);
      benchmark::AddCustomContext("two_threads", bench::describe_two_threads(core, second_core));
      bench::json_log log(given.output);
      wrong = bench::run(plan, second_core, log);
      log.close();
    } else {
      const bench::logits own = bench::read_logits(given.logits);
      bench::add_context(plan, "from " + given.logits, core);
      bench::json_log log(given.output);
      wrong = bench::run(plan, own, log);
      log.close();
    }
    if (wrong > 0) {
      std::fprintf(stderr, "xsoftmax_bench: %d wrong answers (see above)\n", wrong);
      return 1;
    }
    return 0;
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "xsoftmax_bench: %s\n", problem.what());
    return 2;
  }
}

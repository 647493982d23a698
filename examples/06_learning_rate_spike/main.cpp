// SPDX-License-Identifier: MIT
// Someone multiplies the learning rate by a thousand in the middle of training. P. Sao, "Ghosts of softmax" (2026),
// says beyond which length of a step the Taylor series of the loss along it diverges, and keeps the steps below that.
// This program trains a network of 64, 128 and 10 units on small noisy digits that it draws itself (digits.hpp), with
// Adam and batches of 64, for 200 steps, the last 150 of them at 1000 or 10000 times the learning rate, in three ways:
//
//   plain       Adam as it is
//   clipping    each gradient clipped to the norm 1 before Adam sees it
//   controller  each step of Adam scaled so that r = step / radius is at most 1
//
// The radius is the bound pi / (largest spread of the slopes of a sample's logits), over the training set, along the
// step that Adam is about to take. It is computed for all three. The program says how accurate the networks are at the
// spike and in the end, and what a step of which r does to the loss over the training set. No theorem promises that the
// loss falls where r < 1, and the theory is that of smooth networks; this one has ReLU, as in the paper.
//
//   06_learning_rate_spike [--method plain|clipping|controller|all] [--seed N] [--rate X] [--factor X] [--steps N]
//                          [--csv FILE] [--svg FILE]
//                                    --seed: only that, not 1 to 5; --rate: not 1e-4, 1e-3 and 1e-2; --factor: not
//                                    1e3 and 1e4 (the picture shows the first)
//   06_learning_rate_spike --quick   a test of seconds: one seed, 1e-2 times 1000; exit status 1 unless with the
//                                    controller more than 85 % of the test set is right in the end, and less than 30 %
//                                    without
#include "chart.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <limits>
#include <numbers>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace spike {
namespace {

struct named_method {
  method which;
  const char* name;
};

constexpr named_method methods[] = {
    {method::plain, "plain"},
    {method::clipping, "clipping"},
    {method::controller, "controller"},
};

const char* name_of(method m) {
  return methods[static_cast<std::size_t>(m)].name;
}

constexpr int spike_step = 50;

struct settings {
  std::string method = "all";
  std::vector<std::uint64_t> seeds = {1, 2, 3, 4, 5};
  std::vector<double> rates = {1e-4, 1e-3, 1e-2};
  std::vector<double> factors = {1e3, 1e4};
  int steps = 200;
  std::string csv, svg;
  bool quick = false;
};

template <class T>
T number(std::string_view flag, std::string_view value) {
  T result{};
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size()) {
    throw std::invalid_argument(std::string(flag) + " takes a number, not " + std::string(value));
  }
  return result;
}

settings parse(int argc, char** argv) {
  settings s;
  if (std::find(argv + 1, argv + argc, std::string_view("--quick")) != argv + argc) {
    s.quick = true;
    s.seeds = {1};
    s.rates = {1e-2};
    s.factors = {1e3};
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--quick") {
      continue;
    }
    if (i + 1 == argc) {
      throw std::invalid_argument("no such option, or no value for it: " + std::string(flag));
    }
    const std::string_view value = argv[++i];
    if (flag == "--method") {
      s.method = value;
    } else if (flag == "--seed") {
      s.seeds = {number<std::uint64_t>(flag, value)};
    } else if (flag == "--rate") {
      s.rates = {number<double>(flag, value)};
    } else if (flag == "--factor") {
      s.factors = {number<double>(flag, value)};
    } else if (flag == "--steps") {
      s.steps = number<int>(flag, value);
    } else if (flag == "--csv") {
      s.csv = value;
    } else if (flag == "--svg") {
      s.svg = value;
    } else {
      throw std::invalid_argument("no such option: " + std::string(flag));
    }
  }
  if (s.method != "all" &&
      std::none_of(std::begin(methods), std::end(methods), [&](const named_method& m) { return s.method == m.name; })) {
    throw std::invalid_argument("no such method: " + s.method);
  }
  if (s.steps <= spike_step || !(s.rates.front() > 0) || !(s.factors.front() > 0)) {
    throw std::invalid_argument("steps, rate or factor is out of range");
  }
  return s;
}

/// Runs that differ only in their seed.
using runs = std::vector<history>;

/// +inf also where there is no loss: logits that overflowed.
double loss_of(const point& p) {
  return std::isnan(p.training_loss) ? std::numeric_limits<double>::infinity() : p.training_loss;
}

double largest_loss(const history& run) {
  double largest = 0;
  for (const point& p : run.points) {
    largest = std::max(largest, loss_of(p));
  }
  return largest;
}

void print_heading() {
  std::printf("%-11s%8s%8s%6s%9s%9s%13s%11s%11s%9s%8s\n", "method", "rate", "factor", "seed", "at spike", "end",
              "largest loss", "r at spike", "largest r", "r > 1", "seconds");
}

void print(const history& run) {
  const point& at_spike = run.points[spike_step];
  std::printf("%-11s%8g%8g%6llu%8.1f%%%8.1f%%%13.4g%11.3g%11.3g%8.1f%%%8.2f\n", name_of(run.options.which),
              run.options.rate, run.options.factor, static_cast<unsigned long long>(run.options.seed),
              100 * at_spike.test_accuracy, 100 * run.points.back().test_accuracy, largest_loss(run), at_spike.ratio,
              run.largest_ratio, 100.0 * static_cast<double>(run.beyond_radius) / run.options.steps, run.seconds);
  std::fflush(stdout);
}

/// Mean and range over the seeds.
template <class Value>
std::string summary(const runs& all, const char* format, Value value) {
  double sum = 0;
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const history& run : all) {
    const double v = value(run);
    sum += v;
    low = std::min(low, v);
    high = std::max(high, v);
  }
  char text[3][32];
  std::snprintf(text[0], sizeof text[0], format, sum / static_cast<double>(all.size()));
  std::snprintf(text[1], sizeof text[1], format, low);
  std::snprintf(text[2], sizeof text[2], format, high);
  return std::string(text[0]) + " (" + text[1] + ".." + text[2] + ")";
}

void print_table(const std::vector<runs>& table) {
  std::printf("\nmean (range) over the seeds; accuracies and shares in %%\n%-11s%8s%8s%20s%20s%30s%12s%20s%8s\n",
              "method", "rate", "factor", "test at spike", "test in the end", "r at spike", "worst r",
              "steps with r > 1", "limited");
  for (const runs& all : table) {
    const run_options& o = all.front().options;
    double worst = 0;
    std::size_t limited = 0;
    for (const history& run : all) {
      worst = std::max(worst, run.largest_ratio);
      limited += o.which == method::controller ? run.beyond_radius : 0;
    }
    std::printf("%-11s%8g%8g%20s%20s%30s%12.3g%20s%8.0f\n", name_of(o.which), o.rate, o.factor,
                summary(all, "%.1f", [](const history& h) { return 100 * h.points[spike_step].test_accuracy; }).c_str(),
                summary(all, "%.1f", [](const history& h) { return 100 * h.points.back().test_accuracy; }).c_str(),
                summary(all, "%.3g", [](const history& h) { return h.points[spike_step].ratio; }).c_str(), worst,
                summary(all, "%.1f",
                        [](const history& h) { return 100.0 * static_cast<double>(h.beyond_radius) / h.options.steps; })
                    .c_str(),
                static_cast<double>(limited) / static_cast<double>(all.size()));
  }
}

/// What a step does to the loss over the training set, by its r: steps before the spike and after, until the loss of a
/// run exceeds that of a guess, ln 10, by more than 1. Left out is what follows: hidden units that no image reaches any
/// more leave hardly anything but biases to learn, at an r that may well be small.
void print_effect_of_steps(const std::vector<runs>& table) {
  struct interval {
    double above, up_to;
    std::size_t steps = 0, rises = 0, noticeable = 0, failures = 0;
    double largest = 0, largest_factor = 0;
  };
  constexpr double infinity = std::numeric_limits<double>::infinity();
  interval intervals[] = {{0, 0.1}, {0.1, 0.3}, {0.3, 1}, {1, 3}, {3, 10}, {10, 100}, {100, infinity}};
  std::set<std::array<double, 3>> seen; // runs share what comes before the spike, and more
  for (const runs& all : table) {
    for (const history& run : all) {
      bool failed = false;
      for (std::size_t t = 0; t + 1 < run.points.size() && !failed; ++t) {
        const double r = run.points[t].scale < 1 ? 1 : run.points[t].ratio; // 1, not what rounding makes of it
        const double before = loss_of(run.points[t]);
        const double after = loss_of(run.points[t + 1]);
        failed = after > std::numbers::ln10 + 1;
        interval* i = std::find_if(std::begin(intervals), std::end(intervals) - 1,
                                   [&](const interval& one) { return r <= one.up_to; });
        if (seen.insert({r, before, after}).second) {
          ++i->steps;
          i->rises += after > before ? 1 : 0;
          i->noticeable += after > before + 0.1 ? 1 : 0;
          i->failures += failed ? 1 : 0;
          i->largest = std::max(i->largest, after - before);
          i->largest_factor = std::max(i->largest_factor, after / before);
        }
      }
    }
  }
  std::printf("\ndifferent steps by the r that was taken, until a run fails, and the loss over the training set after "
              "them\n%9s%9s%8s%10s%18s%10s%12s%10s\n",
              "r above", "up to", "steps", "it rises", "by more than 0.1", "most", "at most x", "failures");
  for (const interval& i : intervals) {
    if (i.steps > 0) {
      const double all = static_cast<double>(i.steps) / 100;
      std::printf("%9g%9g%8zu%9.1f%%%17.1f%%%10.3g%12.3g%10zu\n", i.above, i.up_to, i.steps,
                  static_cast<double>(i.rises) / all, static_cast<double>(i.noticeable) / all, i.largest,
                  i.largest_factor, i.failures);
    }
  }
}

void write_csv(const std::string& file, const std::vector<runs>& table) {
  std::ofstream out(file);
  out << "method,rate,factor,seed,step,training_loss,test_accuracy,r,scale\n";
  for (const runs& all : table) {
    for (const history& run : all) {
      for (const point& p : run.points) {
        out << name_of(run.options.which) << ',' << run.options.rate << ',' << run.options.factor << ','
            << run.options.seed << ',' << p.step << ',' << p.training_loss << ',' << p.test_accuracy << ',' << p.ratio
            << ',' << p.scale << '\n';
      }
    }
  }
  if (!out.flush()) {
    throw std::runtime_error("cannot write " + file);
  }
}

void write_svg(const settings& s, const std::vector<runs>& table) {
  std::vector<std::string> columns;
  for (const double rate : s.rates) {
    char title[64];
    std::snprintf(title, sizeof title, "learning rate %g, then %g", rate, rate * s.factors.front());
    columns.push_back(title);
  }
  std::vector<group> groups;
  for (const runs& all : table) {
    const run_options& o = all.front().options;
    if (o.factor == s.factors.front()) {
      const auto column = std::find(s.rates.begin(), s.rates.end(), o.rate) - s.rates.begin();
      groups.push_back({static_cast<std::size_t>(column), o.which, all});
    }
  }
  char title[128];
  std::snprintf(title, sizeof title, "The learning rate rises %g-fold after %d steps: ", s.factors.front(), spike_step);
  const std::string seeds = s.seeds.size() == 1 ? "seed " + std::to_string(s.seeds.front())
                                                : "median and range over " + std::to_string(s.seeds.size()) + " seeds";
  chart(title + seeds, columns, groups, spike_step).write(s.svg);
}

/// The controller is to survive what Adam alone does not.
bool as_expected(const std::vector<runs>& table) {
  for (const runs& all : table) {
    for (const history& run : all) {
      const double end = run.points.back().test_accuracy;
      if (run.options.which == method::controller ? !(end > 0.85) : !(end < 0.3)) {
        std::printf("%s: the accuracy in the end, %.1f %%, is not as expected\n", name_of(run.options.which),
                    100 * end);
        return false;
      }
    }
  }
  return true;
}

} // namespace
} // namespace spike

int main(int argc, char** argv) try {
  using namespace spike;
  const settings s = parse(argc, argv);
  std::vector<runs> table;
  print_heading();
  for (const double factor : s.factors) {
    for (const double rate : s.rates) {
      for (const named_method& m : methods) {
        if (s.method != "all" && s.method != m.name) {
          continue;
        }
        runs all;
        for (const std::uint64_t seed : s.seeds) {
          all.push_back(train({m.which, rate, factor, seed, s.steps, spike_step}));
          print(all.back());
        }
        table.push_back(std::move(all));
      }
    }
  }
  print_table(table);
  print_effect_of_steps(table);
  if (!s.csv.empty()) {
    write_csv(s.csv, table);
  }
  if (!s.svg.empty()) {
    write_svg(s, table);
  }
  return s.quick && !as_expected(table) ? 1 : 0;
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 2;
}

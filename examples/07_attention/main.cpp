// SPDX-License-Identifier: MIT
// Where attention looks: softmax, sigmoid and softplus (LSSA, and re-weighted LSSAR with p = 3 and 15) on the same
// queries and keys, of which it is known what is right. A phrase of 12 tokens comes three times, and each query looks
// for the keys that followed its token before. Nothing is trained: the differences are those of the functions alone.
//
//   softmax   a row adds up to 1 wherever it looks, also where there is nothing to be found
//   sigmoid   each key by itself: several right keys do not compete, and a row adds up to anything
//   LSSA      softplus instead of the exponential, so no key can outweigh all others
//   LSSAR     and of its weights what is above the average, to the power p: the rest is exactly 0
//
// The second part makes the sequence longer, with one right key per query: scores of softmax and sigmoid do not grow
// with the length, the crowd of the others does. The third part takes the time of a call. A table says the same as the
// picture. What must hold is checked: sums of rows, exact zeros where a query must not look.
//
//   07_attention [--svg FILE] [--longest N] [--seed N]
//   07_attention --quick     a test of seconds; the checks are the same. Exit status 1 if one fails
#include "attend.hpp"
#include "chart.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

namespace attention {
namespace {

struct settings {
  unsigned seed = 1;
  std::size_t longest = 16384;
  std::string svg;
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
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--quick") {
      s.longest = 512;
      continue;
    }
    if (i + 1 == argc) {
      throw std::invalid_argument("no such option, or no value for it: " + std::string(flag));
    }
    const std::string_view value = argv[++i];
    if (flag == "--svg") {
      s.svg = value;
    } else if (flag == "--longest") {
      s.longest = number<std::size_t>(flag, value);
    } else if (flag == "--seed") {
      s.seed = number<unsigned>(flag, value);
    } else {
      throw std::invalid_argument("no such option: " + std::string(flag));
    }
  }
  if (s.longest < 256) {
    throw std::invalid_argument("--longest is below 256");
  }
  return s;
}

double sum_of(const matrix& w, std::size_t row) {
  double sum = 0;
  for (std::size_t j = 0; j < w.cols; ++j) {
    sum += static_cast<double>(w(row, j));
  }
  return sum;
}

/// Seconds of a call: processor time, to which other programs add little, of the fastest series of calls.
double time_of(kind which, std::size_t length, std::mt19937& random) {
  const matrix q = random_vectors(length, random);
  const matrix k = random_vectors(length, random);
  const matrix v = random_vectors(length, random);
  matrix out{length, depth};
  double best = 1e300;
  for (int series = 0; series < 5; ++series) {
    const std::clock_t begin = std::clock();
    std::clock_t taken = 0;
    int calls = 0;
    for (; taken < CLOCKS_PER_SEC / 50; ++calls) {
      attend(which, q, k, v, out);
      taken = std::clock() - begin;
    }
    best = std::min(best, static_cast<double>(taken) / CLOCKS_PER_SEC / calls);
  }
  return best;
}

bool check(bool holds, kind which, const char* what) {
  if (!holds) {
    std::printf("WRONG, %s: %s\n", name_of(which), what);
  }
  return holds;
}

/// What must hold of any weights.
bool checked(kind which, const sequence& s, const matrix& w) {
  bool within = true;
  bool unseen = true;
  bool sums = true;
  for (std::size_t i = 0; i < w.rows; ++i) {
    for (std::size_t j = 0; j < w.cols; ++j) {
      within = within && w(i, j) >= 0 && w(i, j) <= 1;
      unseen = unseen && (j <= i || w(i, j) == 0.0f);
    }
    sums = sums && std::abs(sum_of(w, i) - 1) < 1e-5;
  }
  bool ok = check(within, which, "a weight is not in [0, 1]");
  ok = check(unseen, which, "a key that is not seen has a weight") && ok;
  ok = check(sums || !is_normalised(which), which, "a row does not add up to 1") && ok;

  // Scores of 0: all keys that are seen are equal. The bias of sigmoid attention is -log n for the n keys of the whole
  // sequence, so that each has the weight 1 / (n + 1) and the last query, which sees them all, gets n / (n + 1).
  const matrix equal = weights(which, matrix{s.q.rows, s.q.cols}, s.k);
  bool uniform = true;
  for (std::size_t i = 0; i < equal.rows; ++i) {
    const double wanted = is_normalised(which) ? 1 / static_cast<double>(i + 1) : 1 / static_cast<double>(w.cols + 1);
    for (std::size_t j = 0; j <= i; ++j) {
      uniform = uniform && std::abs(static_cast<double>(equal(i, j)) / wanted - 1) < 1e-5;
    }
  }
  return check(uniform, which, "equal keys have other weights than they should have") && ok;
}

/// Over the queries that have a right key: the share of their weight that lies there, and the sum of a row; the sum
/// where there is none; and how many of the keys that are seen have the weight 0.
void print(const sequence& s, const result& r) {
  double share = 0, sum = 0, sum_of_others = 0;
  std::size_t some = 0, zeros = 0, seen = 0;
  for (std::size_t i = 0; i < sequence::length; ++i) {
    double right = 0;
    bool any = false;
    for (std::size_t j = 0; j <= i; ++j) {
      const float weight = r.weights(i, j);
      right += s.is_right(i, j) ? static_cast<double>(weight) : 0;
      any = any || s.is_right(i, j);
      zeros += weight == 0 ? 1 : 0;
      ++seen;
    }
    const double all = sum_of(r.weights, i);
    share += any ? right / all : 0;
    (any ? sum : sum_of_others) += all;
    some += any ? 1 : 0;
  }
  const auto with = static_cast<double>(some);
  std::printf("%-15s%9.1f%%%12.3f%12.3f%9.1f%%%11.1f%%%9.1f%%%11.3f\n", name_of(r.which), 100 * share / with,
              sum / with, sum_of_others / (static_cast<double>(sequence::length) - with),
              100.0 * static_cast<double>(zeros) / static_cast<double>(seen), 100 * r.found.front().value,
              100 * r.found.back().value, 1e3 * r.seconds.back().value);
}

} // namespace
} // namespace attention

int main(int argc, char** argv) try {
  using namespace attention;
  const settings options = parse(argc, argv);
  std::mt19937 random(options.seed);
  const sequence s(random);
  bool ok = true;
  std::vector<result> results;
  for (const kind which : kinds) {
    result r{which, weights(which, s.q, s.k), {}, {}};
    ok = checked(which, s, r.weights) && ok;
    for (std::size_t length = 128; length <= options.longest; length *= 2) {
      std::mt19937 same(options.seed); // for all kinds
      r.found.push_back({length, found(which, length, same)});
      r.seconds.push_back({length, time_of(which, length, same)});
    }
    results.push_back(std::move(r));
  }

  const std::size_t longest = results.front().found.back().length;
  std::printf("%zu tokens, the phrase three times; then one right key among 128 and %zu; architecture %s\n\n", s.length,
              longest, xs::active_architecture());
  std::printf("%-15s%10s%12s%12s%10s%12s%10s%11s\n%-15s%10s%12s%12s%10s%12s%10zu%11s\n", "", "on right", "row sum,",
              "row sum,", "weights", "found in", "found in", "ms a call", "", "keys", "right keys", "none", "exactly 0",
              "128", longest, "");
  for (const result& r : results) {
    print(s, r);
  }
  if (!options.svg.empty()) {
    chart(s, results).write(options.svg);
  }
  std::printf("\n%s\n", ok ? "Rows add up to what they should, and no query looks ahead." : "This must not be.");
  return ok ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 2;
}

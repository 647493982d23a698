// SPDX-License-Identifier: MIT
// Draws next tokens from rows of logits as long as the vocabulary of a language model, at several temperatures, with
// and without top-p and min-p, and shows that whoever draws them gets the same tokens: another architecture, two
// threads, the rows in another order.
//
//   04_sampling [ROWS] [SEED]
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <thread>
#include <vector>
#include <xsoftmax/gumbel.hpp>

namespace xs = xsoftmax;

namespace {

constexpr std::size_t vocabulary = 128256;

/// What a model might say: a few tokens stand out, the rest lies far below.
std::vector<float> make_logits(std::size_t rows) {
  std::mt19937_64 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> z(rows * vocabulary);
  for (std::size_t r = 0; r < rows; ++r) {
    float* const row = z.data() + r * vocabulary;
    for (std::size_t i = 0; i < vocabulary; ++i) {
      row[i] = 2.5f * normal(engine);
    }
    for (int rank = 0; rank < 30; ++rank) {
      row[engine() % vocabulary] = 16 - 2 * std::log1p(static_cast<float>(rank)) + normal(engine);
    }
  }
  return z;
}

/// Runs the bodies on two threads: the even ones here, the odd ones on another.
void on_two_threads(std::size_t count, const auto& body) {
  std::thread other([&] {
    for (std::size_t i = 1; i < count; i += 2) {
      body(i);
    }
  });
  for (std::size_t i = 0; i < count; i += 2) {
    body(i);
  }
  other.join();
}

struct setting {
  const char* name;
  xs::sample_options options;
};

} // namespace

int main(int argc, char** argv) {
  const std::size_t rows = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 64;
  const xs::noise_key key{.seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 42};
  const std::vector<float> z = make_logits(rows);
  const xs::matrix_view<const float> logits(z.data(), rows, vocabulary);
  const setting settings[] = {
      {"T = 0 (greedy)", {.temperature = 0}},
      {"T = 0.7", {.temperature = 0.7}},
      {"T = 1", {}},
      {"T = 1.5", {.temperature = 1.5}},
      {"T = 1, top-k 50", {.top_k = 50}},
      {"T = 1, top-p 0.95", {.top_p = 0.95}},
      {"T = 1.5, min-p 0.05", {.temperature = 1.5, .min_p = 0.05}},
      {"T = 0.8, all three", {.temperature = 0.8, .top_k = 50, .top_p = 0.95, .min_p = 0.02}},
  };
  std::printf("%zu rows of %zu logits, seed %llu, architecture %s\n\n%-22s%14s%10s  first tokens\n", rows, vocabulary,
              static_cast<unsigned long long>(key.seed), xs::active_architecture(), "", "tokens/s", "ns/logit");
  bool same = true;
  for (const setting& s : settings) {
    std::vector<std::size_t> tokens(rows);
    const auto begin = std::chrono::steady_clock::now();
    xs::sample(key, logits, tokens, s.options);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::printf("%-22s%14.0f%10.3f ", s.name, static_cast<double>(rows) / seconds,
                seconds * 1e9 / static_cast<double>(rows * vocabulary));
    for (std::size_t r = 0; r < std::min<std::size_t>(rows, 6); ++r) {
      std::printf(" %zu", tokens[r]);
    }
    std::printf("\n");

    // Two threads, and the rows one by one from the last to the first.
    std::vector<std::size_t> others(rows);
    xs::sample([](std::size_t count, const auto& body) { on_two_threads(count, body); }, key, logits, others,
               s.options);
    same = same && others == tokens;
    for (std::size_t r = rows; r-- > 0;) {
      xs::noise_key of_row = key;
      of_row.row += r;
      others[r] = xs::sample(of_row, xs::vector_view<const float>(z.data() + r * vocabulary, vocabulary), s.options);
    }
    same = same && others == tokens;
#if defined(XSOFTMAX_DISPATCH_SSE2)
    // The baseline, without fused multiply-add: what needs no softmax is the same to the bit.
    if (s.options.top_p == 1 && s.options.min_p == 0) {
      xs::sample<xs::arch::sse2>(key, logits, others, s.options);
      same = same && others == tokens;
    }
#endif
  }
  std::printf("\n%s\n", same ? "The same tokens on two threads, row by row, and by the baseline's kernels."
                             : "The tokens differ: this must not be.");
  return same ? 0 : 1;
}

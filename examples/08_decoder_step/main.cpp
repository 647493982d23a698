// SPDX-License-Identifier: MIT
// Decoding with a KV cache: a prompt is taken as a whole (prefill), then token after token is drawn and appended. The
// weights are random, so the tokens mean nothing; the steps are those of a language model (decoder.hpp).
//
// At the end one causal call over all queries and the whole cache must give the bits that came out of attention step by
// step: a query's result depends on itself and the keys that it sees, and on nothing else. That is what makes it safe
// to keep a cache, to cut prompts into pieces and to put requests into one batch. (It is promised for attention.
// Products of matrices round as their shape wills, so the decoder as a whole is compared with a tolerance.)
//
//   08_decoder_step [--prompt N] [--tokens N] [--threads N] [--seed N]
//   08_decoder_step --quick      a test of seconds. Exit status 1 if a bit differs
#include "decoder.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <xsoftmax/eigen.hpp>
#include <xsoftmax/gumbel.hpp>

namespace decoder {
namespace {

struct settings {
  sizes shape;
  std::size_t prompt = 512;
  std::size_t tokens = 256;
  team threads;
  unsigned seed = 1;
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
      s.shape = {.blocks = 2, .heads = 4, .kv_heads = 2, .depth = 32, .hidden = 256, .vocabulary = 512};
      s.prompt = 200;
      s.tokens = 40;
      s.threads = {2};
      continue;
    }
    if (i + 1 == argc) {
      throw std::invalid_argument("no such option, or no value for it: " + std::string(flag));
    }
    const std::string_view value = argv[++i];
    if (flag == "--prompt") {
      s.prompt = number<std::size_t>(flag, value);
    } else if (flag == "--tokens") {
      s.tokens = number<std::size_t>(flag, value);
    } else if (flag == "--threads") {
      s.threads = {number<std::size_t>(flag, value)};
    } else if (flag == "--seed") {
      s.seed = number<unsigned>(flag, value);
    } else {
      throw std::invalid_argument("no such option: " + std::string(flag));
    }
  }
  if (s.prompt == 0 || s.tokens == 0 || s.threads.threads == 0) {
    throw std::invalid_argument("prompt, tokens and threads are at least 1");
  }
  s.shape.capacity = static_cast<Eigen::Index>(s.prompt + s.tokens);
  return s;
}

/// What attention took and gave, block by block, over all calls.
struct record {
  std::vector<matrix> q, out;

  void add(const model& m) {
    q.resize(m.blocks.size());
    out.resize(m.blocks.size());
    for (std::size_t i = 0; i < m.blocks.size(); ++i) {
      append(q[i], m.blocks[i].q);
      append(out[i], m.blocks[i].mixed);
    }
  }

  static void append(matrix& all, const matrix& rows) {
    all.conservativeResize(all.rows() + rows.rows(), rows.cols());
    all.bottomRows(rows.rows()) = rows;
  }
};

/// Does one call over the whole sequence give the bits of the many? Without threads and workspace, which leave no
/// trace.
bool same_bits(const sizes& s, const model& m, const record& r) {
  bool same = true;
  for (std::size_t i = 0; i < m.blocks.size(); ++i) {
    matrix out(r.q[i].rows(), r.q[i].cols());
    xs::softmax_attention(xs::attention_view<const float>::from_blhd(r.q[i].data(), 1, out.rows(), s.heads, s.depth),
                          m.blocks[i].cache.keys(), m.blocks[i].cache.values(),
                          xs::attention_view<float>::from_blhd(out.data(), 1, out.rows(), s.heads, s.depth),
                          {.causal = true});
    same = same && std::memcmp(out.data(), r.out[i].data(), sizeof(float) * static_cast<std::size_t>(out.size())) == 0;
  }
  return same;
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

} // namespace
} // namespace decoder

int main(int argc, char** argv) try {
  using namespace decoder;
  const settings s = parse(argc, argv);
  model m(s.shape, s.threads, s.seed);
  record seen;
  std::vector<std::size_t> tokens(s.prompt);
  std::mt19937 random(s.seed);
  std::generate(tokens.begin(), tokens.end(), [&] { return random() % static_cast<std::size_t>(s.shape.vocabulary); });

  auto begin = std::chrono::steady_clock::now();
  Eigen::RowVectorXf logits = m(tokens);
  const double prefill = seconds_since(begin);
  seen.add(m);

  double decoding = 0;
  std::printf("first tokens:");
  for (std::size_t i = 0; i < s.tokens; ++i) {
    begin = std::chrono::steady_clock::now();
    // The draw depends on the seed and the place of the token: whoever decodes gets the same from the same logits.
    const xs::noise_key key{.seed = s.seed, .row = tokens.size()};
    tokens.push_back(xs::sample(key, logits, {.temperature = 0.8, .top_k = 50}));
    logits = m(std::span(tokens).last(1));
    decoding += seconds_since(begin);
    seen.add(m);
    if (i < 8) {
      std::printf(" %zu", tokens.back());
    }
  }
  std::printf("\narchitecture %s, %zu thread%s for attention\n", xs::active_architecture(), s.threads.threads,
              s.threads.threads == 1 ? "" : "s");
  std::printf("prefill  %6zu tokens %10.0f tokens/s\n", s.prompt, static_cast<double>(s.prompt) / prefill);
  std::printf("decoding %6zu tokens %10.0f tokens/s\n", s.tokens, static_cast<double>(s.tokens) / decoding);

  const bool same = same_bits(s.shape, m, seen);
  std::printf("attention, step by step and at once: %s\n", same ? "the same bits" : "DIFFERENT BITS");

  // A new decoder that is given all tokens at once ends with the same logits, but for the rounding of the products.
  model whole(s.shape, s.threads, s.seed);
  const double apart = static_cast<double>((whole(tokens) - logits).norm() / logits.norm());
  std::printf("logits, step by step and at once: %.1e apart\n", apart);
  return same && apart < 0.02 ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << "\n";
  return 2;
}

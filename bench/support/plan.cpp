// SPDX-License-Identifier: MIT
#include "plan.hpp"

namespace bench {

namespace {

std::vector<shape> lengths(const std::vector<std::size_t>& steps, std::size_t largest) {
  std::vector<shape> shapes;
  for (std::size_t decade = 100; decade <= largest; decade *= 10) {
    for (const std::size_t step : steps) {
      if (decade * step <= largest) {
        shapes.push_back({"length", 1, decade * step});
      }
    }
  }
  return shapes;
}

void append(std::vector<shape>& shapes, const std::vector<shape>& more) {
  shapes.insert(shapes.end(), more.begin(), more.end());
}

} // namespace

plan make_plan(scope how_much) {
  // Rows of the output layers of language models: SentencePiece-sized, GPT-2, Llama 3, Qwen 2, Gemma.
  const std::vector<shape> vocabulary{{"vocabulary", 1, 32000},
                                      {"vocabulary", 1, 50257},
                                      {"vocabulary", 1, 128256},
                                      {"vocabulary", 1, 151936},
                                      {"vocabulary", 1, 262144}};
  // Batches of short rows; the last one is the yardstick of a long row.
  const std::vector<shape> short_rows{{"short_rows", 64, 16},  {"short_rows", 64, 32},  {"short_rows", 64, 64},
                                      {"short_rows", 64, 128}, {"short_rows", 64, 256}, {"short_rows", 4, 4096}};
  // The promised costs. Columns: a matrix of that shape, softmax down its columns.
  const std::vector<shape> columns{{"columns", 64, 64},
                                   {"columns", 1000, 128},
                                   {"columns", 1000, 1000},
                                   {"columns", 4096, 256},
                                   {"columns", 4096, 4096}};
  const std::vector<shape> costs{
      {"halves", 1, 1000},     {"halves", 1, 100'000},    {"halves", 1, 16'000'000},     {"threads", 256, 1000},
      {"threads", 1024, 1000}, {"threads", 1, 4'000'000}, {"sample_threads", 256, 1000}, {"sample_threads", 16, 131072},
      {"operations", 1, 100},  {"operations", 1, 1000},   {"operations", 1, 100'000},    {"operations", 1, 16'000'000},
      {"kinds", 64, 1000},     {"kinds", 1, 4096},        {"kinds", 1, 100'000},         {"calls", 1, 16},
      {"losses", 4096, 16},    {"losses", 256, 1000},     {"losses", 1, 131072},         {"noise", 256, 1000},
      {"noise", 1, 131072},    {"radius", 1, 1000},       {"radius", 16'000, 1000}};
  // Queries and keys of one head, or keys of each head that a token meets; by its depth.
  const std::vector<shape> some_attention{{"attention", 1024, 64}, {"attention", 2048, 128}, {"decode", 32768, 128}};
  std::vector<shape> attention{{"attention_threads", 2048, 64}};
  for (const std::size_t depth : {64, 128}) {
    append(attention, {{"attention", 512, depth},
                       {"attention", 1024, depth},
                       {"attention", 2048, depth},
                       {"attention", 4096, depth},
                       {"decode", 512, depth},
                       {"decode", 2048, depth},
                       {"decode", 8192, depth},
                       {"decode", 32768, depth}});
  }
  plan p{};
  switch (how_much) {
  case scope::smoke:
    p = {lengths({1}, 10000), lengths({1}, 1000), 2, 0.0005};
    append(p.float_shapes, {vocabulary[0], short_rows[2]});
    p.float_costs = {columns[0],
                     costs[0],
                     {"threads", 64, 1000},
                     {"threads", 1, 200'000},
                     {"sample_threads", 64, 1000},
                     {"operations", 1, 100},
                     {"kinds", 4, 1000},
                     {"calls", 1, 16},
                     {"losses", 4, 1000},
                     {"noise", 4, 1000},
                     {"radius", 1, 1000},
                     {"attention", 128, 64},
                     {"attention_threads", 256, 64},
                     {"decode", 256, 64}};
    p.double_costs = {columns[0]};
    break;
  case scope::quick:
    p = {lengths({1}, 10'000'000), lengths({1}, 1'000'000), 7, 0.003};
    append(p.float_shapes, {vocabulary[0], vocabulary[2], short_rows[0], short_rows[2], short_rows[5]});
    p.float_costs = {columns.begin(), columns.end() - 1};
    append(p.float_costs, costs);
    append(p.float_costs, some_attention);
    break;
  case scope::standard:
    p = {lengths({1, 3}, 100'000'000), lengths({1, 3}, 100'000'000), 7, 0.006};
    append(p.float_shapes, {{"length", 1, 128}});
    append(p.float_shapes, vocabulary);
    append(p.float_shapes, short_rows);
    break;
  case scope::full:
    p = {lengths({1, 2, 3, 5, 7}, 100'000'000), lengths({1, 2, 3, 5, 7}, 100'000'000), 15, 0.05};
    append(p.float_shapes, vocabulary);
    append(p.float_shapes, short_rows);
    append(p.double_shapes, vocabulary);
    append(p.double_shapes, short_rows);
    break;
  case scope::tune:
    p = {{}, {}, 7, 0.004};
    p.with_peers = false;
    p.every_store_from = std::size_t{1} << 20;
    for (std::size_t n = std::size_t{1} << 10; n <= std::size_t{1} << 26; n *= 2) {
      p.float_shapes.push_back({"length", 1, n});
      if (n >= std::size_t{1} << 17 && n < std::size_t{1} << 24) { // where it changes
        p.float_shapes.push_back({"length", 1, n + n / 2});
      }
      if (n <= std::size_t{1} << 25) {
        p.double_shapes.push_back({"length", 1, n});
      }
    }
    for (const std::size_t n : {1, 2, 4, 8, 16, 24, 32, 48, 64, 65, 80, 96, 128}) {
      p.float_shapes.push_back({"short_rows", 64, static_cast<std::size_t>(n)});
      p.double_shapes.push_back({"short_rows", 64, static_cast<std::size_t>(n)});
    }
    break;
  case scope::guard:
    p = {lengths({1}, 100'000), lengths({1}, 100'000), 9, 0.004};
    append(p.float_shapes, {{"length", 1, 16'000'000}});
    append(p.float_shapes, short_rows);
    p.float_costs = {columns[1], columns[2], {"halves", 1, 16'000'000}, {"operations", 1, 1000}};
    append(p.float_costs, {costs.end() - 11, costs.end() - 1});
    append(p.float_costs, some_attention);
    p.double_costs = {columns[1]};
    break;
  }
  if (how_much == scope::standard || how_much == scope::full) {
    p.float_costs = p.double_costs = columns;
    append(p.float_costs, costs);
    append(p.float_costs, {{"halves", 1, 64'000'000}, {"losses", 1, 16'000'000}});
    append(p.float_costs, attention);
  }
  if (how_much == scope::full) { // long columns: not aligned to a batch, and a narrow matrix
    append(p.float_costs, {{"columns", 10'000, 1000}, {"columns", 50'000, 64}});
  }
  return p;
}

} // namespace bench

// SPDX-License-Identifier: MIT
// Shards of a row, normalised by a state that has seen all of them: the bits of softmax over the whole row.

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/kernels_once.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Cuts z at multiples of the block, pushes the pieces to states of their own, merges them pairwise from the end, and
/// has each piece normalised.
template <class Arch, class T>
std::vector<T> by_shards(const std::vector<T>& z, const xs::softmax_options& options, generator& random) {
  using state = xs::log_sum_exp_state<T>;
  struct piece {
    std::size_t first;
    std::size_t count;
  };
  std::vector<piece> pieces;
  for (std::size_t first = 0; first < z.size();) {
    const std::size_t wanted = (1 + random.below(3)) * state::block_size;
    const std::size_t count = std::min(wanted, z.size() - first);
    pieces.push_back({first, count});
    first += count;
  }
  std::vector<state> states;
  for (const piece& part : pieces) {
    states.emplace_back(options.temperature);
    states.back().template push<Arch>(xs::vector_view<const T>(z.data() + part.first, part.count));
    if (random.below(3) == 0) {
      states.emplace_back(options.temperature); // an empty one is neutral
    }
  }
  while (states.size() > 1) {
    const std::size_t i = random.below(states.size() - 1);
    states[i].template merge<Arch>(states.back());
    states.pop_back();
  }
  std::vector<T> p(z.size(), T(-7));
  for (const piece& part : pieces) {
    xs::softmax_options of_shard = options;
    of_shard.temperature = random.below(2) == 0 ? 1.0 : options.temperature;
    xs::softmax<Arch>(states.empty() ? state(options.temperature) : states[0],
                      xs::vector_view<const T>(z.data() + part.first, part.count),
                      xs::vector_view<T>(p.data() + part.first, part.count), of_shard);
  }
  return p;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: shards have the bits of the whole row", "[softmax][state][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(9);
  for (const std::size_t n : {0u, 1u, 100u, 2048u, 5000u, 20000u}) {
    for (const row_kind kind : row_kinds) {
      for (const double temperature : {1.0, 0.7, 1e-300, 1e300}) {
        std::vector<T> z = make_row<T>(kind, n, n + 3);
        switch (n == 0 ? 9 : random.below(12)) {
        case 0:
          z[random.below(n)] = std::numeric_limits<T>::quiet_NaN();
          break;
        case 1:
          z[random.below(n)] = std::numeric_limits<T>::infinity();
          break;
        case 2:
          z.assign(n, -std::numeric_limits<T>::infinity());
          break;
        default:
          break;
        }
        xs::softmax_options options{.temperature = temperature,
                                    .masked_row = static_cast<xs::masked_row_policy>(random.below(2))};
        if (random.below(3) == 0) {
          options.sink = random.uniform(-40, 40);
        }
        const std::vector<T> whole = probabilities<Arch>(z, options);
        const std::vector<T> parts = by_shards<Arch>(z, options, random);
        expect_same_bits(found, whole.data(), parts.data(), std::string(name(kind)) + " by shards", z, options);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("softmax of a shard: arguments", "[softmax][state][unit]") {
  const std::vector<float> z(4, 1.0F);
  std::vector<float> p(4, -7.0F);
  std::vector<float> too_short(3);
  xs::log_sum_exp_state<float> state(0.5);
  state.push(z);
  CHECK_THROWS_AS(xs::softmax(state, z, p, {.temperature = 0.25}), std::invalid_argument);
  CHECK_THROWS_AS(xs::softmax(state, z, too_short), std::invalid_argument);
  CHECK(p == std::vector<float>(4, -7.0F));
  xs::softmax(state, z, p);
  CHECK(p == std::vector<float>(4, 0.25F));
}

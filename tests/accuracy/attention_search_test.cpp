// SPDX-License-Identifier: MIT
// Search for the worst result of attention, as a share of what its docstring permits: over random problems, and uphill
// from them.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Of the kinds, at random: found were 0.32, 0.28 and 0.21.
constexpr double largest_at_random[] = {0.4, 0.35, 0.25};

/// As far as roundings that all have the same sign can lead, in the docstring's measure of 2e-6: the chains of scores
/// are 128 products long, an error of e in two of them moves a weight by up to 2 e of itself, and chains of values are
/// of 64: 2^-24 (290 + depth / 64) of the reach and 2^-24 (200 + keys / 200) besides, in first order.
constexpr double largest_of_all = 10;

/// The worst of each kind.
class record {
public:
  template <class Of, class T>
  worst_attention add(const attention_problem<T>& p, const attention_result<T>& result, const std::string& what) {
    worst_attention here;
    expect_right<Of>(found_, p, result, what, 1000, &here);
    worst_attention& worst = worst_[static_cast<std::size_t>(Of::kind)];
    if (here.out > worst.out) {
      worst.out = here.out;
      worst.witness = here.witness;
    }
    worst.log_sum_exp = std::max(worst.log_sum_exp, here.log_sum_exp);
    ++results_;
    return here;
  }

  /// Prints the worst of each kind; `limits` are those of the kinds.
  template <class Arch, class T>
  void report(const double (&limits)[3], double limit_of_log_sum_exp) const {
    for_each_attention([&]<class Of>(Of) {
      const worst_attention& worst = worst_[static_cast<std::size_t>(Of::kind)];
      WARN(Arch::name << ", " << scalar_name<T>() << ", " << Of::name << ", of " << results_
                      << " results: off by at most " << worst.out << " of the bound (" << worst.witness << ")"
                      << (is_softmax_attention<Of> ? ", log_sum_exp " + std::to_string(worst.log_sum_exp) : ""));
      CHECK(worst.out <= limits[static_cast<std::size_t>(Of::kind)]);
      CHECK(worst.log_sum_exp <= limit_of_log_sum_exp);
    });
    CHECK(results_ > 0);
  }

  /// Those of a search at random, which are all within the bound.
  template <class Arch, class T>
  void report_at_random() const {
    report<Arch, T>(largest_at_random, 1);
    XSOFTMAX_CHECK_FINDINGS(found_);
  }

  /// Those of a search uphill, which goes beyond it.
  template <class Arch, class T>
  void report_uphill() const {
    report<Arch, T>({largest_of_all, largest_of_all, largest_of_all}, largest_of_all);
  }

private:
  findings found_;
  worst_attention worst_[3];
  std::size_t results_ = 0;
};

template <class T>
void multiply(std::vector<T>& x, double factor) {
  for (T& y : x) {
    y = static_cast<T>(static_cast<double>(y) * factor);
  }
}

/// 1 to `most`, small ones as often as large ones.
std::size_t some_length(generator& random, std::size_t most) {
  return 1 + static_cast<std::size_t>(std::exp(random.uniform(0, std::log(static_cast<double>(most)))) - 0.5);
}

/// Of all sizes and sorts, with options or without; softplus without re-weighting, for which there is another bound.
template <class T>
attention_problem<T> random_problem(generator& random, std::size_t most_queries, std::size_t most_keys) {
  const std::size_t heads = most_queries == 1 ? 1 : 1 + random.below(2);
  attention_problem<T> p =
      make_attention<T>({1, heads, 1, some_length(random, most_queries), some_length(random, most_keys),
                         some_length(random, 300), some_length(random, 6)},
                        random.next());
  const attention_shape& s = p.shape;
  if (random.below(2) == 0) {
    set_random_options(p, random.next());
  }
  p.reweight_power.reset();
  multiply(p.q, std::exp2(random.uniform(-3, 4)));
  multiply(p.v, std::exp2(random.uniform(-3, 12)));
  switch (random.below(8)) {
  case 0: // a large part of each score that is the same for all keys
    for (std::size_t j = 0; j < s.kv_len; ++j) {
      p.key(0, 0, j)[0] = static_cast<T>(10 * std::sqrt(static_cast<double>(s.depth)));
    }
    break;
  case 1: // products that cancel
    for (std::size_t c = 0; c + 1 < s.depth; c += 2) {
      for (std::size_t j = 0; j < s.kv_len; ++j) {
        p.key(0, 0, j)[c + 1] = -p.key(0, 0, j)[c];
      }
      for (std::size_t i = 0; i < s.heads * s.q_len; ++i) {
        p.q[i * s.depth + c + 1] = p.q[i * s.depth + c];
      }
    }
    break;
  case 2: // products of one sign
    for (std::vector<T>* const x : {&p.q, &p.k}) {
      for (T& y : *x) {
        y = std::fabs(y);
      }
    }
    break;
  case 3: // values of one sign
    for (T& y : p.v) {
      y = std::fabs(y);
    }
    break;
  case 4: // nearly equal scores
    multiply(p.k, 1e-4);
    break;
  case 5: // one key above the others
    for (std::size_t c = 0; c < s.depth; ++c) {
      p.key(0, 0, s.kv_len / 2)[c] = T(3) * p.q[c];
    }
    break;
  default:
    break;
  }
  return p;
}

template <class Arch, class T>
void search_at_random(std::size_t problems, std::uint64_t seed, record& found) {
  generator random(seed);
  for (std::size_t n = 0; n < problems; ++n) {
    const attention_problem<T> p = random_problem<T>(random, n % 4 == 0 ? 9 : 3,
                                                     n % 64 == 0  ? 1500
                                                     : n % 4 == 0 ? 200
                                                                  : 30);
    for_each_attention([&]<class Of>(Of) { found.add<Of>(p, attend<Arch, Of>(p), "problem " + std::to_string(n)); });
  }
}

/// Changes numbers of a query, keys and values one after another and keeps what makes the error larger.
template <class Arch, class T>
void climb(std::size_t restarts, std::size_t steps, std::uint64_t seed, record& found) {
  generator random(seed);
  for (std::size_t restart = 0; restart < restarts; ++restart) {
    const attention_problem<T> start = random_problem<T>(random, 1, restart % 4 == 0 ? 100 : 8);
    for_each_attention([&]<class Of>(Of) {
      attention_problem<T> p = start;
      double best = 0;
      for (std::size_t step = 0; step < steps; ++step) {
        std::vector<T>* const arrays[] = {&p.q, &p.k, &p.v};
        std::vector<T>& array = *arrays[random.below(3)];
        T& x = array[random.below(array.size())];
        const T before = x;
        switch (random.below(4)) {
        case 0: // another size
          x = static_cast<T>(static_cast<double>(x) * random.uniform(-1.5, 1.5));
          break;
        case 1: // nearby
          x = static_cast<T>(static_cast<double>(x) * random.uniform(0.99, 1.01));
          break;
        case 2: // next door
          x = std::nextafter(x, random.below(2) == 0 ? T(-1e30) : T(1e30));
          break;
        default: // that of another place
          x = array[random.below(array.size())];
          break;
        }
        const worst_attention here =
            found.add<Of>(p, attend<Arch, Of>(p), "climb " + std::to_string(restart) + " " + std::to_string(step));
        const double error = restart % 3 == 2 && is_softmax_attention<Of> ? here.log_sum_exp : here.out;
        if (error >= best) {
          best = error;
        } else {
          x = before;
        }
      }
    });
  }
}

} // namespace

TEMPLATE_LIST_TEST_CASE("attention: the worst of random problems", "[attention][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  record found;
  search_at_random<Arch, T>(10000, 1, found);
  found.report_at_random<Arch, T>();
}

TEMPLATE_LIST_TEST_CASE("attention: the worst of many random problems", "[attention][accuracy][.exhaustive]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  record found;
  search_at_random<Arch, T>(2000000, 2, found);
  found.report_at_random<Arch, T>();
}

TEMPLATE_LIST_TEST_CASE("attention: uphill to the worst result", "[attention][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  record found;
  climb<Arch, T>(20, 1000, 3, found);
  found.report_uphill<Arch, T>();
}

TEMPLATE_LIST_TEST_CASE("attention: further uphill", "[attention][accuracy][.exhaustive]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  record found;
  climb<Arch, T>(400, 10000, 4, found);
  found.report_uphill<Arch, T>();
}

namespace {

/// Two keys whose scores, `size` and `above` more, are chains in which every step rounds the same way: up for the first
/// key, up or down for the second.
template <class T>
attention_problem<T> one_way_scores(std::size_t depth, double size, double above, int second, double value,
                                    double second_value) {
  attention_problem<T> p;
  p.shape = {1, 1, 1, 1, 2, depth, 1};
  p.scale = 1;
  p.bias = 0;
  p.q.assign(depth, T(1));
  const double step = 0.505 * static_cast<double>(std::numeric_limits<T>::epsilon()) * size;
  p.k.push_back(static_cast<T>(size));
  p.k.resize(depth, static_cast<T>(step));
  p.k.push_back(static_cast<T>(size + above + (second > 0 ? 0 : 2 * static_cast<double>(depth + 12) * step)));
  p.k.resize(2 * depth, static_cast<T>(second * step));
  p.v = {static_cast<T>(value), static_cast<T>(second_value)};
  return p;
}

/// Equal weights and a sum of values likewise.
template <class T>
attention_problem<T> one_way_values(std::size_t keys, double value) {
  attention_problem<T> p;
  p.shape = {1, 1, 1, 1, keys, 1, 1};
  p.scale = 0;
  p.bias = 0;
  p.q = {T(1)};
  p.k.assign(keys, T(1));
  p.v.assign(keys, static_cast<T>(0.505 * static_cast<double>(std::numeric_limits<T>::epsilon()) * value));
  p.v[0] = static_cast<T>(value);
  return p;
}

} // namespace

TEMPLATE_LIST_TEST_CASE("attention: roundings that all go one way", "[attention][accuracy]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Beyond the bound, this far and no further.
  findings beyond;
  worst_attention worst;
  const auto measure = [&](const attention_problem<T>& p) {
    for_each_attention([&]<class Of>(Of) { expect_right<Of>(beyond, p, attend<Arch, Of>(p), Arch::name, 1, &worst); });
  };
  for (const double value : {1.0, 0x1p20}) {
    for (const double size : {1.0, 16.0, 64.0}) {
      for (const std::size_t depth : {16u, 64u, 128u, 1024u}) {
        for (const int second : {1, -1}) {
          measure(one_way_scores<T>(depth, size, 0, second, value, -value));
          measure(one_way_scores<T>(depth, size, 3, second, value, 0));
        }
      }
    }
    for (const std::size_t keys : {64u, 1024u, 4000u}) {
      measure(one_way_values<T>(keys, value));
    }
  }
  WARN(Arch::name << ", " << scalar_name<T>() << ": off by " << worst.out << " bounds (" << worst.witness
                  << "), log_sum_exp by " << worst.log_sum_exp);
  CHECK(worst.out <= largest_of_all);
  CHECK(worst.log_sum_exp <= largest_of_all);
}

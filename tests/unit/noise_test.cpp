// SPDX-License-Identifier: MIT
// The noise is that of its definition: a function of the key and the place, the same bits on every architecture, in
// every chunk and layout, and right to a few units in the last place from one end of its range to the other.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/findings.hpp"
#include "../support/kernels_once.hpp"
#include "../support/layouts.hpp"
#include "../support/math_probe.hpp"
#include "../support/noise_reference.hpp"
#include "../support/rows.hpp"
#include "../support/types.hpp"
#include "../support/ulp.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr std::uint64_t field_limit = std::uint64_t{1} << 40;

/// Units in the last place of max(1, |x|), where logarithms cancel; of x itself for exponential noise, where none do.
template <class T>
double noise_error(noise kind, T computed, long double exact) {
  const long double size = kind == noise::exponential ? exact : std::max(1.0L, std::fabs(exact));
  return static_cast<double>(std::fabs(static_cast<long double>(computed) - exact) / unit_in_last_place<T>(size));
}

/// As documented.
constexpr double noise_bound = 3;

template <class T>
std::string describe(const char* arch, noise kind, const xs::noise_key& key, std::size_t i) {
  return std::string(arch) + ", " + scalar_name<T>() + ", " + name(kind) + ", seed " + std::to_string(key.seed) +
         ", stream " + std::to_string(key.stream) + ", row " + std::to_string(key.row) + ", index " +
         std::to_string(key.index) + " + " + std::to_string(i);
}

template <class T>
void expect_noise(findings& found, const char* arch, noise kind, const xs::noise_key& key, const std::vector<T>& row) {
  for (std::size_t i = 0; i < row.size(); ++i) {
    const long double exact = noise_value<T>(kind, noise_bits(kind, key, i));
    const double error = noise_error(kind, row[i], exact);
    found.expect(error <= noise_bound, [&] {
      return describe<T>(arch, kind, key, i) + " is " + exact_text(row[i]) + ", off by " + std::to_string(error);
    });
  }
}

/// Looks at the noise of many words on every architecture for values that are not finite or differ, and for the
/// largest error.
template <class T>
class noise_search {
public:
  explicit noise_search(noise kind) : kind_(kind) {}

  /// Every `stride`-th is compared with its exact value.
  void look_at(const std::vector<std::uint64_t>& words, std::size_t stride) {
    const auto probes = math_probes<T>();
    std::vector<T> values(words.size());
    std::vector<T> others(words.size());
    probes[0].noise(static_cast<int>(kind_), words.data(), values.data(), words.size());
    const bool finite = std::all_of(values.begin(), values.end(),
                                    [&](T x) { return std::isfinite(x) && (kind_ != noise::exponential || x > 0); });
    found_.expect(finite, [] { return std::string("not finite"); });
    for (const auto& probe : probes) {
      probe.noise(static_cast<int>(kind_), words.data(), others.data(), words.size());
      found_.expect(others == values, [&] { return std::string(probe.arch) + " differs"; });
    }
    for (std::size_t i = at_++ % stride; i < words.size(); i += stride) {
      const double error = noise_error(kind_, values[i], noise_value<T>(kind_, words[i]));
      if (error > worst_) {
        worst_ = error;
        word_ = words[i];
      }
      found_.expect(error <= noise_bound, [&] {
        return std::string(name(kind_)) + " of " + std::to_string(words[i]) + " is off by " + std::to_string(error);
      });
    }
  }

  void report() const {
    const bool two_sided = kind_ != noise::gumbel;
    const auto v = static_cast<double>(noise_uniform<T>(two_sided ? word_ << 1 : word_)) / (two_sided ? 2 : 1);
    WARN(name(kind_) << ", " << scalar_name<T>() << ": largest error " << worst_ << " units at v = " << exact_text(v)
                     << (two_sided ? word_ >> 63 != 0 ? ", side 1" : ", side 0" : ""));
    XSOFTMAX_CHECK_FINDINGS(found_);
  }

private:
  noise kind_;
  findings found_;
  double worst_ = 0;
  std::uint64_t word_ = 0;
  std::size_t at_ = 0;
};

} // namespace

TEMPLATE_LIST_TEST_CASE("philox: the published known answers", "[noise][unit]", scalars) {
  struct answer {
    std::uint64_t key;
    std::array<std::uint32_t, 4> counter;
    std::array<std::uint32_t, 4> words;
  };
  // kat_vectors of the authors' Random123, philox4x32 with 10 rounds.
  const answer answers[] = {
      {0, {0, 0, 0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {~std::uint64_t{0},
       {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {0x299f31d0a4093822,
       {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const answer& a : answers) {
    CHECK(philox(a.key, a.counter) == a.words);
    for (const auto& probe : math_probes<TestType>()) {
      std::array<std::uint32_t, 4> words{};
      probe.philox(a.key, a.counter.data(), words.data());
      CAPTURE(probe.arch);
      CHECK(words == a.words);
    }
  }
  generator random(3);
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t key = random.next();
    std::array<std::uint32_t, 4> counter{};
    for (std::uint32_t& c : counter) {
      c = static_cast<std::uint32_t>(random.next());
    }
    for (const auto& probe : math_probes<TestType>()) {
      std::array<std::uint32_t, 4> words{};
      probe.philox(key, counter.data(), words.data());
      CHECK(words == philox(key, counter));
    }
  }
}

TEMPLATE_LIST_TEST_CASE("noise: that of its definition, wherever it begins and ends", "[noise][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(17);
  for (const noise kind : noises) {
    for (std::size_t n = 0; n <= 200; ++n) {
      const xs::noise_key key{.seed = random.next(),
                              .stream = random.next() % field_limit,
                              .row = random.next() % field_limit,
                              .index = n % 3 == 0 ? random.below(200) : random.next() % (field_limit - n)};
      expect_noise(found, Arch::name, kind, key, noise_row<Arch, T>(kind, key, n));
    }
    // Around the places where the block's number needs another word, and at the ends of every field.
    for (const std::uint64_t index : {(std::uint64_t{1} << 34) - 130, (std::uint64_t{1} << 35) - 64,
                                      (std::uint64_t{3} << 34) - 1, field_limit - 300}) {
      const xs::noise_key key{
          .seed = ~std::uint64_t{0}, .stream = field_limit - 1, .row = field_limit - 1, .index = index};
      expect_noise(found, Arch::name, kind, key, noise_row<Arch, T>(kind, key, 300));
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("noise: the same bits on every architecture", "[noise][invariance][unit]", scalars) {
  using T = TestType;
  findings found;
  for (const noise kind : noises) {
    const xs::noise_key key{.seed = 5, .stream = 6, .row = 7, .index = 8};
    constexpr std::size_t n = 200000; // some hundred of which need both words in float
    const std::vector<T> one = noise_row<xs::default_arch, T>(kind, key, n);
    for_each_architecture([&](auto arch) {
      using Arch = decltype(arch);
      const std::vector<T> other = noise_row<Arch, T>(kind, key, n);
      for (std::size_t i = 0; i < n; ++i) {
        found.expect(bits(one[i]) == bits(other[i]), [&] { return describe<T>(Arch::name, kind, key, i); });
      }
    });
    // That is for one build; every build must give these.
    expect_noise(found, "default", kind, key, one);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("noise: chunks, layouts, halves and executors leave no trace", "[noise][invariance][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(23);
  const auto compare = [&](const char* what, noise kind, T a, T b) {
    found.expect(bits(a) == bits(b), [&] { return std::string(Arch::name) + ", " + name(kind) + ": " + what; });
  };
  for (const noise kind : noises) {
    const xs::noise_key key{.seed = 99, .stream = 1, .row = 40, .index = 61};
    const auto write = [&](auto&&... arguments) {
      kind == noise::gumbel     ? xs::gumbel_noise<Arch>(arguments...)
      : kind == noise::logistic ? xs::logistic_noise<Arch>(arguments...)
                                : xs::exponential_noise<Arch>(arguments...);
    };
    // Chunks of one row.
    const std::vector<T> whole = noise_row<Arch, T>(kind, key, 5000);
    for (std::size_t first = 0; first < whole.size();) {
      const std::size_t n = std::min(whole.size() - first, 1 + random.below(300));
      xs::noise_key chunk = key;
      chunk.index += first;
      const std::vector<T> part = noise_row<Arch, T>(kind, chunk, n);
      for (std::size_t i = 0; i < n; ++i) {
        compare("a chunk", kind, whole[first + i], part[i]);
      }
      first += n;
    }
    // Rows of a matrix in every layout, and nothing beside them.
    for (const std::size_t cols : {3u, 64u, 130u, 2500u}) {
      constexpr std::size_t rows = 5;
      for (const layout& l : layouts_of(rows, cols)) {
        laid_out<T> out(rows, cols, l, 3);
        write(key, out.view());
        for (std::size_t r = 0; r < rows; ++r) {
          xs::noise_key of_row = key;
          of_row.row += r;
          const std::vector<T> alone = noise_row<Arch, T>(kind, of_row, cols);
          for (std::size_t i = 0; i < cols; ++i) {
            compare(l.what, kind, alone[i], out.at(r, i));
          }
        }
        found.expect(out.untouched_between(), [&] { return std::string("wrote beside the rows: ") + l.what; });
      }
    }
    // A row in parts and rows on threads.
    for (const named_executor& e : every_executor()) {
      const xs::noise_key at_odds{.seed = 1, .stream = 2, .row = 3, .index = 77};
      constexpr std::size_t n = 200000;
      static const std::vector<T> serial_row = noise_row<Arch, T>(noise::gumbel, at_odds, n);
      std::vector<T> row(n);
      if (kind == noise::gumbel) {
        xs::gumbel_noise<Arch>(e.run, at_odds, row);
        for (std::size_t i = 0; i < n; ++i) {
          compare(e.name.c_str(), kind, serial_row[i], row[i]);
        }
      }
      std::vector<T> serial(700 * 100);
      std::vector<T> shared(700 * 100);
      write(key, xs::matrix_view<T>(serial.data(), 700, 100));
      write(e.run, key, xs::matrix_view<T>(shared.data(), 700, 100));
      found.expect(serial == shared, [&] { return e.name; });
    }
  }
  if constexpr (std::is_same_v<T, float>) {
    const xs::noise_key key{.seed = 4};
    std::vector<xs::float16> half(3000);
    std::vector<xs::bfloat16> brain(3000);
    xs::gumbel_noise<Arch>(key, half);
    xs::gumbel_noise<Arch>(key, brain);
    const std::vector<float> full = noise_row<Arch, float>(noise::gumbel, key, 3000);
    for (std::size_t i = 0; i < full.size(); ++i) {
      compare("float16", noise::gumbel, static_cast<float>(half[i]), static_cast<float>(xs::float16(full[i])));
      compare("bfloat16", noise::gumbel, static_cast<float>(brain[i]), static_cast<float>(xs::bfloat16(full[i])));
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("noise: every field of the key makes other noise, and so does the kind", "[noise][unit]",
                        scalars) {
  using T = TestType;
  // Keys that a sum, a shift or a truncation of the fields would confuse.
  std::vector<xs::noise_key> keys;
  for (const std::uint64_t value : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{64},
                                    std::uint64_t{1} << 31, std::uint64_t{1} << 32, std::uint64_t{1} << 39}) {
    keys.push_back({.seed = value});
    keys.push_back({.stream = value});
    keys.push_back({.row = value});
    if (value != 64) {
      keys.push_back({.index = value * 64});
    }
    keys.push_back({.seed = value << 24});
  }
  keys.erase(std::remove_if(keys.begin(), keys.end(), [](const xs::noise_key& k) { return k.index >= field_limit; }),
             keys.end());
  std::set<std::array<std::uint64_t, 4>> places;
  std::set<std::vector<T>> rows;
  for (const xs::noise_key& k : keys) {
    if (places.insert({k.seed, k.stream, k.row, k.index}).second) {
      for (const noise kind : noises) {
        rows.insert(noise_row<xs::default_arch, T>(kind, k, 8));
      }
    }
  }
  CHECK(rows.size() == 3 * places.size());
}

TEMPLATE_LIST_TEST_CASE("noise: all zeros, all ones and every other end of a word's range", "[noise][unit]", scalars) {
  using T = TestType;
  constexpr std::uint64_t ones = ~std::uint64_t{0};
  std::vector<std::uint64_t> words;
  for (int shift = 0; shift < 64; ++shift) {
    for (const std::uint64_t low : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{2}}) {
      words.push_back((std::uint64_t{1} << shift) - low);
      words.push_back((std::uint64_t{1} << shift) + low);
      words.push_back(ones - (std::uint64_t{1} << shift) + low);
      words.push_back((ones << shift) - low);
      words.push_back(ones >> shift);
    }
  }
  generator random(31);
  for (int i = 0; i < 100000; ++i) { // as many of each size
    words.push_back(random.next() >> random.below(64));
  }
  findings found;
  for (const auto& probe : math_probes<T>()) {
    for (const noise kind : noises) {
      std::vector<T> values(words.size());
      probe.noise(static_cast<int>(kind), words.data(), values.data(), words.size());
      for (std::size_t i = 0; i < words.size(); ++i) {
        const double error = noise_error(kind, values[i], noise_value<T>(kind, words[i]));
        found.expect(std::isfinite(values[i]) && error <= noise_bound, [&] {
          return std::string(probe.arch) + ", " + name(kind) + " of " + std::to_string(words[i]) + " is " +
                 exact_text(values[i]) + ", off by " + std::to_string(error);
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  // The documented range, whatever the words.
  for (const auto& probe : math_probes<T>()) {
    CAPTURE(probe.arch);
    const std::uint64_t ends[] = {0, ones};
    T value[2];
    probe.noise(0, ends, value, 2);
    CHECK(std::fabs(value[0] - T(44.3614195558364998)) <= T(4e-6));
    CHECK(std::fabs(value[1] + (std::is_same_v<T, float> ? T(2.81154090976628129) : T(3.6037789929704576))) <= T(1e-6));
    probe.noise(2, ends, value, 2);
    CHECK(value[0] > 0);
  }
}

TEST_CASE("noise, float: every number v that there is", "[noise][accuracy][.exhaustive]") {
  // 2^23 numbers in each of 64 octaves (the last have fewer, which come again), on both sides where there are two.
  constexpr std::size_t chunk = std::size_t{1} << 16;
  std::vector<std::uint64_t> words(chunk);
  for (const noise kind : noises) {
    noise_search<float> search(kind);
    for (std::uint64_t side = 0; side < (kind == noise::gumbel ? 1 : 2); ++side) {
      for (int octave = 0; octave < 64; ++octave) {
        for (std::uint64_t first = 0; first < (std::uint64_t{1} << 23); first += chunk) {
          for (std::uint64_t i = 0; i < chunk; ++i) {
            const std::uint64_t number = (((std::uint64_t{1} << 23) | (first + i)) << 40) >> octave;
            words[i] = kind == noise::gumbel ? number : side << 63 | number >> 1;
          }
          search.look_at(words, 97);
        }
      }
    }
    search.report();
  }
}

TEST_CASE("noise, double: many random words", "[noise][accuracy][.exhaustive]") {
  for (const noise kind : noises) {
    noise_search<double> search(kind);
    generator random(41);
    std::vector<std::uint64_t> words(std::size_t{1} << 16);
    for (int round = 0; round < 200; ++round) {
      for (std::uint64_t& w : words) {
        w = random.next() >> (round % 2 == 0 ? 0 : random.below(64)); // as many of each size
      }
      search.look_at(words, 1);
    }
    search.report();
  }
}

TEMPLATE_LIST_TEST_CASE("noise v1: frozen", "[noise][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // What users have drawn they can draw again: neither these numbers nor the arithmetic that makes them may change.
  const auto digest = [](noise kind) {
    std::uint64_t hash = 0xcbf29ce484222325u;
    for (const std::uint64_t index : {std::uint64_t{0}, (std::uint64_t{1} << 34) - 100}) {
      for (const T x :
           noise_row<Arch, T>(kind, {.seed = 0x123456789abcdef0, .stream = 3, .row = 5, .index = index}, 9000)) {
        hash = (hash ^ static_cast<std::uint64_t>(bits(x))) * 0x100000001b3u;
      }
    }
    return hash;
  };
  constexpr bool single = std::is_same_v<T, float>;
  CAPTURE(Arch::name, scalar_name<T>());
  CHECK(digest(noise::gumbel) == (single ? 0xab358421166166a8u : 0x1141e4fecc2e3eafu));
  CHECK(digest(noise::logistic) == (single ? 0xac7e8182decca390u : 0x880cb32312326c15u));
  CHECK(digest(noise::exponential) == (single ? 0x80c9e4f7c87b7219u : 0x8f8a14787752aafbu));
  std::vector<std::size_t> indices(6);
  const std::vector<T> z = {0, 1, 2, 3, T(2.5), T(1.5), T(0.5), -1};
  xs::sample<Arch>({.seed = 42}, xs::matrix_view<const T>(z.data(), 6, 8, 0), indices);
  CHECK(indices == std::vector<std::size_t>{4, 2, 3, 2, 3, 2});
  xs::sample<Arch>({.seed = 42}, xs::matrix_view<const T>(z.data(), 6, 8, 0), indices,
                   {.temperature = 1.5, .top_k = 3, .top_p = 0.9, .min_p = 0.6});
  CHECK(indices == std::vector<std::size_t>{4, 4, 3, 4, 3, 3});
}

TEMPLATE_LIST_TEST_CASE("noise: keys out of range are refused before anything is written", "[noise][errors][unit]",
                        scalars) {
  using T = TestType;
  const auto message = [](const xs::noise_key& key, std::size_t rows, std::size_t cols) {
    std::vector<T> out(rows * cols, T(7));
    std::string text;
    try {
      xs::gumbel_noise(key, xs::matrix_view<T>(out.data(), rows, cols));
    } catch (const std::invalid_argument& e) {
      text = e.what();
    }
    const bool untouched = std::all_of(out.begin(), out.end(), [](T x) { return x == T(7); });
    CHECK(untouched == !text.empty());
    return text;
  };
  CHECK(message({.stream = field_limit}, 1, 1) == "xsoftmax::gumbel_noise: the key's stream must be below 2^40 "
                                                  "(key.stream = 1099511627776, 2^40 = 1099511627776)");
  CHECK(message({.row = field_limit - 2}, 3, 1) == "xsoftmax::gumbel_noise: the rows from key.row on must lie below "
                                                   "2^40 (key.row = 1099511627774, rows = 3)");
  CHECK(message({.index = field_limit - 2}, 1, 3) == "xsoftmax::gumbel_noise: the elements from key.index on must lie "
                                                     "below 2^40 (key.index = 1099511627774, length = 3)");
  CHECK(message({.row = ~std::uint64_t{0}}, 1, 1) != "");
  CHECK(message({.index = ~std::uint64_t{0}}, 1, 1) != "");
  CHECK(
      message({.seed = ~std::uint64_t{0}, .stream = field_limit - 1, .row = field_limit - 3, .index = field_limit - 3},
              3, 3) == "");
}

// SPDX-License-Identifier: MIT
// The random words behind the noise under the batteries of TestU01 (P. L'Ecuyer, R. Simard, 2007). Run by hand, as some
// p-values are small by chance; exits with 1 if one is within 10^-6 of 0 or 1.
//
// Neighbours may be correlated along any field of the key, so each is a generator of its own: a word from every
// element, row, stream or seed, counted up from 0, or with the bits of the count reversed, which moves the field's
// upper bits.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>
#include <xsoftmax/arch.hpp>
#include <xsoftmax/detail/kernel/noise.hpp>
#include <xsoftmax/detail/key.hpp>

extern "C" {
#include <bbattery.h>
#include <swrite.h>
#include <unif01.h>
}

namespace {

namespace xs = xsoftmax;
using arch = xs::default_arch;
using group_words = xs::detail::kernel::group_words<arch>;
using row_words = xs::detail::kernel::row_words<arch>;
using kind = xs::detail::noise_kind;

constexpr std::size_t group_size = xs::detail::kernel::noise_group;
constexpr int key_bits = std::bit_width(xs::detail::key_limit) - 1; // of stream, row and index

constexpr const char* usage = R"(xsoftmax_testu01 [--battery NAME] [ORDER...]
  NAME    SmallCrush (the default; seconds for an order), Rabbit (of 2^32 bits; minutes), Crush (longer)
  ORDER   which words, one after the other; without any, all of
    index, row, stream, seed     the upper word of an element, along that field of the key
    index_reversed, ...          the same with the bits of the field counted in reverse
    lower                        the lower words along a row
    halves                       upper and lower word of each element of a row
    kinds                        the words of each kind of noise for each element of a row
)";

std::uint64_t reversed(std::uint64_t x, int bits) {
  std::uint64_t result = 0;
  for (int b = 0; b < bits; ++b, x >>= 1) {
    result = result << 1 | (x & 1);
  }
  return result;
}

/// Draws words a handful at a time.
class word_source {
public:
  using refill = std::function<void(std::uint64_t count, std::vector<std::uint32_t>& words)>;

  explicit word_source(refill next) : next_(std::move(next)) {}

  std::uint32_t operator()() {
    if (at_ == words_.size()) {
      words_.clear();
      next_(count_++, words_);
      at_ = 0;
    }
    return words_[at_++];
  }

private:
  refill next_;
  std::uint64_t count_ = 0; ///< of refills
  std::vector<std::uint32_t> words_;
  std::size_t at_ = 0;
};

void append(std::vector<std::uint32_t>& words, const group_words& group) {
  std::uint32_t word[group_size];
  std::memcpy(word, group.v, sizeof word);
  words.insert(words.end(), word, word + group_size);
}

/// Takes the first of each in turn, then the second of each.
void interleave(std::vector<std::uint32_t>& words) {
  const std::vector<std::uint32_t> blocks = words;
  const std::size_t count = words.size() / group_size;
  for (std::size_t i = 0; i < words.size(); ++i) {
    words[i] = blocks[i % count * group_size + i / count];
  }
}

/// The first word of the key's element.
std::uint32_t word_at(const xs::noise_key& key) {
  row_words words(key, kind::gumbel);
  std::uint32_t word[group_size];
  std::memcpy(word, words.upper(key.index / group_size, false).v, sizeof word);
  return word[key.index % group_size];
}

struct order {
  const char* name;
  word_source::refill next;
};

/// Along a field of the key of so many bits.
order along(const char* name, std::uint64_t xs::noise_key::*field, int reversed_bits) {
  return {name, [=](std::uint64_t count, std::vector<std::uint32_t>& words) {
            xs::noise_key key;
            key.*field = reversed_bits == 0 ? count : reversed(count, reversed_bits);
            words.push_back(word_at(key));
          }};
}

std::vector<order> orders() {
  row_words row({}, kind::gumbel);
  return {
      {"index", [row](std::uint64_t group,
                      std::vector<std::uint32_t>& words) mutable { append(words, row.upper(group, true)); }},
      {"lower",
       [row](std::uint64_t group, std::vector<std::uint32_t>& words) {
         group_words lower;
         row.lower(group, lower);
         append(words, lower);
       }},
      {"halves",
       [row](std::uint64_t group, std::vector<std::uint32_t>& words) mutable {
         append(words, row.upper(group, true));
         group_words lower;
         row.lower(group, lower);
         append(words, lower);
         interleave(words);
       }},
      {"kinds",
       [rows = std::vector<row_words>{row_words({}, kind::gumbel), row_words({}, kind::logistic),
                                      row_words({}, kind::exponential), row_words({}, kind::blocks_of_many),
                                      row_words({}, kind::elements_of_many)}](
           std::uint64_t group, std::vector<std::uint32_t>& words) mutable {
         for (row_words& of_kind : rows) {
           append(words, of_kind.upper(group, true));
         }
         interleave(words);
       }},
      along("row", &xs::noise_key::row, 0),
      along("stream", &xs::noise_key::stream, 0),
      along("seed", &xs::noise_key::seed, 0),
      along("index_reversed", &xs::noise_key::index, key_bits),
      along("row_reversed", &xs::noise_key::row, key_bits),
      along("stream_reversed", &xs::noise_key::stream, key_bits),
      along("seed_reversed", &xs::noise_key::seed, 64),
  };
}

word_source* current = nullptr; ///< TestU01 calls a function without arguments

unsigned int next_word() {
  return (*current)();
}

struct battery {
  const char* name;
  void (*run)(unif01_Gen*);
};

constexpr battery batteries[] = {
    {"SmallCrush", bbattery_SmallCrush},
    {"Rabbit", [](unif01_Gen* generator) { bbattery_Rabbit(generator, 0x1p32); }},
    {"Crush", bbattery_Crush},
};

struct tally {
  int statistics = 0;
  int unusual = 0; ///< p-values outside [0.001, 0.999]
  int failed = 0;  ///< nearer to 0 or 1 than 10^-6
};

void run(const battery& b, const order& o, tally& all) {
  word_source words(o.next);
  current = &words;
  std::string name = std::string("words of the noise, order ") + o.name;
  unif01_Gen* const generator = unif01_CreateExternGenBits(name.data(), next_word);
  b.run(generator);
  unif01_DeleteExternGenBits(generator);
  for (int i = 0; i < bbattery_NTests; ++i) {
    const double p = bbattery_pVal[i];
    if (p < 0) {
      continue; // left out by the battery
    }
    const double distance = std::fmin(p, 1 - p);
    ++all.statistics;
    all.unusual += distance < 0.001;
    all.failed += distance < 1e-6;
    if (distance < 0.001) {
      std::printf("%s, order %s, %s: p = %.6g\n", b.name, o.name, bbattery_TestNames[i], p);
    }
  }
  std::fflush(stdout);
}

} // namespace

int main(int count, char** arguments) {
  const battery* chosen = &batteries[0];
  std::vector<order> wanted;
  const std::vector<order> known = orders();
  for (int i = 1; i < count; ++i) {
    const std::string word = arguments[i];
    bool understood = false;
    if (word == "--battery" && i + 1 < count) {
      ++i;
      for (const battery& b : batteries) {
        if (std::strcmp(b.name, arguments[i]) == 0) {
          chosen = &b;
          understood = true;
        }
      }
    }
    for (const order& o : known) {
      if (word == o.name) {
        wanted.push_back(o);
        understood = true;
      }
    }
    if (!understood) {
      std::fprintf(stderr, "unknown: %s\n%s", arguments[i], usage);
      return 2;
    }
  }
  swrite_Basic = FALSE; // of each battery the summary only
  tally all;
  for (const order& o : wanted.empty() ? known : wanted) {
    run(*chosen, o, all);
  }
  std::printf("%s: %d of %d p-values outside [0.001, 0.999], %d within 10^-6 of 0 or 1\n", chosen->name, all.unusual,
              all.statistics, all.failed);
  return all.failed == 0 ? 0 : 1;
}

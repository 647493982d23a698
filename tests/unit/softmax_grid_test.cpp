// SPDX-License-Identifier: MIT
// Lengths 0..257 x misalignment x algorithm x store kind, against the exact softmax.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "../support/catch.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Storage aligned to a cache line with room for any misalignment and untouchable neighbours on both sides.
template <class T>
class field {
public:
  explicit field(std::size_t n) : storage_(n + 2 * margin + 64, sentinel) {
    const auto address = reinterpret_cast<std::uintptr_t>(storage_.data() + margin);
    first_ = storage_.data() + margin + ((64 - address % 64) % 64) / sizeof(T);
  }

  T* at(std::size_t misalignment) { return first_ + misalignment; }

  /// Is everything outside [begin, begin + n) as it was? Clears what is inside.
  bool untouched_around(T* begin, std::size_t n) {
    std::fill(begin, begin + n, sentinel);
    return std::all_of(storage_.begin(), storage_.end(), [](T x) { return bits(x) == bits(sentinel); });
  }

private:
  static constexpr std::size_t margin = 64;
  static constexpr T sentinel = T(-1234.5);
  std::vector<T> storage_;
  T* first_;
};

} // namespace

TEMPLATE_LIST_TEST_CASE("softmax: every length, misalignment and algorithm", "[softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  constexpr row_kind kinds[] = {row_kind::wide, row_kind::normal, row_kind::masked};
  findings found;
  field<T> in(300);
  field<T> out(300);
  for (std::size_t n = 0; n <= 257; ++n) {
    const std::vector<T> z = make_row<T>(kinds[n % 3], n, 11);
    xs::softmax_options options{.temperature = n % 2 == 0 ? 1.0 : 0.8};
    const std::vector<T> expected = probabilities<Arch>(z, options);
    expect_right(found, z, expected.data(), options, Arch::name);
    for (std::size_t offset = 0; offset < 16; ++offset) {
      for (const xs::softmax_algorithm algorithm : algorithms) {
        options.algorithm = algorithm;
        options.store = stores[(n + offset) % 3];
        T* const source = in.at(offset);
        std::copy(z.begin(), z.end(), source);
        for (const std::size_t out_offset : {offset, (offset * 7 + 3) % 16}) {
          T* const target = out.at(out_offset);
          xs::softmax<Arch>(xs::vector_view<const T>(source, n), xs::vector_view<T>(target, n), options);
          const auto where = [&] {
            return std::string(Arch::name) + ", misaligned by " + std::to_string(offset) + " and " +
                   std::to_string(out_offset);
          };
          if (first_difference(expected.data(), target, n) != n) {
            expect_same_bits(found, expected.data(), target, where(), z, options);
          }
          found.expect(out.untouched_around(target, n),
                       [&] { return where() + ": wrote outside the output; " + describe(z, options); });
        }
        found.expect(first_difference(z.data(), source, n) == n,
                     [&] { return std::string(Arch::name) + ": the input changed; " + describe(z, options); });
        // In place.
        xs::softmax<Arch>(xs::vector_view<const T>(source, n), xs::vector_view<T>(source, n), options);
        if (first_difference(expected.data(), source, n) != n) {
          expect_same_bits(found, expected.data(), source, std::string(Arch::name) + ", in place", z, options);
        }
        found.expect(in.untouched_around(source, n),
                     [&] { return std::string(Arch::name) + ", in place: wrote outside; " + describe(z, options); });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax: every kind of row, around vectors, unrolls and blocks", "[softmax][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const std::size_t n : {1u,    2u,    3u,    5u,    8u,    15u,   16u,   17u,   31u,   33u,   63u,   64u,
                              65u,   127u,  128u,  129u,  255u,  256u,  511u,  513u,  1023u, 1024u, 1025u, 1040u,
                              2047u, 2048u, 2049u, 2064u, 3071u, 4095u, 4096u, 4097u, 6145u, 10001u}) {
    for (const row_kind kind : row_kinds) {
      if (n < 1000 || static_cast<std::size_t>(kind) % 3 == n % 3) {
        expect_right_everywhere<Arch>(found, make_row<T>(kind, n, 12), {});
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

// SPDX-License-Identifier: MIT
// The half-precision types and their conversions, scalar and vector. Roundings are checked against a reference that
// knows the formats only as lists of numbers in long double and compares distances.

#include <algorithm>
#include <bit>
#include <cmath>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <sstream>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>
#include <xsoftmax/half.hpp>

#include "../support/all_floats.hpp"
#include "../support/catch.hpp"
#include "../support/findings.hpp"
#include "../support/flushing.hpp"
#include "../support/guarded_buffer.hpp"
#include "../support/half_probe.hpp"
#include "../support/rows.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

using halves = std::tuple<xs::float16, xs::bfloat16>;

template <class Half>
struct format;

template <>
struct format<xs::float16> {
  static constexpr const char* name = "float16";
  static constexpr unsigned fraction_bits = 10;
  static constexpr int bias = 15;
  static constexpr unsigned infinity = 0x7C00;
};

template <>
struct format<xs::bfloat16> {
  static constexpr const char* name = "bfloat16";
  static constexpr unsigned fraction_bits = 7;
  static constexpr int bias = 127;
  static constexpr unsigned infinity = 0x7F80;
};

/// The magnitudes of a format in ascending order, so that each one's index is its bit pattern. Infinity comes last, as
/// the power of two that would be next: from halfway to it, numbers are rounded to infinity.
template <class Half>
std::vector<long double> magnitudes() {
  using f = format<Half>;
  std::vector<long double> list;
  for (unsigned bits = 0; bits <= f::infinity; ++bits) {
    const auto exponent = static_cast<int>(bits >> f::fraction_bits);
    const unsigned fraction = bits & ((1U << f::fraction_bits) - 1);
    const unsigned significand = exponent == 0 ? fraction : fraction | 1U << f::fraction_bits;
    list.push_back(std::ldexp(static_cast<long double>(significand),
                              std::max(exponent, 1) - f::bias - static_cast<int>(f::fraction_bits)));
  }
  return list;
}

/// The reference: the nearer of the two neighbours, the even one of two at equal distance. (A difference of long
/// doubles is exact wherever the two come near each other.)
template <class Half>
class nearest_even {
public:
  std::uint16_t operator()(float x) {
    using f = format<Half>;
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = bits >> 31 << 15;
    if (std::isnan(x)) {
      const std::uint32_t payload = (bits & 0x007FFFFF) >> (23 - f::fraction_bits);
      const std::uint32_t quiet = 1U << (f::fraction_bits - 1);
      return static_cast<std::uint16_t>(sign | f::infinity | quiet | payload);
    }
    const long double a = std::fabs(static_cast<long double>(x));
    if (a >= list_.back()) {
      return static_cast<std::uint16_t>(sign | f::infinity);
    }
    if (!(list_[below_] <= a && a < list_[below_ + 1])) {
      below_ = static_cast<std::size_t>(std::upper_bound(list_.begin(), list_.end(), a) - list_.begin()) - 1;
    }
    const long double down = a - list_[below_];
    const long double up = list_[below_ + 1] - a;
    const bool takes_upper = up < down || (up == down && below_ % 2 != 0);
    return static_cast<std::uint16_t>(sign | (below_ + (takes_upper ? 1 : 0)));
  }

private:
  std::vector<long double> list_ = magnitudes<Half>();
  std::size_t below_ = 0;
};

/// Every half, the midpoints between neighbours, and the floats next to all of those; of both signs. NaN of every kind.
template <class Half>
std::vector<float> boundaries() {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x;
  const auto around = [&](long double centre) {
    const auto nearest = static_cast<float>(centre);
    for (const float y : {nearest, std::nextafter(nearest, infinity), std::nextafter(nearest, -infinity)}) {
      x.push_back(y);
      x.push_back(-y);
    }
  };
  const std::vector<long double> list = magnitudes<Half>();
  for (std::size_t i = 0; i < list.size(); ++i) {
    around(list[i]);
    if (i + 1 < list.size()) {
      around((list[i] + list[i + 1]) / 2);
    }
  }
  generator random(11);
  for (std::uint32_t payload = 1; payload < 1U << 23; payload = 2 * payload + 1) {
    for (const std::uint32_t more : {0U, static_cast<std::uint32_t>(random.next()) & 0x007FFFFF}) {
      x.push_back(std::bit_cast<float>(0x7F800000 | payload | more));
      x.push_back(std::bit_cast<float>(0xFF800000 | payload | more));
      x.push_back(std::bit_cast<float>(0x7F800000 | (payload ^ 0x007FFFFF) | 1 | more));
    }
  }
  x.resize((x.size() + 15) / 16 * 16);
  return x;
}

/// 2^16 of 2^24 floats: in all, one at random of every 256 neighbours.
std::vector<float> sample(std::uint32_t part, generator& random) {
  std::vector<float> x(1U << 16);
  for (std::uint32_t i = 0; i < x.size(); ++i) {
    x[i] = std::bit_cast<float>(part << 24 | i << 8 | (static_cast<std::uint32_t>(random.next()) & 0xFF));
  }
  return x;
}

std::string text(std::unsigned_integral auto bits) {
  std::ostringstream out;
  out << std::hex << "0x" << bits;
  return out.str();
}

std::string text(float x) {
  std::ostringstream out;
  out << x << " (" << text(std::bit_cast<std::uint32_t>(x)) << ")";
  return out.str();
}

/// `expected` and `actual` are what became of x.
template <class X, class Y>
void expect_same_bits(findings& found, const std::string& what, const std::vector<X>& x, const std::vector<Y>& expected,
                      const std::vector<Y>& actual) {
  using bits = std::conditional_t<sizeof(Y) == 2, std::uint16_t, std::uint32_t>;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto want = std::bit_cast<bits>(expected[i]);
    const auto got = std::bit_cast<bits>(actual[i]);
    found.expect(want == got, [&] { return what + ": " + text(x[i]) + " -> " + text(got) + ", not " + text(want); });
  }
}

template <class Half>
std::vector<std::uint16_t> scalar_store(const std::vector<float>& x) {
  std::vector<std::uint16_t> h(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    h[i] = Half(x[i]).bits();
  }
  return h;
}

template <class Half>
std::vector<float> scalar_load(const std::vector<std::uint16_t>& h) {
  std::vector<float> x(h.size());
  for (std::size_t i = 0; i < h.size(); ++i) {
    x[i] = Half::from_bits(h[i]);
  }
  return x;
}

template <class Half>
void expect_nearest(findings& found, nearest_even<Half>& reference, const std::vector<float>& x) {
  std::vector<std::uint16_t> expected(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    expected[i] = reference(x[i]);
  }
  expect_same_bits(found, format<Half>::name, x, expected, scalar_store<Half>(x));
}

struct mode {
  const char* name;
  std::uint64_t bits;
};

constexpr mode modes[] = {{"", 0},
                          {", flush-to-zero", flush_to_zero},
                          {", denormals-are-zero", denormals_are_zero},
                          {", flush-to-zero and denormals-are-zero", flush_to_zero | denormals_are_zero}};

/// All vector stores of x against the scalar one.
template <class Half>
void expect_scalar_bits(findings& found, const std::vector<float>& x) {
  const std::vector<std::uint16_t> expected = scalar_store<Half>(x);
  std::vector<std::uint16_t> h(x.size());
  for (const half_probe& probe : half_probes<Half>()) {
    for (const mode& m : {modes[0], modes[3]}) {
      {
        const flushing scope(m.bits);
        probe.store(x.data(), h.data(), x.size());
      }
      expect_same_bits(found, std::string(probe.arch) + ", " + format<Half>::name + m.name, x, expected, h);
    }
  }
}

std::vector<std::uint16_t> all_patterns() {
  std::vector<std::uint16_t> h(1U << 16);
  for (std::size_t i = 0; i < h.size(); ++i) {
    h[i] = static_cast<std::uint16_t>(i);
  }
  return h;
}

/// What a user's own type looks like.
struct foreign {
  std::uint16_t bits;
};

/// Called a half, but too wide to be one.
struct pretender {
  std::uint32_t bits;
};

template <class X, xs::storage_format Format, class Compute>
constexpr bool is_stored_as =
    xs::storage_traits<X>::format == Format&& xs::storage_traits<const X>::format ==
    Format&& std::is_same_v<xs::compute_type_t<X>, Compute>&& std::is_same_v<xs::compute_type_t<const X>, Compute>;

} // namespace

template <>
struct xs::storage_traits<foreign> {
  static constexpr xs::storage_format format = xs::storage_format::bfloat16;
};

template <>
struct xs::storage_traits<pretender> {
  static constexpr xs::storage_format format = xs::storage_format::float16;
};

TEST_CASE("half: element types are recognised", "[half][unit]") {
  using enum xs::storage_format;
  STATIC_REQUIRE(is_stored_as<float, native, float>);
  STATIC_REQUIRE(is_stored_as<double, native, double>);
  STATIC_REQUIRE(is_stored_as<xs::float16, float16, float>);
  STATIC_REQUIRE(is_stored_as<xs::bfloat16, bfloat16, float>);
  STATIC_REQUIRE(is_stored_as<foreign, bfloat16, float>);
#if defined(XSOFTMAX_COMPILER_FLOAT16)
  STATIC_REQUIRE(is_stored_as<XSOFTMAX_COMPILER_FLOAT16, float16, float>);
#endif
#if defined(__STDCPP_FLOAT16_T__)
  STATIC_REQUIRE(is_stored_as<std::float16_t, float16, float>);
#endif
#if defined(__STDCPP_BFLOAT16_T__)
  STATIC_REQUIRE(is_stored_as<std::bfloat16_t, bfloat16, float>);
#endif
  STATIC_REQUIRE(xs::detail::has_storage_format<const foreign>);
  STATIC_REQUIRE(!xs::detail::has_storage_format<pretender>);
  STATIC_REQUIRE(!xs::detail::has_storage_format<int>);
  STATIC_REQUIRE(!xs::detail::has_storage_format<std::uint16_t>);
  STATIC_REQUIRE(!xs::detail::has_storage_format<long double>);
}

TEMPLATE_LIST_TEST_CASE("half: trivial types that convert like numbers", "[half][unit]", halves) {
  using Half = TestType;
  STATIC_REQUIRE(sizeof(Half) == 2);
  STATIC_REQUIRE(alignof(Half) == 2);
  STATIC_REQUIRE(std::is_trivially_copyable_v<Half>);
  STATIC_REQUIRE(std::is_trivially_default_constructible_v<Half>);
  STATIC_REQUIRE(std::is_standard_layout_v<Half>);
  STATIC_REQUIRE(std::is_convertible_v<Half, float>);
  STATIC_REQUIRE(std::is_nothrow_constructible_v<Half, float>);
  STATIC_REQUIRE(!std::is_convertible_v<float, Half>);
  STATIC_REQUIRE(!std::is_convertible_v<std::uint16_t, Half>);
  STATIC_REQUIRE(std::is_same_v<decltype(Half() + Half()), float>);
  STATIC_REQUIRE(std::totally_ordered<Half>);
  STATIC_REQUIRE(std::totally_ordered_with<Half, float>);

  // In constant expressions; comparisons are those of float.
  STATIC_REQUIRE(Half(1.5F) == 1.5F);
  STATIC_REQUIRE(Half(1.5F) + Half(0.25F) == 1.75F);
  STATIC_REQUIRE(-Half(2.0F) < Half(-1.0F));
  STATIC_REQUIRE(Half(0.0F) == Half(-0.0F));
  STATIC_REQUIRE(Half(0.0F).bits() != Half(-0.0F).bits());
  STATIC_REQUIRE(Half(3) == 3);
  STATIC_REQUIRE(Half::from_bits(0x1234).bits() == 0x1234);
  constexpr Half nan(std::numeric_limits<float>::quiet_NaN());
  STATIC_REQUIRE(nan != nan);
  STATIC_REQUIRE((nan <=> nan) == std::partial_ordering::unordered);
  STATIC_REQUIRE(float(Half(std::numeric_limits<float>::denorm_min())) == 0);
}

TEST_CASE("half: the values that the formats are known by", "[half][unit]") {
  const auto f = [](unsigned bits) { return float(xs::float16::from_bits(static_cast<std::uint16_t>(bits))); };
  CHECK(f(0x0001) == 0x1p-24F);
  CHECK(f(0x03FF) == 0x3FFp-24F);
  CHECK(f(0x0400) == 0x1p-14F);
  CHECK(f(0x3555) == 0x1.554p-2F);
  CHECK(f(0x3C00) == 1);
  CHECK(f(0xC000) == -2);
  CHECK(f(0x7BFF) == 65504);
  CHECK(f(0xFC00) == -std::numeric_limits<float>::infinity());
  CHECK(xs::float16(65519.99F).bits() == 0x7BFF);
  CHECK(xs::float16(65520.0F).bits() == 0x7C00);
  CHECK(xs::float16(-65520.0F).bits() == 0xFC00);
  CHECK(xs::float16(0x1p-25F).bits() == 0x0000);
  CHECK(xs::float16(-0x1.000002p-25F).bits() == 0x8001);
  CHECK(xs::float16(0x1.8p-24F).bits() == 0x0002);
  CHECK(xs::float16(0x1.ffcp-15F).bits() == 0x03FF + 1); // a subnormal tie that rounds up to the smallest normal number
  CHECK(xs::float16(1 + 0x1p-11F).bits() == 0x3C00);
  CHECK(xs::float16(1 + 0x3p-11F).bits() == 0x3C02);

  const auto b = [](unsigned bits) { return float(xs::bfloat16::from_bits(static_cast<std::uint16_t>(bits))); };
  CHECK(b(0x0001) == 0x1p-133F);
  CHECK(b(0x0080) == 0x1p-126F);
  CHECK(b(0x3F80) == 1);
  CHECK(b(0xC049) == -3.140625F);
  CHECK(b(0x7F7F) == 0x1.fep127F);
  CHECK(b(0xFF80) == -std::numeric_limits<float>::infinity());
  CHECK(xs::bfloat16(0x1.fefffep127F).bits() == 0x7F7F);
  CHECK(xs::bfloat16(0x1.ffp127F).bits() == 0x7F80);
  CHECK(xs::bfloat16(-std::numeric_limits<float>::max()).bits() == 0xFF80);
  CHECK(xs::bfloat16(0x1p-134F).bits() == 0x0000);
  CHECK(xs::bfloat16(-0x3p-134F).bits() == 0x8002);
  CHECK(xs::bfloat16(1 + 0x1p-8F).bits() == 0x3F80);
  CHECK(xs::bfloat16(1 + 0x3p-8F).bits() == 0x3F82);
}

TEST_CASE("half: NaN keeps its sign and upper payload and becomes quiet", "[half][unit]") {
  const auto narrow = []<class Half>(Half, std::uint32_t bits) { return Half(std::bit_cast<float>(bits)).bits(); };
  const auto widen = []<class Half>(Half, std::uint16_t bits) {
    return std::bit_cast<std::uint32_t>(float(Half::from_bits(bits)));
  };
  constexpr xs::float16 f{};
  constexpr xs::bfloat16 b{};
  CHECK(narrow(f, 0x7FC00000) == 0x7E00);
  CHECK(narrow(f, 0xFFC00000) == 0xFE00);
  CHECK(narrow(f, 0x7F800001) == 0x7E00); // signalling, and no payload bit that would stay
  CHECK(narrow(f, 0xFF802000) == 0xFE01);
  CHECK(narrow(f, 0x7FFFFFFF) == 0x7FFF);
  CHECK(widen(f, 0x7E00) == 0x7FC00000);
  CHECK(widen(f, 0x7C01) == 0x7FC02000);
  CHECK(widen(f, 0xFFFF) == 0xFFFFE000);
  CHECK(narrow(b, 0x7FC00000) == 0x7FC0);
  CHECK(narrow(b, 0xFFC00000) == 0xFFC0);
  CHECK(narrow(b, 0x7F800001) == 0x7FC0);
  CHECK(narrow(b, 0xFF810000) == 0xFFC1);
  CHECK(narrow(b, 0x7FFFFFFF) == 0x7FFF); // where rounding up would reach the sign
  CHECK(widen(b, 0x7FC1) == 0x7FC10000);
  CHECK(widen(b, 0xFF81) == 0xFF810000); // the shift alone
}

TEMPLATE_LIST_TEST_CASE("half: limits", "[half][unit]", halves) {
  using Half = TestType;
  using limits = std::numeric_limits<Half>;
  STATIC_REQUIRE(limits::is_specialized);
  STATIC_REQUIRE(limits::is_signed);
  STATIC_REQUIRE(!limits::is_integer);
  STATIC_REQUIRE(!limits::is_exact);
  STATIC_REQUIRE(limits::has_infinity);
  STATIC_REQUIRE(limits::has_quiet_NaN);
  STATIC_REQUIRE(limits::has_signaling_NaN);
  STATIC_REQUIRE(limits::radix == 2);
  STATIC_REQUIRE(limits::round_style == std::round_to_nearest);
  STATIC_REQUIRE(std::is_same_v<decltype(limits::max()), Half>);
  STATIC_REQUIRE(std::numeric_limits<const Half>::digits == limits::digits);

  constexpr bool is_float16 = std::is_same_v<Half, xs::float16>;
  STATIC_REQUIRE(limits::digits == (is_float16 ? 11 : 8));
  STATIC_REQUIRE(limits::digits10 == (is_float16 ? 3 : 2));
  STATIC_REQUIRE(limits::max_digits10 == (is_float16 ? 5 : 4));
  STATIC_REQUIRE(limits::min_exponent == (is_float16 ? -13 : -125));
  STATIC_REQUIRE(limits::min_exponent10 == (is_float16 ? -4 : -37));
  STATIC_REQUIRE(limits::max_exponent == (is_float16 ? 16 : 128));
  STATIC_REQUIRE(limits::max_exponent10 == (is_float16 ? 4 : 38));

  // By what the names mean.
  const std::vector<long double> list = magnitudes<Half>();
  CHECK(limits::denorm_min() == list[1]);
  CHECK(limits::min() == std::ldexp(1.0F, limits::min_exponent - 1));
  CHECK(limits::max() == list[list.size() - 2]);
  CHECK(limits::lowest() == -list[list.size() - 2]);
  CHECK(1 + limits::epsilon() == *std::upper_bound(list.begin(), list.end(), 1.0L));
  CHECK(limits::round_error() == 0.5F);
  CHECK(limits::infinity() == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(limits::quiet_NaN()));
  CHECK(std::isnan(limits::signaling_NaN()));
  CHECK(Half(float(limits::quiet_NaN())).bits() == limits::quiet_NaN().bits());
  CHECK(Half(float(limits::signaling_NaN())).bits() != limits::signaling_NaN().bits());
}

TEMPLATE_LIST_TEST_CASE("half: every bit pattern to float and back", "[half][unit]", halves) {
  using Half = TestType;
  using f = format<Half>;
  const std::vector<long double> list = magnitudes<Half>();
  findings found;
  for (const mode& m : modes) {
    std::vector<float> x;
    std::vector<std::uint16_t> back;
    {
      const flushing scope(m.bits);
      x = scalar_load<Half>(all_patterns());
      back = scalar_store<Half>(x);
    }
    for (std::uint32_t bits = 0; bits < x.size(); ++bits) {
      const std::uint32_t magnitude = bits & 0x7FFF;
      const auto message = [&] { return f::name + (": " + text(bits)) + " is " + text(x[bits]) + m.name; };
      found.expect(std::signbit(x[bits]) == (bits >= 0x8000), message);
      if (magnitude > f::infinity) {
        found.expect(std::isnan(x[bits]), message);
        found.expect(back[bits] == (bits | 1U << (f::fraction_bits - 1)), message);
        continue;
      }
      const auto value = static_cast<long double>(std::fabs(x[bits]));
      found.expect(magnitude == f::infinity ? std::isinf(value) : value == list[magnitude], message);
      found.expect(back[bits] == bits, message);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("half: nearest, ties to even, at every boundary and on a sample", "[half][unit]", halves) {
  using Half = TestType;
  findings found;
  nearest_even<Half> reference;
  expect_nearest(found, reference, boundaries<Half>());
  generator random(12);
  for (std::uint32_t part = 0; part < 256; part += 16) {
    expect_nearest(found, reference, sample(part + random.next() % 16, random));
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("half: scalar conversions heed no flush-to-zero", "[half][unit]", halves) {
  using Half = TestType;
  const std::vector<float> x = boundaries<Half>();
  const std::vector<std::uint16_t> expected = scalar_store<Half>(x);
  std::vector<std::uint16_t> h;
  {
    const flushing scope(flush_to_zero | denormals_are_zero);
    h = scalar_store<Half>(x);
  }
  findings found;
  expect_same_bits(found, format<Half>::name, x, expected, h);
  XSOFTMAX_CHECK_FINDINGS(found);
}

#if defined(XSOFTMAX_COMPILER_FLOAT16)

TEST_CASE("half: float16 is the compiler's", "[half][unit]") {
  using compilers = XSOFTMAX_COMPILER_FLOAT16;
  findings found;
  const auto compare = [&](const std::vector<float>& x) {
    std::vector<std::uint16_t> expected(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      expected[i] = std::bit_cast<std::uint16_t>(static_cast<compilers>(x[i]));
    }
    expect_same_bits(found, "_Float16", x, expected, scalar_store<xs::float16>(x));
  };
  compare(boundaries<xs::float16>());
  generator random(13);
  for (std::uint32_t part = 0; part < 256; part += 16) {
    compare(sample(part + random.next() % 16, random));
  }
  const std::vector<std::uint16_t> patterns = all_patterns();
  std::vector<float> expected(patterns.size());
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    expected[i] = static_cast<float>(std::bit_cast<compilers>(patterns[i]));
  }
  expect_same_bits(found, "_Float16", patterns, expected, scalar_load<xs::float16>(patterns));
  XSOFTMAX_CHECK_FINDINGS(found);
}

#endif

TEMPLATE_LIST_TEST_CASE("half: vector loads have the bits of scalar ones", "[half][unit]", halves) {
  using Half = TestType;
  const std::vector<std::uint16_t> patterns = all_patterns();
  const std::vector<float> expected = scalar_load<Half>(patterns);
  findings found;
  std::vector<float> x(patterns.size());
  for (const half_probe& probe : half_probes<Half>()) {
    for (const mode& m : modes) {
      {
        const flushing scope(m.bits);
        probe.load(patterns.data(), x.data(), x.size());
      }
      expect_same_bits(found, std::string(probe.arch) + ", " + format<Half>::name + m.name, patterns, expected, x);
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("half: vector stores have the bits of scalar ones", "[half][unit]", halves) {
  using Half = TestType;
  findings found;
  expect_scalar_bits<Half>(found, boundaries<Half>());
  generator random(14);
  for (std::uint32_t part = 0; part < 256; ++part) {
    expect_scalar_bits<Half>(found, sample(part, random));
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("half: loads and stores touch their lanes and nothing else", "[half][unit]", halves) {
  using Half = TestType;
  constexpr std::uint16_t untouched = 0xA5A5;
  generator random(15);
  findings found;
  for (const half_probe& probe : half_probes<Half>()) {
    const std::size_t n = probe.width;
    std::vector<float> x(n);
    for (float& value : x) {
      value = static_cast<float>(random.normal());
    }
    const std::vector<std::uint16_t> expected = scalar_store<Half>(x);
    const std::vector<float> rounded = scalar_load<Half>(expected);
    for (const flush_with side : {flush_with::front, flush_with::back}) {
      for (std::size_t offset = 0; offset <= n; ++offset) {
        const std::string what =
            std::string(probe.arch) + ", " + format<Half>::name + ", offset " + std::to_string(offset);
        // The lanes, and the elements between them and the guard page.
        guarded_buffer<std::uint16_t> memory(n + offset, side);
        std::uint16_t* const h = memory.data() + (side == flush_with::front ? offset : 0);
        const bool aligned = reinterpret_cast<std::uintptr_t>(h) % (n * sizeof *h) == 0;
        for (const auto store : {probe.store, aligned ? probe.stream : probe.store}) {
          std::fill(memory.begin(), memory.end(), untouched);
          store(x.data(), h, n);
          expect_same_bits(found, what, x, expected, std::vector<std::uint16_t>(h, h + n));
          found.expect(std::count(memory.begin(), h, untouched) == h - memory.begin() &&
                           std::count(h + n, memory.end(), untouched) == memory.end() - (h + n),
                       [&] { return what + ": a neighbour changed"; });
        }
        std::vector<float> y(n);
        probe.load(h, y.data(), n);
        expect_same_bits(found, what, x, rounded, y);
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("half: streamed stores have the bits of ordinary ones", "[half][unit]", halves) {
  using Half = TestType;
  const std::vector<float> x = boundaries<Half>();
  const std::vector<std::uint16_t> expected = scalar_store<Half>(x);
  findings found;
  for (const half_probe& probe : half_probes<Half>()) {
    guarded_buffer<std::uint16_t> h(x.size(), flush_with::front); // a page is aligned to any batch
    probe.stream(x.data(), h.data(), x.size());
    expect_same_bits(found, probe.arch, x, expected, std::vector<std::uint16_t>(h.begin(), h.end()));
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("half: all 2^32 floats", "[half][accuracy][.exhaustive]", halves) {
  using Half = TestType;
  findings found;
  std::mutex mutex;
  for_all_floats([&](const auto& next) {
    findings seen;
    nearest_even<Half> reference;
    for (std::vector<float> x; next(x);) {
      expect_nearest(seen, reference, x);
      expect_scalar_bits<Half>(seen, x);
    }
    const std::scoped_lock lock(mutex);
    found.expect(seen.failures() == 0, [&] { return seen.text(); });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

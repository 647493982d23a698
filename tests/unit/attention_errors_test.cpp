// SPDX-License-Identifier: MIT
// What attention refuses: the message, and that nothing was written; and what it must not refuse.

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

using view = xs::attention_view<float>;
using input = xs::attention_view<const float>;

template <class Body>
std::string refusal(Body&& body) {
  try {
    body();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing";
}

bool accepted(const std::string& text) {
  return text == "nothing";
}

/// Shapes that fit: 2 x 6 / 3 heads, 4 queries, 5 keys, depths 7 and 8. Enough elements for larger ones, too.
struct arguments {
  std::vector<float> elements = std::vector<float>(4000, 0.5f);
  std::vector<float> result = std::vector<float>(4000, -7.0f);
  std::vector<float> numbers = std::vector<float>(200, -7.0f);

  input q{elements.data(), 2, 6, 4, 7};
  input k{elements.data(), 2, 3, 5, 7};
  input v{elements.data(), 2, 3, 5, 8};
  view out{result.data(), 2, 6, 4, 8};

  [[nodiscard]] input in(int batch, int heads, int length, int depth) const {
    return {elements.data(), batch, heads, length, depth};
  }

  [[nodiscard]] bool untouched() const {
    return std::all_of(result.begin(), result.end(), [](float x) { return x == -7; }) &&
           std::all_of(numbers.begin(), numbers.end(), [](float x) { return x == -7; }) &&
           std::all_of(elements.begin(), elements.end(), [](float x) { return x == 0.5f; });
  }
};

/// Every kind refuses the call, with a message that names it and has these parts.
template <class Change>
void expect_refused(arguments& a, const Change& change, std::initializer_list<const char*> parts) {
  for_each_attention([&]<class Of>(Of) {
    for (const bool shared : {false, true}) {
      auto options = Of::options(attention_problem<float>());
      input q = a.q;
      input k = a.k;
      input v = a.v;
      view out = a.out;
      change(q, k, v, out, options);
      std::size_t calls = 0;
      const auto executor = [&](std::size_t, auto&&) { ++calls; };
      const std::string text = refusal([&] {
        if (shared) {
          Of::template run<xs::default_arch>(executor, q, k, v, out, options);
        } else {
          Of::template run<xs::default_arch>(q, k, v, out, options);
        }
      });
      CAPTURE(text);
      CHECK(text.find(std::string("xsoftmax::") + Of::name + ": ") == 0);
      for (const char* const part : parts) {
        CAPTURE(part);
        CHECK(text.find(part) != std::string::npos);
      }
      CHECK(a.untouched());
      CHECK(calls == 0);
    }
  });
}

} // namespace

TEST_CASE("attention refuses shapes that disagree", "[attention][errors][unit]") {
  arguments a;
  const auto shapes = [&](const input& q, const input& k, const input& v, const view& out,
                          std::initializer_list<const char*> parts) {
    expect_refused(
        a,
        [&](input& of_q, input& of_k, input& of_v, view& of_out, auto&) {
          of_q = q;
          of_k = k;
          of_v = v;
          of_out = out;
        },
        parts);
  };
  const auto to = [&](int batch, int heads, int length, int depth) {
    return view(a.result.data(), batch, heads, length, depth);
  };
  shapes(a.in(3, 6, 4, 7), a.k, a.v, a.out, {"batch", "q = 3", "k = 2"});
  shapes(a.q, a.in(1, 3, 5, 7), a.v, a.out, {"batch", "q = 2", "k = 1"});
  shapes(a.q, a.k, a.in(4, 3, 5, 8), a.out, {"batch", "k = 2", "v = 4"});
  shapes(a.q, a.k, a.in(2, 6, 5, 8), a.out, {"heads", "k = 3", "v = 6"});
  shapes(a.q, a.k, a.in(2, 3, 6, 8), a.out, {"length", "k = 5", "v = 6"});
  shapes(a.q, a.in(2, 3, 5, 8), a.v, a.out, {"depth", "q = 7", "k = 8"});
  shapes(a.q, a.in(2, 4, 5, 7), a.in(2, 4, 5, 8), a.out, {"multiple", "q = 6", "k = 4"});
  shapes(a.q, a.in(2, 12, 5, 7), a.in(2, 12, 5, 8), a.out, {"multiple", "q = 6", "k = 12"});
  shapes(a.q, a.in(2, 0, 5, 7), a.in(2, 0, 5, 8), a.out, {"multiple", "q = 6", "k = 0"});
  shapes(a.q, a.k, a.v, to(1, 6, 4, 8), {"batch", "q = 2", "out = 1"});
  shapes(a.q, a.k, a.v, to(2, 3, 4, 8), {"heads", "q = 6", "out = 3"});
  shapes(a.q, a.k, a.v, to(2, 6, 5, 8), {"length", "q = 4", "out = 5"});
  shapes(a.q, a.k, a.v, to(2, 6, 4, 7), {"depth", "v = 8", "out = 7"});
  // Also where there is nothing to do.
  shapes(a.in(0, 6, 4, 7), a.k, a.v, a.out, {"batch", "q = 0", "k = 2"});
  shapes(a.in(2, 6, 0, 7), a.k, a.v, a.out, {"length", "q = 0", "out = 4"});
}

TEST_CASE("attention refuses options that do not fit", "[attention][errors][unit]") {
  arguments a;
  const auto option = [&](const auto& set, std::initializer_list<const char*> parts) {
    expect_refused(
        a, [&](input&, input&, input&, view&, auto& options) { set(options); }, parts);
  };
  option([](auto& o) { o.scale = infinity; }, {"scale", "= inf"});
  option([](auto& o) { o.scale = -infinity; }, {"scale", "= -inf"});
  option([](auto& o) { o.scale = not_a_number; }, {"scale", "= nan"});
  const std::vector<int> lengths(3);
  option([&](auto& o) { o.key_lengths = lengths; }, {"key_lengths = 3", "batch = 2"});
  const std::vector<int> none;
  option([&](auto& o) { o.key_lengths = none; }, {"key_lengths = 0", "batch = 2"});
  const bool sees[2000] = {};
  const std::vector<float> added(2000);
  option([&](auto& o) { o.mask = xs::attention_view<const bool>(sees, 3, 6, 4, 5); }, {"mask = 3", "batch = 2"});
  option([&](auto& o) { o.mask = xs::attention_view<const bool>(sees, 2, 3, 4, 5); }, {"mask = 3", "heads = 6"});
  option([&](auto& o) { o.mask = xs::attention_view<const bool>(sees, 2, 6, 5, 5); }, {"mask = 5", "q_len = 4"});
  option([&](auto& o) { o.mask = xs::attention_view<const bool>(sees, 2, 6, 4, 6); }, {"mask = 6", "kv_len = 5"});
  option([&](auto& o) { o.mask = xs::matrix_view<const float>(added.data(), 5, 4); }, {"mask = 5", "q_len = 4"});
  option([&](auto& o) { o.mask = std::span<const float>(added.data(), 4); }, {"mask = 4", "kv_len = 5"});
  option([&](auto& o) { o.mask = xs::attention_view<const float>(added.data(), 0, 1, 4, 5); },
         {"mask = 0", "batch = 2"});
  option([&](auto& o) { o.key_bias = std::span<const float>(added.data(), 4); }, {"key_bias = 4", "kv_len = 5"});
  option([&](auto& o) { o.key_bias = xs::matrix_view<const float>(added.data(), 3, 5); },
         {"key_bias = 3", "batch = 2"});
  option([&](auto& o) { o.key_bias = xs::matrix_view<const float>(added.data(), 2, 6); },
         {"key_bias = 6", "kv_len = 5"});
  option([&](auto& o) { o.key_bias = xs::matrix_view<const float>(added.data(), 5, 1); }, {"key_bias"});
  option([&](auto& o) { o.alibi_slopes = std::span<const float>(added.data(), 3); }, {"alibi_slopes = 3", "heads = 6"});
  option([&](auto& o) { o.alibi_slopes = std::span<const float>(added.data(), 0); }, {"alibi_slopes = 0", "heads = 6"});
  std::vector<std::byte> small(1);
  option([&](auto& o) { o.workspace = small; }, {"workspace = 1", "bytes needed = "});
  const std::size_t needed = xs::attention_workspace(a.q, a.k, a.v);
  std::vector<std::byte> room(needed - 1);
  std::string text = refusal([&] { xs::softmax_attention(a.q, a.k, a.v, a.out, {.workspace = room}); });
  CAPTURE(text);
  CHECK(text.find("workspace = " + std::to_string(needed - 1) + ", bytes needed = " + std::to_string(needed)) !=
        std::string::npos);
  // Of one kind.
  const auto softmax = [&](const auto& set, std::initializer_list<const char*> parts) {
    xs::softmax_attention_options options;
    set(options);
    const std::string message = refusal([&] { xs::softmax_attention(a.q, a.k, a.v, a.out, options); });
    CAPTURE(message);
    CHECK(message.find("xsoftmax::softmax_attention: ") == 0);
    for (const char* const part : parts) {
      CHECK(message.find(part) != std::string::npos);
    }
    CHECK(a.untouched());
  };
  softmax([&](auto& o) { o.sink = std::span<const float>(added.data(), 5); }, {"sink = 5", "heads = 6"});
  for (const auto& [softcap, value] :
       {std::pair{0.0, "softcap = 0"}, {-2.5, "softcap = -2.5"}, {infinity, "= inf"}, {not_a_number, "= nan"}}) {
    softmax([&, cap = softcap](auto& o) { o.softcap = cap; }, {"softcap", "(0, inf)", value});
  }
  softmax([&](auto& o) { o.log_sum_exp = view(a.numbers.data(), 1, 6, 4, 1); }, {"log_sum_exp = 1", "batch = 2"});
  softmax([&](auto& o) { o.log_sum_exp = view(a.numbers.data(), 2, 3, 4, 1); }, {"log_sum_exp = 3", "heads = 6"});
  softmax([&](auto& o) { o.log_sum_exp = view(a.numbers.data(), 2, 6, 1, 1); }, {"log_sum_exp = 1", "q_len = 4"});
  softmax([&](auto& o) { o.log_sum_exp = view(a.numbers.data(), 2, 6, 4, 2); }, {"log_sum_exp = 2", "depth = 1"});
  softmax([&](auto& o) { o.log_sum_exp = xs::matrix_view<float>(a.numbers.data(), 6, 4); },
          {"log_sum_exp = 1", "batch = 2"});
  softmax([&](auto& o) { o.weight_scale = view(a.numbers.data(), 2, 6, 3, 1); }, {"weight_scale = 3", "q_len = 4"});
  softmax([&](auto& o) { o.weight_sum = std::span<const float>(added.data(), 5); }, {"weight_sum = 5", "heads = 6"});
  std::vector<double> wide(48, -7.0);
  softmax([&](auto& o) { o.weight_scale = xs::attention_view<double>(wide.data(), 2, 6, 4, 1); },
          {"weight_scale", "= 8", "= 4"});
  softmax([&](auto& o) { o.log_sum_exp = xs::attention_view<double>(wide.data(), 2, 6, 4, 1); },
          {"log_sum_exp", "= 8", "= 4"});
  CHECK(std::all_of(wide.begin(), wide.end(), [](double x) { return x == -7; }));
  for (const double bias : {infinity, -infinity, not_a_number}) {
    text = refusal([&] { xs::sigmoid_attention(a.q, a.k, a.v, a.out, {.bias = bias}); });
    CHECK(text.find("xsoftmax::sigmoid_attention: the bias must be finite (bias = ") == 0);
  }
  for (const double power : {0.0, -1.0, infinity, not_a_number}) {
    text = refusal([&] { xs::softplus_attention(a.q, a.k, a.v, a.out, {.reweight_power = power}); });
    CHECK(text.find("xsoftmax::softplus_attention: ") == 0);
    CHECK(text.find("reweight_power = ") != std::string::npos);
  }
  text = refusal([&] {
    xs::softplus_attention(a.q, a.k, a.v, a.out,
                           {.reweight_power = 3.0, .denominator = view(a.numbers.data(), 2, 6, 4, 1)});
  });
  CHECK(text ==
        "xsoftmax::softplus_attention: with re-weighting there is no denominator to write (reweight_power = 3)");
  text = refusal(
      [&] { xs::softplus_attention(a.q, a.k, a.v, a.out, {.denominator = view(a.numbers.data(), 2, 6, 1, 1)}); });
  CHECK(text.find("denominator = 1, q_len = 4") != std::string::npos);
  CHECK(a.untouched());
}

TEST_CASE("attention takes options at the ends of their range", "[attention][errors][unit]") {
  arguments a;
  const auto takes = [&](const auto& options) {
    return accepted(refusal([&] {
      using Options = std::remove_cvref_t<decltype(options)>;
      if constexpr (std::is_same_v<Options, xs::softmax_attention_options>) {
        xs::softmax_attention(a.q, a.k, a.v, a.out, options);
      } else if constexpr (std::is_same_v<Options, xs::sigmoid_attention_options>) {
        xs::sigmoid_attention(a.q, a.k, a.v, a.out, options);
      } else {
        xs::softplus_attention(a.q, a.k, a.v, a.out, options);
      }
    }));
  };
  for (const double scale : {0.0, -3.0, 1e300, 5e-324}) {
    CHECK(takes(xs::softmax_attention_options{.scale = scale}));
    CHECK(takes(xs::sigmoid_attention_options{.scale = scale}));
    CHECK(takes(xs::softplus_attention_options{.scale = scale}));
  }
  for (const double cap : {5e-324, 1e308}) {
    CHECK(takes(xs::softmax_attention_options{.softcap = cap}));
  }
  for (const double bias : {-1e308, 1e308, 0.0}) {
    CHECK(takes(xs::sigmoid_attention_options{.bias = bias}));
  }
  for (const double power : {5e-324, 1e308, 1.0}) {
    CHECK(takes(xs::softplus_attention_options{.reweight_power = power}));
  }
  // Data are never refused.
  const std::vector<double> numbers = {infinity, -infinity, not_a_number, 0, 1e300, -1e300};
  CHECK(takes(xs::softmax_attention_options{.alibi_slopes = numbers, .sink = numbers}));
  const std::vector<long> lengths = {std::numeric_limits<long>::min(), std::numeric_limits<long>::max()};
  CHECK(takes(xs::softmax_attention_options{.key_lengths = lengths}));
  // What an option refers to may be one row or one column.
  const std::vector<float> six(6);
  CHECK(takes(xs::softmax_attention_options{.alibi_slopes = xs::matrix_view<const float>(six.data(), 1, 6)}));
  CHECK(takes(xs::softmax_attention_options{.alibi_slopes = xs::matrix_view<const float>(six.data(), 6, 1)}));
}

TEST_CASE("attention_workspace refuses shapes that disagree", "[attention][errors][unit]") {
  const arguments a;
  const auto serial = [](std::size_t, auto&&) {};
  for (const std::string& text :
       {refusal([&] { (void)xs::attention_workspace(a.in(3, 6, 4, 7), a.k, a.v); }),
        refusal([&] { (void)xs::attention_workspace(serial, a.in(3, 6, 4, 7), a.k, a.v); })}) {
    CAPTURE(text);
    CHECK(text.find("xsoftmax::attention_workspace: ") == 0);
    CHECK(text.find("q = 3") != std::string::npos);
    CHECK(text.find("k = 2") != std::string::npos);
  }
}

TEST_CASE("attention_view refuses negative extents and positions outside", "[attention][errors][unit]") {
  float data[8] = {};
  const auto names = [](const std::string& text, const char* what) {
    return text.find("attention_view") != std::string::npos && text.find(what) != std::string::npos;
  };
  CHECK(names(refusal([&] { (void)view(data, -1, 1, 1, 1); }), "batch = -1"));
  CHECK(names(refusal([&] { (void)view(data, 1, -2, 1, 1); }), "heads = -2"));
  CHECK(names(refusal([&] { (void)view(data, 1, 1, -3L, 1); }), "length = -3"));
  CHECK(names(refusal([&] { (void)view(data, 1, 1, 1, -4); }), "depth = -4"));
  CHECK(names(refusal([&] { (void)view(data, 1, 1, 1, -4, 1, 1, 1); }), "depth = -4"));
  CHECK(names(refusal([&] { (void)view::from_blhd(data, 1, -3, 1, 1); }), "length = -3"));
  CHECK(names(refusal([&] { (void)view::from_blhd(data, 1, 1, -2, 1); }), "heads = -2"));
  const view v(data, 1, 2, 4, 1);
  for (const auto& [first, count, sum] : {std::tuple{0, 5, "= 5"}, {3, 2, "= 5"}, {5, 0, "= 5"}, {4, 1, "= 5"}}) {
    const std::string text = refusal([&, f = first, c = count] { (void)v.positions(f, c); });
    CHECK(names(text, "positions"));
    CHECK(names(text, sum));
    CHECK(names(text, "length = 4"));
  }
  CHECK(names(refusal([&] { (void)v.positions(-1, 2); }), "first = -1"));
  CHECK(names(refusal([&] { (void)v.positions(1, -2); }), "count = -2"));
  CHECK(names(refusal([&] { (void)v.positions(std::numeric_limits<std::size_t>::max(), 2); }), "length = 4"));
  CHECK(names(refusal([&] { (void)v.positions(2, std::numeric_limits<std::size_t>::max()); }), "length = 4"));
  CHECK(accepted(refusal([&] { (void)v.positions(4, 0); })));
}

namespace {

/// One head of 3 x 4 numbers as each argument of attention; out lies `shift` numbers from one of them.
std::string overlap(int which, std::ptrdiff_t shift, std::ptrdiff_t length_stride, std::ptrdiff_t depth_stride) {
  std::vector<float> memory(1000, 0.5f);
  std::vector<float> elsewhere(3000, 0.5f);
  const input apart[3] = {{elsewhere.data() + 300, 1, 1, 3, 4, 0, 0, length_stride, depth_stride},
                          {elsewhere.data() + 1300, 1, 1, 3, 4, 0, 0, length_stride, depth_stride},
                          {elsewhere.data() + 2300, 1, 1, 3, 4, 0, 0, length_stride, depth_stride}};
  const input near(memory.data() + 500, 1, 1, 3, 4, 0, 0, length_stride, depth_stride);
  const view out(memory.data() + 500 + shift, 1, 1, 3, 4, 0, 0, length_stride, depth_stride);
  const std::string text = refusal([&] {
    xs::softmax_attention(which == 0 ? near : apart[0], which == 1 ? near : apart[1], which == 2 ? near : apart[2],
                          out);
  });
  const bool untouched = std::all_of(memory.begin(), memory.end(), [](float x) { return x == 0.5f; });
  return untouched || accepted(text) ? text : "wrote before it refused";
}

/// Do two heads of 3 x 4 numbers at these strides share one, if one lies `shift` from the other? By trying.
bool share(std::ptrdiff_t shift, std::ptrdiff_t length_stride, std::ptrdiff_t depth_stride) {
  for (std::ptrdiff_t a = 0; a < 12; ++a) {
    for (std::ptrdiff_t b = 0; b < 12; ++b) {
      if (a / 4 * length_stride + a % 4 * depth_stride == shift + b / 4 * length_stride + b % 4 * depth_stride) {
        return true;
      }
    }
  }
  return false;
}

} // namespace

TEST_CASE("attention refuses an output that shares an element with an input, exactly", "[attention][errors][unit]") {
  findings found;
  const char* const names[] = {"q", "k", "v"};
  // Rows apart, next to one another, transposed, spread, backwards.
  for (const auto& [length_stride, depth_stride] : {std::pair<std::ptrdiff_t, std::ptrdiff_t>{4, 1},
                                                    {10, 1},
                                                    {1, 3},
                                                    {1, 7},
                                                    {16, 3},
                                                    {9, 2},
                                                    {-4, 1},
                                                    {-10, 1},
                                                    {10, -1},
                                                    {-10, -2},
                                                    {2, 9}}) {
    for (std::ptrdiff_t shift = -70; shift <= 70; ++shift) {
      for (int which = 0; which < 3; ++which) {
        const std::string text = overlap(which, shift, length_stride, depth_stride);
        const bool refused = text.find("xsoftmax::softmax_attention: ") == 0 &&
                             text.find(std::string("out must share no element with ") + names[which] +
                                       " (distance in bytes = ") != std::string::npos;
        const bool right = share(shift, length_stride, depth_stride) ? refused : accepted(text);
        found.expect(right, [&, l = length_stride, d = depth_stride] {
          return std::string(names[which]) + ", strides " + std::to_string(l) + " and " + std::to_string(d) +
                 ", out at " + std::to_string(shift) + ": " + text;
        });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention refuses overlaps of batches exactly, too", "[attention][errors][unit]") {
  // Random strides that are nested: each dimension wider than all inside of it.
  findings found;
  generator random(3);
  std::size_t shared = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::size_t extent[4];
    std::ptrdiff_t stride[4];
    std::size_t order[4] = {0, 1, 2, 3};
    for (std::size_t i = 3; i > 0; --i) {
      std::swap(order[i], order[random.below(i + 1)]);
    }
    std::ptrdiff_t inside = 0;
    for (const std::size_t i : order) {
      extent[i] = 1 + random.below(3);
      const std::ptrdiff_t step = inside + 1 + static_cast<std::ptrdiff_t>(random.below(3));
      stride[i] = random.below(2) == 0 ? step : -step;
      inside += static_cast<std::ptrdiff_t>(extent[i] - 1) * step;
    }
    std::vector<float> memory(4000, 0.5f);
    const std::ptrdiff_t shift = static_cast<std::ptrdiff_t>(random.below(400)) - 200;
    const auto lists = [&](std::ptrdiff_t from) {
      std::vector<std::ptrdiff_t> at;
      for (std::size_t n = 0; n < extent[0] * extent[1] * extent[2] * extent[3]; ++n) {
        std::size_t rest = n;
        std::ptrdiff_t place = from;
        for (int i = 3; i >= 0; --i) {
          place += static_cast<std::ptrdiff_t>(rest % extent[i]) * stride[i];
          rest /= extent[i];
        }
        at.push_back(place);
      }
      std::sort(at.begin(), at.end());
      return at;
    };
    const std::vector<std::ptrdiff_t> a = lists(2000);
    const std::vector<std::ptrdiff_t> b = lists(2000 + shift);
    std::vector<std::ptrdiff_t> both;
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
    const auto at = [&](float* first) {
      return view(first, extent[0], extent[1], extent[2], extent[3], stride[0], stride[1], stride[2], stride[3]);
    };
    std::vector<float> other(4000, 0.5f);
    const std::string text = refusal([&] {
      xs::sigmoid_attention(at(memory.data() + 2000), at(other.data() + 2000), at(other.data() + 2000),
                            at(memory.data() + 2000 + shift));
    });
    shared += both.empty() ? 0 : 1;
    found.expect(accepted(text) == both.empty(), [&] {
      std::string where = "out at " + std::to_string(shift);
      for (int i = 0; i < 4; ++i) {
        where += ", " + std::to_string(extent[i]) + " at " + std::to_string(stride[i]);
      }
      return where + ": " + text;
    });
  }
  CHECK(shared > 300);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention refuses to write over an input of other strides or type that begins there",
          "[attention][errors][unit]") {
  std::vector<float> memory(400, 0.5f);
  const input q(memory.data(), 1, 2, 3, 4);
  const input kv(memory.data() + 200, 1, 2, 3, 4);
  CHECK(!accepted(refusal([&] { xs::softmax_attention(q, kv, kv, view(memory.data(), 1, 2, 3, 4)); })));
  CHECK(!accepted(refusal([&] { xs::softmax_attention(q, kv, kv, view(memory.data(), 1, 2, 3, 4, 0, 4, 8)); })));
  CHECK(!accepted(refusal([&] { xs::softmax_attention(q, kv, kv, view(memory.data() + 200, 1, 2, 3, 4, 0, 4, 8)); })));
  CHECK(!accepted(refusal([&] {
    xs::softmax_attention(q, kv, kv,
                          xs::attention_view<xs::bfloat16>(reinterpret_cast<xs::bfloat16*>(memory.data()), 1, 2, 3, 4));
  })));
  CHECK(std::all_of(memory.begin(), memory.end(), [](float x) { return x == 0.5f; }));
}

TEST_CASE("attention takes inputs that share elements, and column blocks of one matrix", "[attention][errors][unit]") {
  findings found;
  const attention_shape s{2, 3, 3, 5, 5, 4, 4};
  const attention_problem<float> p = make_attention<float>(s, 1);
  for_each_attention([&]<class Of>(Of) {
    const attention_result<float> expected = attend<xs::default_arch, Of>(p);
    // [batch, length, (q, k, v, out), heads, depth]
    constexpr std::ptrdiff_t row = 4 * 3 * 4;
    std::vector<float> fused(2 * 5 * row, -7.0f);
    const auto block = [&](std::ptrdiff_t which) {
      return view(fused.data() + which * 12, 2, 3, 5, 4, 5 * row, 4, row);
    };
    const auto put = [&](const view& to, const std::vector<float>& from) {
      for (std::size_t n = 0; n < from.size(); ++n) {
        const auto at = [&](std::size_t x) { return static_cast<std::ptrdiff_t>(x); };
        to.data()[at(n / 60) * to.batch_stride() + at(n / 20 % 3) * 4 + at(n / 4 % 5) * row + at(n % 4)] = from[n];
      }
    };
    put(block(0), p.q);
    put(block(1), p.k);
    put(block(2), p.v);
    attention_result<float> result(s);
    Of::template run<xs::default_arch>(input(block(0)), input(block(1)), input(block(2)), block(3),
                                       options_with_log_sum_exp<Of>(p, result));
    for (std::size_t n = 0; n < result.out.size(); ++n) {
      result.out[n] = fused[n / 60 * 5 * 48 + n / 4 % 5 * 48 + 36 + n / 20 % 3 * 4 + n % 4];
    }
    expect_same_bits<Of>(found, p, expected, result, "column blocks");
    // One array as all inputs.
    std::vector<float> out(p.q.size());
    Of::template run<xs::default_arch>(query_view(p), query_view(p), query_view(p), view(out.data(), 2, 3, 5, 4));
    attention_problem<float> self = p;
    self.k = self.v = p.q;
    found.expect(out == attend<xs::default_arch, Of>(self).out, [] { return "one array as all inputs"; });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
  // Nothing overlaps nothing.
  std::vector<float> memory(100, 0.5f);
  CHECK(accepted(refusal([&] {
    xs::softmax_attention(input(memory.data(), 1, 1, 0, 4), input(memory.data() + 4, 1, 1, 3, 4),
                          input(memory.data() + 4, 1, 1, 3, 4), view(memory.data(), 1, 1, 0, 4));
  })));
}

// SPDX-License-Identifier: MIT
// Attention of all kinds in general: every shape and option against the formulas, every way to hand over heads, masks
// and numbers, storage in halves, what is touched in memory, workspace, and nothing to do.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <sys/mman.h>
#include <type_traits>
#include <unistd.h>
#include <vector>
#include <xsoftmax/eigen.hpp>

#include "../support/attention_checks.hpp"
#include "../support/catch.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_buffer.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// Rows of memory far apart: each ends, or begins, where a page begins that faults on any access.
template <class T>
class guarded_rows {
public:
  guarded_rows(std::size_t rows, std::size_t cols, flush_with side) {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t inner = std::max(page, (cols * sizeof(T) + page - 1) / page * page);
    const std::size_t step = inner + page;
    mapped_ = rows * step + page;
    base_ = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) {
      throw std::bad_alloc();
    }
    auto* const first = static_cast<unsigned char*>(base_) + page;
    for (std::size_t r = 0; r < rows; ++r) {
      if (::mprotect(first + r * step, inner, PROT_READ | PROT_WRITE) != 0) {
        ::munmap(base_, mapped_);
        throw std::bad_alloc();
      }
    }
    data_ = reinterpret_cast<T*>(side == flush_with::front ? first : first + inner - cols * sizeof(T));
    stride_ = static_cast<std::ptrdiff_t>(step / sizeof(T));
  }

  guarded_rows(const guarded_rows&) = delete;
  guarded_rows& operator=(const guarded_rows&) = delete;

  ~guarded_rows() { ::munmap(base_, mapped_); }

  T* row(std::size_t r) const { return data_ + static_cast<std::ptrdiff_t>(r) * stride_; }

  [[nodiscard]] std::ptrdiff_t stride() const { return stride_; }

private:
  void* base_ = nullptr;
  std::size_t mapped_ = 0;
  T* data_ = nullptr;
  std::ptrdiff_t stride_ = 0;
};

template <class X>
using compute_type_of = std::conditional_t<std::is_same_v<X, double>, double, float>;

template <class Half, class T>
std::vector<Half> rounded(const std::vector<T>& x) {
  std::vector<Half> halves;
  for (const T y : x) {
    halves.push_back(static_cast<Half>(static_cast<compute_type_of<Half>>(y)));
  }
  return halves;
}

template <class T>
constexpr T inf = std::numeric_limits<T>::infinity();

} // namespace

TEMPLATE_LIST_TEST_CASE("attention: depths, lengths and groups of heads", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 0;
  const auto check = [&](const attention_shape& s, bool causal, std::size_t queries = 1000) {
    attention_problem<T> p = make_attention<T>(s, ++seed);
    p.causal = causal;
    expect_right_in_every_kind<Arch>(found, p, queries);
  };
  // Both depths, each of them alone as well.
  for (const std::size_t d : {1u, 2u, 3u, 7u, 8u, 15u, 16u, 17u, 40u, 59u, 64u, 111u, 128u, 129u, 200u, 256u, 300u}) {
    check({1, 1, 1, 5, 70, d, d}, false);
    check({1, 1, 1, 7, 9, d, 3}, true);
    check({1, 1, 1, 3, 66, 5, d}, true);
  }
  // Lengths: around the steps of queries, the block of keys, the tile of queries.
  for (const std::size_t n :
       {1u, 2u, 3u, 4u, 5u, 6u, 7u, 12u, 13u, 63u, 64u, 65u, 127u, 128u, 129u, 251u, 253u, 300u}) {
    check({1, 1, 1, n, n, 9, 5}, true, 40);
    check({1, 1, 1, n, 31, 4, 20}, false, 20);
    check({1, 1, 1, n, 31, 4, 20}, true, 20); // the first queries see nothing
    check({1, 1, 1, 11, n, 20, 4}, false);
    check({1, 1, 1, 11, n, 20, 4}, true);
  }
  check({1, 1, 1, 3, 1023, 8, 8}, false);
  check({1, 1, 1, 3, 1024, 8, 8}, false);
  check({1, 1, 1, 3, 1025, 8, 8}, false);
  check({1, 1, 1, 70, 2200, 8, 8}, true, 5);
  // Groups.
  for (const std::size_t kv_heads : {6u, 3u, 2u, 1u}) {
    check({2, 6, kv_heads, 5, 11, 8, 6}, true);
    check({1, 6, kv_heads, 1, 75, 16, 16}, true);
    check({2, 6, kv_heads, 65, 66, 3, 4}, false, 15);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: options in every combination", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  generator random(4);
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const std::size_t kv_heads = 1 + random.below(3);
    const attention_shape s{1 + random.below(3),
                            kv_heads * (1 + random.below(3)),
                            kv_heads,
                            1 + random.below(seed % 7 == 0 ? 90 : 9),
                            1 + random.below(seed % 5 == 0 ? 200 : 70),
                            1 + random.below(20),
                            1 + random.below(20)};
    attention_problem<T> p = make_attention<T>(s, seed);
    set_random_options(p, seed);
    for_each_attention([&]<class Of>(Of) {
      expect_right<Of>(found, p, attend<Arch, Of>(p), Arch::name + (", seed " + std::to_string(seed)), 12);
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: windows of every width, far beyond the keys too", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  const std::optional<std::size_t> widths[] = {std::nullopt, 0, 1, 5, 63, 64, 65, 200, most / 2, most - 1, most};
  for (const auto& [q_len, kv_len] : {std::pair<std::size_t, std::size_t>{70, 150}, {150, 70}, {7, 7}}) {
    for (const auto& left : widths) {
      for (const auto& right : widths) {
        attention_problem<T> p = make_attention<T>({1, 1, 1, q_len, kv_len, 4, 3}, 5);
        p.window_left = left;
        p.window_right = right;
        p.causal = left == right;
        p.top_left = left.value_or(0) % 2 == 1;
        for_each_attention([&]<class Of>(Of) { expect_right<Of>(found, p, attend<Arch, Of>(p), Arch::name, 9); });
      }
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: a mask and a bias that exclude win over ones that add", "[attention][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // -inf + inf would be NaN.
  findings found;
  attention_problem<T> p = make_attention<T>({1, 1, 1, 3, 70, 4, 3}, 6);
  set_mask(p, mask_kind::additive, {1, 1, 3, 70}, 0.7, 1);
  p.key_bias.assign(70, T(0.5));
  for (std::size_t j = 0; j < 70; ++j) {
    const bool masked = j % 3 == 1;
    for (std::size_t i = 0; i < 3; ++i) {
      if (masked) {
        p.mask.added[i * 70 + j] = -inf<T>;
      }
    }
    p.key_bias[j] = masked ? inf<T> : j % 7 == 0 ? -inf<T> : p.key_bias[j];
    if (j % 7 == 0 && !masked) {
      p.mask.added[j] = inf<T>;
    }
  }
  expect_right_in_every_kind<Arch>(found, p);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: numbers of options in any type", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Numbers that every type holds, so that the bits are the same.
  attention_problem<T> p = make_attention<T>({2, 4, 2, 5, 9, 8, 8}, 7);
  set_mask(p, mask_kind::additive, {2, 4, 5, 9}, 0.8, 2);
  generator random(8);
  const auto simple = [&](std::vector<T>& x) {
    for (T& y : x) {
      y = std::isinf(y) ? y : static_cast<T>(random.below(32)) / 16 - T(0.5);
    }
  };
  p.key_bias.resize(18);
  p.alibi_slopes.resize(4);
  p.sink.resize(4);
  for (std::vector<T>* x : {&p.mask.added, &p.key_bias, &p.alibi_slopes, &p.sink}) {
    simple(*x);
  }
  p.key_lengths = {8, 3};
  findings found;
  for_each_attention([&]<class Of>(Of) {
    const attention_result<T> expected = attend<Arch, Of>(p);
    const auto same = [&](const std::string& what, const auto& change) {
      attention_result<T> result(p.shape);
      auto options = options_with_log_sum_exp<Of>(p, result);
      change(options);
      Of::template run<Arch>(query_view(p), key_view(p), value_view(p),
                             xs::attention_view(result.out.data(), 2, 4, 5, 8), options);
      expect_same_bits<Of>(found, p, expected, result, what);
    };
    const auto as = [&]<class Number>(Number, const std::string& what) {
      const std::vector<Number> mask = rounded<Number>(p.mask.added);
      const std::vector<Number> key_bias = rounded<Number>(p.key_bias);
      const std::vector<Number> slopes = rounded<Number>(p.alibi_slopes);
      const std::vector<Number> sink = rounded<Number>(p.sink);
      same("mask, " + what, [&](auto& o) { o.mask = xs::attention_view(mask.data(), 2, 4, 5, 9); });
      same("key_bias, " + what, [&](auto& o) { o.key_bias = xs::matrix_view(key_bias.data(), 2, 9); });
      same("alibi_slopes, " + what, [&](auto& o) { o.alibi_slopes = slopes; });
      if constexpr (is_softmax_attention<Of>) {
        same("sink, " + what, [&](auto& o) { o.sink = sink; });
      }
    };
    as(float(), "float");
    as(double(), "double");
    as(xs::float16(), "float16");
    as(xs::bfloat16(), "bfloat16");
    const auto with_lengths = [&]<class Count>(Count, const std::string& what) {
      const std::vector<Count> counts = {8, 3};
      same("key_lengths, " + what, [&](auto& o) { o.key_lengths = counts; });
    };
    with_lengths(static_cast<signed char>(0), "signed char");
    with_lengths(static_cast<unsigned char>(0), "unsigned char");
    with_lengths(static_cast<short>(0), "short");
    with_lengths(static_cast<unsigned short>(0), "unsigned short");
    with_lengths(0, "int");
    with_lengths(0U, "unsigned");
    with_lengths(0L, "long");
    with_lengths(std::size_t{0}, "size_t");
    // At strides: the sink and the slopes of every other head, and backwards.
    std::vector<T> spread(8, T(99));
    for (std::size_t h = 0; h < 4; ++h) {
      spread[7 - 2 * h] = p.alibi_slopes[h];
    }
    same("alibi_slopes backwards",
         [&](auto& o) { o.alibi_slopes = xs::vector_view<const T>(spread.data() + 7, 4, -2); });
    same("alibi_slopes standing",
         [&](auto& o) { o.alibi_slopes = xs::matrix_view<const T>(p.alibi_slopes.data(), 4, 1); });
    same("alibi_slopes standing, spread and backwards",
         [&](auto& o) { o.alibi_slopes = xs::matrix_view<const T>(spread.data() + 7, 4, 1, -2); });
    std::vector<T> wide(2 * 9 * 3, T(99));
    for (std::size_t n = 0; n < 18; ++n) {
      wide[n * 3] = p.key_bias[n];
    }
    same("key_bias at strides", [&](auto& o) { o.key_bias = xs::matrix_view<const T>(wide.data(), 2, 9, 27, 3); });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention: key lengths at the ends of their types", "[attention][unit]") {
  findings found;
  attention_problem<float> p = make_attention<float>({3, 1, 1, 2, 5, 4, 4}, 9);
  const auto check = [&]<class Count>(const std::array<Count, 3>& counts, std::array<long, 3> meant) {
    p.key_lengths.assign(meant.begin(), meant.end());
    for_each_attention([&]<class Of>(Of) {
      const attention_result<float> expected = attend<xs::default_arch, Of>(p);
      attention_result<float> result(p.shape);
      auto options = options_with_log_sum_exp<Of>(p, result);
      options.key_lengths = counts;
      Of::template run<xs::default_arch>(query_view(p), key_view(p), value_view(p),
                                         xs::attention_view(result.out.data(), 3, 1, 2, 4), options);
      expect_same_bits<Of>(found, p, expected, result, "key_lengths of " + std::to_string(sizeof(Count)) + " bytes");
      expect_right<Of>(found, p, result, "key_lengths");
    });
  };
  const auto limits = [&]<class Count>(Count) {
    using limit = std::numeric_limits<Count>;
    check(std::array<Count, 3>{limit::max(), limit::min(), Count(2)}, {5, 0, 2});
    if constexpr (std::is_signed_v<Count>) {
      check(std::array<Count, 3>{Count(-1), Count(1), Count(5)}, {0, 1, 5});
    }
  };
  limits(static_cast<signed char>(0));
  limits(static_cast<unsigned char>(0));
  limits(static_cast<short>(0));
  limits(static_cast<unsigned short>(0));
  limits(0);
  limits(0U);
  limits(std::int64_t{0});
  limits(std::uint64_t{0});
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: masks in every form", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  constexpr std::size_t q_len = 5;
  constexpr std::size_t kv_len = 70;
  attention_problem<T> p = make_attention<T>({2, 2, 1, q_len, kv_len, 8, 8}, 10);
  set_mask(p, mask_kind::boolean, {1, 1, q_len, kv_len}, 0.6, 3);
  const bool* const sees = &p.mask.sees[0];
  for_each_attention([&]<class Of>(Of) {
    const attention_result<T> expected = attend<Arch, Of>(p);
    expect_right<Of>(found, p, expected, Arch::name);
    const auto same = [&](const std::string& what, const xs::attention_mask& mask) {
      attention_result<T> result(p.shape);
      auto options = options_with_log_sum_exp<Of>(p, result);
      options.mask = mask;
      Of::template run<Arch>(query_view(p), key_view(p), value_view(p),
                             xs::attention_view(result.out.data(), 2, 2, q_len, 8), options);
      expect_same_bits<Of>(found, p, expected, result, what);
    };
    same("a matrix", xs::matrix_view(sees, q_len, kv_len));
    same("strides of 0", xs::attention_view<const bool>(sees, 2, 2, q_len, kv_len, 0, 0, kv_len));
    same("a stride that an extent of 1 ignores",
         xs::attention_view<const bool>(sees, 1, 1, q_len, kv_len, 1 << 20, -(1 << 20), kv_len));
    std::valarray<bool> other(q_len * kv_len);
    for (std::size_t i = 0; i < q_len; ++i) {
      for (std::size_t j = 0; j < kv_len; ++j) {
        other[j * q_len + (q_len - 1 - i)] = sees[i * kv_len + j];
      }
    }
    same("transposed and upside down",
         xs::attention_view<const bool>(&other[0] + (q_len - 1), 1, 1, q_len, kv_len, 0, 0, -1, q_len));
    Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> eigen(q_len, kv_len);
    for (std::size_t n = 0; n < q_len * kv_len; ++n) {
      eigen(static_cast<Eigen::Index>(n / kv_len), static_cast<Eigen::Index>(n % kv_len)) = sees[n];
    }
    same("a matrix of Eigen's", eigen);
  });
  // One row for all queries, one column for all keys.
  std::vector<T> row(p.mask.size());
  attention_problem<T> r = p;
  set_mask(r, mask_kind::additive, {1, 1, 1, kv_len}, 0.6, 4);
  attention_problem<T> c = p;
  set_mask(c, mask_kind::boolean, {1, 1, q_len, 1}, 0.5, 5);
  attention_problem<T> one = p;
  set_mask(one, mask_kind::boolean, {1, 1, 1, 1}, 1.1, 6);
  attention_problem<T> none = p;
  set_mask(none, mask_kind::boolean, {1, 1, 1, 1}, 0, 6);
  for (const attention_problem<T>& x : {r, c, one, none}) {
    expect_right_in_every_kind<Arch>(found, x);
  }
  attention_result<T> result(r.shape);
  xs::softmax_attention_options options;
  options.mask = r.mask.added; // a range is one row
  options.log_sum_exp = xs::attention_view(result.log_sum_exp.data(), 2, 2, q_len, 1);
  xs::softmax_attention<Arch>(query_view(r), key_view(r), value_view(r),
                              xs::attention_view(result.out.data(), 2, 2, q_len, 8), options);
  expect_same_bits<of_softmax_attention>(found, r, attend<Arch, of_softmax_attention>(r), result, "a range");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention_view: layouts", "[attention][unit]") {
  float data[2 * 3 * 4 * 5] = {};
  const xs::attention_view<float> dense(data, 2, 3, 4, 5);
  CHECK((dense.batch() == 2 && dense.heads() == 3 && dense.length() == 4 && dense.depth() == 5));
  CHECK((dense.batch_stride() == 60 && dense.head_stride() == 20 && dense.length_stride() == 5));
  CHECK(dense.depth_stride() == 1);
  const auto blhd = xs::attention_view<float>::from_blhd(data, 2, 4, 3, 5);
  CHECK((blhd.batch() == 2 && blhd.heads() == 3 && blhd.length() == 4 && blhd.depth() == 5));
  CHECK((blhd.batch_stride() == 60 && blhd.head_stride() == 5 && blhd.length_stride() == 15));
  const xs::attention_view<const float> read = dense;
  CHECK((read.data() == data && read.batch_stride() == 60 && read.length_stride() == 5));
  const xs::attention_view<float> head = xs::matrix_view<float>(data, 4, 5, 7, 2);
  CHECK((head.batch() == 1 && head.heads() == 1 && head.length() == 4 && head.depth() == 5));
  CHECK((head.length_stride() == 7 && head.depth_stride() == 2));
  const auto filled = dense.positions(1, 2);
  CHECK((filled.data() == data + 5 && filled.length() == 2 && filled.head_stride() == 20));
  CHECK(dense.positions(4, 0).length() == 0);
  CHECK(blhd.positions(std::size_t{2}, 2U).data() == data + 30);
}

TEMPLATE_LIST_TEST_CASE("attention: heads beside one another, and the filled part of a cache", "[attention][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const attention_shape s{2, 4, 2, 7, 66, 12, 10};
  attention_problem<T> p = make_attention<T>(s, 11);
  p.causal = true;
  laid_out_heads<T> q(p.q, 2, 4, 7, 12, heads_layouts(4, 7, 12)[1]);
  laid_out_heads<T> k(p.k, 2, 2, 66, 12, heads_layouts(2, 66, 12)[1]);
  laid_out_heads<T> v(p.v, 2, 2, 66, 10, heads_layouts(2, 66, 10)[1]);
  for_each_attention([&]<class Of>(Of) {
    const attention_result<T> expected = attend<Arch, Of>(p);
    laid_out_heads<T> out(2, 4, 7, 10, heads_layouts(4, 7, 10)[1]);
    attention_result<T> result(s);
    Of::template run<Arch>(xs::attention_view<const T>::from_blhd(q.view().data(), 2, 7, 4, 12),
                           xs::attention_view<const T>::from_blhd(k.view().data(), 2, 66, 2, 12),
                           xs::attention_view<const T>::from_blhd(v.view().data(), 2, 66, 2, 10),
                           xs::attention_view<T>::from_blhd(out.view().data(), 2, 7, 4, 10),
                           options_with_log_sum_exp<Of>(p, result));
    result.out = out.elements();
    expect_same_bits<Of>(found, p, expected, result, "[batch, length, heads, depth]");
    // A cache with room for more keys, which hold NaN.
    std::vector<T> cache_k(2 * 2 * 100 * 12, std::numeric_limits<T>::quiet_NaN());
    std::vector<T> cache_v(2 * 2 * 100 * 10, std::numeric_limits<T>::quiet_NaN());
    for (std::size_t h = 0; h < 4; ++h) {
      std::copy_n(p.k.data() + h * 66 * 12, 66 * 12, cache_k.data() + h * 100 * 12);
      std::copy_n(p.v.data() + h * 66 * 10, 66 * 10, cache_v.data() + h * 100 * 10);
    }
    attention_result<T> cached(s);
    Of::template run<Arch>(query_view(p), xs::attention_view<const T>(cache_k.data(), 2, 2, 100, 12).positions(0, 66),
                           xs::attention_view<const T>(cache_v.data(), 2, 2, 100, 10).positions(0, 66),
                           xs::attention_view<T>(cached.out.data(), 2, 4, 7, 10),
                           options_with_log_sum_exp<Of>(p, cached));
    expect_same_bits<Of>(found, p, expected, cached, "a cache");
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: keys and values that several entries or positions share", "[attention][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Strides of 0.
  findings found;
  const attention_shape s{3, 2, 2, 4, 70, 8, 6};
  attention_problem<T> p = make_attention<T>(s, 12);
  for (std::size_t b = 0; b < 3; ++b) {
    std::copy_n(p.q.data(), 8, p.query(b, 0, 0));
    for (std::size_t i = 0; i < 2 * 4; ++i) {
      std::copy_n(p.q.data(), 8, p.query(b, i / 4, i % 4));
    }
    std::copy_n(p.k.data(), 2 * 70 * 8, p.key(b, 0, 0));
    for (std::size_t h = 0; h < 2; ++h) {
      std::copy_n(p.v.data(), 70 * 6, p.value(b, h, 0));
    }
  }
  for_each_attention([&]<class Of>(Of) {
    attention_result<T> result(s);
    Of::template run<Arch>(xs::attention_view<const T>(p.q.data(), 3, 2, 4, 8, 0, 0, 0),
                           xs::attention_view<const T>(p.k.data(), 3, 2, 70, 8, 0, 70 * 8, 8),
                           xs::attention_view<const T>(p.v.data(), 3, 2, 70, 6, 0, 0, 6),
                           xs::attention_view<T>(result.out.data(), 3, 2, 4, 6),
                           options_with_log_sum_exp<Of>(p, result));
    expect_same_bits<Of>(found, p, attend<Arch, Of>(p), result, "shared");
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: one head as a matrix", "[attention][eigen][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using column_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
  findings found;
  const attention_shape s{1, 1, 1, 5, 69, 12, 10};
  const attention_problem<T> p = make_attention<T>(s, 13);
  const row_major q = Eigen::Map<const row_major>(p.q.data(), 5, 12);
  const row_major k = Eigen::Map<const row_major>(p.k.data(), 69, 12);
  const row_major v = Eigen::Map<const row_major>(p.v.data(), 69, 10);
  const column_major q2 = q;
  const column_major k2 = k;
  const column_major v2 = v;
  for_each_attention([&]<class Of>(Of) {
    const attention_result<T> expected = attend<Arch, Of>(p);
    const auto same = [&](const std::string& what, const auto& out) {
      attention_result<T> result(s);
      result.log_sum_exp = expected.log_sum_exp;
      for (std::size_t n = 0; n < result.out.size(); ++n) {
        result.out[n] = out(static_cast<Eigen::Index>(n / 10), static_cast<Eigen::Index>(n % 10));
      }
      expect_same_bits<Of>(found, p, expected, result, what);
    };
    row_major out(5, 10);
    Of::template run<Arch>(q, k, v, out);
    same("row-major", out);
    column_major out2(5, 10);
    Of::template run<Arch>(q2, k2, v2, out2);
    same("column-major", out2);
    column_major around = column_major::Constant(9, 20, T(3));
    Of::template run<Arch>(q2, k, v2, around.block(2, 4, 5, 10));
    same("into a block", around.block(2, 4, 5, 10));
    around.block(2, 4, 5, 10).setConstant(T(3));
    found.expect(around == column_major::Constant(9, 20, T(3)), [] { return "wrote around the block"; });
    column_major transposed(10, 5);
    Of::template run<Arch>(q, k2, v, transposed.transpose());
    same("into a transpose", transposed.transpose());
    Of::template run<Arch>(q * T(2), k / T(2), v + v, out);
    row_major half = out / T(2);
    // Scores of 2 q.k / 2 are the same, twice the values give twice the result; all exactly.
    if (Of::kind != attention_kind::softplus) {
      same("of expressions", half);
    }
    attention_result<T> by_views(s);
    Of::template run<Arch>(xs::matrix_view<const T>(p.q.data(), 5, 12), key_view(p),
                           xs::matrix_view<const T>(p.v.data(), 69, 10),
                           xs::matrix_view<T>(by_views.out.data(), 5, 10));
    by_views.log_sum_exp = expected.log_sum_exp;
    expect_same_bits<Of>(found, p, expected, by_views, "views");
    // One query is a row.
    const attention_problem<T> first = part_of(p, {0, 1, 0, 1, 0, 1, 69});
    const attention_result<T> of_first = attend<Arch, Of>(first);
    std::vector<T> one(10);
    Of::template run<Arch>(first.q, k, v2, one);
    found.expect(first_difference(of_first.out.data(), one.data(), 10) == 10, [] { return "one query as a row"; });
  });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("softmax_attention: log_sum_exp in every form", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const attention_problem<T> p = make_attention<T>({1, 3, 1, 5, 70, 8, 6}, 14);
  const attention_result<T> expected = attend<Arch, of_softmax_attention>(p);
  attention_result<T> result(p.shape);
  const xs::attention_view<T> out(result.out.data(), 1, 3, 5, 6);
  xs::softmax_attention<Arch>(query_view(p), key_view(p), value_view(p), out,
                              {.log_sum_exp = xs::matrix_view<T>(result.log_sum_exp.data(), 3, 5)});
  expect_same_bits<of_softmax_attention>(found, p, expected, result, "[heads, q_len]");
  std::vector<T> spread(3 * 5 * 2 + 4, T(-77));
  xs::softmax_attention<Arch>(query_view(p), key_view(p), value_view(p), out,
                              {.log_sum_exp = xs::attention_view<T>(spread.data() + 8, 1, 3, 5, 1, 0, 10, -2)});
  for (std::size_t h = 0; h < 3; ++h) {
    for (std::size_t i = 0; i < 5; ++i) {
      result.log_sum_exp[h * 5 + i] = spread[8 + h * 10 - 2 * i];
      spread[8 + h * 10 - 2 * i] = T(-77);
    }
  }
  expect_same_bits<of_softmax_attention>(found, p, expected, result, "at strides");
  found.expect(std::all_of(spread.begin(), spread.end(), [](T x) { return x == T(-77); }),
               [] { return "wrote between the numbers"; });
  const attention_problem<T> one = part_of(p, {0, 1, 0, 1, 0, 5, 70});
  attention_result<T> of_one(one.shape);
  xs::softmax_attention<Arch>(query_view(one), key_view(one), value_view(one),
                              xs::attention_view<T>(of_one.out.data(), 1, 1, 5, 6),
                              {.log_sum_exp = of_one.log_sum_exp});
  expect_bits_of_part<of_softmax_attention>(found, p, expected, {0, 1, 0, 1, 0, 5, 70}, of_one, "a row");
  // Not asked for, it changes nothing.
  std::fill(result.out.begin(), result.out.end(), T(-7));
  xs::softmax_attention<Arch>(query_view(p), key_view(p), value_view(p), out);
  found.expect(result.out == expected.out, [] { return "without log_sum_exp"; });
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: halves are computed in float and rounded once", "[attention][half][unit]",
                        float_subjects) {
  using Arch = typename TestType::arch;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto check = [&]<class Q, class K, class V, class Out>(Q, K, V, Out, const attention_shape& s,
                                                               std::uint64_t seed) {
    attention_problem<float> p = make_attention<float>(s, seed);
    p.causal = seed % 2 == 0;
    const std::vector<Q> q = rounded<Q>(p.q);
    const std::vector<K> k = rounded<K>(p.k);
    const std::vector<V> v = rounded<V>(p.v);
    p.q.assign(q.begin(), q.end());
    p.k.assign(k.begin(), k.end());
    p.v.assign(v.begin(), v.end());
    for (std::size_t l = 0; l < 5; ++l) { // dense and strided
      laid_out_heads<Q> lq(p.q, s.batch, s.heads, s.q_len, s.depth, heads_layouts(s.heads, s.q_len, s.depth)[l]);
      laid_out_heads<K> lk(p.k, s.batch, s.kv_heads, s.kv_len, s.depth,
                           heads_layouts(s.kv_heads, s.kv_len, s.depth)[l]);
      laid_out_heads<V> lv(p.v, s.batch, s.kv_heads, s.kv_len, s.value_depth,
                           heads_layouts(s.kv_heads, s.kv_len, s.value_depth)[l]);
      for_each_attention([&]<class Of>(Of) {
        attention_result<float> expected = attend<Arch, Of>(p);
        attention_result<float> result(s);
        laid_out_heads<Out> out(s.batch, s.heads, s.q_len, s.value_depth,
                                heads_layouts(s.heads, s.q_len, s.value_depth)[l]);
        Of::template run<Arch>(lq.view(), lk.view(), lv.view(), out.view(), options_with_log_sum_exp<Of>(p, result));
        const std::vector<Out> once = rounded<Out>(expected.out);
        expected.out.assign(once.begin(), once.end());
        const std::vector<Out> elements = out.elements();
        result.out.assign(elements.begin(), elements.end());
        expect_same_bits<Of>(found, p, expected, result,
                             std::string(Arch::name) + ", halves, layout " + std::to_string(l));
        found.expect(out.untouched_between(), [] { return "wrote between the elements"; });
      });
    }
  };
  std::uint64_t seed = 0;
  for (const attention_shape& s :
       {attention_shape{1, 2, 1, 5, 70, 40, 24}, {2, 2, 2, 1, 130, 64, 64}, {1, 1, 1, 70, 67, 7, 9}}) {
    check(xs::bfloat16(), xs::bfloat16(), xs::bfloat16(), xs::bfloat16(), s, ++seed);
    check(xs::float16(), xs::float16(), xs::float16(), xs::float16(), s, ++seed);
    check(float(), xs::bfloat16(), xs::bfloat16(), float(), s, ++seed);
    check(float(), xs::float16(), xs::bfloat16(), xs::float16(), s, ++seed);
    check(xs::float16(), float(), float(), xs::bfloat16(), s, ++seed);
    check(Eigen::half(), Eigen::bfloat16(), float(), Eigen::half(), s, ++seed);
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: reads and writes nothing beyond its arguments", "[attention][memory][unit]",
                        subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  std::uint64_t seed = 0;
  for (const flush_with side : {flush_with::front, flush_with::back}) {
    for (const attention_shape& s : {attention_shape{1, 1, 1, 1, 1, 1, 1},
                                     {1, 1, 1, 3, 7, 5, 3},
                                     {2, 2, 1, 5, 65, 17, 9},
                                     {1, 1, 1, 7, 64, 16, 16},
                                     {1, 3, 1, 1, 130, 40, 33},
                                     {1, 1, 1, 67, 70, 111, 59},
                                     {1, 1, 1, 2, 1030, 8, 1},
                                     {8, 1, 1, 1, 21000, 1, 16}}) { // partial sums that outgrow the rest
      attention_problem<T> p = make_attention<T>(s, ++seed);
      p.causal = seed % 2 == 0;
      set_mask(p, seed % 3 == 0 ? mask_kind::additive : mask_kind::boolean, {s.batch, s.heads, s.q_len, s.kv_len}, 0.8,
               seed);
      p.key_bias.assign(s.batch * s.kv_len, T(0.25));
      p.alibi_slopes.assign(s.heads, T(0.125));
      p.sink.assign(s.heads, T(1));
      p.key_lengths.assign(s.batch, static_cast<long>(s.kv_len));
      const auto guarded = [&](const auto& from) {
        using X = std::remove_cvref_t<decltype(from[0])>;
        auto buffer = std::make_unique<guarded_buffer<X>>(std::size(from), side);
        for (std::size_t n = 0; n < std::size(from); ++n) {
          buffer->data()[n] = from[n];
        }
        return buffer;
      };
      const auto q = guarded(p.q);
      const auto k = guarded(p.k);
      const auto v = guarded(p.v);
      const auto sees = guarded(p.mask.sees);
      const auto added = guarded(p.mask.added);
      const auto key_bias = guarded(p.key_bias);
      const auto slopes = guarded(p.alibi_slopes);
      const auto sink = guarded(p.sink);
      const auto lengths = guarded(p.key_lengths);
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& what) {
        const attention_result<T> expected = attend<Arch, Of>(variant);
        attention_result<T> result(s);
        const auto out = guarded(result.out);
        const auto l = guarded(result.log_sum_exp);
        auto options = Of::options(variant);
        if (p.mask.kind == mask_kind::boolean) {
          options.mask = xs::attention_view<const bool>(sees->data(), s.batch, s.heads, s.q_len, s.kv_len);
        } else {
          options.mask = xs::attention_view<const T>(added->data(), s.batch, s.heads, s.q_len, s.kv_len);
        }
        options.key_bias = xs::matrix_view<const T>(key_bias->data(), s.batch, s.kv_len);
        options.alibi_slopes = std::span<const T>(slopes->data(), s.heads);
        options.key_lengths = std::span<const long>(lengths->data(), s.batch);
        if constexpr (is_softmax_attention<Of>) {
          options.sink = std::span<const T>(sink->data(), s.heads);
          options.log_sum_exp = xs::attention_view<T>(l->data(), s.batch, s.heads, s.q_len, 1);
        }
        const auto run = [&](auto&&... executor) {
          Of::template run<Arch>(executor...,
                                 xs::attention_view<const T>(q->data(), s.batch, s.heads, s.q_len, s.depth),
                                 xs::attention_view<const T>(k->data(), s.batch, s.kv_heads, s.kv_len, s.depth),
                                 xs::attention_view<const T>(v->data(), s.batch, s.kv_heads, s.kv_len, s.value_depth),
                                 xs::attention_view<T>(out->data(), s.batch, s.heads, s.q_len, s.value_depth), options);
          std::copy(out->begin(), out->end(), result.out.begin());
          std::copy(l->begin(), l->end(), result.log_sum_exp.begin());
          expect_same_bits<Of>(found, variant, expected, result, what + " between guards");
        };
        // Neither beyond a workspace of the exact size, wherever it begins.
        for (const std::size_t shift : {0u, 1u, 8u, 60u}) {
          const std::size_t bytes = xs::attention_workspace(query_view(p), key_view(p), value_view(p));
          guarded_buffer<std::byte> room(bytes, side, shift);
          std::memset(room.data(), 0xff, bytes); // NaN
          options.workspace = {room.data(), bytes};
          run();
        }
        const auto serial = [](std::size_t count, const executor_body& body) {
          run_in_order(count, body, [](std::size_t i) { return i; });
        };
        const std::size_t bytes = xs::attention_workspace(serial, query_view(p), key_view(p), value_view(p));
        guarded_buffer<std::byte> room(bytes, side, 1);
        std::memset(room.data(), 0xff, bytes);
        options.workspace = {room.data(), bytes};
        run(serial);
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: reads and writes nothing between rows", "[attention][memory][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  for (const flush_with side : {flush_with::front, flush_with::back}) {
    for (const attention_shape& s : {attention_shape{1, 1, 1, 7, 9, 5, 3}, {1, 1, 1, 8, 70, 33, 17}}) {
      attention_problem<T> p = make_attention<T>(s, 15);
      set_mask(p, mask_kind::boolean, {1, 1, s.q_len, s.kv_len}, 0.8, 7);
      const auto spread = [&](const auto& from, std::size_t rows, std::size_t cols) {
        using X = std::remove_cvref_t<decltype(from[0])>;
        auto x = std::make_unique<guarded_rows<X>>(rows, cols, side);
        for (std::size_t n = 0; n < rows * cols; ++n) {
          x->row(n / cols)[n % cols] = from[n];
        }
        return x;
      };
      const auto q = spread(p.q, s.q_len, s.depth);
      const auto k = spread(p.k, s.kv_len, s.depth);
      const auto v = spread(p.v, s.kv_len, s.value_depth);
      const auto mask = spread(p.mask.sees, s.q_len, s.kv_len);
      for_each_attention([&]<class Of>(Of) {
        const attention_result<T> expected = attend<Arch, Of>(p);
        attention_result<T> result(s);
        const auto out = spread(result.out, s.q_len, s.value_depth);
        auto options = options_with_log_sum_exp<Of>(p, result);
        options.mask = xs::matrix_view<const bool>(mask->row(0), s.q_len, s.kv_len, mask->stride());
        Of::template run<Arch>(xs::matrix_view<const T>(q->row(0), s.q_len, s.depth, q->stride()),
                               xs::matrix_view<const T>(k->row(0), s.kv_len, s.depth, k->stride()),
                               xs::matrix_view<const T>(v->row(0), s.kv_len, s.value_depth, v->stride()),
                               xs::matrix_view<T>(out->row(0), s.q_len, s.value_depth, out->stride()), options);
        for (std::size_t n = 0; n < result.out.size(); ++n) {
          result.out[n] = out->row(n / s.value_depth)[n % s.value_depth];
        }
        expect_same_bits<Of>(found, p, expected, result, "rows between guards");
      });
    }
  }
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention: offsets beyond 2^31 elements", "[attention][memory][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  // Address space only: a few pages are ever touched.
  constexpr std::ptrdiff_t far = (std::ptrdiff_t{1} << 31) + 4096;
  constexpr std::size_t length = 3;
  constexpr std::size_t depth = 20;
  const std::size_t bytes = (static_cast<std::size_t>(far) * (length - 1) + 8192) * sizeof(T);
  void* const mapped =
      ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    WARN("no address space for this test");
    return;
  }
  T* const data = static_cast<T*>(mapped);
  findings found;
  const attention_problem<T> p = make_attention<T>({1, 1, 1, length, length, depth, depth}, 16);
  for (std::size_t n = 0; n < length * depth; ++n) {
    T* const row = data + static_cast<std::ptrdiff_t>(n / depth) * far;
    row[n % depth] = p.q[n];
    row[100 + n % depth] = p.k[n];
    row[200 + n % depth] = p.v[n];
  }
  for_each_attention([&]<class Of>(Of) {
    const attention_result<T> expected = attend<Arch, Of>(p);
    attention_result<T> result(p.shape);
    Of::template run<Arch>(xs::matrix_view<const T>(data, length, depth, far),
                           xs::matrix_view<const T>(data + 100, length, depth, far),
                           xs::matrix_view<const T>(data + 200, length, depth, far),
                           xs::matrix_view<T>(data + 300, length, depth, far), options_with_log_sum_exp<Of>(p, result));
    for (std::size_t n = 0; n < length * depth; ++n) {
      result.out[n] = data[static_cast<std::ptrdiff_t>(n / depth) * far + 300 + static_cast<std::ptrdiff_t>(n % depth)];
    }
    expect_same_bits<Of>(found, p, expected, result, "far rows");
  });
  ::munmap(mapped, bytes);
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEMPLATE_LIST_TEST_CASE("attention_workspace: what is asked for, no more, and no growth with lengths",
                        "[attention][workspace][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto serial = [](std::size_t count, const executor_body& body) {
    run_in_order(count, body, [](std::size_t i) { return i; });
  };
  for (const attention_shape& s : {attention_shape{1, 1, 1, 1, 1, 1, 1},
                                   {1, 1, 1, 4, 9, 8, 8},
                                   {1, 4, 2, 300, 40, 16, 32},
                                   {1, 1, 1, 1, 5000, 128, 128}}) {
    const attention_problem<T> p = make_attention<T>(s, 17);
    const std::size_t bytes[] = {xs::attention_workspace(query_view(p), key_view(p), value_view(p)),
                                 xs::attention_workspace(serial, query_view(p), key_view(p), value_view(p))};
    for_each_attention([&]<class Of>(Of) {
      const attention_result<T> expected = attend<Arch, Of>(p);
      for (const bool shared : {false, true}) {
        const auto run = [&](std::span<std::byte> room) {
          attention_result<T> result(s);
          auto options = options_with_log_sum_exp<Of>(p, result);
          options.workspace = room;
          const xs::attention_view<T> out(result.out.data(), s.batch, s.heads, s.q_len, s.value_depth);
          if (shared) {
            Of::template run<Arch>(serial, query_view(p), key_view(p), value_view(p), out, options);
          } else {
            Of::template run<Arch>(query_view(p), key_view(p), value_view(p), out, options);
          }
          return result;
        };
        // Whatever it holds before, larger than needed, and at any alignment.
        std::vector<std::byte> room(bytes[shared] + 200);
        for (const int content : {0x00, 0xff, 0x7f}) {
          for (const std::size_t shift : {0u, 1u, 4u, 37u}) {
            std::fill(room.begin(), room.end(), static_cast<std::byte>(content));
            expect_same_bits<Of>(found, p, expected, run({room.data() + shift, bytes[shared]}), "workspace");
          }
        }
        expect_same_bits<Of>(found, p, expected, run({room.data(), bytes[shared] + 200}), "larger workspace");
        std::fill(room.begin(), room.end(), std::byte{0x55});
        if (Of::kind != attention_kind::softplus || !shared) { // which splits no keys, and may need less than others
          CHECK_THROWS_AS(run({room.data(), bytes[shared] - 1}), std::invalid_argument);
        }
        CHECK_THROWS_AS(run({room.data(), std::size_t{0}}), std::invalid_argument);
        found.expect(std::all_of(room.begin(), room.end(), [](std::byte x) { return x == std::byte{0x55}; }),
                     [] { return "wrote to a workspace that is too small"; });
      }
    });
  }
  XSOFTMAX_CHECK_FINDINGS(found);
  // Lengths that need no memory to ask about.
  const auto of_lengths = [](std::size_t q_len, std::size_t kv_len) {
    const T* const nowhere = nullptr;
    return xs::attention_workspace(xs::attention_view<const T>(nowhere, 1, 1, q_len, 64),
                                   xs::attention_view<const T>(nowhere, 1, 1, kv_len, 64),
                                   xs::attention_view<const T>(nowhere, 1, 1, kv_len, 64));
  };
  CHECK(of_lengths(1, 1000) <= of_lengths(1, 100000000));
  CHECK(of_lengths(1, 100000000) <= of_lengths(1, 1000) + 65536 * sizeof(T));
  CHECK(of_lengths(1, 65536) == of_lengths(1, 100000000));
  CHECK(of_lengths(1000, 1000) <= 2 * of_lengths(400, 1000));
  CHECK(of_lengths(100000000, 100000000) <= 2 * of_lengths(400, 1000));
  CHECK(of_lengths(0, 7) <= of_lengths(1, 7));
}

TEMPLATE_LIST_TEST_CASE("attention: nothing to do", "[attention][unit]", subjects) {
  using Arch = typename TestType::arch;
  using T = typename TestType::scalar;
  if (!runnable<Arch>()) {
    return;
  }
  findings found;
  const auto serial = [](std::size_t count, const executor_body& body) {
    run_in_order(count, body, [](std::size_t i) { return i; });
  };
  // No batch, no heads, no queries: nothing is written. No keys, no depth of values: 0, nothing. No depth: scores are
  // 0.
  for (const attention_shape& s : {attention_shape{0, 2, 1, 3, 4, 5, 6},
                                   {2, 0, 1, 3, 4, 5, 6},
                                   {2, 0, 0, 3, 4, 5, 6},
                                   {2, 2, 1, 0, 4, 5, 6},
                                   {2, 2, 1, 3, 0, 5, 6},
                                   {2, 2, 1, 3, 4, 0, 6},
                                   {2, 2, 1, 3, 4, 5, 0},
                                   {2, 2, 1, 3, 4, 0, 0},
                                   {2, 2, 1, 3, 0, 0, 6},
                                   {1, 1, 1, 70, 130, 0, 6},
                                   {0, 0, 0, 0, 0, 0, 0},
                                   {1, 1, 1, 0, 0, 0, 0}}) {
    attention_problem<T> p = make_attention<T>(s, 18);
    for (const bool causal : {false, true}) {
      p.causal = causal;
      for_each_variant(p, [&]<class Of>(Of, const attention_problem<T>& variant, const std::string& what) {
        expect_right<Of>(found, variant, attend<Arch, Of>(variant), what);
        expect_right<Of>(found, variant, attend<Arch, Of>(variant, serial), what + ", executor");
      });
    }
  }
  // A sink alone.
  attention_problem<T> p = make_attention<T>({1, 2, 1, 3, 0, 5, 6}, 19);
  p.sink = {T(1.5), -inf<T>};
  expect_right<of_softmax_attention>(found, p, attend<Arch, of_softmax_attention>(p), "sink");
  XSOFTMAX_CHECK_FINDINGS(found);
}

TEST_CASE("attention: views of nothing", "[attention][unit]") {
  const float* const nowhere = nullptr;
  float* const out = nullptr;
  for_each_attention([&]<class Of>(Of) {
    Of::template run<xs::default_arch>(
        xs::attention_view<const float>(nowhere, 0, 0, 0, 0), xs::attention_view<const float>(nowhere, 0, 0, 0, 0),
        xs::attention_view<const float>(nowhere, 0, 0, 0, 0), xs::attention_view<float>(out, 0, 0, 0, 0));
    std::vector<float> row(3, -7.0f);
    Of::template run<xs::default_arch>(
        xs::attention_view<const float>(nowhere, 1, 1, 1, 0), xs::attention_view<const float>(nowhere, 1, 1, 0, 0),
        xs::attention_view<const float>(nowhere, 1, 1, 0, 3), xs::attention_view<float>(row.data(), 1, 1, 1, 3));
    CHECK(row == std::vector<float>(3, 0.0f));
  });
}

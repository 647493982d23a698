// SPDX-License-Identifier: MIT
// A differential fuzzer (libFuzzer). The input bytes say what is computed, of which rows, lying how; then
//   - every row alone, side by side, on every architecture: within the bounds of the exact result, and the same bits
//     wherever there is fused multiply-add;
//   - on one of them, every other way to the same rows: algorithms, stores, element types, strides, alignment, in
//     place, padding, executors, states: the same bits.
// Nothing but the output may change. A failure prints the case and aborts.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#include <xsoftmax/xsoftmax.hpp>

#include "../support/backward_checks.hpp"
#include "../support/executors.hpp"
#include "../support/guarded_buffer.hpp"
#include "../support/layouts.hpp"
#include "../support/log_checks.hpp"
#include "../support/rows.hpp"
#include "../support/softmax_checks.hpp"

namespace xs = xsoftmax;
using namespace xsoftmax::test;

namespace {

/// The input, byte by byte; zeros once it has ended.
class reader {
public:
  reader(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

  std::size_t byte() {
    if (at_ == size_) {
      return 0;
    }
    return data_[at_++];
  }

  std::size_t below(std::size_t bound) { return byte() % bound; }

  std::uint64_t word(int bytes) {
    std::uint64_t value = 0;
    for (int i = 0; i < bytes; ++i) {
      value |= static_cast<std::uint64_t>(byte()) << (8 * i);
    }
    return value;
  }

  template <class T>
  T number() {
    return std::bit_cast<T>(static_cast<bits_of<T>>(word(sizeof(T))));
  }

private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

enum class operation { softmax, log_softmax, log_sum_exp, softmax_backward, log_softmax_backward };

constexpr const char* operation_names[] = {"softmax", "log_softmax", "log_sum_exp", "softmax_backward",
                                           "log_softmax_backward"};

/// Everything but element types and rows.
struct settings {
  operation what = operation::softmax;
  std::size_t rows = 1;
  std::size_t n = 0;
  xs::softmax_options options;
  std::size_t layout[3] = {};   ///< of the input, of the gradient that comes in, of the output
  std::size_t margin[3] = {};   ///< of the same: decides the alignment
  std::size_t architecture = 0; ///< that takes all ways
  bool shares_out = false;      ///< large enough to be cut for an executor
  bool uses_threads = false;
  std::uint64_t seed = 0; ///< of cuts, orders, padding

  [[nodiscard]] bool backward() const { return what >= operation::softmax_backward; }
  [[nodiscard]] std::size_t results() const { return what == operation::log_sum_exp ? 1 : n; }
};

std::size_t read_length(reader& in) {
  constexpr std::size_t edges[] = {8, 16, 24, 32, 48, 64, 96, 128, 161, 256, 512, 1024, 2048, 3072, 4096, 4224};
  const std::size_t kind = in.byte();
  if (kind < 112) {
    return kind;
  }
  if (kind < 224) {
    const std::size_t edge = edges[kind % std::size(edges)];
    return edge - 3 + in.below(7);
  }
  return static_cast<std::size_t>(in.word(2) % 5001);
}

std::size_t read_rows(reader& in) {
  constexpr std::size_t edges[] = {15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 130, 200};
  const std::size_t kind = in.byte();
  return kind < 96 ? 1 : kind < 160 ? 2 + kind % 8 : edges[kind % std::size(edges)];
}

double read_temperature(reader& in) {
  constexpr double common[] = {1,
                               0.7,
                               2,
                               0.5,
                               0,
                               10,
                               0.1,
                               1e-3,
                               1e-19,
                               1e22,
                               1e-30,
                               1e38,
                               1e-300,
                               1e300,
                               1e-310,
                               1.7e308,
                               0x1p64,
                               0x1p65,
                               1e-160,
                               0x1p-64,
                               0x1p-65,
                               0x1p-1074,
                               0x1.fffffffffffffp1023};
  const std::size_t kind = in.byte();
  if (kind < 96) {
    return 1;
  }
  if (kind < 208) {
    return common[kind % std::size(common)];
  }
  const double raw = std::fabs(in.number<double>());
  return std::isfinite(raw) ? raw : 1;
}

std::optional<double> read_sink(reader& in) {
  constexpr double common[] = {0, 0.25, -1e308, 1e308, 90, -90, 3e38, -3e38, 1.5, -0.0, 700, -700};
  const std::size_t kind = in.byte();
  if (kind < 160) {
    return std::nullopt;
  }
  if (kind < 232) {
    return common[kind % std::size(common)];
  }
  const double raw = in.number<double>();
  return std::isfinite(raw) ? std::optional<double>(raw) : std::nullopt;
}

settings read_settings(reader& in) {
  settings s;
  s.what = static_cast<operation>(in.below(5));
  s.n = read_length(in);
  s.rows = read_rows(in);
  s.options.temperature = read_temperature(in);
  s.options.sink = read_sink(in);
  const std::size_t choices = in.byte();
  s.options.algorithm = algorithms[choices % std::size(algorithms)];
  s.options.store = stores[choices / 5 % std::size(stores)];
  s.options.masked_row = choices / 15 % 2 == 0 ? xs::masked_row_policy::nan : xs::masked_row_policy::zero;
  for (int i = 0; i < 3; ++i) {
    const std::size_t place = in.byte();
    s.layout[i] = place;
    s.margin[i] = 64 + place / 8 % 16;
  }
  const std::size_t flags = in.byte();
  s.architecture = flags % 4;
  s.shares_out = flags / 4 % 16 == 15;
  s.uses_threads = flags / 64 == 3;
  s.seed = in.byte();
  if (s.shares_out && s.n % 4 == 3) { // rows so long that they are cut
    s.n += xs::detail::long_row;
    s.rows = 1 + s.seed % 2;
  } else if (s.shares_out && s.n != 0) {
    s.rows = std::min<std::size_t>(600, 40000 / s.n + 1);
  } else {
    s.rows = std::min<std::size_t>(s.rows, 12000 / (s.n + 1) + 1);
  }
  return s;
}

/// The elements of a row.
template <class T>
std::vector<T> read_row(reader& in, std::size_t n) {
  using limits = std::numeric_limits<T>;
  const std::size_t kind = in.byte();
  std::vector<T> z;
  if (kind < 204) {
    z = make_row<T>(row_kinds[kind % std::size(row_kinds)], n, in.byte());
  } else if (kind < 230) { // raw numbers
    std::vector<T> period(1 + in.below(16));
    std::generate(period.begin(), period.end(), [&] { return in.number<T>(); });
    z.resize(n);
    for (std::size_t i = 0; i < n; ++i) {
      z[i] = period[i % period.size()];
    }
  } else { // small multiples of a power of two
    const int exponent = static_cast<int>(in.below(64)) - 40;
    generator random(in.byte());
    z.resize(n);
    for (T& x : z) {
      x = static_cast<T>(std::ldexp(static_cast<double>(random.below(256)) - 128, exponent));
    }
  }
  for (std::size_t edits = in.below(8); edits != 0 && n != 0; --edits) {
    T& x = z[static_cast<std::size_t>(in.word(2)) * n >> 16];
    switch (in.below(12)) {
    case 0:
      x = -limits::infinity();
      break;
    case 1:
      x = limits::infinity();
      break;
    case 2:
      x = limits::quiet_NaN();
      break;
    case 3:
      x = limits::max();
      break;
    case 4:
      x = limits::lowest();
      break;
    case 5:
      x = -T(0);
      break;
    case 6:
      x = limits::denorm_min();
      break;
    case 7:
      x = std::nextafter(x, limits::max());
      break;
    case 8:
      x = x + static_cast<T>(in.byte());
      break;
    case 9:
      x = *std::max_element(z.begin(), z.end());
      break;
    default:
      x = in.number<T>();
    }
  }
  return z;
}

template <class Out, class T>
Out converted(T x) {
  if constexpr (std::is_same_v<Out, T>) {
    return x;
  } else {
    return Out(static_cast<float>(x));
  }
}

template <class X>
std::string type_name() {
  return std::is_same_v<X, xs::float16>    ? "xs::float16"
         : std::is_same_v<X, xs::bfloat16> ? "xs::bfloat16"
         : std::is_same_v<X, float>        ? "float"
                                           : "double";
}

/// Calls of the public functions on one architecture.
template <class Arch, class In, class Out, class... Executor>
void call(const settings& s, const xs::matrix_view<In>& x, const xs::matrix_view<In>& y,
          const xs::matrix_view<Out>& out, const Executor&... executor) {
  const xs::softmax_options& o = s.options;
  switch (s.what) {
  case operation::softmax:
    xs::softmax<Arch>(executor..., x, out, o);
    break;
  case operation::log_softmax:
    xs::log_softmax<Arch>(executor..., x, out, xs::log_softmax_options{o.temperature, o.masked_row, o.sink});
    break;
  case operation::log_sum_exp:
    xs::log_sum_exp<Arch>(executor..., x, xs::vector_view<Out>(out.data(), out.rows(), out.row_stride()),
                          xs::log_sum_exp_options{o.temperature, o.sink});
    break;
  case operation::softmax_backward:
    xs::softmax_backward<Arch>(executor..., x, y, out, xs::softmax_backward_options{o.temperature});
    break;
  case operation::log_softmax_backward:
    xs::log_softmax_backward<Arch>(executor..., x, y, out, xs::softmax_backward_options{o.temperature});
    break;
  }
}

/// One row from a vector into a vector.
template <class Arch, class T>
std::vector<T> row_alone(const settings& s, const std::vector<T>& z, const std::vector<T>& dy) {
  const xs::softmax_options& o = s.options;
  switch (s.what) {
  case operation::softmax:
    return probabilities<Arch>(z, o);
  case operation::log_softmax:
    return log_probabilities<Arch>(z, {o.temperature, o.masked_row, o.sink});
  case operation::log_sum_exp:
    return {xs::log_sum_exp<Arch>(z, {o.temperature, o.sink})};
  case operation::softmax_backward:
    return gradient<Arch, of_softmax>(z, dy, o.temperature);
  default:
    return gradient<Arch, of_log_softmax>(z, dy, o.temperature);
  }
}

/// What states give for a row: with cuts at blocks, and at any places.
template <class T>
struct state_results {
  T in_blocks;
  T in_pieces;
  std::vector<T> shares;           ///< softmax by the state cut at blocks
  std::vector<T> shares_of_pieces; ///< and by the other
  std::size_t first;               ///< element from which `shares` goes
};

template <class Arch, class T>
state_results<T> through_states(const settings& s, const std::vector<T>& z) {
  generator random(s.seed);
  const xs::log_sum_exp_state<T> blocks = merged_state<Arch>(z, s.options.temperature, random);
  xs::log_sum_exp_state<T> pieces(s.options.temperature);
  for (std::size_t first = 0; first < z.size();) {
    const std::size_t size = std::min(z.size() - first, 1 + random.below(z.size() / 4 + 20));
    const xs::vector_view<const T> piece(z.data() + first, size);
    if (random.below(2) == 0) {
      pieces.template push<Arch>(piece);
    } else {
      xs::log_sum_exp_state<T> part(s.options.temperature);
      part.template push<Arch>(piece);
      part.template merge<Arch>(pieces);
      pieces = part;
    }
    first += size;
  }
  const std::size_t first = z.empty() ? 0 : random.below(z.size());
  state_results<T> r{blocks.template value<Arch>(s.options.sink), pieces.template value<Arch>(s.options.sink),
                     std::vector<T>(z.size() - first), std::vector<T>(z.size()), first};
  xs::softmax<Arch>(blocks, xs::vector_view<const T>(z.data() + first, z.size() - first), r.shares, s.options);
  xs::softmax<Arch>(pieces, z, r.shares_of_pieces, s.options);
  return r;
}

using any_executor = std::function<void(std::size_t, const executor_body&)>;

/// An architecture behind function pointers, so that what follows is compiled once for a pair of element types.
template <class T, class In, class Out>
struct target {
  const char* name;
  bool fused;
  std::vector<T> (*row)(const settings&, const std::vector<T>&, const std::vector<T>&);
  state_results<T> (*states)(const settings&, const std::vector<T>&);
  void (*call)(const settings&, const xs::matrix_view<In>&, const xs::matrix_view<In>&, const xs::matrix_view<Out>&);
  void (*share)(const settings&, const xs::matrix_view<In>&, const xs::matrix_view<In>&, const xs::matrix_view<Out>&,
                const any_executor&);
};

template <class T, class In, class Out>
std::vector<target<T, In, Out>> targets() {
  std::vector<target<T, In, Out>> list;
  for_each_architecture([&]<class Arch>(Arch) {
    target<T, In, Out> t{Arch::name,          has_fused_multiply_add<Arch>,
                         row_alone<Arch, T>,  through_states<Arch, T>,
                         call<Arch, In, Out>, nullptr};
    if constexpr (std::is_same_v<In, Out>) {
      t.share = call<Arch, In, Out, any_executor>;
    }
    list.push_back(t);
  });
  return list;
}

template <class T, class In, class Out>
class fuzz_case {
public:
  fuzz_case(const settings& s, reader& in) : s_(s), targets_(targets<T, In, Out>()) {
    const std::size_t distinct = std::min<std::size_t>(1 + in.below(4), s.rows);
    for (std::size_t r = 0; r < distinct; ++r) {
      z_.push_back(stored(read_row<T>(in, s_.n)));
      dy_.emplace_back(s_.n);
      if (s_.backward()) {
        read_gradient(in);
      }
    }
  }

  void check() {
    if (s_.what == operation::log_sum_exp && s_.options.temperature == 0) {
      check_refused();
      return;
    }
    check_rows_alone();
    target_ = &targets_[s_.architecture % targets_.size()];
    expected_ = results_[s_.architecture % targets_.size()];
    check_one_row();
    if (std::is_same_v<T, In> && s_.options.temperature != 0 &&
        (s_.what == operation::softmax || s_.what == operation::log_sum_exp)) {
      check_states();
    }
    check_matrix();
  }

private:
  /// As it comes out of memory.
  static std::vector<T> stored(std::vector<T> z) {
    for (T& x : z) {
      x = static_cast<T>(converted<In>(x));
    }
    return z;
  }

  void read_gradient(reader& in) {
    const std::size_t kind = in.byte();
    if (kind % 4 != 0) { // otherwise any numbers for the results of the forward pass
      settings forward = s_;
      forward.what = s_.what == operation::softmax_backward ? operation::softmax : operation::log_softmax;
      z_.back() = stored(targets_.back().row(forward, z_.back(), {}));
    }
    dy_.back() = stored(kind < 128 ? make_gradient<T>(gradient_kinds[kind / 4 % std::size(gradient_kinds)], s_.n, kind)
                                   : read_row<T>(in, s_.n));
  }

  [[nodiscard]] std::size_t distinct(std::size_t r) const { return r % z_.size(); }

  static void print_row(const char* name, const std::vector<T>& row) {
    std::fprintf(stderr, "  const %s %s[] = {", type_name<T>().c_str(), name);
    const char* suffix = sizeof(T) == 4 ? "f" : "";
    for (std::size_t i = 0; i < row.size(); ++i) {
      const char* text = std::isnan(row[i]) ? "NAN" : row[i] > 0 ? "INFINITY" : "-INFINITY";
      if (std::isfinite(row[i])) {
        std::fprintf(stderr, "%s%a%s", i == 0 ? "" : ", ", static_cast<double>(row[i]), suffix);
      } else {
        std::fprintf(stderr, "%s%s", i == 0 ? "" : ", ", text);
      }
    }
    std::fprintf(stderr, "}; // %zu\n", row.size());
  }

  [[noreturn]] void fail(const std::string& what, std::size_t row) const {
    const xs::softmax_options& o = s_.options;
    std::fprintf(stderr, "\nsoftmax_fuzz: %s: %s\n  from %s to %s, %zu rows of %zu, this is row %zu\n",
                 operation_names[static_cast<int>(s_.what)], what.c_str(), type_name<In>().c_str(),
                 type_name<Out>().c_str(), s_.rows, s_.n, row);
    std::fprintf(stderr, "  {.temperature = %a, .algorithm = %s, .masked_row = %s, .sink = %s, .store = %s}\n",
                 o.temperature, name(o.algorithm), o.masked_row == xs::masked_row_policy::nan ? "nan" : "zero",
                 o.sink ? exact_text(*o.sink).c_str() : "none", name(o.store));
    const std::size_t r = distinct(row);
    print_row("z", z_[r]);
    if (s_.backward()) {
      print_row("dy", dy_[r]);
    }
    std::abort();
  }

  void require(bool holds, const char* what, std::size_t row) const {
    if (!holds) [[unlikely]] {
      fail((target_ != nullptr ? std::string(target_->name) + ": " : std::string()) + what, row);
    }
  }

  /// The bits that the row alone gave, after rounding to Out.
  bool same(Out computed, T expected) const {
    const Out rounded = converted<Out>(expected);
    return first_difference(&computed, &rounded, 1) == 1;
  }

  /// what(): which way was taken, called only if it failed.
  template <class What>
  void require_same(Out computed, std::size_t row, std::size_t i, const What& what) const {
    const T expected = expected_[distinct(row)][i];
    if (!same(computed, expected)) {
      fail(std::string(target_->name) + ", " + what() + ": element " + std::to_string(i) + " is " +
               exact_text(static_cast<T>(computed)) + ", not " + exact_text(static_cast<T>(converted<Out>(expected))),
           row);
    }
  }

  /// log_sum_exp has no temperature 0.
  void check_refused() {
    laid_out<In> x = matrix<In>(z_, 0, s_.n);
    laid_out<Out> out(s_.rows, 1, {"", 1, 1}, 8);
    bool refused = false;
    try {
      targets_.back().call(s_, x.view(), x.view(), out.view());
    } catch (const std::invalid_argument&) {
      refused = true;
    }
    require(refused, "temperature 0 was accepted", 0);
    require(all_sentinels(out), "written in spite of the error", 0);
  }

  static bool all_sentinels(laid_out<Out>& out) {
    for (std::size_t r = 0; r < out.view().rows(); ++r) {
      if (bits(out.at(r, 0)) != bits(laid_out<Out>::sentinel)) {
        return false;
      }
    }
    return out.untouched_between();
  }

  /// Every row by itself on every architecture: right, and where there is fused multiply-add the same bits.
  void check_rows_alone() {
    const std::size_t most_for_reference = 400;
    for (const target<T, In, Out>& t : targets_) {
      results_.emplace_back();
      for (std::size_t r = 0; r < z_.size(); ++r) {
        results_.back().push_back(t.row(s_, z_[r], dy_[r]));
        if (s_.n <= most_for_reference) {
          findings found;
          expect_in_bounds(found, t.name, z_[r], dy_[r], results_.back().back());
          if (found.failures() != 0) {
            fail(found.text(), r);
          }
        }
      }
    }
    for (std::size_t a = 1; a < targets_.size(); ++a) {
      for (std::size_t r = 0; targets_[a - 1].fused && r < z_.size(); ++r) {
        const std::vector<T>& left = results_[a - 1][r];
        const std::vector<T>& right = results_[a][r];
        const std::size_t i = first_difference(left.data(), right.data(), left.size());
        if (i != left.size()) {
          fail(std::string(targets_[a].name) + " differs from " + targets_[a - 1].name + ": element " +
                   std::to_string(i) + " is " + exact_text(right[i]) + ", not " + exact_text(left[i]),
               r);
        }
      }
    }
  }

  void expect_in_bounds(findings& found, const char* name, const std::vector<T>& z, const std::vector<T>& dy,
                        const std::vector<T>& result) const {
    const xs::softmax_options& o = s_.options;
    switch (s_.what) {
    case operation::softmax:
      expect_right(found, z, result.data(), o, name);
      break;
    case operation::log_softmax:
      expect_right_log(found, z, result.data(), {o.temperature, o.masked_row, o.sink}, name, 4);
      break;
    case operation::log_sum_exp:
      expect_log_sum_exp(found, name, z, result[0]);
      break;
    case operation::softmax_backward:
      if (is_tame(z, dy, 1)) {
        expect_right_gradient<of_softmax>(found, z, dy, o.temperature, result, name);
      }
      break;
    case operation::log_softmax_backward:
      if (is_tame(z, dy, 700)) {
        expect_right_gradient<of_log_softmax>(found, z, dy, o.temperature, result, name);
      }
      break;
    }
  }

  /// Are the results of the forward pass no larger than this, the gradients finite, and sums in the range of double?
  bool is_tame(const std::vector<T>& y, const std::vector<T>& dy, double most) const {
    const double largest = std::is_same_v<T, float> ? 1e39 : 1e300;
    for (std::size_t i = 0; i < y.size(); ++i) {
      const bool masked = s_.what == operation::log_softmax_backward && y[i] == -std::numeric_limits<T>::infinity();
      if (!(std::fabs(y[i]) <= static_cast<T>(most) || masked) || !(std::fabs(dy[i]) < largest)) {
        return false;
      }
    }
    return true;
  }

  void expect_log_sum_exp(findings& found, const char* name, const std::vector<T>& z, T value) const {
    const T infinity = std::numeric_limits<T>::infinity();
    const auto holds = [&](auto&& test) { return std::any_of(z.begin(), z.end(), test); };
    const double temperature = s_.options.temperature;
    T special = -infinity;
    if (holds([](T x) { return std::isnan(x); })) {
      special = std::numeric_limits<T>::quiet_NaN();
    } else if (holds([&](T x) { return x == infinity; })) {
      special = infinity;
    } else if (holds([](T x) { return std::isfinite(x); })) {
      expect_right_log_sum_exp(found, z, value, {temperature, s_.options.sink}, name, 2);
      return;
    } else if (s_.options.sink) {
      const wide::pair exact = wide::quotient({*s_.options.sink, 0}, temperature);
      found.expect(ulp_distance(value, exact.high) <= 0.5001, [&] { return std::string("of a sink alone"); });
      return;
    }
    found.expect(first_difference(&value, &special, 1) == 1,
                 [&] { return std::string(name) + ": " + exact_text(value) + ", not " + exact_text(special); });
  }

  /// The first row between guard pages: every algorithm and store, in place, padded.
  void check_one_row() {
    const flush_with side = s_.seed % 2 == 0 ? flush_with::back : flush_with::front;
    const std::size_t offset = s_.seed / 2 % 17;
    guarded_buffer<In> x(s_.n, side, offset);
    guarded_buffer<In> y(s_.n, side, s_.margin[1] % 16);
    guarded_buffer<Out> out(s_.results(), side, s_.margin[2] % 16);
    const auto fill = [&] {
      for (std::size_t i = 0; i < s_.n; ++i) {
        x.data()[i] = converted<In>(z_[0][i]);
        y.data()[i] = converted<In>(dy_[0][i]);
      }
    };
    const auto one = [](auto& buffer) { return xs::matrix_view(buffer.data(), std::size_t{1}, buffer.size()); };
    const auto expect = [&](const auto& result, const settings& s, const char* what) {
      for (std::size_t i = 0; i < s_.results(); ++i) {
        require_same(result.data()[i], 0, i, [&] {
          return std::string(what) + ", " + name(s.options.algorithm) + ", " + name(s.options.store);
        });
      }
    };
    settings s = s_;
    const std::size_t ways = s_.what == operation::softmax ? std::size(algorithms) * std::size(stores) : 1;
    for (std::size_t way = 0; way < ways; ++way) {
      if (ways != 1) {
        s.options.algorithm = algorithms[way / std::size(stores)];
        s.options.store = stores[way % std::size(stores)];
      }
      fill();
      target_->call(s, one(x), one(y), one(out));
      expect(out, s, "one row");
      if constexpr (std::is_same_v<In, Out>) {
        if (s_.what != operation::log_sum_exp) {
          target_->call(s, one(x), one(y), one(x));
          expect(x, s, "one row in place");
        }
      }
    }
    if constexpr (std::is_same_v<In, Out>) {
      if (s_.backward()) {
        fill();
        target_->call(s, one(x), one(y), one(y));
        expect(y, s, "the gradient overwritten");
      }
    }
    check_padded();
  }

  void check_padded() {
    if (s_.n == 0) {
      return;
    }
    const std::size_t padding = 1 + s_.seed * 37 % (s_.n > 500 ? 3000 : 150);
    const bool of_probabilities = s_.what == operation::softmax_backward;
    const T mask = of_probabilities ? T(0) : -std::numeric_limits<T>::infinity();
    std::vector<T> z = z_[0];
    std::vector<T> dy = dy_[0];
    z.resize(s_.n + padding, mask);
    dy.resize(s_.n + padding, std::numeric_limits<T>::quiet_NaN());
    const std::vector<T> padded = target_->row(s_, z, dy);
    const std::vector<T>& alone = expected_[0];
    if (s_.what == operation::log_sum_exp) {
      require(first_difference(padded.data(), alone.data(), 1) == 1, "-inf to the right changes the result", 0);
      return;
    }
    require(first_difference(padded.data(), alone.data(), s_.n) == s_.n, "padding to the right changes the results", 0);
    // A row filled with NaN is filled with NaN to its end.
    const bool filled = !s_.backward() && std::all_of(alone.begin(), alone.end(), [](T x) { return std::isnan(x); });
    const T rest = filled ? std::numeric_limits<T>::quiet_NaN() : s_.what == operation::log_softmax ? mask : T(0);
    for (std::size_t i = s_.n; i < padded.size(); ++i) {
      require(first_difference(&padded[i], &rest, 1) == 1, "padding does not get the result of -inf", 0);
    }
  }

  /// States against the row as a whole.
  void check_states() {
    settings other = s_;
    other.what = s_.what == operation::softmax ? operation::log_sum_exp : operation::softmax;
    std::vector<T> whole = target_->row(other, z_[0], dy_[0]);
    const std::vector<T>& shares = s_.what == operation::softmax ? expected_[0] : whole;
    const std::vector<T>& value = s_.what == operation::softmax ? whole : expected_[0];
    const state_results<T> states = target_->states(s_, z_[0]);
    require(first_difference(&states.in_blocks, value.data(), 1) == 1, "a state does not give log_sum_exp", 0);
    require(first_difference(states.shares.data(), shares.data() + states.first, states.shares.size()) ==
                states.shares.size(),
            "softmax by a state does not give that of the row", 0);
    if (s_.n <= 400) {
      findings found;
      expect_log_sum_exp(found, "state of any pieces", z_[0], states.in_pieces);
      expect_right(found, z_[0], states.shares_of_pieces.data(), s_.options, "softmax by a state of any pieces");
      if (found.failures() != 0) {
        fail(std::string(target_->name) + ": " + found.text(), 0);
      }
    }
  }

  /// All rows, in one of the layouts.
  template <class X>
  laid_out<X> matrix(const std::vector<std::vector<T>>& rows, std::size_t which, std::size_t cols) const {
    const std::vector<layout> layouts = layouts_of(s_.rows, cols);
    laid_out<X> m(s_.rows, cols, layouts[s_.layout[which] % layouts.size()], s_.margin[which]);
    for (std::size_t r = 0; r < s_.rows && !rows.empty(); ++r) {
      for (std::size_t c = 0; c < cols; ++c) {
        m.at(r, c) = converted<X>(rows[distinct(r)][c]);
      }
    }
    return m;
  }

  void require_matrix(laid_out<Out>& out, const char* what) const {
    const std::size_t cols = s_.results();
    for (std::size_t r = 0; r < s_.rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) {
        require_same(out.at(r, c), r, c, [&] { return std::string(what); });
      }
    }
    require(out.untouched_between(), "written outside the output", 0);
  }

  void require_unchanged(laid_out<In>& x, const std::vector<std::vector<T>>& rows) const {
    for (std::size_t r = 0; r < s_.rows; ++r) {
      for (std::size_t c = 0; c < s_.n; ++c) {
        const In expected = converted<In>(rows[distinct(r)][c]);
        const In found = x.at(r, c);
        require(first_difference(&found, &expected, 1) == 1, "an input was changed", r);
      }
    }
    require(x.untouched_between(), "written beside an input", 0);
  }

  void check_matrix() {
    laid_out<In> x = matrix<In>(z_, 0, s_.n);
    laid_out<In> y = matrix<In>(dy_, 1, s_.n);
    laid_out<Out> out = matrix<Out>({}, 2, s_.results());
    target_->call(s_, x.view(), y.view(), out.view());
    require_matrix(out, "matrix");
    if constexpr (std::is_same_v<In, Out>) {
      if (s_.shares_out) {
        laid_out<Out> shared = matrix<Out>({}, 2, s_.results());
        target_->share(s_, x.view(), y.view(), shared.view(), executor());
        require_matrix(shared, "matrix through an executor");
        if (s_.what != operation::log_sum_exp) {
          laid_out<In> over = matrix<In>(z_, 0, s_.n);
          target_->share(s_, over.view(), y.view(), over.view(), executor());
          require_matrix(over, "matrix in place through an executor");
        }
      }
      if (s_.what != operation::log_sum_exp) {
        laid_out<In> in_place = matrix<In>(z_, 0, s_.n);
        target_->call(s_, in_place.view(), y.view(), in_place.view());
        require_matrix(in_place, "matrix in place");
      }
    }
    require_unchanged(x, z_);
    if (s_.backward()) {
      require_unchanged(y, dy_);
    }
  }

  [[nodiscard]] any_executor executor() const {
    if (s_.uses_threads) {
      return [](std::size_t count, const executor_body& run) { run_on_threads(2, count, run); };
    }
    return [seed = s_.seed](std::size_t count, const executor_body& run) {
      generator random(seed);
      std::vector<std::size_t> order(count);
      std::iota(order.begin(), order.end(), std::size_t{0});
      for (std::size_t i = count; i > 1; --i) {
        std::swap(order[i - 1], order[random.below(i)]);
      }
      run_in_order(count, run, [&](std::size_t i) { return order[i]; });
    };
  }

  settings s_;
  std::vector<target<T, In, Out>> targets_;
  const target<T, In, Out>* target_ = nullptr;
  std::vector<std::vector<T>> z_;                    ///< distinct rows; row r of the matrix is one of them
  std::vector<std::vector<T>> dy_;                   ///< the gradients beside them
  std::vector<std::vector<std::vector<T>>> results_; ///< of each architecture, of each distinct row
  std::vector<std::vector<T>> expected_;             ///< those of the target
};

template <class T, class In, class Out>
void run(const settings& s, reader& in) {
  fuzz_case<T, In, Out>(s, in).check();
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  reader in(data, size);
  const std::size_t types = in.byte();
  const settings s = read_settings(in);
  switch (types % 8) {
  case 0:
  case 1:
    run<float, float, float>(s, in);
    break;
  case 2:
  case 3:
    run<double, double, double>(s, in);
    break;
  case 4:
    run<float, xs::float16, xs::float16>(s, in);
    break;
  case 5:
    run<float, xs::bfloat16, xs::bfloat16>(s, in);
    break;
  case 6:
    types < 128 ? run<float, xs::float16, float>(s, in) : run<float, xs::bfloat16, float>(s, in);
    break;
  default:
    types < 128 ? run<float, float, xs::bfloat16>(s, in) : run<float, xs::bfloat16, xs::float16>(s, in);
    break;
  }
  return 0;
}

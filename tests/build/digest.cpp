// SPDX-License-Identifier: MIT
// Prints one hash for each element type over the bits of many results: lengths around all blocks, algorithms, stores,
// temperatures, magnitudes, special values, matrices. Two builds that differ in any bit differ in the hash.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <limits>
#include <vector>
#include <xsoftmax/xsoftmax.hpp>

namespace xs = xsoftmax;

namespace {

class hash {
public:
  template <class T>
  void add(const std::vector<T>& values) {
    for (const T& value : values) {
      const T v = value == value ? value : std::numeric_limits<T>::quiet_NaN(); // the payload of a NaN is not promised
      unsigned char bytes[sizeof(T)];
      std::memcpy(bytes, &v, sizeof(T));
      for (const unsigned char byte : bytes) {
        state_ = (state_ ^ byte) * 0x100000001b3U; // FNV-1a
      }
    }
    count_ += values.size();
  }

  void print(const char* name) const {
    std::printf("%s %016llx over %llu values\n", name, static_cast<unsigned long long>(state_),
                static_cast<unsigned long long>(count_));
  }

private:
  std::uint64_t state_ = 0xcbf29ce484222325U;
  std::uint64_t count_ = 0;
};

class numbers {
public:
  /// uniform in [-1, 1), a multiple of 2^-31
  double next() {
    state_ = state_ * 6364136223846793005U + 1442695040888963407U;
    return static_cast<double>(static_cast<std::int64_t>(state_) >> 32) * 0x1p-31;
  }

private:
  std::uint64_t state_ = 1;
};

/// Attention of each kind and its gradients, with whole and partial blocks of keys, and more keys than a segment.
template <class T>
void add_attention(hash& h, numbers& random) {
  const auto filled = [&](std::size_t n) {
    std::vector<T> x(n);
    for (T& v : x) {
      v = static_cast<T>(random.next() * 2);
    }
    return x;
  };
  for (const std::size_t kv_len : {5u, 130u, 1100u}) {
    for (const std::size_t depth : {7u, 40u, 144u}) {
      const std::size_t q_len = kv_len == 1100 ? 3 : 9;
      const std::vector<T> q = filled(4 * q_len * depth);
      const std::vector<T> k = filled(2 * kv_len * depth);
      const std::vector<T> v = filled(2 * kv_len * depth);
      const std::vector<T> dout = filled(q.size());
      std::vector<T> out(q.size()), sums(4 * q_len), dq(q.size()), dk(k.size()), dv(v.size());
      const auto queries = [&](auto& x) { return xs::attention_view(x.data(), 1, 4, q_len, depth); };
      const auto keys = [&](auto& x) { return xs::attention_view(x.data(), 1, 2, kv_len, depth); };
      const std::vector<T> scales = filled(4 * q_len);
      const std::vector<double> slopes{0.5, 0.25, 0.125, 0.0625};
      const auto add = [&](const auto& attend, const auto& gradients) {
        attend(queries(q), keys(k), keys(v), queries(out));
        gradients(queries(q), keys(k), keys(v), queries(dout), queries(dq), keys(dk), keys(dv));
        for (const auto* x : {&out, &dq, &dk, &dv}) {
          h.add(*x);
        }
      };
      xs::softmax_attention_options softmax{.causal = kv_len > 5, .alibi_slopes = slopes, .softcap = 20.0};
      if (depth == 40) {
        softmax.weight_scale = xs::query_input(xs::matrix_view(scales.data(), 4, q_len));
        softmax.weight_sum = slopes;
      }
      add(
          [&](const auto&... x) {
            xs::softmax_attention_options with_sums = softmax;
            with_sums.log_sum_exp = xs::query_output(xs::matrix_view(sums.data(), 4, q_len));
            xs::softmax_attention(x..., with_sums);
            h.add(sums);
          },
          [&](const auto&... x) { xs::softmax_attention_backward(x..., softmax); });
      const xs::sigmoid_attention_options sigmoid{.window_left = 77};
      add([&](const auto&... x) { xs::sigmoid_attention(x..., sigmoid); },
          [&](const auto&... x) { xs::sigmoid_attention_backward(x..., sigmoid); });
      for (const double power : {0.0, 3.0}) {
        xs::softplus_attention_options softplus{.causal = kv_len > 5};
        if (power != 0) {
          softplus.reweight_power = power;
        }
        add([&](const auto&... x) { xs::softplus_attention(x..., softplus); },
            [&](const auto&... x) { xs::softplus_attention_backward(x..., softplus); });
      }
    }
  }
}

template <class T>
void run(const char* name) {
  constexpr T inf = std::numeric_limits<T>::infinity();
  constexpr T nan = std::numeric_limits<T>::quiet_NaN();
  constexpr T largest = std::numeric_limits<T>::max();
  constexpr xs::softmax_algorithm algorithms[] = {
      xs::softmax_algorithm::automatic, xs::softmax_algorithm::three_pass_recompute,
      xs::softmax_algorithm::three_pass_reload, xs::softmax_algorithm::two_pass, xs::softmax_algorithm::online};
  hash h;
  numbers random;
  std::vector<std::size_t> lengths;
  for (std::size_t n = 0; n <= 140; ++n) {
    lengths.push_back(n);
  }
  for (const std::size_t n : {255, 256, 257, 511, 1000, 1023, 1025, 2047, 2048, 2049, 4097, 6000, 20011}) {
    lengths.push_back(n);
  }
  for (const std::size_t n : lengths) {
    for (const double scale : {1.0, 30.0, 200.0, 5e4, 1e30}) {
      std::vector<T> z(n);
      for (T& x : z) {
        x = static_cast<T>(random.next() * scale);
      }
      for (const double temperature : {1.0, 0.7, 37.5, 1e-3, 0.0}) {
        for (const xs::softmax_algorithm algorithm : algorithms) {
          h.add(xs::softmax(z, {.temperature = temperature, .algorithm = algorithm}));
        }
      }
      h.add(xs::softmax(z, {.sink = 0.5, .store = xs::store_kind::streaming}));
    }
  }
  // Gradients of such results, and of logarithms that come from nowhere.
  for (const std::size_t n : lengths) {
    for (const double scale : {1.0, 30.0, 1e30}) {
      std::vector<T> z(n);
      std::vector<T> lp(n);
      std::vector<T> dy(n);
      for (std::size_t i = 0; i < n; ++i) {
        z[i] = i % 7 == 5 ? -inf : static_cast<T>(random.next() * 10);
        lp[i] = i % 5 == 3 ? -inf : static_cast<T>(random.next() * 15 - 14);
        dy[i] = static_cast<T>(random.next() * scale);
      }
      std::vector<T> dz(n);
      for (const double temperature : {1.0, 0.7, 37.5, 1e-3, 0.0}) {
        xs::softmax_backward(xs::softmax(z), dy, dz, {.temperature = temperature});
        h.add(dz);
        xs::log_softmax_backward(lp, dy, dz, {.temperature = temperature});
        h.add(dz);
      }
    }
  }
  // Special values in every lane of a short row and in a long one.
  for (const std::size_t n : {5, 33, 2100}) {
    for (const T special :
         {inf, -inf, nan, largest, -largest, T(-2e4), std::numeric_limits<T>::denorm_min(), T(-0.0)}) {
      for (std::size_t at = 0; at < n; at += n / 5 + 1) {
        std::vector<T> z(n);
        for (T& x : z) {
          x = static_cast<T>(random.next() * 10);
        }
        z[at] = special;
        for (const xs::softmax_algorithm algorithm : algorithms) {
          h.add(xs::softmax(z, {.algorithm = algorithm}));
          h.add(xs::softmax(std::vector<T>(n, special), {.algorithm = algorithm}));
        }
      }
    }
  }
  // Rows and columns of a matrix.
  const std::size_t rows = 37;
  const std::size_t cols = 53;
  std::vector<T> z(rows * cols);
  for (T& x : z) {
    x = static_cast<T>(random.next() * 8);
  }
  std::vector<T> p(z.size());
  const xs::matrix_view<const T> in(z.data(), rows, cols);
  const xs::matrix_view<T> out(p.data(), rows, cols);
  for (const xs::softmax_algorithm algorithm : algorithms) {
    xs::softmax(in, out, {.algorithm = algorithm});
    h.add(p);
    xs::softmax(in.transposed(), out.transposed(), {.temperature = 1.25, .algorithm = algorithm});
    h.add(p);
  }
  // Logarithms.
  for (const std::size_t n : {1, 7, 64, 100, 2049, 6000}) {
    std::vector<T> row(n);
    std::vector<T> lp(n);
    for (T& x : row) {
      x = static_cast<T>(random.next() * 20);
    }
    for (const double temperature : {1.0, 0.7, 37.5, 1e-3}) {
      xs::log_softmax(row, lp, {.temperature = temperature});
      h.add(lp);
      xs::log_softmax(row, lp, {.temperature = temperature, .sink = 25.5});
      h.add(lp);
      h.add(std::vector<T>{xs::log_sum_exp(row, {.temperature = temperature}),
                           xs::log_sum_exp(row, {.temperature = temperature, .sink = 25.5})});
    }
  }
  xs::log_softmax(in.transposed(), out.transposed(), {.temperature = 1.25});
  h.add(p);
  // StableMax and losses.
  for (const std::size_t n : {1, 7, 64, 100, 2049, 6000}) {
    for (const double scale : {3.0, 300.0, 1e30}) {
      std::vector<T> row(n);
      std::vector<T> dz(n);
      for (T& x : row) {
        x = static_cast<T>(random.next() * scale);
      }
      const std::vector<T> sp = xs::stablemax(row);
      h.add(sp);
      const std::vector<T> slp = xs::log_stablemax(row);
      h.add(slp);
      xs::stablemax_backward(row, sp, row, dz);
      h.add(dz);
      xs::log_stablemax_backward(row, slp, row, dz);
      h.add(dz);
      for (const xs::loss_link link : {xs::loss_link::softmax, xs::loss_link::stablemax}) {
        h.add(std::vector<T>{xs::cross_entropy(row, n / 2, dz, {.link = link})});
        h.add(dz);
        h.add(std::vector<T>{xs::cross_entropy(row, n / 2, dz, {.link = link, .label_smoothing = 0.1})});
        h.add(dz);
      }
      h.add(std::vector<double>{xs::convergence_radius_bound(row, row)});
      h.add(std::vector<T>{xs::cross_entropy(row, std::max_element(row.begin(), row.end()) - row.begin())});
    }
  }
  xs::stablemax(in.transposed(), out.transposed());
  h.add(p);
  xs::log_stablemax(in.transposed(), out.transposed());
  h.add(p);
  // Noise and draws.
  std::vector<T> g(5000);
  std::vector<std::size_t> indices(50);
  for (const std::uint64_t index : {std::uint64_t{0}, (std::uint64_t{1} << 34) - 777}) {
    const xs::noise_key key{.seed = 7, .stream = 8, .row = 9, .index = index};
    xs::gumbel_noise(key, g);
    h.add(g);
    xs::logistic_noise(key, g);
    h.add(g);
    xs::exponential_noise(key, g);
    h.add(g);
    for (std::size_t r = 0; r < indices.size(); ++r) {
      indices[r] = xs::sample({.seed = 7, .row = r, .index = index}, g);
    }
    h.add(indices);
  }
  add_attention<T>(h, random);
  h.print(name);
}

} // namespace

int main() {
  run<float>("float");
  run<double>("double");
}

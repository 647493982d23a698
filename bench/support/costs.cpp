// SPDX-License-Identifier: MIT
#include "costs.hpp"
#include "arch_limits.hpp"
#include "attention_costs.hpp"
#include "cost_variants.hpp"
#include "limits.hpp"
#include "machine.hpp"
#include "row_buffer.hpp"
#include "two_threads.hpp"
#include <algorithm>
#include <cmath>
#include <complex>
#include <numeric>
#include <random>
#include <xsoftmax/convergence_radius.hpp>
#include <xsoftmax/cross_entropy.hpp>
#include <xsoftmax/gumbel.hpp>
#include <xsoftmax/half.hpp>
#include <xsoftmax/softmax.hpp>
#include <xsoftmax/stablemax.hpp>

namespace bench {

namespace {

namespace xs = xsoftmax;

/// Every operation down the columns of a row-major matrix, and along the rows of its transpose. The logits are also the
/// gradients that come from above.
template <class Arch, class T>
int run_columns(const session& run, const shape& s, const row_set<T>& data) {
  const std::size_t size = data.size();
  const row_buffer<T> turned(size), turned_p(size, output_offset), turned_logs(size, output_offset), turned_dz(size);
  const row_buffer<T> logs(size, output_offset), dz(size), sums(s.cols), turned_sums(s.cols);
  const auto place_in_turned = [&](std::size_t i) { return i % s.cols * s.rows + i / s.cols; };
  for (std::size_t i = 0; i < size; ++i) {
    turned.data()[place_in_turned(i)] = data.z[i];
  }
  const auto columns = [&](auto* m) { return xs::matrix_view(m, s.rows, s.cols).transposed(); };
  const auto rows = [&](auto* m) { return xs::matrix_view(m, s.cols, s.rows); };
  const auto z = columns(data.z);
  const auto p = columns(data.p);
  const auto lp = columns(logs.data());
  const auto gradients = columns(dz.data());
  const auto row_z = rows(static_cast<const T*>(turned.data()));
  const auto row_p = rows(turned_p.data());
  const auto row_lp = rows(turned_logs.data());
  const auto row_gradients = rows(turned_dz.data());
  const xs::vector_view<T> sum(sums.data(), s.cols);
  const xs::vector_view<T> row_sum(turned_sums.data(), s.cols);

  std::vector<variant> all{
      own<Arch>("rows", [=] { xs::softmax<Arch>(row_z, row_p); }),
      own<Arch>("columns", [=] { xs::softmax<Arch>(z, p); }),
  };
  const reference<T> exact(turned.data(), s.cols, s.rows);
  run_once(all[0], turned_p.data(), size);
  all[0].found = check(exact, turned_p.data(), s.cols, s.rows, promised<T>());
  const auto compare = [&](variant& v, const T* in_columns, const T* in_rows) {
    for (std::size_t i = 0; i < size; ++i) {
      if (!same_bits(in_columns[i], in_rows[place_in_turned(i)])) {
        blame(v, "the rows", i);
      }
    }
  };
  run_once(all[1], data.p, size);
  compare(all[1], data.p, turned_p.data());

  const auto add = [&](const std::string& name, const auto& along_rows, const row_buffer<T>& by_rows,
                       const auto& down_columns, const row_buffer<T>& by_columns, const auto& wrong) {
    all.push_back(own<Arch>(name + "_rows", along_rows));
    run_once(all.back(), by_rows.data(), size);
    all.back().found.failure = wrong(by_rows.data());
    all.push_back(own<Arch>(name + "_columns", down_columns));
    run_once(all.back(), by_columns.data(), size);
    compare(all.back(), by_columns.data(), by_rows.data());
  };
  const auto ulp = [](long double x) { return unit_in_last_place<T>(x); };
  const auto logs_wrong = [&](const T* y) {
    const auto exact_log = [&](std::size_t i) { return exact.log(i / s.rows, i % s.rows); };
    return first_wrong(y, size, exact_log, [&](std::size_t i) { return 4 * ulp(exact_log(i)); });
  };
  // The gradients of a row sum up to 0, but for what the rounding of p, lp and dz leaves.
  const auto sums_wrong = [&](const T* y) {
    std::string failure;
    for (std::size_t r = 0; r < s.cols; ++r) {
      long double left = 0, magnitude = 0;
      for (std::size_t i = r * s.rows; i < (r + 1) * s.rows; ++i) {
        left += y[i];
        magnitude += std::fabs(y[i]);
      }
      if (failure.empty() && !(std::fabs(left) <= 32 * std::numeric_limits<T>::epsilon() * magnitude)) {
        failure = "the gradients of row " + std::to_string(r) + " do not sum up to 0";
      }
    }
    return failure;
  };
  add(
      "log_softmax", [=] { xs::log_softmax<Arch>(row_z, row_lp); }, turned_logs, [=] { xs::log_softmax<Arch>(z, lp); },
      logs, logs_wrong);
  add(
      "softmax_backward", [=] { xs::softmax_backward<Arch>(row_p, row_z, row_gradients); }, turned_dz,
      [=] { xs::softmax_backward<Arch>(p, z, gradients); }, dz, sums_wrong);
  add(
      "log_softmax_backward", [=] { xs::log_softmax_backward<Arch>(row_lp, row_z, row_gradients); }, turned_dz,
      [=] { xs::log_softmax_backward<Arch>(lp, z, gradients); }, dz, sums_wrong);

  variant by_rows = own<Arch>("log_sum_exp_rows", [=] { xs::log_sum_exp<Arch>(row_z, row_sum); });
  variant by_columns = own<Arch>("log_sum_exp_columns", [=] { xs::log_sum_exp<Arch>(z, sum); });
  run_once(by_rows, turned_sums.data(), s.cols);
  run_once(by_columns, sums.data(), s.cols);
  by_rows.found.failure = first_wrong(
      turned_sums.data(), s.cols, [&](std::size_t r) { return exact.log_sum(r); },
      [&](std::size_t r) {
        const T largest = *std::max_element(turned.data() + r * s.rows, turned.data() + (r + 1) * s.rows);
        return 2 * ulp(std::max<long double>(std::fabs(largest), std::fabs(exact.log_sum(r))));
      });
  for (std::size_t r = 0; r < s.cols; ++r) {
    if (!same_bits(sums.data()[r], turned_sums.data()[r])) {
      blame(by_columns, "the rows", r);
    }
  }
  all.push_back(std::move(by_rows));
  all.push_back(std::move(by_columns));
  return time_variants(run, s, type_name<T>, data.bytes(), all);
}

/// A row of halves, and of halves to float, against a row of floats.
template <class Arch>
int run_halves(const session& run, const shape& s, const row_set<float>& data) {
  const std::size_t n = data.size();
  const xs::vector_view<const float> in(data.z, n);
  const xs::vector_view<float> out(data.p, n);
  std::vector<variant> all{own<Arch>("float", [=] { xs::softmax<Arch>(in, out); })};
  run_once(all[0], data.p, n);
  all[0].found = check(reference<float>(data.z, 1, n), data.p, 1, n, promised<float>());

  const auto add = [&]<class Half>(const std::string& name, const row_buffer<Half>& z, const row_buffer<Half>& p) {
    const xs::vector_view<const Half> half_in(z.data(), n);
    const xs::vector_view<Half> half_out(p.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      z.data()[i] = Half(data.z[i]);
    }
    variant halves = own<Arch>(name, [=] { xs::softmax<Arch>(half_in, half_out); });
    variant to_float = own<Arch>(name + "_to_float", [=] { xs::softmax<Arch>(half_in, out); });
    run_once(to_float, data.p, n);
    const std::uint64_t hash = hash_bits(data.p, data.bytes());
    // The float result, in place.
    for (std::size_t i = 0; i < n; ++i) {
      data.p[i] = static_cast<float>(z.data()[i]);
    }
    xs::softmax<Arch>(out, out);
    if (hash != hash_bits(data.p, data.bytes())) {
      to_float.found.failure = "its bits differ from those of the same row as float";
    }
    run_once(halves, p.data(), n);
    for (std::size_t i = 0; i < n; ++i) {
      if (!same_bits(p.data()[i], Half(data.p[i]))) {
        blame(halves, "float rounded once", i);
      }
    }
    all.push_back(std::move(halves));
    all.push_back(std::move(to_float));
  };
  const row_buffer<xs::bfloat16> bfloat_z(n), bfloat_p(n, output_offset);
  const row_buffer<xs::float16> float16_z(n), float16_p(n, output_offset);
  add("bfloat16", bfloat_z, bfloat_p);
  add("float16", float16_z, float16_p);
  return time_variants(run, s, "float", data.bytes(), all);
}

/// The same call with an executor of two threads.
template <class Arch>
int run_threads(const session& run, const shape& s, const row_set<float>& data, int second_core) {
  two_threads executor(second_core);
  const xs::matrix_view<const float> in(data.z, s.rows, s.cols);
  const xs::matrix_view<float> out(data.p, s.rows, s.cols);
  std::vector<variant> all{
      own<Arch>("one_thread", [=] { xs::softmax<Arch>(in, out); }),
      own<Arch>("two_threads", [=, &executor] { xs::softmax<Arch>(executor, in, out); }),
  };
  all[0].real_time = all[1].real_time = true;
  run_once(all[0], data.p, data.size());
  all[0].found = check(reference<float>(data.z, s.rows, s.cols), data.p, s.rows, s.cols, promised<float>());
  const std::uint64_t hash = hash_bits(data.p, data.bytes());
  run_once(all[1], data.p, data.size());
  if (hash != hash_bits(data.p, data.bytes())) {
    all[1].found.failure = "its bits differ from those of one thread";
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

/// The other operations on the same row. The logits are also the gradients that come from above.
template <class Arch>
int run_operations(const session& run, const shape& s, const row_set<float>& data) {
  const std::size_t n = data.size();
  const row_buffer<float> logs(n, output_offset);
  const row_buffer<float> gradients(n, 2 * output_offset);
  float log_sum = 0;
  const xs::vector_view<const float> z(data.z, n);
  const xs::vector_view<float> p(data.p, n);
  const xs::vector_view<float> lp(logs.data(), n);
  const xs::vector_view<float> dz(gradients.data(), n);
  enum { softmax, log_softmax, log_sum_exp, softmax_backward, log_softmax_backward };
  std::vector<variant> all{
      own<Arch>("softmax", [=] { xs::softmax<Arch>(z, p); }),
      own<Arch>("log_softmax", [=] { xs::log_softmax<Arch>(z, lp); }),
      own<Arch>("log_sum_exp", [=, &log_sum] { log_sum = xs::log_sum_exp<Arch>(z); }),
      own<Arch>("softmax_backward", [=] { xs::softmax_backward<Arch>(p, z, dz); }),
      own<Arch>("log_softmax_backward", [=] { xs::log_softmax_backward<Arch>(lp, z, dz); }),
  };

  const reference<float> exact(data.z, 1, n);
  const auto ulp = [](long double x) { return unit_in_last_place<float>(x); };
  const auto exact_log = [&](std::size_t i) { return exact.log(0, i); };
  run_once(all[softmax], data.p, n);
  all[softmax].found = check(exact, data.p, 1, n, promised<float>());
  run_once(all[log_softmax], logs.data(), n);
  all[log_softmax].found.failure =
      first_wrong(logs.data(), n, exact_log, [&](std::size_t i) { return 4 * ulp(exact_log(i)); });
  run_once(all[log_sum_exp], &log_sum, 1);
  all[log_sum_exp].found.failure = first_wrong(
      &log_sum, 1, [&](std::size_t) { return exact.log_sum(0); },
      [&](std::size_t) {
        const float largest = std::fabs(*std::max_element(data.z, data.z + n));
        return 2 * ulp(std::max<long double>(largest, std::fabs(exact.log_sum(0))));
      });

  // dz = p (dp - sum p dp) and dz = dlp - exp(lp) sum dlp, of the p and lp that were handed in.
  const auto weight = [&](std::size_t i) { return std::exp(static_cast<long double>(logs.data()[i])); };
  long double sum = 0, magnitude = 0, weighted_sum = 0, weighted_magnitude = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const long double gradient = data.z[i];
    const long double product = data.p[i] * gradient;
    sum += gradient;
    magnitude += std::fabs(gradient);
    weighted_sum += product;
    weighted_magnitude += std::fabs(product);
  }
  const auto check_gradient = [&](variant& v, const auto& value, const auto& factor, long double total) {
    run_once(v, gradients.data(), n);
    v.found.failure = first_wrong(gradients.data(), n, value, [&](std::size_t i) {
      return 0.51L * ulp(value(i)) + std::fabs(factor(i)) * 0x1p-45L * total;
    });
  };
  const auto probability = [&](std::size_t i) { return static_cast<long double>(data.p[i]); };
  check_gradient(
      all[softmax_backward], [&](std::size_t i) { return probability(i) * (data.z[i] - weighted_sum); }, probability,
      weighted_magnitude);
  check_gradient(
      all[log_softmax_backward], [&](std::size_t i) { return data.z[i] - weight(i) * sum; }, weight, magnitude);

  for (const peer& other : available_peers()) {
    if (other.float_log_softmax_rows) {
      variant v{other.name + "/-/log_softmax/-", false, false, 2 * guess_of_cost,
                other.float_log_softmax_rows(data.z, gradients.data(), 1, n)};
      run_once(v, gradients.data(), n);
      // The relative error of a probability is the absolute one of its logarithm, which is rounded too.
      v.found.failure = first_wrong(gradients.data(), n, exact_log, [&](std::size_t i) {
        return expected_of_peer<float>(n).row_sum + 2 * ulp(exact_log(i));
      });
      all.push_back(std::move(v));
    }
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

/// Rows of other kinds against usual ones.
template <class Arch>
int run_kinds(const session& run, const shape& s, const row_set<float>& data) {
  const std::size_t size = data.size();
  constexpr float masked = -std::numeric_limits<float>::infinity();
  std::vector<std::unique_ptr<row_buffer<float>>> logits; // as long as the runs
  std::vector<variant> all;
  const auto add = [&](const std::string& name, const auto& logit) {
    logits.push_back(std::make_unique<row_buffer<float>>(size));
    float* const z = logits.back()->data();
    for (std::size_t i = 0; i < size; ++i) {
      z[i] = logit(i, data.z[i]);
    }
    all.push_back(own<Arch>(name, [=] {
      xs::softmax<Arch>(xs::matrix_view<const float>(z, s.rows, s.cols),
                        xs::matrix_view<float>(data.p, s.rows, s.cols));
    }));
    run_once(all.back(), data.p, size);
    all.back().found = check(reference<float>(z, s.rows, s.cols), data.p, s.rows, s.cols, promised<float>());
  };
  add("plain", [](std::size_t, float x) { return x; });
  add("half_masked", [](std::size_t i, float x) { return (i * 2654435761u >> 16 & 1) != 0 ? masked : x; });
  add("padded", [&](std::size_t i, float x) { return i % s.cols >= s.cols / 2 ? masked : x; });
  add("ascending",
      [&](std::size_t i, float) { return 40 * static_cast<float>(i % s.cols) / static_cast<float>(s.cols); });
  return time_variants(run, s, "float", data.bytes(), all);
}

/// Sum of x_i y_i, in as many chains as it takes not to wait for additions; in double from block to block.
float dot_product(const float* x, const float* y, std::size_t n) {
  constexpr std::size_t chains = 64;
  constexpr std::size_t block = 64 * chains;
  double total = 0;
  for (std::size_t first = 0; first < n; first += block) {
    const std::size_t last = std::min(n, first + block);
    float sum[chains] = {};
    std::size_t i = first;
    for (; last - i >= chains; i += chains) {
      for (std::size_t c = 0; c < chains; ++c) {
        sum[c] += x[i + c] * y[i + c];
      }
    }
    for (; i < last; ++i) {
      sum[0] += x[i] * y[i];
    }
    total += std::accumulate(std::begin(sum), std::end(sum), 0.0);
  }
  return static_cast<float>(total);
}

/// StableMax against softmax and against what two passes over memory take; cross-entropy with its gradient against
/// softmax and its gradient one after the other, for distributions log_softmax and its gradient.
template <class Arch>
int run_losses(const session& run, const shape& s, const row_set<float>& data) {
  const std::size_t size = data.size();
  const row_buffer<float> gradients(size, 2 * output_offset);
  const row_buffer<float> from_above(size, output_offset);
  std::vector<std::size_t> targets(s.rows);
  for (std::size_t r = 0; r < s.rows; ++r) {
    targets[r] = r * 7919 % s.cols;
    std::fill_n(from_above.data() + r * s.cols, s.cols, 0.0f);
  }
  const xs::matrix_view<const float> z(data.z, s.rows, s.cols);
  const xs::matrix_view<float> p(data.p, s.rows, s.cols);
  const xs::matrix_view<float> dp(from_above.data(), s.rows, s.cols);
  const xs::matrix_view<float> dz(gradients.data(), s.rows, s.cols);
  const std::size_t* const target = targets.data();
  const xs::vector_view<const std::size_t> target_row(target, s.rows);
  float* const above = from_above.data();
  float loss = 0;
  // Distributions as targets: row r's is the softmax of row r + 1.
  const row_buffer<float> distributions(size, output_offset);
  const row_buffer<float> from_above_logs(size, 3 * output_offset);
  for (std::size_t r = 0; r < s.rows; ++r) {
    xs::softmax<Arch>(xs::vector_view<const float>(data.z + (r + 1) % s.rows * s.cols, s.cols),
                      xs::vector_view<float>(distributions.data() + r * s.cols, s.cols));
  }
  for (std::size_t i = 0; i < size; ++i) {
    from_above_logs.data()[i] = -distributions.data()[i] / static_cast<float>(s.rows);
  }
  const xs::matrix_view<const float> shares(distributions.data(), s.rows, s.cols);
  const xs::matrix_view<const float> dlp(from_above_logs.data(), s.rows, s.cols);
  enum { softmax, stablemax, log_softmax, log_stablemax, memory, separate, fused, separate_soft, fused_soft };
  std::vector<variant> all{
      own<Arch>("softmax", [=] { xs::softmax<Arch>(z, p); }),
      own<Arch>("stablemax", [=] { xs::stablemax<Arch>(z, p); }),
      own<Arch>("log_softmax", [=] { xs::log_softmax<Arch>(z, p); }),
      own<Arch>("log_stablemax", [=] { xs::log_stablemax<Arch>(z, p); }),
      own<Arch>("memory",
                [=] {
                  benchmark::DoNotOptimize(read_pass(data.z, data.bytes()));
                  nontemporal_copy_pass(data.p, data.z, data.bytes());
                }),
      own<Arch>("softmax_and_gradient",
                [=, &loss] {
                  xs::softmax<Arch>(z, p);
                  const float share = 1 / static_cast<float>(s.rows);
                  loss = 0;
                  for (std::size_t r = 0; r < s.rows; ++r) {
                    const std::size_t y = r * s.cols + target[r];
                    loss -= share * std::log(data.p[y]);
                    above[y] = -share / data.p[y];
                  }
                  xs::softmax_backward<Arch>(p, dp, dz);
                }),
      own<Arch>("cross_entropy", [=, &loss] { loss = xs::cross_entropy<Arch>(z, target_row, dz); }),
      own<Arch>("log_softmax_and_gradient",
                [=, &loss] {
                  xs::log_softmax<Arch>(z, p);
                  loss = dot_product(dlp.data(), data.p, size);
                  xs::log_softmax_backward<Arch>(p, dlp, dz);
                }),
      own<Arch>("cross_entropy_of_distributions", [=, &loss] { loss = xs::cross_entropy<Arch>(z, shares, dz); }),
  };

  const reference<float> exact(data.z, s.rows, s.cols);
  const auto ulp = [](long double x) { return unit_in_last_place<float>(x); };
  run_once(all[softmax], data.p, size);
  all[softmax].found = check(exact, data.p, s.rows, s.cols, promised<float>());
  run_once(all[log_softmax], data.p, size);
  const auto exact_log = [&](std::size_t i) { return exact.log(i / s.cols, i % s.cols); };
  all[log_softmax].found.failure =
      first_wrong(data.p, size, exact_log, [&](std::size_t i) { return 4 * ulp(exact_log(i)); });

  // In double, which is 2^29 times finer than what is checked.
  const auto weight = [&](std::size_t i) {
    const double x = static_cast<double>(data.z[i]);
    return x >= 0 ? 1 + x : 1 / (1 - x);
  };
  std::vector<double> sums(s.rows);
  for (std::size_t i = 0; i < size; ++i) {
    sums[i / s.cols] += weight(i);
  }
  const auto share = [&](std::size_t i) { return weight(i) / sums[i / s.cols]; };
  run_once(all[stablemax], data.p, size);
  all[stablemax].found.failure = first_wrong(data.p, size, share, [&](std::size_t i) { return 4 * ulp(share(i)); });
  const auto log_share = [&](std::size_t i) { return std::log(share(i)); };
  run_once(all[log_stablemax], data.p, size);
  all[log_stablemax].found.failure =
      first_wrong(data.p, size, log_share, [&](std::size_t i) { return ulp(log_share(i)); });

  long double mean = 0;
  for (std::size_t r = 0; r < s.rows; ++r) {
    mean -= exact.log(r, targets[r]) / static_cast<long double>(s.rows);
  }
  const auto gradient = [&](std::size_t i) {
    const bool is_target = i % s.cols == targets[i / s.cols];
    return (static_cast<long double>(exact(i / s.cols, i % s.cols)) - (is_target ? 1 : 0)) /
           static_cast<long double>(s.rows);
  };
  for (const int v : {separate, fused}) {
    run_once(all[v], gradients.data(), size);
    all[v].found.failure = first_wrong(gradients.data(), size, gradient, [&](std::size_t i) {
      return (v == fused ? 6 : 64) * ulp(gradient(i)); // one after the other, much cancels
    });
    if (all[v].found.failure.empty() && !(std::fabs(loss - mean) <= 1e-5L * mean)) {
      all[v].found.failure = "its mean loss is " + std::to_string(loss);
    }
  }
  long double soft_mean = 0;
  for (std::size_t i = 0; i < size; ++i) {
    soft_mean += static_cast<long double>(dlp.data()[i]) * exact.log(i / s.cols, i % s.cols);
  }
  const auto soft_gradient = [&](std::size_t i) {
    const long double p_i = exact(i / s.cols, i % s.cols);
    return (p_i - static_cast<long double>(distributions.data()[i])) / static_cast<long double>(s.rows);
  };
  for (const int v : {separate_soft, fused_soft}) {
    run_once(all[v], gradients.data(), size);
    // p is what is rounded; it and the target may cancel.
    all[v].found.failure = first_wrong(gradients.data(), size, soft_gradient, [&](std::size_t i) {
      const long double p_i = exact(i / s.cols, i % s.cols);
      return (v == fused_soft ? 6 : 64) *
             ulp((p_i + static_cast<long double>(distributions.data()[i])) / static_cast<long double>(s.rows));
    });
    if (all[v].found.failure.empty() && !(std::fabs(loss - soft_mean) <= 1e-5L * soft_mean)) {
      all[v].found.failure = "its mean loss is " + std::to_string(loss);
    }
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

/// The convergence radius of rows: its bound against reading the slopes, and where rows are few, the tight bound
/// against softmax, of usual logits and of such that one class dominates, and the exact one.
template <class Arch>
int run_radius(const session& run, const shape& s, const row_set<float>& data) {
  const std::size_t size = data.size();
  const row_buffer<float> slopes(size, output_offset);
  const row_buffer<float> peaked(size, 2 * output_offset);
  for (std::size_t i = 0; i < size; ++i) {
    slopes.data()[i] = static_cast<float>(std::sin(static_cast<double>(i) * 12.9898));
    peaked.data()[i] = i % s.cols == s.cols / 3 ? 20.0f : data.z[i];
  }
  std::vector<double> radii(s.rows);
  double* const radius = radii.data();
  const xs::vector_view<double> out(radius, s.rows);
  const xs::matrix_view<const float> a(slopes.data(), s.rows, s.cols);
  const xs::matrix_view<const float> z(data.z, s.rows, s.cols);
  const xs::matrix_view<const float> with_peak(peaked.data(), s.rows, s.cols);
  const xs::matrix_view<float> p(data.p, s.rows, s.cols);
  enum { read, bound, softmax, tight, tight_of_peaked, exact };
  std::vector<variant> all{
      own<Arch>("read", [=, &slopes] { benchmark::DoNotOptimize(read_pass(slopes.data(), data.bytes())); }),
      own<Arch>("bound", [=] { xs::convergence_radius_bound<Arch>(a, out); }),
  };
  const bool few = size <= 100'000;
  if (few) {
    all.push_back(own<Arch>("softmax", [=] { xs::softmax<Arch>(z, p); }));
    all.push_back(own<Arch>("tight_bound", [=] { xs::convergence_radius_tight_bound<Arch>(z, a, out); }));
    all.push_back(
        own<Arch>("tight_bound_of_peaked", [=] { xs::convergence_radius_tight_bound<Arch>(with_peak, a, out); }));
    all.push_back(own<Arch>("exact", [=] { xs::convergence_radius<Arch>(z, a, out); }));
  }

  const auto spread = [&](std::size_t r) {
    const auto [least, greatest] = std::minmax_element(slopes.data() + r * s.cols, slopes.data() + (r + 1) * s.cols);
    return static_cast<long double>(*greatest) - static_cast<long double>(*least);
  };
  const auto bound_of = [&](std::size_t r) { return 3.14159265358979323846264338L / spread(r); };
  run_once(all[bound], radius, s.rows);
  all[bound].found.failure =
      first_wrong(radius, s.rows, bound_of, [&](std::size_t r) { return 0x1p-51L * bound_of(r); });
  if (few) {
    run_once(all[softmax], data.p, size);
    all[softmax].found = check(reference<float>(data.z, s.rows, s.cols), data.p, s.rows, s.cols, promised<float>());
    // F of the nearest zero vanishes, and either bound is below it.
    std::vector<double> nearest[2];
    for (const int v : {0, 1}) {
      for (std::size_t r = 0; r < s.rows; ++r) {
        const float* const logits = (v == 0 ? data.z : peaked.data()) + r * s.cols;
        const float* const slope = slopes.data() + r * s.cols;
        const auto zero = xs::nearest_partition_zero<Arch>(xs::vector_view<const float>(logits, s.cols),
                                                           xs::vector_view<const float>(slope, s.cols));
        std::complex<long double> sum = 0;
        long double magnitude = 0;
        for (std::size_t i = 0; i < s.cols; ++i) {
          const auto term = std::exp(static_cast<long double>(logits[i]) +
                                     static_cast<long double>(slope[i]) * std::complex<long double>(zero));
          sum += term;
          magnitude += std::abs(term);
        }
        nearest[v].push_back(std::abs(zero));
        if (!(std::abs(sum) <= 1e-9L * magnitude)) {
          all[exact].found.failure = "what it found is no zero";
        }
      }
    }
    const auto check_below = [&](variant& v, const std::vector<double>& most) {
      run_once(v, radius, s.rows);
      for (std::size_t r = 0; r < s.rows; ++r) {
        if (!(radius[r] >= static_cast<double>(bound_of(r)) * (1 - 0x1p-50) && radius[r] <= most[r])) {
          v.found.failure = "it is not between the bound and the radius";
        }
      }
    };
    check_below(all[tight], nearest[0]);
    check_below(all[tight_of_peaked], nearest[1]);
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

/// A row so short that the call counts, through the choice at run time and without it.
template <class Arch>
int run_calls(const session& run, const shape& s, const row_set<float>& data) {
  const xs::vector_view<const float> z(data.z, s.cols);
  const xs::vector_view<float> p(data.p, s.cols);
  std::vector<variant> all{own<Arch>("named", [=] { xs::softmax<Arch>(z, p); }),
                           own<Arch>("runtime", [=] { xs::softmax(z, p); })};
  const reference<float> exact(data.z, 1, s.cols);
  for (variant& v : all) {
    run_once(v, data.p, s.cols);
    v.found = check(exact, data.p, 1, s.cols, promised<float>());
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

/// In words, that these values of a distribution function are not those of random numbers with that distribution; empty
/// where they can be. A Kolmogorov distance above 3 comes once in 10^7 times.
std::string not_distributed(std::vector<double> below, const char* what) {
  if (std::any_of(below.begin(), below.end(), [](double x) { return std::isnan(x); })) {
    return "this is no " + std::string(what) + ": NaN";
  }
  std::sort(below.begin(), below.end());
  double distance = 0;
  const auto all = static_cast<double>(below.size());
  for (std::size_t i = 0; i < below.size(); ++i) {
    const auto rank = static_cast<double>(i);
    distance = std::max({distance, below[i] - rank / all, (rank + 1) / all - below[i]});
  }
  distance *= std::sqrt(all);
  return distance < 3 ? "" : "this is no " + std::string(what) + ": distance " + std::to_string(distance);
}

std::string no_gumbel_noise(const float* g, std::size_t n) {
  std::vector<double> below(n);
  std::transform(g, g + n, below.begin(), [](float x) { return std::exp(-std::exp(-static_cast<double>(x))); });
  return not_distributed(std::move(below), "Gumbel noise");
}

/// An index for each row: is it one of the row's, and are all of them distributed as softmax? Classes are put in the
/// order of their probabilities: in that of their indices a draw that knows no logits would do as well.
std::string no_draws(const row_set<float>& data, const reference<float>& exact, const std::size_t* indices) {
  std::vector<double> below(data.rows);
  for (std::size_t r = 0; r < data.rows; ++r) {
    if (indices[r] >= data.cols) {
      return "row " + std::to_string(r) + " has no element " + std::to_string(indices[r]);
    }
    const float* const row = data.z + r * data.cols;
    const float drawn = row[indices[r]];
    for (std::size_t i = 0; i < data.cols; ++i) {
      if (row[i] <= drawn) { // the drawn one counts half: the middle of its step, which is small
        below[r] += static_cast<double>(exact(r, i)) * (row[i] == drawn ? 0.5 : 1);
      }
    }
  }
  return not_distributed(std::move(below), "draw from softmax");
}

/// y = softmax(z + noise): the noise of neighbours in a row differs by what has the logistic distribution.
std::string no_gumbel_softmax(const row_set<float>& data) {
  std::vector<double> below;
  for (std::size_t r = 0; r < data.rows; ++r) {
    for (std::size_t i = r * data.cols; i + 1 < (r + 1) * data.cols; i += 2) {
      const double logits = static_cast<double>(data.z[i + 1]) - static_cast<double>(data.z[i]);
      const double ratio = static_cast<double>(data.p[i + 1]) / static_cast<double>(data.p[i]);
      below.push_back(1 / (1 + ratio * std::exp(-logits)));
    }
  }
  return not_distributed(std::move(below), "Gumbel-Softmax");
}

/// What a peer has of noise, draws and the Gumbel-Softmax.
void add_noise_of_peer(std::vector<variant>& all, const peer& other, const row_set<float>& data,
                       const reference<float>& exact, float* noise, std::size_t* indices) {
  const auto add = [&](const char* what, runner run, auto* output, std::size_t size, const auto& wrong) {
    all.push_back({other.name + "/-/" + what + "/-", false, false, 10, std::move(run)});
    run_once(all.back(), output, size);
    all.back().found.failure = wrong();
  };
  if (other.float_gumbel_noise) {
    add("gumbel_noise", other.float_gumbel_noise(noise, data.size()), noise, data.size(), [&] {
      const bool finite = std::all_of(noise, noise + data.size(), [](float x) { return std::isfinite(x); });
      return finite ? no_gumbel_noise(noise, data.size()) : "some of its noise is not finite";
    });
  }
  if (other.float_sample) {
    add("sample", other.float_sample(data.z, indices, data.rows, data.cols), indices, data.rows,
        [&] { return no_draws(data, exact, indices); });
  }
  if (other.float_gumbel_softmax_rows) {
    add("gumbel_softmax", other.float_gumbel_softmax_rows(data.z, data.p, data.rows, data.cols), data.p, data.size(),
        [&] { return no_gumbel_softmax(data); });
  }
}

/// Noise, draws and the Gumbel-Softmax, against what they are made of and what the standard library has.
template <class Arch>
int run_noise(const session& run, const shape& s, const row_set<float>& data) {
  const std::size_t size = data.size();
  const row_buffer<float> noise(size, output_offset);
  const row_buffer<std::size_t> indices(s.rows);
  const xs::noise_key key{.seed = 1};
  const xs::matrix_view<const float> z(data.z, s.rows, s.cols);
  const xs::matrix_view<float> y(data.p, s.rows, s.cols);
  const xs::matrix_view<float> g(noise.data(), s.rows, s.cols);
  const xs::vector_view<std::size_t> drawn(indices.data(), s.rows);
  std::mt19937 engine(1);
  std::uint64_t seed = 0;
  enum { gumbel_noise, std_noise, noise_and_softmax, gumbel_softmax, sample, words_and_read, softmax_and_std };
  const double slow = 10;
  std::vector<variant> all{own<Arch>("gumbel_noise", [=] { xs::gumbel_noise<Arch>(key, g); }),
                           {"std/-/extreme_value_distribution/-", false, false, slow,
                            [&, p = noise.data()] {
                              std::extreme_value_distribution<float> distribution;
                              for (std::size_t i = 0; i < size; ++i) {
                                p[i] = distribution(engine);
                              }
                            }},
                           own<Arch>("noise_and_softmax",
                                     [=] {
                                       xs::gumbel_noise<Arch>(key, g);
                                       xs::softmax<Arch>(z, y);
                                     }),
                           own<Arch>("gumbel_softmax", [=] { xs::gumbel_softmax<Arch>(key, z, y, drawn); }),
                           // Another seed each time: how often a logit has to be looked at closely depends on it.
                           own<Arch>("sample", [=, &seed] { xs::sample<Arch>({.seed = ++seed}, z, drawn); }),
                           own<Arch>("words_and_read",
                                     [=] {
                                       for (std::size_t r = 0; r < s.rows; ++r) {
                                         benchmark::DoNotOptimize(limits_of<Arch>().draw_words(r, s.cols / 64 * 64));
                                       }
                                       benchmark::DoNotOptimize(read_pass(data.z, data.bytes()));
                                     }),
                           {"std/-/softmax_and_discrete_distribution/-", false, false, slow, [=, &engine] {
                              xs::softmax<Arch>(z, y);
                              for (std::size_t r = 0; r < s.rows; ++r) {
                                const float* const p = data.p + r * s.cols;
                                drawn.data()[r] = std::discrete_distribution<std::size_t>(p, p + s.cols)(engine);
                              }
                            }}};

  for (const int v : {gumbel_noise, std_noise}) {
    run_once(all[v], noise.data(), size);
    all[v].found.failure = no_gumbel_noise(noise.data(), size);
  }
  // gumbel_softmax is softmax of the perturbed logits, and its index theirs; a draw with the same key is the same.
  run_once(all[gumbel_noise], noise.data(), size);
  std::vector<std::size_t> places(s.rows);
  for (std::size_t r = 0; r < s.rows; ++r) {
    float* const row = noise.data() + r * s.cols;
    for (std::size_t i = 0; i < s.cols; ++i) {
      row[i] += data.z[r * s.cols + i];
    }
    places[r] = static_cast<std::size_t>(std::max_element(row, row + s.cols) - row);
  }
  xs::softmax<Arch>(g, g);
  run_once(all[gumbel_softmax], data.p, size);
  for (std::size_t i = 0; i < size; ++i) {
    if (!same_bits(data.p[i], noise.data()[i])) {
      blame(all[gumbel_softmax], "the softmax of logits and noise", i);
    }
  }
  const auto check_places = [&](variant& v) {
    for (std::size_t r = 0; r < s.rows; ++r) {
      if (drawn.data()[r] != places[r]) {
        v.found.failure = "row " + std::to_string(r) + " is not drawn where it is the largest";
      }
    }
  };
  check_places(all[gumbel_softmax]);
  std::fill_n(indices.data(), s.rows, xs::npos);
  seed = key.seed - 1;
  all[sample].run();
  check_places(all[sample]);
  const reference<float> exact(data.z, s.rows, s.cols);
  run_once(all[noise_and_softmax], data.p, size);
  all[noise_and_softmax].found = check(exact, data.p, s.rows, s.cols, promised<float>());
  run_once(all[softmax_and_std], indices.data(), s.rows);
  all[softmax_and_std].found.failure = no_draws(data, exact, indices.data());
  for (const peer& other : available_peers()) {
    add_noise_of_peer(all, other, data, exact, noise.data(), indices.data());
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

/// A draw from each row, with an executor of two threads and without.
template <class Arch>
int run_sample_threads(const session& run, const shape& s, const row_set<float>& data, int second_core) {
  two_threads executor(second_core);
  const row_buffer<std::size_t> indices(s.rows), indices_of_two(s.rows);
  const xs::matrix_view<const float> z(data.z, s.rows, s.cols);
  const xs::vector_view<std::size_t> drawn(indices.data(), s.rows), drawn_by_two(indices_of_two.data(), s.rows);
  std::uint64_t seed = 0, seed_of_two = 0;
  std::vector<variant> all{
      own<Arch>("one_thread", [=, &seed] { xs::sample<Arch>({.seed = ++seed}, z, drawn); }),
      own<Arch>("two_threads",
                [=, &seed_of_two, &executor] { xs::sample<Arch>(executor, {.seed = ++seed_of_two}, z, drawn_by_two); }),
  };
  all[0].real_time = all[1].real_time = true;
  run_once(all[0], indices.data(), s.rows);
  all[0].found.failure = no_draws(data, reference<float>(data.z, s.rows, s.cols), indices.data());
  run_once(all[1], indices_of_two.data(), s.rows);
  if (!std::equal(indices.data(), indices.data() + s.rows, indices_of_two.data())) {
    all[1].found.failure = "its draws differ from those of one thread";
  }
  return time_variants(run, s, "float", data.bytes(), all);
}

template <class Arch, class T>
int run_on(const session& run, const shape& s, const row_set<T>& data, int second_core) {
  if (s.section == "columns") {
    return run_columns<Arch>(run, s, data);
  }
  if constexpr (std::is_same_v<T, float>) {
    if (s.section == "halves") {
      return run_halves<Arch>(run, s, data);
    }
    if (s.section == "threads") {
      return second_core < 0 ? 0 : run_threads<Arch>(run, s, data, second_core);
    }
    if (s.section == "sample_threads") {
      return second_core < 0 ? 0 : run_sample_threads<Arch>(run, s, data, second_core);
    }
    if (s.section == "operations") {
      return run_operations<Arch>(run, s, data);
    }
    if (s.section == "kinds") {
      return run_kinds<Arch>(run, s, data);
    }
    if (s.section == "calls") {
      return run_calls<Arch>(run, s, data);
    }
    if (s.section == "losses") {
      return run_losses<Arch>(run, s, data);
    }
    if (s.section == "radius") {
      return run_radius<Arch>(run, s, data);
    }
    if (s.section == "noise") {
      return run_noise<Arch>(run, s, data);
    }
  }
  throw std::logic_error("no cost of " + s.section + " in " + type_name<T>);
}

} // namespace

template <class T>
double expected_seconds_of_cost(const plan& p, const shape& s) {
  constexpr int benchmarks = 4;
  return is_of_attention(s)
             ? expected_seconds_of_attention(p, s)
             : benchmarks * expected_seconds(p, guess_of_cost, s.rows * s.cols, s.rows * s.cols * sizeof(T));
}

template double expected_seconds_of_cost<float>(const plan&, const shape&);
template double expected_seconds_of_cost<double>(const plan&, const shape&);

template <class T>
int run_cost(const session& run, const shape& s, const row_set<T>& data, int second_core) {
  run.line.begin(s.section + ", " + type_name<T> + ", " + std::to_string(s.rows) + " x " + std::to_string(s.cols));
  if (is_of_attention(s)) {
    return run_attention_cost(run, s, second_core);
  }
  return on_the_best_architecture([&]<class Arch>(Arch) { return run_on<Arch>(run, s, data, second_core); });
}

template int run_cost<float>(const session&, const shape&, const row_set<float>&, int);
template int run_cost<double>(const session&, const shape&, const row_set<double>&, int);

std::string describe_two_threads(int core, int second_core) {
  if (second_core < 0) {
    return "left out: there is no second core";
  }
  two_threads executor(second_core);
  std::vector<double> times(1001);
  for (double& ns : times) {
    const auto begin = std::chrono::steady_clock::now();
    executor(2, [](std::size_t) {});
    ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
  }
  std::nth_element(times.begin(), times.begin() + 500, times.end());
  return "on the cores " + std::to_string(core) + " and " + std::to_string(second_core) +
         (share_a_core(core, second_core) ? ", which are one physical core" : "") + "; an empty call takes " +
         std::to_string(std::lround(times[500])) + " ns";
}

} // namespace bench

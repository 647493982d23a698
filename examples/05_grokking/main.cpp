// SPDX-License-Identifier: MIT
// Grokking: a network knows its training set by heart, and only long after begins to get the test set right. Or never
// does: L. Prieto, M. Barsbey, P. Mediano, T. Birdal, "Grokking at the edge of numerical stability" (2025), blame steps
// that lower the loss by nothing but larger logits, until softmax in float has rounded the probability of every target
// to 1 and there is no gradient left. This program has the same network learn addition modulo p in four ways:
//
//   naive          softmax cross-entropy as usually written, in float
//   softmax        the same function by xsoftmax, which keeps loss and gradient however small they are
//   stablemax      StableMax in the place of softmax
//   perpendicular  softmax, and of each gradient only the part that is perpendicular to the weights
//
// By default p = 41, 70 % of all pairs are for training, and Adam forgets faster than usual (beta2 = 0.99), so that
// minutes are enough. --full is the recipe of the paper: p = 113, 40 %, beta2 = 0.999, 300 epochs for the perpendicular
// gradient, 80000 (an hour or more) for each of the others.
//
//   05_grokking [--method naive|softmax|stablemax|perpendicular|all] [--seed N] [--csv FILE] [--svg FILE] [--full]
//               [--modulus P] [--fraction F] [--epochs N] [--hidden N] [--rate X] [--beta2 X] [--epsilon X]
//   05_grokking --quick     a test of seconds: p = 23, 80 %; exit status 1 unless the perpendicular gradient gets more
//                           than 95 % of the test set right
#include "chart.hpp"
#include "loss.hpp"
#include "network.hpp"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace grokking {
namespace {

struct named_method {
  method which;
  const char* name;
  const char* title;
};

constexpr named_method methods[] = {
    {method::naive, "naive", "naive softmax in float"},
    {method::softmax, "softmax", "softmax by xsoftmax"},
    {method::stablemax, "stablemax", "StableMax"},
    {method::perpendicular, "perpendicular", "perpendicular gradient"},
};

struct settings {
  std::string method = "all";
  std::uint64_t seed = 1;
  int modulus = 41;
  double fraction = 0.7;
  int epochs = 0; ///< 0: the method's own
  int hidden = 200;
  adam_options adam = {.beta2 = 0.99};
  std::string csv, svg;
  bool quick = false;
  bool full = false;
};

template <class T>
T number(std::string_view flag, std::string_view value) {
  T result{};
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), result);
  if (error != std::errc() || end != value.data() + value.size()) {
    throw std::invalid_argument(std::string(flag) + " takes a number, not " + std::string(value));
  }
  return result;
}

settings parse(int argc, char** argv) {
  settings s;
  const auto has = [&](std::string_view flag) { return std::find(argv + 1, argv + argc, flag) != argv + argc; };
  if (has("--full")) {
    s.full = true;
    s.modulus = 113;
    s.fraction = 0.4;
    s.adam.beta2 = 0.999;
  }
  if (has("--quick")) {
    s.quick = true;
    s.method = "perpendicular";
    s.modulus = 23;
    s.fraction = 0.8;
    s.epochs = 500;
    s.adam.rate = 0.005;
  }
  for (int i = 1; i < argc; ++i) {
    const std::string_view flag = argv[i];
    if (flag == "--full" || flag == "--quick") {
      continue;
    }
    if (i + 1 == argc) {
      throw std::invalid_argument("no such option, or no value for it: " + std::string(flag));
    }
    const std::string_view value = argv[++i];
    if (flag == "--method") {
      s.method = value;
    } else if (flag == "--seed") {
      s.seed = number<std::uint64_t>(flag, value);
    } else if (flag == "--modulus") {
      s.modulus = number<int>(flag, value);
    } else if (flag == "--fraction") {
      s.fraction = number<double>(flag, value);
    } else if (flag == "--epochs") {
      s.epochs = number<int>(flag, value);
    } else if (flag == "--hidden") {
      s.hidden = number<int>(flag, value);
    } else if (flag == "--rate") {
      s.adam.rate = number<double>(flag, value);
    } else if (flag == "--epsilon") {
      s.adam.epsilon = number<double>(flag, value);
    } else if (flag == "--beta2") {
      s.adam.beta2 = number<double>(flag, value);
    } else if (flag == "--csv") {
      s.csv = value;
    } else if (flag == "--svg") {
      s.svg = value;
    } else {
      throw std::invalid_argument("no such option: " + std::string(flag));
    }
  }
  const double pairs = std::pow(s.modulus, 2);
  if (s.modulus < 2 || s.modulus > 1000 || !(s.fraction * pairs >= 1) || !(s.fraction < 1) || s.epochs < 0 ||
      s.hidden < 1) {
    throw std::invalid_argument("modulus, fraction, epochs or hidden is out of range");
  }
  return s;
}

int epochs_of(method m, const settings& s) {
  return s.epochs > 0 ? s.epochs : m == method::perpendicular ? 300 : s.full ? 80000 : 6000;
}

/// 1, 2, 5, 10, 20, 50, ...
bool is_round(int epoch) {
  while (epoch % 10 == 0) {
    epoch /= 10;
  }
  return epoch == 1 || epoch == 2 || epoch == 5;
}

history train(const named_method& m, const settings& s) {
  std::mt19937_64 random(s.seed); // so that every method starts from the same weights and the same split
  const data_set data = modular_addition(s.modulus, s.fraction, random);
  network net(s.modulus, s.hidden, random);
  activations x, by, of_test;
  by.logits.resize(data.training.size(), s.modulus);

  history result{m.name, m.title, {}};
  const int epochs = epochs_of(m.which, s);
  std::printf("%s: %d pairs for training, %d for test, %d epochs\n%8s%10s%10s%12s%12s%11s%13s%9s%8s\n", m.title,
              static_cast<int>(data.training.size()), static_cast<int>(data.test.size()), epochs, "epoch", "training",
              "test", "loss", "test loss", "collapsed", "no gradient", "|w|", "s");
  const auto begin = std::chrono::steady_clock::now();
  int next = 1;
  for (int epoch = 1; epoch <= epochs; ++epoch) {
    net.forward(data.training, x);
    const double loss = loss_and_gradient(m.which, x.logits, data.training.sum, by.logits);
    if (epoch == next || epoch == epochs) {
      net.forward(data.test, of_test);
      const point now{
          .epoch = epoch,
          .training_accuracy = accuracy(x.logits, data.training.sum),
          .test_accuracy = accuracy(of_test.logits, data.test.sum),
          .training_loss = loss,
          .test_loss = loss_of(m.which, of_test.logits, data.test.sum),
          .collapsed = collapsed_fraction(m.which, x.logits, data.training.sum),
          .without_gradient = without_gradient(by.logits, data.training.sum),
          .weights = net.norm(),
          .seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
      };
      result.points.push_back(now);
      if (is_round(epoch) || epoch == epochs) {
        std::printf("%8d%9.2f%%%9.2f%%%12.4g%12.4g%10.2f%%%12.2f%%%9.1f%8.1f\n", epoch, 100 * now.training_accuracy,
                    100 * now.test_accuracy, now.training_loss, now.test_loss, 100 * now.collapsed,
                    100 * now.without_gradient, now.weights, now.seconds);
        std::fflush(stdout);
      }
      do { // 3 % further, and no round number is skipped
        ++next;
      } while (next < epoch * 1.03 && !is_round(next));
    }
    net.backward(data.training, x, by);
    for (layer* l : {&net.in, &net.middle, &net.out}) {
      prepare_gradient(m.which, l->weights, l->gradient);
      l->step(s.adam, epoch);
    }
  }
  std::printf("\n");
  return result;
}

void write_csv(const std::string& file, const std::vector<history>& runs) {
  std::ofstream out(file);
  out << "method,epoch,training_accuracy,test_accuracy,training_loss,test_loss,collapsed,without_gradient,weight_norm,"
         "seconds\n";
  for (const history& run : runs) {
    for (const point& p : run.points) {
      out << run.name << ',' << p.epoch << ',' << p.training_accuracy << ',' << p.test_accuracy << ','
          << p.training_loss << ',' << p.test_loss << ',' << p.collapsed << ',' << p.without_gradient << ','
          << p.weights << ',' << p.seconds << '\n';
    }
  }
  if (!out.flush()) {
    throw std::runtime_error("cannot write " + file);
  }
}

} // namespace
} // namespace grokking

int main(int argc, char** argv) try {
  using namespace grokking;
  const settings s = parse(argc, argv);
  std::vector<history> runs;
  for (const named_method& m : methods) {
    if (s.method == "all" || s.method == m.name) {
      runs.push_back(train(m, s));
    }
  }
  if (runs.empty()) {
    throw std::invalid_argument("no such method: " + s.method);
  }
  if (!s.csv.empty()) {
    write_csv(s.csv, runs);
  }
  if (!s.svg.empty()) {
    char title[128];
    std::snprintf(title, sizeof title, "Addition modulo %d, %.0f %% of the pairs for training, seed %llu", s.modulus,
                  100 * s.fraction, static_cast<unsigned long long>(s.seed));
    chart(title, 1.0 / s.modulus, runs).write(s.svg);
  }
  if (s.quick) {
    for (const history& run : runs) {
      if (!(run.points.back().test_accuracy > 0.95)) {
        std::printf("%s: test accuracy is not above 95 %%\n", run.name.c_str());
        return 1;
      }
    }
  }
  return 0;
} catch (const std::exception& e) {
  std::cerr << e.what() << "\n";
  return 2;
}

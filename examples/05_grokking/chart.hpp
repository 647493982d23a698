// SPDX-License-Identifier: MIT
// What a training run went through, and a picture of several of them side by side.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace grokking {

/// What is known of one epoch.
struct point {
  int epoch;
  double training_accuracy, test_accuracy, training_loss, test_loss, collapsed, without_gradient, weights, seconds;
};

/// One training run.
struct history {
  std::string name, title;
  std::vector<point> points;
};

/// An SVG with a column for each run and below one another accuracy, loss and collapse against epochs. Epochs and
/// losses are on logarithmic axes.
class chart {
public:
  chart(const std::string& title, double chance, const std::vector<history>& runs) : runs_(runs), chance_(chance) {
    find_ranges();
    const int width = left + static_cast<int>(runs.size()) * (panel_width + gap) - gap + right;
    const int height = top + 3 * panel_height + 2 * row_gap + bottom;
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n",
        width, height, width, height);
    add("<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height);
    add("<text x=\"%d\" y=\"26\" font-size=\"17\" font-weight=\"bold\">%s</text>\n", left, title.c_str());
    legend();
    for (std::size_t i = 0; i < runs.size(); ++i) {
      column(left + static_cast<int>(i) * (panel_width + gap), runs[i], i == 0);
    }
    text_ += "</svg>\n";
  }

  void write(const std::string& file) const {
    std::ofstream out(file);
    out << text_;
    if (!out.flush()) {
      throw std::runtime_error("cannot write " + file);
    }
  }

private:
  static constexpr int left = 76, right = 24, top = 88, bottom = 52;
  static constexpr int panel_width = 250, panel_height = 150, gap = 30, row_gap = 26;
  // Three of Okabe and Ito's colours, which colour-blind readers can tell apart; dashes and widths tell them apart too.
  static constexpr const char* training_style = "stroke=\"#0072b2\" stroke-width=\"2\" stroke-dasharray=\"6 3\"";
  static constexpr const char* test_style = "stroke=\"#d55e00\" stroke-width=\"2.5\"";
  static constexpr const char* collapse_style = "stroke=\"#009e73\" stroke-width=\"2.5\"";
  static constexpr const char* no_gradient_style = "stroke=\"#000\" stroke-width=\"1.5\" stroke-dasharray=\"2 3\"";
  static constexpr const char* chance_style = "stroke=\"#777\" stroke-width=\"1\" stroke-dasharray=\"1 3\"";

  /// An axis from low to high, in decades if it is logarithmic, over `length` pixels.
  struct axis {
    double low, high;
    bool logarithmic;

    double share(double value) const {
      return logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
    }
  };

  const std::vector<history>& runs_;
  double chance_;
  axis loss_{};
  std::string text_;

  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    char buffer[512];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    text_ += buffer;
  }

  /// One scale of losses for all columns, so that they can be compared: whole decades around all that are not 0.
  void find_ranges() {
    double low = 1;
    double high = 1;
    for (const history& run : runs_) {
      for (const point& p : run.points) {
        for (const double loss : {p.training_loss, p.test_loss}) {
          if (loss > 0 && std::isfinite(loss)) {
            low = std::min(low, loss);
            high = std::max(high, loss);
          }
        }
      }
    }
    loss_ = {std::pow(10, std::floor(std::log10(low))), std::pow(10, std::floor(std::log10(high)) + 1), true};
  }

  void legend() {
    const struct {
      const char* label;
      const char* style;
    } entries[] = {{"training", training_style},
                   {"test", test_style},
                   {"chance", chance_style},
                   {"training: p of the target rounds to 1 in float", collapse_style},
                   {"its gradient is 0", no_gradient_style}};
    int x = left;
    for (const auto& entry : entries) {
      add("<line x1=\"%d\" y1=\"46\" x2=\"%d\" y2=\"46\" %s/>", x, x + 28, entry.style);
      add("<text x=\"%d\" y=\"50\">%s</text>\n", x + 34, entry.label);
      x += 64 + 6 * static_cast<int>(std::string(entry.label).size());
    }
  }

  void column(int x, const history& run, bool first) {
    const axis epochs{1, static_cast<double>(std::max(run.points.back().epoch, 2)), true};
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\">%s</text>\n",
        x + panel_width / 2, top - 10, run.title.c_str());
    int y = top;
    const axis percent{0, 1, false};
    frame(x, y, epochs, percent, first ? "accuracy" : nullptr, false);
    const double at = y + panel_height * (1 - percent.share(chance_));
    add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" %s/>\n", x, at, x + panel_width, at, chance_style);
    curve(x, y, run, epochs, percent, &point::training_accuracy, training_style);
    curve(x, y, run, epochs, percent, &point::test_accuracy, test_style);
    y += panel_height + row_gap;
    frame(x, y, epochs, loss_, first ? "loss" : nullptr, false);
    curve(x, y, run, epochs, loss_, &point::training_loss, training_style);
    curve(x, y, run, epochs, loss_, &point::test_loss, test_style);
    y += panel_height + row_gap;
    frame(x, y, epochs, percent, first ? "share of rows" : nullptr, true);
    curve(x, y, run, epochs, percent, &point::collapsed, collapse_style);
    curve(x, y, run, epochs, percent, &point::without_gradient, no_gradient_style);
  }

  /// Border, grid and what stands beside it. Only the first column names the vertical axis, only the last row epochs.
  void frame(int x, int y, const axis& epochs, const axis& values, const char* label, bool last) {
    for (double tick = 1; tick <= epochs.high; tick *= 10) {
      const double at = x + panel_width * epochs.share(tick);
      add("<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#e4e4e4\"/>", at, y, at, y + panel_height);
      if (last) {
        add("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n", at, y + panel_height + 17, tick);
      }
    }
    const int decades = static_cast<int>(std::lround(std::log10(values.high / std::max(values.low, 1e-300))));
    const int step = values.logarithmic ? std::max(1, (decades + 5) / 6) : 1;
    const int ticks = values.logarithmic ? decades / step : 4;
    for (int i = 0; i <= ticks; ++i) {
      const double tick = values.logarithmic ? values.low * std::pow(10, i * step) : 0.25 * i;
      const double at = y + panel_height * (1 - values.share(tick));
      add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>", x, at, x + panel_width, at);
      if (label != nullptr && values.logarithmic) {
        add("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">10<tspan dy=\"-5\" font-size=\"9\">%.0f</tspan></text>\n",
            x - 7, at + 5, std::log10(tick));
      } else if (label != nullptr) {
        add("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.0f %%</text>\n", x - 7, at + 4, 100 * tick);
      }
    }
    add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", x, y, panel_width,
        panel_height);
    if (label != nullptr) {
      const int middle = y + panel_height / 2;
      add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 %d %d)\">%s</text>\n", x - 54, middle,
          x - 54, middle, label);
    }
    if (last) {
      add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">epoch</text>\n", x + panel_width / 2, y + panel_height + 36);
    }
  }

  void curve(int x, int y, const history& run, const axis& epochs, const axis& values, double point::*value,
             const char* style) {
    bool open = false;
    for (const point& p : run.points) {
      const double v = p.*value;
      if (std::isfinite(v) && (v > 0 || !values.logarithmic)) {
        add("%s%.1f,%.1f ", open ? "" : "<polyline points=\"", x + panel_width * epochs.share(p.epoch),
            y + panel_height * (1 - values.share(v)));
        open = true;
      } else if (open) { // a loss of 0 has no place on a logarithmic axis: the curve ends, or has a gap
        add("\" fill=\"none\" %s/>\n", style);
        open = false;
      }
    }
    if (open) {
      add("\" fill=\"none\" %s/>\n", style);
    }
  }
};

} // namespace grokking

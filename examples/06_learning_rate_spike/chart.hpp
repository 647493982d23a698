// SPDX-License-Identifier: MIT
// A picture of what several methods went through as the learning rate rose.
#pragma once

#include "training.hpp"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <numbers>
#include <stdexcept>
#include <string>
#include <vector>

namespace spike {

/// The runs of one method, which differ in nothing but the seed, in a column of the picture.
struct group {
  std::size_t column;
  method which;
  std::vector<history> runs;
};

/// An SVG with a column for each learning rate and below one another the loss and r against the step, on logarithmic
/// axes: the median over the seeds, and in a paler colour all between the least and the greatest.
class chart {
public:
  chart(const std::string& title, const std::vector<std::string>& columns, const std::vector<group>& groups, int spike)
      : columns_(columns), groups_(groups), panel_width_(std::max(330, (1042 + gap) / count(columns.size()) - gap)),
        steps_(groups.front().runs.front().points.back().step), spike_(spike) {
    loss_ = range(&point::training_loss);
    ratio_ = range(&point::ratio);
    const int width = left + count(columns.size()) * (panel_width_ + gap) - gap + right;
    const int height = top + 2 * panel_height + row_gap + bottom;
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n",
        width, height, width, height);
    add("<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height);
    add("<text x=\"%d\" y=\"26\" font-size=\"17\" font-weight=\"bold\">%s</text>\n", left, title.c_str());
    legend();
    for (std::size_t i = 0; i < columns.size(); ++i) {
      column(left + count(i) * (panel_width_ + gap), i);
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
  static constexpr int panel_height = 190, gap = 26, row_gap = 26;

  /// Three of Okabe and Ito's colours, which colour-blind readers can tell apart; dashes and widths tell them apart
  /// too.
  struct style {
    const char* label;
    const char* colour;
    const char* line;
  };

  static style style_of(method m) {
    switch (m) {
    case method::plain:
      return {"plain Adam", "#d55e00", "stroke-width=\"2\""};
    case method::clipping:
      return {"gradients clipped to norm 1", "#0072b2", "stroke-width=\"2\" stroke-dasharray=\"7 3\""};
    case method::controller:
      break;
    }
    return {"controller", "#009e73", "stroke-width=\"3\""};
  }

  static constexpr const char* wanted_line = "stroke-width=\"1.5\" stroke-dasharray=\"2 3\"";
  static constexpr const char* spike_colour = "#777";
  static constexpr const char* spike_line = "stroke-width=\"1\" stroke-dasharray=\"4 3\"";

  static constexpr const char* guess_colour = "#444";
  static constexpr const char* guess_line = "stroke-width=\"1\" stroke-dasharray=\"1 3\"";

  /// A logarithmic axis of whole decades.
  struct axis {
    int low, high;

    double share(double value) const { return (std::log10(value) - low) / (high - low); }
  };

  const std::vector<std::string>& columns_;
  const std::vector<group>& groups_;
  int panel_width_, steps_, spike_;
  axis loss_{}, ratio_{};
  std::string text_;

  static int count(std::size_t n) { return static_cast<int>(n); }

  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    char buffer[512];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    text_ += buffer;
  }

  static bool can_be_drawn(double value) { return value > 0 && std::isfinite(value); }

  /// One scale for all columns, so that they can be compared.
  axis range(double point::*value) const {
    double low = 1;
    double high = 1;
    for (const group& g : groups_) {
      for (const history& run : g.runs) {
        for (const point& p : run.points) {
          if (can_be_drawn(p.*value)) {
            low = std::min(low, p.*value);
            high = std::max(high, p.*value);
          }
        }
      }
    }
    return {static_cast<int>(std::floor(std::log10(low))), static_cast<int>(std::floor(std::log10(high))) + 1};
  }

  void legend() {
    int x = left;
    const auto entry = [&](const char* label, const char* colour, const char* line) {
      add("<line x1=\"%d\" y1=\"46\" x2=\"%d\" y2=\"46\" stroke=\"%s\" %s/>", x, x + 32, colour, line);
      add("<text x=\"%d\" y=\"50\">%s</text>\n", x + 38, label);
      x += 62 + 6 * count(std::string(label).size());
    };
    for (const method m : {method::plain, method::clipping, method::controller}) {
      if (std::any_of(groups_.begin(), groups_.end(), [&](const group& g) { return g.which == m; })) {
        entry(style_of(m).label, style_of(m).colour, style_of(m).line);
      }
    }
    entry("what the controller cuts to r = 1", style_of(method::controller).colour, wanted_line);
    entry("the rate rises", spike_colour, spike_line);
    entry("loss of a guess, ln 10", guess_colour, guess_line);
  }

  void column(int x, std::size_t index) {
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\">%s</text>\n",
        x + panel_width_ / 2, top - 10, columns_[index].c_str());
    const int below = top + panel_height + row_gap;
    frame(x, top, loss_, index == 0 ? "training loss" : nullptr, false);
    frame(x, below, ratio_, index == 0 ? "r = step / radius" : nullptr, true);
    const double guess = top + panel_height * (1 - loss_.share(std::numbers::ln10));
    add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"%s\" %s/>\n", x, guess, x + panel_width_, guess,
        guess_colour, guess_line);
    const double one = below + panel_height * (1 - ratio_.share(1));
    add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#000\" stroke-width=\"1.2\"/>"
        "<text x=\"%d\" y=\"%.1f\">r = 1</text>\n",
        x, one, x + panel_width_, one, x + 5, one - 5);
    int line = top + 18;
    for (const group& g : groups_) {
      if (g.column == index) {
        add("<text x=\"%d\" y=\"%d\" text-anchor=\"end\" fill=\"%s\">test accuracy in the end %.1f %%</text>\n",
            x + panel_width_ - 8, line, style_of(g.which).colour, 100 * accuracy_in_the_end(g));
        line += 16;
      }
    }
    const auto loss = [](const point& p) { return p.training_loss; };
    const auto taken = [](const point& p) { return p.taken_ratio(); };
    const auto wanted = [](const point& p) { return p.ratio; };
    for (const group& g : groups_) {
      if (g.column == index) {
        band(x, top, g, loss_, loss);
        band(x, below, g, ratio_, taken);
      }
    }
    for (const group& g : groups_) {
      if (g.column == index) {
        curve(x, top, g, loss_, loss, style_of(g.which).line);
        curve(x, below, g, ratio_, taken, style_of(g.which).line);
        if (g.which == method::controller) {
          curve(x, below, g, ratio_, wanted, wanted_line);
        }
      }
    }
  }

  /// Mean over the seeds.
  static double accuracy_in_the_end(const group& g) {
    double sum = 0;
    for (const history& run : g.runs) {
      sum += run.points.back().test_accuracy;
    }
    return sum / static_cast<double>(g.runs.size());
  }

  double horizontal(int x, int step) const { return x + static_cast<double>(panel_width_) * step / steps_; }

  /// Border, grid and what stands beside it. Only the first column names the vertical axis, only the last row steps.
  void frame(int x, int y, const axis& values, const char* label, bool last) {
    for (int i = 0; i <= 4; ++i) {
      const int step = steps_ * i / 4;
      const double at = horizontal(x, step);
      add("<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#e4e4e4\"/>", at, y, at, y + panel_height);
      if (last) {
        add("<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%d</text>\n", at, y + panel_height + 17, step);
      }
    }
    const int every = std::max(1, (values.high - values.low + 5) / 7);
    for (int decade = values.low; decade <= values.high; decade += every) {
      const double at = y + panel_height * (1 - values.share(std::pow(10, decade)));
      add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>", x, at, x + panel_width_, at);
      if (label != nullptr) {
        add("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">10<tspan dy=\"-5\" font-size=\"9\">%d</tspan></text>\n",
            x - 7, at + 5, decade);
      }
    }
    const double rise = horizontal(x, spike_);
    add("<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"%s\" %s/>\n", rise, y, rise, y + panel_height,
        spike_colour, spike_line);
    add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", x, y, panel_width_,
        panel_height);
    if (label != nullptr) {
      const int middle = y + panel_height / 2;
      add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 %d %d)\">%s</text>\n", x - 54, middle,
          x - 54, middle, label);
    }
    if (last) {
      add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n", x + panel_width_ / 2, y + panel_height + 36);
    }
  }

  /// What the runs have at this step, in order, without what has no place on a logarithmic axis.
  template <class Value>
  static std::vector<double> at_step(const group& g, std::size_t step, Value value) {
    std::vector<double> values;
    for (const history& run : g.runs) {
      const double v = value(run.points[step]);
      if (can_be_drawn(v)) {
        values.push_back(v);
      }
    }
    std::sort(values.begin(), values.end());
    return values;
  }

  /// points="..." of `of(values)` at all steps, forwards or backwards.
  template <class Value, class Statistic>
  void points(int x, int y, const group& g, const axis& scale, Value value, Statistic of, bool backwards = false) {
    for (int i = 0; i <= steps_; ++i) {
      const int step = backwards ? steps_ - i : i;
      const std::vector<double> values = at_step(g, static_cast<std::size_t>(step), value);
      if (!values.empty()) {
        add("%.1f,%.1f ", horizontal(x, step), y + panel_height * (1 - scale.share(of(values))));
      }
    }
  }

  template <class Value>
  void band(int x, int y, const group& g, const axis& scale, Value value) {
    text_ += "<polygon points=\"";
    points(x, y, g, scale, value, [](const auto& v) { return v.back(); });
    points(
        x, y, g, scale, value, [](const auto& v) { return v.front(); }, true);
    add("\" fill=\"%s\" fill-opacity=\"0.15\"/>\n", style_of(g.which).colour);
  }

  template <class Value>
  void curve(int x, int y, const group& g, const axis& scale, Value value, const char* line) {
    text_ += "<polyline points=\"";
    points(x, y, g, scale, value, [](const auto& v) { return v[v.size() / 2]; });
    add("\" fill=\"none\" stroke=\"%s\" %s/>\n", style_of(g.which).colour, line);
  }
};

} // namespace spike

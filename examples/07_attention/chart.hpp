// SPDX-License-Identifier: MIT
// A picture: who looks where, what is left of it as the sequence grows, and how long a call takes.
#pragma once

#include "attend.hpp"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace attention {

/// What one kind did.
struct result {
  struct point {
    std::size_t length;
    double value;
  };

  kind which;
  matrix weights;
  std::vector<point> found;   ///< share of the weight on the right key
  std::vector<point> seconds; ///< of a call
};

/// An SVG with heat maps of the weights above two panels of curves against the length of the sequence.
class chart {
public:
  chart(const sequence& s, const std::vector<result>& results) : results_(results) {
    constexpr int width = left + maps * map_size + (maps - 1) * map_gap + right;
    constexpr int height = curves_top + panel_height + bottom;
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
        "font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\" fill=\"#222\">\n",
        width, height, width, height);
    add("<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n", width, height);
    add("<text x=\"%d\" y=\"26\" font-size=\"17\" font-weight=\"bold\">Causal attention in a sequence with a phrase "
        "that "
        "comes three times</text>\n",
        left);
    levels();
    map(0, "the right keys", [&](std::size_t i, std::size_t j) { return s.is_right(i, j) ? 1.0 : 0.0; });
    for (std::size_t r = 0; r < results.size(); ++r) {
      const matrix& w = results[r].weights;
      map(static_cast<int>(r) + 1, name_of(results[r].which),
          [&](std::size_t i, std::size_t j) { return static_cast<double>(w(i, j)); });
    }
    legend();
    constexpr int panel_width = (width - left - right - panel_gap) / 2;
    panel(left, panel_width, "share of the weight on the one right key", &result::found, false);
    panel(left + panel_width + panel_gap, panel_width, "time of a causal call, depth 64, one thread", &result::seconds,
          true);
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
  static constexpr int left = 66, right = 24, bottom = 52;
  static constexpr int maps = 1 + static_cast<int>(std::size(kinds)), cell = 3, map_gap = 14, maps_top = 88;
  static constexpr int map_size = cell * static_cast<int>(sequence::length);
  static constexpr int legend_top = maps_top + map_size + 48, curves_top = legend_top + 50;
  static constexpr int panel_height = 230, panel_gap = 74;

  /// Weights in half decades, and 0 itself apart from them. From light to dark, so that no eye needs the hues.
  struct level {
    double from;
    const char* colour;
    const char* label;
  };

  static constexpr level shades[] = {
      {0, "#f4eeb8", "below 0.001"},    {1e-3, "#cfe3a2", "0.001"},   {3.16e-3, "#8fcfa5", "0.003"},
      {1e-2, "#4fb3ae", "0.01"},        {3.16e-2, "#2f86b4", "0.03"}, {1e-1, "#3355a5", "0.1"},
      {3.16e-1, "#241a5c", "0.3 to 1"},
  };
  static constexpr const char* unseen_colour = "#e3e3e3";

  /// Okabe and Ito's colours, which colour-blind readers can tell apart; dashes tell the curves apart too.
  static const char* style_of(kind which) {
    switch (which) {
    case kind::softmax:
      return "stroke=\"#0072b2\" stroke-width=\"2.5\"";
    case kind::sigmoid:
      return "stroke=\"#d55e00\" stroke-width=\"2.5\" stroke-dasharray=\"9 3\"";
    case kind::lssa:
      return "stroke=\"#009e73\" stroke-width=\"2.5\" stroke-dasharray=\"5 3\"";
    case kind::lssar_3:
      return "stroke=\"#cc79a7\" stroke-width=\"2.5\" stroke-dasharray=\"9 3 2 3\"";
    case kind::lssar_15:
      break;
    }
    return "stroke=\"#000\" stroke-width=\"2.5\" stroke-dasharray=\"2 2\"";
  }

  const std::vector<result>& results_;
  std::string text_;

  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    char buffer[512];
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    text_ += buffer;
  }

  void levels() {
    int x = left;
    const auto entry = [&](const char* colour, const char* label) {
      add("<rect x=\"%d\" y=\"40\" width=\"16\" height=\"12\" fill=\"%s\" stroke=\"#888\" stroke-width=\"0.5\"/>"
          "<text x=\"%d\" y=\"50\">%s</text>\n",
          x, colour, x + 22, label);
      x += 46 + 7 * static_cast<int>(std::string(label).size());
    };
    add("<text x=\"%d\" y=\"50\">weight:</text>\n", x);
    x += 56;
    entry("#fff", "exactly 0");
    for (const level& l : shades) {
      entry(l.colour, l.label);
    }
    entry(unseen_colour, "later keys: not seen");
  }

  /// Queries from top to bottom, keys from left to right. Neighbours of one shade are drawn in one stroke.
  template <class Weight>
  void map(int column, const char* title, Weight weight) {
    const int x = left + column * (map_size + map_gap);
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\">%s</text>\n",
        x + map_size / 2, maps_top - 9, title);
    add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\"/>\n", x, maps_top, map_size, map_size,
        unseen_colour);
    add("<g transform=\"translate(%d %d) scale(%d)\" fill=\"none\" shape-rendering=\"crispEdges\">\n", x, maps_top,
        cell);
    constexpr int count = static_cast<int>(std::size(shades));
    for (int shade = -1; shade < count; ++shade) {
      std::string path;
      for (std::size_t i = 0; i < sequence::length; ++i) {
        for (std::size_t j = 0; j <= i;) {
          std::size_t end = j;
          while (end <= i && shade_of(weight(i, end)) == shade) {
            ++end;
          }
          if (end > j) {
            path += "M" + std::to_string(j) + " " + std::to_string(i) + ".5h" + std::to_string(end - j);
          }
          j = end > j ? end : j + 1;
        }
      }
      if (!path.empty()) {
        add("<path stroke=\"%s\" d=\"", shade < 0 ? "#fff" : shades[shade].colour);
        text_ += path + "\"/>\n";
      }
    }
    text_ += "</g>\n";
    add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", x, maps_top, map_size,
        map_size);
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">key</text>\n", x + map_size / 2, maps_top + map_size + 16);
    if (column == 0) {
      upright(x - 10, maps_top + map_size / 2, "query");
    }
  }

  static int shade_of(double weight) {
    int shade = -1;
    for (const level& l : shades) {
      shade += weight > 0 && weight >= l.from ? 1 : 0;
    }
    return shade;
  }

  void legend() {
    int x = left;
    const auto entry = [&](const char* label, const char* line) {
      add("<line x1=\"%d\" y1=\"%d\" x2=\"%d\" y2=\"%d\" %s/>", x, legend_top - 4, x + 36, legend_top - 4, line);
      add("<text x=\"%d\" y=\"%d\">%s</text>\n", x + 42, legend_top, label);
      x += 76 + 7 * static_cast<int>(std::string(label).size());
    };
    for (const result& r : results_) {
      entry(name_of(r.which), style_of(r.which));
    }
    entry("four times the time for twice the length", guide_line);
  }

  static constexpr const char* guide_line = "stroke=\"#777\" stroke-width=\"1.2\"";

  /// A logarithmic axis.
  struct axis {
    double low, high;

    double share(double value) const { return std::log(value / low) / std::log(high / low); }
  };

  void panel(int x, int width, const char* title, std::vector<result::point> result::*curve, bool time) {
    axis lengths{1e300, 0};
    axis values{time ? 1e300 : 0.0007, time ? 0.0 : 1.25};
    for (const result& r : results_) {
      for (const result::point& p : r.*curve) {
        lengths.low = std::min(lengths.low, static_cast<double>(p.length));
        lengths.high = std::max(lengths.high, static_cast<double>(p.length));
        if (time) {
          values.low = std::min(values.low, std::pow(10, std::floor(std::log10(p.value))));
          values.high = std::max(values.high, 1.5 * p.value);
        }
      }
    }
    const auto horizontal = [&](double length) { return x + width * lengths.share(length); };
    const auto vertical = [&](double value) { return curves_top + panel_height * (1 - values.share(value)); };
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" font-size=\"14\" font-weight=\"bold\">%s</text>\n",
        x + width / 2, curves_top - 9, title);
    for (double n = lengths.low; n <= lengths.high; n *= 2) {
      add("<line x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\" stroke=\"#e4e4e4\"/>"
          "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f</text>\n",
          horizontal(n), curves_top, horizontal(n), curves_top + panel_height, horizontal(n),
          curves_top + panel_height + 17, n);
    }
    for (double value = time ? values.low : 0.001; value <= values.high; value *= 10) {
      add("<line x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\" stroke=\"#e4e4e4\"/>", x, vertical(value), x + width,
          vertical(value));
      add("<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", x - 7, vertical(value) + 4,
          time ? time_label(value).c_str() : share_label(value).c_str());
    }
    add("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"none\" stroke=\"#888\"/>\n", x, curves_top, width,
        panel_height);
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">length of the sequence</text>\n", x + width / 2,
        curves_top + panel_height + 36);
    if (time) { // through the longest sequence of the fastest
      double fastest = values.high;
      for (const result& r : results_) {
        fastest = std::min(fastest, (r.*curve).back().value);
      }
      fastest *= 0.6;
      const double until = std::max(lengths.low, lengths.high * std::sqrt(values.low / fastest));
      add("<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" %s/>\n", horizontal(until),
          vertical(fastest * std::pow(until / lengths.high, 2)), horizontal(lengths.high), vertical(fastest),
          guide_line);
    }
    for (const result& r : results_) {
      text_ += "<polyline points=\"";
      for (const result::point& p : r.*curve) {
        add("%.1f,%.1f ", horizontal(static_cast<double>(p.length)), vertical(std::max(p.value, values.low)));
      }
      add("\" fill=\"none\" %s/>\n", style_of(r.which));
    }
  }

  static std::string share_label(double value) {
    char label[32];
    std::snprintf(label, sizeof label, "%g %%", 100 * value);
    return label;
  }

  static std::string time_label(double seconds) {
    char label[32];
    const bool micro = seconds < 0.9e-3;
    const bool milli = seconds < 0.9;
    std::snprintf(label, sizeof label, "%.0f %s",
                  seconds * (micro   ? 1e6
                             : milli ? 1e3
                                     : 1),
                  micro   ? "us"
                  : milli ? "ms"
                          : "s");
    return label;
  }

  void upright(int x, int y, const char* label) {
    add("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 %d %d)\">%s</text>\n", x, y, x, y,
        label);
  }
};

} // namespace attention

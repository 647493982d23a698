# SPDX-License-Identifier: MIT
"""The charts of the report: one function each, all returning SVG text."""

import io
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from results import (ALGORITHMS, ATTENTION_NAMES, LIMIT, OWN, RIVALS, attention_rate, attention_rates,
                     two_pass_comparisons)

# One colour per algorithm and per peer, everywhere. The algorithms' are told apart by readers who see no red or green.
COLOURS = {
    "two_pass": "#0b62b8",
    "three_pass_recompute": "#e0861a",
    "three_pass_reload": "#b3342d",
    "online": "#2a9d8f",
    "automatic": "#16202c",
    "oneDNN": "#7a4fb0",
    "XNNPACK": "#97711a",
    "Eigen": "#4f8f2f",
    "libtorch": "#ee4c2c",
    "OpenBLAS": "#c79a00",
    "fast-math loop": "#d0569b",
    "std::exp loop": "#8a939d",
}
ARCHITECTURE_COLOURS = {"avx512": "#16202c", "avx2": "#5d6d7e", "sse2": "#aab4be"}
NAMES = {
    "two_pass": "two-pass",
    "three_pass_recompute": "three-pass, recompute",
    "three_pass_reload": "three-pass, reload",
    "online": "online",
    "automatic": "automatic",
    "row_by_row": "automatic, a call for each row",
    "sse2": "SSE2",
    "avx2": "AVX2 + FMA",
    "avx512": "AVX-512",
}
INK, MUTED, GRID, FLOOR = "#16202c", "#5d6d7e", "#e3e8ed", "#8a939d"

plt.rcParams.update({
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": "#b6c0ca",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "path",
})

BANDS = "Bands: middle half of the repetitions."


def number(value):
    """A number as an axis shows it: 0.05, 0.2, 1, 30."""
    return f"{value:g}"


def length(n):
    """A length in words of at most a few characters: 300, 3k, 10M."""
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if n >= size:
            return f"{n / size:g}{unit}"
    return str(n)


def colour_of(who):
    return COLOURS.get(who, MUTED)


def as_svg(figure, name, background="none", pad=0.06):
    """The figure as an SVG element: no header, ids that are unique on a page with several figures, no date."""
    text = io.StringIO()
    plt.rcParams["svg.hashsalt"] = name
    figure.savefig(text, format="svg", facecolor=background, bbox_inches="tight", pad_inches=pad,
                   metadata={"Date": None, "Creator": None})
    plt.close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(xlink:href=")#', rf"\1#{name}-", svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    return svg


def log_length_axis(axis, shapes):
    axis.set_xscale("log")
    lengths = [c for _, c in shapes]
    axis.set_xlim(min(lengths) * 0.8, max(lengths) * 1.25)
    axis.xaxis.set_major_locator(LogLocator(base=10, numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: length(int(v)) if v >= 1 else ""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(True, which="major", color=GRID, linewidth=0.8)
    axis.set_xlabel("row length n")


def log_time_axis(axis, unit="ns per element"):
    axis.set_yscale("log")
    ticks = [m * 10.0**e for e in range(-3, 4) for m in (1, 2, 5)]
    low, high = axis.get_ylim()
    axis.set_yticks([t for t in ticks if low * 0.999 <= t <= high * 1.001])
    axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="y", which="minor", length=0)
    if unit:
        axis.set_ylabel(unit)


def mark_caches(axis, results, type_, label=True):
    """Where input and output together fill a cache."""
    element = {"float": 4, "double": 8}[type_]
    left, right = axis.get_xlim()
    for name, size in results.cache_sizes():
        n = size / (2 * element)
        if left < n < right:
            axis.axvline(n, color="#c3ccd5", linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
            if label:
                axis.annotate(name, (n, 1), xycoords=("data", "axes fraction"), xytext=(0, 1),
                              textcoords="offset points", ha="center", va="bottom", fontsize=7.5, color=MUTED)


def draw_series(axis, points, colour, **style):
    """points: [(n, Measurement)]; the median as a line, the quartiles as a band."""
    if not points:
        return
    points = sorted(points, key=lambda p: p[0])
    n = [p[0] for p in points]
    axis.plot(n, [m.median for _, m in points], color=colour, **style)
    axis.fill_between(n, [m.low for _, m in points], [m.high for _, m in points], color=colour, alpha=0.16,
                      linewidth=0)


def algorithm_points(results, type_, architecture, algorithm, store):
    """In cache there is one kind of store; beyond it `store` chooses, and the line starts at the last point in cache."""
    points, last_in_cache = [], None
    for rows, cols in results.shapes("length", type_):
        in_cache = results.get("length", type_, rows, cols, OWN, architecture, algorithm, "automatic")
        chosen = results.get("length", type_, rows, cols, OWN, architecture, algorithm, store)
        if in_cache:
            last_in_cache = (cols, in_cache)
            if store == "streaming" or algorithm == "automatic":
                points.append(last_in_cache)
        elif chosen:
            if not points and last_in_cache:
                points.append(last_in_cache)
            points.append((cols, chosen))
    return points


def floor_points(results, section, type_):
    points = [(cols, results.floor(section, type_, rows, cols)) for rows, cols in results.shapes(section, type_)]
    return [(n, v) for n, v in points if v]


def top_legend(figure, handles, columns=None, y=1.0):
    figure.legend(handles=handles, loc="lower center", ncol=columns or len(handles), bbox_to_anchor=(0.5, y),
                  handlelength=1.8, columnspacing=1.6)


def algorithm_handles(algorithms=ALGORITHMS, stores=True, floor=True):
    handles = [Line2D([], [], color=COLOURS[a], label=NAMES[a],
                      **({"linewidth": 1.3, "marker": "o", "markersize": 3} if a == "automatic" else {}))
               for a in algorithms]
    if stores:
        handles.append(Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1.3,
                              label="the same with ordinary stores"))
    if floor:
        handles.append(Line2D([], [], color=FLOOR, linestyle=(0, (1, 1.2)), linewidth=1.6,
                              label="limit: a read pass and a copy"))
    return handles


def draw_algorithms(axis, results, type_, architecture, algorithms=ALGORITHMS):
    floor = floor_points(results, "length", type_)
    axis.plot([n for n, _ in floor], [v for _, v in floor], color=FLOOR, linestyle=(0, (1, 1.2)), linewidth=1.6)
    for algorithm in algorithms:
        style = {"linewidth": 1.0, "marker": "o", "markersize": 2.6, "zorder": 3} if algorithm == "automatic" else {}
        draw_series(axis, algorithm_points(results, type_, architecture, algorithm, "streaming"), COLOURS[algorithm],
                    **style)
        if algorithm != "automatic":
            draw_series(axis, algorithm_points(results, type_, architecture, algorithm, "cached"), COLOURS[algorithm],
                        linestyle=(0, (3, 2)), linewidth=1.3)


def time_chart(results, type_):
    architectures = results.architectures()
    shapes = results.shapes("length", type_)
    figure, axes = plt.subplots(1, len(architectures), figsize=(11.6, 4.2), sharey=True, squeeze=False)
    for axis, architecture in zip(axes[0], architectures):
        draw_algorithms(axis, results, type_, architecture)
        log_length_axis(axis, shapes)
        axis.set_title(NAMES[architecture], pad=16)
        axis.set_yscale("log")
    for i, axis in enumerate(axes[0]):
        log_time_axis(axis, "ns per element" if i == 0 else "")
        mark_caches(axis, results, type_)
    figure.tight_layout(w_pad=1.2)
    top_legend(figure, algorithm_handles(), columns=4)
    return as_svg(figure, f"time-{type_}")


def ratio_chart(results, type_):
    """As the paper plots it, two-pass relative to three-pass, one panel per architecture; both three-pass algorithms."""
    architectures = results.architectures()
    figure, axes = plt.subplots(1, len(architectures), figsize=(11.6, 3.6), sharey=True, squeeze=False)
    for axis, architecture in zip(axes[0], architectures):
        log_length_axis(axis, results.shapes("length", type_))
        axis.set_title(NAMES[architecture], pad=16)
        for rival in RIVALS:
            comparisons = two_pass_comparisons(results, type_, architecture, [rival])
            in_cache = [c for c in comparisons if c.store == "automatic"]
            for store, style in (("streaming", {}), ("cached", {"linestyle": (0, (3, 2)), "linewidth": 1.4})):
                line = (in_cache if store == "streaming" else in_cache[-1:]) + [c for c in comparisons
                                                                                if c.store == store]
                n = [c.cols for c in line]
                axis.plot(n, [c.ratio for c in line], color=COLOURS[rival], marker="o", markersize=2.8, **style)
                axis.fill_between(n, [c.low for c in line], [c.high for c in line], color=COLOURS[rival], alpha=0.14,
                                  linewidth=0)
        axis.axhline(1, color=INK, linewidth=1.1)
    low, high = axes[0][0].get_ylim()
    low, high = min(low, 0.5), max(high, 1.3) + 0.06
    for axis in axes[0]:
        axis.set_ylim(low, high)
        axis.axhspan(1, high, color=COLOURS["two_pass"], alpha=0.05, linewidth=0, zorder=-1)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.1f}×"))
        mark_caches(axis, results, type_)
        axis.text(0.015, 0.97, "two-pass faster", transform=axis.transAxes, fontsize=8, color=COLOURS["two_pass"],
                  va="top")
        axis.text(0.985, 0.03, "three-pass faster", transform=axis.transAxes, fontsize=8, color=MUTED, ha="right")
    axes[0][0].set_ylabel("time of three-pass\n/ time of two-pass")
    figure.tight_layout(w_pad=1.2)
    handles = [Line2D([], [], color=COLOURS[rival], marker="o", markersize=3, label=f"two-pass over {NAMES[rival]}")
               for rival in RIVALS]
    top_legend(figure, handles + [
        Line2D([], [], color=MUTED, linestyle=(0, (3, 2)), linewidth=1.4, label="the same, both with ordinary stores"),
        Line2D([], [], color=INK, linewidth=1.1, label="break-even")])
    return as_svg(figure, f"ratio-{type_}")


# Accesses to memory per element: reads + writes of all passes.
TRAFFIC = {"three_pass_recompute": 4, "three_pass_reload": 5, "two_pass": 3, "online": 3}
LIMIT_STYLES = {"read": ("read pass", 1, "-"), "copy": ("copy", 2, (0, (5, 2))),
                "copy_nontemporal": ("copy, non-temporal", 2, (0, (1, 1.2)))}


def bandwidth_chart(results, type_):
    architectures = results.architectures()
    element = {"float": 4, "double": 8}[type_]
    shapes = results.shapes("length", type_)
    figure, axes = plt.subplots(1, len(architectures), figsize=(11.6, 3.5), sharey=True, squeeze=False)
    for axis, architecture in zip(axes[0], architectures):
        for limit, (_, accesses, line) in LIMIT_STYLES.items():
            points = [(c, results.get("length", type_, r, c, LIMIT, algorithm=limit)) for r, c in shapes]
            points = [(c, accesses * element / m.median) for c, m in points if m]
            axis.plot([c for c, _ in points], [b for _, b in points], color=FLOOR, linestyle=line, linewidth=1.2)
        for algorithm, accesses in TRAFFIC.items():
            for store, style in (("streaming", {}), ("cached", {"linestyle": (0, (3, 2)), "linewidth": 1.3})):
                points = algorithm_points(results, type_, architecture, algorithm, store)
                n = [c for c, _ in points]
                axis.plot(n, [accesses * element / m.median for _, m in points], color=COLOURS[algorithm], **style)
                axis.fill_between(n, [accesses * element / m.high for _, m in points],
                                  [accesses * element / m.low for _, m in points], color=COLOURS[algorithm],
                                  alpha=0.14, linewidth=0)
        log_length_axis(axis, shapes)
        axis.set_title(NAMES[architecture], pad=16)
        axis.set_yscale("log")
    for i, axis in enumerate(axes[0]):
        log_time_axis(axis, "GB/s" if i == 0 else "")
        mark_caches(axis, results, type_)
    figure.tight_layout(w_pad=1.2)
    handles = algorithm_handles(list(TRAFFIC), floor=False)
    handles += [Line2D([], [], color=FLOOR, linestyle=line, linewidth=1.3, label=f"limit: {name}")
                for name, _, line in LIMIT_STYLES.values()]
    top_legend(figure, handles, columns=4)
    return as_svg(figure, f"bandwidth-{type_}")


def peer_chart(results):
    types = results.types("length")
    best = results.architectures()[-1]
    figure, axes = plt.subplots(1, len(types), figsize=(11.6, 4.0), sharey=True, squeeze=False)
    for i, (axis, type_) in enumerate(zip(axes[0], types)):
        shapes = results.shapes("length", type_)
        floor = floor_points(results, "length", type_)
        axis.plot([n for n, _ in floor], [v for _, v in floor], color=FLOOR, linestyle=(0, (1, 1.2)), linewidth=1.6)
        for who in results.peers(section="length", type=type_):
            points = [(c, results.get("length", type_, r, c, who)) for r, c in shapes]
            draw_series(axis, [p for p in points if p[1]], colour_of(who))
        points = [(c, results.get("length", type_, r, c, OWN, best, "automatic")) for r, c in shapes]
        draw_series(axis, [p for p in points if p[1]], COLOURS["automatic"], linewidth=2.4, zorder=3)
        log_length_axis(axis, shapes)
        axis.set_title(type_, pad=16)
        axis.set_yscale("log")
    for i, axis in enumerate(axes[0]):
        log_time_axis(axis, "ns per element" if i == 0 else "")
        mark_caches(axis, results, types[i])
    figure.tight_layout(w_pad=1.2)
    handles = [Line2D([], [], color=COLOURS["automatic"], linewidth=2.4, label=f"xsoftmax automatic, {NAMES[best]}")]
    handles += [Line2D([], [], color=colour_of(who), label=who) for who in results.peers(section="length")]
    handles.append(algorithm_handles([], stores=False)[0])
    top_legend(figure, handles, columns=7)
    return as_svg(figure, "peers")


CAUSAL = (0, (3, 2))
# Colour and line of what is measured of attention; peers have their own colours.
ATTENTION_STYLES = {
    "softmax": ("#16202c", "-"),
    "softmax_causal": ("#16202c", CAUSAL),
    "softmax_backward": ("#16202c", (0, (1, 1.2))),
    "sigmoid": ("#0b62b8", "-"),
    "sigmoid_backward": ("#0b62b8", (0, (1, 1.2))),
    "lssa": ("#2a9d8f", "-"),
    "lssa_backward": ("#2a9d8f", (0, (1, 1.2))),
    "lssar": ("#2a9d8f", (0, (3, 2))),
    "multiply_adds": (FLOOR, (0, (5, 2))),
}


def attention_chart(results):
    best = results.architectures()[-1]
    depths = sorted({depth for _, depth in results.shapes("attention", "float")})
    shown = [f for f in attention_rates(results) if f[0] == best or f[0] not in ARCHITECTURE_COLOURS]
    figure, axes = plt.subplots(1, len(depths), figsize=(11.6, 4.4), sharey=True, squeeze=False)
    handles = []
    for axis, depth in zip(axes[0], depths):
        for who, name, found in shown:
            colour, line = ATTENTION_STYLES.get(name, (colour_of(who), CAUSAL if name == "attention_causal" else "-"))
            lengths = sorted(n for n, d in found if d == depth)
            rates = [attention_rate(name, n, found[n, depth]) for n in lengths]
            style = {"color": colour, "linestyle": line, "linewidth": 2.4 if name == "softmax" else 1.7}
            axis.plot(lengths, [r[0] for r in rates], marker="o", markersize=2.8, **style)
            axis.fill_between(lengths, [r[1] for r in rates], [r[2] for r in rates], color=colour, alpha=0.14, linewidth=0)
            if depth == depths[0]:
                words = ATTENTION_NAMES[name]
                handles.append(Line2D([], [], label=words if who == best else f"{who}: {words}", **style))
        axis.set_xscale("log", base=2)
        axis.set_xticks(sorted({n for n, d in results.shapes("attention", "float") if d == depth}))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(True, color=GRID, linewidth=0.8)
        axis.set_xlabel("queries and keys n")
        axis.set_title(f"depth {depth}, {NAMES[best]}")
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("GFLOP/s")
    figure.tight_layout(w_pad=1.2)
    top_legend(figure, handles, columns=6)
    return as_svg(figure, "attention")


def dot_rows(results, section, type_, shapes, label):
    """One line per shape, one dot per contender: for shapes that form no curve."""
    architectures = results.architectures()
    peers = results.peers(section=section, type=type_)
    figure, axis = plt.subplots(figsize=(11.6, 0.95 + 0.52 * len(shapes)))
    for y, (rows, cols) in enumerate(shapes):
        axis.axhline(y, color=GRID, linewidth=0.8, zorder=0)
        floor = results.floor(section, type_, rows, cols)
        if floor:
            axis.plot([floor], [y], marker="|", markersize=15, markeredgewidth=1.8, color=FLOOR)
        for who in peers:
            m = results.get(section, type_, rows, cols, who)
            if m:
                axis.plot([m.low, m.high], [y, y], color=colour_of(who), linewidth=3, alpha=0.35)
                axis.plot([m.median], [y], "o", markersize=6.5, color=colour_of(who))
        for architecture in architectures:
            m = results.get(section, type_, rows, cols, OWN, architecture, "automatic")
            if m:
                colour = ARCHITECTURE_COLOURS[architecture]
                axis.plot([m.low, m.high], [y, y], color=colour, linewidth=3, alpha=0.35)
                axis.plot([m.median], [y], "D", markersize=7, color=colour, zorder=3)
    axis.set_yticks(range(len(shapes)), [label(*s) for s in shapes])
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.invert_yaxis()
    axis.set_ylim(len(shapes) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    axis.set_xticks([t for t in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50) if low < t < high])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="x", which="minor", length=0)
    axis.grid(True, axis="x", color=GRID, linewidth=0.8)
    axis.set_xlabel("ns per element")
    figure.tight_layout()
    handles = [Line2D([], [], color=ARCHITECTURE_COLOURS[a], marker="D", linestyle="", label=f"xsoftmax, {NAMES[a]}")
               for a in reversed(architectures)]
    handles += [Line2D([], [], color=colour_of(who), marker="o", linestyle="", label=who) for who in peers]
    handles.append(Line2D([], [], color=FLOOR, marker="|", markersize=11, markeredgewidth=1.8, linestyle="",
                          label="limit: a read pass and a copy"))
    top_legend(figure, handles, columns=5)
    return as_svg(figure, f"{section}-{type_}")


def vocabulary_chart(results, type_):
    return dot_rows(results, "vocabulary", type_, results.shapes("vocabulary", type_), lambda r, c: f"{c:,}")


def short_rows_chart(results, type_):
    return dot_rows(results, "short_rows", type_, results.shapes("short_rows", type_), lambda r, c: f"{r} rows of {c:,}")


def contender(key):
    """A line of the chart of the user's own logits."""
    if key.who == LIMIT:
        return f"limit: {LIMIT_STYLES[key.algorithm][0]}"
    if key.who != OWN:
        return key.who
    store = "" if key.store == "automatic" else f", {key.store} stores"
    return f"{NAMES[key.architecture]}: {NAMES[key.algorithm]}{store}"


def logits_chart(results):
    found = sorted(results.select(section="logits").items(), key=lambda item: item[1].median)
    figure, axis = plt.subplots(figsize=(11.6, 0.7 + 0.235 * len(found)))
    for y, (key, m) in enumerate(found):
        colour = FLOOR if key.who == LIMIT else colour_of(key.algorithm if key.who == OWN else key.who)
        axis.barh(y, m.median, height=0.68, color=colour, alpha=0.55 if key.who == LIMIT else 0.9)
        axis.plot([m.low, m.high], [y, y], color=INK, linewidth=1)
        axis.annotate(f"{m.median:.3f}", (m.high, y), xytext=(4, 0), textcoords="offset points", va="center",
                      fontsize=8, color=MUTED)
    axis.set_yticks(range(len(found)), [contender(k) for k, _ in found])
    axis.tick_params(axis="y", length=0, labelcolor=INK)
    axis.invert_yaxis()
    axis.margins(y=0.01)
    axis.set_xlabel("ns per element")
    axis.grid(True, axis="x", color=GRID, linewidth=0.8)
    axis.set_xlim(0, min(max(m.high for _, m in found), 6 * found[len(found) // 2][1].median) * 1.08)
    figure.tight_layout()
    return as_svg(figure, "logits")


def readme_picture(results):
    """A compact picture on a card of its own, so that it reads on a light and on a dark page."""
    architectures = [a for a in results.architectures() if a != "sse2"] or results.architectures()
    shapes = results.shapes("length", "float")
    algorithms = ["three_pass_recompute", "three_pass_reload", "two_pass"]
    figure, axes = plt.subplots(1, len(architectures), figsize=(9.6, 3.2), sharey=True, squeeze=False)
    for axis, architecture in zip(axes[0], architectures):
        draw_algorithms(axis, results, "float", architecture, algorithms)
        log_length_axis(axis, shapes)
        axis.set_title(NAMES[architecture], pad=16)
        axis.set_yscale("log")
    for i, axis in enumerate(axes[0]):
        log_time_axis(axis, "ns per element" if i == 0 else "")
        mark_caches(axis, results, "float")
    figure.tight_layout(w_pad=1.2)
    top_legend(figure, algorithm_handles(algorithms), columns=5)
    svg = as_svg(figure, "softmax", background="none", pad=0.16)
    # The card: a rounded rectangle below everything else.
    end = svg.index(">") + 1
    card = '<rect width="100%" height="100%" rx="8" fill="#ffffff"/>'
    return '<?xml version="1.0" encoding="UTF-8"?>\n<!-- SPDX-License-Identifier: MIT -->\n' + svg[:end] + card + svg[end:]

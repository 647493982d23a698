#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The report of the benchmark suite: one HTML page with everything in it, tables for the terminal, and the README's
picture.

    report.py RESULTS.json [--html FILE] [--picture FILE] [--table] [--choices] [--guard]
"""

import argparse
import html
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "support"))

from choices import automatic_against_best, print_choices
from guard import print_guard
from results import (ALGORITHMS, ATTENTION_NAMES, CACHES, COSTS, LIMIT, OWN, ReportError, Results, attention_rate,
                     attention_rates, costs_found, two_pass_comparisons)

ARCHITECTURE_NAMES = {"sse2": "SSE2", "avx2": "AVX2 + FMA", "avx512": "AVX-512"}
ALGORITHM_NAMES = {"three_pass_recompute": "recompute", "three_pass_reload": "reload", "two_pass": "two-pass",
                   "online": "online", "automatic": "automatic"}


def length(n):
    return f"{n:,}"


def span(ratios):
    """The range of some ratios: 0.60 to 0.64."""
    low, high = f"{min(ratios):.2f}", f"{max(ratios):.2f}"
    return low if low == high else f"{low} to {high}"


# ---------------------------------------------------------------- findings

def verdict_cell(found):
    """Does two-pass win these comparisons? In words, with the range of the ratios."""
    if not found:
        return '<td class="text">not measured</td>'
    wins = [c for c in found if c.low > 1]
    if len(wins) == len(found):
        kind, verdict = "win", "wins"
    elif wins:
        kind, verdict = "even", "wins at n = " + ", ".join(length(c.cols) for c in wins) + " only"
    elif any(c.high < 1 for c in found):
        kind, verdict = "loss", "does not win"
    else:
        kind, verdict = "even", "a draw"
    return f'<td class="text {kind}">{verdict}: {span([c.ratio for c in found])}×</td>'


def two_pass_findings(results, type_):
    """A table in words: where two-pass wins, per architecture, and where it does not."""
    rows = []
    for architecture in results.architectures():
        best = two_pass_comparisons(results, type_, architecture)
        cells = [f"<b>{ARCHITECTURE_NAMES[architecture]}</b>", verdict_cell([c for c in best if c.store == "automatic"])]
        for rival, store in (("three_pass_recompute", "streaming"), ("three_pass_reload", "cached")):
            cells.append(verdict_cell([c for c in two_pass_comparisons(results, type_, architecture, [rival])
                                       if c.store == store]))
        cells.append(verdict_cell([c for c in best if c.store == "streaming"]))
        rows.append(cells)
    return table(["two-pass", "in cache, against the best three-pass", "out of cache, against recompute, streaming stores",
                  "out of cache, against reload, ordinary stores",
                  "out of cache, against the best three-pass, streaming stores"], rows)


def best_of(results, architecture, type_, rows, cols):
    return results.get("length", type_, rows, cols, OWN, architecture, "automatic")


def peer_ratios(results, type_):
    """[(n, {peer: time of the peer / time of automatic})] on the best architecture."""
    best = results.architectures()[-1]
    rows = []
    for r, c in results.shapes("length", type_):
        own = best_of(results, best, type_, r, c)
        if not own:
            continue
        ratios = {}
        for who in results.peers(section="length", type=type_):
            other = results.get("length", type_, r, c, who)
            if other:
                ratios[who] = other.median / own.median
        rows.append((c, own, ratios))
    return rows


def headline(results):
    """The three or four numbers a reader looks for first: (number, words)."""
    cards = []
    best = results.architectures()[-1]
    for rival in ("three_pass_recompute", "three_pass_reload"):
        beyond = [c for c in two_pass_comparisons(results, "float", best, [rival]) if c.store == "streaming"]
        if beyond:
            last = beyond[-1]
            cards.append((f"{last.ratio:.2f}×", f"two-pass against three-pass {ALGORITHM_NAMES[rival]} out of cache: "
                          f"{length(last.cols)} floats, {ARCHITECTURE_NAMES[best]}, streaming stores"))
    shapes = results.shapes("length", "float")
    if shapes:
        r, c = shapes[-1]
        own, floor = best_of(results, best, "float", r, c), results.floor("length", "float", r, c)
        if own and floor and results.out_of_cache("float", c):
            cards.append((f"{floor / own.median:.2f}", f"of what memory allows (a read pass and a copy) at "
                          f"{length(c)} floats, algorithm automatic"))
        inside = [(n, ratios) for n, _, ratios in peer_ratios(results, "float")
                  if n >= 128 and not results.out_of_cache("float", n)]
        for who in ("oneDNN", "Eigen", "XNNPACK"):
            ratios = sorted(r[who] for _, r in inside if who in r)
            if ratios:
                low, high = f"{ratios[0]:.1f}", f"{ratios[-1]:.1f}"
                cards.append((f"{low}×" if low == high else f"{low}–{high}×", f"the speed of {who} in cache, rows of 128 "
                              f"floats and more"))
    return cards


def worst_errors(results):
    """[(name, type, worst ULP, worst row sum, length of the worst sum)], the library first."""
    worst = {}
    for key, m in results.timed().items():
        if key.who == LIMIT or key.section in {cost.section for cost in COSTS}:
            continue
        name = f"xsoftmax, {ARCHITECTURE_NAMES[key.architecture]}" if key.who == OWN else key.who
        ulp, off, cols = worst.get((name, key.type), (0.0, 0.0, 0))
        if m.worst_row_sum >= off:
            off, cols = m.worst_row_sum, key.cols
        worst[(name, key.type)] = (max(ulp, m.worst_ulp), off, cols)
    return sorted(((n, t, *w) for (n, t), w in worst.items()),
                  key=lambda row: (not row[0].startswith(OWN), row[1] != "float", row[2], row[0]))


def attention_lines(results):
    """(shapes, [(who, what, [GFLOP/s or None for each shape])])."""
    shapes = sorted(results.shapes("attention", "float"), key=lambda s: (s[1], s[0]))
    lines = [(ARCHITECTURE_NAMES.get(who, who), ATTENTION_NAMES[name],
              [attention_rate(name, n, found[n, depth])[0] if (n, depth) in found else None for n, depth in shapes])
             for who, name, found in attention_rates(results)]
    return shapes, lines


def decode_lines(results):
    """[(keys, depth, [(time of a read pass, time of a token) or None for each kind of cache])]."""
    best = results.architectures()[-1]
    lines = []
    for keys, depth in sorted(results.shapes("decode", "float"), key=lambda s: (s[1], s[0])):
        pairs = [[results.get("decode", "float", keys, depth, OWN, best, name) for name in (f"read_{cache}", cache)]
                 for cache, _, _ in CACHES]
        lines.append((keys, depth, [(read.median, token.median) if read and token else None for read, token in pairs]))
    return lines


# ---------------------------------------------------------------- terminal

def costs_note(results):
    """Why there are no threads in the table, or on what they ran."""
    note = results.context.get("two_threads", "")
    return f"Two threads: {note}." if note else ""


def print_costs(results, out):
    found = costs_found(results)
    if not found:
        return
    print(f"\nPromised costs, {ARCHITECTURE_NAMES[results.architectures()[-1]]}: medians in ns per element, and the "
          "ratio of the first to the second", file=out)
    print(f"{'':<52}{'':>7}{'rows x n':>18}{'first':>9}{'second':>9}{'ratio':>8}  {'quartiles':<13} promise", file=out)
    for f in found:
        print(f"{f.cost.words:<52}{f.type:>7}{f'{f.rows:,} x {f.cols:,}':>18}{f.over.median:9.3f}{f.under.median:9.3f}"
              f"{f.ratio:8.2f}  {f.low:.2f} to {f.high:.2f}  {f.promise} {f.verdict}".rstrip(), file=out)
    print(costs_note(results), file=out)


def print_attention(results, out):
    shapes, lines = attention_lines(results)
    if lines:
        print("\nattention of n queries and keys, one head: GFLOP/s, the causal one counted in full", file=out)
        print(f"{'n x depth':<36}" + "".join(f"{f'{n:,} x {depth}':>13}" for n, depth in shapes), file=out)
        for who, what, rates in lines:
            print(f"{who:<12}{what:<24}" + "".join(f"{r:13.1f}" if r else f"{'-':>13}" for r in rates), file=out)
    lines = decode_lines(results)
    if lines:
        print("\na token of eight heads: the time of reading its keys and values over that of attention to them", file=out)
        print(f"{'keys x depth':>16}" + "".join(f"{words:>23}" for _, words, _ in CACHES), file=out)
        for keys, depth, pairs in lines:
            print(f"{keys:,} x {depth}".rjust(16) + "".join(f"{p[0] / p[1]:23.2f}" if p else f"{'-':>23}" for p in pairs),
                  file=out)


def print_table(results, out=sys.stdout):
    architectures = results.architectures()
    show = lambda m: f"{m.median:8.3f} ±{min(100 * m.spread, 99):2.0f}%" if m else f"{'-':>13}"
    for section in ("length", "vocabulary", "short_rows", "logits"):
        for type_ in results.types(section):
            peers = results.peers(section=section, type=type_)
            for architecture in [architectures[-1]] if section != "logits" else reversed(architectures):
                print(f"\n{section.replace('_', ' ')}, {type_}, {ARCHITECTURE_NAMES[architecture]}: ns per element, "
                      "median ± half the quartile distance", file=out)
                columns = [ALGORITHM_NAMES[a] for a in ALGORITHMS] + ["limit"] + peers
                print(f"{'rows x n':>16}" + "".join(f"{c[:13]:>14}" for c in columns), file=out)
                for rows, cols in results.shapes(section, type_):
                    cells = [show(results.get(section, type_, rows, cols, OWN, architecture, a)) for a in ALGORITHMS]
                    floor = results.floor(section, type_, rows, cols)
                    cells.append(f"{floor:8.3f}     " if floor else f"{'-':>13}")
                    cells += [show(results.get(section, type_, rows, cols, who)) for who in peers]
                    print(f"{rows:,} x {cols:,}".rjust(16) + "".join(f"{c:>14}" for c in cells), file=out)
    for type_ in results.types("length"):
        print(f"\ntwo-pass against the best three-pass, {type_}: times as fast (same architecture, same stores)", file=out)
        found = {a: {(c.cols, c.store): c for c in two_pass_comparisons(results, type_, a)} for a in architectures}
        lines = sorted({k for a in found.values() for k in a})
        print(f"{'n':>14} {'stores':>10}" + "".join(f"{a:>9}" for a in architectures), file=out)
        for cols, store in lines:
            cells = [f"{found[a][cols, store].ratio:9.2f}" if (cols, store) in found[a] else f"{'-':>9}"
                     for a in architectures]
            print(f"{cols:>14} {'in cache' if store == 'automatic' else store:>10}" + "".join(cells), file=out)
    for type_ in results.types("length"):
        peers = results.peers(section="length", type=type_)
        print(f"\nautomatic ({ARCHITECTURE_NAMES[architectures[-1]]}) against peers, {type_}: times as fast", file=out)
        print(f"{'n':>14}" + "".join(f"{p:>16}" for p in peers), file=out)
        for cols, _, ratios in peer_ratios(results, type_):
            print(f"{cols:>14}" + "".join(f"{ratios[p]:16.2f}" if p in ratios else f"{'-':>16}" for p in peers),
                  file=out)
    print(f"\nautomatic ({ARCHITECTURE_NAMES[architectures[-1]]}) over the best other choice: the time of one over that "
          "of the other", file=out)
    for section in ("length", "vocabulary", "short_rows"):
        for type_ in results.types(section):
            found = automatic_against_best(results, section, type_, architectures[-1])
            if found:
                worst = max(found, key=lambda f: f[4])
                print(f"{section.replace('_', ' '):>12}, {type_:<6}: at most {worst[4]:.2f} (at {worst[0]:,} x {worst[1]:,}, "
                      f"{worst[3]})", file=out)
    print_attention(results, out)
    print_costs(results, out)
    for key, m in results.failed().items():
        print(f"\nnot timed: {key.section} {key.type} {key.rows}x{key.cols} {key.who} {key.architecture} "
              f"{key.algorithm} {key.store}: {m.error}", file=out)


# ---------------------------------------------------------------- page

STYLE = """
:root { color-scheme: light; --ink: #16202c; --muted: #5d6d7e; --line: #dfe5eb; --accent: #0b62b8; --paper: #fff; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink); font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 36px 28px 72px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 21px; margin: 0 0 8px; letter-spacing: -0.005em; }
p, ul { max-width: 78ch; margin: 0 0 12px; }
ul { padding-left: 20px; } li { margin: 3px 0; }
.lead, .note { color: var(--muted); } .note { font-size: 14px; }
section { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 24px 26px; margin: 22px 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 14px; margin: 22px 0; }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.card b { display: block; font-size: 27px; line-height: 1.15; color: var(--accent); font-variant-numeric: tabular-nums;
  margin-bottom: 6px; white-space: nowrap; }
.card span { font-size: 13.5px; line-height: 1.4; color: var(--muted); display: block; }
figure { margin: 14px 0 4px; } figure svg { width: 100%; height: auto; display: block; }
figcaption { font-size: 13.5px; color: var(--muted); margin-top: 8px; max-width: 95ch; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; margin: 10px 0; }
th, td { padding: 5px 14px 5px 0; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 600; color: var(--muted); white-space: normal; vertical-align: bottom; line-height: 1.3; min-width: 64px; } th:first-child, td:first-child { text-align: left; }
td.win { color: #0b5aa8; } td.loss { color: #a3491a; } td small { color: var(--muted); }
td.text, th.text { text-align: left; white-space: normal; } td.text { padding-right: 28px; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--accent); }
.warn { border-left: 4px solid #c25a1a; padding: 8px 14px; background: #fff6ef; margin: 12px 0; max-width: none; }
nav { font-size: 14px; margin-top: 12px; } nav a { color: var(--accent); text-decoration: none; margin-right: 16px; }
@media print { body { background: #fff; } section, .card { break-inside: avoid; } }
"""


class Page:
    def __init__(self, results):
        self.results = results
        self.sections = []
        self.charts = 0

    def section(self, anchor, title, *parts):
        self.sections.append((anchor, title, "\n".join(p for p in parts if p)))

    def figure(self, svg, alt, caption):
        self.charts += 1
        svg = svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(alt, quote=True)}" ', 1)
        return f'<figure class="chart">{svg}<figcaption>{caption}</figcaption></figure>'

    def text(self, title, lead, cards):
        menu = "".join(f'<a href="#{a}">{html.escape(t)}</a>' for a, t, _ in self.sections)
        boxes = "".join(f'<div class="card"><b>{html.escape(n)}</b><span>{html.escape(w)}</span></div>'
                        for n, w in cards)
        body = "\n".join(f'<section id="{a}"><h2>{html.escape(t)}</h2>\n{b}</section>' for a, t, b in self.sections)
        return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
                '<meta name="viewport" content="width=device-width, initial-scale=1">'
                f"<title>{html.escape(title)}</title><style>{STYLE}</style></head>\n<body><main>\n"
                f'<h1>{html.escape(title)}</h1><p class="lead">{lead}</p><nav>{menu}</nav>'
                f'<div class="cards">{boxes}</div>\n{body}\n</main></body></html>\n')


def table(header, rows):
    # A heading stands as the column below it does.
    first = rows[0] if rows else []
    head = "".join(f"<th{' class=text' if cell.startswith('<td class=' + chr(34) + 'text') else ''}>{h}</th>"
                   for h, cell in zip(header, first))
    body = "".join("<tr>" + "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def ratio_cell(ratio):
    kind = "win" if ratio > 1.005 else "loss" if ratio < 0.995 else "even"
    return f'<td class="{kind}">{ratio:.2f}×</td>'


def peer_table(results, type_):
    peers = results.peers(section="length", type=type_)
    rows = []
    for cols, own, ratios in peer_ratios(results, type_):
        rows.append([length(cols), f"{own.median:.3f} <small>±{100 * own.spread:.0f}&thinsp;%</small>"] +
                    [ratio_cell(ratios[p]) if p in ratios else "<td>–</td>" for p in peers])
    return table(["n, " + type_, "automatic, ns"] + [f"against {html.escape(p)}" for p in peers], rows)


def costs_table(results):
    rows = []
    for f in costs_found(results):
        colour = {"kept": " win", "missed": " loss"}.get(f.verdict, "")
        rows.append([html.escape(f.cost.words), f.type, f"{f.rows:,} × {length(f.cols)}", f"{f.over.median:.3f}",
                     f"{f.under.median:.3f}", f"{f.ratio:.2f}", f"<small>{f.low:.2f} to {f.high:.2f}</small>",
                     f.promise or "–", f'<td class="text{colour}">{f.verdict}</td>'])
    return table(["", "type", "rows × n", "first, ns", "second, ns", "ratio", "quartiles", "promise", ""], rows)


def attention_table(results):
    shapes, lines = attention_lines(results)
    rows = [[html.escape(who), f'<td class="text">{html.escape(what)}</td>'] + [f"{r:.1f}" if r else "–" for r in rates]
            for who, what, rates in lines]
    return table(["GFLOP/s at n × depth", ""] + [f"{length(n)} × {depth}" for n, depth in shapes], rows)


def decode_table(results):
    """The time of reading a cache over that of attention to it, and the latter."""
    rows = [[f"{length(keys)} × {depth}"] + [f"{read / token:.2f} <small>{token * keys * depth / 1000:,.0f}&thinsp;µs</small>"
                                            for read, token in (p or (float("nan"),) * 2 for p in pairs)]
            for keys, depth, pairs in decode_lines(results)]
    return table(["keys × depth"] + [words for _, words, _ in CACHES], rows)


def choices_table(results):
    """`automatic` over the best other choice, per section and type, on the best architecture."""
    rows = []
    for section in ("length", "vocabulary", "short_rows"):
        for type_ in results.types(section):
            found = automatic_against_best(results, section, type_, results.architectures()[-1])
            if found:
                worst = max(found, key=lambda f: f[4])
                rows.append([section.replace("_", " "), type_, f"{sum(f[4] <= 1.05 for f in found)} of {len(found)}",
                             f"{worst[4]:.2f}", f"{worst[0]:,} × {length(worst[1])}",
                             f'<td class="text">{html.escape(worst[3])}</td>'])
    return table(["", "type", "within 5 % of the best other choice", "at worst", "at rows × n", "which is"], rows)


def error_table(results):
    rows = []
    for name, type_, ulp, off, cols in worst_errors(results):
        rows.append([html.escape(name), type_, f"{ulp:.2f}" if ulp < 1000 else f"{ulp:,.0f}", f"{off:.2g}",
                     length(cols)])
    return table(["", "type", "worst error of a probability, ULP", "worst |row sum − 1|", "at row length"], rows)


def all_numbers(results):
    rows = []
    order = lambda item: (item[0].section, item[0].type, item[0].cols, item[0].rows, item[1].median)
    for k, m in sorted(results.timed().items(), key=order):
        rows.append([html.escape(f"{k.section.replace('_', ' ')}, {k.type}"), f"{k.rows:,} × {length(k.cols)}",
                     html.escape(k.who), k.architecture, k.algorithm, k.store, f"{m.median:.4f}",
                     f"{min(m.times):.4f}", f"{m.low:.4f}", f"{m.high:.4f}", f"{max(m.times):.4f}"])
    return table(["", "rows × n", "what", "architecture", "algorithm", "stores", "median", "min", "quartile", "quartile",
                  "max"], rows)


def machine_rows(results):
    c = results.context
    caches = ", ".join(f"{name} {size >> 20} MiB" if size >= 1 << 20 else f"{name} {size >> 10} KiB"
                       for name, size in results.cache_sizes())
    rows = [("Processor", f"{c.get('processor', '?')} (family {c.get('processor_family', '?')})" +
             (", inside a virtual machine: its caches may be shared with strangers"
              if c.get("virtual_machine") == "yes" else "")),
            ("Data caches", caches),
            ("Architectures compared", ", ".join(ARCHITECTURE_NAMES[a] for a in results.architectures())),
            ("System", c.get("operating_system", "?")),
            ("Huge pages", c.get("transparent_huge_pages", "?") + " (the buffers ask for none)"),
            ("Compiler", f"{c.get('compiler', '?')}, {c.get('flags', '')}"),
            ("Library", f"xsoftmax {c.get('xsoftmax_version', '?')}, through xsoftmax::dispatch with named architectures"),
            ("Logits", c.get("logits", "?")),
            ("Core", c.get("core", "?")),
            ("Load when started", ", ".join(f"{v:.2f}" for v in c.get("load_avg", [])) + " (1, 5, 15 minutes)"),
            ("Repetitions", f"{c.get('repetitions', '?')} of at least {float(c.get('min_time', 0)) * 1000:g} ms each"),
            ("Date", c.get("date", "?"))]
    rows += [(k[5:], v) for k, v in sorted(c.items()) if k.startswith("peer ")]
    return [[html.escape(k), f'<td class="text">{html.escape(str(v))}</td>'] for k, v in rows]


def build_page(results):
    import charts  # needs matplotlib; the terminal's tables do not

    page = Page(results)
    own_logits = bool(results.select(section="logits"))
    types = results.types("length")
    best = ARCHITECTURE_NAMES[results.architectures()[-1]]

    failed = results.failed()
    warning = ""
    if failed:
        items = "".join(f"<li>{html.escape('/'.join(map(str, (k.section, k.type, f'{k.rows}x{k.cols}', k.who, k.architecture, k.algorithm, k.store))))}: "
                        f"{html.escape(m.error)}</li>" for k, m in list(failed.items())[:30])
        warning = (f'<div class="warn"><b>{len(failed)} benchmarks gave a wrong answer and were not timed.</b>'
                   f"<ul>{items}</ul></div>")

    if own_logits:
        key = next(iter(results.select(section="logits")))
        page.section("logits", f"Your logits: {key.rows:,} × {length(key.cols)} {key.type}", warning,
                     page.figure(charts.logits_chart(results), "Time per element of every variant on the given logits",
                                 "Medians; the thin line is the middle half of the repetitions. Bars that leave the "
                                 "picture are cut. Grey: what the machine needs to move the same memory without "
                                 "arithmetic."))
        warning = ""

    for type_ in types:
        findings = two_pass_findings(results, type_)
        page.section(f"paper-{type_}", f"Two-pass against three-pass, {type_}", warning,
                     "<p>Two-pass reads the input twice and the textbook three-pass three times, but it does more "
                     "arithmetic. So it pays where memory is the bottleneck, and only there: out of cache, with vectors so "
                     "wide that arithmetic waits for memory. Below: its speed relative to three-pass; 1 is "
                     "break-even.</p>" if type_ == types[0] else "",
                     findings,
                     page.figure(charts.ratio_chart(results, type_), f"Speed of two-pass relative to three-pass, {type_}",
                                 "Time of each three-pass algorithm over the time of two-pass, same architecture and same "
                                 "kind of store (beyond the last-level cache: solid streaming, dashed ordinary). Above the "
                                 "line two-pass wins; the lower of two curves is the best three-pass. L1, L2, L3: input "
                                 "and output together fill that cache. Bands: quartile against opposite quartile."))
        warning = ""
    for type_ in types:
        page.section(f"time-{type_}", f"Time per element, {type_}",
                     page.figure(charts.time_chart(results, type_), f"Time per element against row length, {type_}",
                                 "One row. Beyond the last-level cache the lines fork: solid with streaming stores, dashed with "
                                 "ordinary ones. Dots: what <code>automatic</code> reaches with its own choices. "
                                 + charts.BANDS))
    for type_ in types:
        page.section(f"bandwidth-{type_}", f"Bandwidth, {type_}",
                     page.figure(charts.bandwidth_chart(results, type_), f"Bandwidth against row length, {type_}",
                                 "Memory accesses that the algorithm asks for (recompute 3 reads and a write, reload 3 and 2, two-pass "
                                 "and online 2 and 1) over its time; lines that an ordinary store first reads are not "
                                 "counted. Where a curve meets the grey ones, memory is the limit."))
    if types:
        page.section("peers", "Against other libraries",
                     f"<p>Algorithm <code>automatic</code> on {best}, against each peer at its best on this machine. One thread.</p>",
                     page.figure(charts.peer_chart(results), "Time per element of the library and its peers",
                                 "Thick: this library. " + charts.BANDS),
                     *[peer_table(results, t) for t in types])
    for type_ in results.types("vocabulary"):
        page.section(f"vocabulary-{type_}", f"Rows of language models, {type_}",
                     page.figure(charts.vocabulary_chart(results, type_), "Time per element at vocabulary sizes",
                                 "One row as long as a vocabulary, warm in cache. Logarithmic scale."))
    for type_ in results.types("short_rows"):
        page.section(f"short-{type_}", f"Batches of short rows, {type_}",
                     page.figure(charts.short_rows_chart(results, type_), "Time per element in batches of short rows",
                                 "One call for all rows, for those peers that have one. The last line is the yardstick of long rows."))
    if results.select(section="attention"):
        page.section("attention", "Attention",
                     "<p>Softmax, sigmoid and softplus attention (LSSA, re-weighted LSSAR) of one head, n queries and keys, "
                     "one thread, against other libraries' softmax attention and what they need for its two matrix products "
                     "alone, and against the multiply-adds alone: as many as the products have, in registers, without memory.</p>",
                     page.figure(charts.attention_chart(results), "Rate of attention against the number of queries and keys",
                                 f"GFLOP/s on {best}: 4 n² depth operations over the time, 10 n² depth for a backward. The causal "
                                 "one counts in full although it skips nearly half, so it can pass the multiply-adds. "
                                 + charts.BANDS),
                     attention_table(results))
    if results.select(section="decode"):
        page.section("decode", "Attention of a token",
                     f"<p>One query of each of eight heads to cached keys and values, on {best}: the time of reading these by "
                     "the widest vectors over that of attention, and the time of attention. Shared: four query heads read the same "
                     "keys and values. In cache arithmetic decides, beyond it memory does.</p>",
                     decode_table(results))
    if types:
        page.section("choices", "What automatic chooses",
                     f"<p>Algorithm <code>automatic</code> with its own choice of stores on {best}: its time over that of the "
                     "fastest algorithm and kind of store that a caller could name, or of a call for each row. Below 1 where it "
                     "does what no name asks for: it guesses a row's maximum, and works on several short rows at a "
                     "time.</p>", choices_table(results))
    if costs_found(results):
        page.section("costs", "Promised costs",
                     f"<p>What the library promises about costs relative to each other, on {best}: the time of the first over "
                     "that of the second, medians per element of benchmarks that ran interleaved. Lines without a promise "
                     "are for orientation. Halves are promised for rows out of cache, two threads for batches of "
                     "rows, the choice at run time as nanoseconds of a call, a token for keys and values of more than twice the last cache.</p>",
                     costs_table(results),
                     "<p class='note'>Columns: down the columns of a row-major matrix of that shape, against the rows "
                     "of its transpose. Gradients: the logits stand for what comes from above. Masked: half of the logits are -inf, "
                     "ascending ones go from 0 to 40. Attention: rows × n are keys × depth; a rate of a backward counts five "
                     "products, of a forward two. Quartiles: quartile against "
                     f"opposite quartile. {html.escape(costs_note(results))} Times of threads are by the clock on the wall. Every "
                     "answer is checked before it is timed: columns and threads have the bits of the rows of one thread, "
                     "halves those of the float result rounded once, attention and the other operations stay within the bounds of their "
                     "documentation, noise and draws, those of peers too, have their distributions.</p>")
    page.section("accuracy", "Answers",
                 "<p>Every benchmark's answer is checked before it is timed. The library's own: each probability within 4 ULP "
                 "of a reference in a wider type, each row sum within 4 half-ULP of 1, and equal bits from all algorithms, stores and "
                 "architectures with fused multiply-add. Peers promise no bound; they are held to the error that adding "
                 "n terms one after the other may have, plus 128 ULP for exponential and shift. What they reach is below.</p>",
                 error_table(results))
    page.section("method", "Machine and method",
                 table(["", ""], machine_rows(results)),
                 "<p class='note'>Google Benchmark times; all variants of one shape run interleaved in random order, so that "
                 "drift of the machine meets all alike. Times are processor times of one thread on one core; rows are warm "
                 "(measured again and again in the same memory). Limits are measured in the same run: a read pass, a copy with ordinary "
                 "and one with non-temporal stores, by the widest vectors of the processor. Code that a peer generates at run "
                 "time lands at other addresses in every process and may be faster or slower there (oneDNN's by up to "
                 "40 % on some machines): compare two runs before quoting such a ratio.</p>",
                 f"<details><summary>All numbers (ns per element)</summary>{all_numbers(results)}</details>")

    c = results.context
    lead = html.escape(f"{c.get('processor', '')}, {c.get('operating_system', '')}, {c.get('compiler', '')}, {c.get('date', '')[:10]}")
    return page.text("Softmax, compared", lead, headline(results)), page.charts


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("results", help="what xsoftmax_bench wrote")
    parser.add_argument("--html", help="write the page here")
    parser.add_argument("--picture", help="write the README's picture here")
    parser.add_argument("--table", action="store_true", help="print the tables")
    parser.add_argument("--choices", action="store_true", help="print where which choice is the fastest")
    parser.add_argument("--guard", action="store_true", help="print guarded ratios; fail if one is outside its bounds")
    given = parser.parse_args()
    try:
        results = Results(given.results)
        if given.table:
            print_table(results)
        if given.choices:
            print_choices(results, sys.stdout)
        if given.guard and print_guard(results, sys.stdout):
            sys.exit(1)
        if given.html:
            text, count = build_page(results)
            Path(given.html).write_text(text, encoding="utf-8")
            print(f"{given.html}: {count} charts")
        if given.picture:
            import charts
            Path(given.picture).write_text(charts.readme_picture(results), encoding="utf-8")
            print(given.picture)
    except ReportError as problem:
        sys.exit(f"report.py: {problem}")
    except ModuleNotFoundError as problem:
        sys.exit(f"report.py: {problem.name} is missing (Debian and Ubuntu: python3-{problem.name}, and this script "
                 "needs the system's /usr/bin/python3)")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT
"""Reads what xsoftmax_bench wrote: Google Benchmark's JSON, one entry per repetition."""

import json
from dataclasses import dataclass, field
from statistics import median

ARCHITECTURES = ["sse2", "avx2", "avx512"]
ALGORITHMS = ["three_pass_recompute", "three_pass_reload", "two_pass", "online", "automatic"]
STORES = ["automatic", "cached", "streaming"]
OWN = "xsoftmax"
LIMIT = "limit"
SIZE_OF = {"float": 4, "double": 8}


class ReportError(Exception):
    """What is wrong with the results, in a sentence for the user."""


@dataclass(frozen=True)
class Key:
    """What was measured: the fields of a benchmark's name."""

    # length | vocabulary | short_rows | logits; of costs columns | halves | threads | sample_threads | operations |
    # kinds | calls | noise | losses | radius | attention | attention_threads | decode
    section: str
    type: str  # float | double
    rows: int
    cols: int
    who: str  # xsoftmax, limit, or a peer
    architecture: str
    algorithm: str  # of costs: what is compared
    store: str


@dataclass
class Measurement:
    """All repetitions of one benchmark, in ns per element."""

    times: list = field(default_factory=list)
    worst_ulp: float = 0.0
    worst_row_sum: float = 0.0
    error: str = ""

    @property
    def median(self):
        return median(self.times)

    def quantile(self, q):
        ordered = sorted(self.times)
        at = q * (len(ordered) - 1)
        below = int(at)
        above = min(below + 1, len(ordered) - 1)
        return ordered[below] + (at - below) * (ordered[above] - ordered[below])

    @property
    def low(self):
        return self.quantile(0.25)

    @property
    def high(self):
        return self.quantile(0.75)

    @property
    def spread(self):
        """Half the distance between the quartiles, relative to the median."""
        return (self.high - self.low) / 2 / self.median


class Results:
    def __init__(self, path):
        try:
            with open(path, encoding="utf-8") as file:
                document = json.load(file)
        except OSError as problem:
            raise ReportError(f"{path}: {problem.strerror}") from problem
        except json.JSONDecodeError as problem:
            raise ReportError(f"{path}: not complete (did the run stop early?): {problem}") from problem
        self.context = document["context"]
        self.measurements = {}
        for entry in document["benchmarks"]:
            if entry.get("run_type") == "aggregate":
                continue
            key = parse_name(entry["name"])
            found = self.measurements.setdefault(key, Measurement())
            if entry.get("error_occurred"):
                found.error = entry["error_message"]
                continue
            # On two threads the time of one of them says little.
            time = "real_time" if entry["name"].endswith("/real_time") else "cpu_time"
            found.times.append(entry[time] / entry["elements"])
            found.worst_ulp = entry.get("worst_ulp", 0.0)
            found.worst_row_sum = entry.get("worst_row_sum", 0.0)
        self.measurements = {k: m for k, m in self.measurements.items() if m.times or m.error}
        if not self.timed():
            raise ReportError(f"{path}: no benchmark was timed")

    def timed(self):
        return {k: m for k, m in self.measurements.items() if m.times}

    def failed(self):
        return {k: m for k, m in self.measurements.items() if m.error}

    def select(self, **wanted):
        """The timed measurements whose key has all the given values."""
        return {k: m for k, m in self.timed().items() if all(getattr(k, name) == v for name, v in wanted.items())}

    def get(self, section, type_, rows, cols, who, architecture="-", algorithm="-", store=None):
        """One measurement; without a store the fastest of those measured. None where there is none."""
        found = self.select(section=section, type=type_, rows=rows, cols=cols, who=who, architecture=architecture,
                            algorithm=algorithm)
        if store is not None:
            found = {k: m for k, m in found.items() if k.store == store}
        return min(found.values(), key=lambda m: m.median, default=None)

    def shapes(self, section, type_):
        return sorted({(k.rows, k.cols) for k in self.select(section=section, type=type_)}, key=lambda s: (s[1], s[0]))

    def types(self, section):
        return [t for t in ("float", "double") if self.select(section=section, type=t)]

    def architectures(self):
        found = {k.architecture for k in self.select(who=OWN)}
        return [a for a in ARCHITECTURES if a in found]

    def peers(self, **wanted):
        """Names of the peers, fastest first."""
        total = {}
        for key, m in self.select(**wanted).items():
            if key.who not in (OWN, LIMIT):
                total.setdefault(key.who, []).append(m.median)
        return sorted(total, key=lambda who: median(total[who]))

    def floor(self, section, type_, rows, cols):
        """What two passes over memory cost without arithmetic: a read, and a copy by the cheaper kind of store."""
        read = self.get(section, type_, rows, cols, LIMIT, algorithm="read")
        copies = [self.get(section, type_, rows, cols, LIMIT, algorithm=a) for a in ("copy", "copy_nontemporal")]
        copies = [c.median for c in copies if c]
        return read.median + min(copies) if read and copies else None

    def cache_sizes(self):
        """[(name, bytes)] of the data caches, smallest first."""
        return [(f"L{level}", int(self.context[f"cache_l{level}"])) for level in (1, 2, 3, 4)
                if f"cache_l{level}" in self.context]


    def out_of_cache(self, type_, n):
        """Do an input and an output of n elements together leave the caches?"""
        caches = self.cache_sizes()
        return bool(caches) and 2 * n * SIZE_OF[type_] > caches[-1][1]


def attention_rates(results):
    """[(architecture or peer, what it computes, {(n, depth): measurement})]: the library's, worst architecture first, then
    the peers'."""
    found = {}
    for key, m in results.select(section="attention").items():
        who = key.architecture if key.who == OWN else key.who
        found.setdefault((who, key.algorithm), {})[key.rows, key.cols] = m
    order = {who: i for i, who in enumerate(ARCHITECTURES + results.peers(section="attention"))}
    names = list(ATTENTION_NAMES)
    return [(who, name, found[who, name]) for who, name in sorted(found, key=lambda f: (order[f[0]], names.index(f[1])))]


def attention_rate(name, n, measurement):
    """GFLOP/s of attention of n queries and keys: the median, and the quartiles, the slower one first. Causal attention
    counts in full, and so gets up to twice as far as the arithmetic."""
    work = FORWARD_PRODUCTS * 2 * n * (BACKWARD_WORK if name.endswith("_backward") else 1)
    return tuple(work / t for t in (measurement.median, measurement.high, measurement.low))


def parse_name(name):
    parts = name.split("/")
    if len(parts) < 7 or "x" not in parts[2]:
        raise ReportError(f"not a result of xsoftmax_bench: {name}")
    rows, cols = parts[2].split("x")
    return Key(parts[0], parts[1], int(rows), int(cols), *parts[3:7])


RIVALS = ["three_pass_recompute", "three_pass_reload"]


@dataclass
class Comparison:
    """Two-pass against a three-pass of the same architecture, type, length and kind of store."""

    cols: int
    store: str  # automatic (in cache) | cached | streaming
    rival: str
    ratio: float  # above 1: two-pass is faster
    low: float
    high: float


def two_pass_comparisons(results, type_, architecture, rivals=None):
    """Against each of the rivals; without rivals, per length and store against the faster of the two three-pass
    algorithms."""
    found = []
    for rows, cols in results.shapes("length", type_):
        for store in STORES:
            two = results.get("length", type_, rows, cols, OWN, architecture, "two_pass", store)
            times = {a: results.get("length", type_, rows, cols, OWN, architecture, a, store) for a in rivals or RIVALS}
            compared = [Comparison(cols, store, a, m.median / two.median, m.low / two.high, m.high / two.low)
                        for a, m in times.items() if two and m]
            if not rivals and compared:
                compared = [min(compared, key=lambda c: c.ratio)]
            found += compared
    return found


@dataclass(frozen=True)
class Cost:
    """Two things whose times are divided, and what the library promises about the ratio."""

    section: str
    over: str  # the dividend
    under: str  # the divisor
    words: str  # what the ratio says
    at_most: float = 0.0  # 0: no promise
    at_least: float = 0.0
    more_ns: float = 0.0  # promised instead: at most so much more for a call
    who: str = OWN  # of the dividend
    work: float = 1.0  # of the divisor over that of the dividend, where it is not their times that are compared
    from_rows: int = 0  # compared from this shape on
    from_cols: int = 0
    cached: int = 0  # bytes read per element: compared where the last cache holds less than half of them

    def compared(self, results, rows, cols):
        caches = results.cache_sizes()
        beyond = bool(caches) and self.cached * rows * cols > 2 * caches[-1][1]
        return rows >= self.from_rows and cols >= self.from_cols and (beyond or not self.cached)

    def promised(self, results, type_, rows, cols):
        """The promises about halves are made for rows out of cache, as the one about reading slopes; the one about threads
        for batches, and the one about stablemax in cache."""
        if self.under == "stablemax" and results.out_of_cache(type_, rows * cols):
            return ""
        if self.under == "bound" and not results.out_of_cache(type_, rows * cols):
            return ""
        if self.section == "halves" and not results.out_of_cache(type_, cols) or self.section == "threads" and rows == 1:
            return ""
        if self.more_ns:
            return f"≤ {self.more_ns:g} ns more"
        return f"≤ {self.at_most:g}" if self.at_most else f"≥ {self.at_least:g}" if self.at_least else ""

    def kept(self, over, under, elements):
        if self.more_ns:
            return (over.median - under.median) * elements <= self.more_ns
        ratio = self.ratio(over.median, under.median)
        return ratio <= self.at_most if self.at_most else ratio >= self.at_least

    def ratio(self, over, under):
        return self.work * over / under


# Attention's products of 2 n^2 depth operations each: two forward and five backward, so many times the work.
FORWARD_PRODUCTS = 2
BACKWARD_WORK = 2.5
# What is held to OpenBLAS's products, and to what share of their speed.
FORWARD = [("softmax", "softmax attention", 0.95), ("sigmoid", "sigmoid attention", 0.95), ("lssa", "LSSA", 0.95),
           ("lssar", "LSSAR", 0.65)]
# A token's keys and values, of each of eight query heads or of four together, and the bytes of all for each element of
# one head's keys.
CACHES = [("float", "float cache", 64), ("float_shared", "shared float cache", 16), ("bfloat16", "bfloat16 cache", 32),
          ("bfloat16_shared", "shared bfloat16 cache", 8)]

# All that is measured of attention: the library's operations, what bounds them, and what peers have.
ATTENTION_NAMES = {"softmax": "softmax", "softmax_causal": "softmax, causal", "sigmoid": "sigmoid", "lssa": "LSSA",
                   "lssar": "LSSAR", "softmax_backward": "softmax, backward", "sigmoid_backward": "sigmoid, backward",
                   "lssa_backward": "LSSA, backward",
                   "multiply_adds": "multiply-adds alone", "attention": "softmax attention",
                   "attention_causal": "causal attention", "products": "the two products alone"}

COSTS = [
    Cost("columns", "columns", "rows", "columns over rows of the transpose", at_most=1.5),
    *[Cost("columns", f"{name}_columns", f"{name}_rows", f"{name}: columns over rows", at_most=1.5)
      for name in ("log_softmax", "log_sum_exp", "softmax_backward", "log_softmax_backward")],
    Cost("halves", "float", "bfloat16", "float over bfloat16", at_least=1.6),
    Cost("halves", "float", "float16", "float over float16", at_least=1.6),
    Cost("halves", "float", "bfloat16_to_float", "float over bfloat16 to float"),
    Cost("halves", "float", "float16_to_float", "float over float16 to float"),
    Cost("threads", "one_thread", "two_threads", "one thread over two", at_least=1.8),
    Cost("sample_threads", "one_thread", "two_threads", "sample: one thread over two"),
    *[Cost("operations", name, "softmax", f"{name} over softmax")
      for name in ("log_softmax", "log_sum_exp", "softmax_backward", "log_softmax_backward")],
    *[Cost("operations", "log_softmax", "log_softmax", f"log_softmax of {who} over the library's", who=who)
      for who in ("Eigen", "libtorch")],
    *[Cost("kinds", name, "plain", f"{words} over usual ones", at_most=1.3)
      for name, words in (("half_masked", "rows masked at random"), ("padded", "rows masked from the middle on"),
                          ("ascending", "ascending rows"))],
    Cost("losses", "softmax", "stablemax", "softmax over stablemax", at_least=1.3),
    Cost("losses", "stablemax", "memory", "stablemax over a read pass and a copy past the caches"),
    Cost("losses", "log_stablemax", "log_softmax", "log_stablemax over log_softmax"),
    Cost("losses", "softmax_and_gradient", "cross_entropy", "softmax and softmax_backward over cross_entropy",
         at_least=1.5),
    Cost("losses", "log_softmax_and_gradient", "cross_entropy_of_distributions",
         "the same for distributions, by log_softmax", at_least=1.5),
    Cost("radius", "read", "bound", "a read pass over convergence_radius_bound", at_least=0.9),
    Cost("radius", "tight_bound", "softmax", "convergence_radius_tight_bound over softmax", at_most=10),
    Cost("radius", "tight_bound_of_peaked", "softmax", "the same where a class dominates", at_most=10),
    Cost("radius", "exact", "softmax", "convergence_radius over softmax", more_ns=5e6),
    Cost("noise", "extreme_value_distribution", "gumbel_noise", "std::extreme_value_distribution over gumbel_noise",
         at_least=15, who="std"),
    *[Cost("noise", "gumbel_noise", "gumbel_noise", f"Gumbel noise of {who} over gumbel_noise", who=who)
      for who in ("Eigen", "libtorch")],
    Cost("noise", "gumbel_softmax", "noise_and_softmax", "gumbel_softmax over noise and softmax", at_most=1.3),
    Cost("noise", "gumbel_softmax", "gumbel_softmax", "Gumbel-Softmax of libtorch over gumbel_softmax", who="libtorch"),
    Cost("noise", "sample", "words_and_read", "sample over drawing words and a read pass", at_most=1.5),
    Cost("noise", "softmax_and_discrete_distribution", "sample", "softmax, std::discrete_distribution over sample",
         who="std"),
    Cost("noise", "sample", "sample", "softmax, multinomial of libtorch over sample", who="libtorch"),
    *[Cost("attention", "products", name, f"OpenBLAS's two products over {words}", at_least=at_least, who="OpenBLAS")
      for name, words, at_least in FORWARD],
    *[Cost("attention", "attention", name, f"oneDNN's softmax attention over {words}", at_least=1.0, who="oneDNN")
      for name, words, _ in FORWARD if name != "lssar"],
    Cost("attention", "attention", "softmax", "libtorch's softmax attention over softmax attention", at_least=1.15,
         who="libtorch"),
    Cost("attention", "attention_causal", "softmax_causal", "the same, causal", at_least=1.15, who="libtorch"),
    *[Cost("attention", "multiply_adds", name, f"the multiply-adds alone over {words}", at_least=0.75, from_rows=2048,
           from_cols=128) for name, words, _ in FORWARD if name != "lssar"],
    *[Cost("attention", name, f"{name}_backward", f"rate of {words}'s backward over its own", at_least=0.8,
           work=BACKWARD_WORK) for name, words, _ in FORWARD if name != "lssar"],
    Cost("attention_threads", "one_thread", "two_threads", "softmax attention: one thread over two"),
    *[Cost("decode", f"read_{name}", name, f"a read pass over a token, {words}", at_least=0.9, cached=read)
      for name, words, read in CACHES],
    *[Cost("decode", f"float{which}", f"bfloat16{which}", f"a token: float over bfloat16{words}", at_least=1.7,
           cached=read) for which, words, read in (("", "", 64), ("_shared", ", shared cache", 16))],
    Cost("calls", "runtime", "named", "choice at run time over a named architecture", more_ns=5),
]


@dataclass
class CostFound:
    """A cost measured: what, where, both measurements, their ratio with quartile against opposite quartile."""

    cost: Cost
    type: str
    rows: int
    cols: int
    over: Measurement
    under: Measurement
    promise: str  # empty: none

    @property
    def ratio(self):
        return self.cost.ratio(self.over.median, self.under.median)

    @property
    def low(self):
        return self.cost.ratio(self.over.low, self.under.high)

    @property
    def high(self):
        return self.cost.ratio(self.over.high, self.under.low)

    @property
    def verdict(self):
        kept = self.cost.kept(self.over, self.under, self.rows * self.cols)
        return ("kept" if kept else "missed") if self.promise else ""


def costs_found(results):
    """All that were measured, on the best architecture."""
    best = results.architectures()[-1]
    found = []
    for cost in COSTS:
        for type_ in results.types(cost.section):
            for rows, cols in results.shapes(cost.section, type_):
                place = (cost.section, type_, rows, cols)
                over = results.get(*place, cost.who, best if cost.who == OWN else "-", cost.over)
                under = results.get(*place, OWN, best, cost.under)
                if over and under and cost.compared(results, rows, cols):
                    found.append(CostFound(cost, type_, rows, cols, over, under,
                                           cost.promised(results, type_, rows, cols)))
    return found

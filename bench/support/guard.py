# SPDX-License-Identifier: MIT
"""The regression guard: ratios of times taken in one run, with bands so wide that no healthy machine is outside."""

from dataclasses import dataclass

from results import ATTENTION_NAMES, BACKWARD_WORK, OWN, Measurement, costs_found


@dataclass
class Guarded:
    """A ratio of times and the bound it keeps on the machines that were looked at, with room to spare. Of medians or of
    lower quartiles, whichever speaks for the kernel: what else the machine did is not its fault."""

    words: str
    over: Measurement
    under: Measurement
    bound: float
    at_least: bool = False
    work: float = 1.0  # as of a cost

    @property
    def ratio(self):
        ratios = [self.work * r for r in (self.over.median / self.under.median, self.over.low / self.under.low)]
        return max(ratios) if self.at_least else min(ratios)

    @property
    def holds(self):
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound


# Times as fast as the scalar std::exp loop, in cache.
AGAINST_LOOP = {"float": {"sse2": 1.8, "avx2": 6.0, "avx512": 9.0}, "double": {"sse2": 1.0, "avx2": 2.5, "avx512": 4.0}}
# An element of a row of n in a batch of 64, over one of a long row.
SHORT_ROWS = {16: 2.2, 32: 1.7, 64: 1.6, 128: 1.9, 256: 1.9}
# Of what the memory allows, out of cache.
OF_LIMIT = {"sse2": 0.2, "avx2": 0.4, "avx512": 0.65}
# Attention's rate, of what the arithmetic alone allows.
OF_MULTIPLY_ADDS = {"sse2": 0.35, "avx2": 0.5, "avx512": 0.4}
# Costs are promised at 1.5 and so on; the guard bears a third more. How fast another library is says nothing here.
MARGIN = 4 / 3
COMPARED_WITH = (OWN, "std")


def guarded(results):
    """All ratios that the run has."""
    found = []
    for type_ in results.types("length"):
        for architecture in results.architectures():
            for rows, cols in results.shapes("length", type_):
                own = results.get("length", type_, rows, cols, OWN, architecture, "automatic")
                loop = results.get("length", type_, rows, cols, "std::exp loop")
                where = f"{type_}, {architecture}, n = {cols:,}"
                if own and loop and cols >= 1000 and not results.out_of_cache(type_, cols):
                    found.append(Guarded(f"{where}: times as fast as the std::exp loop", loop, own,
                                         AGAINST_LOOP[type_][architecture], at_least=True))
                floor = results.floor("length", type_, rows, cols)
                if own and floor and results.out_of_cache(type_, cols):
                    found.append(Guarded(f"{where}: of what the memory allows", Measurement([floor]), own,
                                         OF_LIMIT[architecture], at_least=True))
    for architecture in results.architectures():
        long_row = results.get("short_rows", "float", 4, 4096, OWN, architecture, "automatic")
        for rows, cols in results.shapes("short_rows", "float"):
            short = results.get("short_rows", "float", rows, cols, OWN, architecture, "automatic")
            if short and long_row and cols in SHORT_ROWS:
                found.append(Guarded(f"float, {architecture}, rows of {cols}: an element over one of a long row",
                                     short, long_row, SHORT_ROWS[cols]))
        for rows, cols in results.shapes("attention", "float"):
            alone = results.get("attention", "float", rows, cols, OWN, architecture, "multiply_adds")
            for name, work in (("softmax", 1), ("sigmoid", 1), ("lssa", 1), ("softmax_backward", BACKWARD_WORK),
                               ("sigmoid_backward", BACKWARD_WORK), ("lssa_backward", BACKWARD_WORK)):
                own = results.get("attention", "float", rows, cols, OWN, architecture, name)
                if own and alone:
                    found.append(Guarded(f"float, {architecture}, {rows:,} x {cols:,}: attention, {ATTENTION_NAMES[name]}: of the "
                                         "multiply-adds alone", alone, own, OF_MULTIPLY_ADDS[architecture],
                                         at_least=True, work=work))
    for f in costs_found(results):
        if f.cost.who not in COMPARED_WITH:
            continue
        where = f"{f.type}, {f.rows:,} x {f.cols:,}: {f.cost.words}"
        if f.cost.at_most:
            found.append(Guarded(where, f.over, f.under, f.cost.at_most * MARGIN))
        elif f.promise and f.cost.at_least:
            found.append(Guarded(where, f.over, f.under, f.cost.at_least / MARGIN, at_least=True,
                                 work=f.cost.work))
    return found


def print_guard(results, out):
    """Prints all, and returns how many are outside their bounds."""
    outside = 0
    for g in guarded(results):
        outside += not g.holds
        print(f"{'  ' if g.holds else '! '}{g.words:<78}{g.ratio:8.2f}  {'≥' if g.at_least else '≤'} {g.bound:.2f}", file=out)
    failed = len(results.failed())
    print(f"\n{outside} outside their bounds, {failed} wrong answers", file=out)
    return outside + failed

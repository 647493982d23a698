# SPDX-License-Identifier: MIT
"""How good the library's own choices are: `automatic` against every other choice, and where one overtakes another."""

from results import ALGORITHMS, LIMIT, OWN, SIZE_OF

EXPLICIT = [a for a in ALGORITHMS if a != "automatic"]
STORE_WORDS = {"automatic": "", "cached": ", ordinary stores", "streaming": ", streaming stores"}


def best_choice(results, section, type_, architecture, rows, cols):
    """The fastest choice that a caller can make himself: (in words, measurement), or None."""
    found = results.select(section=section, type=type_, rows=rows, cols=cols, who=OWN, architecture=architecture)
    choices = [(f"{k.algorithm}{STORE_WORDS[k.store]}".replace("_", " "), m) for k, m in found.items()
               if k.algorithm in EXPLICIT or k.algorithm == "row_by_row"]
    return min(choices, key=lambda c: c[1].median, default=None)


def automatic_against_best(results, section, type_, architecture):
    """[(rows, cols, automatic, the best other choice in words, ratio of automatic to it)]. The ratio is that of the medians
    or of the lower quartiles, whichever is smaller: what a busy machine adds to one of them is no choice."""
    rows_found = []
    for rows, cols in results.shapes(section, type_):
        own = results.get(section, type_, rows, cols, OWN, architecture, "automatic")
        best = best_choice(results, section, type_, architecture, rows, cols)
        if own and best:
            ratio = min(own.median / best[1].median, own.low / best[1].low)
            rows_found.append((rows, cols, own, best[0], ratio))
    return rows_found


def crossover(points):
    """Where the second of (n, time of one, time of the other) becomes the faster for good: the two n around it. None
    where it never does, (0, n) where it always is."""
    faster = [n for n, one, other in points if other < one]
    slower = [n for n, one, other in points if other >= one]
    if not points or (slower and slower[-1] == points[-1][0]):
        return None
    return (slower[-1] if slower else 0), next(n for n in faster if not slower or n > slower[-1])


def crossovers(results, type_, architecture):
    """The choices of `automatic`: [(what happens, of what the size is, bytes of one n, points for crossover())]."""
    size = SIZE_OF[type_]

    def time(section, rows, n, algorithm, store=None):
        found = results.get(section, type_, rows, n, OWN, architecture, algorithm, store)
        return found.median if found else None

    def points(section, one, other):
        found = [(n, one(rows, n), other(rows, n)) for rows, n in results.shapes(section, type_)]
        return [(n, a, b) for n, a, b in found if a and b]

    def reload_without_maximum(rows, n):
        """Three-pass reload saves its first pass where a guess serves: a read pass less."""
        read = results.get("length", type_, rows, n, LIMIT, algorithm="read")
        reload = time("length", rows, n, "three_pass_reload")
        return reload - read.median if reload and read else None

    return [
        ("two-pass overtakes three-pass reload", "input and output", 2 * size,
         points("length", reload_without_maximum, lambda rows, n: time("length", rows, n, "two_pass"))),
        ("two-pass: streaming stores overtake ordinary ones", "output", size,
         points("length", lambda rows, n: time("length", rows, n, "two_pass", "cached"),
                lambda rows, n: time("length", rows, n, "two_pass", "streaming"))),
        ("a batch: a call for each row overtakes one for all", "row", size,
         points("short_rows", lambda rows, n: time("short_rows", rows, n, "automatic"),
                lambda rows, n: time("short_rows", rows, n, "row_by_row"))),
    ]


def size_words(size):
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size >> 10} KiB" if size >= 1 << 10 else f"{size} bytes"


def print_choices(results, out):
    """Where each choice becomes the faster on this machine, and how far `automatic` is from the best one."""
    for type_ in results.types("length"):
        for architecture in results.architectures():
            print(f"\n{type_}, {architecture}: from what size on", file=out)
            for what, of, size, points in crossovers(results, type_, architecture):
                found = crossover(points)
                if not points:
                    where = "not measured"
                elif found is None:
                    where = f"nowhere (up to {size_words(points[-1][0] * size)})"
                else:
                    where = f"between {size_words(found[0] * size)} and {size_words(found[1] * size)} of {of}"
                print(f"  {what:<52} {where}", file=out)
    print("\nautomatic over the best other choice; above 1.05 it is named", file=out)
    for section in ("length", "short_rows"):
        for type_ in results.types(section):
            for architecture in results.architectures():
                found = automatic_against_best(results, section, type_, architecture)
                worse = [f for f in found if f[4] > 1.05]
                words = "; ".join(f"{rows:,} x {cols:,}: {ratio:.2f} ({best})" for rows, cols, _, best, ratio in worse)
                if found:
                    print(f"  {section.replace('_', ' '):<11}{type_:<7}{architecture:<7} {len(found) - len(worse)} of "
                          f"{len(found)} within 5 %" + (f"; {words}" if words else ""), file=out)

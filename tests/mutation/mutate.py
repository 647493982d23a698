# SPDX-License-Identifier: MIT
"""Called by scripts/mutate: mutate.py ROOT [CMAKE-OPTION...] -- [WORD...]

The kernels of one architecture are compiled one to an object, so that a fault costs one or two of them, a link, and
the tests up to the first that fails. Commands come from CMake, which is asked only to configure.
"""

import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time

split = sys.argv.index("--")
root = pathlib.Path(sys.argv[1])
cmake_options = sys.argv[2:split]
wanted_words = sys.argv[split + 1 :]
build = root / "build" / "mutate"
include = build / "include"
timeout = 300


def stop(message):
    sys.exit(f"scripts/mutate: {message}")


def say(message):
    print(time.strftime("[%H:%M:%S] ") + message, flush=True)


class Mutation:
    """Of mutations.txt: WORD FILE UNITS TESTS, then a line `- original` and a line `+ replacement`."""

    def __init__(self, lines):
        self.word, self.file, units, self.tests = lines[0].split(None, 3)
        self.architecture = None
        if "@" in units:
            units, self.architecture = units.split("@")
        self.units = units.split(",")
        if len(lines) != 3 or not lines[1].startswith("- ") or not lines[2].startswith("+ "):
            stop(f"mutations.txt: {lines[0]}: one line `- ...` and one line `+ ...` must follow")
        self.original, self.replacement = lines[1][2:], lines[2][2:]
        self.path = root / "include" / "xsoftmax" / self.file
        found = self.path.read_text().count(self.original)
        if found != 1:
            stop(f"mutations.txt: in {self.file} this stands {found} times, not once: {self.original}")

    def apply(self):
        text = self.path.read_text().replace(self.original, self.replacement)
        (include / "xsoftmax" / self.file).write_text(text)

    def revert(self):
        shutil.copy2(self.path, include / "xsoftmax" / self.file)


# Kernels that share a header.
HEADER_OF = {"log_sum_exp_state": "log_sum_exp", "sample_without_replacement": "sample_many",
             "gumbel_softmax_backward": "gumbel_softmax"}


def read_mutations():
    text = (root / "tests" / "mutation" / "mutations.txt").read_text()
    text = "\n".join(line for line in text.split("\n") if not line.startswith("#"))
    return [Mutation(block.strip("\n").split("\n")) for block in re.split(r"\n\s*\n", text) if block.strip()]


def run(command, **options):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


class Object:
    """A command of compile_commands.json with the copy of the headers in the place of the headers."""

    def __init__(self, name, command, before=None):
        words = shlex.split(command)
        at = words.index("-o")
        self.path = build / "objects" / (name + ".o")
        del words[at : at + 2]
        self.source = pathlib.Path(words[words.index("-c") + 1])
        headers = [f"-I{before}"] if before else []
        place = words.index(f"-I{root}/include")
        words[place : place + 1] = headers + [f"-I{include}"]
        optimisation = ["-O1", "-Wno-error"]  # last: quick to compile, and the bits are the same
        self.command = words + optimisation

    def compile(self, path=None):
        path = path or self.path
        result = run(self.command + ["-o", str(path)], cwd=build)
        if result.returncode != 0:
            return result.stdout
        return None

    def compile_if_older(self):
        sources = [*include.rglob("*"), *(root / "tests" / "support").glob("*"), self.source]
        if self.path.exists() and all(s.stat().st_mtime <= self.path.stat().st_mtime for s in sources):
            return
        say(f"compiling {self.path.name}")
        error = self.compile()
        if error:
            stop(error[-4000:])


def configure(*options):
    result = run(
        ["cmake", "-S", str(root), "-B", str(build), "-G", "Ninja", *cmake_options, "-DCMAKE_BUILD_TYPE=Release",
         "-DXSOFTMAX_TEST_MODES=dispatch", "-DXSOFTMAX_BUILD_EXAMPLES=OFF", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *options])
    if result.returncode != 0:
        stop(result.stdout[-4000:])


def best_architecture():
    cache = build / "CMakeCache.txt"
    pattern = r"^XSOFTMAX_BEST_ARCH:INTERNAL=(\w+)$"
    if not cache.exists() or not re.search(pattern, cache.read_text(), re.M):
        configure()
    return re.search(pattern, cache.read_text(), re.M).group(1)


def kernel_lines():
    text = (root / "include" / "xsoftmax" / "detail" / "kernels.def").read_text()
    return re.findall(r"^XSOFTMAX_KERNEL\((\w+), (\w+)\)$", text, re.M)


def objects_of(commands, architecture):
    """name -> Object: kernels by name.type, probes, test sources and what supports them by their stem."""
    objects = {}
    for entry in commands:
        file = pathlib.Path(entry["file"])
        command = entry["command"]
        target = re.search(r"CMakeFiles/([^/]+)\.dir", command.split(" -o ")[1]).group(1)
        if target == "xsoftmax_dispatch" and file.stem == architecture:
            for kernel, scalar in kernel_lines():
                header = HEADER_OF.get(kernel, kernel)
                alone = build / "units" / f"{kernel}.{scalar}"
                detail = alone / "xsoftmax" / "detail"
                detail.mkdir(parents=True, exist_ok=True)
                (detail / "kernels.def").write_text(f"XSOFTMAX_KERNEL({kernel}, {scalar})\n")
                (detail / "kernels.hpp").write_text(f"#include <xsoftmax/detail/kernel/{header}.hpp>\n")
                objects[f"{kernel}.{scalar}"] = Object(f"{kernel}.{scalar}", command, before=alone)
        elif target == "xsoftmax_dispatch" and file.stem == "runtime":
            objects["runtime"] = Object("runtime", command)
        elif target == "xsoftmax_test_support" or (
            target == "xsoftmax_tests" and file.name not in ("eigen_test.cpp", "execution_test.cpp")):
            objects[file.stem] = Object(file.stem, command)
        elif file.stem.endswith("_probe"):
            suffix = target.removeprefix("xsoftmax_" + file.stem + "_")
            name = file.stem if suffix == architecture else f"{file.stem}.{suffix}"
            objects[name] = Object(name, command)
    return objects


def libraries():
    lines = run(["ninja", "-C", str(build), "-t", "commands", "xsoftmax_tests"]).stdout.strip().split("\n")
    words = shlex.split(lines[-1].split(" -o xsoftmax_tests ")[-1] if " -o xsoftmax_tests " in lines[-1] else lines[-1])
    return [w for w in words if (w.endswith((".a", ".so")) or w.startswith("-l")) and "libxsoftmax_" not in w] + ["-lpthread"]


def run_tests(program, spec):
    """The name of the first test that fails, or None. A tag would also find the hidden tests, which take hours."""
    spec = ",".join("~[exhaustive]" + part for part in " ".join(shlex.split(spec)).split(","))
    try:
        result = run([str(program), spec, "--abort", "-o", str(build / "tests.log")], timeout=timeout)
    except subprocess.TimeoutExpired:
        return "(time limit)"
    log = (build / "tests.log").read_text(errors="replace")
    if "No test" in log:
        stop(f"mutations.txt: no test is called {spec}")
    if result.returncode == 0:
        return None
    names = re.findall(r"^-{20,}\n((?:[^-\n].*\n)+)-{20,}$", log, re.M)
    return " ".join(names[-1].split()) if names else f"(exit status {result.returncode})"


def main():
    build.mkdir(parents=True, exist_ok=True)
    mutations = read_mutations()
    architecture = best_architecture()
    say(f"{len(mutations)} faults; architecture {architecture}")
    # The copy keeps the times of the files, so that a second run compiles only what has changed.
    if include.exists():
        shutil.rmtree(include)
    shutil.copytree(root / "include", include, copy_function=shutil.copy2)
    (build / "objects").mkdir(exist_ok=True)
    configure(f"-DXSOFTMAX_DISPATCH_ARCHS={architecture}")
    objects = objects_of(json.loads((build / "compile_commands.json").read_text()), architecture)
    for one in objects.values():
        one.compile_if_older()
    link = [os.environ.get("CXX", "g++")]
    rest = libraries()
    program = build / "tests_with_fault"

    def link_with(replaced):
        # Those with the fault first: of inline functions that stand in several objects the linker takes the first copy.
        paths = [str(path) for path in replaced.values()]
        paths += [str(one.path) for name, one in objects.items() if name not in replaced]
        result = run(link + paths + ["-o", str(program)] + rest)
        if result.returncode != 0:
            stop(result.stdout[-4000:])

    link_with({})
    begun = time.time()
    killer = run_tests(program, "*")
    if killer is not None:
        stop(f"without any fault this test fails: {killer}")
    say(f"without a fault all tests pass, in {time.time() - begun:.0f} seconds")

    survived = 0
    rows = []
    whole = time.time()
    for mutation in mutations:
        if wanted_words and mutation.word not in wanted_words:
            continue
        if mutation.architecture not in (None, architecture):
            rows.append((mutation, "not run: a fault of " + mutation.architecture, 0.0))
            continue
        begun = time.time()
        mutation.apply()
        replaced = {}
        killer = None
        for name in mutation.units:
            if name not in objects:
                stop(f"mutations.txt: {mutation.word}: no unit {name}; there are {', '.join(objects)}")
            replaced[name] = build / "mutated" / (name + ".o")
            replaced[name].parent.mkdir(exist_ok=True)
            if objects[name].compile(replaced[name]):
                killer = "(does not compile)"
                break
        mutation.revert()
        if killer is None:
            link_with(replaced)
            killer = run_tests(program, mutation.tests) or run_tests(program, "*")
        seconds = time.time() - begun
        survived += killer is None
        rows.append((mutation, killer or "SURVIVED", seconds))
        say(f"{mutation.word:12} {mutation.file:34} {seconds:4.0f} s  {killer or 'SURVIVED'}")
    print()
    for mutation, killer, seconds in rows:
        print(f"{mutation.word:12} {mutation.file:34} {killer}")
        if killer == "SURVIVED":
            print(f"  - {mutation.original}\n  + {mutation.replacement}")
    done = [row for row in rows if row[2] != 0]
    print(f"\n{len(done) - survived} of {len(done)} killed, in {(time.time() - whole) / 60:.0f} minutes")
    sys.exit(1 if survived else 0)


main()

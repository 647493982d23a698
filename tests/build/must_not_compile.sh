#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# must_not_compile.sh SOURCE COMPILER FLAG...
# SOURCE must not compile, and the compiler must say the text that SOURCE names in its line `// expect:`. With CORRECTED
# defined the same source must compile: so the refusal is about that one thing.
set -uo pipefail
source=$1 compiler=$2
shift 2
expected=$(sed -n 's,^// expect: ,,p' "$source")
flags=$(sed -n 's,^// flags: ,,p' "$source")
[[ -n $expected ]] || { echo "$source: no line '// expect:'"; exit 1; }
# shellcheck disable=SC2086
set -- "$compiler" -std=c++20 -fsyntax-only $flags "$@" "$source"
if ! output=$("$@" -DCORRECTED 2>&1); then
  printf '%s\n%s: the corrected form does not compile\n' "$output" "$source"
  exit 1
fi
if output=$("$@" 2>&1); then
  echo "$source compiles"
  exit 1
fi
# Compilers break long lines of a message at no place of their own, but may repeat it over several notes.
if ! grep -qF -- "$expected" <<<"$output"; then
  printf '%s\n%s does not compile, but without the message: %s\n' "$output" "$source" "$expected"
  exit 1
fi

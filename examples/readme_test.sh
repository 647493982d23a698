#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Takes the program and the commands out of README.md and runs them as a reader would.
#   readme_test.sh [C++ compiler] [cmake]
set -euo pipefail
compiler=${1:-c++}
cmake=${2:-cmake}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# block LANGUAGE TEXT: the fenced block of that language that contains TEXT.
block() {
  awk -v fence="\`\`\`$1" -v text="$2" '
    /^```/ && inside { if (wanted && index(body, text)) { printf "%s", body; found = 1; exit } inside = 0; next }
    /^```/ { inside = 1; wanted = $0 == fence; body = ""; next }
    inside { body = body $0 "\n" }
    END { exit !found }' "$root/README.md" || { echo "README.md has no $1 block with: $2" >&2; exit 1; }
}

# runs PROGRAM: its output is the softmax of 1, 2, 3, 4 at temperature 0.5.
runs() {
  local output
  output=$("$@" | tr '\n' ' ')
  [ "$output" = "0.002144 0.015842 0.117059 0.864955 " ] || { echo "$*: wrong output: $output" >&2; exit 1; }
  echo "ok: $*"
}

cd "$work"
ln -s "$root" xsoftmax
block cpp '#include' > app.cpp
[ "$(wc -l < app.cpp)" -le 12 ] || { echo "the program of README.md has more than 12 lines" >&2; exit 1; }

# What is under test is the text of the README, not the optimiser, which takes long.
not_optimised() { sed "s|g++ -std|$compiler -std|; s| -O2 | -O0 |"; }

echo "== without CMake"
block sh '-march=native' | not_optimised > command.sh
bash -e command.sh
runs ./app

echo "== attention"
block cpp 'xsoftmax/attention.hpp' > attention.cpp
"$compiler" -std=c++20 -O0 -march=native -I xsoftmax/include attention.cpp -o attention
[ "$(./attention)" = 0.5 ] || { echo "the attention program of README.md gives $(./attention)" >&2; exit 1; }
echo "ok: ./attention"

echo "== dispatch without CMake"
rm app
block sh 'XSOFTMAX_TARGET_ARCH' | not_optimised > command.sh
bash -e command.sh
runs ./app
runs env XSOFTMAX_ARCH=sse2 ./app

configure() { # SOURCE OPTION...
  "$cmake" -S "$1" -B "$1/build" -DCMAKE_CXX_COMPILER="$compiler" "${@:2}" > log 2>&1 || { cat log >&2; exit 1; }
}
build() { # SOURCE
  "$cmake" --build "$1/build" > log 2>&1 || { cat log >&2; exit 1; }
}

# consumer SNIPPET OPTION...: a project around the CMake snippet that contains SNIPPET.
consumer() {
  echo "== $1"
  mkdir "$1"
  cp app.cpp "$1"
  ln -s "$root" "$1/xsoftmax"
  { printf 'cmake_minimum_required(VERSION 3.22)\nproject(app LANGUAGES CXX)\nadd_executable(app app.cpp)\n'
    block cmake "$1"; } > "$1/CMakeLists.txt"
  configure "$@"
}

mkdir install
ln -s "$root"/{cmake,include,CMakeLists.txt} install/
configure install -DXSOFTMAX_BUILD_TESTS=OFF -DXSOFTMAX_BUILD_EXAMPLES=OFF
"$cmake" --install install/build --prefix "$work/prefix" > /dev/null
consumer add_subdirectory
build add_subdirectory
runs add_subdirectory/build/app
consumer FetchContent -DFETCHCONTENT_SOURCE_DIR_XSOFTMAX="$root"
consumer find_package -DCMAKE_PREFIX_PATH="$work/prefix"

# The examples, each copied alone, build on the installed package. One architecture of the dispatch library will do, and its
# unit is the same for all of them: the first one's is as new as what the others would compile it from.
unit=CMakeFiles/xsoftmax_dispatch.dir/xsoftmax_dispatch/sse2.cpp.o
for example in "$root"/examples/*/; do
  name=$(basename "$example")
  echo "== the example $name, copied"
  cp -r "$example" "$name"
  configure "$name" -DCMAKE_PREFIX_PATH="$work/prefix" -DXSOFTMAX_DISPATCH_ARCHS=sse2
  if [ -e unit.o ] && [ -d "$name/build/${unit%%/xsoftmax_dispatch/*}" ]; then
    mkdir -p "$name/build/${unit%/*}"
    cp unit.o "$name/build/$unit"
  fi
  build "$name"
  if [ -e "$name/build/$unit" ]; then
    cp "$name/build/$unit" unit.o
  fi
  quick=()
  ! grep -q -e '"--quick"' "$name/main.cpp" || quick=(--quick)
  "$name/build/$name" "${quick[@]}" > log || { cat log >&2; exit 1; }
  echo "ok: $name"
done

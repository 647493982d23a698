#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# consumer.sh HOW WORK_DIR SOURCE_DIR ARCHS CMAKE-ARGUMENT...
# HOW is find_package (from a fresh install tree) or add_subdirectory. Builds tests/build/consumer with the arguments, runs
# its programs with every architecture of the list ARCHS (comma between; those that the machine lacks are skipped), and
# checks the symbols of its dispatch library.
set -euo pipefail
how=$1 work=$2 source=$3 archs=$4
shift 4
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work"
if [[ $how == find_package ]]; then
  cmake -S "$source" -B "$work/package" "-DCMAKE_INSTALL_PREFIX=$work/prefix" -DXSOFTMAX_BUILD_TESTS=OFF \
    -DXSOFTMAX_BUILD_EXAMPLES=OFF -DXSOFTMAX_BUILD_BENCHMARKS=OFF ${XSOFTMAX_CMAKE_OPTIONS:-} >"$work/log" || { cat "$work/log"; exit 1; }
  cmake --install "$work/package" >>"$work/log" || { cat "$work/log"; exit 1; }
  compiled=$(find "$work/prefix" -type f ! -name '*.hpp' ! -name '*.def' ! -name '*.cmake' ! -name '*.cpp.in')
  [[ -z $compiled ]] || { echo "the package installs more than headers and CMake files: $compiled"; exit 1; }
  set -- "-DCMAKE_PREFIX_PATH=$work/prefix" "$@"
else
  set -- "-DXSOFTMAX_DIRECTORY=$source" "$@"
fi
cmake -S "$here/consumer" -B "$work/build" "-DCONSUMER_ARCHS=${archs//,/;}" "$@"
cmake --build "$work/build" --parallel 2

[[ ! -e $work/build/headers_only ]] || "$work/build/headers_only"
for program in dispatched second/second; do
  "$work/build/$program"
  for arch in ${archs//,/ }; do
    if XSOFTMAX_ARCH=$arch "$work/build/$program" "$arch"; then
      continue
    elif "$work/build/$program" | grep -q "architecture: $arch"; then
      exit 1
    fi
    echo "($arch does not run here)"
  done
done
"$work/build/plugin_user"
# Two plugins in one process must not bind to each other's kernels.
if nm -D --defined-only "$work/build/libplugin.so" | c++filt | grep -E 'xsoftmax::.*detail::(call|dispatch)'; then
  echo "the shared library exports the kernels"
  exit 1
fi

library=$(find "$work/build" -name libxsoftmax_dispatch.a)
for arch in ${archs//,/ }; do
  "$here/../dispatch/odr_hygiene.sh" "$source/include/xsoftmax/detail/kernels.def" "$arch" "$library"
done
units=$(ar t "$library" | sort | tr '\n' ' ')
expected=$(printf '%s.cpp.o\n' ${archs//,/ } runtime | sort | tr '\n' ' ')
[[ $units == "$expected" ]] || { echo "the library holds $units instead of $expected"; exit 1; }

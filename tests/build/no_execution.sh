#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# no_execution.sh INCLUDE_DIR COMPILER FLAG...
# No header but execution.hpp includes <execution>, which may bring oneTBB into a program's link; that one does.
set -euo pipefail
root=$1 compiler=$2
shift 2
includes() { # HEADER...: the files that a program with these headers reads
  local header
  for header in "$@"; do echo "#include <$header>"; done | "$compiler" -std=c++20 "${flags[@]}" -M -x c++ -
}
flags=("$@")
mapfile -t core < <(cd "$root" && find xsoftmax -maxdepth 1 -name '*.hpp' ! -name execution.hpp ! -name eigen.hpp \
  ! -name 'dispatch*.hpp' | sort)
[[ ${#core[@]} -ge 5 ]] || { echo "only ${#core[@]} headers: where are they?"; exit 1; }
for mode in "" -DXSOFTMAX_DISPATCH=1; do
  flags=("$@" ${mode:+"$mode"})
  files=$(includes "${core[@]}" ${mode:+xsoftmax/dispatch.hpp})
  # (clang also names <tbb/tbb.h>, because the standard library asks whether it is there.)
  if grep -E '/(execution|pstl/glue_execution_defs.h|oneapi/tbb/[^ ]*)( |$)' <<<"$files"; then
    echo "a header other than execution.hpp includes <execution> or oneTBB $mode"
    exit 1
  fi
done
files=$(includes xsoftmax/execution.hpp) # whole: a compiler whose reader leaves early has failed
grep -qE '/execution( |$)' <<<"$files" || { echo "this test does not see <execution>"; exit 1; }

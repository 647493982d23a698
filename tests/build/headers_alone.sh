#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# headers_alone.sh INCLUDE_DIR COMPILER FLAG...
# Every public header compiles as the only include of a file, twice (include guards), with strict warnings: with and without
# exceptions and run-time type information, and as a user of the dispatch library sees it.
set -uo pipefail
root=$1 compiler=$2
shift 2
strict=(-std=c++20 -fsyntax-only -Wall -Wextra -Wconversion -Wshadow -Wpedantic -Werror)
status=0 count=0
try() { # HEADER FLAG...
  local header=$1 output
  shift
  if ! output=$("$compiler" "${strict[@]}" "$@" -x c++ - <<<"#include <$header>"$'\n'"#include <$header>" 2>&1); then
    printf '%s with %s:\n%s\n' "$header" "$*" "$output"
    status=1
  fi
  count=$((count + 1))
}
while read -r header; do
  case $header in
    xsoftmax/eigen.hpp) modes=("-O1" "-DXSOFTMAX_DISPATCH=1 -fno-exceptions -fno-rtti")
      [[ ${XSOFTMAX_HAS_EIGEN:-no} == yes ]] || continue ;;
    xsoftmax/dispatch.hpp) modes=("-DXSOFTMAX_DISPATCH=1" "-DXSOFTMAX_DISPATCH=1 -fno-exceptions -fno-rtti") ;;
    xsoftmax/dispatch_unit.hpp) modes=("-DXSOFTMAX_TARGET_ARCH=runtime" "-DXSOFTMAX_TARGET_ARCH=runtime -fno-exceptions -fno-rtti") ;;
    *) modes=("-O1" "-DXSOFTMAX_DISPATCH=1 -fno-exceptions -fno-rtti")
      # Where no kernel is reached, both modes see the same text.
      grep -q 'detail/call.hpp' "$root/$header" && modes+=("-fno-exceptions -fno-rtti" "-DXSOFTMAX_DISPATCH=1") ;;
  esac
  for mode in "${modes[@]}"; do
    # shellcheck disable=SC2086
    try "$header" $mode "$@"
  done
done < <(cd "$root" && find xsoftmax -maxdepth 1 -name '*.hpp' | sort; cd "$root" && find xsoftmax/math xsoftmax/softmax -name '*.hpp' | sort)
echo "$count compilations"
[[ $count -ge 16 ]] || { echo "too few: where are the headers?"; exit 1; }
exit $status

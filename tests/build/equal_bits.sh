#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# equal_bits.sh WORK_DIR SOURCE FLAG... -- VARIANT...
# A variant is "run ARCH PROGRAM", a program with run-time dispatch, "COMPILER FLAG...", for which SOURCE is built headers
# only, or "under EMULATOR COMPILER FLAG...", the same for another processor, without FLAGs of its own. Fails unless all
# of them print the same.
set -euo pipefail
work=$1 source=$2
shift 2
flags=()
while [[ $1 != -- ]]; do
  flags+=("$1")
  shift
done
shift
rm -rf "$work"
mkdir -p "$work"
count=0
for variant in "$@"; do
  echo "== $variant"
  read -r -a words <<<"$variant"
  if [[ ${words[0]} == run ]]; then
    XSOFTMAX_ARCH=${words[1]} "${words[@]:2}" >"$work/this"
  elif [[ ${words[0]} == under ]]; then
    "${words[@]:2}" -std=c++20 -static "$source" -o "$work/digest"
    "${words[1]}" "$work/digest" >"$work/this"
  else
    "${words[@]}" -std=c++20 "${flags[@]}" "$source" -o "$work/digest"
    "$work/digest" >"$work/this"
  fi
  cat "$work/this"
  [[ $(wc -l <"$work/this") -eq 2 ]] || { echo "no digest printed"; exit 1; }
  if [[ -e $work/first ]]; then
    cmp "$work/first" "$work/this" || { echo "the bits differ from those of: $1"; exit 1; }
  else
    cp "$work/this" "$work/first"
  fi
  count=$((count + 1))
done
[[ $count -ge 2 ]] || { echo "nothing to compare with"; exit 1; }

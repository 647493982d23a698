#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# fast_math.sh COMPILER OPTION MESSAGE FLAG...: with OPTION the library stops and says MESSAGE, without it it compiles.
set -uo pipefail
compiler=$1 option=$2 message=$3
shift 3
set -- "$compiler" -std=c++20 -O1 -fsyntax-only "$@" -x c++ -
if ! "$@" <<<'#include <xsoftmax/xsoftmax.hpp>'; then
  echo "does not compile even without $option"
  exit 1
fi
# shellcheck disable=SC2086
if output=$("$@" $option <<<'#include <xsoftmax/xsoftmax.hpp>' 2>&1); then
  echo "$option goes through"
  exit 1
fi
grep -qF -- "$message" <<<"$output" || { printf '%s\n%s stops without the message: %s\n' "$output" "$option" "$message"; exit 1; }

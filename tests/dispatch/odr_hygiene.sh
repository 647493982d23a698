#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# odr_hygiene.sh KERNELS_DEF ARCH LIBRARY
# An object built for one architecture must not share a function with any other: the linker would keep one copy, and a
# processor without the instructions in it would fail. So the object defines nothing weak, unique or common, exports exactly
# its functions call::NAME, one for each line of kernels.def, and calls nothing but C's memory functions and the compiler's
# own 128-bit division.
set -euo pipefail
kernels_def=$1 arch=$2 library=$3
object=$(mktemp)
trap 'rm -f "$object"' EXIT
ar p "$library" "$arch.cpp.o" >"$object"
status=0
complain() { echo "odr_hygiene: $*" >&2; status=1; }

# The one weak symbol allowed: the address of the C++ runtime's personality routine, a word of data that position-independent
# code refers to in its unwind tables. It is the same whatever the flags.
allowed_weak='^DW\.ref\.__gxx_personality_v0$'
allowed_undefined='^(memcpy|memmove|memset|__u?(div|mod|divmod)ti[34]|_GLOBAL_OFFSET_TABLE_|__gxx_personality_v0|__stack_chk_fail)$'

expected=$(sed -n 's/^XSOFTMAX_KERNEL(\([a-z0-9_]*\), *\([a-z0-9_]*\)).*/\1 \2/p' "$kernels_def" |
  while read -r name type; do echo "call::$name(arch::$arch, ${name}_task<$type> const&)"; done | sort)
[[ -n $expected ]] || complain "no kernels found in $kernels_def"

[[ -s $object ]] || complain "$library holds no $arch.cpp.o"
weak=$(nm "$object" | awk '$(NF - 1) ~ /^[VvWwuCc]$/ { print $NF }' | grep -Ev "$allowed_weak" || true)
[[ -z $weak ]] || complain "$arch: symbols that the linker merges:"$'\n'"$(c++filt <<<"$weak")"
exported=$(nm --defined-only "$object" | awk '$(NF - 1) ~ /^[A-Z]$/ && $(NF - 1) !~ /[VWC]/ { print $(NF - 1), $NF }' | c++filt |
  sed -E 's/xsoftmax::v[0-9_]+:://g; s/detail:://g')
found=$(sed -n 's/^T //p' <<<"$exported" | sort)
[[ $found == "$expected" ]] || complain "$arch: exported functions:"$'\n'"$found"$'\n'"expected:"$'\n'"$expected"
data=$(grep -v '^T ' <<<"$exported" || true)
[[ -z $data ]] || complain "$arch: exported data:"$'\n'"$data"
undefined=$(nm --undefined-only "$object" | awk '{ print $NF }' | grep -Ev "$allowed_undefined" || true)
[[ -z $undefined ]] || complain "$arch: calls:"$'\n'"$(c++filt <<<"$undefined")"
exit $status

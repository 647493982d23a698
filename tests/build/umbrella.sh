#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# umbrella.sh INCLUDE_DIR: xsoftmax.hpp includes every public header but those that a program chooses on purpose.
set -euo pipefail
cd "$1/xsoftmax"
status=0 count=0
for header in *.hpp; do
  case $header in xsoftmax.hpp | eigen.hpp | execution.hpp | dispatch.hpp | dispatch_unit.hpp | config.hpp) continue ;; esac
  count=$((count + 1))
  grep -qxF "#include <xsoftmax/$header>" xsoftmax.hpp || { echo "xsoftmax.hpp does not include $header"; status=1; }
done
[[ $count -ge 4 ]] || { echo "only $count public headers found"; status=1; }
if grep -vE '^(//.*|#pragma once|#include <xsoftmax/[a-z_]+\.hpp>|)$' xsoftmax.hpp; then
  echo "xsoftmax.hpp holds more than includes"
  status=1
fi
exit $status

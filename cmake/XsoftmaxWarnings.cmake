# SPDX-License-Identifier: MIT
# Warnings of this repository's own builds; no user of the library ever sees this file.
include_guard(GLOBAL)

option(XSOFTMAX_WARNINGS_AS_ERRORS "Stop at warnings in tests, examples and benchmarks" ON)

add_library(xsoftmax_warnings INTERFACE)
target_compile_options(xsoftmax_warnings INTERFACE -Wall -Wextra -Wconversion -Wshadow -Wpedantic
  $<$<BOOL:${XSOFTMAX_WARNINGS_AS_ERRORS}>:-Werror>)

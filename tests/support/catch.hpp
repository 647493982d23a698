// SPDX-License-Identifier: MIT
// Catch2 2.13 and 3 under one name: their headers moved, the macros that the tests use did not.
#pragma once

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
#else
#include <catch2/catch.hpp>
#endif

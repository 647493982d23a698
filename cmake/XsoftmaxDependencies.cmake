# SPDX-License-Identifier: MIT
# Where the dependencies come from: an existing target of the surrounding project, an installed package, or, with
# XSOFTMAX_FETCH_DEPENDENCIES, a download at a fixed release.
include_guard(GLOBAL)
include(FetchContent)

# Sets `out` to the include directories of xsimd 8.1 or later.
function(xsoftmax_find_xsimd out)
  if(NOT TARGET xsimd)
    find_package(xsimd QUIET)
    if(xsimd_FOUND AND xsimd_VERSION VERSION_LESS 8.1 AND NOT XSOFTMAX_FETCH_DEPENDENCIES)
      message(FATAL_ERROR "xsoftmax needs xsimd 8.1 or later; ${xsimd_DIR} holds ${xsimd_VERSION}. "
        "-DXSOFTMAX_FETCH_DEPENDENCIES=ON downloads one.")
    endif()
    if((NOT xsimd_FOUND OR xsimd_VERSION VERSION_LESS 8.1) AND XSOFTMAX_FETCH_DEPENDENCIES)
      # Headers only: the sources are enough, its own targets are not taken in.
      FetchContent_Declare(xsoftmax_xsimd
        GIT_REPOSITORY https://github.com/xtensor-stack/xsimd.git GIT_TAG 13.0.0 GIT_SHALLOW ON SOURCE_SUBDIR none)
      FetchContent_MakeAvailable(xsoftmax_xsimd)
      set(${out} ${xsoftmax_xsimd_SOURCE_DIR}/include PARENT_SCOPE)
      return()
    endif()
    if(NOT xsimd_FOUND)
      message(FATAL_ERROR "xsoftmax needs xsimd 8.1 or later (Debian and Ubuntu: libxsimd-dev). "
        "-DXSOFTMAX_FETCH_DEPENDENCIES=ON downloads one.")
    endif()
  endif()
  get_target_property(directories xsimd INTERFACE_INCLUDE_DIRECTORIES)
  set(${out} "${directories}" PARENT_SCOPE)
endfunction()

# Defines Catch2::Catch2WithMain and catch_discover_tests for Catch2 2.13 or 3.
macro(xsoftmax_find_catch2)
  find_package(Catch2 QUIET)
  if(Catch2_FOUND AND Catch2_VERSION VERSION_LESS 2.13)
    message(FATAL_ERROR "the tests need Catch2 2.13 or later; ${Catch2_DIR} holds ${Catch2_VERSION}")
  elseif(NOT Catch2_FOUND)
    if(NOT XSOFTMAX_FETCH_DEPENDENCIES)
      message(FATAL_ERROR "the tests need Catch2 2.13 or later (Debian and Ubuntu: catch2). "
        "-DXSOFTMAX_FETCH_DEPENDENCIES=ON downloads it, -DXSOFTMAX_BUILD_TESTS=OFF leaves them out.")
    endif()
    FetchContent_Declare(Catch2 GIT_REPOSITORY https://github.com/catchorg/Catch2.git GIT_TAG v3.5.4 GIT_SHALLOW ON)
    FetchContent_MakeAvailable(Catch2)
    list(APPEND CMAKE_MODULE_PATH ${Catch2_SOURCE_DIR}/extras)
  endif()
  include(Catch)
endmacro()

# Defines benchmark::benchmark, 1.7 or later.
macro(xsoftmax_find_benchmark)
  find_package(benchmark 1.7 QUIET)
  if(NOT benchmark_FOUND)
    if(NOT XSOFTMAX_FETCH_DEPENDENCIES)
      message(FATAL_ERROR "the benchmark suite needs Google Benchmark 1.7 or later (Debian and Ubuntu: libbenchmark-dev). "
        "-DXSOFTMAX_FETCH_DEPENDENCIES=ON downloads it.")
    endif()
    set(BENCHMARK_ENABLE_TESTING OFF)
    set(BENCHMARK_ENABLE_INSTALL OFF)
    FetchContent_Declare(benchmark GIT_REPOSITORY https://github.com/google/benchmark.git GIT_TAG v1.8.3 GIT_SHALLOW ON)
    FetchContent_MakeAvailable(benchmark)
  endif()
endmacro()

# SPDX-License-Identifier: MIT
# The library xsoftmax::dispatch: the kernels once per architecture and the choice at run time. It is built in the tree of
# whoever uses it, with that compiler, so nothing compiled is ever installed. The flags of the architectures are here and
# nowhere else.
include_guard(GLOBAL)

set_property(GLOBAL PROPERTY XSOFTMAX_UNIT_TEMPLATE ${CMAKE_CURRENT_LIST_DIR}/arch_tu.cpp.in)

# xsoftmax_known_archs(OUT): the tags of the processor that is compiled for, worst first; empty where there are none.
function(xsoftmax_known_archs out)
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$" AND CMAKE_SIZEOF_VOID_P EQUAL 8)
    set(${out} sse2 avx2 avx512 PARENT_SCOPE)
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(aarch64|arm64|ARM64)$")
    set(${out} neon64 PARENT_SCOPE)
  else()
    set(${out} "" PARENT_SCOPE)
  endif()
endfunction()

# xsoftmax_arch_flags(ARCH OUT): the instruction set of a tag (runtime: the baseline), starting from the baseline whatever
# -march the build has.
function(xsoftmax_arch_flags arch out)
  set(avx2 -march=x86-64 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512cd -mavx512dq -mavx512bw -mavx512vl)
  if(arch STREQUAL "avx2")
    set(flags ${avx2})
  elseif(arch STREQUAL "avx512")
    set(flags ${avx512})
  elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    set(flags -march=x86-64 -mno-sse3)
  endif()
  if(arch STREQUAL "avx512" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # The AVX-512 intrinsics of GCC 12 start from an undefined register on purpose and warn about it.
    list(APPEND flags -Wno-maybe-uninitialized -Wno-uninitialized)
  endif()
  set(${out} "${flags}" PARENT_SCOPE)
endfunction()

# xsoftmax_kernel_flags(OUT): what every unit is compiled with, last on its command line so that it wins over the flags of
# the build: optimised also in a debug build, arithmetic as written, no interprocedural optimisation that could move code
# from one architecture into another.
function(xsoftmax_kernel_flags out)
  set(flags -O2 -DNDEBUG -fno-lto
    -fno-fast-math -fno-unsafe-math-optimizations -fno-finite-math-only -fno-associative-math -fno-reciprocal-math
    -fsigned-zeros -ffp-contract=off)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # A debug build does without the place of every variable after each instruction: that takes as long as the compilation.
    list(APPEND flags -fno-var-tracking-assignments)
  endif()
  set(${out} "${flags}" PARENT_SCOPE)
endfunction()

# xsoftmax_add_dispatch([ARCHS sse2 avx2 avx512])
# Defines the target xsoftmax_dispatch, alias xsoftmax::dispatch, for the named architectures (default: all of the
# processor; the variable XSOFTMAX_DISPATCH_ARCHS also names them). Where the target exists already, as it does after
# find_package(xsoftmax), only its list changes.
function(xsoftmax_add_dispatch)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "" "ARCHS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "xsoftmax_add_dispatch: unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  xsoftmax_known_archs(known)
  if(NOT known)
    message(STATUS "xsoftmax: no run-time dispatch for ${CMAKE_SYSTEM_PROCESSOR}; xsoftmax::dispatch is not defined")
    return()
  endif()
  set(archs ${known})
  if(arg_ARCHS)
    set(archs ${arg_ARCHS})
  elseif(XSOFTMAX_DISPATCH_ARCHS)
    set(archs ${XSOFTMAX_DISPATCH_ARCHS})
  endif()
  foreach(arch IN LISTS archs)
    if(NOT arch IN_LIST known)
      message(FATAL_ERROR "xsoftmax_add_dispatch: no architecture '${arch}' for ${CMAKE_SYSTEM_PROCESSOR}; choices: ${known}")
    endif()
  endforeach()

  if(NOT TARGET xsoftmax_dispatch)
    add_library(xsoftmax_dispatch STATIC EXCLUDE_FROM_ALL)
    add_library(xsoftmax::dispatch ALIAS xsoftmax_dispatch)
    target_link_libraries(xsoftmax_dispatch PUBLIC xsoftmax::xsoftmax)
    target_compile_definitions(xsoftmax_dispatch PUBLIC XSOFTMAX_DISPATCH=1)
    set_target_properties(xsoftmax_dispatch PROPERTIES
      POSITION_INDEPENDENT_CODE ON CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
      INTERPROCEDURAL_OPTIMIZATION OFF UNITY_BUILD OFF)
    get_property(template GLOBAL PROPERTY XSOFTMAX_UNIT_TEMPLATE)
    xsoftmax_kernel_flags(kernel_flags)
    if(NOT CMAKE_SOURCE_DIR STREQUAL xsoftmax_SOURCE_DIR)
      list(APPEND kernel_flags -w) # the warnings of another project's build say nothing about these files
    endif()
    # Units of all architectures; the list, read when the build is generated, says which of them take part.
    set(list "$<TARGET_PROPERTY:xsoftmax_dispatch,XSOFTMAX_ARCHS>")
    foreach(unit IN LISTS known ITEMS runtime)
      set(XSOFTMAX_UNIT ${unit})
      set(source ${CMAKE_CURRENT_BINARY_DIR}/xsoftmax_dispatch/${unit}.cpp)
      configure_file(${template} ${source} @ONLY)
      xsoftmax_arch_flags(${unit} arch_flags)
      set(unit_flags ${arch_flags} ${kernel_flags})
      if(NOT unit STREQUAL "runtime")
        list(APPEND unit_flags -fno-exceptions) # kernels raise nothing, and need no shared function that ends the program
      endif()
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${unit_flags}" SKIP_PRECOMPILE_HEADERS ON)
      if(unit STREQUAL "runtime")
        target_sources(xsoftmax_dispatch PRIVATE ${source})
      else()
        string(TOUPPER ${unit} UNIT)
        target_sources(xsoftmax_dispatch PRIVATE "$<$<IN_LIST:${unit},${list}>:${source}>")
        target_compile_definitions(xsoftmax_dispatch PUBLIC "$<$<IN_LIST:${unit},${list}>:XSOFTMAX_DISPATCH_${UNIT}=1>")
      endif()
    endforeach()
  endif()
  set_property(TARGET xsoftmax_dispatch PROPERTY XSOFTMAX_ARCHS ${archs})
endfunction()

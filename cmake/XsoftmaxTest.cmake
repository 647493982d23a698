# SPDX-License-Identifier: MIT
# How this repository builds and registers its tests.
include_guard(GLOBAL)

# xsoftmax_best_arch(OUT): the best tag that the building machine runs; the baseline when cross-compiling.
function(xsoftmax_best_arch out)
  if(NOT DEFINED XSOFTMAX_BEST_ARCH)
    xsoftmax_known_archs(known)
    list(GET known 0 best)
    if(NOT CMAKE_CROSSCOMPILING)
      try_run(status built ${CMAKE_BINARY_DIR}/best_arch ${PROJECT_SOURCE_DIR}/tests/support/best_arch.cpp
        CMAKE_FLAGS "-DINCLUDE_DIRECTORIES=${PROJECT_SOURCE_DIR}/include" CXX_STANDARD 20 CXX_STANDARD_REQUIRED ON
        COMPILE_OUTPUT_VARIABLE messages RUN_OUTPUT_VARIABLE answer)
      if(NOT built OR NOT status EQUAL 0 OR NOT answer IN_LIST known)
        message(FATAL_ERROR "the check for this machine's best architecture failed: ${answer} ${messages}")
      endif()
      set(best ${answer})
    endif()
    message(STATUS "xsoftmax: best architecture of this machine: ${best}")
    set(XSOFTMAX_BEST_ARCH ${best} CACHE INTERNAL "best architecture that this machine runs")
  endif()
  set(${out} ${XSOFTMAX_BEST_ARCH} PARENT_SCOPE)
endfunction()

# xsoftmax_add_arch_object(NAME SUFFIX ARCH SOURCE [OPTIONS...]): SOURCE compiled with the flags of ARCH, then OPTIONS, and
# -DXSOFTMAX_TARGET_ARCH=ARCH, headers only. Linking NAME brings the object, which is NAME_SUFFIX.
function(xsoftmax_add_arch_object name suffix arch source)
  xsoftmax_kernel_flags(kernel_flags)
  xsoftmax_arch_flags(${arch} arch_flags)
  add_library(${name}_${suffix} OBJECT ${source})
  target_link_libraries(${name}_${suffix} PRIVATE xsoftmax::xsoftmax xsoftmax_warnings)
  target_compile_definitions(${name}_${suffix} PRIVATE XSOFTMAX_TARGET_ARCH=${arch})
  target_compile_options(${name}_${suffix} PRIVATE ${arch_flags} ${kernel_flags} ${ARGN})
  target_sources(${name} INTERFACE $<TARGET_OBJECTS:${name}_${suffix}>)
endfunction()

# xsoftmax_add_arch_objects(NAME SOURCE): SOURCE compiled once per architecture; linking NAME brings all of the objects.
function(xsoftmax_add_arch_objects name source)
  add_library(${name} INTERFACE)
  xsoftmax_known_archs(archs)
  foreach(arch IN LISTS archs)
    xsoftmax_add_arch_object(${name} ${arch} ${arch} ${source})
  endforeach()
endfunction()

# xsoftmax_discover_tests(TARGET): the Catch2 cases of TARGET as tests TARGET.CASE with the label `accuracy` for those
# tagged [accuracy] and `unit` for the others. Cases tagged [.exhaustive] are one test of that label, which takes part only
# in `ctest -C exhaustive`.
#
# A name that holds an unbalanced bracket would break the list of names, and Catch2 2 calls a run of no case a success: so
# that is made an error (Catch2 3 does so by itself).
function(xsoftmax_discover_tests target)
  set(strict "")
  if(DEFINED Catch2_VERSION AND Catch2_VERSION VERSION_LESS 3)
    set(strict -w NoTests)
  endif()
  catch_discover_tests(${target} TEST_PREFIX "${target}." TEST_SPEC "~[accuracy]~[exhaustive]" EXTRA_ARGS ${strict}
    PROPERTIES LABELS unit TIMEOUT 900)
  catch_discover_tests(${target} TEST_PREFIX "${target}." TEST_SPEC "[accuracy]~[exhaustive]" EXTRA_ARGS ${strict}
    PROPERTIES LABELS accuracy TIMEOUT 900)
  add_test(NAME "${target}.exhaustive" CONFIGURATIONS exhaustive COMMAND ${target} "[exhaustive]" --durations yes ${strict})
  set_tests_properties("${target}.exhaustive" PROPERTIES LABELS exhaustive TIMEOUT 14400)
endfunction()

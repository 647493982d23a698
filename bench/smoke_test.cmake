# SPDX-License-Identifier: MIT
# cmake -D BENCH=... -D REPORT=... -D WORK=... -P smoke_test.cmake
# The suite from end to end in seconds: right answers, a page with every chart, the user's own logits, refused files.
cmake_minimum_required(VERSION 3.22)
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})

function(expect_success)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${WORK} RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE errors)
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "failed (${code}): ${ARGN}\n${text}${errors}")
  endif()
  set(text "${text}" PARENT_SCOPE)
endfunction()

function(expect_refusal words)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${WORK} RESULT_VARIABLE code OUTPUT_VARIABLE text ERROR_VARIABLE errors)
  if(NOT code EQUAL 2 OR NOT errors MATCHES "${words}")
    message(FATAL_ERROR "should have been refused with '${words}', was (${code}): ${ARGN}\n${text}${errors}")
  endif()
endfunction()

function(expect_in file words)
  file(READ ${WORK}/${file} content)
  string(FIND "${content}" "${words}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${file} does not contain '${words}'")
  endif()
endfunction()

expect_success(${BENCH} --smoke --output ${WORK}/results.json)
expect_in(results.json "length/float/1x1000/xsoftmax/sse2/two_pass/automatic")
expect_in(results.json "length/double/1x1000/limit/-/copy_nontemporal/-")
foreach(cost columns/float/64x64 columns/double/64x64 halves/float/1x1000 operations/float/1x100 kinds/float/4x1000
    calls/float/1x16 noise/float/4x1000)
  expect_in(results.json "\"${cost}/xsoftmax/")
endforeach()
file(READ ${WORK}/results.json content)
if(NOT content MATCHES "threads/float/64x1000/xsoftmax/[a-z0-9]+/two_threads/" AND
   NOT content MATCHES "\"two_threads\": \"left out")
  message(FATAL_ERROR "two threads were neither measured nor left out with a note")
endif()

# Files of logits: two rows of two floats as raw bytes and as .npy; letters are bytes of harmless floats.
file(WRITE ${WORK}/raw.f32 "AAAABBBBAAAACCCC")
expect_success(${BENCH} --smoke --logits ${WORK}/raw.f32 --output ${WORK}/own.json)
expect_in(own.json "logits/float/1x4/xsoftmax/sse2/online/automatic")
file(WRITE ${WORK}/odd.f32 "AAAAB")
expect_refusal("no multiple of 4" ${BENCH} --logits ${WORK}/odd.f32)
file(WRITE ${WORK}/empty.f32 "")
expect_refusal("holds no logits" ${BENCH} --logits ${WORK}/empty.f32)
expect_refusal("no such file" ${BENCH} --logits ${WORK}/absent.npy)
expect_refusal("unknown argument --fast" ${BENCH} --fast)
expect_refusal("not the number of a core" ${BENCH} --core one)

if(NOT EXISTS /usr/bin/python3)
  message(STATUS "no /usr/bin/python3: the report is not tested")
  return()
endif()
execute_process(COMMAND /usr/bin/python3 -c "import matplotlib, numpy" RESULT_VARIABLE missing OUTPUT_QUIET ERROR_QUIET)
if(missing)
  message(STATUS "no matplotlib: the report is not tested")
  return()
endif()
set(python /usr/bin/python3 -B)

# What NumPy writes is what the suite reads.
file(WRITE ${WORK}/write_files.py "
import numpy as np
z = np.arange(12.0).reshape(3, 4)
np.save('f4.npy', z.astype('<f4')); np.save('f8.npy', z); np.save('line.npy', z[0]); np.save('fortran.npy', np.asfortranarray(z))
np.save('int.npy', z.astype('<i4')); np.save('cube.npy', z.reshape(3, 2, 2)); np.save('big.npy', z.astype('>f4'))
z[1, 2] = np.nan; np.save('nan.npy', z); z[1] = -np.inf; np.save('masked.npy', z); z[1, 0] = 5; np.save('partly.npy', z)
open('short.npy', 'wb').write(open('f8.npy', 'rb').read()[:-1])
")
expect_success(${python} ${WORK}/write_files.py)
foreach(good f4 f8 line partly)
  expect_success(${BENCH} --smoke --logits ${WORK}/${good}.npy --output ${WORK}/${good}.json)
endforeach()
expect_in(f8.json "logits/double/3x4/")
expect_refusal("Fortran order" ${BENCH} --logits ${WORK}/fortran.npy)
expect_refusal("'<i4'" ${BENCH} --logits ${WORK}/int.npy)
expect_refusal("'>f4'" ${BENCH} --logits ${WORK}/big.npy)
expect_refusal("3 dimensions" ${BENCH} --logits ${WORK}/cube.npy)
expect_refusal("row 1, element 2 is NaN" ${BENCH} --logits ${WORK}/nan.npy)
expect_refusal("row 1 holds nothing but -inf" ${BENCH} --logits ${WORK}/masked.npy)
expect_refusal("its header promises" ${BENCH} --logits ${WORK}/short.npy)

# The page: every chart, nothing from elsewhere.
expect_success(${python} ${REPORT} ${WORK}/results.json --html ${WORK}/report.html --picture ${WORK}/picture.svg --table)
if(NOT text MATCHES "two-pass against the best three-pass, double")
  message(FATAL_ERROR "the tables are not complete:\n${text}")
endif()
foreach(line "columns over rows[^\n]* double +64 x 64[^\n]*≤ 1.5 (kept|missed)\n"
    "log_softmax_backward: columns over rows +float +64 x 64[^\n]*≤ 1.5 (kept|missed)\n" "float over bfloat16 +float +1 x 1,000 [^\n]*\n"
    "log_softmax over softmax +float +1 x 100 [^\n]*\n" "ascending rows over usual ones +float +4 x 1,000[^\n]*≤ 1.3 (kept|missed)\n"
    "sample over drawing words[^\n]*≤ 1.5 (kept|missed)\n" "std::extreme_value_distribution over[^\n]*≥ 15 (kept|missed)\n"
    "choice at run time[^\n]*≤ 5 ns more (kept|missed)\n" "short rows, float : at most [0-9.]+ " "\nTwo threads: ")
  if(NOT text MATCHES "${line}")
    message(FATAL_ERROR "the promised costs lack '${line}':\n${text}")
  endif()
endforeach()
expect_in(report.html "<section id=\"costs\"><h2>Promised costs</h2>")
file(READ ${WORK}/report.html page)
foreach(chart ratio-float ratio-double time-float time-double bandwidth-float bandwidth-double peers vocabulary-float
    short_rows-float)
  expect_in(report.html "id=\"${chart}-figure_1\"")
endforeach()
if(page MATCHES "(src|href)=\"(https?:)?//" OR page MATCHES "url\\(http")
  message(FATAL_ERROR "the page asks for something from elsewhere: ${CMAKE_MATCH_0}")
endif()

# Choices and guard, which runs of their own feed, read what this one has.
expect_success(${python} ${REPORT} ${WORK}/results.json --choices)
if(NOT text MATCHES "two-pass overtakes three-pass reload +(between|nowhere)" OR NOT text MATCHES "of [0-9]+ within 5 %")
  message(FATAL_ERROR "the choices are not complete:\n${text}")
endif()
execute_process(COMMAND ${python} ${REPORT} ${WORK}/results.json --guard WORKING_DIRECTORY ${WORK} RESULT_VARIABLE code
  OUTPUT_VARIABLE text ERROR_VARIABLE errors)
if(NOT text MATCHES "\n([0-9]+) outside their bounds, 0 wrong answers")
  message(FATAL_ERROR "the guard did not say how many:\n${text}${errors}")
endif()
if((CMAKE_MATCH_1 EQUAL 0 AND NOT code EQUAL 0) OR (CMAKE_MATCH_1 GREATER 0 AND NOT code EQUAL 1))
  message(FATAL_ERROR "the guard found ${CMAKE_MATCH_1} outside their bounds and returned ${code}")
endif()
# A kernel that takes seconds does not get past it.
file(READ ${WORK}/results.json slower)
string(REGEX REPLACE "(/xsoftmax/[a-z0-9]+/automatic/automatic[^}]*\"cpu_time\": )[0-9.e+-]+" "\\1 9e9" slower "${slower}")
file(WRITE ${WORK}/slower.json "${slower}")
execute_process(COMMAND ${python} ${REPORT} ${WORK}/slower.json --guard RESULT_VARIABLE code OUTPUT_VARIABLE text)
if(NOT code EQUAL 1 OR NOT text MATCHES "\n! float")
  message(FATAL_ERROR "the guard let a slow kernel pass (${code}):\n${text}")
endif()
expect_success(${python} ${REPORT} ${WORK}/f4.json --html ${WORK}/own.html)
expect_in(own.html "id=\"logits-figure_1\"")

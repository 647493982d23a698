# SPDX-License-Identifier: MIT
# cmake -DHEADER=version.hpp -DVERSION=x.y.z -P version.cmake: the project's version, the three numbers of the header and
# its inline namespace agree.
file(READ ${HEADER} text)
foreach(part IN ITEMS MAJOR MINOR PATCH)
  if(NOT text MATCHES "#define XSOFTMAX_VERSION_${part} ([0-9]+)")
    message(FATAL_ERROR "${HEADER} does not define XSOFTMAX_VERSION_${part}")
  endif()
  list(APPEND numbers ${CMAKE_MATCH_1})
endforeach()
list(JOIN numbers "." dotted)
list(JOIN numbers "_" underlined)
if(NOT dotted STREQUAL VERSION)
  message(FATAL_ERROR "the header says ${dotted}, the project ${VERSION}")
endif()
if(NOT text MATCHES "#define XSOFTMAX_ABI_NAMESPACE v${underlined}\n")
  message(FATAL_ERROR "the inline namespace is not v${underlined}")
endif()

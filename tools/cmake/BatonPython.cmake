# Python with its headers, numpy and pybind11, for the python loader and the Python package.
#
#   BATON_HAVE_PYTHON           whether all of it is there
#   BATON_PYTHON                the interpreter (default: the distribution's, not what comes first in PATH)
#   BATON_PYBIND11_INCLUDE_DIR  pybind11's headers
#   Python3::Python, Python3::Module
set(BATON_HAVE_PYTHON OFF)
if(BATON_WITH_PYTHON STREQUAL "OFF")
  return()
endif()
find_program(BATON_PYTHON python3 PATHS /usr/bin NO_DEFAULT_PATH)
if(BATON_PYTHON)
  set(Python3_EXECUTABLE "${BATON_PYTHON}")
endif()
find_package(Python3 3.11 COMPONENTS Interpreter Development.Embed Development.Module)
set(PYBIND11_NOPYTHON ON)  # found above
find_package(pybind11 2.10 CONFIG QUIET)

set(missing "")
if(NOT Python3_FOUND OR NOT TARGET Python3::Python)
  list(APPEND missing "Python 3.11 with its headers (python3-dev)")
else()
  execute_process(COMMAND "${Python3_EXECUTABLE}" -c "import numpy" RESULT_VARIABLE no_numpy
                  OUTPUT_QUIET ERROR_QUIET)
  if(no_numpy)
    list(APPEND missing "numpy (python3-numpy)")
  endif()
endif()
if(NOT pybind11_FOUND)
  list(APPEND missing "pybind11 (pybind11-dev)")
endif()
list(JOIN missing ", " missing)

if(NOT missing)
  set(BATON_HAVE_PYTHON ON)
  set(BATON_PYBIND11_INCLUDE_DIR "${pybind11_INCLUDE_DIR}")
elseif(BATON_WITH_PYTHON STREQUAL "ON")
  message(FATAL_ERROR "BATON_WITH_PYTHON=ON, but there is no ${missing}. Run tools/setup, or set BATON_PYTHON "
                      "to another interpreter.")
else()
  message(STATUS "The python loader is left out: there is no ${missing} (tools/setup gets it)")
endif()

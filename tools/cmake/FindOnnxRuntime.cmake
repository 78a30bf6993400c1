# FindOnnxRuntime: ONNX Runtime, as the system has it or as tools/setup put it into the user's cache.
#
#   ONNXRUNTIME_ROOT          a folder with include/ and lib/ (default: what tools/setup made)
#   OnnxRuntime_FOUND, OnnxRuntime_VERSION, OnnxRuntime_LIBRARY, OnnxRuntime_INCLUDE_DIR
#   onnxruntime::onnxruntime  the imported target
if(DEFINED ENV{BATON_CACHE})
  set(_baton_cache "$ENV{BATON_CACHE}")
elseif(DEFINED ENV{XDG_CACHE_HOME})
  set(_baton_cache "$ENV{XDG_CACHE_HOME}/baton")
elseif(DEFINED ENV{HOME})
  set(_baton_cache "$ENV{HOME}/.cache/baton")
else()
  set(_baton_cache "${PROJECT_SOURCE_DIR}/build/.cache/baton")
endif()
set(BATON_CACHE "${_baton_cache}" CACHE PATH "Where tools/setup keeps what it downloaded")
set(ONNXRUNTIME_ROOT "${BATON_CACHE}/onnxruntime" CACHE PATH "ONNX Runtime: a folder with include/ and lib/")

find_path(OnnxRuntime_INCLUDE_DIR onnxruntime_cxx_api.h
          HINTS "${ONNXRUNTIME_ROOT}/include"
          PATH_SUFFIXES onnxruntime onnxruntime/core/session)
find_library(OnnxRuntime_LIBRARY NAMES onnxruntime libonnxruntime.so.1
             HINTS "${ONNXRUNTIME_ROOT}/lib")

set(OnnxRuntime_VERSION "")
if(OnnxRuntime_INCLUDE_DIR)
  file(STRINGS "${OnnxRuntime_INCLUDE_DIR}/onnxruntime_c_api.h" _line REGEX "#define ORT_API_VERSION")
  if(_line MATCHES "ORT_API_VERSION ([0-9]+)")
    set(OnnxRuntime_VERSION "1.${CMAKE_MATCH_1}")  # the API version is the minor version
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(OnnxRuntime
  REQUIRED_VARS OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR
  VERSION_VAR OnnxRuntime_VERSION)
mark_as_advanced(OnnxRuntime_LIBRARY OnnxRuntime_INCLUDE_DIR)

if(OnnxRuntime_FOUND AND NOT TARGET onnxruntime::onnxruntime)
  add_library(onnxruntime::onnxruntime SHARED IMPORTED)
  set_target_properties(onnxruntime::onnxruntime PROPERTIES
    IMPORTED_LOCATION "${OnnxRuntime_LIBRARY}"
    INTERFACE_INCLUDE_DIRECTORIES "${OnnxRuntime_INCLUDE_DIR}")
endif()

# Tests. Each GoogleTest case is a ctest test of its own.
include(GoogleTest)

# What every test sees: where the source is, and where the programs that it may start are.
set(BATON_TEST_ENVIRONMENT
    "BATON_SOURCE_DIR=${PROJECT_SOURCE_DIR}"
    "BATON_BINARY_DIR=${PROJECT_BINARY_DIR}"
    "BATON_LIBEXEC_DIR=${PROJECT_BINARY_DIR}/bin")

# All that the thread-sanitizer run needs, so that it builds nothing else.
add_custom_target(tsan_tests)

# baton_test(NAME SOURCES file... LIBS library... [LABELS label...] [ENV NAME=VALUE...]
#            [TIMEOUT seconds] [DEPENDS target...] [FILTER pattern] [SERIAL])
#
# DEPENDS are programs that the test starts. SERIAL keeps other tests from running beside it (for tests
# that count system-wide things). TIMEOUT is per case. The label `tsan` puts a test into the
# thread-sanitizer run; `gpu` says that it may be skipped where there is no GPU; `hardware` beside it, that
# a simulated GPU does not do. FILTER: only the cases that this --gtest_filter picks; what a
# baton_simgpu_variant runs is all of them.
function(baton_test)
  cmake_parse_arguments(PARSE_ARGV 0 arg "SERIAL" "NAME;TIMEOUT;FILTER" "SOURCES;LIBS;LABELS;ENV;DEPENDS")
  if(NOT arg_NAME)
    list(POP_FRONT arg_UNPARSED_ARGUMENTS arg_NAME)
  endif()
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
    message(FATAL_ERROR "baton_test(${arg_NAME}): no SOURCES, or unknown arguments: "
                        "${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()
  if(BATON_SANITIZE)
    math(EXPR arg_TIMEOUT "${arg_TIMEOUT} * 3")
  endif()
  set(name ${arg_NAME})

  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_LIBS} GTest::gmock GTest::gtest GTest::gtest_main)
  if(arg_DEPENDS)
    add_dependencies(${name} ${arg_DEPENDS})
  endif()

  if("tsan" IN_LIST arg_LABELS)
    add_dependencies(tsan_tests ${name})
  endif()

  # For the bundle that tools/gpu-check takes to a machine with a GPU.
  if("gpu" IN_LIST arg_LABELS)
    set_property(GLOBAL APPEND PROPERTY BATON_GPU_TESTS ${name})
    list(JOIN arg_LABELS "\" \"" labels)
    set_target_properties(${name} PROPERTIES
      BATON_BUNDLED_DEPENDS "${arg_DEPENDS}"
      BATON_BUNDLED_TEST
        "TIMEOUT \"${arg_TIMEOUT}\" LABELS \"${labels}\" ENV \"${arg_ENV}\" SERIAL \"${arg_SERIAL}\"")
  endif()

  set(filter "")
  if(arg_FILTER)
    set(filter TEST_FILTER "${arg_FILTER}")
  endif()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 NO_PRETTY_VALUES
                       TEST_PREFIX "${name}/" ${filter})

  # The properties go in a file that ctest reads after the discovery: that takes no list as a value.
  set(properties "TIMEOUT [==[${arg_TIMEOUT}]==] LABELS [==[${arg_LABELS}]==]")
  string(APPEND properties " ENVIRONMENT [==[${BATON_TEST_ENVIRONMENT};${arg_ENV}]==]")
  if(arg_SERIAL)
    string(APPEND properties " RUN_SERIAL TRUE")
  endif()
  set(file "${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake")
  file(GENERATE OUTPUT "${file}" CONTENT
       "if(${name}_TESTS)\n  set_tests_properties(\${${name}_TESTS} PROPERTIES ${properties})\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${file}")
endfunction()

# baton_simgpu_variant(NAME [ENV NAME=VALUE...] [SERIAL])
#
# Runs the cases of a test once more, on a simulated GPU, as simgpu/NAME/..., with the label simgpu alone.
# The tests serve through tests/system/test_server.h.
function(baton_simgpu_variant name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SERIAL" "" "ENV")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60 NO_PRETTY_VALUES
                       TEST_PREFIX "simgpu/${name}/" TEST_LIST simgpu_${name}_TESTS)
  set(properties "TIMEOUT 900 LABELS simgpu")
  string(APPEND properties
         " ENVIRONMENT [==[${BATON_TEST_ENVIRONMENT};BATON_TEST_DEVICE=simgpu;${arg_ENV}]==]")
  if(arg_SERIAL)
    string(APPEND properties " RUN_SERIAL TRUE")
  endif()
  set(file "${CMAKE_CURRENT_BINARY_DIR}/simgpu_${name}_properties.cmake")
  file(GENERATE OUTPUT "${file}" CONTENT
       "if(simgpu_${name}_TESTS)\n  set_tests_properties(\${simgpu_${name}_TESTS} PROPERTIES ${properties})\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${file}")
endfunction()

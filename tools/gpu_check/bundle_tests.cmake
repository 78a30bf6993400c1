# The first part of the CTestTestfile.cmake of a bundle of tools/gpu-check: tells ctest of the cases of its
# test programs, wherever the bundle lies. Nothing here may need more than ctest and the bundle.

# ctest works in the bundle's folder when it reads this, and has no variable that says which.
file(READ_SYMLINK /proc/self/cwd bundle)

# baton_bundled_test(NAME PROGRAM TIMEOUT seconds LABELS label... ENV NAME=VALUE... SERIAL bool)
#
# A test of ctest for each GoogleTest case of PROGRAM (a path in the bundle), in a process of its own: one
# that loses its context does not take others with it. A program that cannot say its cases is one test,
# which fails.
function(baton_bundled_test name program)
  set(path "${bundle}/${program}")
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "TIMEOUT;SERIAL" "LABELS;ENV")
  execute_process(COMMAND "${path}" --gtest_list_tests
                  OUTPUT_VARIABLE listed RESULT_VARIABLE result ERROR_QUIET)
  set(cases "")
  if(result EQUAL 0)
    string(REPLACE "\n" ";" lines "${listed}")
    foreach(line IN LISTS lines)
      string(REGEX REPLACE " +#.*$" "" line "${line}")
      if(line MATCHES "^  *([^ ]+)$")
        list(APPEND cases "${suite}${CMAKE_MATCH_1}")
      elseif(line MATCHES "^([^ ]+\\.)$")
        set(suite "${CMAKE_MATCH_1}")
      endif()
    endforeach()
  endif()
  string(REPLACE "@BUNDLE@" "${bundle}" environment "${arg_ENV}")
  list(APPEND environment "BATON_SOURCE_DIR=${bundle}/source" "BATON_BINARY_DIR=${bundle}"
                          "BATON_LIBEXEC_DIR=${bundle}/bin")
  if(NOT cases)
    add_test("${name}" "${path}" --gtest_list_tests)
    set_tests_properties("${name}" PROPERTIES LABELS "${arg_LABELS}"
                         FAIL_REGULAR_EXPRESSION ".*")
  endif()
  foreach(case IN LISTS cases)
    add_test("${name}/${case}" "${path}" "--gtest_filter=${case}" --gtest_color=no)
    set_tests_properties("${name}/${case}" PROPERTIES
      LABELS "${arg_LABELS}"
      TIMEOUT "${arg_TIMEOUT}"
      RUN_SERIAL "${arg_SERIAL}"
      SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]"
      ENVIRONMENT "${environment}")
  endforeach()
endfunction()

# baton_bench(NAME x_bench SOURCES file... LIBS library... [DEPENDS target...])
#
# A Google Benchmark program with a main of its own or of the library's (LIBS benchmark::benchmark_main).
function(baton_bench)
  cmake_parse_arguments(PARSE_ARGV 0 arg "" "NAME" "SOURCES;LIBS;DEPENDS")
  if(NOT arg_NAME)
    list(POP_FRONT arg_UNPARSED_ARGUMENTS arg_NAME)
  endif()
  if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
    message(FATAL_ERROR "baton_bench(${arg_NAME}): no SOURCES, or unknown arguments: "
                        "${arg_UNPARSED_ARGUMENTS}")
  endif()
  add_executable(${arg_NAME} ${arg_SOURCES})
  target_include_directories(${arg_NAME} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
  target_link_libraries(${arg_NAME} PRIVATE ${arg_LIBS} benchmark::benchmark)
  if(arg_DEPENDS)
    add_dependencies(${arg_NAME} ${arg_DEPENDS})
  endif()
endfunction()

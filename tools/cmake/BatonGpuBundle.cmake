# What tools/gpu-check --bundle packs: the target gpu_bundle builds it, and two files of the build folder
# say what it is.
#
#   gpu_bundle/files                 a path in the build folder, a line: the same path in the bundle
#   gpu_bundle/tests                 the tests with the label gpu, by tools/gpu_check/bundle_tests.cmake
#
# Paths in the bundle are those of the build folder, so that a test that finds things by BATON_BINARY_DIR
# finds them there, too; files of the source folder are under source/, for BATON_SOURCE_DIR.
set(bundle_targets baton-supervisor baton-worker baton-confirm shmctl baton-gpu-measure
                   baton_gpu_check_model)
foreach(target simgpu_cuda simgpu_nvml baton-simgpu-run)  # for tools/gpu-check --simulated
  if(TARGET ${target})
    list(APPEND bundle_targets ${target})
  endif()
endforeach()

set(tests_text "")
get_property(tests GLOBAL PROPERTY BATON_GPU_TESTS)
foreach(test IN LISTS tests)
  list(APPEND bundle_targets ${test})
  get_target_property(about ${test} BATON_BUNDLED_TEST)
  get_target_property(depends ${test} BATON_BUNDLED_DEPENDS)
  if(depends)
    list(APPEND bundle_targets ${depends})
  endif()
  # The bundle's folder takes the place of this tree's.
  string(REPLACE "${PROJECT_BINARY_DIR}" "@BUNDLE@" about "${about}")
  string(REPLACE "${PROJECT_SOURCE_DIR}" "@BUNDLE@/source" about "${about}")
  string(REGEX REPLACE "\\$<TARGET_FILE:([^>]*)>"
         "@BUNDLE@/$<PATH:RELATIVE_PATH,$<TARGET_FILE:\\1>,${PROJECT_BINARY_DIR}>" about "${about}")
  set(path "$<PATH:RELATIVE_PATH,$<TARGET_FILE:${test}>,${PROJECT_BINARY_DIR}>")
  string(APPEND tests_text "baton_bundled_test(${test} \"${path}\" ${about})\n")
endforeach()
list(REMOVE_DUPLICATES bundle_targets)

set(files_text "")
foreach(target IN LISTS bundle_targets)
  get_target_property(type ${target} TYPE)
  if(type MATCHES "^(EXECUTABLE|MODULE_LIBRARY|SHARED_LIBRARY)$")
    string(APPEND files_text "$<PATH:RELATIVE_PATH,$<TARGET_FILE:${target}>,${PROJECT_BINARY_DIR}>\n")
  endif()
endforeach()
file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/gpu_bundle/files" CONTENT "${files_text}")
file(GENERATE OUTPUT "${PROJECT_BINARY_DIR}/gpu_bundle/tests" CONTENT "${tests_text}")
add_custom_target(gpu_bundle DEPENDS ${bundle_targets})

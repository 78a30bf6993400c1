# The installed package: headers, libraries, programs, and find_package(Baton) with
#
#   Baton::front   for services that hand requests to a server
#   Baton::model   header-only, for authors of native models
include(CMakePackageConfigHelpers)

# baton_package_closure(OUT target...): the targets, and those of ours that they link.
function(baton_package_closure out)
  set(todo ${ARGN})
  set(done "")
  while(todo)
    list(POP_FRONT todo target)
    if(NOT TARGET ${target} OR target IN_LIST done)
      continue()
    endif()
    get_target_property(imported ${target} IMPORTED)
    get_target_property(aliased ${target} ALIASED_TARGET)
    if(imported)
      continue()
    elseif(aliased)
      list(APPEND todo ${aliased})
      continue()
    endif()
    list(APPEND done ${target})
    get_target_property(type ${target} TYPE)
    foreach(property INTERFACE_LINK_LIBRARIES LINK_LIBRARIES)
      if(NOT type STREQUAL "INTERFACE_LIBRARY" OR property STREQUAL "INTERFACE_LINK_LIBRARIES")
        get_target_property(linked ${target} ${property})
        if(linked)
          list(TRANSFORM linked REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1")
          list(APPEND todo ${linked})
        endif()
      endif()
    endforeach()
  endwhile()
  set(${out} ${done} PARENT_SCOPE)
endfunction()

baton_package_closure(package_targets baton_front baton_model)
foreach(target IN LISTS package_targets)
  string(REGEX REPLACE "^baton_" "" name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  add_library(Baton::${name} ALIAS ${target})  # the same names for a tree that includes this one
endforeach()
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/Baton")
install(TARGETS ${package_targets} EXPORT BatonTargets
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(EXPORT BatonTargets NAMESPACE Baton:: DESTINATION "${package_dir}")

get_property(include_dirs GLOBAL PROPERTY BATON_PUBLIC_INCLUDE_DIRS)
list(REMOVE_DUPLICATES include_dirs)
foreach(dir IN LISTS include_dirs)
  install(DIRECTORY "${dir}/baton" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
          FILES_MATCHING PATTERN "*.h")
endforeach()


configure_package_config_file(
  "${CMAKE_CURRENT_LIST_DIR}/BatonConfig.cmake.in" "${PROJECT_BINARY_DIR}/BatonConfig.cmake"
  INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/BatonConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/BatonConfig.cmake"
              "${PROJECT_BINARY_DIR}/BatonConfigVersion.cmake"
        DESTINATION "${package_dir}")

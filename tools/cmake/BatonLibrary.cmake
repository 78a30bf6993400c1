# Libraries and programs of the source folders, and the code that Cap'n Proto generates for them.
include(GNUInstallDirs)

# baton_library(NAME [SOURCES file...] [SCHEMAS x.capnp...] [LINK library...] [LINK_PRIVATE library...]
#               [INCLUDE dir...])
#
# A static library (or only an interface, without SOURCES). Headers are included by their path from the
# repository root; INCLUDE names the folders (relative to this one) that hold public `baton/` headers,
# which are installed.
function(baton_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;SCHEMAS;LINK;LINK_PRIVATE;INCLUDE")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "baton_library(${name}): unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_SOURCES OR arg_SCHEMAS)
    add_library(${name} STATIC ${arg_SOURCES})
    set(scope PUBLIC)
  else()
    add_library(${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(${name} ${scope} "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>"
                                              "$<BUILD_INTERFACE:${PROJECT_BINARY_DIR}>")
  foreach(dir IN LISTS arg_INCLUDE)
    get_filename_component(dir "${dir}" ABSOLUTE)
    target_include_directories(${name} ${scope} "$<BUILD_INTERFACE:${dir}>")
    set_property(GLOBAL APPEND PROPERTY BATON_PUBLIC_INCLUDE_DIRS "${dir}")
  endforeach()
  target_link_libraries(${name} ${scope} ${arg_LINK})
  if(arg_LINK_PRIVATE)
    target_link_libraries(${name} PRIVATE ${arg_LINK_PRIVATE})
  endif()
  target_compile_features(${name} ${scope} cxx_std_20)
  if(arg_SCHEMAS)
    baton_capnp(${name} ${arg_SCHEMAS})
  endif()
endfunction()

# baton_executable(NAME SOURCES file... LINK library... [INSTALL bin|libexec])
#
# INSTALL libexec is for programs that only other programs start: they go to libexec/baton.
function(baton_executable name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "INSTALL" "SOURCES;LINK")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "baton_executable(${name}): unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
  target_link_libraries(${name} PRIVATE ${arg_LINK})
  # One folder, so that they find each other in a build tree as they do when installed.
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
  if(arg_INSTALL)
    set(dir "${CMAKE_INSTALL_BINDIR}")
    if(arg_INSTALL STREQUAL "libexec")
      set(dir "${CMAKE_INSTALL_LIBEXECDIR}/baton")
    endif()
    install(TARGETS ${name} RUNTIME DESTINATION "${dir}")
    # Libraries of other prefixes (ONNX Runtime in the user's cache) stay found.
    set_target_properties(${name} PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
  endif()
endfunction()

# baton_capnp(TARGET schema.capnp...)
#
# Adds the generated sources to TARGET. The header of ipc/schema/x.capnp is "ipc/schema/x.capnp.h".
function(baton_capnp target)
  set(CAPNPC_SRC_PREFIX "${PROJECT_SOURCE_DIR}")
  set(CAPNPC_OUTPUT_DIR "${PROJECT_BINARY_DIR}")
  set(CAPNPC_IMPORT_DIRS "${PROJECT_SOURCE_DIR}")
  set(CAPNPC_FLAGS "")
  set(schemas "")
  foreach(schema IN LISTS ARGN)
    get_filename_component(schema "${schema}" ABSOLUTE)
    list(APPEND schemas "${schema}")
  endforeach()
  capnp_generate_cpp(sources headers ${schemas})
  target_sources(${target} PRIVATE ${sources} ${headers})
  # Users of the target include the generated headers, so these must exist before those compile.
  add_custom_target(${target}_schemas DEPENDS ${headers})
  add_dependencies(${target} ${target}_schemas)
  target_link_libraries(${target} PUBLIC CapnProto::capnp)
endfunction()

# Programs that need nothing but glibc: what they stand on is linked in, so that they start on another
# distribution (one whose glibc is not older than this one's). For the bundle of tools/gpu-check.
#
# Include it before anything of ours links; baton_static_dependencies() after the packages were found.
add_link_options(-static-libstdc++ -static-libgcc)

# Debian has no static archive of spdlog or fmt, but both work from their headers alone. A package whose
# targets are all there does not define them again, so these stand for the folders that look for it.
foreach(target spdlog::spdlog spdlog::spdlog_header_only)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  target_compile_definitions(${target} INTERFACE SPDLOG_FMT_EXTERNAL FMT_HEADER_ONLY=1)
  target_link_libraries(${target} INTERFACE Threads::Threads)
endforeach()

# Points each imported shared library of this folder at the static archive that lies beside it. One that
# has none stays shared; tools/gpu-check says so when it looks at what it bundles.
function(baton_static_dependencies)
  get_property(targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(target IN LISTS targets)
    get_target_property(type ${target} TYPE)
    if(NOT type MATCHES "^(SHARED|UNKNOWN)_LIBRARY$")
      continue()
    endif()
    get_target_property(configurations ${target} IMPORTED_CONFIGURATIONS)
    set(properties IMPORTED_LOCATION)
    if(configurations)
      foreach(configuration IN LISTS configurations)
        list(APPEND properties IMPORTED_LOCATION_${configuration})
      endforeach()
    endif()
    foreach(property IN LISTS properties)
      get_target_property(location ${target} ${property})
      if(NOT location)
        continue()
      endif()
      # libx.so, libx.so.1.2, libx-1.2.so: all of them may be named by a link libx.so.
      string(REGEX REPLACE "(-[0-9.]+)?\\.so(\\.[0-9.]+)?$" ".a" archive "${location}")
      if(archive MATCHES "\\.a$" AND EXISTS "${archive}")
        set_target_properties(${target} PROPERTIES ${property} "${archive}")
      endif()
    endforeach()
  endforeach()
endfunction()

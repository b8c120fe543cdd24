# Finds what the adapter needs, and ends with an error in words if something is missing or too old.
set(octopus_version 0.1)
set(api_version 0.5.2)

# Gives the target octopus::octopus.
macro(find_octopus)
    find_package(octopus ${octopus_version} QUIET)
    # C++ Octopus has a CMake package of the same name, without this target.
    if(NOT octopus_FOUND OR NOT TARGET octopus::octopus)
        describe_octopus(found)
        # So that a corrected CMAKE_PREFIX_PATH has an effect in this build folder, too.
        unset(octopus_DIR CACHE)
        message(FATAL_ERROR "Octopus ${octopus_version} is not found${found}. Install it with "
            "`ci/install.sh --prefix DIR`, and put DIR first in CMAKE_PREFIX_PATH.")
    endif()
endmacro()

# Sets a variable to what find_package has found instead of Octopus.
function(describe_octopus variable)
    set(text "")
    if(octopus_CONSIDERED_CONFIGS)
        list(GET octopus_CONSIDERED_CONFIGS -1 config)
        list(GET octopus_CONSIDERED_VERSIONS -1 version)
        set(text ": ${config} is of version ${version}")
        if(config MATCHES "octopus-config\\.cmake$")
            string(APPEND text " of C++ Octopus")
        elseif(octopus_NOT_FOUND_MESSAGE)
            set(text ": ${octopus_NOT_FOUND_MESSAGE}")
        endif()
    endif()
    set(${variable} "${text}" PARENT_SCOPE)
endfunction()

# Gives the target PkgConfig::API, API_LIBRARY_DIRS and API_INCLUDE_DIRS.
macro(find_api)
    find_package(PkgConfig QUIET)
    if(NOT PKG_CONFIG_FOUND)
        message(FATAL_ERROR "pkg-config is not found, which finds diaspora-stream-api: install it (Debian: "
            "pkg-config, Fedora: pkgconf-pkg-config), or set PKG_CONFIG_EXECUTABLE to the program.")
    endif()
    pkg_check_modules(API QUIET IMPORTED_TARGET diaspora-stream-api)
    if(NOT API_FOUND)
        message(FATAL_ERROR "diaspora-stream-api is not found: install version ${api_version} or later, and add the "
            "folder that it is installed in to CMAKE_PREFIX_PATH, or the one with diaspora-stream-api.pc to "
            "PKG_CONFIG_PATH.")
    endif()
    unset(API_FILE CACHE)
    find_library(API_FILE diaspora-stream-api HINTS ${API_LIBDIR} ${API_LIBRARY_DIRS})
    if(NOT API_FILE)
        message(FATAL_ERROR "libdiaspora-stream-api.so is not in ${API_LIBDIR}, the folder that diaspora-stream-api.pc "
            "in ${API_PREFIX} names: install diaspora-stream-api ${api_version} or later again.")
    endif()
    check_api_version()
endmacro()

function(check_api_version)
    find_api_version(version)
    if(NOT version)
        message(WARNING "diaspora-stream-api in ${API_PREFIX} states no version; ${api_version} or later is needed.")
    elseif(version VERSION_LESS api_version)
        message(FATAL_ERROR "diaspora-stream-api in ${API_PREFIX} has version ${version}, which is too old: install "
            "version ${api_version} or later, and configure a new build folder, with the folder of that version first "
            "in CMAKE_PREFIX_PATH.")
    endif()
endfunction()

# Sets a variable to the version that the files of the API state: the file for pkg-config, which has
# none in 0.5.2, the CMake package, or the name of the library's file.
function(find_api_version variable)
    set(stated "${API_VERSION}")
    foreach(folder "${API_PREFIX}/share" "${API_LIBDIR}")
        set(file "${folder}/cmake/diaspora-stream-api/diaspora-stream-api-config-version.cmake")
        if(NOT stated MATCHES "^[0-9]" AND EXISTS "${file}")
            file(STRINGS "${file}" stated REGEX "^set\\(PACKAGE_VERSION \"[0-9]" LIMIT_COUNT 1)
            string(REGEX MATCH "[0-9].*" stated "${stated}")
        endif()
    endforeach()
    if(NOT stated MATCHES "^[0-9]")
        get_filename_component(file "${API_FILE}" REALPATH)
        string(REGEX MATCH "[0-9][0-9.]*$" stated "${file}")
    endif()
    string(REGEX MATCH "^[0-9]+(\\.[0-9]+)*" version "${stated}")
    set(${variable} "${version}" PARENT_SCOPE)
endfunction()

# Sets JSON_INCLUDE.
macro(find_json)
    find_path(JSON_INCLUDE nlohmann/json.hpp HINTS ${API_INCLUDE_DIRS})
    if(NOT JSON_INCLUDE)
        message(FATAL_ERROR "nlohmann/json.hpp is not found: install nlohmann-json 3 (Debian: nlohmann-json3-dev, "
            "Fedora: json-devel), or add the folder that it is installed in to CMAKE_PREFIX_PATH.")
    endif()
endmacro()

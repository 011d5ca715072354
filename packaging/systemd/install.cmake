# Part of `ninja install`: the units, and what a service needs besides.
#
# Into a DESTDIR or by somebody who is not root, files alone: whoever packs them has
# ways of his own to make users and directories.

# fluxbridge.service is one site, /etc/fluxbridge/fluxbridge.cfg;
# fluxbridge@SITE.service is one of several, /etc/fluxbridge/SITE.cfg.
cmake_path(ABSOLUTE_PATH BIN_DIR BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}")
# systemd looks for units below /usr and /usr/local, and nowhere below another prefix.
if(CMAKE_INSTALL_PREFIX MATCHES "^/usr(/local)?/?$")
  cmake_path(ABSOLUTE_PATH UNIT_DIR BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}")
elseif(NOT IS_ABSOLUTE "${UNIT_DIR}")
  set(UNIT_DIR ${SYSCONF_DIR}/systemd/system)
endif()
function(install_unit UNIT_NAME UNIT_DESCRIPTION UNIT_CONFIG UNIT_STATE)
  set(UNIT_CREDENTIALS ${UNIT_NAME})
  string(REPLACE "@." "@%i." UNIT_CREDENTIALS ${UNIT_CREDENTIALS})
  configure_file(${SOURCE_DIR}/packaging/systemd/fluxbridge.service.in
    ${BINARY_DIR}/packaging/${UNIT_NAME} @ONLY)
  file(INSTALL ${BINARY_DIR}/packaging/${UNIT_NAME} DESTINATION ${UNIT_DIR})
  set(CMAKE_INSTALL_MANIFEST_FILES ${CMAKE_INSTALL_MANIFEST_FILES} PARENT_SCOPE)
endfunction()
install_unit(fluxbridge.service "${DESCRIPTION}" ${SYSCONF_DIR}/fluxbridge/fluxbridge fluxbridge)
install_unit(fluxbridge@.service "${DESCRIPTION}, site %i" ${SYSCONF_DIR}/fluxbridge/%i
  fluxbridge/%i)

execute_process(COMMAND id -u OUTPUT_VARIABLE user OUTPUT_STRIP_TRAILING_WHITESPACE)
if("$ENV{DESTDIR}" STREQUAL "" AND user STREQUAL "0")
  foreach(step "systemd-sysusers;${CMAKE_INSTALL_PREFIX}/lib/sysusers.d/fluxbridge.conf"
      "systemd-tmpfiles;--create;${CMAKE_INSTALL_PREFIX}/lib/tmpfiles.d/fluxbridge.conf")
    list(GET step 0 program)
    find_program(${program} ${program} PATHS /usr/bin /bin)
    if(${program})
      message(STATUS "Running: ${step}")
      execute_process(COMMAND ${step} RESULT_VARIABLE result)
    endif()
    if(NOT ${program} OR NOT result EQUAL 0)
      message(WARNING "${program} has not done its part: make the user fluxbridge, and "
        "/var/lib/fluxbridge as his, before the service is started")
    endif()
  endforeach()
  if(EXISTS /run/systemd/system)
    execute_process(COMMAND systemctl daemon-reload)
  endif()
endif()

# Makes a Debian package's files of what cmake --install has staged.
file(GLOB_RECURSE configuration ${CPACK_TEMPORARY_DIRECTORY}/etc/alloy/alloy.ini)
if(NOT configuration)
    message(FATAL_ERROR "nothing is staged in ${CPACK_TEMPORARY_DIRECTORY}")
endif()
# It may hold passwords: for root and, once postinst has made it, the group alloy.
file(CHMOD ${configuration} PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ)
get_filename_component(packaging ${CMAKE_CURRENT_LIST_DIR}/../packaging/deb ABSOLUTE)
set(doc ${CPACK_TEMPORARY_DIRECTORY}/usr/share/doc/alloyd)
file(COPY ${packaging}/copyright DESTINATION ${doc})
configure_file(${packaging}/changelog ${doc}/changelog.Debian COPYONLY)
# The package's name is alloyd, the project's is alloy.
file(CREATE_LINK ../alloy/README.md ${doc}/README.md SYMBOLIC)
file(GLOB_RECURSE pages ${CPACK_TEMPORARY_DIRECTORY}/usr/share/man/*)
execute_process(COMMAND gzip -9nf ${pages} ${doc}/changelog.Debian COMMAND_ERROR_IS_FATAL ANY)

# The Debian package, which scripts/package makes.
# docs/decisions/019-package.md says why it is made so.
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME alloyd)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_CONTACT "Alloy <alloy@localhost>" CACHE STRING "Maintainer of the package")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Event ingestion for ClickHouse, each event once")
set(CPACK_PACKAGE_DESCRIPTION "alloyd takes JSON events over HTTP, keeps what it has accepted in a
journal on disk, drops events that were sent twice, and inserts the rest
into ClickHouse in large batches.
.
alloyctl shows the journal and refused events, posts them again, and
makes keys for clients.")
# Staged below DESTDIR, since /etc is outside the prefix.
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/package_stage.cmake)

set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_DEBUGINFO_PACKAGE ON) # beside it: stack traces and perf need the symbols
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server, clickhouse-server")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
foreach(file conffiles postinst prerm postrm)
    list(APPEND CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/packaging/deb/${file})
endforeach()
include(CPack)

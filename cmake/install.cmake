# Installs what names the prefix: the units and the manual pages. Runs at install time, when the prefix
# is known for certain (cmake --install --prefix). Takes ALLOY_SOURCE and ALLOY_BUILD.
function(alloy_install_file from to)
    get_filename_component(name ${from} NAME)
    file(READ ${from} text)
    foreach(folder bin share)
        string(REPLACE "/usr/${folder}/" "${CMAKE_INSTALL_PREFIX}/${folder}/" text "${text}")
    endforeach()
    file(WRITE ${ALLOY_BUILD}/installed/${name} "${text}")
    file(INSTALL ${ALLOY_BUILD}/installed/${name} DESTINATION ${CMAKE_INSTALL_PREFIX}/${to})
endfunction()

file(GLOB units ${ALLOY_SOURCE}/config/*.service ${ALLOY_SOURCE}/config/*.socket)
foreach(unit ${units})
    alloy_install_file(${unit} lib/systemd/system)
endforeach()
foreach(page alloyd.8 alloyctl.1 alloy.ini.5)
    string(REGEX MATCH "[0-9]$" section ${page})
    alloy_install_file(${ALLOY_BUILD}/man/${page} share/man/man${section})
endforeach()

# A configuration that is there already is left alone. /etc/alloy is where alloyd looks, whatever the prefix.
if(NOT EXISTS "$ENV{DESTDIR}/etc/alloy/alloy.ini")
    file(INSTALL ${ALLOY_SOURCE}/config/alloy.ini DESTINATION /etc/alloy)
endif()

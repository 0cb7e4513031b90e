# What all definitions here have in common. MicroPython's definition for the chip is included before, and ESP-IDF lets
# the later of two settings win. An sdkconfig cannot name a file beside itself, so that line is written while configuring.
file(WRITE ${CMAKE_BINARY_DIR}/sdkconfig.keycast_partitions
    "CONFIG_PARTITION_TABLE_CUSTOM_FILENAME=\"${MICROPY_BOARD_DIR}/../partitions-4MiB.csv\"\n")

list(APPEND SDKCONFIG_DEFAULTS
    ${MICROPY_BOARD_DIR}/../sdkconfig.keycast
    ${CMAKE_BINARY_DIR}/sdkconfig.keycast_partitions
)

if(NOT MICROPY_FROZEN_MANIFEST)
    set(MICROPY_FROZEN_MANIFEST ${MICROPY_BOARD_DIR}/../manifest.py)
endif()

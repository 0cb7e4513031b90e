include(boards/ESP32_GENERIC_S3/mpconfigboard.cmake)
list(APPEND SDKCONFIG_DEFAULTS ${MICROPY_BOARD_DIR}/sdkconfig.no_psram)
include(${MICROPY_BOARD_DIR}/../keycast.cmake)

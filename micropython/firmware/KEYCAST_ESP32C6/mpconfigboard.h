#define MICROPY_HW_BOARD_NAME "keycast on an ESP32-C6"
#define MICROPY_HW_MCU_NAME "ESP32C6"

#define MICROPY_VFS_ROM (1)
#define MICROPY_VFS_ROM_IOCTL (1)
#define MICROPY_PY_BLUETOOTH (0)

// For boards whose socket is that of a USB-to-UART bridge.
#define MICROPY_HW_ENABLE_UART_REPL (1)

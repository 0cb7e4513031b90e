#define MICROPY_HW_BOARD_NAME "keycast on an ESP32-C3"
#define MICROPY_HW_MCU_NAME "ESP32C3"

#define MICROPY_VFS_ROM (1)
#define MICROPY_VFS_ROM_IOCTL (1)
#define MICROPY_PY_BLUETOOTH (0)

#define MICROPY_HW_ENABLE_SDCARD (0)
#define MICROPY_PY_MACHINE_I2S (0)

// For boards whose socket is that of a USB-to-UART bridge.
#define MICROPY_HW_ENABLE_UART_REPL (1)

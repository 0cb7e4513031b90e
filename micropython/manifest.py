# The files of a board, in the manifest format of MicroPython's firmware build. Written by `make manifest` from what
# board.py imports; a test fails when it is out of date.

module("board.py", opt=2)
module("main.py", opt=2)
module("nvs_store.py", opt=2)
module("watchdog.py", opt=2)
module("wifi.py", opt=2)
package(
    "cpns",
    (
        "__init__.py",
        "cborlite.py",
        "errors.py",
        "numbers.py",
        "tuning.py",
    ),
    base_path="..",
    opt=2,
)
package(
    "device_agent",
    (
        "__init__.py",
        "clock.py",
        "key_store.py",
        "links/__init__.py",
        "links/udp.py",
    ),
    base_path="..",
    opt=2,
)

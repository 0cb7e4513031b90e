# ruff: noqa: F821
# pyright: reportUndefinedVariable=false
# What is frozen into the firmware: the modules of MicroPython's own images, and all files of a board.
include("$(PORT_DIR)/boards/manifest.py")
include("../manifest.py")

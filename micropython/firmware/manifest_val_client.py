# ruff: noqa: F821
# pyright: reportUndefinedVariable=false
# What is frozen into the firmware of a board that is a VAL client.
include("$(PORT_DIR)/boards/manifest.py")
include("../manifest_val_client.py")

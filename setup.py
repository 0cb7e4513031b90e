"""The packages of the wheel: ours, and the files that are only true on a board as data of the command.

`micropython/` is no package and has no room beside others' packages: its name is that of a module of MicroPython.
"""

from setuptools import find_namespace_packages, setup

ROOMS = ("cpns", "mikey_sakke", "private_store", "message_plane", "device_agent", "gateway_agent", "key_servers")
ROOMS += ("keycast",)
ON_BOARD = "keycast.on_board"  # keycast/places.py

setup(
    packages=[*find_namespace_packages(include=[f"{room}{below}" for room in ROOMS for below in ("", ".*")]), ON_BOARD],
    package_dir={ON_BOARD: "micropython"},
)

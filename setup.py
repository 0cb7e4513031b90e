"""The packages of the wheel: ours, and as data of the command the files of boards, the descriptions of hardware and the
units of systemd.

`micropython/` is no package and has no room beside others' packages: its name is that of a module of MicroPython.
"""

from setuptools import find_namespace_packages, setup

ROOMS = ("cpns", "suit", "mikey_sakke", "private_store", "message_plane", "http_door", "device_agent")
ROOMS += ("gateway_agent", "key_servers", "keycast")
DATA = {  # keycast/places.py
    "keycast.on_board": "micropython",
    "keycast.hw_configs": "hw_configs",
    "keycast.systemd": "packaging/systemd",
}

setup(
    packages=[*find_namespace_packages(include=[f"{room}{below}" for room in ROOMS for below in ("", ".*")]), *DATA],
    package_dir=DATA,
)

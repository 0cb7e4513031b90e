"""Where the files of boards, the descriptions of hardware and the units of systemd are, and where is kept what is made.

In a checkout these are `micropython/`, `hw_configs/`, `packaging/systemd`, and the folders `build` and `.cache` beside
them. The installed package has the first three inside, as `on_board/`, `hw_configs/` and `systemd/`, and keeps what it
makes or fetches in the user's cache
(XDG_CACHE_HOME, or ~/.cache): nothing in there is secret, and all of it may be removed, for it is made or fetched again
when it is needed.
"""

from importlib.metadata import version
from pathlib import Path

from private_store import folders

SITE = Path(__file__).resolve().parents[1]
"""The folder that has our packages in it."""

_ON_BOARD = SITE / "keycast" / "on_board"
INSTALLED = _ON_BOARD.is_dir()
BOARD_FILES = _ON_BOARD if INSTALLED else SITE / "micropython"
"""The files that are only true on a board, with the manifests that list what else it needs."""

HW_CONFIGS = SITE / "keycast" / "hw_configs" if INSTALLED else SITE / "hw_configs"
"""The files that describe the boards and gateways we know."""

UNITS = SITE / "keycast" / "systemd" if INSTALLED else SITE / "packaging" / "systemd"
"""The units of systemd, as the Debian package installs them."""

_USER_CACHE = folders.of_user("XDG_CACHE_HOME", ".cache")
CACHE = _USER_CACHE if INSTALLED else SITE / ".cache"
BUILD = CACHE / f"build-{version('keycast')}" if INSTALLED else SITE / "build"

RUN = folders.of_run()
"""The folder, private to the user, of what exists only while a program runs: locks, and ports of virtual boards."""

STATE = folders.of_user("XDG_STATE_HOME", ".local/state")
"""The folder, private to the user, of what lasts: the flash of virtual boards."""

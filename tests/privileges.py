"""What tests need that only root can do: mount a disk, make a network."""

import os
import shutil

import pytest

if os.geteuid() != 0:
    MISSING = "needs root; with `--shards` (as in `make test`) each process is root of its own network and mounts"
elif shutil.which("unshare") is None:
    MISSING = "needs the command `unshare` (Debian: sudo apt install util-linux)"
else:
    MISSING = ""
"""Why a test that needs root cannot run here, "" if it can."""

needs_root = pytest.mark.skipif(bool(MISSING), reason=MISSING or "-")

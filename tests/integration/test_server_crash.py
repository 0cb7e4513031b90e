"""kill -9 at any moment: the store opens again, and no version ever had two keys (SEC-03, SEC-29)."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S

PROGRAM = Path(__file__).with_name("cpns_server_to_kill.py")
PROJECT = PROGRAM.parents[2]
LIVES = 12


@pytest.mark.req("SEC-03", "SEC-29")
def test_no_version_is_issued_twice_with_different_keys(tmp_path: Path) -> None:
    chance = random.Random(1972)
    keys: dict[tuple[str, int], str] = {}
    highest: dict[str, int] = {}
    for life in range(LIVES):
        process = subprocess.Popen(
            [sys.executable, str(PROGRAM), str(tmp_path), str(life)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=PROJECT,
        )
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(4)]  # it works; from here on any instant will do
        time.sleep(chance.uniform(0.0, 0.4))
        process.kill()
        rest, complaints = process.communicate(timeout=PATIENCE_S)
        assert all(first), complaints
        # The last line may be cut: what was printed only in part counts as never seen.
        lines = ("".join(first) + rest).split("\n")[:-1]
        before = dict(highest)
        for line in lines:
            sg_id, version_text, digest = line.split()
            version = int(version_text)
            assert keys.setdefault((sg_id, version), digest) == digest, f"two keys of version {version} of {sg_id}"
            highest[sg_id] = max(highest.get(sg_id, 0), version)
            assert version >= before.get(sg_id, 0)  # a restart may repeat the newest, never an older one
    assert len(keys) > LIVES

"""The units of the package: systemd accepts them, and their sandbox is tight."""

import re
import shutil
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE_S
from tools import PROJECT

UNITS = PROJECT / "packaging" / "systemd"
EXPOSURE_MAX = 2.0
EXPOSURE_WITH_BLUETOOTH_MAX = 2.5  # a capability and a family of sockets more

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here (Debian: sudo apt install systemd)"
)


def services():
    return sorted(each.name for each in UNITS.glob("*.service"))


def settings(name):
    """The assignments of a unit, in their order."""
    lines = (UNITS / name).read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and not line.startswith("#")]


def placed(name, folder):
    """A copy of a unit, with the command of this environment in the place of that of the package."""
    keycast = f"{sys.prefix}/bin/keycast"
    path = folder / name
    path.write_text((UNITS / name).read_text().replace("/usr/bin/keycast", keycast))
    return path


@needs_systemd
@pytest.mark.parametrize("name", services())
def test_systemd_accepts_the_unit(name, tmp_path):
    for each in UNITS.iterdir():
        placed(each.name, tmp_path)
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", tmp_path / name]
    told = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S)
    assert (told.returncode, told.stderr) == (0, "")


@needs_systemd
@pytest.mark.parametrize("name", services())
def test_the_sandbox_leaves_little_exposed(name, tmp_path):
    assert exposure(placed(name, tmp_path)) <= EXPOSURE_MAX


@needs_systemd
def test_bluetooth_opens_little_more(tmp_path):
    path = placed("keycast-gateway.service", tmp_path)
    with path.open("a") as unit:
        unit.write((UNITS / "bluetooth.conf").read_text())
    assert EXPOSURE_MAX < exposure(path) <= EXPOSURE_WITH_BLUETOOTH_MAX


def exposure(path):
    """How much systemd says that a service can do, from 0 (nothing) to 10."""
    words = ["systemd-analyze", "security", "--offline=true", path]
    told = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, check=True).stdout
    return float(re.search(r"Overall exposure level for \S+: ([\d.]+)", told)[1])


@pytest.mark.parametrize("name", ["keycast-gateway.service", "keycast-server.service"])
def test_the_service_manager_waits_watches_and_does_not_repeat_what_is_in_vain(name):
    found = dict(settings(name))
    assert found["Type"] == "notify"
    assert int(found["WatchdogSec"]) > 0
    assert found["RestartPreventExitStatus"].split() == ["2", "78"]
    assert found["StateDirectoryMode"] == "0700"
    burst, span = int(found["StartLimitBurst"]), int(found["StartLimitIntervalSec"])
    assert burst * int(found["RestartSec"]) >= span  # who waits for a network never uses up the starts


@pytest.mark.parametrize("name", ["keycast-gateway.service", "keycast-server.service"])
def test_the_boot_can_be_told_from_others(name):
    """The id of the boot is in /proc/sys, which ProcSubset=pid takes away."""
    assert "ProcSubset" not in dict(settings(name))


def test_the_clock_can_be_read():
    """Without adjtimex(2) a gateway believes that its clock is not synchronised, and has no dates."""
    filters = [value for name, value in settings("keycast-gateway.service") if name == "SystemCallFilter"]
    assert filters[-1].split()[0] == "adjtimex"
    assert dict(settings("keycast-gateway.service")).get("ProtectClock") is None

"""The gateway as a service of a real systemd: READY, the status, and the watchdog that brings a stopped one back."""

import json

import pytest

from keycast.provisioning.board import new_board, told_trust
from tools import PROJECT

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

UNIT = PROJECT / "packaging" / "systemd" / "keycast-gateway.service"
WATCHDOG_S = 15  # the guest is slow, and the test waits for it
IN_SYSTEMD = "nsenter -t $(cat /run/systemd-of-test) -m -p --"
CONFIG = """[gateway]
id = "gw.home"
pn = "home"
state_dir = "/var/lib/keycast"
[message_plane]
discovery = false
[broadcast]
interfaces = ["lo"]
[uplink]
kind = "embedded"
"""
# systemd as process 1 of a namespace of its own: that of the guest executes what the host asks for. Its /run
# is its own, too, as it would replace the socket of the D-Bus daemon that other tests need.
BOOT = """
mkdir -p /sys/fs/cgroup /etc/systemd/system /etc/keycast
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
id keycast >/dev/null 2>&1 || useradd --system keycast
systemctl mask --root=/ systemd-udevd systemd-journald-audit.socket getty.target systemd-networkd
exec env container=test unshare --pid --mount --fork --propagation slave \\
    sh -c 'mount -t proc proc /proc; mount -t tmpfs -o mode=755 tmpfs /run; \\
        exec /lib/systemd/systemd --system --unit=multi-user.target'
"""


def unit():
    text = (
        UNIT.read_text().replace("WatchdogSec=60", f"WatchdogSec={WATCHDOG_S}").replace("RestartSec=15", "RestartSec=1")
    )
    command = "/usr/bin/python3 /opt/keycast/site/bin/keycast"
    text = text.replace("/usr/bin/keycast", command)
    return text.replace("[Service]", "[Service]\nEnvironment=PYTHONPATH=/opt/keycast/site PYTHONDONTWRITEBYTECODE=1")


async def property_of(guest, name):
    shown = await guest.run(f"{IN_SYSTEMD} systemctl show keycast-gateway --value --property={name}", check=False)
    return shown.out.strip()


async def ask(guest, do, **arguments):
    line = json.dumps({"do": do, "with": arguments})
    answer = json.loads(await guest.ask("/var/lib/keycast/control.sock", line))
    assert "ok" in answer, answer
    return answer["ok"]


async def test_systemd_sees_it_ready_and_brings_it_back_when_it_stands_still(guest, logs):
    for path, text in {
        "/etc/keycast/keycast.toml": CONFIG,
        "/etc/systemd/system/keycast-gateway.service": unit(),
        "/run/boot-systemd": BOOT,
    }.items():
        await guest.run(f"mkdir -p $(dirname {path}) && cat > {path} <<'END_OF_FILE'\n{text}\nEND_OF_FILE")
    await guest.start("sh /run/boot-systemd", "/tmp/systemd.log")
    try:
        await guest.until("pgrep -x systemd > /run/systemd-of-test", timeout_s=60)
        await guest.until(f"{IN_SYSTEMD} systemctl is-system-running | grep -E 'running|degraded'", timeout_s=180)
        await guest.run(f"{IN_SYSTEMD} systemctl start keycast-gateway", timeout_s=180)  # returns after READY=1
        assert await property_of(guest, "ActiveState") == "active"
        assert (await property_of(guest, "StatusText")).startswith("gw.home serves home; broadcasts to lo")

        trust = await ask(guest, "trust")
        _, credential = new_board("lamp", told_trust(trust))
        await ask(guest, "board.register", credential=credential.ccs.hex())
        await ask(guest, "group.create", sg_id="kitchen", open_to=["home"])
        before = await ask(guest, "group.show", sg_id="kitchen")

        process = await property_of(guest, "MainPID")
        await guest.run(f"{IN_SYSTEMD} kill -STOP {process}")
        back = f"{IN_SYSTEMD} systemctl show keycast-gateway --property=NRestarts,ActiveState | sort | tr '\\n' ' '"
        await guest.until(f"{back} | grep -E 'ActiveState=active NRestarts=[1-9]'", timeout_s=240)
        assert await property_of(guest, "MainPID") != process
        assert (await ask(guest, "trust"))["credential"] == trust["credential"]
        assert [each["pne_id"] for each in await ask(guest, "board.list")] == ["lamp"]
        assert (await ask(guest, "group.show", sg_id="kitchen"))["version"] == before["version"]
        told = await guest.run(f"{IN_SYSTEMD} journalctl -u keycast-gateway --no-pager", check=False)
        (logs / "journal").write_text(told.out)
        await guest.run(f"{IN_SYSTEMD} systemctl stop keycast-gateway", timeout_s=60)
        assert await property_of(guest, "Result") == "success"
    finally:
        (logs / "systemd.log").write_text(await guest.text("/tmp/systemd.log"))
        await guest.run("kill -KILL $(cat /run/systemd-of-test)", check=False)

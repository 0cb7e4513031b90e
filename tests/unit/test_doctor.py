"""`keycast doctor`: what each check says of a machine and a gateway in a good and in a bad state."""

import asyncio
import errno
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway_agent.net.interfaces import Interface
from gateway_agent.uplinks.udp import UdpUplinkSection
from keycast.commands import doctor
from keycast.doctor import disk, examination, own_broadcast, ports, time_of_day
from keycast.doctor.examination import CHECKS, Checked, examine, worst
from keycast.doctor.finding import Grade, bad, good, warning
from keycast.doctor.service import judged
from keycast.doctor.surroundings import Surroundings, look_around
from keycast.program import program
from keycast.terminal.dates import iso
from private_store import last_backup
from tests.privileges import needs_root
from tests.unit.home_world import BOARDS, Home, configured

PROJECT = Path(__file__).resolve().parents[2]
NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")


def found_by(here, *checks):
    return [each.finding for each in examine(here, checks)]


def grades(findings):
    return [str(each.grade) for each in findings]


def told_by_command(path):
    done = CliRunner().invoke(program(["doctor"]), ["doctor", "-c", str(path), "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.mark.real_time
async def test_a_running_gateway_is_found_with_its_boards(tmp_path):
    home = Home(tmp_path)
    async with home.running() as service:
        await home.live(service)
        here = await asyncio.to_thread(look_around, home.path)
        assert here.pid == os.getpid()
        findings = found_by(here, "configuration", "folder", "gateway", "ports", "Server", "alarms", "boards")
    texts = [each.text for each in findings]
    assert any("gw.home runs" in text for text in texts)
    assert any("is the gateway's" in text for text in texts)
    assert f"Let in and never heard: {', '.join(sorted(BOARDS))}." in texts
    assert Grade.BAD not in [each.grade for each in findings]


def test_without_a_file_the_next_step_is_setup(tmp_path):
    code, told = told_by_command(tmp_path / "keycast.toml")
    assert code == 2
    (configuration,) = [each for each in told["findings"] if each["check"] == "configuration"]
    assert configuration["grade"] == "bad"
    assert "keycast setup" in configuration["next_step"]


def test_each_fault_of_the_file_is_told_with_its_line(tmp_path):
    path = configured(tmp_path)
    path.write_text(path.read_text().replace("port = ", "port = -"))
    findings = found_by(look_around(path), "configuration")
    assert grades(findings) == ["bad"]
    assert "line 7" in findings[0].text


def test_an_unknown_key_is_a_warning_and_the_file_counts(tmp_path):
    path = configured(tmp_path)
    path.write_text(path.read_text() + "\n[gatewya]\n")
    here = look_around(path)
    assert here.config is not None and grades(found_by(here, "configuration")) == ["warning"]
    assert "KC1401" in found_by(here, "configuration")[0].text


def test_each_finding_that_is_not_good_names_a_page_that_exists(tmp_path):
    (tmp_path / "state").mkdir(mode=0o777)
    _, told = told_by_command(configured(tmp_path))
    for each in told["findings"]:
        assert bool(each["page"]) == bool(each["next_step"]) == (each["grade"] != "good"), each
        assert not each["page"] or (PROJECT / each["page"]).is_file(), each


def test_every_check_that_there_is_can_be_made(tmp_path):
    path = configured(tmp_path)
    made = {each.check for each in examine(look_around(path))}
    assert made >= {"version", "configuration", "folder", "disk", "clock", "gateway", "service", "ports", "Server"}
    assert made <= CHECKS.keys()


def test_a_check_that_fails_is_told_and_the_others_are_made(tmp_path, monkeypatch):
    def fails(here):
        raise RuntimeError("the kernel is on strike")

    monkeypatch.setattr(disk, "look", fails)
    found = list(examine(look_around(configured(tmp_path)), ["disk", "clock"]))
    assert [each.check for each in found] == ["disk", "clock"]
    assert "on strike" in found[0].finding.text
    assert found[0].finding.grade is Grade.WARNING


@pytest.mark.parametrize(
    ("findings", "code"),
    [([good("a")], 0), ([good("a"), warning("b", "c", "d")], 1), ([bad("a", "b", "c"), warning("b", "c", "d")], 2)],
)
def test_the_worst_finding_decides_the_exit_code(findings, code):
    assert worst(Checked("any", each) for each in findings).exit_code == code
    assert worst([]).exit_code == 0


def test_modes_that_let_others_read_are_bad_and_named(tmp_path):
    path = configured(tmp_path)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "identity.key").write_bytes(b"x")
    (state / "identity.key").chmod(0o644)
    findings = found_by(look_around(path), "folder")
    assert grades(findings) == ["bad"]
    assert "identity.key" in findings[0].text and str(state) in findings[0].next_step
    (state / "identity.key").chmod(0o600)
    assert grades(found_by(look_around(path), "folder")) == ["good"]
    state.chmod(0o777)
    assert grades(found_by(look_around(path), "folder")) == ["bad"]


@pytest.mark.req("SEC-37")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: (state / "identity.key").unlink(), "Missing or empty in"),
        (lambda state: (state / "identity.key").write_bytes(b""), "Missing or empty in"),
        (lambda state: shutil.rmtree(state / "store"), "Missing or empty in"),
        (lambda state: ((state / "identity.key").unlink(), os.mkfifo(state / "identity.key", 0o600)), "Something else"),
        (lambda state: (shutil.rmtree(state / "store"), (state / "store").touch(0o600)), "Missing or empty in"),
        (lambda state: ((state / "signing.key").unlink(), (state / "signing.key").mkdir(0o700)), "Something else"),
        (lambda state: (state / "contents.json").write_bytes(b"{"), "is damaged"),
    ],
)
def test_what_a_start_would_refuse_in_the_state_folder_is_bad(tmp_path, change, told):
    path = configured(tmp_path)
    state = tmp_path / "state"
    (state / "store").mkdir(0o700, parents=True)
    state.chmod(0o700)
    for name in ("identity.key", "signing.key", "contents.json", "store/contents.json"):
        (state / name).touch(0o600)
    made = {"format": "keycast contents 1", "made": ["identity.key", "signing.key", "store/"]}
    (state / "identity.key").write_bytes(b"x")
    (state / "signing.key").write_bytes(b"x")
    (state / "contents.json").write_text(json.dumps(made))
    (state / "store/contents.json").write_text(json.dumps(made | {"made": []}))
    assert grades(found_by(look_around(path), "folder")) == ["good"]
    change(state)
    (finding,) = found_by(look_around(path), "folder")
    assert str(finding.grade) == "bad" and told in finding.text and "backup" in finding.next_step


@pytest.mark.parametrize(
    ("free", "inodes", "grade"),
    [
        (1 << 30, 9999, "good"),
        (100 << 20, 9999, "warning"),
        (1 << 20, 9999, "bad"),
        (1 << 30, 50, "warning"),
        (1 << 30, 0, "bad"),
    ],
)
def test_room_on_the_disk(tmp_path, monkeypatch, free, inodes, grade):
    class Space:
        f_bavail, f_frsize, f_files, f_favail = free, 1, 10_000, inodes

    monkeypatch.setattr(disk.os, "statvfs", lambda folder: Space)
    finding = found_by(look_around(configured(tmp_path)), "disk")[0]
    assert str(finding.grade) == grade and ("files" in finding.text) is (inodes < 100), "it names what is short"


@pytest.mark.parametrize(("seconds", "grade"), [(0.002, "good"), (0.051, "warning")])
def test_a_slow_disk_is_told_above_50_ms(tmp_path, monkeypatch, seconds, grade):
    monkeypatch.setattr(disk, "fsync_s", lambda folder: seconds)
    finding = found_by(look_around(configured(tmp_path)), "disk")[1]
    assert str(finding.grade) == grade
    assert f"{seconds * 1000:.0f}" in finding.text


def test_a_disk_that_became_read_only_is_bad(tmp_path, monkeypatch):
    def read_only(folder):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(disk, "fsync_s", read_only)
    assert str(found_by(look_around(configured(tmp_path)), "disk")[1].grade) == "bad"


@pytest.mark.parametrize(
    ("now", "in_step", "grade"), [(0.0, True, "bad"), (1.9e9, False, "warning"), (1.9e9, True, "good")]
)
def test_the_clock(tmp_path, monkeypatch, now, in_step, grade):
    monkeypatch.setattr(time_of_day.time, "time", lambda: now)
    monkeypatch.setattr(time_of_day, "synchronised", lambda: in_step)
    assert grades(found_by(look_around(configured(tmp_path)), "clock")) == [grade]


def test_a_clock_that_was_set_back_by_a_year(tmp_path, monkeypatch):
    path = configured(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "gateway.db").touch()
    monkeypatch.setattr(time_of_day, "synchronised", lambda: False)
    (as_before,) = found_by(look_around(path), "clock")
    now = time.time()
    monkeypatch.setattr(time_of_day.time, "time", lambda: now - 366 * 86_400)
    monkeypatch.setattr(time_of_day, "NO_DATE_BEFORE", 0)
    (found,) = found_by(look_around(path), "clock")
    assert "in step" in as_before.text and "was set back" in found.text and str(found.grade) == "bad"
    monkeypatch.setattr(time_of_day, "synchronised", lambda: True)  # then it was ahead before
    assert grades(found_by(look_around(path), "clock")) == ["good"]


def test_a_port_of_another_program_is_told_with_the_program(tmp_path):
    path = configured(tmp_path)
    port = look_around(path).config.message_plane.port
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", port))
        (finding,) = found_by(look_around(path), "ports")
    assert finding.grade is Grade.BAD
    assert f"process {os.getpid()}" in finding.text
    assert ports.why_not("udp", "203.0.113.1", 5683)  # no address of this machine


LOOPBACK = Interface("lo", "127.0.0.1", "127.255.255.255")
IN_A_NETWORK_THAT_DROPS = """
ip link set lo up
{nft} add table ip t && {nft} "add chain ip t input {{ type filter hook input priority 0; policy drop; }}" || exit 77
{python} -c "
from gateway_agent.net.interfaces import Interface
from keycast.doctor.own_broadcast import comes_back
print(comes_back(Interface('lo', '127.0.0.1', '127.255.255.255'), 0.2))"
"""


@pytest.mark.real_time
@pytest.mark.parametrize(
    ("interface", "listen", "wanted"),
    [
        (Interface("lo", "127.0.0.1", "127.255.255.255"), "0.0.0.0", "good: boards are on this machine only"),
        (Interface("lo", "127.0.0.1", "127.255.255.255"), "127.0.0.1", "good: boards are on this machine only"),
        (Interface("wlan0", "192.168.1.10", "192.168.1.255"), "127.0.0.1", "warning: Let [message_plane] listen name"),
        (Interface("wlan0", "169.254.3.4", "169.254.255.255"), "0.0.0.0", "warning: Connect to the network"),
    ],
)
def test_what_boards_are_told_and_what_to_do_if_it_is_nothing(tmp_path, monkeypatch, interface, listen, wanted):
    path = configured(tmp_path)
    text = path.read_text().replace("interfaces = []", f'interfaces = ["{interface.name}"]')
    path.write_text(text.replace("127.0.0.1", listen))
    monkeypatch.setattr("gateway_agent.net.interfaces.every_interface", lambda: [interface])
    told = [f"{each.grade}: {each.next_step or each.text}" for each in found_by(look_around(path), "interfaces")]
    assert told[-1].startswith(wanted)


def test_an_own_broadcast_comes_back():
    assert own_broadcast.comes_back(LOOPBACK)


@needs_root
@pytest.mark.skipif(NFT is None, reason="needs the program nft (Debian: sudo apt install nftables)")
def test_an_own_broadcast_that_a_firewall_drops_does_not_come_back():
    script = IN_A_NETWORK_THAT_DROPS.format(nft=NFT, python=sys.executable)
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, cwd=PROJECT)
    if done.returncode == 77:
        pytest.skip("this kernel has no nftables")
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.real_time
def test_a_broadcast_that_does_not_come_back_is_told(tmp_path, monkeypatch):
    here = look_around(configured(tmp_path))
    monkeypatch.setattr(Surroundings, "interfaces", lambda self: [LOOPBACK])
    assert grades(found_by(here, "broadcast")) == ["good"]
    monkeypatch.setattr(own_broadcast, "comes_back", lambda interface: False)
    assert grades(found_by(here, "broadcast")) == ["warning"]


def status_of(**changed):
    status = {"gateway_id": "gw.home", "pn_id": "home", "server_problem": "", "server_age_s": 3.0}
    status |= {"is_withholding": False, "brokers": [], "stopped": "", "alarms": [], "held": [], "devices": []}
    return status | changed


def here_with(tmp_path, **changed):
    looked = look_around(configured(tmp_path))
    return Surroundings(looked.config_path, looked.config, pid=1, status=status_of(**changed))


ALARM = {
    "kind": "store",
    "gateway_id": "gw.home",
    "sg_id": "",
    "since": 1_800_000_000,
    "text": "Nothing can be stored.",
}


@pytest.mark.parametrize("check", ["clock", "Server"])
def test_what_is_an_alarm_is_bad_in_each_line_that_tells_it(tmp_path, monkeypatch, check):
    """One fact has one grade; before the alarm it is a warning, as after a start it takes some minutes."""
    monkeypatch.setattr(time_of_day, "synchronised", lambda: False)
    looked = here_with(tmp_path, server_age_s=1801.0)
    uplink = UdpUplinkSection.model_construct(kind="udp", server_id="server.example")
    config = looked.config.model_copy(update={"uplink": uplink})
    for alarms, wanted in (([], "warning"), ([ALARM], "warning"), ([ALARM | {"kind": check.lower()}], "bad")):
        here = replace(looked, config=config, status=looked.status | {"alarms": alarms})
        assert grades(found_by(here, check)) == [wanted]
        assert grades(found_by(here, "alarms")) == (["bad"] if alarms else ["good"])


@pytest.mark.parametrize(
    ("age_s", "devices", "wanted"),
    [
        (None, [], "good"),
        (None, [{"pne_id": "lamp", "age_s": 1.0}], "warning"),
        (3600.0, [], "good"),
        (-86_000.0, [], "good"),
        (-730 * 86_400.0, [], "warning"),  # made while the clock was two years ahead
        (9 * 86_400.0, [], "warning"),
    ],
)
def test_how_old_the_last_backup_is(tmp_path, age_s, devices, wanted):
    here = here_with(tmp_path, devices=devices)
    here.state.mkdir(mode=0o700, exist_ok=True)
    if age_s is not None:
        last_backup.note(here.state, {"made": iso(time.time() - age_s)})
    assert grades(found_by(here, "backup")) == [wanted]


@pytest.mark.parametrize(
    ("check", "changed", "wanted"),
    [
        ("alarms", {}, ["good"]),
        ("alarms", {"alarms": [ALARM, ALARM]}, ["bad", "bad"]),
        ("alarms", {"held": ["home/lights"]}, ["bad"]),
        ("alarms", {"stopped": "an older copy"}, ["bad"]),
        ("boards", {}, ["good"]),
        ("boards", {"devices": [{"pne_id": "lamp", "age_s": 60.0}]}, ["good"]),
        ("boards", {"devices": [{"pne_id": "lamp", "age_s": 3 * 86_400.0}]}, ["warning"]),
        ("boards", {"devices": [{"pne_id": f"b{n}", "age_s": 3 * 86_400.0} for n in range(30)]}, ["warning"] * 21),
        ("boards", {"devices": [{"pne_id": "lamp", "age_s": None}]}, ["warning"]),
        ("broker", {"brokers": [{"url": "mqtts://a", "connected": True, "problem": ""}]}, ["good"]),
        ("broker", {"brokers": [{"url": "mqtts://a", "connected": False, "problem": "it is away"}]}, ["bad"]),
    ],
)
def test_what_the_running_gateway_says(tmp_path, check, changed, wanted):
    assert grades(found_by(here_with(tmp_path, **changed), check)) == wanted


def test_one_connected_broker_is_enough(tmp_path):
    away = {"url": "mqtts://a", "connected": False, "problem": "it is away"}
    idle = {"url": "mqtts://c", "connected": False, "problem": ""}
    here = here_with(tmp_path, brokers=[away, {"url": "mqtts://b", "connected": True, "problem": ""}, idle])
    assert grades(found_by(here, "broker")) == ["warning", "good", "good"]


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, "good"),
        ({"server_problem": "it refuses"}, "bad"),
        ({"server_age_s": 4000.0}, "warning"),
        ({"server_age_s": None}, "warning"),
    ],
)
def test_a_server_elsewhere(tmp_path, changed, wanted):
    path = configured(tmp_path)
    path.write_text(path.read_text().replace('kind = "embedded"', 'kind = "udp"\nhost = "192.0.2.9"'))
    looked = look_around(path)
    assert looked.config is not None, looked.config_error
    here = Surroundings(path, looked.config, pid=1, status=status_of(**changed))
    assert grades(found_by(here, "Server")) == [wanted]


RUNS = {"ActiveState": "active", "SubState": "running", "Type": "notify", "WatchdogUSec": "30s", "NRestarts": "0"}


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({}, "good"),
        ({"ActiveState": "failed", "Result": "exit-code"}, "bad"),
        ({"ActiveState": "inactive"}, "warning"),
        ({"NRestarts": "17"}, "warning"),
        ({"WatchdogUSec": "0"}, "warning"),
        ({"Type": "simple"}, "warning"),
        ({"UnitFileState": "disabled"}, "warning"),
    ],
)
def test_the_unit_of_systemd(changed, wanted):
    finding = judged("keycast.service", "user", RUNS | changed)
    assert str(finding.grade) == wanted
    assert "--user" in finding.next_step or wanted == "good" or "keycast setup" in finding.next_step


def test_packages_that_the_configuration_needs_are_named(tmp_path, monkeypatch):
    from keycast.doctor import release

    monkeypatch.setattr(release, "find_spec", lambda name: None if name == "zeroconf" else object())
    findings = found_by(look_around(configured(tmp_path)), "version")
    assert grades(findings) == ["good", "warning"]
    assert "keycast[gateway]" in findings[1].next_step


def test_the_command_shows_one_line_a_finding(tmp_path):
    path = configured(tmp_path)
    done = CliRunner().invoke(program(["doctor"]), ["doctor", "-c", str(path)])
    assert done.exit_code in (1, 2)
    assert "configuration" in done.stdout and "Start it: keycast gateway run" in done.stdout
    lines = [line for line in done.stdout.splitlines() if line.startswith(("good", "warning", "bad"))]
    assert len(lines) == len(list(examine(look_around(path))))


def test_the_table_names_modules_that_exist():
    for name in CHECKS:
        assert callable(examination.import_module(CHECKS[name]).look)


@pytest.mark.parametrize(("width", "is_terminal"), [(200, False), (40, False), (100, True), (60, True), (40, True)])
def test_a_finding_is_broken_between_words_on_a_terminal_and_nowhere_else(monkeypatch, width, is_terminal):
    out, text = io.StringIO(), "a-long word " * 20 + "end"
    how = {"color_system": None, "highlight": False, "soft_wrap": True, "markup": False}
    monkeypatch.setattr(doctor, "console", Console(file=out, width=width, force_terminal=is_terminal, **how))
    doctor._show(Checked("clock", warning(text, "Set it", "docs/x.md")))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert " ".join(" ".join(lines).split()) == f"warning clock {text} Set it (docs/x.md)"
    indent = " " * (2 if is_terminal and width < 60 else 22)
    assert all(line.startswith(indent) and line[len(indent)] != " " for line in lines[1:])
    assert all(len(line) <= width for line in lines) if is_terminal else len(lines) == 2
    assert not any(line.endswith("-") for line in lines)

"""`make deb-test`: the Debian package in a fresh Debian: installed, run, upgraded, removed and purged. It needs root.

systemd boots in a container (systemd-nspawn) with a network of its own, and starts the gateway by its unit. The package
of the release before is made of the new one, with the code of another commit (--before). A PNE outside of the container
keeps its session over the upgrade.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from cpns import messages, numbers
from gateway_agent.control_client import ask
from message_plane import credentials
from tests.system.simulated_pne import SimulatedPne
from tools import PROJECT

BUILT = PROJECT / "build" / "deb"
SYSTEM = PROJECT / ".cache" / "deb_test" / "system-with-sessions.tar"
PACKAGES = "python3,adduser,systemd,systemd-sysv,dbus,libpam-systemd"
BACKUPS = "var/lib/keycast-backups"
STATE, CONFIG = "var/lib/keycast", "etc/keycast/keycast.toml"
UNIT = "lib/systemd/system/keycast-gateway.service"
OLD = "0.0.1"
SG = "home/lights"
WAIT_S = 60
INSIDE = "KEYCAST_DEB_TEST"


class Container:
    """A booted Debian whose files are in `root`."""

    def __init__(self, root):
        self.root = root
        self.process = None
        self.leader = 0

    def boot(self):
        """Start systemd, and wait until it has started everything."""
        words = ["systemd-nspawn", "--quiet", "-D", self.root, "--boot", "--register=no", "--keep-unit"]
        with (self.root.parent / "console").open("wb") as console:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        self.until(self._leader)
        self.until(lambda: self.run("systemctl", "is-system-running", codes=(0, 1)).strip() in ("running", "degraded"))

    def _leader(self):
        found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for each in found:
            if Path(f"/proc/{each}/comm").read_text().strip() == "systemd":
                self.leader = int(each)
        assert self.process.poll() is None, (self.root.parent / "console").read_text()
        return self.leader

    def run(self, *words, codes=(0,)):
        """Run a program inside; what it printed."""
        inside = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-p", *words]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=600)
        assert done.returncode in codes, f"{' '.join(words)}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout

    def install(self, deb):
        """Install a package as a person does."""
        shutil.copy(deb, self.root / "root/keycast.deb")
        self.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--force-confdef", "-i", "/root/keycast.deb")

    def systemctl(self, *words, codes=(0,)):
        """Run systemctl; its output."""
        return self.run("systemctl", *words, codes=codes)

    def shown(self, name):
        """A property of the gateway's unit."""
        return self.systemctl("show", "keycast-gateway", "--value", f"--property={name}").strip()

    def until(self, condition):
        """Wait for a condition."""
        ends = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < ends, "it does not come"
            time.sleep(0.1)

    def end(self):
        """End it at once."""
        if self.leader:
            os.kill(self.leader, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()


def main(before: Annotated[str, typer.Option(help="Commit of the release before.")] = "HEAD") -> None:
    """Take the newest package of build/deb/ through its life, and print each step."""
    if INSIDE not in os.environ:  # again, with a network, mounts and processes of its own
        system(SYSTEM)
        words = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable]
        environment = os.environ | {INSIDE: "1"}
        again = [*words, "-m", "tests.deb_package", "--before", before]
        raise typer.Exit(subprocess.run(again, cwd=PROJECT, env=environment).returncode)
    run("ip", "link", "set", "lo", "up")
    new = max(BUILT.glob("keycast_*.deb"), key=lambda path: path.stat().st_mtime)
    with tempfile.TemporaryDirectory(prefix="kd", dir="/tmp") as folder:
        root = Path(folder) / "r"
        root.mkdir()
        run("tar", "-xpf", SYSTEM, "-C", root, "--exclude=./dev/*")
        container = Container(root)
        try:
            container.boot()
            asyncio.run(life(container, package_before(Path(folder), new, before), new))
        except BaseException:
            print(container.run("journalctl", "--no-pager", "--lines=40", codes=(0, 1)))
            raise
        finally:
            container.end()


async def life(debian: Container, old: Path, new: Path) -> None:
    """Everything that happens to the package on one machine."""
    root = debian.root
    config, state = root / CONFIG, root / STATE
    pne = SimulatedPne(root.parent / "pne", "lamp")

    await asyncio.to_thread(debian.install, old)
    modes = debian.run("stat", "-c", "%U:%G %a", "/etc/keycast", "/etc/keycast/keycast.toml").split("\n")
    assert modes[:2] == ["root:keycast 750", "root:keycast 640"], modes
    assert debian.shown("ActiveState") == "inactive", "a gateway without a name was started"
    step(f"installed: /etc/keycast {modes[0]}, keycast.toml {modes[1]}; nothing is started by itself")

    config.write_text(config.read_text().replace('["auto"]', '["lo"]'))
    debian.systemctl("enable", "--now", "keycast-gateway")
    await asyncio.to_thread(debian.until, (state / "control.sock").exists)
    trust = ask(state, "trust")
    ask(state, "group.create", sg_id=SG, open_to=["home"])
    ask(state, "board.register", credential=pne.identity.credential.ccs.hex())
    await pne.connect(credentials.parse(bytes.fromhex(trust["credential"]), "gateway"), ("127.0.0.1", 5683))
    await pne.ask(numbers.GKDK_ASSIGNMENT_REQUEST, {})
    await pne.ask(numbers.JOIN_REQUEST, {messages.SG_ID: SG})
    async with asyncio.timeout(WAIT_S):
        while not pne.keys:
            await asyncio.sleep(0.1)
    sessions = session_ids(pne)
    pulled = {messages.SG_ID: SG, messages.VERSION: max(version for _, version in pne.keys)}
    mode = debian.run("stat", "-c", "%U %a", f"/{STATE}").strip()
    assert mode == "keycast 700", mode
    step(f"started by its unit; the state folder is {mode}; a board has a session and a Group Key")

    backed_up(debian)
    process = debian.shown("MainPID")
    await asyncio.to_thread(debian.install, new)
    await asyncio.to_thread(debian.until, lambda: debian.shown("ActiveState") == "active")
    assert debian.shown("MainPID") not in (process, "0"), "it was not started anew"
    assert '["lo"]' in config.read_text(), "the conffile was replaced"
    assert ask(state, "trust")["credential"] == trust["credential"]
    answer = await pne.ask(numbers.KEY_PULL_REQUEST, pulled)
    assert answer[messages.RESULT] == numbers.RESULT_SUCCESS
    assert session_ids(pne) == sessions, "the board had to make another session"
    assert [each["pne_id"] for each in ask(state, "group.show", sg_id=SG)["members"]] == ["lamp"]
    step("upgraded: it runs again by itself; configuration, identity, group and session are kept")
    assert debian.shown("Type") == "notify"
    started = debian.run("keycast", "--version").strip()
    step(f"{started}; READY was told; status: {debian.shown('StatusText')}")

    process = debian.shown("MainPID")
    debian.run("mkdir", "-p", "/run/systemd/system/keycast-gateway.service.d")
    (debian.root / "root/quick.conf").write_text("[Service]\nWatchdogSec=6\nRestartSec=1\n")
    debian.run("cp", "/root/quick.conf", "/run/systemd/system/keycast-gateway.service.d/")
    debian.systemctl("daemon-reload")
    debian.systemctl("restart", "keycast-gateway")
    process = debian.shown("MainPID")
    debian.systemctl("kill", "--signal=STOP", "keycast-gateway")
    await asyncio.to_thread(
        debian.until, lambda: debian.shown("NRestarts") not in ("", "0") and debian.shown("ActiveState") == "active"
    )
    assert debian.shown("MainPID") != process
    answer = await pne.ask(numbers.KEY_PULL_REQUEST, pulled)
    assert answer[messages.RESULT] == numbers.RESULT_SUCCESS and session_ids(pne) == sessions
    step("a gateway that stands still (SIGSTOP) is killed by the watchdog and comes back; the board keeps its session")
    await pne.close()

    debian.systemctl("stop", "keycast-gateway")
    assert debian.shown("Result") == "success"
    right = config.read_text()
    config.write_text("[gateway]\n")
    debian.systemctl("start", "keycast-gateway", codes=(0, 1))
    await asyncio.to_thread(debian.until, lambda: debian.shown("ActiveState") == "failed")
    assert (debian.shown("ExecMainStatus"), debian.shown("NRestarts")) == ("78", "0")
    config.write_text(right)
    debian.systemctl("reset-failed", "keycast-gateway")
    debian.systemctl("start", "keycast-gateway")
    step("a wrong configuration ends with 78 and is not started again")
    exposure = debian.run("systemd-analyze", "security", "--no-pager", "keycast-gateway").strip().splitlines()[-1]
    verified = debian.run("sh", "-c", "systemd-analyze verify --man=no /lib/systemd/system/keycast-*.service 2>&1")
    assert verified == "", verified
    step(f"systemd-analyze: {exposure.encode('ascii', 'ignore').decode().strip()}; verify says nothing")

    debian.systemctl("is-active", "keycast-backup.timer")
    debian.run("dpkg", "--remove", "keycast")
    debian.systemctl("is-active", "keycast-backup.timer", codes=(3, 4))
    assert debian.shown("ActiveState") != "active" and not (root / "opt/keycast").exists()
    assert config.exists() and (state / "identity.key").exists()
    step("removed: it was stopped; state and configuration are there")
    said = debian.run("dpkg", "--purge", "keycast").strip().splitlines()[-1]
    assert list((root / BACKUPS).iterdir()), "the backups are gone"
    left = sorted(str(each.relative_to(root)) for each in state.rglob("*") if not each.is_dir())
    assert f"{STATE}/identity.key" in left and not config.exists()
    assert all(each.endswith("/identity.key") for each in left), left
    step(f"purged: {', '.join(left)} stays; it said: {said}")

    await asyncio.to_thread(debian.install, new)
    config.write_text(config.read_text().replace('["auto"]', '["lo"]'))
    debian.systemctl("start", "keycast-gateway")
    assert ask(state, "trust")["credential"] == trust["credential"]
    debian.systemctl("stop", "keycast-gateway")
    await asyncio.to_thread(of_a_person, debian)
    debian.run("env", "KEYCAST_PURGE=all", "dpkg", "--purge", "keycast")
    assert not state.exists() and not (root / "etc/keycast").exists() and not (root / BACKUPS).exists()
    assert not list((root / "etc/systemd/system").rglob("keycast*"))
    step("installed again with the kept identity; purged with KEYCAST_PURGE=all: nothing is left")


def backed_up(debian: Container) -> None:
    """The timer of backups waits for the key that they are encrypted for, and then makes one that can be opened."""
    timers = ("keycast-backup.timer", "keycast-server-backup.timer")
    assert debian.systemctl("is-enabled", *timers).split() == ["enabled", "enabled"]
    assert debian.systemctl("is-active", *timers).split() == ["active", "active"]
    debian.systemctl("start", "keycast-backup.service")
    assert not (debian.root / BACKUPS).exists(), "it made a backup that is encrypted for nobody"
    debian.run(
        "sh",
        "-c",
        "cd /root && keycast backup new-key home.key && install -m 644 home.recipient /etc/keycast/backup.recipient",
    )
    debian.systemctl("start", "keycast-backup.service")
    debian.systemctl("start", "keycast-server-backup.service")  # there is no Server: it does nothing
    assert (
        debian.systemctl("show", "--value", "--property=Result", "keycast-server-backup.service").strip() == "success"
    )
    made = debian.run("sh", "-c", f"stat -c '%U %a %n' /{BACKUPS} /{BACKUPS}/*").split("\n")
    assert made[0] == f"keycast 700 /{BACKUPS}" and made[1].startswith("keycast 600 "), made
    shown = debian.run("keycast", "backup", "show", made[1].split()[-1], "--verify", "--key", "/root/home.key")
    due = debian.systemctl("list-timers", "--no-pager", "keycast-*").splitlines()
    step(f"the timer of backups: {len(due) - 4} are due; one was made and opened: {shown.splitlines()[0]}")


def of_a_person(debian: Container) -> None:
    """A person's gateway as services that `keycast setup` makes: of the system, then of that person."""
    home, program = "/home/pi", ["/opt/keycast/bin/keycast", "setup", "/home/pi/keycast.toml", "--yes"]
    debian.run("useradd", "--create-home", "pi")
    uid = debian.run("id", "-u", "pi").strip()
    debian.run(*program, "--interface", "lo", "--service", "system")
    debian.until(lambda: debian.shown("ActiveState") == "active" and "serves" in debian.shown("StatusText"))
    assert debian.shown("User") == "pi" and debian.shown("ProtectSystem") == "strict"
    assert debian.run("stat", "-c", "%U %a", f"{home}/keycast-state").strip() == "pi 700"
    inside = ["nsenter", "-t", debian.shown("MainPID"), "-m"]
    written = debian.run(*inside, "sh", "-c", f"touch {home}/x {home}/keycast-state/y 2>&1", codes=(1,))
    assert "Read-only" in written and written.count("cannot touch") == 1, written
    debian.run("rm", f"{home}/keycast-state/y")
    debian.systemctl("disable", "--now", "keycast-gateway")
    debian.run("rm", "/etc/systemd/system/keycast-gateway.service")
    debian.systemctl("daemon-reload")
    debian.run("loginctl", "enable-linger", "pi")
    session = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--init-groups", "env", f"HOME={home}", "USER=pi"]
    session.append(f"XDG_RUNTIME_DIR=/run/user/{uid}")
    own = [*session, "systemctl", "--user"]
    debian.until(lambda: debian.run(*own, "is-system-running", codes=(0, 1)).strip() in ("running", "degraded"))
    told = debian.run(*session, *program, "--service", "user")
    assert "runs, as the service" in told and "enable-linger" not in told, told
    shown = debian.run(*own, "show", "keycast-gateway", "--property=ActiveState,StatusText,MainPID")
    assert "ActiveState=active" in shown and "serves" in shown, shown
    pid = re.search(r"MainPID=(\d+)", shown)[1]
    assert "Seccomp:\t2" in debian.run("cat", f"/proc/{pid}/status"), "its system calls are not filtered"
    debian.run(*own, "disable", "--now", "keycast-gateway")
    debian.run("loginctl", "disable-linger", "pi")
    step("services of a person, by keycast setup: one of the system, that can write its state only; one of the person")


def package_before(folder: Path, new: Path, before: str) -> Path:
    """Make a package of a lower version, with our code of the commit `before`; it need not know READY."""
    tree, source, site = folder / "old", folder / "source", folder / "site"
    run("dpkg-deb", "-R", new, tree)
    source.mkdir()
    archive = subprocess.run(["git", "archive", before], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-compile"]
    run(*pip, "--root-user-action=ignore", "--target", site, source)
    [packages] = tree.glob("opt/keycast/lib/python3*/site-packages")
    for each in [*packages.glob("keycast-*.dist-info"), *(each for each in site.iterdir() if each.name != "bin")]:
        shutil.rmtree(packages / each.name, ignore_errors=True)
    shutil.copytree(site, packages, dirs_exist_ok=True, ignore=shutil.ignore_patterns("bin"))
    control, unit = tree / "DEBIAN/control", tree / UNIT
    control.write_text(re.sub(r"(?m)^Version: .*", f"Version: {OLD}", control.read_text()))
    unit.write_text(unit.read_text().replace("Type=notify\n", "Type=exec\n").replace("WatchdogSec=60\n", ""))
    (tree / "DEBIAN/md5sums").unlink()
    run("dpkg-deb", "-Znone", "--root-owner-group", "-b", tree, folder / "old.deb")
    return folder / "old.deb"


def system(tar: Path) -> None:
    """Make a fresh Debian of the release that runs here, once."""
    if not tar.exists():
        tar.parent.mkdir(parents=True, exist_ok=True)
        suite = re.search(r"(?m)^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text())[1]
        half = tar.with_name("half.tar")
        run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={PACKAGES}", suite, half)
        half.rename(tar)


def session_ids(pne: SimulatedPne) -> list[bytes]:
    """What names the sessions of a PNE."""
    return [each.recipient_id for each in pne.sessions.contexts()]


def run(*words) -> None:
    """Run a program."""
    subprocess.run(words, check=True)


def step(sentence: str) -> None:
    """Print that a step is done."""
    print(f"ok: {sentence}", flush=True)


if __name__ == "__main__":
    typer.run(main)

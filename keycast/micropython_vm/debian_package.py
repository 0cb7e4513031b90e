"""Debian's `micropython` and its libraries: fetched by this machine's apt, and unpacked, not installed.

apt checks signatures as always. It gets folders of its own, so that neither root nor the system's package state is
involved. The package's own dynamic loader starts the VM, so the host's C library does not matter.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

SUITE = "trixie"  # Debian 13, with 1.25; "forky" and "sid" have 1.26
_FAMILY = re.compile(r"(bullseye|bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable)$")
_KEPT_FIELDS = ("uris", "signed-by", "trusted", "check-valid-until")
_LIST_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)")
_32_BIT = {"amd64": "i386", "arm64": "armhf"}


class NotAvailable(Exception):
    """The package cannot be fetched or run here. The text says why."""


def architectures() -> list[str]:
    """Return the Debian architectures to try here, the 32-bit one first. Raises NotAvailable without dpkg."""
    try:
        native = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        raise NotAvailable("this is not a Debian system") from None
    native = native.strip()
    return [_32_BIT[native], native] if native in _32_BIT else [native]


def unpack(
    architecture: str, root: Path, say: Callable[[str], None], suite: str = SUITE, apt: Path = Path("/etc/apt")
) -> None:
    """Fetch the package of `suite` for `architecture`, with its dependencies, and replace `root` by their files.

    It tries each Debian archive in the source entries under `apt`. `say` gets lines of progress. Raises NotAvailable if
    no archive has the package.
    """
    entries = list(debian_archives(apt, suite))
    if not entries:
        raise NotAvailable("apt has no source entry for Debian's archive")
    work = root.with_name(root.name + ".apt")
    complaint = ""
    try:
        for entry in entries:
            uris = entry.splitlines()[1].partition(":")[2].strip()
            say(f"micropython: asking {uris} for the package of Debian {suite} ({architecture})")
            packages, complaint = _download(architecture, entry, work)
            if packages:
                break
        else:
            raise NotAvailable(_explained(complaint))
        say(f"micropython: unpacking {len(packages)} packages")
        new = root.with_name(root.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        for package in packages:
            subprocess.run(["dpkg", "-x", str(package), str(new)], check=True)
        shutil.rmtree(root, ignore_errors=True)
        new.rename(root)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def start_command(root: Path) -> list[str]:
    """Return the command of the VM in `root`: its own loader, library path and program. Raises NotAvailable."""
    for loader in sorted(root.glob("usr/lib/*/ld-linux*.so.*")):
        return [str(loader), "--library-path", str(loader.parent), str(root / "usr/bin/micropython")]
    raise NotAvailable(f"{root} holds no dynamic loader")


def debian_archives(apt: Path, suite: str = SUITE) -> Iterator[str]:
    """Yield the source entries (deb822 text) of Debian archives under `apt`, with the suite set to `suite`.

    Both forms are read, `*.sources` and `*.list`. The archives of Raspberry Pi systems have other packages under the
    same suite names, so they come last.
    """
    found: list[str] = []
    files = [apt / "sources.list", *sorted(apt.glob("sources.list.d/*.list"))]
    for path in sorted(apt.glob("sources.list.d/*.sources")):
        found += _deb822_entries(_text(path))
    for path in files:
        found += _list_entries(_text(path))
    unique = list(dict.fromkeys(found))
    unique.sort(key=lambda entry: "raspberrypi" in entry or "raspbian" in entry)
    yield from (entry.replace("Suites:", f"Suites: {suite}", 1) for entry in unique)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _deb822_entries(text: str) -> Iterator[str]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields = {}
        for field in re.split(r"\n(?=\S)", stanza.strip("\n")):
            name, _, value = field.partition(":")
            fields[name.strip().lower()] = value.strip()
        suites = fields.get("suites", "").split()
        wanted = (
            "deb" in fields.get("types", "").split()
            and "main" in fields.get("components", "").split()
            and fields.get("enabled", "yes").lower() not in ("no", "false", "0")
            and any(_FAMILY.match(suite) for suite in suites)
        )
        if wanted and fields.get("uris"):
            yield _entry({name: fields[name] for name in _KEPT_FIELDS if name in fields})


def _list_entries(text: str) -> Iterator[str]:
    for line in text.splitlines():
        match = _LIST_LINE.match(line.partition("#")[0].strip())
        if match and "main" in match["components"].split() and _FAMILY.match(match["suite"]):
            options = dict(option.split("=", 1) for option in (match["options"] or "").split() if "=" in option)
            fields = {"uris": match["uri"], **{name.lower(): value for name, value in options.items()}}
            yield _entry({name: fields[name] for name in _KEPT_FIELDS if name in fields})


def _entry(fields: dict[str, str]) -> str:
    uris = fields.pop("uris")
    rest = "".join(f"{name.title()}: {value}\n" for name, value in fields.items())
    return f"Types: deb\nURIs: {uris}\nSuites:\nComponents: main\n{rest}"


def _download(architecture: str, entry: str, work: Path) -> tuple[list[Path], str]:
    """Return the packages fetched under `work`, or none and apt's messages."""
    shutil.rmtree(work, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    (work / "debian.sources").write_text(entry)
    settings = {
        "Dir::State": work,
        "Dir::State::Lists": work / "lists",
        "Dir::State::status": work / "status",
        "Dir::Cache": work / "cache",
        "Dir::Cache::Archives": work / "cache/archives",
        "Dir::Log": work,
        "Dir::Etc::SourceList": work / "debian.sources",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Default-Release": "",
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    complaint = ""
    # `update` may fail in a hook that only root can run, although it has fetched the lists: `install` decides.
    for action in (["update"], ["--yes", "--download-only", "install", "micropython"]):
        try:
            run = subprocess.run(
                ["apt-get", "-q", *options, *action],
                env={**os.environ, "LC_ALL": "C"},  # its messages are read
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=600,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return [], str(error)
        if run.returncode:
            complaint += run.stdout + run.stderr
    if run.returncode:
        return [], complaint
    return sorted((work / "cache/archives").glob("*.deb")), ""


def _explained(complaint: str) -> str:
    """Return one sentence on why it failed, from the many lines of apt."""
    if "NO_PUBKEY" in complaint or "not signed" in complaint:
        return "the key of Debian's archive is missing: install the newest debian-archive-keyring package"
    if any(
        sign in complaint
        for sign in ("Could not resolve", "Temporary failure", "Could not connect", "Unable to connect")
    ):
        return "Debian's archive could not be reached; with a network connection, run the same command again"
    errors = [line for line in complaint.splitlines() if line.startswith(("E:", "Err:", "W:"))]
    return f"apt could not fetch it: {errors[0] if errors else complaint.strip()[-200:]}"

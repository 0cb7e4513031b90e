"""Find the MicroPython VM (unix port), or unpack Debian's package into the cache (`keycast.places`).

`KEYCAST_MICROPYTHON` names another one: a command such as `/opt/micropython`, or a suite and an architecture of Debian
such as `sid/amd64`. Without it the order is: a `micropython` on the path that is new enough and 32-bit; the cache;
Debian 13's package for a 32-bit machine, whose objects have the sizes of an ESP32's, then for this machine's own
architecture; a 64-bit `micropython` on the path. Nothing is installed, and nothing is fetched once the cache is filled.
"""

import fcntl
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from keycast import places
from keycast.micropython_vm import debian_package

WANTED = "KEYCAST_MICROPYTHON"
_OF_THE_VM = "MICROPY"  # how the variables of a person's own programs begin: MICROPYPATH, MICROPYINSPECT
CACHE = places.CACHE / "micropython"
OLDEST = (1, 25, 0)  # the first with ROMFS
MODULES = (
    "asyncio",
    "binascii",
    "cryptolib",
    "ffi",
    "gc",
    "hashlib",
    "io",
    "json",
    "select",
    "socket",
    "struct",
    "time",
    "vfs",
)
WHAT_TO_INSTALL = (
    "keycast needs the unix port of MicroPython 1.25 or newer with cryptolib, ffi and ROMFS: on Debian 13 "
    "`apt install micropython`; elsewhere put a `micropython` built from its sources on the path."
)

# Modules of the folder that a person is in, or of ~/.micropython/lib, would be found first
_OWN_MODULES = "import sys\nsys.path[:] = ['.frozen']"
_PROBE = f"{_OWN_MODULES}\nimport {', '.join(MODULES)}\nvfs.VfsRom\nprint(sys.implementation[1][:3], sys.maxsize)"


class NoVm(Exception):
    """There is no usable VM. The text says in one sentence what to do."""


@dataclass(frozen=True)
class Vm:
    """A VM that `probe` has started. `argv` is its command, `version` that of MicroPython, `bits` 32 or 64."""

    argv: tuple[str, ...]
    version: tuple[int, int, int]
    bits: int

    def command(self, *arguments: str, heap_kib: int | None = None) -> list[str]:
        """Return the command line that runs it with a heap of `heap_kib` KiB, as counted on a 32-bit machine.

        A 64-bit VM gets twice as much, because its objects are twice as big.
        """
        heap = [] if heap_kib is None else ["-X", f"heapsize={heap_kib}wK"]
        return [*self.argv, *heap, *arguments]


def probe(argv: Iterable[str]) -> Vm | None:
    """Start a VM and return it as a Vm, or None if it does not start, lacks a module, or is too old."""
    argv = tuple(argv)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_OF_THE_VM)}
    try:
        run = subprocess.run(
            [*argv, "-c", _PROBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=20,
            check=True,
        )
        version_text, maxsize = run.stdout.rsplit(maxsplit=1)
        major, minor, patch = (int(part) for part in version_text.strip("()\n ").split(","))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if (major, minor, patch) < OLDEST:
        return None
    return Vm(argv, (major, minor, patch), 64 if int(maxsize) > 2**31 else 32)


def ensure(cache: Path = CACHE, say: Callable[[str], None] | None = None, wanted: str | None = None) -> Vm:
    """Return the VM of this machine, and fetch it if need be.

    `wanted` is a value of KEYCAST_MICROPYTHON; None stands for that of the environment. `say` gets a line of progress
    for each slow step; by default it is written to standard error.
    Raises NoVm, whose text is one sentence for a person.
    """
    say = say or _say
    wanted = os.environ.get(WANTED, "") if wanted is None else wanted
    if wanted:
        return _ensure_wanted(wanted, cache, say)
    found = shutil.which("micropython")
    on_path = probe([found]) if found else None
    if on_path and on_path.bits == 32:
        return on_path
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _cached(cache) or _fetch(cache, say, debian_package.SUITE, debian_package.architectures())
        except debian_package.NotAvailable as error:
            if on_path:
                say(f"micropython: using the 64-bit {found} (its objects are twice as big as an ESP32's)")
                return on_path
            raise NoVm(f"{WHAT_TO_INSTALL} ({error})") from error


def _ensure_wanted(wanted: str, cache: Path, say: Callable[[str], None]) -> Vm:
    debian = re.fullmatch(r"([a-z]+)/([a-z0-9]+)", wanted)
    if debian is None:
        found = probe(shlex.split(wanted))
        if found is None:
            raise NoVm(f"{WANTED}: {wanted} is no MicroPython of 1.25 or newer with cryptolib, ffi and ROMFS.")
        return found
    suite, architecture = debian.groups()
    folder = cache / suite / architecture
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return _cached(folder) or _fetch(folder, say, suite, [architecture])
        except debian_package.NotAvailable as error:
            raise NoVm(f"{WANTED}: there is no {wanted} here ({error})") from error


def _cached(cache: Path) -> Vm | None:
    try:
        record = json.loads((cache / "vm.json").read_text())
        argv = [part.replace("{cache}", str(cache)) for part in record["argv"]]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return probe(argv)


def _fetch(cache: Path, say: Callable[[str], None], suite: str, architectures: Iterable[str]) -> Vm:
    for architecture in architectures:
        root = cache / architecture
        debian_package.unpack(architecture, root, say, suite)
        vm = probe(debian_package.start_command(root))
        if vm:
            relative = [part.replace(str(cache), "{cache}") for part in vm.argv]
            complete = cache / "vm.json.new"
            complete.write_text(json.dumps({"argv": relative, "version": vm.version, "bits": vm.bits}) + "\n")
            complete.replace(cache / "vm.json")
            say(f"micropython: {'.'.join(map(str, vm.version))} ({architecture}) is ready in {cache}")
            return vm
        say(f"micropython: this kernel does not run the {architecture} build")
        shutil.rmtree(root)
    raise debian_package.NotAvailable(
        f"the packages of Debian {suite} for {' and '.join(architectures)} do not run here"
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""The steps of a board, run in the MicroPython VM: microseconds on this machine, and instructions with valgrind.

Instructions can be converted to the time of an ESP32: callgrind counts the same number on every machine. Debian's i386
binaries pad their functions with a form of NOP (`cs lea`) that valgrind 3.19 does not decode. A private copy of the VM
in `build/` has the prefix of that form replaced by a NOP of its own, which is as long.
"""

import re
import secrets
import shutil
import subprocess
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cpns import cborlite, group_message, key_ring, numbers
from cpns.broadcast_encryption.keys import TreeKeys
from device_agent import edhoc as board_edhoc
from device_agent import membership, provisioning, tuning
from device_agent.cose import Credential
from device_agent.crypto import p256
from device_agent.gkdk_store import GkdkStore
from device_agent.key_store import KeyStore
from keycast.micropython_vm import board_files, compile, vm
from keycast.places import BUILD
from keycast.provisioning.board import Trust, new_board
from keycast.virtual_board import board
from message_plane import credentials, edhoc
from message_plane.identity import BroadcastSigningKey, OwnIdentity
from tools.bench import tunnelled
from tools.bench.octets import PN_ALIAS, PN_ID, SG_ALIAS, SG_ID, VERSION, signed_objects
from tools.bench.pnes import MemoryStorage

HEIGHT = 10
SLOT, LEAVER = 0, 1023  # far apart, so that the way from a label of the GKDK to the subset key is the longest
OBJECTS, MESSAGES = 4, 20
HEAP_KIB = 96
STEPS = Path(__file__).with_name("on_vm") / "steps.py"
TREE = compile.MPY / "bench"
IMAGE = compile.MPY / "bench.romfs"
_START = (
    "import sys, rom; [rom.mount(sys.argv.pop(), place) for place in ('/rom', '/bench', '/hardware')]; "
    "sys.path[:] = ['/rom', '/bench', '/hardware', '.frozen']; import steps"
)
COPY = BUILD / "bench" / "vm"
_NOP = re.compile(rb"\x2e(\x8d(?:\xb4\x26\0\0\0\0|\x74\x26\0|\xb6\0\0\0\0|\x76\0))")
_RUN_S = 120


class NoValgrind(Exception):
    """Instructions cannot be counted here. The text says why."""


class BoardSteps:
    """The steps of one board. Make it once: it draws keys, computes the messages of the other end, and compiles."""

    def __init__(self, folder: Path) -> None:
        """`folder` is for the fixture; the caller removes it. Raises NoVm."""
        self._machine = vm.ensure()
        board.build()
        files = {"rom.py": compile.ON_VM / "rom.py", STEPS.name: compile.written_for_board(STEPS)}
        compile.compile_tree(files, TREE, board_files.LEVEL)
        compile.write_image(TREE, IMAGE)
        self._fixture = folder / "fixture.cbor"
        self._fixture.write_bytes(cborlite.encode(_fixture(folder)))
        self._counts: dict[tuple[str, int], int] = {}

    def milliseconds(self, step: str, count: int) -> float:
        """Return the median time of `step` in the VM on this machine, over `count` times in one process."""
        times = sorted(int(line) for line in self._run(self._machine, step, count).stdout.split())
        return times[len(times) // 2] / 1000

    def instructions(self, step: str, count: int) -> float:
        """Return the instructions of `step`, the mean over `count` times. Raises NoValgrind."""
        return (self._counted(step, count) - self._counted(step, 0)) / count

    def _counted(self, step: str, count: int) -> int:
        if (step, count) not in self._counts:
            if shutil.which("valgrind") is None:
                raise NoValgrind("no valgrind on this machine")
            machine = decodable(self._machine)
            run = self._run(machine, step, count, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
            found = re.search(r"Collected : (\d+)", run.stderr)
            if found is None:
                raise NoValgrind("callgrind gave no count")
            self._counts[step, count] = int(found[1])
        return self._counts[step, count]

    def _run(self, machine: vm.Vm, step: str, count: int, *prefix: str) -> "subprocess.CompletedProcess[str]":
        images = (board.HARDWARE_IMAGE, IMAGE, compile.BOARD_IMAGE)
        arguments = (str(self._fixture), step, str(count), *map(str, images))
        command = [*prefix, *machine.command("-c", _START, *arguments, heap_kib=HEAP_KIB)]
        environment = {"MICROPYPATH": f"{TREE}:.frozen", "BOARD_NVS": str(self._fixture.parent)}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_RUN_S)
        if run.returncode:
            if prefix:
                raise NoValgrind(f"the VM does not run under valgrind: {run.stderr.strip().splitlines()[-1]}")
            raise RuntimeError(f"step {step} failed in the VM:\n{run.stderr[-2000:]}{run.stdout[-2000:]}")
        return run


def board_octets() -> int:
    """Return the octets of all files that go onto a board."""
    compile.compile_board()
    return sum(path.stat().st_size for path in compile.BOARD_TREE.rglob("*") if path.is_file())


def decodable(machine: vm.Vm) -> vm.Vm:
    """Return a copy of `machine` whose NOPs valgrind decodes, or itself if it is not the unpacked Debian package."""
    program = Path(machine.argv[-1])
    libraries = Path(machine.argv[0]).parent
    if not program.is_relative_to(vm.CACHE) or not libraries.is_relative_to(vm.CACHE):
        return machine
    COPY.mkdir(parents=True, exist_ok=True)
    for source in (program, *(path for path in libraries.iterdir() if path.is_file() and ".so" in path.name)):
        target = COPY / source.name
        if not target.exists() or target.stat().st_mtime_ns < source.stat().st_mtime_ns:
            target.write_bytes(_NOP.sub(b"\x90\\1", source.read_bytes()))
            target.chmod(0o755)
    argv = (str(COPY / Path(machine.argv[0]).name), "--library-path", str(COPY), str(COPY / program.name))
    return vm.Vm(argv, machine.version, machine.bits)


def _fixture(folder: Path) -> dict[str, object]:
    """Return, for steps.py, records of a PNE that is a member of one group, and the messages to it."""
    gateway = OwnIdentity.create(folder / "gateway.key", "gw.home", "gateway")
    signing = BroadcastSigningKey(ec.generate_private_key(ec.SECP256R1()))
    provisioned, credential = new_board(
        "lamp.hall", Trust(gateway.credential, signing.public_key, 1, PN_ID, "192.168.1.10")
    )
    keys = TreeKeys(secrets.token_bytes(32), HEIGHT)
    group_key = secrets.token_bytes(16)
    storage = MemoryStorage()
    store = KeyStore(storage)
    store.save(provisioning.RECORD, provisioned)
    GkdkStore(store, 0).put(keys.record(2, 1, SLOT).pack(), 0)
    ring = key_ring.KeyRing(numbers.PROTECTION_SEALED)
    ring.install(VERSION, group_key, 0, numbers.REASON_JOIN, 0)
    store.save(membership.RECORD, cborlite.encode([PN_ALIAS, [SG_ID]]))
    group = [SG_ID, True, SG_ALIAS, 1000, ring.dump(0)]
    store.save(membership.record_name("g", SG_ID), cborlite.encode(group))
    members = set(range(1 << HEIGHT)) - {LEAVER}
    objects = [
        signed_objects(keys, members, signing, secrets.token_bytes(16), VERSION + 1 + number)[0]
        for number in range(OBJECTS)
    ]
    return {
        "garbage_max": tuning.GARBAGE_MAX,
        "records": storage.octets,
        "objects": objects,
        "messages": _group_messages(group_key),
        "edhoc": _handshake(provisioning.parse(provisioned), credential, gateway),
        "tunnel": tunnelled.recorded(folder),
    }


def _group_messages(group_key: bytes) -> list[bytes]:
    """Return messages of another member."""
    names = group_message.Group(SG_ID, PN_ALIAS, SG_ALIAS, numbers.PROTECTION_SEALED)
    sender = group_message.Sender(names, "lamp.porch")
    sender.start(VERSION, secrets.token_bytes(8))
    sender.reserved(sender.reserve())
    return [sender.protect(VERSION, group_key, b"light on") for _ in range(MESSAGES)]


def _handshake(own: provisioning.Provisioning, credential: credentials.Credential, gateway: OwnIdentity) -> list[bytes]:
    """Return one handshake of this board, with the PN GW's answers; the same ephemeral key makes the same messages."""
    ephemeral, c_i = p256.private_key(secrets.token_bytes), b"\x01\x02"
    both = (Credential.parse(own.ccs), own.private_key, ephemeral, c_i, Credential.parse(own.gateway_ccs))
    initiator = board_edhoc.Initiator(*both)
    responder = edhoc.Responder(gateway, p256.run(initiator.message_1()), b"\x03\x04\x05", by_value=False)
    responder.offered(p256.run(initiator.message_3(responder.message_2)))
    message_4, _ = responder.finish(credential, provisional=False)
    initiator.finish(message_4)
    return [ephemeral, c_i, responder.message_2, message_4, initiator.export(0, b"", 16)]

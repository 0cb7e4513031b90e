"""What an update costs a board: a frame that it hears and checks, and the installing, in the VM and on an ESP32."""

import random
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from keycast.micropython_vm import board_files, compile, vm
from keycast.virtual_board import board
from suit.coded import CodedImage
from tools.bench.board_steps import NoValgrind, decodable
from tools.bench.rows import Line, Row, Skipped, Tell

OCTETS = 100 * 1024  # SIZE in the program
HEAP_KIB = 96
STEPS = Path(__file__).with_name("on_vm") / "update_steps.py"
TREE = compile.MPY / "bench_update"
_HERTZ = 240e6
_CYCLES = 1.7  # for an instruction of the VM (tools/bench/board.py)
_RUN_S = 300


def measure(tell: Tell) -> Iterator[Line]:
    """Yield milliseconds in the VM on this machine, and an estimate for an ESP32. Raises NoVm."""
    tell("an update in the VM")
    machine = vm.ensure()
    board.build()
    files = {"rom.py": compile.ON_VM / "rom.py", STEPS.name: compile.written_for_board(STEPS)}
    compile.compile_tree(files, TREE, board_files.LEVEL)
    heard_us, frames = _run(machine, "hear").stdout.split()
    installed_us, _ = _run(machine, "install").stdout.split()
    note = f"without the writes of a real flash, one frame of five lost, {HEAP_KIB} KiB of heap"
    yield Row("board VM: a frame of an update", int(heard_us) / int(frames) / 1000, "ms", note=note)
    yield Row("board VM: 100 KiB installed", int(installed_us) / 1000, "ms", note=note)
    try:
        prepare, hear, install = (_instructions(machine, step) for step in ("prepare", "hear", "install"))
    except NoValgrind as why:
        yield Skipped("ESP32 estimate: an update", str(why))
        return
    per_frame, once = (hear - prepare) / int(frames), install - hear
    note = f"{{:.2f}} M instructions of the VM, {_CYCLES} cycles each at 240 MHz; {note}"
    for what, count in (("a frame of an update", per_frame), ("100 KiB installed", once)):
        milliseconds = count * _CYCLES / _HERTZ * 1000
        yield Row(f"ESP32 estimate: {what}", milliseconds, "ms", note=note.format(count / 1e6))


def _instructions(machine: vm.Vm, step: str) -> int:
    if shutil.which("valgrind") is None:
        raise NoValgrind("no valgrind on this machine")
    tool = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
    found = re.search(r"Collected : (\d+)", _run(decodable(machine), step, *tool).stderr)
    if found is None:
        raise NoValgrind("callgrind gave no count")
    return int(found[1])


def _run(machine: vm.Vm, step: str, *prefix: str) -> "subprocess.CompletedProcess[str]":
    coded = CodedImage(random.Random(1).randbytes(OCTETS))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "digest").write_bytes(sha256(b"".join(map(coded.block, range(coded.code.blocks)))).digest())
        (folder / "pages").write_bytes(b"".join(coded.pages()))
        (folder / "frames").write_bytes(b"".join(map(coded.frame, range(coded.code.frames))))
        arguments = (str(board.HARDWARE_IMAGE), str(compile.BOARD_IMAGE), f"{folder}/", step)
        command = [*prefix, *machine.command("-c", "import update_steps", *arguments, heap_kib=HEAP_KIB)]
        environment = {"MICROPYPATH": f"{TREE}:.frozen", "BOARD_NVS": name}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_RUN_S)
    if run.returncode:
        raise RuntimeError(f"step {step} failed in the VM:\n{run.stderr[-2000:]}{run.stdout[-2000:]}")
    return run

"""The costs of opening one I_MESSAGE on a board that is a VAL client: time in the VM, instructions, flash and heap.

Seconds on an ESP32 are computed, not measured: 1.05 cycles an instruction of big integer arithmetic, at 240 MHz.
"""

import asyncio
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from device_agent.val_client import key_cache
from keycast.micropython_vm import board_files, compile, vm
from keycast.virtual_board import board
from mikey_sakke.curve import run
from tools import PROJECT
from tools.bench.board_steps import NoValgrind, decodable
from tools.bench.rows import Line, Row, Skipped, Tell
from tools.bench.smallest_heap import smallest_heap

VECTORS = PROJECT / "tests" / "vectors"
CYCLES_PER_INSTRUCTION = 1.05
ESP32_HZ = 240e6
ROUNDS = 5
LEAST_KIB, MOST_KIB = 24, 192
STEPS = Path(__file__).with_name("on_vm") / "val_steps.py"
TREE = compile.MPY / "bench_val"
_START = "import val_steps"


class _Steps:
    def __init__(self, folder: Path) -> None:
        self.machine = vm.ensure()
        compile.compile_val_client_board()
        board.build()
        compile.compile_tree({"rom.py": compile.ON_VM / "rom.py", STEPS.name: STEPS}, TREE, board_files.LEVEL)
        self.cache = folder / "cache"
        public = json.loads((VECTORS / "mikey_sakke_public.json").read_text())
        alice = public["users"]["Alice"]
        material = (alice["user_id"], public["kms"]["pub_enc_key"], alice["user_decrypt_key"])
        run(key_cache.build_steps(str(self.cache), *map(bytes.fromhex, material)))

    def run(self, what: str, machine: vm.Vm, heap_kib: int, *prefix: str) -> "subprocess.CompletedProcess[str]":
        images = (compile.VAL_CLIENT_IMAGE, board.HARDWARE_IMAGE)
        arguments = (str(VECTORS), str(self.cache), *map(str, images), what)
        command = [*prefix, *machine.command("-c", _START, *arguments, heap_kib=heap_kib)]
        environment = {"MICROPYPATH": f"{TREE}:.frozen", "BOARD_NVS": str(self.cache.parent)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    def milliseconds(self, what: str, rounds: int) -> float:
        times = []
        for _ in range(rounds):
            ended = self.run(what, self.machine, MOST_KIB)
            ended.check_returncode()
            times.append(int(ended.stdout))
        return sorted(times)[len(times) // 2] / 1000

    def instructions(self, what: str) -> int:
        if shutil.which("valgrind") is None:
            raise NoValgrind("no valgrind on this machine")
        tool = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
        found = re.search(r"Collected : (\d+)", self.run(what, decodable(self.machine), MOST_KIB, *tool).stderr)
        if found is None:
            raise NoValgrind("callgrind gave no count")
        return int(found[1])

    async def fits(self, heap_kib: int) -> bool:
        return self.run("cached", self.machine, heap_kib).returncode == 0


def measure(tell: Tell) -> Iterator[Line]:
    """Yield the rows. Raises NoVm."""
    with tempfile.TemporaryDirectory() as folder:
        tell("cache")
        steps = _Steps(Path(folder))
        tell("time")
        cached, anew = steps.milliseconds("cached", ROUNDS), steps.milliseconds("anew", 1)
        yield Row("VAL board: I_MESSAGE opened, in the VM", cached, "ms", "without cache", anew)
        tell("heap")
        heap = asyncio.run(smallest_heap(steps.fits, LEAST_KIB, MOST_KIB))
        yield Row("VAL board: smallest heap that opens it, without agent", heap, "KiB", target=96)
        yield Row("VAL board: code beside the agent", _flash(), "octets", note="sum of .mpy")
        yield Row("VAL board: cache of one key period", steps.cache.stat().st_size, "octets")
        tell("instructions")
        yield from _estimates(steps.instructions)


def _flash() -> int:
    own = board_files.listed(board_files.VAL_CLIENT_MANIFEST).keys() - board_files.listed().keys()
    return sum((compile.VAL_CLIENT_TREE / name).with_suffix(".mpy").stat().st_size for name in own)


def _estimates(instructions: Callable[[str], int]) -> Iterator[Line]:
    try:
        count = instructions("cached") - instructions("nothing")
    except NoValgrind as why:
        yield Skipped("VAL board: instructions", str(why))
        return
    yield Row("VAL board: I_MESSAGE opened, instructions", count / 1e9, "G")
    seconds = count * CYCLES_PER_INSTRUCTION / ESP32_HZ
    yield Row("VAL board: I_MESSAGE opened, ESP32", seconds, "s", note="estimated from the instructions")

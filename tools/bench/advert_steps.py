"""What adverts cost a board, run in the MicroPython VM with the code in ROM: microseconds, and octets of its heap."""

import os
import subprocess
from pathlib import Path

from cpns import advert, advert_build, cborlite
from cpns.broadcast_object import FRAME_HEAD, SIGNATURE_HEAD
from keycast.micropython_vm import board_files, compile, vm
from tools import portable_images

HEAP_KIB = 96
PN_ALIAS = 0xA1B2C3D4
PROGRAM = Path(__file__).with_name("on_vm") / "adverts.py"
TREE = compile.MPY / "bench-adverts"
IMAGE = compile.MPY / "bench-adverts.romfs"
_START = (
    "import sys, rom; rom.mount(sys.argv.pop(), '/rom'); rom.mount(sys.argv.pop(), '/bench'); "
    "sys.path[:] = ['/rom', '/bench', '.frozen']; import adverts"
)
_RUN_S = 120


def measure(folder: Path) -> dict[str, float]:
    """Return microseconds of `decode_6`, `decode_62_half`, `decode_62` and `open`, octets of `rows` and of `growth`.

    `rows` are 61 rows of an object of 62; `growth` is that of the heap over 10,000 adverts. `folder` is for the
    fixture; the caller removes it. Raises NoVm.
    """
    machine = vm.ensure()
    portable_images.compile_portable()
    compile.compile_tree({"rom.py": compile.ON_VM / "rom.py", PROGRAM.name: PROGRAM}, TREE, board_files.LEVEL)
    compile.write_image(TREE, IMAGE)
    fixture = folder / "adverts.cbor"
    fixture.write_bytes(cborlite.encode(_fixture()))
    arguments = (str(fixture), str(IMAGE), str(portable_images.PORTABLE_IMAGE))
    run = subprocess.run(
        machine.command("-c", _START, *arguments, heap_kib=HEAP_KIB),
        env={**os.environ, "MICROPYPATH": f"{TREE}:.frozen"},
        capture_output=True,
        text=True,
        timeout=_RUN_S,
    )
    if run.returncode:
        raise RuntimeError(f"adverts failed in the VM:\n{run.stderr[-2000:]}{run.stdout[-2000:]}")
    return {name: float(value) for name, value in (line.split() for line in run.stdout.splitlines())}


def object_of(entries: int) -> bytes:
    """Return octets of the shape of a broadcast object with so many entries: 6 adverts for one, 62 for 60."""
    payload = cborlite.encode([3, PN_ALIAS, 7, 1, 0x10002, 0, 2, bytes(16), os.urandom(18 * entries)])
    octets: bytes = FRAME_HEAD + cborlite.encode(payload) + SIGNATURE_HEAD + os.urandom(64)
    return octets


def _fixture() -> dict[str, object]:
    key = os.urandom(16)

    def adverts(signed: bytes, indexes: range) -> list[bytes]:
        rows = advert_build.rows_of(advert_build.to_air(signed, PN_ALIAS))
        return [advert_build.row_advert(key, advert.identification(signed), rows, index) for index in indexes]

    small, large = object_of(1), object_of(60)
    objects = {
        "decode_6": adverts(small, range(6, 12)),
        "decode_62": adverts(large, range(62, 124)),
        "decode_62_half": adverts(large, range(31, 93)),
    }
    return {"key": key, "pn_alias": PN_ALIAS, "objects": objects, "small": adverts(small, range(6, 12))}

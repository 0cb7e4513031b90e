"""The portable packages and their tests as ROMFS images, for running the tests inside the VM.

The packages are compiled as for a board (`keycast.micropython_vm.compile`); the tests with -O0, as they need their
asserts.
"""

from pathlib import Path

from keycast.micropython_vm import board_files
from keycast.micropython_vm.compile import MPY, SOURCES, compile_tree, write_image, write_sources
from keycast.places import SITE

PORTABLE_TREE = MPY / "portable"
PORTABLE_IMAGE = MPY / "portable.romfs"
TEST_LEVEL = 0
# Modules of the portable packages that only the Linux ends use, and that need CPython.
CPYTHON_ONLY = (
    "cpns/name_rule.py",
    "cpns/uplink_form.py",
    "cpns/xml_form.py",
    "device_agent/host/",
    "suit/build.py",
    "suit/coded.py",
    "suit/show.py",
    "mikey_sakke/group_configuration.py",
    "mikey_sakke/https.py",
    "mikey_sakke/kms_",
)


def portable_files() -> dict[str, Path]:
    """Return all modules of the portable packages that a board can import."""
    found = {}
    for package in board_files.PACKAGES:
        for source in sorted((SITE / package).rglob("*.py")):
            name = source.relative_to(SITE).as_posix()
            if not name.startswith(CPYTHON_ONLY):
                found[name] = source
    return found


def compile_portable() -> None:
    """Write the portable packages as .mpy to PORTABLE_TREE, and PORTABLE_IMAGE of it. Private names and constants stay.

    Raises CompileError if a file does not compile; the image then holds the others.
    """
    try:
        files = write_sources(portable_files(), SOURCES / PORTABLE_TREE.name, keep=True, short=False)
        compile_tree(files, PORTABLE_TREE, board_files.LEVEL)
    finally:
        write_image(PORTABLE_TREE, PORTABLE_IMAGE)


def compile_test(source: Path) -> Path:
    """Compile a portable test file, with the modules beside it that it may import. Return their ROMFS image."""
    out = MPY / "tests" / source.stem
    beside = [path for path in source.parent.glob("*.py") if not path.name.startswith("test_")]
    compile_tree({path.name: path for path in (source, *beside)}, out, TEST_LEVEL)
    target = out.with_suffix(".romfs")
    write_image(out, target)
    return target

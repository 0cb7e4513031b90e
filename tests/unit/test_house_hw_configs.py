"""The hardware files follow their schema and agree with what the programs assume."""

import re

import pytest

from keycast.virtual_board import board
from tools import hw_configs


def test_every_file_follows_the_schema():
    known = hw_configs.all_hardware()
    assert {"esp32-generic", "esp32-s3", "esp32-c3", "virtual", "rpi4", "rpi5", "zero2w", "debian"} <= known.keys()


def test_the_virtual_board_has_the_heap_its_file_says():
    assert hw_configs.load(hw_configs.FOLDER / "boards" / "virtual.toml").heap_kib == board.HEAP_KIB


def test_no_board_without_psram_does_without_romfs():
    """Our code as .mpy files in the heap leaves too little of it."""
    for name, hardware in hw_configs.all_hardware().items():
        if isinstance(hardware, hw_configs.Board):
            assert hardware.psram_mib or hardware.romfs, name


def test_the_readme_says_which_micropython_is_old_enough_for_all_boards():
    boards = [each for each in hw_configs.all_hardware().values() if isinstance(each, hw_configs.Board)]
    (said,) = set(re.findall(r"MicroPython (1\.\d+) or newer", (hw_configs.FOLDER.parent / "README.md").read_text()))
    assert {each.oldest_micropython for each in boards} == {f"{said}.0"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("heap_kib = 96", "heap_kib = 1"), "board.heap_kib: Input should be greater than or equal to 32, found 1"),
        (('chip = "virtual"', 'chip = "z80"'), "board.chip"),
        (("romfs = true", "romfs = true\ncolour = 1"), "board.colour: Extra inputs are not permitted"),
        (('kind = "board"', 'kind = "toaster"'), "toaster"),
        (("romfs = true", "romfs ="), "line 7"),
    ],
)
def test_a_bad_file_is_refused_with_place_and_reason(tmp_path, change, complaint):
    text = (hw_configs.FOLDER / "boards" / "virtual.toml").read_text()
    bad = tmp_path / "bad.toml"
    bad.write_text(text.replace(*change, 1))
    with pytest.raises(hw_configs.BadHardwareFile) as caught:
        hw_configs.load(bad)
    assert str(bad) in str(caught.value) and complaint in str(caught.value)

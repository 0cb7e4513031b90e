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


def test_places_elsewhere_and_texts_without_the_build_stay(tmp_path):
    text = '  File "asyncio/core.py", line 1, in run\n  File "<stdin>", line 2\n'
    file = tmp_path / "traces.json"
    assert traces.readable(text, file) == text
    file.write_text('{"lines": {}}')
    assert traces.readable(text, file) == text

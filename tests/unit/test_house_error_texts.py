"""The files of a board: bundles that keep the texts of their errors in one piece."""

import pytest

from keycast.micropython_vm.error_texts import NAME, gather

SHORT = 'def f(x):\n    raise ValueError("too short")\n'
TWO = 'def g(x):\n    if x:\n        raise ValueError(\n            "the first of two texts %d" % x)\n'
TWO += '    raise KeyError("the other text") if x is None else OSError("the first of two texts %d", "the other text")\n'


def test_each_error_cuts_its_text_out_of_one():
    text = gather(TWO)
    assert text.splitlines()[-1] == f"{NAME} = 'the first of two texts %dthe other text'"
    assert text.count("the other text") == 1
    scope = {}
    exec(text, scope)
    for x, error, arguments in (
        (7, ValueError, ("the first of two texts 7",)),
        (None, KeyError, ("the other text",)),
        (0, OSError, ("the first of two texts %d", "the other text")),
    ):
        with pytest.raises(error) as caught:
            scope["g"](x)
        assert caught.value.args == arguments


def test_lines_keep_their_numbers():
    assert gather(TWO).splitlines()[2].endswith("raise ValueError(")
    assert gather(TWO).count("\n") == TWO.count("\n") + 1


def test_other_texts_stay():
    for text in (
        SHORT,
        'def f(x):\n    print("a text that is printed")\n',
        'def f(x):\n    raise ValueError("nicht für jeden Zeichensatz")\n',
        'def f(x):\n    raise ValueError(f"the value was {x}")\n',
        'try:\n    f()\nexcept MemoryError:\n    raise OSError("no room in the heap") from None\n',
        'try:\n    f()\nexcept (MemoryError, OSError):\n    raise OSError("no room in the heap") from None\n',
    ):
        assert gather(text) == text

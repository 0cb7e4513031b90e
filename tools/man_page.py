"""`python -m tools.man_page`: keycast(1) in troff, made from the commands themselves."""

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import typer

from keycast.program import WORDS, program

_HEAD = r"""\" Written by tools/man_page.py
.TH KEYCAST 1 "" "keycast {version}" "User Commands"
.SH NAME
keycast \- group keys for the home and for the field
.SH SYNOPSIS
.B keycast
.I COMMAND
[\fIOPTION\fR]...
.SH DESCRIPTION
{description}
.SH COMMANDS
"""
_FOOT = r"""
.SH EXIT STATUS
0 done; 1 refused or failed; 2 not understood, or something is wrong (\fBkeycast status\fR); 78 a wrong configuration
of a command that keeps running.
.SH FILES
.I /etc/keycast/keycast.toml
the gateway of the Debian package;
.I /var/lib/keycast
its state.
.SH ENVIRONMENT
.B KEYCAST_CONFIG
names the configuration file in the place of keycast.toml.
.SH SEE ALSO
.BR systemctl (1),
.BR journalctl (1)
"""


def page() -> str:
    """Return the manual page."""
    root: Any = typer.main.get_command(program([]))
    head = _HEAD.format(version=version("keycast"), description=_escaped(root.help or ""))
    entries = (entry for word in WORDS for entry in _entries(word))
    return "." + head + "\n".join(entries) + _FOOT


def _entries(word: str) -> Iterator[str]:
    root: Any = typer.main.get_command(program([word]))
    yield from _of_command(f"keycast {word}", root.commands[word])


def _of_command(words: str, command: Any) -> Iterator[str]:
    if command.hidden:
        return
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _of_command(f"{words} {name}", each)
        return
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
    shown = " ".join(_escaped(each.metavar or each.name.upper()) for each in arguments)
    yield f".SS {_escaped(words)}" + (f" {shown}" if shown else "")
    yield _escaped((command.help or "").replace("\n\n", "\n.PP\n"))
    for each in options:
        if each.help:
            yield ".TP\n.B " + _escaped(", ".join(each.opts))
            yield _escaped(each.help)


def _escaped(text: str) -> str:
    lines = text.replace("\\", r"\(rs").replace("-", r"\-").strip().splitlines()
    return "\n".join(r"\&" + each if each.startswith((".", "'")) and each != ".PP" else each for each in lines)


if __name__ == "__main__":
    print(page())

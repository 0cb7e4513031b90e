"""The command tree of `keycast`. Only the module of the word that was typed is imported: help answers at once."""

import importlib
import os
import sys
from typing import Annotated, Any

import typer

from keycast.terminal.interrupts import INTERRUPTED, REFUSAL
from keycast.terminal.json_option import Answering
from keycast.terminal.options import refusal, refuse, renamed, show_json

# word -> (module with a typer `app` of sub-commands, or with one function `command`; one line of help)
WORDS = {
    "setup": ("keycast.commands.setup", "Write the configuration of a gateway, or change it, by questions."),
    "demo": ("keycast.commands.demo", "A whole home on this machine: gateway, server, real MicroPython boards."),
    "gateway": ("keycast.commands.gateway", "Run a PN GW, write its configuration, restore it."),
    "server": ("keycast.commands.server", "Run a CPNS Server on its own, beside its gateways."),
    "group": ("keycast.commands.group", "Create, show, re-key and delete Service Groups; expel members."),
    "board": ("keycast.commands.board", "Provision, pair, list and retire boards."),
    "update": ("keycast.commands.update", "Sign updates of boards, show them, and offer them over the air."),
    "bench": ("keycast.commands.bench", "Check a real board at the desk: what only hardware shows."),
    "radios": ("keycast.commands.radios", "Show the Bluetooth adapters, the sender of adverts, and what is wrong."),
    "backup": ("keycast.commands.backup", "Look at a backup, and make the keys of who may open one."),
    "doctor": ("keycast.commands.doctor", "Examine a gateway and its machine, and say what to do."),
    "status": ("keycast.commands.status", "Show what a running gateway sees and does."),
    "web": ("keycast.commands.web", "Let people into the page of a gateway: password, link."),
    "log": ("keycast.commands.log", "Show and follow the log of what runs, and set its level for each area."),
    "kms": ("keycast.commands.kms", "Run a key management server (KMS), its users and tokens."),
    "gms": ("keycast.commands.gms", "Run a group management server (GMS): groups, members, group master keys."),
    "cms": ("keycast.commands.cms", "Run a configuration management server (CMS): user profiles."),
    "seal": ("keycast.commands.seal", "Group master keys for VAL and MC users: KMS, GMS, CMS and clients in a demo."),
    "mikey": ("keycast.commands.mikey", "Read and write MIKEY-SAKKE messages (I_MESSAGE)."),
}

FORMER_WORDS = {"device": "board"}
"""Words of the former release -> words of today. The former ones are understood for one more release."""

UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Raised for words that are no command: Click's class, which releases of typer bring under different names."""


def program(typed: list[str]) -> typer.Typer:
    """Return the tree of commands; only the first word in `typed` (the arguments) has its commands filled in."""
    word = next((argument for argument in typed if not argument.startswith("-")), None)
    tree = typer.Typer(
        cls=_Program,
        no_args_is_help=True,
        rich_markup_mode="markdown",  # lines of a paragraph flow to the width of the terminal
        pretty_exceptions_show_locals=False,  # a traceback must never show a key
        help="Group keys for the home and for the field: one signed frame re-keys the house, "
        "and a board that was thrown out cannot read it.",
        epilog="Start here: keycast setup; or look on first: keycast demo",
    )
    tree.callback()(_options)
    for name, (where, line) in WORDS.items():
        if name != word:
            tree.command(name, help=line)(_not_loaded)
            continue
        module = importlib.import_module(where)
        if hasattr(module, "app"):
            tree.add_typer(module.app, name=name, help=line)
        else:
            tree.command(name)(module.command)
    if word in FORMER_WORDS:
        where, line = WORDS[FORMER_WORDS[word]]
        said = None if "--json" in typed else _say_the_new_word
        tree.add_typer(importlib.import_module(where).app, name=word, help=line, hidden=True, callback=said)
    return tree


def typed_words() -> list[str]:
    """Return the words typed so far: the arguments or, while the shell asks for completions, those of its own line."""
    if "_KEYCAST_COMPLETE" not in os.environ:
        return sys.argv[1:]
    line = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    return line.split()[1:]


_ENDED = "Standard input ended before the question was answered."


class _Program(Answering):
    """The command `keycast`, which answers in JSON if that is asked for, even if the words typed are no command."""

    _in_json = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raise UsageError for an argument that is not UTF-8: it is no name, URI or number, and as a path it cannot be
        shown."""
        for each in args:
            if not _is_utf8(each):
                raise UsageError(f"{each!r} is not UTF-8.")
        return super().parse_args(ctx, args)

    def main(self, args: Any = None, *more: Any, **how: Any) -> Any:
        """Run the command, and end the process with its exit code."""
        self._in_json = "--json" in (sys.argv[1:] if args is None else args)
        if not self._in_json:
            return super().main(args, *more, **how)
        try:
            code = super().main(args, *more, **how | {"standalone_mode": False}) or 0
            if code == INTERRUPTED:
                show_json(REFUSAL)
            sys.exit(code)
        except UsageError as wrong:
            show_json(refusal(getattr(wrong, "format_message", wrong.__str__)(), "usage"))
            sys.exit(2)
        except typer.Abort:
            show_json(refusal(_ENDED, "cancelled"))
            sys.exit(1)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Ctrl-C at a question ends it as anywhere else; an end of standard input is `typer.Abort`."""
        try:
            return super().invoke(ctx)
        except typer.Abort as ended:
            if isinstance(ended.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            if self._in_json:
                raise
            refuse(_ENDED, "cancelled")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"keycast {version('keycast')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Do nothing: this function only declares the options of `keycast` itself."""


def _say_the_new_word(context: typer.Context) -> None:
    former = str(context.info_name)
    renamed(former, FORMER_WORDS[former])


def _not_loaded() -> None:
    """Do nothing: this function stands for a command that was not typed."""

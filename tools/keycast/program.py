"""The command tree of `keycast`. Only the module of the word that was typed is imported: help answers at once."""

import importlib
from importlib.metadata import version
from typing import Annotated

import typer

# word -> (module with a typer `app` of sub-commands, or with one function `command`; one line of help)
WORDS = {
    "demo": ("tools.keycast.demo", "A whole home on this machine: gateway, server, real MicroPython boards."),
    "gateway": ("tools.keycast.gateway", "Run a PN GW, write its configuration, restore it."),
    "server": ("tools.keycast.server", "Run a CPNS Server on its own, beside its gateways."),
    "group": ("tools.keycast.group", "Create, show, re-key and delete Service Groups; expel members."),
    "device": ("tools.keycast.device", "Register, provision, pair, list and retire boards."),
    "status": ("tools.keycast.status", "What a running gateway sees and does."),
    "kms": ("tools.keycast.kms", "Run a key management server (KMS), its users and tokens."),
    "gms": ("tools.keycast.gms", "Run a group management server (GMS): groups, members, group master keys."),
    "cms": ("tools.keycast.cms", "Run a configuration management server (CMS): user profiles."),
    "seal": ("tools.keycast.seal", "Group master keys for VAL and MC users: KMS, GMS, CMS and clients in a demo."),
    "mikey": ("tools.keycast.mikey", "Read and write MIKEY-SAKKE messages (I_MESSAGE)."),
}


def program(typed: list[str]) -> typer.Typer:
    """The commands, with those of the word in `typed` (the arguments) filled in and the others only listed."""
    word = next((argument for argument in typed if not argument.startswith("-")), None)
    tree = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,  # a traceback must never show a key
        help="Group keys for the home and for the field: one signed frame re-keys the house, "
        "and a board that was thrown out cannot read it.",
        epilog="Start here: keycast demo",
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
    return tree


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"keycast {version('keycast')}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Has nothing to do itself."""


def _not_loaded() -> None:
    """Stands for a command that was not typed."""

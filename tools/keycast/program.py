"""The command tree of `keycast`. Only the module of the word that was typed is imported: help answers at once."""

import importlib

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
        help="Group keys for the home and for the field: one signed frame re-keys the house, "
        "and a board that was thrown out cannot read it.",
        epilog="Start here: keycast demo",
    )
    tree.callback()(_root)
    for name, (where, line) in WORDS.items():
        if name != word:
            tree.command(name, help=line)(_root)
            continue
        module = importlib.import_module(where)
        if hasattr(module, "app"):
            tree.add_typer(module.app, name=name, help=line)
        else:
            tree.command(name)(module.command)
    return tree


def _root() -> None:
    """Has nothing to do."""

"""`keycast board rescue`: help a board that does not start, or make it forget everything."""

from typing import TYPE_CHECKING, Annotated

import typer

from keycast.commands.board.port_option import PortOption
from keycast.terminal import extras
from keycast.terminal.options import answer, refuse, remark, sentences, wants_json
from keycast.terminal.work_lines import work_lines

if TYPE_CHECKING:
    from keycast.board.rescue import Trouble


def command(
    port: PortOption = None,
    val_client: Annotated[bool, typer.Option("--val-client", help="Write the files of a VAL client.")] = False,
    erase: Annotated[
        bool, typer.Option("--erase", help="Instead erase its identity, keys and Wi-Fi password, to give it away.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before erasing.")] = False,
) -> None:
    """Show the last error of a board, write the agent's files anew and start it. Identity, keys and own files stay.

    With --erase the board forgets all that it knows of your home, and its files stay; first retire it at the gateway.

    Example: keycast board rescue --port /dev/ttyUSB0
    """
    extras.require("board")
    from keycast.board import rescue
    from keycast.board.ports import chosen, locked
    from keycast.board.repl import Repl
    from keycast.hardware.catalogue import all_boards
    from keycast.micropython_vm import compile

    with sentences():
        there = chosen(port, all_boards())
        with locked(there, "keycast board rescue"):
            repl = Repl(there)
            with repl:
                health = rescue.look(repl)
            remark(_sentence(health))
            told = health._asdict() | {"port": there.name}
            if not erase:
                tree = compile.board_tree(val_client)
                with work_lines([there.name]) as (line,):
                    line.doing("writing files")
                    now = rescue.put_files(repl.port, tree, line.progress)
                answer(told, f"The files of {now.name} are written anew, and it starts. See: keycast board monitor")
                return
            if not yes and not _is_confirmed(f"Erase all that {health.pne_id or 'it'} knows?"):
                with Repl(repl.port) as waiting:
                    waiting.start()
                refuse("nothing was erased: that wants a yes, or the option --yes", "not-confirmed")
            repl = Repl(repl.port)
            with repl:
                caches = rescue.erase(repl)
    hint = "Its file system still has octets of the caches of a VAL client: keycast board flash IMAGE --erase"
    answer(told | {"erased": True}, f"{there.name} knows nothing of your home any more.", *([hint] if caches else []))


def _is_confirmed(question: str) -> bool:
    """Return whether a person says yes; without a person, as in a script, False."""
    try:
        return not wants_json() and typer.confirm(question)
    except typer.Abort:
        return False


def _sentence(health: "Trouble") -> str:
    """Return what a person should know of the board."""
    if health.broken:
        return f"The files of the board do not run: {health.broken}."
    who = f"It is {health.pne_id}" if health.pne_id else "It has no identity"
    starts = f"; {health.starts} starts in a row ended within a minute" if health.starts else ""
    return f"{who}{starts}. Last error: {health.error or 'none was kept'}."

"""`keycast demo`: run a whole home on this machine, throw a board out and re-key the others."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from keycast.terminal import extras
from keycast.terminal.options import JsonOption, answer, refuse, sentences

TRUSTS = ("gateway", "end-to-end")
UPLINKS = ("embedded", "udp", "mqtt")


def command(
    boards: Annotated[int, typer.Option(min=3, max=100, help="Virtual boards, each a real MicroPython VM.")] = 8,
    loss: Annotated[float, typer.Option(min=0.0, max=0.9, help="Probability that a datagram is lost.")] = 0.0,
    seed: Annotated[int | None, typer.Option(help="Seed of the losses; default: a new one each time.")] = None,
    ble: Annotated[
        bool, typer.Option("--ble", help="Every second board has Bluetooth only, on an air without radios.")
    ] = False,
    trust: Annotated[
        str,
        typer.Option(
            metavar="gateway|end-to-end",
            help="end-to-end: beside the ordinary group runs one whose keys the gateway carries and cannot read.",
        ),
    ] = "gateway",
    homes: Annotated[
        int, typer.Option(min=1, max=4, help="Homes with a gateway each; all boards are in one Service Group.")
    ] = 1,
    uplink: Annotated[
        str | None,
        typer.Option(
            metavar="embedded|udp|mqtt",
            help="The way to the CPNS Server: in the gateway's process, or apart from it, over UDP or over a Mosquitto "
            "that must be installed. Default: embedded where that is possible, else udp.",
        ),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(readable=False, help="Write the last picture to this SVG file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a gateway, its CPNS Server and virtual boards; expel one, re-key the others, and let the expelled one try.

    The exit code is 0 only if every member got each key and the expelled board could not read the new one.

    With --ble the gateway also brings keys as Bluetooth LE adverts, which get lost as datagrams do; boards that have
    Bluetooth only ask and confirm by GATT and adverts of their own. The expelled board is one of these.

    With --trust end-to-end the CPNS Server listens apart from the gateway. The exit code is then 0 only if the gateway
    could not read the key of the end-to-end group either: all that passed it, and its files, are searched.

    With --homes 2 the boards are behind two gateways, by turns, and one CPNS Server serves both; neither home hears the
    radios of the other one. Group messages stay within a home.

    Examples: keycast demo --boards 20 --loss 0.2, keycast demo --homes 2 --uplink mqtt --trust end-to-end
    """
    if trust not in TRUSTS:
        refuse(f"{trust!r} is no trust of a Service Group: write {' or '.join(TRUSTS)}", "not-allowed")
    apart = homes > 1 or trust != TRUSTS[0]
    uplink = uplink or UPLINKS[apart]
    if uplink not in UPLINKS:
        refuse(
            f"{uplink!r} is no way to a CPNS Server: write {', '.join(UPLINKS[:-1])} or {UPLINKS[-1]}", "not-allowed"
        )
    if apart and uplink == UPLINKS[0]:
        refuse(
            "A CPNS Server in the gateway's process serves one home and no end-to-end group: name udp or mqtt.",
            "not-allowed",
        )
    if boards < 2 * homes:
        refuse(f"{homes} homes need {2 * homes} boards or more: --boards {2 * homes}", "not-allowed")
    extras.require("gateway", "boards", *(["ble"] if ble else []))
    import asyncio

    from keycast.demo.end_to_end_story import EndToEndFigures
    from keycast.demo.house import new_seed
    from keycast.demo.story import DemoFigures
    from keycast.demo.view import show
    from keycast.micropython_vm.vm import NoVm
    from keycast.virtual_board.board import BoardEnded

    kind = EndToEndFigures if trust == "end-to-end" else DemoFigures
    figures = kind(boards, loss, new_seed() if seed is None else seed, ble, homes, uplink)
    with sentences(), tempfile.TemporaryDirectory(prefix="keycast-demo-") as folder:
        try:
            asyncio.run(show(Path(folder), figures, picture, quiet=as_json))
        except (NoVm, BoardEnded) as problem:
            refuse(str(problem))
        except TimeoutError:
            refuse("A member was still without its key after two minutes.", "timeout")
    answer(figures.as_dict())  # lines are shown while it runs
    if not figures.good:
        raise typer.Exit(1)

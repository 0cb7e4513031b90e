"""`keycast board list`: the boards on this computer, and those that a running gateway lets in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.terminal.dates import ago
from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, asked, console, remark, sentences
from keycast.terminal.tables import show_table

if TYPE_CHECKING:
    from keycast.board.survey import Seen

_BY_GATT = "gatt:"  # message_plane/links/gatt.py
_USB = {
    "bridge": "USB-to-UART bridge",
    "boot_rom": "its boot ROM",
    "micropython": "MicroPython's USB",
    "native": "its own USB",
    "virtual": "virtual board",
    "": "no board that keycast knows",
}
_RUNS = {
    "micropython": "MicroPython",
    "nothing": "nothing: its flash is empty",
    "boot loader": "its boot loader",
    "other": "another program",
    "silent": "nothing comes from it",
}
_LOST = (
    "datagrams that found no room in its heap: {}",
    "datagrams that its network did not take: {}",
    "empty datagrams: {}",
)


def command(
    ask_all: Annotated[
        bool, typer.Option("--ask", help="Ask boards behind a USB-to-UART bridge too, which can reset them.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """List the boards on this computer, and those that a running gateway lets in.

    Of a board on this computer: what it may be, what runs on it, and what to do next. A port that another program has
    open is left alone. Of a board that the gateway lets in: when and where it was heard last, and what it runs.

    Example: keycast board list --ask
    """
    with sentences():
        here, let_in = _here(ask_all), _let_in(config)
    value = {"ports": [_row(*each) for each in here], "boards": let_in}
    answer(value, lambda: _show_here(here), lambda: _show_let_in(let_in))


def _here(ask_all: bool) -> "list[tuple[Seen, str]]":
    """Return what is on each port, and the next step; none without the extra that is needed for it."""
    from keycast.hardware.catalogue import VIRTUAL, all_boards, virtual_board

    try:
        from keycast.board.survey import next_step, survey

        boards = {**all_boards(), VIRTUAL: virtual_board()}
        return [(seen, next_step(seen, boards)) for seen in survey(boards, ask_all)]
    except ModuleNotFoundError as missing:
        remark(f"The ports of this computer are not shown without the package {missing.name}, of keycast[board].")
        return []


def _let_in(config: Path) -> list[dict[str, Any]]:
    """Return the boards that the gateway lets in; none if no gateway runs, which is a remark."""
    from gateway_agent.errors import ConfigError, ControlUnavailable

    try:
        found: list[dict[str, Any]] = asked(config, None, "board.list")
    except (ConfigError, ControlUnavailable) as none:
        remark(f"No gateway is asked: {none}")
        return []
    return found


def _show_here(here: "list[tuple[Seen, str]]") -> None:
    if not here:
        remark("No board is on this computer.")
        return
    rows = [
        (seen.port.name, ", ".join(seen.names), seen.chip, _USB[seen.state], _what_runs(seen), step)
        for seen, step in here
    ]
    show_table(console, ("port", "board", "chip", "connected by", "runs", "next"), rows)


def _what_runs(seen: "Seen") -> str:
    if seen.users:
        return "in use by " + " and ".join(f"{name} (process {pid})" for pid, name in seen.users)
    if seen.fault:
        return seen.fault.what
    found = seen.answer
    if found is None:
        return "not asked" if seen.state else ""
    if found.runs == "micropython":
        return f"MicroPython {found.micropython}"
    if found.runs == "waiting agent":
        return f"the agent waits: {found.state or 'it does not say why'}"
    if found.runs != "agent":
        return _RUNS[found.runs]
    lowest = "" if found.radio_lowest is None else f"; the radio had {found.radio_lowest} octets at least"
    kept = "; erased keys can be read in its flash" if found.cleared is False else ""
    identity = f"{found.pne_id} of {found.gateway_id}" if found.gateway_id else found.pne_id
    update = f" (update {found.update}, slot {found.slot})" if found.slot else ""
    what = f"{identity}: agent {found.agent}{update} on MicroPython {found.micropython}, {found.state}"
    known = f", which must know it as {found.own_fingerprint}" if found.own_fingerprint else ""
    server = f"; it trusts the CPNS Server {found.server_fingerprint}{known}" if found.server_fingerprint else ""
    groups = found.group_count or 0
    count = f"{groups} Service Group{'' if groups == 1 else 's'}"
    counts = (found.cut, found.dropped, found.empty)
    lost = "".join(f"; {words.format(count)}" for words, count in zip(_LOST, counts, strict=True) if count)
    return f"{what}, {count}{server}{lowest}{lost}{kept}"


def _row(seen: "Seen", step: str) -> dict[str, Any]:
    """Return the row for a program."""
    told = seen.answer
    return {
        "device": seen.port.device,
        "name": seen.port.name,
        "usb_id": seen.port.usb_id,
        "candidates": list(seen.names),
        "connection": seen.state,
        "users": [{"name": name, "process": pid} for pid, name in seen.users],
        "runs": told.runs if told else "",
        "micropython": told.micropython if told else "",
        "chip": seen.chip,
        "software": told.agent if told else "",
        "update": told.update if told else None,
        "slot": told.slot if told else None,
        "state": told.state if told else "",
        "pne_id": told.pne_id if told else "",
        "gateway_id": told.gateway_id if told else "",
        "server_fingerprint": told.server_fingerprint if told else "",
        "own_fingerprint": told.own_fingerprint if told else "",
        "group_count": told.group_count if told else None,
        "radios": list(told.radios) if told and told.radios is not None else None,
        "radio_lowest": told.radio_lowest if told else None,
        "cleared": told.cleared if told else None,
        "cut_count": told.cut if told else None,
        "dropped_count": told.dropped if told else None,
        "empty_count": told.empty if told else None,
        "next": step,
    }


def _place(address: str) -> str:
    """Return an IP address without its port, or the address of a board's Bluetooth."""
    if address.startswith(_BY_GATT):
        return f"Bluetooth {address.removeprefix(_BY_GATT)}"
    return address.rpartition(":")[0]


def _show_let_in(boards: list[dict[str, Any]]) -> None:
    if not boards:
        return
    rows = [
        (
            board["pne_id"],
            "yes" if board["session"] else "no",
            ago(board["age_s"]),
            _place(board["address"]),
            board["software"],
            ", ".join(board["sg_ids"]),
        )
        for board in boards
    ]
    show_table(console, ("board", "session", "last heard", "from", "software", "Service Groups"), rows)

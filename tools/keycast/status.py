"""`keycast status`: what a running gateway sees and does."""

import typer
from rich.table import Table
from rich.text import Text

from tools.keycast.options import DEFAULT_CONFIG, ConfigOption, JsonOption, ask, console, show_json


def command(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Groups, versions, deliveries, boards, networks, alarms and counters of the running gateway.

    Exit code 2 if broadcasts are stopped or an alarm stands. Example: keycast status
    """
    state = ask(config, None, "status")
    if as_json:
        show_json(state)
    else:
        _show(state)
    if state["stopped"] or state["alarms"]:
        raise typer.Exit(2)


def _show(state: dict) -> None:  # type: ignore[type-arg]
    sessions = sum(device["session"] for device in state["devices"])
    console.print(f"{state['gateway']} serves {state['pn']}, uplink {state['uplink']}")
    console.print(
        f"boards reach it at {', '.join(state['addresses'])}; keys go to {', '.join(state['broadcast']) or '-'}"
    )
    console.print(f"let in: {len(state['devices'])}, with a session: {sessions}")
    if state["stopped"]:
        console.print(Text.assemble(("stopped:", "red"), " ", state["stopped"]))
    table = Table("Service Group", "version", "members", "newest delivery", "")
    for group in state["groups"]:
        delivery = ", ".join(f"{count} {name}" for name, count in sorted(group["states"].items())) or "-"
        remark = "exposed" if group["exposed"] else "waits for a key" if group["waiting"] else ""
        version = f"{group['version'] >> 16}.{group['version'] & 0xFFFF}"
        table.add_row(group["sg_id"], version, str(group["members"]), delivery, remark)
    console.print(table)
    for alarm in state["alarms"]:
        console.print(Text.assemble(("alarm:", "red"), " ", alarm["text"]))
    for name, count in state["counters"].items():
        console.print(f"{count:8} {name}")

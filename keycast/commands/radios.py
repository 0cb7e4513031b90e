"""`keycast radios`: the Bluetooth adapters of this machine, the sender of adverts, and what is wrong."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from keycast.terminal.options import DEFAULT_CONFIG, ConfigOption, answer, console, refuse, remark, sentences
from keycast.terminal.tables import show_table

if TYPE_CHECKING:
    from gateway_agent.radios.ble import BleSection
    from gateway_agent.radios.medium import Radio
    from keycast.services.radio_survey import AdapterHere, Survey

_ANSWERS_WITHIN_S = 5.0


def command(
    config: ConfigOption = DEFAULT_CONFIG,
    try_it: Annotated[
        bool, typer.Option("--try", help="Advertise for a moment to learn the real interval; no gateway may run.")
    ] = False,
) -> None:
    """Show the Bluetooth adapters, what each can do, the sender of adverts, the interval really used, what is wrong.

    A running gateway is asked which sender it uses. Without one, and without a configuration file, the command shows
    what a gateway would use here. The exit code is 0 if Group Keys go by adverts, or would, or shall not
    (sender = "off"), and 2 if something is wrong; each such sentence has the next step.

    Example: keycast radios --try
    """
    from keycast.services import radio_survey

    with sentences():
        section, used = _of_gateway(config)
        found = radio_survey.survey(section, used, try_it)
    answer(as_json(found), lambda: _show(found))
    if found.problems:
        raise typer.Exit(2)


def as_json(found: "Survey") -> dict[str, Any]:
    """Return what was found as the JSON answer of the command."""
    from keycast.services.radio_survey import plain

    return {
        "kernel": found.kernel,
        "bluez": found.bluez,
        "missing": list(found.missing),
        "wanted": found.wanted,
        "adapters": [_adapter_as_json(each) for each in found.adapters],
        "in_use": found.is_in_use,
        "radio": plain(found.radio),
        "problems": found.problems,
    }


def _of_gateway(config: Path) -> "tuple[BleSection, Radio | None]":
    """Return the section `[ble]` of the configuration or its defaults, and what a gateway that runs says of its radio.

    Raises GatewayError if there is a configuration that cannot be used.
    """
    from gateway_agent.config.load import load
    from gateway_agent.control_client import ask
    from gateway_agent.errors import ControlUnavailable
    from gateway_agent.radios.ble import BleSection
    from gateway_agent.radios.medium import Radio

    if not config.exists():
        remark(f"{config} is not there: this is what a gateway would use here.")
        return BleSection(), None
    loaded = load(config)
    section = getattr(loaded, "ble", None)  # a kind of medium, of the table in gateway_agent/radios/by_kind.py
    if section is None:
        remark(f"{config} has no section [ble]: its gateway uses no Bluetooth. This is what it could use.")
        return BleSection(), None
    try:
        told = ask(loaded.gateway.state_dir, "radios", "keycast gateway run", _ANSWERS_WITHIN_S)
    except ControlUnavailable as none:
        remark(f"This is what a gateway would use, as none is asked. {none}")
        return section, None
    except TimeoutError:
        refuse("The gateway does not answer. Look at its log, or try again.", "timeout")
    return section, next((Radio(**each) for each in told), None)


def _adapter_as_json(each: "AdapterHere") -> dict[str, Any]:
    adapter = each.adapter
    return {
        "name": adapter.name,
        "address": adapter.address,
        "bluetooth": adapter.version,
        "is_extended": adapter.is_extended,
        "instances": adapter.instances,
        "used_count": None if adapter.used is None else len(adapter.used),
        "is_powered": adapter.is_powered,
        "driver": each.driver,
        "bus": each.bus,
        "problem": adapter.problem,
    }


def _show(found: "Survey") -> None:
    console.print(f"kernel {found.kernel}, BlueZ {found.bluez or 'not found'}")
    if found.adapters:
        show_table(
            console, ("adapter", "address", "Bluetooth", "adverts", "state", "driver"), map(_row, found.adapters)
        )
    if found.radio is None:
        console.print('the configuration has sender = "off": no Group Key goes by adverts')
    elif found.radio.sender:
        console.print(_sender(found.radio, found.is_in_use))
        if found.radio.advice:
            console.print(f"it could be faster: {found.radio.advice}")
        for name, why in found.radio.in_vain.items():
            console.print(f"not by {name}: {why}")
    for problem in found.problems:
        console.print(Text.assemble(("wrong:", "red"), f" {problem}"))


def _row(each: "AdapterHere") -> tuple[str, ...]:
    adapter = each.adapter
    state = "on" if adapter.is_powered else "off"
    if adapter.problem:
        state = adapter.problem
    return adapter.name, adapter.address, adapter.version, _adverts(each), state, f"{each.driver} {each.bus}".strip()


def _adverts(each: "AdapterHere") -> str:
    """Return in words what an adapter can advertise; "" if this process may not know."""
    adapter = each.adapter
    if adapter.is_extended is None or adapter.instances is None:
        return ""
    kind = "extended" if adapter.is_extended else "4.x, one payload at a time"
    return f"{kind}; {len(adapter.used or ())} of {adapter.instances} instances in use"


def _sender(radio: "Radio", is_in_use: bool) -> str:
    how = "the gateway advertises" if is_in_use else "a gateway would advertise"
    where = f" on {radio.adapter}" if radio.adapter else ""
    if not radio.interval_ms:
        return f"{how} by {radio.sender}{where}; the interval is known once it does: keycast radios --try"
    return (
        f"{how} by {radio.sender}{where}: every {radio.interval_ms:g} ms, {radio.instances} at a time, "
        f"{1 / radio.frame_s:.0f} payloads a second"
    )

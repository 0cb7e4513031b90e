"""`keycast setup`: write or change the configuration of a gateway by questions, and say what comes next."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.terminal import extras
from keycast.terminal.broker_options import BrokerFilesOption, BrokerOption, BrokerPasswordOption
from keycast.terminal.interrupts import INTERRUPTED
from keycast.terminal.options import DEFAULT_CONFIG, answer, beside, console, refuse, remark, sentences, wants_json

if TYPE_CHECKING:
    from keycast.services.units import Unit
    from keycast.setup.asking import Asking
    from keycast.setup.configuration_file import ConfigurationFile
    from keycast.setup.next_steps import NextStep
    from keycast.setup.questions import Said


def command(
    path: Annotated[
        Path, typer.Argument(metavar="FILE", readable=False, help="The configuration file, new or not.")
    ] = DEFAULT_CONFIG,
    yes: Annotated[
        bool, typer.Option("--yes", help="Ask nothing: what no option says stays as it is in the file, or is usual.")
    ] = False,
    gateway: Annotated[str | None, typer.Option("--id", help="Entity ID of the gateway.")] = None,
    pn: Annotated[str | None, typer.Option(help="PN ID.")] = None,
    interface: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Network interface with boards, or auto; may be repeated."),
    ] = None,
    virtual_boards: Annotated[
        bool, typer.Option("--virtual-boards", help="Reach the boards of `keycast board run` on this computer, too.")
    ] = False,
    ble: Annotated[
        bool | None,
        typer.Option("--ble/--no-ble", help="Bring Group Keys by Bluetooth LE, too; needs the extra `ble`."),
    ] = None,
    server_here: Annotated[
        bool, typer.Option("--server-here", help="The CPNS Server is in the gateway, as it usually is.")
    ] = False,
    server_host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Address of a CPNS Server elsewhere, which is reached over UDP.")
    ] = None,
    broker: BrokerOption = None,
    broker_files: BrokerFilesOption = None,
    broker_password: BrokerPasswordOption = None,
    server: Annotated[str | None, typer.Option(help="Entity ID of a CPNS Server elsewhere.")] = None,
    server_credential: Annotated[
        str | None, typer.Option(metavar="CREDENTIAL", help="Its credential, as `keycast server credential` prints it.")
    ] = None,
    web: Annotated[
        str | None, typer.Option(metavar="WHO", help="Who may open the web page: no, this-machine or home-network.")
    ] = None,
    web_port: Annotated[int | None, typer.Option(min=1, max=65535, help="Its TCP port.")] = None,
    web_certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", readable=False, help="Its TLS certificate (PEM).")
    ] = None,
    web_key: Annotated[
        Path | None, typer.Option(metavar="FILE", readable=False, help="The key of that certificate.")
    ] = None,
    web_password: Annotated[
        Path | None,
        typer.Option("--web-password-file", metavar="FILE", readable=False, help="File with a password for the page."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="WHO", help="Who may read figures at /metrics: no, this-machine or home-network."),
    ] = None,
    mqtt: Annotated[
        str | None,
        typer.Option(metavar="URL", help='MQTT broker of Home Assistant, as mqtt://127.0.0.1; "" for none.'),
    ] = None,
    mqtt_user: Annotated[str | None, typer.Option(help="User of the gateway there.")] = None,
    mqtt_password: Annotated[
        Path | None,
        typer.Option(
            "--mqtt-password-file", metavar="FILE", readable=False, help="File with the password of that user."
        ),
    ] = None,
    mqtt_plain: Annotated[
        bool, typer.Option("--mqtt-plain", help="Send that password to another machine without TLS.")
    ] = False,
    service: Annotated[
        str | None,
        typer.Option(metavar="HOW", help="Start it with this machine: user, system, show (the unit only) or no."),
    ] = None,
) -> None:
    """Write the configuration of a gateway, or change the one that is there, by questions.

    Every answer is an option too; what an option says is not asked. The file is shown before it is written, and keeps
    your comments. Ctrl-C at any question leaves everything as it was.

    Examples: keycast setup, keycast setup --yes --virtual-boards --web this-machine
    """
    if not yes and (wants_json() or not _is_at_terminal()):
        refuse("nobody is there to ask: say what you want by options, and add --yes", "not-confirmed")
    extras.require("gateway")
    from keycast.setup import asking, configuration_file, this_machine
    from keycast.setup.answers import AUTO, HERE, NO_BLE, READERS
    from keycast.setup.broker_trials import BrokerTrials
    from keycast.setup.questions import SERVICES, Interview

    _require_one_of("--web", web, READERS)
    _require_one_of("--metrics", metrics, READERS)
    _require_one_of("--service", service, SERVICES)
    if sum([server_here, server_host is not None, bool(broker)]) > 1:
        raise typer.BadParameter("the CPNS Server is in one place: --server-here, --server-host or --broker")
    with sentences():
        given: dict[str, Any] = {
            "gateway": gateway,
            "pn": pn,
            "interfaces": interface or None,
            "virtual_boards": virtual_boards,
            "ble": None if ble is None else AUTO if ble else NO_BLE,
            "uplink": HERE if server_here else None,
            "host": server_host,
            "brokers": broker or None,
            "broker_files": broker_files,
            "broker_password_file": _absolute(broker_password),
            "server": server,
            "credential": server_credential,
            "page": web,
            "page_port": web_port,
            "page_certificate": web_certificate,
            "page_key_file": web_key,
            "page_password": None if web_password is None else _first_line(web_password),
            "metrics": metrics,
            "mqtt_broker": mqtt,
            "mqtt_user": mqtt_user,
            "mqtt_password_file": _absolute(mqtt_password),
            "mqtt_plain": mqtt_plain,
            "service": service,
        }
        person = asking.NobodyThere() if yes else _at_terminal()
        file = configuration_file.read(path, person.say)
        here = this_machine.look()
        try:
            said = Interview(person, here, BrokerTrials(file.path.parent), given).run(file.answers)
            _finish(person, file, said, yes, here.address)
        except (KeyboardInterrupt, EOFError):
            beside(f"Ended by Ctrl-C: {file.path} is as it was, and so is everything else.")
            raise typer.Exit(INTERRUPTED) from None


def _at_terminal() -> "Asking":
    from keycast.setup.at_terminal import AtTerminal

    return AtTerminal()


def _finish(person: "Asking", file: "ConfigurationFile", said: "Said", yes: bool, address: str) -> None:
    """Show what was said, write it if the person wants that, do what comes with it, and tell the next steps."""
    import asyncio

    from keycast.setup import becoming_a_service, consequences
    from keycast.setup.edits import difference
    from keycast.setup.next_steps import next_steps

    consequences.name_password_files(file, said)
    text = file.with_answers(said.answers)
    unit = consequences.unit_of(said, file.path)
    is_new, is_changed = not file.text, text != file.text
    if is_changed:
        remark(f"\n{file.path} {'will be' if is_new else 'will be changed'}:\n")
        remark(text if is_new else "\n".join(difference(file.text, text, str(file.path))) + "\n")
    else:
        remark(f"{file.path} stays as it is.")
    if problem := asyncio.run(consequences.trial_of(file.path, text, said)):
        person.say(f"It would not run now: {problem}")
    wanted = is_changed or consequences.has_more(said)
    if wanted and not yes and not person.sure("Write this?" if is_changed else "Go on?", True):
        raise KeyboardInterrupt
    own = consequences.carry_out(file, text if is_changed else None, said)
    started = consequences.start(unit, file.path, said)
    runs = consequences.runs(file.path, is_changed=is_changed and not started)
    by = consequences.needed_by_commands(file.path)
    steps = next_steps(
        said,
        file.path,
        runs,
        own_credential=own,
        address=address,
        by=by,
        has_page_password=consequences.has_page_password(file.path),
        has_to_linger=becoming_a_service.has_to_linger(),
        lacks_bluetooth=becoming_a_service.lacks_bluetooth(),
    )
    _answer(file, is_changed, unit, steps, getattr(person, "said", []), started)


def _answer(
    file: "ConfigurationFile",
    is_changed: bool,
    unit: "Unit | None",
    steps: list["NextStep"],
    problems: list[str],
    started: bool,
) -> None:
    value = {
        "file": str(file.path),
        "written": is_changed,
        "unit": None if unit is None else str(unit.path),
        "started": started,
        "problems": problems,
        "steps": [{"what": each.what, "command": each.command} for each in steps],
    }
    lines = [f"{file.path} is written."] if is_changed else []
    if unit is not None and started:
        lines.append(f"The gateway runs, as the service {unit.name}.")
    elif unit is not None and unit.text:
        lines += [f"\n{unit.path} would be:\n", unit.text]
    elif unit is not None:
        lines.append(f"{unit.path} is installed. Start it: systemctl enable --now {unit.name}")
    answer(value, *lines, lambda: _show(steps))


def _show(steps: list["NextStep"]) -> None:
    console.print("\nNext:")
    for each in steps:
        console.print(f"  {each.what}:\n    {each.command}")


def _is_at_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _require_one_of(option: str, value: str | None, known: Mapping[str, Any] | tuple[str, ...]) -> None:
    if value is not None and value not in known:
        raise typer.BadParameter(f"{option} is one of {', '.join(known)}")


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.expanduser().absolute())


def _first_line(path: Path) -> str:
    from private_store import plain_file

    lines = plain_file.read(path, 4096).decode("utf-8", "replace").splitlines()
    if not lines or not lines[0]:
        refuse(f"{shlex.quote(str(path))} has no password in its first line", "file")
    return lines[0]

"""The commands of `keycast server` about MQTT brokers: files for a Mosquitto, and a trial of any broker."""

import datetime
import shlex
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from keycast.terminal import extras
from keycast.terminal.options import answer, console, folder, refuse, sentences
from keycast.terminal.tables import show_table

if TYPE_CHECKING:
    from keycast.broker.folder import Change
    from keycast.broker.register import Register

FilesArgument = Annotated[Path, typer.Argument(parser=folder, metavar="FOLDER", help="New or existing folder.")]


def broker_files(
    path: FilesArgument,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME...]",
            help="A broker, by the host names and IP addresses by which it is reached; may be repeated. Default: "
            "this machine, for the first call.",
        ),
    ] = None,
    gateway: Annotated[list[str] | None, typer.Option(help="Entity ID of a PN GW; may be repeated.")] = None,
    revoke: Annotated[
        list[str] | None,
        typer.Option(metavar="GATEWAY", help="PN GW whose certificate is revoked; may be repeated."),
    ] = None,
    with_authority: Annotated[
        bool, typer.Option("--ca", help="Make a certificate authority, and the certificates of all ends.")
    ] = False,
    server: Annotated[
        str | None, typer.Option("--id", help="Entity ID of the CPNS Server; default: server.local.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Processes of the CPNS Server.")] = 1,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="TCP port of the brokers named by --host; default: 8883.")
    ] = None,
    install_at: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Where a broker's files will lie on its machine; default: where they are."),
    ] = None,
) -> None:
    """Write what a Mosquitto needs to serve keycast: its configuration, who may do what, and certificates.

    Called again it adds brokers, gateways and processes, and keeps the rest. A file that you changed is left alone.
    After --revoke copy acl and revoked.crl to each broker and restart it: that gateway is cut off at once.

    Example: keycast server broker-files broker-files --ca --host mqtt.example.org --gateway gw.home
    """
    from keycast.broker import register as registers
    from keycast.broker.folder import BROKERS, WantedFiles, bring_up
    from keycast.terminal.date_known import require_date

    with sentences():
        found = registers.read(path) if path.is_dir() else None
        is_new = found is None
        is_certified = with_authority or (found is not None and found.has_authority)
        if is_certified and not revoke:  # who is thrown out does not wait for the right date
            require_date()
        hosts = host or ([f"{socket.gethostname()},localhost"] if is_new else [])
        wanted = WantedFiles(
            server_id=server or ("server.local" if is_new else None),
            brokers=[each.split(",") for each in hosts],
            port=port,
            at=install_at,
            processes=processes,
            gateways=gateway or [],
            revoked=revoke or [],
            has_authority=with_authority,
        )
        change = bring_up(path, wanted, datetime.datetime.now(datetime.UTC))
    facts = _facts(path, change.register)
    new = [each for each in change.register.brokers if f"{BROKERS}/{each.folder}" in change.made]
    answer(
        facts | {"made": change.made, "changed": change.changed},
        *_done(change, revoke or []),
        lambda: _show(facts),
        *(f"Start {each.url} with its files in {each.at}; then: {_trial(each.url, path, facts)}" for each in new),
    )


def _done(change: "Change", revoked: list[str]) -> list[str]:
    """Return in lines what a call has made, and what of it a broker that runs must be brought."""
    new = [each for each in change.made if each not in revoked]
    ended = [each for each in change.made if each in revoked]
    lines = [f"New: {', '.join(new)}"] if new else []
    lines += [f"Revoked: {', '.join(ended)}"] if ended else []
    if change.changed:
        lines.append(f"Changed: {', '.join(change.changed)}. Copy each to its broker, and restart that.")
    return lines or ["Nothing new."]


def _trial(url: str, path: Path, facts: dict[str, Any]) -> str:
    how = f" --files {shlex.quote(str(path))}" if facts["has_authority"] else " --client ..."
    return f"keycast server broker-test {url}{how}"


def broker_test(
    url: Annotated[str, typer.Argument(metavar="URL", help="mqtts://HOST[:PORT] or mqtt://HOST[:PORT].")],
    certified_by: Annotated[
        Path | None,
        typer.Option(
            "--files", parser=folder, metavar="FOLDER", help="Folder of broker-files --ca: the trial has certificates."
        ),
    ] = None,
    login: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER:FILE",
            help="In place of certificates: a user and the file of the password. Name three, of the CPNS Server and of "
            "two gateways, whose users are 32 hex digits.",
        ),
    ] = None,
    client: Annotated[
        list[Path] | None,
        typer.Option(
            parser=folder,
            metavar="FOLDER",
            help="In place of --files, with your own authority: a folder of ca.crt, client.crt and client.key. Name "
            "three, of the CPNS Server and of two gateways; they are thrown out for a moment.",
        ),
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(readable=False, help="Certificates (PEM) of the authority of the broker.")
    ] = None,
    server: Annotated[
        str, typer.Option("--id", help="Entity ID of the CPNS Server, without --files.")
    ] = "server.local",
    mqtt: Annotated[
        list[str] | None,
        typer.Option(metavar="5|3.1.1", help="Version of MQTT; may be repeated; default: each that the broker speaks."),
    ] = None,
) -> None:
    """Try whether a broker does what keycast needs, and show what to change where it does not.

    It takes some seconds. The exit code is 0 if every check passes. Nothing of what a running Server and its gateways
    say is touched: the trial has topics of its own.

    Example: keycast server broker-test mqtts://mqtt.example.org --files broker-files
    """
    extras.require("gateway")
    from key_servers.errors import NotPossible
    from keycast.broker import trial_logins
    from keycast.broker.mqtt_end import VERSIONS
    from keycast.broker.trial import trial
    from message_plane.links.mqtt_section import broker_of

    versions = mqtt or list(VERSIONS)
    if unknown := [each for each in versions if each not in VERSIONS]:
        refuse(f"{unknown[0]!a} is no version of MQTT: write 5 or 3.1.1", "not-allowed")
    with sentences():
        try:
            broker = broker_of(url)
        except ValueError as error:
            raise NotPossible(f"{url!a} is not {error}.") from None
        if (certified_by or client) and not broker.tls:
            raise NotPossible("Certificates need TLS.", f"Write {url.replace('mqtt:', 'mqtts:', 1)}")
        if certified_by is not None:
            who = trial_logins.by_certificate(certified_by, datetime.datetime.now(datetime.UTC))
        elif client:
            who = trial_logins.by_folders(server, client)
        else:
            who = trial_logins.by_password(server, ca, broker.tls, login or [])
        found = trial(broker, who, versions)
    passed = all(each.passed for each in found)
    rows = [
        (each.check, f"MQTT {each.mqtt}", "passed" if each.passed else "FAILED", each.text, each.line) for each in found
    ]
    end = "This broker can serve keycast." if passed else "This broker cannot serve keycast as it is."
    answer(
        {"url": url, "passed": passed, "checks": [asdict(each) for each in found]},
        lambda: show_table(console, ("check", "version", "result", "what", "line to add"), rows),
        end,
    )
    if not passed:
        raise typer.Exit(1)


def _facts(path: Path, register: "Register") -> dict[str, Any]:
    from keycast.broker.folder import BROKERS, GATEWAYS, server_folder

    certified = register.has_authority
    return {
        "folder": str(path),
        "server_id": register.server_id,
        "has_authority": certified,
        "brokers": [
            {"url": each.url, "folder": str(path / BROKERS / each.folder), "hosts": each.names}
            for each in register.brokers
        ],
        "clients": [
            {
                "entity_id": register.server_id,
                "tag": register.server_user(number),
                "shard": None,
                "folder": str(path / server_folder(number)) if certified else None,
                "revoked": False,
            }
            for number in range(1, register.processes + 1)
        ]
        + [
            {
                "entity_id": each.gateway_id,
                "tag": each.tag,
                "shard": each.shard,
                "folder": str(path / GATEWAYS / each.folder) if certified else None,
                "revoked": each.revoked_at is not None,
            }
            for each in register.gateways
        ],
    }


def _show(facts: dict[str, Any]) -> None:
    rows = [("broker", each["url"], "", each["folder"]) for each in facts["brokers"]]
    for each in facts["clients"]:
        what = "CPNS Server" if each["shard"] is None else f"PN GW, shard {each['shard']}"
        where = "revoked" if each["revoked"] else each["folder"] or "a certificate of your own authority"
        rows.append((each["entity_id"], each["tag"], what, where))
    show_table(console, ("name", "URL, or name (CN) in its certificate", "what", "its folder"), rows)

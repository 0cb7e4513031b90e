"""What comes with the answers beside the file: passwords, the trust in a CPNS Server, a service, a trial of it all."""

import os
import shlex
from dataclasses import replace
from pathlib import Path

from cpns.errors import CpnsError
from gateway_agent.config.load import load, of_text
from gateway_agent.control_client import SOCKET_FILE, who_answers
from gateway_agent.errors import GatewayError
from gateway_agent.state_files import own_keys
from gateway_agent.web.password import mark, set_password
from key_servers.errors import ServerError
from keycast.provisioning.end_to_end import server_credential
from keycast.services import trusted_server, units
from keycast.services.gateway_trial import trial
from keycast.services.units import Unit
from keycast.setup import becoming_a_service
from keycast.setup.account import Account, account_of, acting_as
from keycast.setup.answers import HERE, NO_BLE, VIRTUAL_AIR
from keycast.setup.becoming_a_service import NoService
from keycast.setup.configuration_file import ConfigurationFile
from keycast.setup.next_steps import GatewayNow
from keycast.setup.questions import NO_SERVICE, OF_SYSTEM, OF_USER, Said
from message_plane.errors import PlaneError
from private_store import files, folders
from private_store.errors import PrivateStoreError


def name_password_files(file: ConfigurationFile, said: Said) -> None:
    """Name the files, beside the configuration, in which passwords will be that were typed."""
    if said.mqtt_password:
        name = said.answers.mqtt_password_file or f"{file.path.stem}.mqtt"
        said.answers = replace(said.answers, mqtt_password_file=name)
    if said.broker_password:
        name = said.answers.broker_password_file or f"{file.path.stem}.uplink"
        said.answers = replace(said.answers, broker_password_file=name)


def unit_of(said: Said, path: Path) -> Unit | None:
    """Return the unit that was asked for, None for none."""
    if said.service == NO_SERVICE:
        return None
    scope = OF_SYSTEM if said.service == OF_SYSTEM else OF_USER
    path = path.absolute()
    state = path.parent / Path(said.answers.state).expanduser()
    return units.unit_of(scope, path, state, bluetooth=said.answers.ble not in (NO_BLE, VIRTUAL_AIR))


async def trial_of(path: Path, text: str, said: Said) -> str:
    """Take the steps of a start with a configuration that is not written yet; return what hinders it, "" for nothing.

    Passwords that are in no file yet were tried with their brokers, and nothing else is then.
    """
    if said.broker_password:
        return ""
    config = of_text(text.encode(), path)
    try:
        with acting_as(account_of(path, config.gateway.state_dir)):
            await trial(config)
    except (CpnsError, GatewayError, ServerError, PlaneError, PrivateStoreError) as problem:
        return str(problem)
    return ""


def has_more(said: Said) -> bool:
    """Return True if more was said than what stands in the file."""
    return bool(said.page_password or said.mqtt_password or said.broker_password or said.credential) or (
        said.service in (OF_USER, OF_SYSTEM)
    )


def carry_out(file: ConfigurationFile, text: str | None, said: Said) -> str:
    """Write passwords, the file if `text` is not None, and what lies in the state folder.

    Returns the gateway's credential in hexadecimal if a CPNS Server elsewhere must be told it, else "".
    """
    config = of_text((text or file.text).encode(), file.path)
    if text is not None and not file.text:
        file.write(text)  # whose it is says whose the rest is
    account = account_of(file.path, config.gateway.state_dir)
    _write_passwords(file.path.parent, said, account)
    if text is not None and file.text:
        file.write(text)
    with acting_as(account):
        if said.page_password:
            set_password(config.gateway.state_dir, said.page_password)
        if said.answers.uplink == HERE:
            return ""
        if said.credential:
            trusted_server.trust_server(config, server_credential(said.credential))
        identity, _ = own_keys(config)
    return identity.credential.ccs.hex()


def _write_passwords(folder: Path, said: Said, account: Account | None) -> None:
    answers = said.answers
    for name, password in (
        (answers.mqtt_password_file, said.mqtt_password),
        (answers.broker_password_file, said.broker_password),
    ):
        if password:
            with files.exchanging(folder / name) as write:
                write(password.encode() + b"\n")
            if account is not None:
                os.chown(folder / name, account.uid, account.gid)


def runs(path: Path, *, is_changed: bool) -> GatewayNow:
    """Return whether a gateway with the file `path` runs. `is_changed`: the file was changed since it started."""
    if who_answers(load(path).gateway.state_dir / SOCKET_FILE) is None:
        return GatewayNow.NOT
    return GatewayNow.AS_BEFORE if is_changed else GatewayNow.AS_WRITTEN


def has_page_password(path: Path) -> bool:
    """Return whether the page of the gateway with the file `path` has a password."""
    return bool(mark(load(path).gateway.state_dir))


def needed_by_commands(path: Path) -> str:
    """Return the program by which a person gives commands to the gateway of another account, "" if none is needed."""
    return "sudo" if account_of(path, load(path).gateway.state_dir) is not None and "SUDO_UID" in os.environ else ""


def start(unit: Unit | None, path: Path, said: Said) -> bool:
    """Make the gateway a service if that was said; return whether it is one now. Raises NoService."""
    if unit is None or said.service not in (OF_USER, OF_SYSTEM):
        return False
    state = load(path).gateway.state_dir
    with acting_as(account_of(path, state)):
        folders.make(state)  # a unit that opens it to the service does not start without it
    try:
        becoming_a_service.become(unit)
    except NoService as problem:
        until = f"Until then: keycast gateway run -c {shlex.quote(str(path))}"
        raise NoService(f"{path} is written, and no service runs with it yet. {problem}", until) from None
    return True

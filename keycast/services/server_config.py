"""The configuration of a key server, made from options; what is wrong in them is told in one sentence."""

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

_Config = TypeVar("_Config", bound=BaseModel)


def server_config(kind: type[_Config], database_variable: str, **fields: Any) -> _Config:
    """Return a configuration of the class `kind`. Raise ServerError for values that cannot be used.

    The URL of the database comes from the environment variable `database_variable`, as every user of the machine can
    see the options of a process.
    """
    database = os.environ.get(database_variable)
    return checked(kind, **fields, database=SecretStr(database) if database else None)


def require_store(config: Any, file: str, what: str) -> None:
    """Raise ServerError unless the state folder of `config` has, or had, the store `file` of a `what` such as "GMS".

    So a mistyped folder is refused, and not made.
    """
    from key_servers.errors import ServerError
    from private_store import contents

    # With the list of made files there, opening the store tells more of a file that was lost.
    places = (config.state_dir / file, config.state_dir / contents.NAME)
    if config.database_url is None and not any(place.exists() for place in places):
        raise ServerError(f"There is no state of a {what} in {config.state_dir}.", "Name its folder with --state.")


def require_whole(state: Path) -> None:
    """Raise StoreUnusable if a restore of `state` was interrupted: no file may be opened before it is finished."""
    from key_servers.errors import FAULTS
    from private_store import restoring

    if restoring.unfinished(state):
        raise FAULTS.unusable(f"A restore of {state} was cut short.", "Start the server, or restore again.")


def checked(kind: type[_Config], **fields: Any) -> _Config:
    """Return a configuration of the class `kind` with the `fields`. Raise ServerError with what is wrong in them."""
    from key_servers.errors import ServerError

    try:
        return kind(**fields)
    except ValidationError as error:
        faults = "; ".join(_fault(fault) for fault in error.errors(include_url=False))
        raise ServerError(f"Not possible: {faults}.") from None


def _fault(fault: ErrorDetails) -> str:
    where = ".".join(str(part) for part in fault["loc"])
    message = fault["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message

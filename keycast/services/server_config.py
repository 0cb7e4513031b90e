"""The configuration of a key server from options, with what is wrong as one sentence."""

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

_Config = TypeVar("_Config", bound=BaseModel)


def server_config(kind: type[_Config], database_variable: str, **fields: Any) -> _Config:
    """Make a `kind`; the URL of the database comes from the environment, for options are seen by everyone.

    Raises ServerError.
    """
    database = os.environ.get(database_variable)
    return checked(kind, **fields, database=SecretStr(database) if database else None)


def require_store(config: Any, file: str, what: str) -> None:
    """Raise ServerError where no `what` ever kept its store: what was typed is looked up in no folder made for it."""
    from key_servers.errors import ServerError
    from private_store import contents

    places = (config.state_dir / file, config.state_dir / contents.NAME)  # the list says more of a file that was lost
    if config.database_url is None and not any(place.exists() for place in places):
        raise ServerError(f"There is no state of a {what} in {config.state_dir}.", "Name its folder with --state.")


def require_whole(state: Path) -> None:
    """Raise StoreUnusable where a restore was cut short: nothing may be opened before it is in place."""
    from key_servers.errors import FAULTS
    from private_store import restoring

    if restoring.unfinished(state):
        raise FAULTS.unusable(f"A restore of {state} was cut short.", "Start the server, or restore again.")


def checked(kind: type[_Config], **fields: Any) -> _Config:
    """Make a `kind` of what a person gave. Raises ServerError with what is wrong."""
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

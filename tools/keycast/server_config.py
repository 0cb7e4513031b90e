"""The configuration of a key server from options, with what is wrong as one sentence."""

import os
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

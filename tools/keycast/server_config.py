"""The configuration of a key server from options, with what is wrong as one sentence."""

import os
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr, ValidationError

_Config = TypeVar("_Config", bound=BaseModel)


def server_config(kind: type[_Config], database_variable: str, **fields: Any) -> _Config:
    """Make a `kind`; the URL of the database comes from the environment, for options are seen by everyone.

    Raises ServerError.
    """
    from key_servers.errors import ServerError

    database = os.environ.get(database_variable)
    try:
        return kind(**fields, database=SecretStr(database) if database else None)
    except ValidationError as error:
        faults = "; ".join(fault["msg"].removeprefix("Value error, ") for fault in error.errors(include_url=False))
        raise ServerError(f"Not possible: {faults}.") from None

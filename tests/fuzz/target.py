"""The description of a fuzz target."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """`parse` takes octets; `errors` are what it may raise; `seeds` are good or nearly good inputs."""

    name: str
    parse: Callable[[bytes], Any]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]


def run(target: Target, data: bytes) -> None:
    """Give `data` to the target; whatever is not one of its errors comes out."""
    try:
        target.parse(data)
    except target.errors:
        return

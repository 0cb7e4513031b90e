"""The base of all tables of a hardware file, and the keys that every such file has."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Radio = Literal["wifi", "ble"]


def contradiction(what: str, *place: str | int) -> PydanticCustomError:
    """Return the error for values that contradict each other. `place` is the path of the key to correct."""
    return PydanticCustomError("contradiction", "{what}", {"what": what, "place": place})


class Table(BaseModel):
    """One table of a hardware file. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Described(Table):
    """A whole file. `sources` are the web pages from which it was written.

    `unverified` lists the values that none of these pages confirms: the path of the key, such as
    "sockets.0.usb_ids.always", and a sentence that says what is in doubt.
    """

    name: Annotated[str, Field(min_length=1)]
    sources: tuple[Annotated[str, Field(pattern=r"^https://")], ...] = ()
    unverified: dict[str, Annotated[str, Field(min_length=1)]] = {}
    notes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _doubts_are_about_something(self) -> "Described":
        for place in self.unverified:
            found: object = self
            for part in place.split("."):
                if isinstance(found, tuple):
                    found = found[int(part)] if part.isdecimal() and int(part) < len(found) else None
                else:
                    found = getattr(found, part, None) if part in getattr(type(found), "model_fields", ()) else None
            if found is None:
                raise contradiction(f"nothing stands at {place!r}", "unverified")
        return self

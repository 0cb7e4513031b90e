"""What every table of a hardware file is made of, and what every such file says besides its subject."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Radio = Literal["wifi", "ble"]


def contradiction(what: str, *place: str | int) -> PydanticCustomError:
    """Return the error for a fault between tables, with the place in the file where it is to be mended."""
    return PydanticCustomError("contradiction", "{what}", {"what": what, "place": place})


class Table(BaseModel):
    """One table of a hardware file: nothing that is not named here may stand in it, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Described(Table):
    """A whole file. `sources` are the pages that it was written from.

    `unverified` names what none of them says, by the place in the file (`sockets.0.usb_ids.always`), with a sentence
    that says what is in doubt.
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

"""The schema of the files in `hw_configs/gateways/`."""

from typing import Annotated, Literal

from pydantic import Field

from keycast.hardware.table import Described, Radio


class Gateway(Described):
    """A machine for the PN GW. `ram_mib` is the smallest memory of this model that is enough.

    With `shared_antenna`, its own Wi-Fi and Bluetooth disturb each other.
    """

    kind: Literal["gateway"]
    architecture: Literal["amd64", "arm64"]
    systems: Annotated[tuple[str, ...], Field(min_length=1)]
    ram_mib: Annotated[int, Field(ge=256)]
    radios: tuple[Radio, ...]
    shared_antenna: bool

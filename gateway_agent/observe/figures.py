"""The figures of a gateway at one moment. They cost a few queries, however many boards there are, unlike a snapshot."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GroupFigures:
    """A Service Group. `states`: number of members by the state of the newest delivery, "none" for no part in it."""

    sg_id: str
    version: int
    states: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Figures:
    """`release`: of keycast; `broadcasts`: datagrams sent since the start, by interface; `alarms`: by kind."""

    release: str
    groups: tuple[GroupFigures, ...]
    broadcasts: Mapping[str, int]
    uplink_is_up: bool
    alarms: Mapping[str, int]
    commits: int
    counters: Mapping[str, int]

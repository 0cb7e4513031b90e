"""A broadcast medium that is in no table of the product; all that it needs is here."""

from collections import Counter

from pydantic import Field

from gateway_agent.config.section import Section
from tests.unit.scripted_medium import ScriptedMedium


class DrumSection(Section):
    """A drum in the yard."""

    beat_s: float = Field(3.0, gt=0, description="time of one datagram")


SECTION = DrumSection


def open_medium(section: DrumSection, counters: Counter[str]) -> ScriptedMedium:
    return ScriptedMedium(name="drum", airtime=section.beat_s)

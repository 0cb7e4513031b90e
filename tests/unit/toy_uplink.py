"""A kind of uplink that is in no table of the product; this file holds all that it needs."""

from collections import Counter
from typing import Literal

from pydantic import Field

from cpns import messages, numbers
from gateway_agent.uplinks.broker_trial import BrokerTrial
from gateway_agent.uplinks.uplink import UplinkSection
from message_plane.endpoint import Endpoint
from tests.integration.toy_link import Pigeons


class ToyUplinkSection(UplinkSection):
    """Two tins and a string."""

    kind: Literal["toy"] = "toy"
    strings: int = Field(1, ge=1, description="strings between the tins")


SECTION = ToyUplinkSection


class ToyUplink:
    """A Server that refuses everything; `life` tells what happened to the uplink."""

    brokers = ()

    def __init__(self, section: ToyUplinkSection) -> None:
        self.section = section
        self.life: list[str] = []

    async def request(self, message: bytes) -> bytes:
        self.life.append("asked")
        code, _ = messages.decode(message)
        return bytes(messages.encode(code + 1, {messages.RESULT: numbers.RESULT_FAIL}))

    def start(self) -> None:
        self.life.append("started")

    async def close(self) -> None:
        self.life.append("closed")


made: list[ToyUplink] = []


def link_of(section: ToyUplinkSection, gateway_id: str, counters: Counter[str]) -> Pigeons:
    return Pigeons(gateway_id)  # type: ignore[no-untyped-call]


async def try_brokers(section: ToyUplinkSection, gateway_id: str) -> list[BrokerTrial]:
    return []


def open_uplink(section: ToyUplinkSection, endpoint: Endpoint, link: Pigeons) -> ToyUplink:
    assert link.places  # it is open by now
    made.append(ToyUplink(section))
    return made[-1]

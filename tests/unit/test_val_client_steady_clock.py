"""The wall clock alone erases nothing of a VAL client (SEC-36)."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from gateway_agent.val_client.app import ValClientApp
from gateway_agent.val_client.section import GroupAccess, SealSection
from gateway_agent.val_client.server_access import GmsAccess, KmsAccess, ServerAccess
from gateway_agent.val_client.steady_clock import EVEN_FOR_S, STEP_S, SteadyClock

NOW = 1_800_000_000


class Clocks:
    def __init__(self) -> None:
        self.unix, self.running = NOW, 100.0
        self.over = SteadyClock(lambda: self.unix, lambda: self.running)

    def pass_time(self, seconds: int) -> int:
        """Let time go on, asked once a minute as a client does; what is over at the end."""
        over = 0
        for _ in range(seconds // 60):
            self.unix += 60
            self.running += 60
            over = self.over()
        return over


@pytest.mark.req("SEC-36")
@pytest.mark.parametrize("step", [31 * 86400, -31 * 86400, 60 * 365 * 86400])
def test_a_clock_that_is_set_erases_nothing_for_hours_of_running(step: int) -> None:
    clocks = Clocks()
    assert clocks.over() == 0 and clocks.pass_time(EVEN_FOR_S - 60) == 0
    assert clocks.pass_time(60) == NOW + EVEN_FOR_S
    clocks.unix += step
    assert clocks.over() == 0 and clocks.pass_time(3600) == 0
    clocks.unix -= step
    assert clocks.over() == 0 and clocks.pass_time(EVEN_FOR_S - 60) == 0
    assert clocks.pass_time(60) > NOW


@pytest.mark.req("SEC-36")
def test_drift_and_ntp_steps_of_seconds_are_no_reason_to_keep_what_is_over() -> None:
    clocks = Clocks()
    for _ in range(EVEN_FOR_S // 600):
        clocks.pass_time(600)
        clocks.unix += STEP_S * 600 // EVEN_FOR_S - 1
    assert clocks.over() > NOW + EVEN_FOR_S


async def nobody(*message: Any) -> Any:
    raise AssertionError("nothing is delivered before the start")


@pytest.mark.req("SEC-36")
async def test_a_gateway_erases_keys_by_that_clock(tmp_path: Path) -> None:
    access = KmsAccess(
        url="https://kms.example", kms_uri="kms", user_uri="sip:gw@example.org", token=SecretStr("a" * 32)
    )
    cms = ServerAccess(url="https://cms.example", token=SecretStr("a" * 32))
    gms = GmsAccess(url="https://gms.example", token=SecretStr("a" * 32), gms_uri="gms")
    groups = [GroupAccess(group="sip:crew@example.org", sg_id="crew")]
    config = SealSection(kms=access, cms=cms, gms=[gms], groups=groups)
    val_client = await ValClientApp.open(config, tmp_path / "val_client", "pn.home", nobody, nobody, Counter())
    try:
        assert isinstance(val_client.client._over, SteadyClock) and val_client._kms._over is val_client.client._over
    finally:
        await val_client.close()

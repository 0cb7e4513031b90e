"""A board whose heap has no room for a module that it needs seldom goes on with everything else."""

import builtins

import pytest
from update_world import in_a_group, updatable

from device_agent import tuning


@pytest.mark.req("SEC-30")
def test_a_heap_without_room_for_a_report_costs_one_try_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    world, offers = updatable()
    in_a_group(world)
    load, tried = builtins.__import__, []

    def load_unless_full(name, *rest):
        if name == "device_agent.update" and "reports" in (rest[2] or ()):
            tried.append(world.clock.now())
            assert len(tried) < 100, "it does nothing else any more"
            raise MemoryError
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", load_unless_full)
    world.agent.updating.hint()
    world.run_for(5 * tuning.UPDATE_RETRY_MIN)
    assert 2 <= len(tried) <= 7
    monkeypatch.setattr(builtins, "__import__", load)
    world.run_for(2 * tuning.UPDATE_RETRY_MIN)
    assert offers.reports

"""A board's flash in any order of saves, erasures and power cuts: no record is lost, nothing that was erased stays."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.key_store import KeyStore
from tests.unit.board_flash import Firmware, PowerCut, remains

NAMES = "sess", "gkdk0", "g"
LENGTHS = 16, 70, 600  # of three such records: they fit, and pages are moved often
STEPS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from([0, *LENGTHS]),  # 0 to erase the record
        st.none() | st.tuples(st.integers(1, 60), st.sampled_from(["absent", "torn", "whole"])),
    ),
    min_size=8,
    max_size=40,
)


@pytest.mark.req("SEC-04", "SEC-22", "CPNS-GKM-77")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_each_record_is_the_old_or_the_new_one_and_nothing_else_is_in_the_flash(monkeypatch, steps):
    firmware = Firmware(monkeypatch)
    held, values = dict.fromkeys(NAMES), set()
    for number, (name, length, cut) in enumerate(steps):
        value = None
        if length:
            value = number.to_bytes(2, "big") + bytes(number * 7 + i * i & 0xFF for i in range(length - 2))
            values.add(value)
        try:
            store = KeyStore(firmware.store(*cut) if cut else firmware.store())
            store.save(name, value) if value else store.erase(name)
            possible = (value,)
        except PowerCut:
            possible = held[name], value
        store = firmware.store()
        assert store.cleared
        for each in NAMES:
            found = KeyStore(store).load(each)
            assert found in possible if each == name else found == held[each]
            held[each] = found
        assert not remains(firmware.octets, values, firmware.held())

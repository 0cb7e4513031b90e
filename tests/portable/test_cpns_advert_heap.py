"""What adverts take of a board's heap: octets are counted in the VM; on CPython the same steps run without a count."""

import gc
import os

from advert_world import KEY, adverts, hear, of_version, signed_object
from vmtest import ON_VM, req

from cpns import advert, tuning


def allocated():
    """Return the octets of the heap that are in use, on the VM; 0 on CPython."""
    gc.collect()
    return gc.mem_alloc() if ON_VM else 0


def test_ten_thousand_adverts_leave_nothing_in_the_heap():
    """Of objects that are made and of some that are not, of strangers, and of rows heard before."""
    receiver = advert.Reassembly()
    signed = of_version(7)
    whole = adverts(signed, range(3, 9))
    begun = [adverts(of_version(version), [0])[0] for version in range(8, 13)]
    strangers = [os.urandom(24) for _ in range(5)]

    def a_thousand(now):
        for _ in range(50):
            assert hear(receiver, whole[:3] + begun + whole[:4] + strangers + whole[3:], now) == signed
            now += tuning.ADVERT_DONE_S * 1000 + 1
        return now

    now = a_thousand(0)
    before = allocated()
    for _ in range(9):
        now = a_thousand(now)
    assert allocated() - before < 64
    assert receiver.dropped


def test_rows_of_62_adverts_take_few_octets():
    signed = signed_object(bytes(60 * 18), (1, 1, 0x10002, 0))
    rows = [advert.opened(KEY, octets)[1] for octets in adverts(signed, range(61))]
    receiver = advert.Reassembly()
    before = allocated()
    for row in rows:
        assert receiver.take(row, 0) is None
    assert allocated() - before < 2048
    assert receiver.take(rows[0], 0) is None


@req("SEC-10")
def test_objects_of_most_rows_that_never_end_take_seven_kilobytes():
    receiver = advert.Reassembly()
    before = allocated()
    for index in range(tuning.ADVERT_ROWS_MAX - 1):
        for number in range(tuning.ADVERT_OBJECTS_MAX):
            assert receiver.take(bytes((79, 0, number, index)) + bytes(19), 0) is None
    assert allocated() - before < 7168
    assert sum([len(each.rows) for each in receiver._open]) == 4 * 80 * 19

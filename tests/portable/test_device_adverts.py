"""Adverts as a medium of a board: keys and beacons out of what a radio heard, whoever sent it."""

import asyncio
import os

from device_world import PN_ALIAS, key_of, member
from scripted_radio import ScriptedRadio
from vmtest import req

from cpns import advert, advert_build, beacon, report
from cpns import numbers as n
from cpns import tuning as limits
from cpns.broadcast_encryption import keys
from device_agent import tuning
from device_agent.adverts import AdvertMedium

STRANGER = bytes(31) + b"\x09"  # a P-256 key that is not the PN GW's
VM_HEAP_KIB = 192  # the PNE and its PN GW in one heap


class Board:
    """A PNE that holds version 6 of "kitchen" and a GKDK, with adverts as its medium."""

    def __init__(self):
        self.world, self.group = member()
        self.membership = self.world.agent.membership
        self.world.perform(self.membership.assign())
        self.radio = ScriptedRadio()
        self.medium = AdvertMedium(self.radio, self.world.clock)

    def hear(self, adverts):
        """Hear these adverts; act on all datagrams that they make, as the agent does. Return them."""

        async def main():
            for octets in adverts:
                self.radio.air(octets)
            hearing = None
            heard = []
            idle = 0
            while idle < 400:
                hearing = hearing or asyncio.create_task(self.medium.hear(self.membership))
                await asyncio.sleep(0)
                idle = 0 if self.radio._adverts else idle + 1
                if hearing.done():
                    heard.append(await hearing)
                    hearing = None
                    self.world.hear(heard[-1])
            hearing.cancel()
            return heard

        return asyncio.run(main())

    def rows(self, version, indexes, key=None, generation=1, **how):
        """The adverts of the rows with these indexes, of the object that brings this version."""
        signed = self.world.gateway.object("kitchen", version, **how)
        rows = advert_build.rows_of(advert_build.to_air(signed, PN_ALIAS))
        key = key or frame_key(self.world, generation)
        return [advert_build.row_advert(key, advert.identification(signed), rows, index) for index in indexes]


def frame_key(world, generation=1):
    return keys.TreeKeys(world.gateway.tree(generation), 3).frame_key()


@req("SEC-10")
def test_a_key_comes_out_of_any_rows_that_are_enough():
    board = Board()
    heard = board.hear(board.rows(7, [0, 2, 9, 200, 5, 14, 77, 31]))
    assert [len(signed) > 100 for signed in heard] == [True]
    assert board.group.version == 7 and board.group.ring.receiving_keys(0)[7] == key_of(7)
    assert board.hear(board.rows(7, range(20))) == []  # it is known for a minute


@req("SEC-13")
def test_a_beacon_comes_out_as_it_went_in():
    board = Board()
    board.world.run_for(60000)
    datagram = beacon.build(key_of(7), "kitchen", PN_ALIAS, board.group.alias, 1, 7)
    assert board.hear([advert_build.beacon_advert(frame_key(board.world), datagram)]) == [datagram]
    assert board.group.pull_at < board.world.clock.ms + 10000  # it asks


@req("SEC-10")
def test_adverts_of_others_are_counted_and_do_nothing():
    board = Board()
    strangers = [os.urandom(24) for _ in range(200)]
    strangers += board.rows(7, range(12), key=b"k" * 16)
    changed = [octets[:-1] + bytes((octets[-1] ^ 1,)) for octets in board.rows(7, range(12))]
    assert board.hear(strangers + changed) == []
    # one of 820 looks like the first row of another object
    assert 206 < board.medium.foreign <= len(strangers) + len(changed) and board.group.version == 6


@req("SEC-14")
def test_the_report_of_another_board_is_passed_over():
    board = Board()
    octets = report.build(board.group.alias, 1, 6, 2, n.RESULT_SUCCESS, bytes(8))
    assert board.hear([advert.report_advert(frame_key(board.world), octets)]) == [] and not board.medium.foreign


@req("SEC-10", "SEC-07")
def test_each_generation_that_is_held_is_heard_and_none_that_is_over():
    board = Board()
    board.hear(board.rows(7, [0]))
    gateway, gkdks = board.world.gateway, board.membership.gkdks
    gateway.generation = 2
    gkdks.put(gateway.gkdk(), board.world.clock.ms)
    assert sorted(gkdks.frame_keys) == [1, 2]
    assert len(board.hear(board.rows(7, range(8), generation=2))) == 1 and board.group.version == 7
    assert sorted(board.medium._objects) == [1, 2]
    gateway.generation = 1
    late = board.rows(8, range(8))
    board.world.clock.ms += tuning.OLD_GENERATION_MAX
    gkdks.expire(board.world.clock.ms)
    assert list(gkdks.frame_keys) == [2]
    assert board.hear(late) == [] and board.medium.foreign >= len(late) - 1
    assert list(board.medium._objects) == [2]


@req("SEC-10")
def test_no_frame_key_is_kept_when_the_board_belongs_to_another_gateway():
    board = Board()
    board.hear(board.rows(7, [0, 1]))
    board.membership.new_gateway()
    assert board.membership.gkdks.frame_keys == {}
    assert board.hear(board.rows(7, range(12))) == [] and board.medium._objects == {}


@req("SEC-10", "SEC-09")
def test_rows_that_a_member_forged_cost_no_key_and_the_board_asks_for_it():
    board = Board()
    board.world.run_for(60000)
    board.world.gateway.groups["kitchen"][1:] = [7, True]  # a pull brings it
    good = board.rows(7, range(40))
    forged = []
    for octets in board.rows(7, range(40, 80)):
        _, body = advert.opened(frame_key(board.world), octets)
        row = advert_build.keywrap.encipher(frame_key(board.world), b"\0" + body[:4] + os.urandom(19))
        forged.append(row)
    mixed = []
    for one, two in zip(forged, good):
        mixed += [one, two]
    heard = board.hear(mixed[:30])
    assert None in heard or board.group.version == 7
    began = board.world.clock.ms
    board.world.run_until(began + 10000)
    assert board.group.version == 7


@req("SEC-10", "SEC-09")
def test_an_object_that_a_member_makes_to_hide_the_genuine_one_costs_no_key():
    """Both have as many rows and the same identification. The first one to be whole hides the other for a minute."""
    board = Board()
    board.world.run_for(60000)
    began = board.world.clock.ms
    board.world.gateway.groups["kitchen"][1:] = [7, True]  # a pull brings it
    genuine = board.rows(7, range(20))
    name = advert.opened(frame_key(board.world), genuine[0])[1][1:3]
    signed = bytearray(board.world.gateway.object("kitchen", 7, key=key_of(66), private=STRANGER))
    tried = 0
    while advert.identification(signed) != name:
        tried += 1
        signed[-4:] = tried.to_bytes(4, "big")
    rows = advert_build.rows_of(advert_build.to_air(bytes(signed), PN_ALIAS))
    forged = [advert_build.row_advert(frame_key(board.world), name, rows, index) for index in range(len(rows))]
    assert len(board.hear(forged)) == 1 and board.world.agent.receiver.verifications == 1
    assert board.hear(genuine) == []
    board.world.run_until(began + 10000)
    assert board.group.ring.receiving_keys(0)[7] == key_of(7)


@req("SEC-11")
def test_one_key_once_whichever_medium_brought_it_first():
    for wifi_first in (True, False):
        board = Board()
        signed = board.world.gateway.object("kitchen", 7)
        if wifi_first:
            board.world.hear(signed)
        board.hear(board.rows(7, range(12)))
        if not wifi_first:
            board.world.hear(signed)
        assert len([values for values in board.world.told("key") if values["version"] == 7]) == 1
        assert board.world.told("conflict") == [] and board.group.version == 7


def test_an_object_that_finds_no_room_is_asked_for():
    board = Board()

    def full(*_):
        raise MemoryError

    board.medium._opened = full
    assert board.hear(board.rows(7, [0])) == [None]


def test_adverts_of_others_leave_nothing_behind():
    board = Board()
    for _ in range(20):
        board.hear([os.urandom(24) for _ in range(20)] + board.rows(7, [0]))
    assert list(board.medium._objects) == [1] and len(board.medium._objects[1]._open) <= limits.ADVERT_OBJECTS_MAX


def test_group_messages_do_not_go_by_advert():
    board = Board()
    board.medium.air(b"G" + bytes(100))
    assert board.medium.not_aired == 1 and board.radio.reported == []


@req("SEC-14")
def test_a_report_goes_out_under_the_frame_key():
    board = Board()
    octets = report.build(board.group.alias, 1, 6, 2, n.RESULT_SUCCESS, bytes(8))
    board.medium.report([(frame_key(board.world), octets)])
    (shown,) = board.radio.reported
    assert advert.opened(frame_key(board.world), shown) == (advert.REPORT, octets)

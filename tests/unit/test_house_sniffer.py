"""Two houses on one machine: the sniffer of one counts only the frames of its own PN."""

import pytest

from cpns.broadcast_object_build import build_delete
from keycast.free_ports import free_port
from keycast.virtual_board.thief import Sniffer, pn_alias_of

OURS, THEIRS = 0x01020304, 0x01020305


def frames(alias: int) -> list[bytes]:
    """One frame of each kind: a group message, a beacon, a signed object."""
    octets = alias.to_bytes(4, "big")
    signed = build_delete(pn_id="home", sg_id="lights", pn_alias=alias, sg_alias=1, version=3).finish(bytes(64))
    return [b"G\x01" + octets + bytes(20), b"B" + octets + bytes(14), signed]


@pytest.mark.parametrize("kind", range(3), ids=["group message", "beacon", "signed"])
def test_every_frame_tells_its_pn(kind: int) -> None:
    assert pn_alias_of(frames(OURS)[kind]) == OURS


@pytest.mark.parametrize("junk", [b"", b"G", b"B\x01\x02\x03", b"\xd2\x84", b"something else"])
def test_what_is_no_frame_belongs_to_no_pn(junk: bytes) -> None:
    assert pn_alias_of(junk) is None


def test_a_sniffer_of_one_pn_keeps_its_frames_and_no_others() -> None:
    port = free_port()
    everything = frames(OURS) + frames(THEIRS) + [b"junk"]
    for pn_alias, kept in ((None, everything), (OURS, frames(OURS))):
        sniffer = Sniffer(port=port, pn_alias=pn_alias)
        for frame in everything:
            sniffer.send(frame)
        assert sniffer.frames() == kept
        sniffer.close()

"""Frames of broadcast updates, and the hashes by which each is known before it is stored."""

from vmtest import raises, req

from cpns.errors import MalformedMessage, NotAuthentic, Unknown
from suit import frames
from suit import numbers as n

ID = b"12345678"
KEY = b"k" * 16


def test_a_frame_comes_back():
    for kind, body in ((n.ENVELOPE, b"e" * 700), (n.PAGE, b"h" * 32), (n.FRAME, b"f" * n.BLOCK)):
        frame = frames.parse(frames.build(kind, ID, 770, body))
        assert (frame.kind, frame.update_id, frame.index, bytes(frame.body)) == (kind, ID, 770, body)


@req("SEC-10")
def test_the_longest_frames_come_back():
    for kind, octets in ((n.ENVELOPE, n.ENVELOPE_MAX + 10), (n.PAGE, n.PAGE_FRAMES * n.HASH), (n.ENVELOPE, 1)):
        assert len(frames.parse(frames.build(kind, ID, 0xFFFF, b"x" * octets)).body) == octets


@req("SEC-10")
def test_what_is_no_frame():
    good = frames.build(n.FRAME, ID, 0, b"f" * n.BLOCK)
    wrong = [b"", good[:12], good[:-1], good + b"x", b"\x54" + good[1:], good[:1] + b"\x04" + good[2:]]
    wrong += [frames.build(n.PAGE, ID, 0, b"h" * 17), frames.build(n.PAGE, ID, 0, b"h" * (n.BLOCK + 16))]
    wrong += [frames.build(n.ENVELOPE, ID, 0, b"e" * octets) for octets in (0, n.ENVELOPE_MAX + 11)]
    wrong += [frames.build(n.SEALED, ID, 0, b"s" * octets) for octets in (n.BLOCK, n.BLOCK + 7)]
    for octets in wrong:
        with raises(MalformedMessage):
            frames.parse(octets)


def test_only_boards_of_the_home_make_a_manifest_that_is_looked_at():
    body = frames.manifest_body(KEY, 7, ID, b"envelope")
    assert frames.envelope_of(memoryview(body), ID, {7: KEY}) == b"envelope"
    with raises(Unknown):
        frames.envelope_of(body, ID, {8: KEY})
    with raises(NotAuthentic):
        frames.envelope_of(body, ID, {7: b"x" * 16})
    with raises(NotAuthentic):
        frames.envelope_of(body, b"87654321", {7: KEY})
    with raises(NotAuthentic):
        frames.envelope_of(body[:-1] + b"E", ID, {7: KEY})


@req("SEC-10")
def test_a_frame_is_known_by_its_hash():
    page = frames.hashed(b"a") + frames.hashed(b"b")
    assert frames.listed(page, 1, b"b") and not frames.listed(page, 0, b"b") and not frames.listed(page, 2, b"b")
    assert frames.page_of(129) == (2, 1)

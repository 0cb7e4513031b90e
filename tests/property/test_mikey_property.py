"""Hostile and arbitrary input to the MIKEY decoder, and round trips."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mikey_sakke import key_parameters, message
from mikey_sakke.errors import BadParameters, MikeyError

GENUINE = bytes.fromhex(
    json.loads((Path(__file__).parents[1] / "vectors" / "mikey_sakke_public.json").read_text())["payload_tests"][0][
        "i_message_hex"
    ]
)
octets = st.binary(max_size=40)
u8, u32 = st.integers(0, 255), st.integers(0, 2**32 - 1)
payloads = st.one_of(
    st.builds(message.Timestamp, st.sampled_from([0, 1]), u32, u32),
    st.builds(message.Rand, octets),
    st.builds(message.Identity, u8, u8, octets),
    st.builds(message.Policy, u8, u8, st.lists(st.tuples(u8, octets), max_size=4)),
    st.builds(message.Encapsulated, u8, u8, octets),
    st.builds(message.Extension, u8, octets),
)
maps = st.one_of(
    st.tuples(st.just(message.MAP_EMPTY), st.just([])),
    st.tuples(
        st.just(message.MAP_SRTP),
        st.lists(st.builds(message.SrtpSession, u8, st.binary(min_size=4, max_size=4), st.just(bytes(4))), max_size=3),
    ),
    st.tuples(
        st.just(message.MAP_GENERIC),
        st.lists(
            st.builds(
                message.GenericSession, u8, u8, st.sampled_from([0, 1]), st.lists(u8, max_size=3), octets, octets
            ),
            max_size=3,
        ),
    ),
)


@given(st.binary(min_size=4, max_size=4), maps, st.lists(payloads, max_size=8))
def test_what_is_encoded_parses_to_the_same(csb_id: bytes, session_map: tuple, values: list) -> None:
    text = message.encode(message.Message(csb_id, session_map[0], session_map[1], values))
    parsed = message.parse(text + bytes(129))
    assert (parsed.csb_id, parsed.map_type, parsed.sessions) == (csb_id, session_map[0], session_map[1])
    assert parsed.payloads[:-1] == values and parsed.signed == text


@given(st.binary(max_size=200))
def test_any_octets_are_a_message_or_one_error(data: bytes) -> None:
    for candidate in (data, b"\x01\x1a" + data, GENUINE[:40] + data):
        try:
            message.parse(candidate)
        except MikeyError as error:
            assert str(error)


@given(st.integers(0, len(GENUINE) - 1), st.binary(min_size=1, max_size=8), st.integers(0, 8))
def test_a_genuine_message_with_octets_replaced_is_a_message_or_one_error(at: int, new: bytes, old: int) -> None:
    try:
        message.parse(GENUINE[:at] + new + GENUINE[at + old :])
    except MikeyError as error:
        assert str(error)


@given(st.binary(max_size=120))
def test_any_octets_are_key_parameters_or_one_error(data: bytes) -> None:
    for candidate in (data, bytes(15) + data):
        try:
            key_parameters.decode(candidate)
        except BadParameters as error:
            assert str(error)


@given(
    st.sampled_from(range(7)),
    u32,
    st.integers(0, 2**40 - 1),
    st.integers(0, 2**40 - 1),
    st.text(max_size=20),
    st.lists(st.text(max_size=20), max_size=4),
)
def test_key_parameters_round_trip(kind: int, status: int, start: int, end: int, text: str, groups: list) -> None:
    value = key_parameters.Parameters(kind, status, start, end, text, groups if kind in (0, 4, 6) else [])
    assert key_parameters.decode(key_parameters.encode(value)) == value

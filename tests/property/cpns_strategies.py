"""Hypothesis strategies for CPNS messages, made from the table that packs and parses them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cpns import message_table, messages, tuning

CODES = st.sampled_from(sorted(message_table.MESSAGES))

# What XML, logs and terminals can show: no control characters
LETTERS = st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")


def names(most: int, least: int = 1) -> st.SearchStrategy[str]:
    """Text of `least`..`most` octets."""
    return st.text(LETTERS, min_size=least, max_size=most).filter(lambda text: least <= len(text.encode()) <= most)


def values(kind: tuple[type, Any, Any]) -> st.SearchStrategy[Any]:
    """All values of one type of the table."""
    python, least, most = kind
    if python is int:
        return st.integers(least, most)
    if python is bytes:
        return st.binary(min_size=least, max_size=min(most, 200))
    if isinstance(least, str):
        return st.sampled_from([chr(sign) for sign in range(ord(least), ord(most) + 1)])
    return names(most, least)


def group_keys(most: int) -> st.SearchStrategy[list[tuple[bytes, str | None]]]:
    """One plain key, or up to `most` encryptions of one, each with its index."""
    plain = st.tuples(st.binary(min_size=16, max_size=16), st.none())
    wrapped = st.one_of(st.binary(min_size=16, max_size=16), st.binary(min_size=24, max_size=24))
    return st.one_of(
        st.lists(plain, min_size=1, max_size=1),
        st.lists(st.tuples(wrapped, names(32)), min_size=1, max_size=most),
    )


def _element(label: int) -> st.SearchStrategy[Any]:
    if label not in messages.ELEMENTS:
        return values(messages.type_of(label))
    return st.tuples(*[values(kind) for _, _, kind in messages.ELEMENTS[label]])


@st.composite
def fields(draw: st.DrawFn, code: int) -> dict[int, Any]:
    """Any fields that message `code` may have, success or failure."""
    drawn: dict[int, Any] = {}
    rows = [row for row in message_table.rows(code) if row.part is None]
    responding = [row.label for row in rows if row.label in (messages.RESULT, messages.RETURN)]
    failed = False
    for label in responding:
        drawn[label] = draw(values(messages.type_of(label)))
        failed = drawn[label] != "1"
    for row in rows:
        if row.label in responding or (row.cardinality == message_table.ON_FAILURE and not failed):
            continue
        kept = not failed or row.label in messages.KEPT_ON_FAIL
        if not (kept and row.cardinality[0] == "1") and draw(st.booleans()):
            if row.cardinality == message_table.ANY:
                drawn[row.label] = []
            continue
        if row.label == messages.GKDK:
            drawn[row.label] = b"" if failed else draw(st.binary(min_size=1, max_size=300))
        elif row.label == messages.GROUP_KEY:
            drawn[row.label] = draw(group_keys(1 if row.cardinality == message_table.OPTIONAL else 5))
        elif row.label in messages.REPEATED:
            drawn[row.label] = draw(st.lists(_element(row.label), min_size=1, max_size=5))
        else:
            drawn[row.label] = draw(_element(row.label))
    return drawn


LIMIT = tuning.UPLINK_MESSAGE_MAX
MESSAGES = CODES.flatmap(lambda code: st.tuples(st.just(code), fields(code)))

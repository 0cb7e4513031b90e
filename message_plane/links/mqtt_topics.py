"""The names of MQTT: the tag of an entity, the shard of a tag, and the topics (docs/protocol.md, "MQTT").

An entity ID may hold characters that topics give a meaning, and a broker need not learn it, so topics hold its tag.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

SCHEME = "mqtt"
SHARDS = 64
TAG_LEN = 32  # characters

_REMEMBERED = 1 << 14  # results of what is computed for each message, as many as one process may have PN GWs and more
_TAG = re.compile(r"[0-9a-f]{32}")
_ROOT = "keycast/1"
_DOWN, _UP, _PRESENCE = f"{_ROOT}/dn/", f"{_ROOT}/up/", f"{_ROOT}/st/"


@lru_cache(_REMEMBERED)
def tag_of(entity_id: str) -> str:
    """Return the tag of an entity: the first 16 octets of SHA-256("keycast/tag/1" ‖ entity ID), in hex digits."""
    return hashlib.sha256(b"keycast/tag/1" + entity_id.encode()).hexdigest()[:TAG_LEN]


def shard_of_tag(tag: str) -> int:
    """Return the shard of a tag, 0 to SHARDS - 1: its first octet mod SHARDS."""
    return int(tag[:2], 16) % SHARDS


def shard_of(entity_id: str) -> int:
    """Return the shard of an entity, 0 to SHARDS - 1."""
    return shard_of_tag(tag_of(entity_id))


def place_of_tag(tag: str) -> str:
    """Return the place of the entity with this tag, as `mqtt:<tag>`."""
    return f"{SCHEME}:{tag}"


def place_of(entity_id: str) -> str:
    """Return the place of an entity. It names no broker, because the entity may be at any."""
    return place_of_tag(tag_of(entity_id))


def tag_in(place: str) -> str:
    """Return the tag in a place. Raises ValueError if it is no place of MQTT."""
    scheme, _, tag = place.partition(":")
    if scheme != SCHEME or not _TAG.fullmatch(tag):
        raise ValueError(f"{place!r} is no place of MQTT, such as mqtt: and the {TAG_LEN} hex digits of a tag")
    return tag


def down(tag: str) -> str:
    """Return the topic of datagrams to the PN GW with this tag."""
    return _DOWN + tag


def up(tag: str) -> str:
    """Return the topic of datagrams from the PN GW with this tag."""
    return f"{_UP}{shard_of_tag(tag)}/{tag}"


def presence(tag: str) -> str:
    """Return the topic at which the end with this tag says, retained, whether it is connected: `1` or `0`."""
    return _PRESENCE + tag


def database(tag: str) -> str:
    """Return the topic at which the CPNS Server with this tag leaves, retained, the number of its database."""
    return f"{_ROOT}/id/{tag}"


EVERY_PRESENCE = _PRESENCE + "+"


def all_up(shards: Iterable[int]) -> list[str]:
    """Return the topic filters of datagrams from all PN GWs in `shards`."""
    return [f"{_UP}{shard}/+" for shard in sorted(shards)]


def is_presence(topic: str) -> bool:
    """Return True for a topic of `presence`, whatever comes in the place of the tag."""
    return topic.startswith(_PRESENCE)


@lru_cache(_REMEMBERED)
def tag_of_sender(topic: str) -> str | None:
    """Return the tag of the end that publishes at a topic of `up` or `presence`, None if it is neither.

    A topic of `up` under the shard of another tag is none.
    """
    tag = topic[-TAG_LEN:]
    if not _TAG.fullmatch(tag):
        return None
    return tag if topic in (_PRESENCE + tag, up(tag)) else None

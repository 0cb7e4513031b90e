"""The topics at which brokers keep something of this gateway, in a file of its state folder.

It is written before the first message goes out, so that a board that was retired while the broker was away, or another
`prefix` or `discovery`, leaves nothing behind in Home Assistant.
"""

import json
import logging
from collections.abc import Collection
from pathlib import Path

from private_store import files
from private_store.errors import PrivateStoreError

_log = logging.getLogger(__name__)

FILE = "mqtt_topics.json"  # its name in the state folder
_SIZE_MAX = 16 << 20


def load(state_dir: Path) -> set[str]:
    """Return the topics in the file; none if it is missing or cannot be read, as what it lists is rarely missed."""
    if not (state_dir / FILE).exists():
        return set()
    try:
        topics = json.loads(files.read(state_dir / FILE, most=_SIZE_MAX))
        return {each for each in topics if isinstance(each, str) and each and not set(each) & set("#+\0")}
    except (PrivateStoreError, ValueError, TypeError, RecursionError) as error:
        _log.warning("KC1601 what Home Assistant was told before is not known, and nothing of it is removed: %s", error)
        return set()


def save(state_dir: Path, topics: Collection[str]) -> None:
    """Write the topics. Raises StoreUnusable."""
    with files.exchanging(state_dir / FILE) as write:
        write(json.dumps(sorted(topics), indent=0).encode())

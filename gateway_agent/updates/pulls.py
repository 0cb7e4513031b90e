"""How far boards are that pull an update, as seen by what they were answered: a board reports seldom while it pulls."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class UpdatePull:
    """What a board was answered of one update since it reported last. `since`: Unix seconds of the first piece."""

    update_id: bytes
    since: int
    _answered: dict[int, int] = field(default_factory=dict)  # kind of piece -> a bit for each index

    @property
    def count(self) -> int:
        """How many pieces it was answered, each counted once."""
        return sum(indexes.bit_count() for indexes in self._answered.values())

    def add(self, what: int, index: int) -> None:
        """Note a piece that was answered, as in `Update.piece`."""
        self._answered[what] = self._answered.get(what, 0) | 1 << index


class UpdatePulls:
    """The pulls of all boards, each of one update at most. It is kept in memory only: boards report at a restart."""

    def __init__(self) -> None:
        self._of: dict[str, UpdatePull] = {}

    def of(self, pne_id: str, update_id: bytes) -> UpdatePull | None:
        """Return how far a board is with an update, None if it has pulled nothing of it since it reported last."""
        found = self._of.get(pne_id)
        return found if found is not None and found.update_id == update_id else None

    def answered(self, pne_id: str, update_id: bytes, what: int, index: int, unix: int) -> None:
        """Note that a board was answered a piece of an update, at `unix`, in Unix seconds."""
        pull = self.of(pne_id, update_id)
        if pull is None:
            pull = self._of[pne_id] = UpdatePull(update_id, unix)
        pull.add(what, index)

    def forget_board(self, pne_id: str) -> None:
        """Forget what a board was answered: it has reported what it misses."""
        self._of.pop(pne_id, None)

    def forget_update(self, update_id: bytes) -> None:
        """Forget who has pulled an update that is not offered any more."""
        for each in [each for each, pull in self._of.items() if pull.update_id == update_id]:
            del self._of[each]

"""The contract of the database below the store: one SQLite file, or a PostgreSQL database that several processes share.

The rules above it read, decide and write in one step, so its calls do not await. A database that does not answer costs
the event loop `tuning.DATABASE_WAIT_S` once; from then on every call fails at once until `probe` finds it again.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from key_servers.errors import StoreFailed
from private_store.sqlite_file import Value

T = TypeVar("T")

Part = tuple[str, str]
"""(SG ID, PN ID) of what may have changed; "" stands for all."""


class Write(NamedTuple):
    """One writing statement and its values. `shard`: it is dropped if this process no longer holds that shard."""

    sql: str
    values: tuple[Value, ...]
    shard: int | None = None


class ShardLost(StoreFailed):
    """Another process holds the shard now that a change belongs to. The transaction is undone."""


class Fence(Protocol):
    """Which shards this process holds."""

    def tokens(self) -> Mapping[int, int]:
        """Return shard -> fencing token of what is held now. It is called from any thread; nobody changes the map."""
        ...

    def lost(self, shard: int) -> None:
        """Take note, in the event loop's thread, that another process has this shard."""
        ...


class ServerDatabase(Protocol):
    """One open database. It belongs to the event loop's thread, except `write_lot`. All methods raise StoreFailed.

    Statements have `?` for values, and use what SQLite and PostgreSQL have in common.
    """

    @property
    def kind(self) -> str:
        """Its name for people: SQLite or PostgreSQL."""
        ...

    @property
    def commits(self) -> int:
        """The number of write transactions so far that are on the medium."""
        ...

    @property
    def trouble(self) -> str:
        """The fault as text, "" if there is none: the medium refused, or the database cannot be reached."""
        ...

    def probe(self) -> None:
        """If there is a fault, try whether it has ended."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Keep all writes of the block, or none of them.

        Inside another transaction the block is a part of that. On leaving the outer block its writes are on the medium.
        """
        ...

    def attempt(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, run so that no other process changes anything that it reads or writes meanwhile.

        It may be run several times, so it has effects outside of the database by `after_commit` only. Where processes
        share the database it is one transaction, undone by an error; in a file, `work` makes its own transactions.
        """
        ...

    def require_shard(self, shard: int) -> None:
        """Raise ShardLost, inside a transaction, if another process holds the shard."""
        ...

    @property
    def may_go_back(self) -> bool:
        """True if `is_older` may come true by itself, so that nobody may know of it yet."""
        ...

    @property
    def is_older(self) -> bool:
        """True if the database may have gone back: a copy was restored, or a standby promoted. It refuses all but
        `accept` then.
        """
        ...

    def accept(self, work: Callable[[int], object]) -> None:
        """Go on with a database that may have gone back: run `work` as `attempt` does, unless another process has.

        `work` is called with the seconds since the database was used last, 0 = not known.
        """
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all reads of the block see one moment. Inside a transaction they see that anyway."""
        ...

    def after_commit(self, action: Callable[[], object]) -> None:
        """Call `action` once the transaction is on the medium, at once outside of one; never if it is undone."""
        ...

    def write_lot(self, statements: Callable[[], Sequence[Write]]) -> None:
        """Run what `statements` returns as one transaction on a connection of its own, from any one thread.

        What `statements` reads is what no transaction that is committed by then has ended; it may be called again. On
        return all is on the medium.
        """
        ...

    def rows(self, sql: str, *values: Value) -> list[Any]:
        """Run one statement and return its rows."""
        ...

    def write(self, sql: str, *values: Value) -> None:
        """Run one writing statement inside a transaction. Raises RuntimeError outside of one."""
        ...

    def identity(self, first: Callable[[], bytes]) -> bytes | None:
        """Return the octets of the Server's own key, those of `first` if there are none; None if a file has them."""
        ...

    def erase_after_commit(self) -> None:
        """Say, inside a transaction, that it deletes a secret: what older pages hold is erased as far as possible."""
        ...

    def image(self, *statements: str) -> bytes:
        """Return the octets of a SQLite file with the same content, after `statements`, which run on the copy."""
        ...

    def changed(self, part: Part) -> None:
        """Tell the other processes, with the commit of the transaction, that this may have changed."""
        ...

    async def listen(self, take: Callable[[Sequence[Part]], None]) -> None:
        """Call `take` with what other processes have changed, until it is cancelled; [] stands for everything.

        It returns at once if there are no other processes.
        """
        ...

    def close(self) -> None:
        """Close the database, so that other processes can use it."""
        ...

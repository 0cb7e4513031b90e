"""A fleet: several virtual boards that start and stop together."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from keycast.virtual_board.board import BoardEnded, Network, VirtualBoard

AT_ONCE = 16  # boards that start at the same time, as a start only computes


class Fleet:
    """Boards 1..n with one provisioning record each, started together and stopped together.

        async with Fleet(folder, records, loss=0.2, seed=1) as fleet:
            await fleet.boards[0].command("join", group="kitchen")

    The k-th board draws its losses from `seed` + k. `networks`, one for each board, replace loopback.
    """

    def __init__(
        self,
        folder: Path,
        provisionings: Sequence[bytes],
        *,
        networks: Sequence[Network] | None = None,
        first: int = 1,
        wifi: bool = True,
        company_id: int | None = None,
        **how: Any,
    ) -> None:
        """`wifi` and `company_id` are those of `VirtualBoard.create`, `how` is for `VirtualBoard.start`."""
        self._how = how
        self.boards = [
            VirtualBoard.create(
                folder / f"board-{number}",
                number,
                record,
                networks[number - first] if networks else None,
                wifi=wifi,
                company_id=company_id,
            )
            for number, record in enumerate(provisionings, first)
        ]

    async def __aenter__(self) -> "Fleet":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start all boards. If one fails, stop all and raise its error."""
        gate = asyncio.Semaphore(AT_ONCE)
        how = dict(self._how)
        seed = how.pop("seed", 1)

        async def start(place: int, board: VirtualBoard) -> None:
            async with gate:
                await board.start(seed=seed + place, **how)

        try:
            async with asyncio.TaskGroup() as tasks:
                for place, board in enumerate(self.boards, 1):
                    tasks.create_task(start(place, board))
        except* (BoardEnded, TimeoutError, OSError) as group:
            await self.stop()
            raise group.exceptions[0] from None

    async def stop(self) -> None:
        """Stop all running boards."""
        await asyncio.gather(*(board.stop() for board in self.boards))

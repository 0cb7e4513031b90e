"""Makes I_MESSAGEs in a pool of processes, one for each core, as to encapsulate and sign is nearly all work of a GMS.

A worker holds the precomputation for the KMS's public keys and the GMS's signing keys of the periods it has seen.
"""

import asyncio
import multiprocessing
import os
import secrets
import signal
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from key_servers.errors import ServerError
from key_servers.gms import tuning
from key_servers.gms.provisioning import SigningMaterial
from mikey_sakke import eccsi, i_message, kms_exchange
from mikey_sakke.identifiers import NTP_OFFSET, PURPOSE_GMK
from mikey_sakke.key_parameters import Parameters
from mikey_sakke.kms_values import Certificate

_random = secrets.SystemRandom()


class MakerFailed(ServerError):
    """The worker processes have died, or none can be started."""


@dataclass(frozen=True, slots=True)
class Order:
    """One message to make: for `user`, the GMK `gmk` with the id `key_id` (4 octets) and its parameters."""

    user: str
    gmk: bytes = field(repr=False)
    key_id: bytes
    status: int
    activation: int
    expiry: int
    text: str
    groups: tuple[str, ...]


class Maker:
    """The pool of workers.

    `workers` is their number; 0 means one for each core, -1 a thread of this process (tests, small groups). Raises
    MakerFailed where the system starts no processes.
    """

    def __init__(self, certificate: Certificate, gms_uri: str, workers: int = 0) -> None:
        self._pool: Executor
        if workers < 0:
            self._pool = ThreadPoolExecutor(1, "gms")
            self._make = _Worker(certificate, gms_uri).make
            return
        count = workers or os.cpu_count() or 1
        # spawn: a fork of a process with threads and an event loop may inherit held locks
        context = multiprocessing.get_context("spawn")
        try:
            self._pool = ProcessPoolExecutor(
                count, mp_context=context, initializer=_prepare, initargs=(certificate, gms_uri)
            )
        except OSError as error:
            raise MakerFailed(
                f"No processes for making messages: {error.strerror} (they need semaphores in /dev/shm).",
                "Mount a tmpfs on /dev/shm that this user can write to.",
            ) from None
        self._make = _make
        for _ in range(count):  # a worker takes a second to begin: not at the first key
            self._pool.submit(_begin)

    async def make(self, orders: list[Order], material: SigningMaterial, now: int) -> list[bytes]:
        """Return the I_MESSAGEs of `orders`, dated `now` (Unix seconds), which lies in the key period of `material`.

        Raises MakerFailed.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._make, orders, material, now)
        except BrokenProcessPool:
            raise MakerFailed("The processes that make messages have died.", "Restart the GMS.") from None

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(cancel_futures=True)


class _Worker:
    def __init__(self, certificate: Certificate, gms_uri: str, teeth: int = 8) -> None:
        self._gms_uri = gms_uri
        self._kms = kms_exchange.community(certificate, teeth)
        self._keys: dict[int, eccsi.SigningKey] = {}

    def begin(self) -> None:
        """Encapsulate once, as the last of the precomputation is done at first use."""
        self._kms.encryption.encapsulate(bytes(16), bytes(32))

    def make(self, orders: list[Order], material: SigningMaterial, now: int) -> list[bytes]:
        key = self._keys.get(material.number)
        if key is None:
            key = eccsi.SigningKey(self._kms.signatures, material.uid, material.ssk, material.pvt)
            self._keys = {material.number: key}
        return [self._one(order, key, now) for order in orders]

    def _one(self, order: Order, key: eccsi.SigningKey, now: int) -> bytes:
        parameters = Parameters(
            PURPOSE_GMK, order.status, order.activation, order.expiry, order.text, list(order.groups)
        )
        made: bytes = i_message.make(
            self._kms,
            key,
            self._gms_uri,
            order.user,
            order.gmk,
            order.key_id,
            parameters,
            now + NTP_OFFSET,
            secrets.token_bytes,
            _random.randrange(1, eccsi.P256.q),
        )
        return made


_worker: _Worker | None = None  # of this process, when it is one of the pool


def _prepare(certificate: Certificate, gms_uri: str) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which then ends its workers
    _worker = _Worker(certificate, gms_uri, tuning.COMB_TEETH)


def _begin() -> None:
    if _worker is not None:
        _worker.begin()


def _make(orders: list[Order], material: SigningMaterial, now: int) -> list[bytes]:
    if _worker is None:
        raise RuntimeError("the worker was not prepared")
    return _worker.make(orders, material, now)

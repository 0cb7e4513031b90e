"""Makes I_MESSAGEs in a pool of processes, one for each core: encapsulating and signing is all the work of a GMS.

A worker holds the precomputation for the KMS's public keys and the GMS's signing keys of the periods it has seen.
"""

import asyncio
import multiprocessing
import os
import secrets
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from key_servers.errors import ServerError
from key_servers.gms.provisioning import SigningMaterial
from mikey_sakke import eccsi, i_message, kms_exchange
from mikey_sakke.identifiers import NTP_OFFSET
from mikey_sakke.key_parameters import Parameters
from mikey_sakke.kms_values import Certificate

_random = secrets.SystemRandom()


class MakerFailed(ServerError):
    """The worker processes have died."""


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
    """The pool. `workers` 0: one for each core; -1: a thread of this process (tests)."""

    def __init__(self, certificate: Certificate, gms_uri: str, workers: int = 0) -> None:
        self._pool: Executor
        if workers < 0:
            self._pool = ThreadPoolExecutor(1, "gms", _prepare, (certificate, gms_uri))
        else:
            # spawn: a fork of a process with threads and an event loop may inherit held locks
            self._pool = ProcessPoolExecutor(
                workers or os.cpu_count() or 1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_prepare,
                initargs=(certificate, gms_uri),
            )

    async def make(self, orders: list[Order], material: SigningMaterial, now: int) -> list[bytes]:
        """The I_MESSAGEs of `orders`, dated `now` (Unix seconds), which lies in the key period of `material`.

        Raises MakerFailed.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, _make, orders, material, now)
        except BrokenProcessPool:
            raise MakerFailed("The processes that make messages have died.", "Restart the GMS.") from None

    def close(self) -> None:
        """End the workers."""
        self._pool.shutdown(cancel_futures=True)


class _Worker:
    def __init__(self, certificate: Certificate, gms_uri: str) -> None:
        self.gms_uri = gms_uri
        self.kms = kms_exchange.community(certificate)
        self.keys: dict[int, eccsi.SigningKey] = {}

    def key(self, material: SigningMaterial) -> eccsi.SigningKey:
        if material.number not in self.keys:
            made = eccsi.SigningKey(self.kms.signatures, material.uid, material.ssk, material.pvt)
            self.keys = {material.number: made}
        return self.keys[material.number]


_worker: _Worker | None = None


def _prepare(certificate: Certificate, gms_uri: str) -> None:
    global _worker
    _worker = _Worker(certificate, gms_uri)


def _make(orders: list[Order], material: SigningMaterial, now: int) -> list[bytes]:
    worker = _worker
    if worker is None:
        raise RuntimeError("the worker was not prepared")
    key = worker.key(material)
    return [
        i_message.make(
            worker.kms,
            key,
            worker.gms_uri,
            order.user,
            order.gmk,
            order.key_id,
            Parameters(0, order.status, order.activation, order.expiry, order.text, list(order.groups)),
            now + NTP_OFFSET,
            secrets.token_bytes,
            _random.randrange(1, eccsi.P256.q),
        )
        for order in orders
    ]

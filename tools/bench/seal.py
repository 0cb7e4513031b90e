"""GMKs to 1,000 users from one GMS process: users a second, from making the key to the last proven answer.

Each message is encapsulated and signed for one user in the pool of processes; hand-out and answer are each committed
to SQLite. HTTP and the clients' own arithmetic are left out, as they run on other machines.
"""

import asyncio
import os
import secrets
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from key_servers.gms import store
from key_servers.gms.courier import NoticeCourier
from key_servers.gms.maker import Maker, Order
from key_servers.gms.management import GroupManagement
from key_servers.gms.provisioning import OwnKeys
from key_servers.gms.values import Affiliation
from key_servers.sql import migrate, open_database
from mikey_sakke import eccsi, kms_exchange, sakke
from mikey_sakke.endpoint_key import SERVICE_GROUP_MANAGEMENT, endpoint_key, proof
from mikey_sakke.group_configuration import NotifyRequest, NotifyResponse, encode_requests
from mikey_sakke.identifiers import NTP_OFFSET, guk_id
from mikey_sakke.kms_values import Certificate, KeySet
from tools.bench.rows import Line, Row, Tell

USERS = 1000
GMS = "sip:gms.example.org"
GROUP = "sip:crew@gms.example.org"


def measure(tell: Tell) -> Iterator[Line]:
    """Yield users a second, beside one thread that makes the same messages and does nothing else."""
    kms = _Kms()
    tell("one message at a time")
    alone = asyncio.run(_alone(kms))
    tell(f"a GMK to {USERS} users")
    with tempfile.TemporaryDirectory(prefix="keycast-bench-") as folder:
        rate = asyncio.run(_deliver(kms, Path(folder)))
    yield Row(
        f"GMK to {USERS:,} users from one GMS",
        rate,
        "users/s",
        "the same messages, one thread, nothing else",
        alone,
        note=f"pool of {os.cpu_count()} processes; encapsulate, sign, store, hand out, check the proof; without HTTP",
    )


class _Kms:
    """A KMS that makes `KeyProvisioning` from fresh master secrets."""

    def __init__(self) -> None:
        self._ksak = 1 + secrets.randbelow(int(eccsi.P256.q) - 1)
        z = 2 + secrets.randbelow(int(sakke.CURVE.q) - 3)
        self._z = z
        self._certificate = Certificate("kms.example.org", 30 * 86400, 0, sakke.z_of(z), eccsi.kpak_of(self._ksak))
        self._kms = kms_exchange.community(self._certificate)

    async def certificate(self) -> Certificate:
        return self._certificate

    async def key_set(self, moment: int) -> KeySet:
        number = self._kms.number_at(moment + NTP_OFFSET)
        uid = self._kms.uid(GMS, number)
        v = 1 + secrets.randbelow(int(eccsi.P256.q) - 1)
        ssk, pvt = eccsi.provision(self._ksak, self._certificate.pub_auth_key, uid, v)
        return KeySet(self._certificate.kms_uri, GMS, uid, number, sakke.provision(self._z, uid), ssk, pvt)


async def _alone(kms: _Kms) -> float:
    keys, now = OwnKeys(kms), int(time.time())
    await keys.open(now)
    material = await keys.material(now)
    maker = Maker(keys.certificate, GMS, -1)
    order = Order("sip:user@example.org", secrets.token_bytes(16), bytes(4), 1, 0, 0, "", (GROUP,))
    await maker.make([order], material, now)
    rounds = [await _timed(maker, order, material, now) for _ in range(40)]
    maker.close()
    return 1 / sorted(rounds)[len(rounds) // 2]


async def _timed(maker: Maker, order: Order, material: object, now: int) -> float:
    begun = time.perf_counter()
    await maker.make([order], material, now)  # type: ignore[arg-type]
    return time.perf_counter() - begun


async def _deliver(kms: _Kms, folder: Path) -> float:
    def clock() -> int:
        return int(time.time())

    database = await open_database(None, folder / "gms.sqlite3")
    await migrate(database, "key_servers.gms.migrations")
    keys = OwnKeys(kms)
    await keys.open(clock())
    maker = Maker(keys.certificate, GMS)
    courier = NoticeCourier(database, GMS, keys, maker, clock, Counter())
    manage = GroupManagement(database, clock, secrets.token_bytes, courier.changed)
    await manage.create_group(GROUP)
    users = [f"sip:user{number}@example.org" for number in range(USERS)]
    for user in users:
        await manage.add_user(user)
        await manage.authorise(user)
        await manage.add_member(GROUP, user, Affiliation.IMPLICIT)
    polls = [asyncio.create_task(courier.fetch(user, 600.0)) for user in users]
    await asyncio.sleep(0.1)
    begun = time.perf_counter()
    key_id = await manage.make_key([GROUP])
    async with database.transaction() as sql:
        made = await store.key(sql, key_id)
    if made is None or made.gmk is None:
        raise AssertionError("the key that was made is there")
    octets = sum(await asyncio.gather(*(_answer(courier, poll, made.gmk) for poll in polls)))
    spent = time.perf_counter() - begun
    states = Counter(delivery.state.value for delivery in await manage.deliveries(key_id))
    maker.close()
    await database.close()
    if states != {"done": USERS} or octets < USERS * 700:
        raise AssertionError(f"not everyone got the key: {states}")
    return USERS / spent


async def _answer(courier: NoticeCourier, poll: "asyncio.Task[list[NotifyRequest]]", gmk: bytes) -> int:
    """Answer as a client does, without its arithmetic."""
    (request,) = await poll
    octets = encode_requests([request])
    key_id = guk_id(request.i_message[4:8], gmk, request.user)  # the function is its own inverse
    secret = endpoint_key(gmk, SERVICE_GROUP_MANAGEMENT, request.user, request.i_message[4:8])
    answer = NotifyResponse(request.notice_id, key_id, proof(secret, request.notice_id, key_id))
    await courier.answered(request.user, answer)
    return len(octets)

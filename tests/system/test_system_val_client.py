"""A board that is itself a VAL client gets its I_MESSAGE through a gateway that only forwards it (issue 3)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cpns import cborlite, messages, numbers
from cpns.errors import NotAllowed
from device_agent.key_store import KeyStore
from device_agent.val_client import records
from message_plane import credentials
from message_plane.endpoint import Endpoint, Peer
from message_plane.errors import PeerRefused
from message_plane.identity import OwnIdentity, SigningKey
from message_plane.session_store import SessionStore
from mikey_sakke.endpoint_key import proof
from tools.provisioning import Trust, new_board
from tools.virtual_board import board
from tools.virtual_board.board import Board, BoardError

NUMBER = 12_240  # 127.0.112.x, as in test_virtual_board
HEAP_KIB = 96
GATEWAY = "127.0.112.253"
VECTORS = Path(__file__).parent.parent / "vectors"
PUBLIC = json.loads((VECTORS / "mikey_sakke_public.json").read_text())
GIVEN = json.loads((VECTORS / "board_val_client.json").read_text())
MESSAGES = {each["name"]: each for each in GIVEN["messages"]}


class ForwardingGateway:
    """A PN GW's endpoint: sends notices to one board, keeps what comes back, and reads neither."""

    def __init__(self, folder: Path) -> None:
        self.identity = OwnIdentity.create(folder / "gateway.key", "gateway", "gateway")
        self.signing = SigningKey.create(folder / "signing.key", self.identity)
        self.store = SessionStore(folder / "gateway.sessions")
        self.answers: asyncio.Queue[list[object]] = asyncio.Queue()
        self.endpoint: Endpoint

    def board_record(self) -> bytes:
        own = credentials.of("gateway", "gateway", self.identity.x)
        trust = Trust(own, self.signing.public_key, 1, "home", GATEWAY)
        record, credential = new_board("val board", trust)
        self.store.register(credential)
        return record

    async def open(self) -> None:
        bind = [(GATEWAY, numbers.PORT_COAP)]
        self.endpoint = await Endpoint.open(identity=self.identity, store=self.store, handler=self._take, bind=bind)

    async def _take(self, peer: Peer, octets: bytes) -> bytes:
        code, fields = messages.decode(octets)
        assert peer.entity_id == "val board"
        if code != numbers.KEY_MESSAGE_REQUEST:
            return messages.failure(code, NotAllowed("only key messages here"))
        self.answers.put_nowait(cborlite.decode(fields[messages.KEY_MESSAGE]))
        return messages.encode(numbers.KEY_MESSAGE_RESPONSE, {messages.RESULT: numbers.RESULT_SUCCESS})

    async def ready(self) -> None:
        """Wait until the board says that it is a VAL client and ready; an answer may come again before."""
        while await asyncio.wait_for(self.answers.get(), 60) != []:
            pass

    async def notify(self, octets: bytes) -> list[object]:
        """Forward a notice; [notice ID, GMK-ID, proof, code, text] of the client's answer."""
        request = messages.encode(numbers.KEY_MESSAGE_REQUEST, {messages.KEY_MESSAGE: octets})
        answer = messages.decode(await self.endpoint.request("val board", request))
        assert answer == (numbers.KEY_MESSAGE_RESPONSE, {messages.RESULT: numbers.RESULT_SUCCESS})
        while not (found := await asyncio.wait_for(self.answers.get(), 60)):
            pass
        return found


def notice(name: str, notice_id: str, purpose: str = "key") -> bytes:
    return cborlite.encode([notice_id, purpose, GIVEN["gms"], bytes.fromhex(MESSAGES[name]["i_message_hex"])])


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    board.build()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[ForwardingGateway]:
    made = ForwardingGateway(tmp_path)
    await made.open()
    yield made
    await made.endpoint.close()


@pytest.fixture
async def one(tmp_path: Path, gateway: ForwardingGateway) -> AsyncIterator[Board]:
    kms, alice = PUBLIC["kms"], PUBLIC["users"]["Alice"]
    client = records.Client(
        alice["user_uri"],
        kms["kms_uri"],
        kms["user_key_period"],
        kms["user_key_offset"],
        bytes.fromhex(kms["pub_auth_key"]),
        bytes.fromhex(kms["pub_enc_key"]),
        {GIVEN["group"]: GIVEN["gms"]},
    )
    made = Board.create(tmp_path / "board", NUMBER, gateway.board_record())
    made.be_val_client(records.pack_client(client), {alice["key_period_no"]: bytes.fromhex(alice["user_decrypt_key"])})
    yield made
    await made.kill()


def held(one: Board) -> list[tuple[str, str]]:
    return [(gmk.gmk_id.hex(), gmk.gmk.hex()) for gmk in records.load_gmks(KeyStore(one.nvs))]


def known(name: str) -> tuple[str, str]:
    return MESSAGES[name]["key_id"], MESSAGES[name]["key"]


def caches(one: Board) -> list[str]:
    return [path.name for path in (one.folder / "val").iterdir() if not path.name.endswith("~")]


@asynccontextmanager
async def powered(one: Board, heap_kib: int = HEAP_KIB) -> AsyncIterator[None]:
    """The board with power, started again whenever it resets itself."""

    async def start_again() -> None:
        while await one.ended(120) == board.RESET_CODE:
            await one.start(heap_kib=heap_kib, up=False)

    await one.start(heap_kib=heap_kib, up=False)
    watch = asyncio.create_task(start_again())
    try:
        yield
    finally:
        watch.cancel()
        await one.kill()


@pytest.mark.req("SEAL-GMK-27", "SEAL-GMK-28", "SEAL-GMK-33", "SEAL-GMK-34", "SEAL-GMK-35")
async def test_a_whole_board_in_96_kib_opens_its_i_messages(one: Board, gateway: ForwardingGateway) -> None:
    async with powered(one):
        await gateway.ready()
        name, gmk_id, shown, code, _ = await gateway.notify(notice("first key", "n-1"))
        assert (name, gmk_id, code) == ("n-1", bytes.fromhex(known("first key")[0]), "")
        [stored] = records.load_gmks(KeyStore(one.nvs))
        assert stored.gmk.hex() == known("first key")[1] and shown == proof(stored.endpoint_key, "n-1", stored.gmk_id)
        assert (await gateway.notify(notice("another key under the first GMK-ID", "n-2")))[3] == "duplicate-key-id"
        assert (await gateway.notify(notice("group of nobody", "n-3")))[3] == "unauthorised-group"
    async with powered(one):  # its cache is there already
        await gateway.ready()
        assert (await gateway.notify(notice("next key", "n-4")))[3] == ""
        assert held(one) == [known("first key"), known("next key")]
        assert (await gateway.notify(notice("revocation of the first key", "n-5", "revocation")))[3] == ""
        assert held(one) == [known("next key"), (known("first key")[0], "")]
    made = [event for event in one.events if "100 %" in event.get("text", "")]
    assert len(made) == 1


@pytest.mark.req("SEAL-GMK-34")
async def test_a_board_with_a_large_heap_opens_them_beside_its_agent(one: Board, gateway: ForwardingGateway) -> None:
    async with powered(one, 192):
        await gateway.ready()
        waiting = asyncio.create_task(gateway.notify(notice("first key", "n-1")))
        while not waiting.done():
            await one.command("status", timeout_s=5)
            await asyncio.sleep(0.05)
        assert (await waiting)[3] == ""
        assert await one.event("val key")
    assert [event["event"] for event in one.events].count("up") == 1  # no reset


async def test_power_cuts_while_the_cache_is_made(one: Board, gateway: ForwardingGateway) -> None:
    for percent in (0, 10, 50, 80):
        since = len(one.events)
        await one.start(heap_kib=HEAP_KIB, up=False)
        await one.event("print", since=since, text=f"key cache of period 236 {percent} %")
        await one.kill()
        assert caches(one) == []
    async with powered(one):
        await gateway.ready()
        assert caches(one) == ["v236"]
        assert (await gateway.notify(notice("first key", "n-1")))[3] == ""


async def test_a_damaged_cache_is_made_anew(one: Board, gateway: ForwardingGateway) -> None:
    async with powered(one):
        await gateway.ready()
    with (one.folder / "val" / "v236").open("r+b") as file:
        file.seek(200_000)
        file.write(b"damaged!")
    async with powered(one):
        await gateway.ready()
        assert (await gateway.notify(notice("first key", "n-1")))[3] == "error"
        assert (await gateway.notify(notice("first key", "n-1")))[3] == ""


async def test_an_ordinary_board_refuses_key_messages(tmp_path: Path, gateway: ForwardingGateway) -> None:
    plain = Board.create(tmp_path / "plain", NUMBER + 1, gateway.board_record())
    async with powered(plain):
        await plain.event("session")
        with pytest.raises(BoardError):
            await plain.command("join", group="kitchen", timeout_s=30)  # by which the gateway learns its address
        with pytest.raises(PeerRefused):
            await gateway.notify(notice("first key", "n-1"))

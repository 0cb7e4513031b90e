"""A board that is itself a VAL client gets its I_MESSAGEs through a PN GW that only forwards them.

The messages are those of a file; `test_system_val_whole_way` has them made by servers.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from device_agent.key_store import KeyStore
from device_agent.val_client import records
from gateway_agent.app import GatewayApp
from gateway_agent.config.load import parse
from gateway_agent.core.ports import NoAnswer
from gateway_agent.val_client.board_users import THERE, BoardUser, BoardUsers
from keycast.provisioning.board import Trust, new_board
from keycast.virtual_board import board
from keycast.virtual_board.board import VirtualBoard
from keycast.virtual_board.loopback import own_port
from mikey_sakke.endpoint_key import proof
from mikey_sakke.group_configuration import NotifyRequest, NotifyResponse

NUMBER = 12_240  # 127.0.112.x, as in test_virtual_board
HEAP_KIB = 96
GATEWAY = "127.0.112.253"
VECTORS = Path(__file__).parent.parent / "vectors"
PUBLIC = json.loads((VECTORS / "mikey_sakke_public.json").read_text())
GIVEN = json.loads((VECTORS / "board_val_client.json").read_text())
MESSAGES = {
    each["name"]: each
    for each in map(json.loads, (VECTORS / "board_val_client_messages.jsonl").read_text().splitlines())
}


class NoServer:
    """The uplink of a PN GW without Service Groups."""

    async def request(self, message: bytes) -> bytes:
        raise NoAnswer("there is no CPNS Server")


class Gateway:
    """A PN GW with one VAL board; `notify` stands where the group management server is."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.address = f"{GATEWAY}:{own_port()}"
        text = f"""
            gateway = {{ id = "gateway", pn = "home", state_dir = "{folder}/state" }}
            message_plane = {{ listen = ["{GATEWAY}"], port = {self.address.partition(":")[2]}, discovery = false }}
            broadcast = {{ interfaces = [] }}
            {more}
        """
        self.config = parse(text.encode())
        self.user = BoardUser("val board", PUBLIC["users"]["Alice"]["user_uri"], self.send, self.respond)
        self.app: GatewayApp

    async def open(self) -> None:
        self.app = await GatewayApp.open(self.config, NoServer(), BoardUsers({"val board": self.user}))
        await self.app.start()

    async def send(self, pne_id: str, key_message: bytes) -> None:
        await self.app.gateway.send_key_message(pne_id, key_message)

    async def respond(self, response: NotifyResponse) -> None:
        """A late answer goes nowhere."""

    def board_record(self, pne_id: str = "val board") -> bytes:
        own = self.app.identity.credential
        trust = Trust(own, self.app.signing_key.public_key, self.app.signing_key.epoch, "home", self.address)
        record, credential = new_board(pne_id, trust)
        self.app.register(credential)
        return record

    async def ready(self) -> None:
        """Wait until the board, which may just have started, has said that it is ready."""
        async with asyncio.timeout(180):
            while self.user.keys_end is None:
                await asyncio.sleep(0.1)

    async def notify(self, request: NotifyRequest) -> NotifyResponse:
        response = await asyncio.wait_for(self.user.take(request), 60)
        assert response is not None and response.notice_id == request.notice_id
        return response


def notice(name: str, notice_id: str, purpose: str = "key") -> NotifyRequest:
    octets = bytes.fromhex(MESSAGES[name]["i_message_hex"])
    return NotifyRequest(notice_id, GIVEN["gms"], PUBLIC["users"]["Alice"]["user_uri"], purpose, (), octets)


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    board.build()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    made = Gateway(tmp_path)
    await made.open()
    yield made
    await made.user.close()
    await made.app.close()


def val_board(folder: Path, gateway: Gateway) -> VirtualBoard:
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
    made = VirtualBoard.create(folder, NUMBER, gateway.board_record())
    made.be_val_client(records.pack_client(client), {alice["key_period_no"]: bytes.fromhex(alice["user_decrypt_key"])})
    return made


@pytest.fixture
async def one(tmp_path: Path, gateway: Gateway) -> AsyncIterator[VirtualBoard]:
    made = val_board(tmp_path / "board", gateway)
    yield made
    await made.kill()


def held(one: VirtualBoard) -> list[tuple[str, str]]:
    return [(gmk.gmk_id.hex(), gmk.gmk.hex()) for gmk in records.load_gmks(KeyStore(one.nvs.snapshot()))]


def known(name: str) -> tuple[str, str]:
    return MESSAGES[name]["key_id"], MESSAGES[name]["key"]


def caches(one: VirtualBoard) -> list[str]:
    return [path.name for path in (one.folder / "val").iterdir() if not path.name.endswith("~")]


@asynccontextmanager
async def powered(one: VirtualBoard, gateway: Gateway, heap_kib: int = HEAP_KIB) -> AsyncIterator[None]:
    """The board with power, started again whenever it resets itself. The gateway has to hear anew that it is ready."""
    gateway.user.keys_end = None

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
async def test_a_whole_board_in_96_kib_opens_its_i_messages(one: VirtualBoard, gateway: Gateway) -> None:
    async with powered(one, gateway):
        await gateway.ready()
        answer = await gateway.notify(notice("first key", "n-1"))
        assert (answer.key_id.hex(), answer.code) == (known("first key")[0], "")
        [stored] = records.load_gmks(KeyStore(one.nvs.snapshot()))
        assert stored.gmk.hex() == known("first key")[1]
        assert answer.proof == proof(stored.endpoint_key, "n-1", stored.gmk_id)
        assert (await gateway.notify(notice("another key under the first GMK-ID", "n-2"))).code == "duplicate-key-id"
        assert (await gateway.notify(notice("group of nobody", "n-3"))).code == "unauthorised-group"
    async with powered(one, gateway):  # its cache is there already
        await gateway.ready()
        assert (await gateway.notify(notice("next key", "n-4"))).code == ""
        assert held(one) == [known("first key"), known("next key")]
        assert (await gateway.notify(notice("revocation of the first key", "n-5", "revocation"))).code == ""
        assert held(one) == [known("next key"), (known("first key")[0], "")]
    made = [event for event in one.events if "100 %" in event.get("text", "")]
    assert len(made) == 1


@pytest.mark.req("SEAL-GMK-34")
async def test_a_board_with_a_large_heap_opens_them_beside_its_agent(one: VirtualBoard, gateway: Gateway) -> None:
    async with powered(one, gateway, 192):
        await gateway.ready()
        waiting = asyncio.create_task(gateway.notify(notice("first key", "n-1")))
        while not waiting.done():
            await one.command("status", timeout_s=180)
            await asyncio.sleep(0.05)
        assert (await waiting).code == ""
        assert await one.event("val key")
    assert [event["event"] for event in one.events].count("up") == 1  # no reset


@pytest.mark.long
async def test_power_cuts_while_the_cache_is_made(one: VirtualBoard, gateway: Gateway) -> None:
    for percent in (0, 10, 50, 80):
        since = len(one.events)
        await one.start(heap_kib=HEAP_KIB, up=False)
        await one.event("print", since=since, text=f"key cache of period 236 {percent} %")
        await one.kill()
        assert caches(one) == []
    async with powered(one, gateway):
        await gateway.ready()
        assert caches(one) == ["v236"]
        assert (await gateway.notify(notice("first key", "n-1"))).code == ""


@pytest.mark.long
async def test_a_damaged_cache_is_made_anew(one: VirtualBoard, gateway: Gateway) -> None:
    async with powered(one, gateway):
        await gateway.ready()
    with (one.folder / "val" / "v236").open("r+b") as file:
        file.seek(200_000)
        file.write(b"damaged!")
    async with powered(one, gateway):
        await gateway.ready()
        assert (await gateway.notify(notice("first key", "n-1"))).code == "error"
        assert (await gateway.notify(notice("first key", "n-1"))).code == ""


async def test_an_ordinary_board_refuses_key_messages(tmp_path: Path, gateway: Gateway) -> None:
    plain = VirtualBoard.create(tmp_path / "plain", NUMBER + 1, gateway.board_record("plain"))
    async with powered(plain, gateway):
        await plain.event("session")
        joining = asyncio.create_task(plain.command("join", group="kitchen"))  # by which the gateway learns its address
        async with asyncio.timeout(180):
            while not gateway.app.endpoint.has_session("plain"):
                await asyncio.sleep(0.05)
        joining.cancel()
        with pytest.raises(NoAnswer, match=r"4\.03"):
            await gateway.app.gateway.send_key_message("plain", THERE)

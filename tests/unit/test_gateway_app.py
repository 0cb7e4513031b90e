"""The composed PN GW: keys, roll-over through a power cut, faults at the start."""

import asyncio
from pathlib import Path

import pytest

from cpns.errors import NotAllowed
from gateway_agent.app import GatewayApp
from gateway_agent.config.schema import GatewayConfig, GatewaySection, MessagePlaneSection
from gateway_agent.errors import GatewayError, NoBroadcastInterface
from gateway_agent.radios.broadcast_section import BroadcastSection
from gateway_agent.state_files import IDENTITY_FILE, NEXT_SIGNING_FILE, SIGNING_FILE, own_keys
from gateway_agent.uplinks.udp import UdpUplinkSection
from message_plane.errors import IdentityError, PlaneError, PortInUse
from message_plane.identity import BroadcastSigningKey
from message_plane.links.udp import host_and_port
from message_plane.session import Peer


class SilentServer:
    """An uplink on which nobody answers."""

    async def request(self, message: bytes) -> bytes:
        from gateway_agent.core.ports import NoAnswer

        raise NoAnswer("nobody there")


def config(folder: Path, *, port: int = 0, interfaces: tuple[str, ...] = ("lo",)) -> GatewayConfig:
    plane = MessagePlaneSection.model_construct(listen=["127.0.0.1"], port=port, discovery=False)
    return GatewayConfig(
        gateway=GatewaySection(id="gw.home", pn="home", state_dir=folder / "state"),
        message_plane=plane,
        broadcast=BroadcastSection(interfaces=list(interfaces)),
    )


async def opened(folder: Path, **how: object) -> GatewayApp:
    return await GatewayApp.open(config(folder, **how), SilentServer())  # type: ignore[arg-type]


@pytest.mark.req("SEC-17")
async def test_keys_are_made_once_private_and_different(tmp_path: Path) -> None:
    identity, signing = own_keys(config(tmp_path))
    again, same = own_keys(config(tmp_path))
    assert (again.x, same.public_key) == (identity.x, signing.public_key) and identity.x != signing.x
    for name in (IDENTITY_FILE, SIGNING_FILE):
        assert (tmp_path / "state" / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


async def test_a_key_file_that_others_can_read_stops_the_gateway_with_a_sentence(tmp_path: Path) -> None:
    own_keys(config(tmp_path))
    (tmp_path / "state" / IDENTITY_FILE).chmod(0o640)
    with pytest.raises(IdentityError, match="chmod 600"):
        await opened(tmp_path)


async def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    first = await opened(tmp_path / "a")
    try:
        port = host_and_port(first.endpoint.places[0])[1]
        with pytest.raises(PortInUse, match=str(port)):
            await opened(tmp_path / "b", port=port)
    finally:
        await first.close()


async def test_a_second_gateway_on_the_same_state_is_one_sentence(tmp_path: Path) -> None:
    first = await opened(tmp_path)
    try:
        with pytest.raises((GatewayError, PlaneError)) as caught:
            await opened(tmp_path)
        assert len(str(caught.value).splitlines()) == 1
    finally:
        await first.close()


async def test_an_interface_that_does_not_exist_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoBroadcastInterface, match="'wlan7'"):
        await opened(tmp_path, interfaces=("wlan7",))


@pytest.mark.req("CPNS-GKM-12")
async def test_without_interfaces_the_gateway_serves_by_unicast(tmp_path: Path) -> None:
    app = await opened(tmp_path, interfaces=())
    assert app.networks() == []
    await app.close()


@pytest.mark.req("SEC-16")
async def test_a_peer_that_is_neither_pne_nor_its_server_reaches_no_handler(tmp_path: Path) -> None:
    app = await opened(tmp_path)
    assert set(app.endpoint._incoming._resources) == {"pne", "server"}  # nothing for another gateway
    with pytest.raises(NotAllowed):
        await app._handle_server(Peer("server.elsewhere", "server"), b"\xa1\x00\x03")
    await app.close()


@pytest.mark.req("SEC-18")
async def test_a_roll_over_survives_a_power_cut_on_either_side_of_the_announcement(tmp_path: Path) -> None:
    app = await opened(tmp_path)
    old = app.signing_key.public_key
    assert app.roll_over() == 2
    new = app.signing_key.public_key
    await app.close()
    folder = tmp_path / "state"
    (folder / SIGNING_FILE).rename(folder / NEXT_SIGNING_FILE)  # as if the power went before the file was moved
    app = await opened_with_old(tmp_path)
    assert app.signing_key.public_key == new != old
    await app.close()
    BroadcastSigningKey.create(
        folder / NEXT_SIGNING_FILE, app.identity, app.signing_key, epoch=3
    )  # made, not announced
    app = await opened(tmp_path)
    assert app.signing_key.public_key == new and not (folder / NEXT_SIGNING_FILE).exists()
    await app.close()


async def opened_with_old(folder: Path) -> GatewayApp:
    """The signing key of the epoch before still lies there: any key, for what is tested is which one wins."""
    BroadcastSigningKey.create(folder / "state" / SIGNING_FILE)
    return await opened(folder)


@pytest.mark.req("SEC-20")
async def test_a_pairing_window_that_nobody_uses_closes_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_agent.pairing.OPEN_S", 0.05)
    app = await opened(tmp_path)
    with pytest.raises(NotAllowed, match=r"no board has proved.*No board came"):
        await app.pair("lamp", bytes(range(10)))
    await app.close()


@pytest.mark.req("SEC-20")
async def test_a_new_pairing_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """Who mistyped the secret and tries again waits for nobody, and the end of the first closes nothing."""
    app = await opened(tmp_path)
    first = asyncio.create_task(app.pair("lamp", bytes(10)))
    await asyncio.sleep(0)
    second = asyncio.create_task(app.pair("lamp", bytes(range(10))))
    with pytest.raises(NotAllowed, match="no board has proved"):
        await asyncio.wait_for(first, 5)
    assert app.endpoint._incoming.pairing_resources is not None
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    assert app.endpoint._incoming.pairing_resources is None
    await app.close()


@pytest.mark.parametrize("seconds", [0, 25])
async def test_the_way_to_a_server_elsewhere_is_kept_open_while_the_gateway_runs(tmp_path: Path, seconds: int) -> None:
    uplink = UdpUplinkSection(host="127.0.0.1", port=9, keep_alive_s=seconds)
    app = await GatewayApp.open(config(tmp_path).model_copy(update={"uplink": uplink}))
    await app.start()
    running = {task.get_name() for task in asyncio.all_tasks()}
    await app.close()
    ended = {task.get_name() for task in asyncio.all_tasks()}
    assert ("keep-alive of the uplink" in running) == bool(seconds) and "keep-alive of the uplink" not in ended


async def test_a_fault_in_housekeeping_is_told_to_whoever_runs_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = await opened(tmp_path)

    async def broken() -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(app.gateway._housekeeping, "tick", broken)
    await app.start()
    assert str(await app.gateway.failed) == "the disk is gone"
    assert "housekeeping ended" in caplog.text
    await app.close()

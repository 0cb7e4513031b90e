"""The BLE sender on a controller of its own: each advert that goes on the air is another payload.

A controller of Bluetooth 5 says when it has sent an advert, and has the next payload at once for the next one. One of
Bluetooth 4 sends when advertising is switched on, and is given a new payload each time.
"""

import asyncio
import contextlib
import random

from bumble import hci

from gateway_agent.radios.ble_sender import Take
from gateway_agent.radios.bumble_carrier import BumbleCarrier
from gateway_agent.radios.bumble_controller import HostDevice, OwnController
from gateway_agent.radios.bumble_scanner import BumbleScanner
from gateway_agent.radios.medium import News, Step

INTERVAL_S, JITTER_S, FRAME_S = 0.020, 0.010, 0.027
"""The pause between two payloads is the interval and up to so much; seconds a payload with the commands for it."""
INTERVAL_4_S, FRAME_4_S = 0.030, 0.040
"""The same with a controller of Bluetooth 4, which has more commands for each."""
_INTERVAL_OF_COMMAND_4_S = 0.100  # the shortest there, which no payload is on the air for
_SENT_S = 0.2  # a controller that has not said for so long that an advert has left is told to stop
_HANDLE = 1
_UNIT_S = 0.000625
_ALL_CHANNELS = 7
_NON_CONNECTABLE = 3


class BumbleSender:
    """Implements `ble_sender.BleSender`, with the scanner and the carrier of connections of the same controller."""

    instances = 1
    advice = ""

    def __init__(self, name: str, controller: OwnController, company_id: int) -> None:
        self.name = name
        self.adapter = controller.name
        self.scanner = BumbleScanner(controller, company_id)
        self.carrier = BumbleCarrier(controller, self.scanner.type_of)
        self.steps = (Step("reset the Bluetooth controller", controller.reopen),)
        self._controller = controller
        self._take: Take = lambda: None
        self._wanted = asyncio.Event()
        self._withdrawn = asyncio.Event()
        self._interval_s, self._frame_s = INTERVAL_S, FRAME_S

    @property
    def frame_s(self) -> float:
        """Seconds from one payload to the next."""
        return self._frame_s

    @property
    def interval_ms(self) -> float:
        """The shortest time from one advert to the next, 0 while the controller is not open."""
        return 1000 * self._interval_s if self.up else 0.0

    @property
    def up(self) -> bool:
        """True while the controller is open."""
        return self._controller.device is not None

    @property
    def problem(self) -> str:
        """Why the controller is not open, "" if it is."""
        return self._controller.problem

    def start(self, take: Take, news: News) -> None:
        """Open the controller, and begin to advertise what `take` returns."""
        self._take = take
        self._controller.start((self._advertise, self.scanner.scan), news)

    def wake(self) -> None:
        """Call `take` again."""
        self._wanted.set()

    def withdraw(self) -> None:
        """End the advert that is under way; what is not on the air yet is not sent (SEC-38)."""
        self._withdrawn.set()

    async def close(self) -> None:
        """Close the controller."""
        await self._controller.close()

    async def _advertise(self, device: HostDevice) -> None:
        self._interval_s, self._frame_s = (INTERVAL_S, FRAME_S) if device.is_extended else (INTERVAL_4_S, FRAME_4_S)
        send = _Extended(device) if device.is_extended else _Legacy(device)
        await send.prepare()
        loop = asyncio.get_running_loop()
        try:
            while True:
                self._wanted.clear()
                self._withdrawn.clear()
                payload = self._take()
                if payload is None:
                    await self._wanted.wait()
                    continue
                next_at = loop.time() + self._interval_s + random.random() * JITTER_S
                await send.send(payload, self._withdrawn)
                await asyncio.sleep(next_at - loop.time())
        finally:
            if self._controller.device is device:
                await send.stop()


class _Extended:
    """An advertising set of Bluetooth 5, which sends each payload in one advert."""

    def __init__(self, device: HostDevice) -> None:
        self._device = device
        self._sent = asyncio.Event()
        device.on(device.EVENT_SENT, self._sent.set)

    async def prepare(self) -> None:
        device = self._device
        await device.send_sync_command(
            hci.HCI_LE_Set_Extended_Advertising_Parameters_Command(
                advertising_handle=_HANDLE,
                advertising_event_properties=(
                    hci.HCI_LE_Set_Extended_Advertising_Parameters_Command.AdvertisingProperties.USE_LEGACY_ADVERTISING_PDUS
                ),
                primary_advertising_interval_min=round(INTERVAL_S / _UNIT_S),
                primary_advertising_interval_max=round(INTERVAL_S / _UNIT_S),
                primary_advertising_channel_map=_ALL_CHANNELS,
                own_address_type=hci.OwnAddressType.RANDOM,
                peer_address_type=0,
                peer_address=hci.Address.ANY,
                advertising_filter_policy=0,
                advertising_tx_power=hci.HCI_LE_Set_Extended_Advertising_Parameters_Command.TX_POWER_NO_PREFERENCE,
                primary_advertising_phy=hci.Phy.LE_1M,
                secondary_advertising_max_skip=0,
                secondary_advertising_phy=hci.Phy.LE_1M,
                advertising_sid=0,
                scan_request_notification_enable=0,
            )
        )
        await device.send_sync_command(
            hci.HCI_LE_Set_Advertising_Set_Random_Address_Command(
                advertising_handle=_HANDLE, random_address=device.random_address
            )
        )

    async def send(self, payload: bytes, withdrawn: asyncio.Event) -> None:
        await self._device.send_sync_command(
            hci.HCI_LE_Set_Extended_Advertising_Data_Command(
                advertising_handle=_HANDLE,
                operation=hci.HCI_LE_Set_Extended_Advertising_Data_Command.Operation.COMPLETE_DATA,
                fragment_preference=hci.HCI_LE_Set_Extended_Advertising_Parameters_Command.SHOULD_NOT_FRAGMENT,
                advertising_data=payload,
            )
        )
        if withdrawn.is_set():
            return
        self._sent.clear()
        await self._enable(1)
        try:
            async with asyncio.timeout(_SENT_S):
                await self._sent.wait()
        except TimeoutError:
            await self.stop()

    async def stop(self) -> None:
        await self._enable(0)

    async def _enable(self, enable: int) -> None:
        await self._device.send_sync_command(
            hci.HCI_LE_Set_Extended_Advertising_Enable_Command(
                enable=enable,
                advertising_handles=[_HANDLE],
                durations=[0],
                max_extended_advertising_events=[1],
            )
        )


class _Legacy:
    """The advert of a controller of Bluetooth 4, which is switched on for each payload."""

    def __init__(self, device: HostDevice) -> None:
        self._device = device

    async def prepare(self) -> None:
        await self._device.send_sync_command(
            hci.HCI_LE_Set_Advertising_Parameters_Command(
                advertising_interval_min=round(_INTERVAL_OF_COMMAND_4_S / _UNIT_S),
                advertising_interval_max=round(_INTERVAL_OF_COMMAND_4_S / _UNIT_S),
                advertising_type=_NON_CONNECTABLE,
                own_address_type=hci.OwnAddressType.RANDOM,
                peer_address_type=0,
                peer_address=hci.Address.ANY,
                advertising_channel_map=_ALL_CHANNELS,
                advertising_filter_policy=0,
            )
        )

    async def send(self, payload: bytes, withdrawn: asyncio.Event) -> None:
        await self._device.send_sync_command(hci.HCI_LE_Set_Advertising_Data_Command(advertising_data=payload))
        if withdrawn.is_set():
            return
        await self._device.send_sync_command(hci.HCI_LE_Set_Advertising_Enable_Command(advertising_enable=1))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTERVAL_S):
                await withdrawn.wait()
        await self.stop()

    async def stop(self) -> None:
        await self._device.send_sync_command(hci.HCI_LE_Set_Advertising_Enable_Command(advertising_enable=0))

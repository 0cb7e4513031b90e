"""A Bluetooth controller on the virtual air: Bumble's, with the radio that it lacks.

What Bumble 0.0.236 does not do, and this one does: it sends legacy adverts that are not connectable, at the interval
that the host asks for, with the jitter of a controller, once each, and of at most 31 octets; it ends an advertising set
after a number of adverts or a time; it reports an advert as what it is; it listens by scan window and interval; and it
reports a connection by the event that the host has asked for.
"""

import asyncio
from typing import Any

from bumble import hci
from bumble.controller import AdvertisingSet, Controller, LegacyAdvertiser
from bumble.device import Device
from bumble.host import Host
from bumble.transport.common import AsyncPipeSink

from gateway_agent.radios.virtual_air.air import RSSI, AdvertPdu, Ear, VirtualAir

ADVERT_MAX = 31
"""Octets of a legacy advert, without its header and address."""
KINDS = {0: "ADV_IND", 2: "ADV_SCAN_IND", 3: "ADV_NONCONN_IND"}
"""The kinds of legacy adverts that are on this air."""
_SCAN_RSP = 4
_CONNECTABLE, _SCANNABLE, _LEGACY = 1, 2, 16  # properties of an advertising set
_UNIT_S = 0.000625
_ENHANCED = 1 << 9  # the event of a connection that a host gets if it has asked for it; Linux waits for no other
_TIME_IS_OVER, _LIMIT_REACHED = 0x3C, 0x43
_DURATION_S = 0.010  # unit
_EXTENDED = {
    hci.HCI_LE_SET_ADVERTISING_SET_RANDOM_ADDRESS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_ADVERTISING_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_ADVERTISING_DATA_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_RESPONSE_DATA_COMMAND,
    hci.HCI_LE_SET_EXTENDED_ADVERTISING_ENABLE_COMMAND,
    hci.HCI_LE_READ_MAXIMUM_ADVERTISING_DATA_LENGTH_COMMAND,
    hci.HCI_LE_READ_NUMBER_OF_SUPPORTED_ADVERTISING_SETS_COMMAND,
    hci.HCI_LE_REMOVE_ADVERTISING_SET_COMMAND,
    hci.HCI_LE_CLEAR_ADVERTISING_SETS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_ENABLE_COMMAND,
    hci.HCI_LE_EXTENDED_CREATE_CONNECTION_COMMAND,
}


class AirController(Controller):
    """A controller, with the advertising sets of Bluetooth 5 if `extended`, else with one advert as in Bluetooth 4."""

    link: VirtualAir
    le_acl_data_packet_length = 251
    total_num_le_acl_data_packets = 12

    def __init__(
        self, air: VirtualAir, address: str, *, extended: bool = False, ear: Ear | None = None, **host: Any
    ) -> None:
        """`address` is a public one. `host` is empty, or has `host_source` and `host_sink`, the transport to a host."""
        public = hci.Address(address, hci.Address.PUBLIC_DEVICE_ADDRESS)
        super().__init__(address, link=air, public_address=public, **host)
        self.ear = ear or Ear()
        self._phase_s = air.random.random()
        self._is_stalled = False
        self._held: list[hci.HCI_AclDataPacket] = []
        self.le_legacy_advertiser = _Advertiser(self)
        if extended:
            self.supported_commands = self.supported_commands | _EXTENDED
        else:
            self.le_features &= ~hci.LeFeatureMask.LE_EXTENDED_ADVERTISING

    def device(self) -> Device:
        """Return a host for this controller, in this process."""
        return Device(name=self.name, address=self.public_address, host=Host(self, AsyncPipeSink(self)))

    def advertise(self, kind: int, interval_s: float, data: bytes, response: bytes = b"") -> None:
        """Send adverts of one of the KINDS until it is called again or `le_legacy_advertiser.stop` is."""
        advertiser = self.le_legacy_advertiser
        advertiser.own_address_type = hci.Address.PUBLIC_DEVICE_ADDRESS
        advertiser.advertising_type, advertiser.advertising_interval_min = kind, round(interval_s / _UNIT_S)
        advertiser.advertising_data, advertiser.scan_response_data = data, response
        advertiser.start()

    # Listening

    def listens(self, now_s: float) -> bool:
        """Return whether an advert that is sent now can be heard."""
        if not self.le_scan_enable and self.pending_le_connection is None:
            return False
        scanning = self.le_scan_window * _UNIT_S, self.le_scan_interval * _UNIT_S
        return all(
            window_s >= interval_s or (now_s + self._phase_s) % interval_s < window_s
            for window_s, interval_s in (scanning, (self.ear.window_s, self.ear.interval_s))
        )

    def hear(self, advert: AdvertPdu) -> None:
        """Report an advert that was heard to the host, and connect if the host waits for its sender."""
        if self.le_scan_enable:
            self.report(advert)
        wanted = self.pending_le_connection
        if wanted is not None and advert.connectable and wanted.peer_address == advert.advertiser_address:
            self.create_le_connection(advert.advertiser_address)

    def report(self, advert: AdvertPdu) -> None:
        """Report an advert to the host, and the answer to a scan request if the host asked for active scanning."""
        self._report(advert, advert.kind, advert.data)
        if self.le_scan_type == 1 and advert.kind != 3:  # hosts wait for an answer, even for an empty one
            self._report(advert, _SCAN_RSP, advert.response)

    def on_hci_le_set_extended_scan_parameters_command(
        self, command: hci.HCI_LE_Set_Extended_Scan_Parameters_Command
    ) -> hci.HCI_StatusReturnParameters:
        self.le_scan_type = command.scan_types[0]
        self.le_scan_interval, self.le_scan_window = command.scan_intervals[0], command.scan_windows[0]
        return super().on_hci_le_set_extended_scan_parameters_command(command)

    def on_hci_le_create_connection_cancel_command(
        self, _command: hci.HCI_LE_Create_Connection_Cancel_Command
    ) -> hci.HCI_StatusReturnParameters:
        wanted, self.pending_le_connection = self.pending_le_connection, None
        if wanted is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        self.send_hci_packet(
            hci.HCI_LE_Connection_Complete_Event(
                status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
                connection_handle=0,
                role=hci.Role.CENTRAL,
                peer_address_type=wanted.peer_address.address_type,
                peer_address=wanted.peer_address,
                connection_interval=0,
                peripheral_latency=0,
                supervision_timeout=0,
                central_clock_accuracy=0,
            )
        )
        return super().on_hci_le_create_connection_cancel_command(_command)

    def _report(self, advert: AdvertPdu, kind: int, data: bytes) -> None:
        sender = advert.advertiser_address
        if not self.le_features & hci.LeFeatureMask.LE_EXTENDED_ADVERTISING:
            report = hci.HCI_LE_Advertising_Report_Event.Report(
                event_type=kind, address_type=sender.address_type, address=sender, data=data, rssi=RSSI
            )
            self.send_hci_packet(hci.HCI_LE_Advertising_Report_Event([report]))
            return
        properties = {0: 0b11, 2: 0b10, 3: 0}[advert.kind] | _LEGACY | (8 if kind == _SCAN_RSP else 0)
        extended = hci.HCI_LE_Extended_Advertising_Report_Event.Report(
            event_type=properties,
            address_type=sender.address_type,
            address=sender,
            primary_phy=hci.Phy.LE_1M,
            secondary_phy=0,
            advertising_sid=0xFF,
            tx_power=127,
            rssi=RSSI,
            periodic_advertising_interval=0,
            direct_address_type=0,
            direct_address=hci.Address.ANY,
            data=data,
        )
        self.send_hci_packet(hci.HCI_LE_Extended_Advertising_Report_Event([extended]))

    # Connections

    def send_hci_packet(self, packet: hci.HCI_Packet) -> None:
        if isinstance(packet, hci.HCI_LE_Connection_Complete_Event) and self.le_event_mask & _ENHANCED:
            packet = hci.HCI_LE_Enhanced_Connection_Complete_Event(
                status=packet.status,
                connection_handle=packet.connection_handle,
                role=packet.role,
                peer_address_type=packet.peer_address_type,
                peer_address=packet.peer_address,
                local_resolvable_private_address=hci.Address.ANY,
                peer_resolvable_private_address=hci.Address.ANY,
                connection_interval=packet.connection_interval,
                peripheral_latency=packet.peripheral_latency,
                supervision_timeout=packet.supervision_timeout,
                central_clock_accuracy=packet.central_clock_accuracy,
            )
        super().send_hci_packet(packet)

    def on_hci_acl_data_packet(self, packet: hci.HCI_AclDataPacket) -> None:
        if self._is_stalled:
            self._held.append(packet)  # at most as many as the host was told that there is room for
        else:
            super().on_hci_acl_data_packet(packet)

    def stall(self, is_stalled: bool) -> None:
        """Keep back what the host sends over connections, as if no peer acknowledged it, or send it after all."""
        self._is_stalled = is_stalled
        while self._held and not is_stalled:
            super().on_hci_acl_data_packet(self._held.pop(0))

    # Advertising sets

    def on_hci_le_set_advertising_data_command(
        self, command: hci.HCI_LE_Set_Advertising_Data_Command
    ) -> hci.HCI_StatusReturnParameters:
        if len(command.advertising_data) > ADVERT_MAX:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.INVALID_COMMAND_PARAMETERS_ERROR)
        return super().on_hci_le_set_advertising_data_command(command)

    def on_hci_le_set_advertising_set_random_address_command(
        self, command: hci.HCI_LE_Set_Advertising_Set_Random_Address_Command
    ) -> hci.HCI_StatusReturnParameters:
        self._add_set(command.advertising_handle)
        return super().on_hci_le_set_advertising_set_random_address_command(command)

    def on_hci_le_set_extended_advertising_parameters_command(
        self, command: hci.HCI_LE_Set_Extended_Advertising_Parameters_Command
    ) -> hci.HCI_LE_Set_Extended_Advertising_Parameters_ReturnParameters:
        self._add_set(command.advertising_handle)
        return super().on_hci_le_set_extended_advertising_parameters_command(command)

    def on_hci_le_set_extended_advertising_data_command(
        self, command: hci.HCI_LE_Set_Extended_Advertising_Data_Command
    ) -> hci.HCI_StatusReturnParameters:
        if len(command.advertising_data) > ADVERT_MAX:  # adverts on this air are legacy ones
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.INVALID_COMMAND_PARAMETERS_ERROR)
        return super().on_hci_le_set_extended_advertising_data_command(command)

    def on_hci_le_set_extended_advertising_enable_command(
        self, command: hci.HCI_LE_Set_Extended_Advertising_Enable_Command
    ) -> hci.HCI_StatusReturnParameters:
        if command.enable:
            limits = zip(command.durations, command.max_extended_advertising_events, strict=True)
            for handle, (duration, most) in zip(command.advertising_handles, limits, strict=True):
                one = self.advertising_sets.get(handle)
                if isinstance(one, _Set):
                    one.life_s, one.most = duration * _DURATION_S, most
        return super().on_hci_le_set_extended_advertising_enable_command(command)

    def on_hci_le_read_maximum_advertising_data_length_command(
        self, _command: hci.HCI_LE_Read_Maximum_Advertising_Data_Length_Command
    ) -> hci.HCI_LE_Read_Maximum_Advertising_Data_Length_ReturnParameters:
        answer = super().on_hci_le_read_maximum_advertising_data_length_command(_command)
        answer.max_advertising_data_length = ADVERT_MAX
        return answer

    def _add_set(self, handle: int) -> None:
        if handle not in self.advertising_sets:
            self.advertising_sets[handle] = _Set(self, handle)


class _Advertiser(LegacyAdvertiser):
    """The one advert of a controller of Bluetooth 4."""

    controller: AirController

    def _on_timer_fired(self) -> None:
        loop, air = asyncio.get_running_loop(), self.controller.link
        advert = AdvertPdu(self.address, self.advertising_type, self.advertising_data, self.scan_response_data)
        self.controller.send_advertising_pdu(advert)
        if self.enabled:  # a central may have connected
            pause_s = air.pause_s(self.advertising_interval_min * _UNIT_S)
            self.timer_handle = loop.call_later(pause_s, self._on_timer_fired)


class _Set(AdvertisingSet):
    """An advertising set with legacy adverts. It ends after `most` adverts or `life_s` seconds, unless that is 0."""

    controller: AirController
    most = 0
    life_s = 0.0

    def start(self) -> None:
        """Send the first advert now; a set that is started again begins anew."""
        self.stop()
        loop = asyncio.get_running_loop()
        self.enabled, self._sent, self._began = True, 0, loop.time()
        self.timer_handle = loop.call_soon(self._on_extended_advertising_timer_fired)

    def _on_extended_advertising_timer_fired(self) -> None:
        assert self.parameters is not None and self.address is not None
        properties = int(self.parameters.advertising_event_properties)
        kind = 0 if properties & _CONNECTABLE else 2 if properties & _SCANNABLE else 3
        self.controller.send_advertising_pdu(
            AdvertPdu(self.address, kind, bytes(self.data), bytes(self.scan_response_data))
        )
        if not self.enabled:
            return
        self._sent += 1
        is_over = self.life_s and asyncio.get_running_loop().time() - self._began >= self.life_s
        if self._sent == self.most or is_over:
            self.stop()
            self.controller.send_hci_packet(
                hci.HCI_LE_Advertising_Set_Terminated_Event(
                    status=_TIME_IS_OVER if is_over else _LIMIT_REACHED,
                    advertising_handle=self.handle,
                    connection_handle=0,
                    num_completed_extended_advertising_events=self._sent,
                )
            )
            return
        pause_s = self.controller.link.pause_s(self.parameters.primary_advertising_interval_min * _UNIT_S)
        self.timer_handle = asyncio.get_running_loop().call_later(pause_s, self._on_extended_advertising_timer_fired)

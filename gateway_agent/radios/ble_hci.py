"""The sender `hci`: a USB or serial Bluetooth controller that neither the kernel nor another program uses."""

from collections import Counter

from bumble.transport import open_transport
from bumble.transport.common import Transport

from gateway_agent.radios.ble import BleSection
from gateway_agent.radios.ble_sender import NoSender
from gateway_agent.radios.bumble_controller import OwnController
from gateway_agent.radios.bumble_sender import BumbleSender

_REMEDY = "Plug it in, end what else uses it, or name another one as adapter in [ble]."


def open_sender(section: BleSection, counters: Counter[str]) -> BumbleSender:
    """Return the sender on the controller that `adapter` names, a transport of Bumble such as "usb:0"."""
    transport = section.adapter
    if ":" not in transport:
        raise NoSender(
            f'The sender "hci" needs a controller of its own, and {transport!r} names none.',
            'Name it as adapter in [ble], such as "usb:0" or "serial:/dev/ttyACM0,1000000".',
        )
    return BumbleSender("hci", OwnController(transport, lambda: _open(transport), _REMEDY), section.company_id)


async def _open(transport: str) -> Transport:
    """Open a transport. Raises the exceptions of Bumble, and OSError for those of libusb."""
    if not transport.startswith("usb:"):
        return await open_transport(transport)
    from usb1 import USBError  # type: ignore[import-untyped]  # it needs libusb, which a serial controller does not

    try:
        return await open_transport(transport)
    except USBError as fault:
        raise OSError(f"the USB of this machine refuses it ({fault})") from fault

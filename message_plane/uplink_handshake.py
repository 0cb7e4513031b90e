"""EDHOC as initiator over CoAP, upwards: from a PNE to its PN GW and from a PN GW to the CPNS Server."""

from __future__ import annotations

from typing import Any

from aiocoap import CHANGED, POST, UNAUTHORIZED, Message  # type: ignore[import-untyped]

from cpns import numbers
from cpns.errors import MalformedMessage
from message_plane.credentials import Credential
from message_plane.edhoc import C_I_LEN, Established, HandshakeBroken, Initiator
from message_plane.errors import HandshakeFailed, HandshakeRefused, PeerRefused
from message_plane.exchanges import Exchanges
from message_plane.identity import OwnIdentity
from message_plane.links.link import Address

_PATH = (".well-known", "edhoc")


class _Refused(Exception):
    """The responder has sent an EDHOC error (RFC 9528, 6)."""


async def shake_hands(
    own: OwnIdentity, peer: Credential, c_i: bytes, exchanges: Exchanges, address: Address
) -> Established:
    """Do one handshake with `peer` at `address` and return its result. `c_i`: C_I_LEN random octets, not in use.

    Raises HandshakeFailed, HandshakeRefused, PeerRefused (limits of the peer), PeerUnreachable. There is no time
    limit; the caller may cancel.
    """
    if len(c_i) != C_I_LEN:
        raise ValueError(f"C_I has {C_I_LEN} octets")
    try:
        initiator = Initiator(own, peer, c_i)
        message_2 = await _post(exchanges, address, b"\xf5" + initiator.message_1, numbers.CONTENT_CID_EDHOC)
        message_3 = initiator.message_3(message_2)
        return initiator.finish(await _post(exchanges, address, message_3, numbers.CONTENT_CID_EDHOC))
    except _Refused:
        raise HandshakeRefused(f"{peer.entity_id!r} refuses a session: it does not know this end, or its key") from None
    except HandshakeBroken as broken:
        raise HandshakeFailed(f"no session with {peer.entity_id!r}: {broken}") from None
    except MalformedMessage as broken:
        raise HandshakeFailed(f"no session with {peer.entity_id!r}: {broken.reason}") from None


async def _post(exchanges: Exchanges, address: Address, payload: bytes, content_format: int) -> bytes:
    response = await exchanges.ask(_request(address, payload, content_format))
    if response.code == UNAUTHORIZED and response.opt.echo is not None:  # RFC 9175: proves the address of this end
        response = await exchanges.ask(_request(address, payload, content_format, echo=response.opt.echo))
    if response.code == CHANGED:
        return bytes(response.payload)
    if response.opt.content_format == numbers.CONTENT_EDHOC:
        raise _Refused
    raise PeerRefused(response.code.dotted, "EDHOC was refused")


def _request(address: Address, payload: bytes, content_format: int, **options: Any) -> Any:
    request = Message(code=POST, uri_path=_PATH, content_format=content_format, payload=payload, **options)
    request.remote = address
    return request

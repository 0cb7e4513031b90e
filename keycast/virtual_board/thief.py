"""An attacker who has the flashes of removed boards, and tries all that is in them on every broadcast he ever heard.

He does not follow the protocol. Beside opening an object as a member does, he uses each 16 consecutive octets of each
flash as a key, as a label and as an old Group Key, and tries them on each entry. If he has broken into the PN GW he
tries them as Entity User Keys, too, on the wrapped keys that it has carried.
"""

import socket
from collections.abc import Iterable, Iterator

from cpns import advert, broadcast_object, entity_user_key, numbers
from cpns.broadcast_encryption import subset_index
from cpns.broadcast_encryption.gkdk import GkdkRecord
from cpns.broadcast_encryption.wrapping import commitment, w16_unwrap
from cpns.crypto.hmac import h16
from cpns.errors import CpnsError
from keycast.virtual_board import loopback
from keycast.virtual_board.nvs_folder import NvsFolder


class Thief:
    """An attacker with the octets of `flashes`. `hear` adds frames; `readable` tells which of them he can open."""

    def __init__(self, flashes: Iterable[NvsFolder]) -> None:
        self._records: list[GkdkRecord] = []
        found: set[bytes] = set()
        for flash in flashes:
            image = flash.snapshot()
            octets = image.octets()
            found.update(octets[at : at + 16] for at in range(len(octets) - 15))
            for name in image.names():
                if name.startswith("gkdk"):
                    self._records += _records_in(image.get(name) or b"")
        self._octets = sorted(found)
        derived = {h16(octets, text) for octets in found for text in (b"sd1.k", b"sd1.rk")}
        self._keys = sorted(found | derived)
        self.frames: list[bytes] = []

    def hear(self, frames: Iterable[bytes]) -> None:
        """Add broadcast datagrams to those that he heard."""
        self.frames += frames

    def hear_adverts(self, adverts: Iterable[bytes], pn_alias: int) -> int:
        """Add the broadcasts that he gets out of adverts (24 octets each) with the frame keys that he has; count them.

        He knows the alias of the PN, as each board does.
        """
        heard = list(adverts)
        found = [frame for record in self._records for frame in _objects_in(heard, record.frame_key(), pn_alias)]
        self.frames += found
        return len(found)

    def opens(self, pne_id: str, sg_id: str, version: int, wrapped: bytes) -> bool:
        """Return True if he gets at the Group Key that was wrapped for this PNE, Service Group and version."""
        for octets in self._octets:
            try:
                entity_user_key.decrypt(octets, pne_id, sg_id, version, wrapped)
            except CpnsError:
                continue
            return True
        return False

    def readable(self) -> list[int]:
        """Return the versions whose Group Key he gets out of the frames that he heard, in order."""
        versions = set()
        for frame in self.frames:
            if frame[:1] != bytes([numbers.FRAME_COSE_SIGN1]):
                continue
            received = broadcast_object.parse(frame)
            if isinstance(received, broadcast_object.Received) and self._opens(received):
                versions.add(received.version)
        return sorted(versions)

    def _opens(self, received: broadcast_object.Received) -> bool:
        for record in self._records:
            try:
                index, wrapped = record.own_entry(received.entries)
                if self._fits(received, record.subset_key(index), wrapped):
                    return True
            except CpnsError:
                continue  # this fails as a member; the search below may still succeed
        height = self._records[0].height if self._records else 10
        step = subset_index.width(height) + 16
        for at in range(0, len(received.entries), step):
            wrapped = received.entries[at + step - 16 : at + step]
            if any(self._fits(received, key, wrapped) for key in self._keys):
                return True
        return False

    @staticmethod
    def _fits(received: broadcast_object.Received, key: bytes, wrapped: bytes) -> bool:
        names = received.pn_alias, received.sg_alias, received.generation, received.version
        return bool(commitment(w16_unwrap(key, wrapped), *names) == received.commit)


def _records_in(octets: bytes) -> list[GkdkRecord]:
    for start in range(min(len(octets), 16)):  # the record follows the head of the key store
        try:
            return [GkdkRecord.parse(octets[start:])]
        except CpnsError:
            continue
    return []


def _objects_in(adverts: Iterable[bytes], frame_key: bytes, pn_alias: int) -> Iterator[bytes]:
    """Yield the signed broadcasts that adverts under a frame key hold."""
    objects = advert.Reassembly()
    for each in adverts:
        kind, body = advert.opened(frame_key, each) or (None, b"")
        whole = objects.take(body, 0) if kind == advert.ROW else None
        if whole is None:
            continue
        steps = objects.finish(whole, pn_alias)
        try:
            while True:
                next(steps)
        except StopIteration as end:
            if end.value:
                yield end.value
        except CpnsError:
            continue


_ALIAS_AT = {numbers.FRAME_GROUP_MESSAGE: 2, numbers.FRAME_BEACON: 1}  # docs/protocol.md sections 6 and 8


def pn_alias_of(frame: bytes) -> int | None:
    """Return the PN alias in a frame of the broadcast plane, or None if it is no such frame."""
    if frame[:1] == bytes([numbers.FRAME_COSE_SIGN1]):
        try:
            return int(broadcast_object.parse(frame).pn_alias)
        except CpnsError:
            return None
    at = _ALIAS_AT.get(frame[0]) if frame else None
    return None if at is None or len(frame) < at + 4 else int.from_bytes(frame[at : at + 4], "big")


class Sniffer:
    """A receiver of all frames on the broadcast plane of this process's houses, or at the given address and port.

    With a `pn_alias` it returns only frames of that PN.
    """

    def __init__(
        self, address: str = loopback.EVERYBODY, port: int | None = None, *, pn_alias: int | None = None
    ) -> None:
        place = address, loopback.broadcast_port() if port is None else port
        self._pn_alias = pn_alias
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.bind(place)
        self._socket.setblocking(False)
        self._everybody = place

    def frames(self) -> list[bytes]:
        """Return all frames heard since the last call, in order."""
        heard: list[bytes] = []
        while True:
            try:
                frame = self._socket.recv(2048)
            except BlockingIOError:
                return heard
            if self._pn_alias in (None, pn_alias_of(frame)):
                heard.append(frame)

    def send(self, frame: bytes) -> None:
        """Broadcast a frame, such as a replay or a forgery; this sniffer hears it, too."""
        self._socket.sendto(frame, self._everybody)

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

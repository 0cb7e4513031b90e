"""Addresses where the PN GW may be: its last one, those that answer a question to everybody, then the provisioned one.

An address is a hint, never a proof: EDHOC with the pinned credential, or the session, decides (docs/protocol.md
section 3). The record `addr` holds the last address of the PN GW; it is not secret, and written only when it changes.
"""

from device_agent import tuning

RECORD = "addr"
_GET, _CONTENT = 0x01, 0x45
_URI_PATH, _URI_QUERY = 11, 15
_OPTIONS = ((_URI_PATH, b".well-known"), (_URI_PATH, b"core"), (_URI_QUERY, b"rt=keycast.gw"))


class Discovery:
    """The search for the PN GW. `store` is a KeyStore, `links` are ports.Link, `hint` is the provisioned address.

    Addresses are (link, address of that link).

    `patience` is how many ms to wait for an answer from the address that `next` returned: few if none came yet.
    """

    def __init__(self, store, links, hint):
        self._store = store
        self._links = links
        kept = store.load(RECORD)
        self._kept = kept.decode() if kept else ""
        self._hint = self._address(hint)
        self._last = self._address(self._kept)
        self._try_last = True
        self._next = []  # (address, patience)
        self.patience = tuning.EDHOC_TIMEOUT

    def next(self):
        """Return the next address to try, another one each time if possible, or None if there is none. A flow."""
        last, hint = [address if address and address[0].up() else None for address in (self._last, self._hint)]
        known = last or hint
        if self._try_last and known:  # if it answers at once, the others need not be asked
            self._try_last = False
            answer = yield (known, _GET, _OPTIONS, b"", tuning.PROBE_TIMEOUT)
            if answer is not None and _is_gateway(answer):
                self.patience = tuning.EDHOC_TIMEOUT
                return known
        if not self._next:
            answers = yield (None, _GET, _OPTIONS, b"", tuning.DISCOVERY_TIMEOUT)
            found = [address for address, answer in answers if _is_gateway(answer)]
            for address in (last, hint):
                if address and address not in found:
                    self._next.append((address, tuning.SILENT_TIMEOUT))
            for address in reversed(found):
                self._next.insert(0, (address, tuning.EDHOC_TIMEOUT))
            if not self._next:
                return None
        address, self.patience = self._next.pop(0)
        return address

    def keep(self, address):
        """Note that the PN GW was reached at `address`: it is tried first, also after a restart. Raises OSError."""
        self._try_last = True
        self._next = []
        self._last = address
        text = address[0].text(address[1])
        if text and text != self._kept:
            self._store.save(RECORD, text.encode())
            self._kept = text

    def forget(self):
        """Forget the last address, as another PN GW takes over. Raises OSError."""
        self._store.erase(RECORD)
        self._kept, self._last = "", None

    def _address(self, text):
        for link in self._links if text else ():
            try:
                return link, link.address(text)
            except ValueError:  # not an address, or one of another kind of network
                pass
        return None


def _is_gateway(answer):
    return answer.code == _CONTENT and b'"keycast.gw"' in answer.payload

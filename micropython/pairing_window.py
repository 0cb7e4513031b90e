"""Pairing without an application (SEC-20): the identity and the secret of a board without gateway, and its window.

The window is open for five minutes after each start without gateway, and after the button was held for three seconds.
The secret is printed, for people and for tools: `keycast: pairing-secret NAME ABCD-EFGH-IJKL-MNOP`.
"""

import sys

HELD_MS = 3000
CHECK_MS = 200


def prepare(storage, store):
    """Return True if the board has a gateway, False if not, None if its identity was made just now.

    In the last case the heap is full of what that took. Name and secret of a board without gateway are printed.
    `storage` is a ports.Storage, `store` the KeyStore on it. Raises OSError and CpnsError.
    """
    import machine

    from device_agent import provisioning, unpaired

    new = store.load(provisioning.RECORD) is None
    identity = unpaired.prepare(storage, store, _Random(store, new), "board-" + machine.unique_id()[-3:].hex())
    if not identity.paired:
        _print(identity.pne_id, unpaired.shown(unpaired.secret(store)))
    sys.modules.pop("device_agent.unpaired", None)
    return None if new else identity.paired


async def serve(node, pressed):
    """Open the window of `node`, an api.Node, whenever it is time. Returns if it has a gateway and there is no button.

    `pressed()` returns True while the button is pressed; it is None without a button.
    """
    import asyncio

    wanted = not node.paired
    while True:
        if wanted:
            await _open(node)
        if pressed is None:
            return
        while pressed():  # from the time before, or stuck
            await asyncio.sleep_ms(CHECK_MS)
        held = 0
        while held < HELD_MS:
            await asyncio.sleep_ms(CHECK_MS)
            held = held + CHECK_MS if pressed() else 0
        wanted = True


async def _open(node):
    from cpns.errors import CpnsError

    try:
        await node.pair(lambda secret: _print(node.id, secret))
        print("paired:", node.id, "belongs to", node.gateway_id)
        own, server = node.credentials
        if server:
            from cpns.fingerprint import fingerprint

            print("paired: the CPNS Server of end-to-end groups is", fingerprint(server))
            print("paired: that Server must know this board as", fingerprint(own))
            sys.modules.pop("cpns.fingerprint", None)
    except (CpnsError, OSError) as error:
        print("the pairing window is closed:", error)


def _print(name, secret):
    print("keycast: pairing-secret", name, "-".join([secret[at : at + 4] for at in (0, 4, 8, 12)]))


class _Random:
    # The generator, with a radio on from the first call at the latest (SEC-17), or at once: large modules come then
    def __init__(self, store, at_once):
        self._store = store
        self._draw = None
        if at_once:
            self()

    def __call__(self, n=0):
        if self._draw is None:
            import os

            import network

            network.WLAN(network.STA_IF).active(True)
            from device_agent.entropy import Entropy

            self._draw = Entropy(self._store, os.urandom)
        return self._draw(n)

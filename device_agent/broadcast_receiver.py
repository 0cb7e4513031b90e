"""The receiver of broadcasts: Group Keys, signed deletes, group messages, beacons (docs/protocol.md sections 5, 6, 8).

By the order of section 5 only members can cause a signature check of a Group Key; any sender can for a delete. The
limiter keeps them from occupying the board with checks, and the key is pulled instead (SEC-09). No broadcast is
answered to its sender.
"""

import hashlib

from cpns import broadcast_object, group_message
from cpns import numbers as n
from cpns import tuning as limits
from cpns.broadcast_encryption.wrapping import commitment
from cpns.errors import CpnsError, MalformedMessage, NotAddressed, NotAllowed, NotAuthentic, Stale, TooMany, Unknown
from cpns.key_ring import BROADCAST
from device_agent import tuning
from device_agent.crypto.p256 import VerifyingKey, unhurried
from device_agent.group_traffic import GroupTraffic
from device_agent.session import unload


class Limiter:
    """Count of the bad signatures of a Service Group, or of updates: broadcasts are ignored before the time `until`."""

    def __init__(self):
        self.until = 0
        self._times = []
        self._wait = limits.BROADCAST_IGNORE_MIN_S * 1000

    def bad(self, now):
        """Count a bad signature. Return True if it was one too many, and `until` was set."""
        self._times = [time for time in self._times if now - time < limits.BAD_SIGNATURE_WINDOW_S * 1000]
        self._times.append(now)
        if len(self._times) < limits.BAD_SIGNATURES_MAX:
            return False
        self._times = []
        self.until = now + self._wait
        self._wait = min(2 * self._wait, limits.BROADCAST_IGNORE_MAX_S * 1000)
        return True


class BroadcastReceiver:
    """The broadcast plane of a PNE. The agent passes `membership`, `store`, `clock`, `random(n)`, `tell(name, values)`.

    `kinds` is a table from the first octet of a datagram to a function of it that returns a flow, or acts at once and
    returns None. A module may add its own. `not_ours` is None or called with (PN alias, generation) of a key or beacon
    for another PN or Service Group, of which nothing was verified. `verifications` counts checked signatures, `refused`
    refused datagrams by the name of their error.
    """

    def __init__(self, membership, store, clock, random, tell):
        self._membership = membership
        self._store = store
        self._clock = clock
        self._random = random
        self._tell = tell
        self._limiters = {}  # by (SG ID, True for keys): outsiders can send deletes with bad signatures
        self._traffic = {}  # by SG ID: GroupTraffic
        self._shown = {}  # by SG ID: version whose conflict was told
        self.key = None  # VerifyingKey of the PN GW, once it was needed
        self._prepared = b""
        self.not_ours = None
        self.kinds = {
            n.FRAME_COSE_SIGN1: self._signed,
            n.FRAME_GROUP_MESSAGE: self._message,
            n.FRAME_BEACON: lambda datagram: _if_room(self._beacon, datagram),
        }
        self.verifications = 0
        self.refused = {}

    def traffic(self, group):
        """Return the GroupTraffic of a group under its present names and protection. Raises Unknown without names."""
        names = (group.id, self._membership.pn_alias, group.alias, group.ring.protection)
        if None in names:
            raise Unknown("the gateway has not given the group its aliases yet")
        traffic = self._traffic.get(group.id)
        if traffic is None or traffic.names != names:
            own_id = self._membership.identity.pne_id
            traffic = GroupTraffic(self._store, group, names[1], own_id, self._random, self._clock.now())
            self._traffic[group.id] = traffic
            if group.windows_lost and group.windows_lost == group.version:
                self._membership.hint(group, self._clock.now())  # the pull reports the loss
        return traffic

    def forget(self, group):
        """Remove what is held of a group that was left or deleted."""
        for table in (self._traffic, self._shown):
            table.pop(group.id, None)
        for kind in (True, False):
            self._limiters.pop((group.id, kind), None)

    def receive(self, datagram):
        """Act on one datagram of the broadcast plane. A wrong one is counted in `refused`, no more. This is a flow.

        After None, one that was received in part, the keys of all groups are asked for: it may have been any of them.
        """
        if datagram is None:
            self._membership.hint_all(tuning.PULL_IGNORING)
            return
        try:
            act = self.kinds.get(datagram[0] if datagram else 0)
            if act is None:
                raise MalformedMessage("no broadcast of ours")
            flow = act(datagram)
            if flow:
                datagram = None  # the flow frees a kilobyte when it has a copy
                yield from flow
        except CpnsError as error:
            self.refuse(type(error).__name__)

    def refuse(self, name):
        """Count a refused datagram under `name`."""
        self.refused[name] = self.refused.get(name, 0) + 1

    def _signed(self, datagram):
        received = _if_room(broadcast_object.parse, datagram)
        datagram = None  # frees a kilobyte, which is copied by now
        group = self._group(received)
        is_key = hasattr(received, "commit")
        limiter = self._limiters.get((group.id, is_key))
        now = self._clock.now()
        if limiter and now < limiter.until:
            if is_key and received.version > group.version:
                self._membership.hint(group, now, tuning.PULL_IGNORING)  # it may be the genuine one
            raise TooMany("broadcasts of this group are ignored")
        if is_key:
            yield from self._group_key(group, received)
        else:
            yield from self._delete(group, received)

    def _group(self, received):
        group = self._membership.by_alias(received.pn_alias, received.sg_alias)
        if group is None:
            if self.not_ours and hasattr(received, "generation"):
                self.not_ours((received.pn_alias, received.generation))
            raise NotAddressed("another PN or Service Group")
        return group

    def _group_key(self, group, received):
        if group.ring.end_to_end:
            raise NotAllowed("the group is end-to-end")
        membership = self._membership
        gkdk = _if_room(membership.gkdks.get, received.generation)
        version = received.version
        try:
            if gkdk is None:
                if received.generation < membership.gkdks.newest:
                    raise Stale("a generation that is over")
                raise Unknown("a generation whose GKDK is not held")
            held = self._held(group, received) if version == group.version else None
            if not received.check(membership.pn_alias, group.alias, gkdk, group.ring.floor, held):
                return self._again(group)
            group.ring.admit(version, BROADCAST)
        except (NotAllowed, Unknown):
            membership.hint(group, self._clock.now())
            raise
        except NotAuthentic:
            if self._shown.get(group.id) != version:  # SEC-11: refuse, count, report once: anybody can send it
                self._shown[group.id] = version
                self._tell("conflict", {"group": group, "version": version})
            raise
        key, signed = _if_room(received.open, membership.identity.pn_id, group.id)
        yield from self._verify(group, True, signed, received.signature)
        if not group.joined:
            raise NotAddressed("left while the signature was checked")
        more = received.activation, received.reason, BROADCAST, received.generation
        if not membership.install(group, version, key, *more):  # another medium was faster
            return self._again(group)
        leisure = int.from_bytes(self._random(4), "big") * group.leisure >> 32
        group.confirm_at = self._clock.now() + leisure  # RFC 7252, 8.2

    def _held(self, group, received):
        # Return (version, COMMIT it must have), or None. One HMAC each time; a table of them would take a kilobyte
        key = group.ring.receiving_keys(self._clock.now() // 1000).get(received.version)
        if key is None:
            return None
        version = received.version
        return version, commitment(key, received.pn_alias, received.sg_alias, received.generation, version)

    def _again(self, group):
        # A duplicate: the PN GW may have missed the confirmation. At most once a minute, to the session only (SEC-11)
        now = self._clock.now()
        last = group.confirmed_at
        if group.confirm_at is None and (last is None or now - last >= limits.RECONFIRM_INTERVAL_S * 1000):
            group.confirm_at = now + (int.from_bytes(self._random(4), "big") * group.leisure >> 32)

    def _delete(self, group, received):
        membership = self._membership
        held = max(group.version, group.ring.floor or 0)
        names = membership.pn_alias, group.alias, held, membership.identity.pn_id, group.id
        signed = _if_room(received.check, *names)
        yield from self._verify(group, False, signed, received.signature)
        if group.joined:
            membership.delete(group, received.version)

    @property
    def prepared(self):
        """False if `prepare` has work to do: after the start, a pairing or a roll-over."""
        return self._prepared == self._membership.identity.signing_key

    def prepare(self):
        """Compute the table that the first verification needs, while nothing is urgent. This is a flow."""
        self._prepared = self._membership.identity.signing_key
        yield from self._signing_key().prepare()

    def spare(self):
        """Free the table that `prepare` made, for work that needs the heap more. A verification makes it anew."""
        self.key = None
        self._prepared = b""

    def _signing_key(self):
        octets = self._membership.identity.signing_key
        if self.key is None or self.key.octets != octets:
            self.key = VerifyingKey(octets)
        return self.key

    def _verify(self, group, is_key, signed, signature):
        self.verifications += 1
        try:
            yield from unhurried(self._signing_key().verify(hashlib.sha256(signed).digest(), signature))
        except NotAuthentic:
            now = self._clock.now()
            limiter = self._limiters.setdefault((group.id, is_key), Limiter())
            if limiter.bad(now):
                self._tell("ignoring", {"group": group, "seconds": (limiter.until - now) // 1000})
                self._membership.hint(group, now, 0)
            else:  # it may hide the genuine one: adverts of a finished object are left aside for a minute (SEC-10)
                self._membership.hint(group, now)
            raise
        self._limiters.pop((group.id, is_key), None)

    def _message(self, datagram):
        parsed = _if_room(group_message.parse, datagram)
        group = self._group(parsed)
        now = self._clock.now()
        try:
            traffic = self.traffic(group)
            lost = group.windows_lost
            opened = _if_room(traffic.receive, parsed, now)
        except Unknown:
            if parsed.version > group.version:
                self._membership.hint(group, now)
            raise
        if group.windows_lost != lost:
            self._membership.hint(group, now)  # the pull reports the loss
        self._tell("message", {"group": group, "opened": opened})

    def _beacon(self, datagram):
        try:
            from cpns import beacon
        except MemoryError:
            unload("cpns.beacon")  # a part of it may have been loaded
            raise
        heard = beacon.parse(datagram)
        group = self._group(heard)
        now = self._clock.now()
        key = group.ring.receiving_keys(now // 1000).get(heard.version)
        if heard.version >= group.version and not (key and beacon.verifies(heard, key, group.id)):
            self._membership.hint(group, now)


def _if_room(function, *values):
    # Anybody can send a datagram that is too long for a heap that is nearly full. These calls change no key and no
    # group, so it is refused then. A change that finds no room ends the agent: the board starts anew from its store.
    try:
        return function(*values)
    except MemoryError:
        raise TooMany("no room in the heap") from None

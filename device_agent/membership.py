"""The Service Groups of one PNE: create, join, pull, leave; deliveries, deletes, GKDKs and roll-overs of the PN GW.

All state is in the store before it is used or confirmed. Times are milliseconds of the clock port. The network's time
comes only from messages over the session, and never goes back.
"""

import hashlib

from cpns import cborlite, messages
from cpns import numbers as n
from cpns import tuning as limits
from cpns.errors import MalformedMessage, NotAllowed, NotMember, Stale, TooMany, Unknown, of_code
from cpns.key_ring import BROADCAST, UNICAST, KeyRing
from cpns.proof import confirmation
from device_agent import tuning
from device_agent.cose import verify_sign1
from device_agent.requests import CPNS
from device_agent.session import NoSession

RECORD = "groups"  # [PN alias or None, SG IDs of the groups this PNE is a member of], then those that are end-to-end
_NEVER = 1 << 62


def record_name(kind, sg_id):
    """Return the name of a record about a group: the letter `kind` and 48 bits of a hash, as NVS names are short."""
    return kind + hashlib.sha256(sg_id.encode()).digest()[:6].hex()


class ServiceGroup:
    """One Service Group: its state in the store, and the times at which to confirm its key or ask for a newer one."""

    named = 0  # the newest version of an end-to-end group, by the last word of the CPNS Server

    def __init__(self, sg_id, ring, alias=None, leisure=tuning.LEISURE_DEFAULT):
        self.id = sg_id
        self.ring = ring
        self.alias = alias  # SG alias; while None, no broadcast is accepted (SEC-04)
        self.leisure = leisure
        self.joined = False
        self.pull_at = _NEVER
        self.pulled_at = self.pull_wait = 0
        self.confirm_at = self.confirmed_at = None
        self.windows_lost = 0  # version under which replay windows were lost (SEC-24), 0 for none
        self.receipt = b""  # the newest receipt of the PN GW, which each pull returns to it (SEC-34)
        self.generation = 0  # of the GKDK that opened the newest key, 0 if it came over the session

    @property
    def version(self):
        """The newest version of which a key is held, 0 for none."""
        versions = self.ring.versions
        return versions[-1] if versions else 0

    @property
    def trust(self):
        """One of `numbers.TRUST_*`."""
        return n.TRUST_END_TO_END if self.ring.end_to_end else n.TRUST_GATEWAY


class Membership:
    """All memberships. The agent passes `store`, `identity`, `session`, `gkdks` (GkdkStore), `clock` and `random(n)`.

    `tell(name, values)` is called for the events "joined", "key", "left", "deleted", "expelled", "rolled over",
    "generation" and "withheld", with the ServiceGroup under "group" if it is about one.

    `load_server()` is called before the first end-to-end group, and returns what becomes `server`.
    """

    def __init__(self, store, identity, session, gkdks, clock, random, tell, load_server):
        self._store = store
        self._session = session
        self._clock = clock
        self._random = random
        self._tell = tell
        self._load_server = load_server
        self._unix = self._unix_at = 0  # the network's time in seconds, and the clock's at that moment
        self._assign_at = 0
        self.identity = identity
        self.gkdks = gkdks
        self.server = None  # end_to_end.server.Server
        self.groups = {}
        self.pn_alias = None
        record = store.load(RECORD)
        if record is not None:
            self.pn_alias, joined, *end_to_end = cborlite.decode(record)
            for sg_id in joined:
                group = self._load(sg_id)
                if group is None:  # its record is lost: no broadcast is accepted until a pull (SEC-04)
                    trusted = bool(end_to_end) and sg_id in end_to_end[0]
                    group = ServiceGroup(sg_id, KeyRing(n.PROTECTION_SEALED, None, trusted))
                elif not group.joined:  # the power failed during a leave
                    continue
                group.joined = True
                self.groups[sg_id] = group
                self.hint(group, clock.now())

    def by_alias(self, pn_alias, sg_alias):
        """Return the ServiceGroup that these aliases name, or None."""
        for group in self.groups.values():
            if group.alias == sg_alias and pn_alias == self.pn_alias:
                return group
        return None

    def unix_time(self, now):
        """Return the network's time in Unix seconds, 0 while unknown."""
        return self._unix and self._unix + (now - self._unix_at) // 1000

    def hint(self, group, now, gap=None):
        """Schedule a pull, as there may be a newer key: with jitter, and not before the back-off ends (SEC-13).

        With `gap` it is due as soon as that many ms have passed since the last pull instead, without jitter (SEC-09).
        """
        jitter = 0
        if gap is None:
            gap = group.pull_wait
            jitter = int.from_bytes(self._random(2), "big") * limits.PULL_JITTER_S * 1000 >> 16
        group.pull_at = min(group.pull_at, max(now, group.pulled_at + gap) + jitter)

    def hint_all(self, gap=None):
        """Schedule a pull of each group, as `hint` does."""
        now = self._clock.now()
        for group in self.groups.values():
            self.hint(group, now, gap)

    def duty(self, now, confirms=True):
        """Return the next request to the PN GW as (time, function without argument that returns its flow), or None.

        Without `confirms` no confirmation is among them.
        """
        self.gkdks.expire(now)
        duties = []
        for group in self.groups.values():
            if not group.ring.end_to_end and not self.gkdks.newest:
                duties.append((self._assign_at, self.assign))
            duties.append((group.pull_at, lambda group=group: self.pull(group)))
            if confirms and group.confirm_at is not None:
                duties.append((group.confirm_at, lambda group=group: self.confirm(group)))
        return min(duties, key=lambda duty: duty[0]) if duties else None

    # What the PNE asks the PN GW

    def ask(self, code, fields, session=None):
        """Ask the PN GW, or the peer of `session`, with a message in this PNE's name; return the fields of its answer.

        Raises the CpnsError that the answer names, MalformedMessage for an answer to something else, or NoSession. This
        is a flow.
        """
        fields[messages.PNE_ID] = self.identity.pne_id
        _, octets = yield from (session or self._session).ask(CPNS, messages.encode(code, fields))
        answered, answer = messages.decode(octets)
        if answered != code + 1 or answer.get(messages.SG_ID) not in (None, fields.get(messages.SG_ID)):
            raise MalformedMessage("an answer to something else")
        if answer[messages.RESULT] != n.RESULT_SUCCESS:
            reason = answer.get(messages.ERROR_TEXT, "refused without reason")
            if answer.get(messages.ERROR) == n.ERROR_NO_SESSION:
                raise NoSession(reason)  # between PN GW and Server: the PN GW cannot serve us now
            raise of_code(answer.get(messages.ERROR))(reason)
        return answer

    def assign(self):
        """Ask the PN GW for a GKDK and store it (CPNS-GKM-03, -06, -23, -24). This is a flow."""
        self._assign_at = self._clock.now() + tuning.ASSIGN_INTERVAL
        try:
            answer = yield from self.ask(n.GKDK_ASSIGNMENT_REQUEST, {messages.SOFTWARE: tuning.SOFTWARE})
        except NoSession:  # the request may not have arrived
            self._assign_at = self._clock.now() + limits.PULL_BACKOFF_MIN_S * 1000
            raise
        self.gkdks.put(answer[messages.GKDK], self._clock.now())
        self._set_pn_alias(answer)
        self._tell("generation", {"generation": self.gkdks.newest})

    def enter(self, sg_id, protection=None, trust=None):
        """Join or, with `protection`, create a group; return its ServiceGroup (flow). Raises CpnsError, NoSession.

        `trust` is one of `numbers.TRUST_*`, or None for what the group is. An end-to-end group stays one (SEC-26).
        """
        if sg_id not in self.groups and len(self.groups) >= tuning.GROUPS_MAX:
            raise TooMany("this board is a member of %d groups already" % tuning.GROUPS_MAX)
        group = self.groups.get(sg_id) or self._load(sg_id) or ServiceGroup(sg_id, KeyRing(0))
        if trust == n.TRUST_END_TO_END:
            self._make_end_to_end(group)  # it is stored before the request leaves
        if group.ring.end_to_end:
            if trust == n.TRUST_GATEWAY:
                raise NotAllowed("the group is end-to-end, and stays so")
            trust = n.TRUST_END_TO_END
        elif not self.gkdks.newest:
            yield from self.assign()
        fields = {messages.SG_ID: sg_id}
        if trust:
            fields[messages.TRUST] = trust
        if protection is None:
            answer = yield from self.ask(n.JOIN_REQUEST, fields)
        else:
            fields[messages.PROTECTION] = protection
            answer = yield from self.ask(n.CREATE_SERVICE_GROUP_REQUEST, fields)
        identity = self.identity
        pn_id = answer.get(messages.PN_ID, identity.pn_id)
        if pn_id != identity.pn_id:
            if identity.pn_id:
                raise NotAllowed("the gateway names another PN")
            identity.change(self._store, pn_id=pn_id)
        self._set_pn_alias(answer)
        if trust not in (None, answer.get(messages.TRUST, n.TRUST_GATEWAY)):
            raise NotAllowed("the gateway has the group under another trust")
        if answer.get(messages.TRUST) == n.TRUST_END_TO_END:
            self._make_end_to_end(group)
            if answer[messages.PROTECTION] != n.PROTECTION_SEALED:
                raise NotAllowed("an end-to-end group is sealed")
        else:
            group.ring.protection = answer[messages.PROTECTION]
            group.ring.raise_floor(answer[messages.VERSION])
        self._learn(group, answer)
        group.joined = True
        self._save(group)
        self.groups[sg_id] = group
        self._save_directory()
        self._tell("joined", {"group": group, "floor": group.ring.floor})
        # A key that was sent before the PN GW knew us is not repeated; that of an end-to-end group must be asked for
        self.hint(group, self._clock.now(), 0 if group.ring.end_to_end else None)
        return group

    def pull(self, group):
        """Ask for the newest key of the group (flow). After a refusal or silence the back-off goes on.

        The CPNS Server is asked for that of an end-to-end group. Its answer has the version only, and it sends the key
        then. A board that does not know the Server has the PN GW ask, whose word about the version counts for nothing.
        """
        now = self._clock.now()
        gap = now - group.pulled_at
        group.pulled_at = now
        wait = max(2 * group.pull_wait, limits.PULL_BACKOFF_MIN_S * 1000)
        group.pull_wait = min(wait, limits.PULL_BACKOFF_MAX_S * 1000)
        group.pull_at = now + group.pull_wait
        end_to_end = group.ring.end_to_end
        server = self.server if end_to_end and self.identity.server_ccs else None
        fields = {messages.SG_ID: group.id, messages.VERSION: group.version}
        lost = group.version if group.windows_lost == group.version else 0
        if end_to_end and not group.version:
            lost = group.ring.floor  # the key of that version was wiped and is not taken again: there must be another
        if lost:
            fields[messages.WINDOWS_LOST] = lost
        if not server:
            if self.gkdks.newest:
                fields[messages.GENERATION] = self.gkdks.newest
            fields[messages.RECEIPT] = group.receipt
            fields[messages.SOFTWARE] = tuning.SOFTWARE
        try:
            answer = yield from self.ask(n.KEY_PULL_REQUEST, fields, server)
        except (NotMember, Unknown) as error:
            expelled = isinstance(error, NotMember)
            if group.joined and (expelled or server):
                self._forget(group, "expelled" if expelled else "deleted")
            raise
        except NoSession:
            if server:
                group.pull_at = min(group.pull_at, server.next_try(group.pull_at))
            raise
        if not group.joined:
            return  # left while the answer was on its way
        if group.ring.floor is None and messages.PROTECTION in answer and not end_to_end:
            group.ring.protection = answer[messages.PROTECTION]
        self._learn(group, answer)
        group.receipt = answer.get(messages.RECEIPT, group.receipt)
        if messages.GROUP_KEY in answer:
            self._deliver(group, answer)
            if self.gkdks.newest:
                group.confirm_at = self._clock.now()  # only the proof shows the PN GW that the key has arrived (SEC-14)
        elif server:
            newest = answer[messages.VERSION]
            group.ring.raise_floor(max(newest - 1, 0))
            self._save(group)
            if group.version < group.named and gap >= limits.PULL_BACKOFF_MIN_S * 1000:
                self._tell("withheld", {"group": group, "version": newest})
            group.named = newest
        elif not end_to_end:
            group.ring.raise_floor(answer[messages.VERSION])
            self._save(group)
        if group.version == answer[messages.VERSION]:
            self._rest(group)

    def leave(self, group):
        """Leave the group (flow): its keys are wiped, its floor stays (SEC-04)."""
        yield from self.ask(n.LEAVE_REQUEST, {messages.SG_ID: group.id})
        self._forget(group, "left")

    def confirm(self, group):
        """Confirm the newest key to the PN GW (CPNS-GKM-21, -37), with proof (SEC-14). This is a flow."""
        group.confirm_at = self._clock.now() + limits.RECONFIRM_INTERVAL_S * 1000  # repeat it if it gets lost
        version = group.version
        fields = self.delivered(group, version)
        yield from self._session.ask(CPNS, messages.encode(n.GROUP_KEY_DELIVERY_RESPONSE, fields))
        group.confirmed_at = self._clock.now()
        if group.version == version:
            group.confirm_at = None

    # What the PN GW asks the PNE: parts for the table of `requests.py`, each a flow

    def take_key(self, fields):
        """Store a Group Key that came over the session; return the fields of the confirmation."""
        group = self._group(fields)
        self._learn(group, fields)
        self._deliver(group, fields)
        return self.delivered(group, fields[messages.VERSION])
        yield

    def take_delete(self, fields):
        """Forget a Service Group that is deleted, or from which this PNE is expelled."""
        group = self._group(fields)
        self.delete(group, fields[messages.VERSION], messages.REASON in fields)
        return {messages.SG_ID: group.id}
        yield

    def take_gkdk(self, fields):
        """Store the GKDK of another tree generation."""
        now = self._clock.now()
        self.gkdks.put(fields[messages.GKDK], now, fields[messages.GENERATION])
        self._tell("generation", {"generation": self.gkdks.newest})
        for group in self.groups.values():  # a proof under the GKDK before may have been refused
            if group.confirm_at is not None:
                group.confirm_at = min(group.confirm_at, now + group.leisure)
        return {}
        yield

    def take_signing_key(self, fields):
        """Replace the broadcast signing key by the next one, which is signed with the present one (SEC-18)."""
        from device_agent.crypto.p256 import VerifyingKey

        identity, key, epoch = self.identity, fields[messages.SIGNING_KEY], fields[messages.SIGNING_EPOCH]
        if (key, epoch) == (identity.signing_key, identity.signing_epoch):
            return {}  # repeated, because the first answer was lost
        if epoch != identity.signing_epoch + 1:
            raise Stale("the signing key's epoch is not the next one")
        names = cborlite.encode(["keycast/rollover/1", identity.pn_id])
        old = VerifyingKey(identity.signing_key)
        yield from verify_sign1(old, names, cborlite.encode([epoch, key]), fields[messages.SIGNATURE])
        identity.change(self._store, signing_key=key, signing_epoch=epoch)
        self._tell("rolled over", {"epoch": epoch})
        return {}

    def install(self, group, version, key, activation, reason, path, generation=0):
        """Store a key of an authentic delivery. The group has one floor for all paths, which decides (SEC-04).

        Returns False for a key that is held already. Raises as KeyRing.install does, or OSError if the store
        fails: then nothing has changed.
        """
        now = self._clock.now()
        before = group.ring.snapshot()
        new = group.ring.install(version, key, activation, reason, now // 1000, self.unix_time(now), path)
        if new:
            try:
                self._save(group)
            except OSError:
                group.ring.put_back(before)
                raise
            group.generation = generation
            group.pull_wait = 0
            self._rest(group)
            self._tell("key", {"group": group, "version": version, "reason": reason, "broadcast": path == BROADCAST})
        return new

    def delivered(self, group, version):
        """Return the fields of a confirmation of this version, with proof if its GKDK is held. Raises Stale."""
        key = group.ring.receiving_keys(self._clock.now() // 1000).get(version)
        if key is None:
            raise Stale("this version's time is over")
        fields = {messages.RESULT: n.RESULT_SUCCESS, messages.SG_ID: group.id, messages.VERSION: version}
        generation = group.generation or self.gkdks.newest
        report = self.gkdks.report(generation)
        if report and self.identity.pn_id:
            slot, report_key = report
            fields[messages.GENERATION] = generation
            fields[messages.SLOT] = slot
            fields[messages.PROOF] = confirmation(
                report_key,
                generation,
                slot,
                version,
                n.RESULT_SUCCESS,
                self.identity.pn_id,
                group.id,
                key,
            )
        return fields

    def delete(self, group, version, expelled=False):
        """Forget a group, deleted or `expelled`, with the newest `version`. Raises Stale if a newer one is known.

        Of an end-to-end group the PN GW cannot know: the CPNS Server is asked, and only its answer ends the membership.
        """
        if group.ring.end_to_end and self.identity.server_ccs:
            self.hint(group, self._clock.now(), tuning.PULL_ONLINE)
            return
        if version < (max(group.version, group.ring.floor or 0) if expelled else group.version):
            raise Stale("a newer version is known than the delete knows of")
        if not group.ring.end_to_end:
            group.ring.raise_floor(version)
        self._forget(group, "expelled" if expelled else "deleted")

    def new_gateway(self):
        """Forget the tree and the aliases, as another PN GW was paired; floors, keys and memberships stay."""
        self.gkdks.clear()
        self.pn_alias = None
        self._assign_at = 0
        now = self._clock.now()
        for group in self.groups.values():
            group.alias = None
            group.receipt = b""
            group.pull_wait = 0
            self._save(group)
            self.hint(group, now)
        self._save_directory()

    # Parts of these methods

    def _make_end_to_end(self, group):
        # Keys and floor that the PN GW gave the group before count for nothing
        if not self.server:
            self.server = self._load_server()
        if not self.server.usable:
            raise NotAllowed("this board has neither the credential of the CPNS Server nor an Entity User Key")
        if not group.ring.end_to_end:
            group.ring = KeyRing(n.PROTECTION_SEALED, None, True)
            group.confirm_at = None
            self._save(group)

    def _group(self, fields):
        group = self.groups.get(fields[messages.SG_ID])
        if group is None:
            raise NotMember("not a member of this Service Group")
        return group

    def _deliver(self, group, fields):
        (key, index), version = fields[messages.GROUP_KEY][0], fields[messages.VERSION]
        if index is not None:
            raise MalformedMessage("an encrypted key over the session")
        reason = fields.get(messages.REASON, n.REASON_BY_HAND)
        self.install(group, version, key, fields.get(messages.ACTIVATION, 0), reason, UNICAST)

    def _learn(self, group, fields):
        group.alias = fields.get(messages.SG_ALIAS, group.alias)
        group.leisure = min(fields.get(messages.LEISURE, group.leisure), tuning.LEISURE_MAX)
        unix, now = fields.get(messages.TIME, 0), self._clock.now()
        if unix > self.unix_time(now):  # never goes back (SEC-05)
            self._unix, self._unix_at = unix, now

    def _rest(self, group):
        # No request is due until the daily pull, which boards make at different times (SEC-13)
        spread = int.from_bytes(self._random(2), "big") * 3600000 >> 16
        group.pull_at = self._clock.now() + limits.PULL_AT_LEAST_EVERY_S * 1000 - spread

    def _forget(self, group, why):
        group.ring.wipe()
        group.joined = False
        self._save(group)
        del self.groups[group.id]
        self._save_directory()
        self._tell(why, {"group": group})

    def _set_pn_alias(self, answer):
        alias = answer.get(messages.PN_ALIAS, self.pn_alias)
        if alias != self.pn_alias:
            self.pn_alias = alias
            self._save_directory()

    def _save_directory(self):
        record = [self.pn_alias, list(self.groups)]
        end_to_end = [sg_id for sg_id in self.groups if self.groups[sg_id].ring.end_to_end]
        if end_to_end:
            record.append(end_to_end)
        self._store.save(RECORD, cborlite.encode(record))

    def _save(self, group):
        ring = group.ring.dump(self._clock.now() // 1000)
        record = cborlite.encode([group.id, group.joined, group.alias, group.leisure, ring, group.receipt])
        self._store.save(record_name("g", group.id), record)

    def _load(self, sg_id):
        record = self._store.load(record_name("g", sg_id))
        if record is None:
            return None
        found, joined, alias, leisure, ring, *later = cborlite.decode(record)
        if found != sg_id:
            raise NotAllowed("the record's place is taken by another Service Group's floor")
        group = ServiceGroup(sg_id, KeyRing.load(ring, self._clock.now() // 1000), alias, leisure)
        group.joined = joined is True
        for receipt in later:  # older records have none
            group.receipt = bytes(receipt)
        return group

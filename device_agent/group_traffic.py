"""Messages to and from one Service Group. State that must survive a power cut is stored before it counts (SEC-24).

Times are milliseconds of the clock port. The record is `[sender's (version, inc, ceiling) or None, lost version,
[(check of the sender ID, version, inc, number), ..], evicted]`, as cpns.group_message defines them. A member that has
keys but no such record has lost its windows: messages under those versions are flagged `replayable`.
"""

from cpns import cborlite
from cpns.errors import TooMany, Unknown
from cpns.group_message import Group, Opened, Receiver, Sender
from device_agent import tuning
from device_agent.membership import record_name


class GroupTraffic:
    """Sender and receiver of the PNE `own_id` in `group`, a membership.ServiceGroup.

    `names` is the cpns.group_message.Group that it was made for.
    """

    def __init__(self, store, group, pn_alias, own_id, random, now):
        self._store = store
        self._group = group
        self._random = random
        self._written_for = 0  # ms: the share of writes is used up to this time
        self._renewed_for = 0  # the same, of the writes for a new inc
        self._lost = 0  # the lost version in the store
        self._forged = False  # another member sends under our name and uses up our numbers
        self.names = names = Group(group.id, pn_alias, group.alias, group.ring.protection)
        self._sender = Sender(names, own_id)
        record = store.load(record_name("w", group.id))
        if record is None:
            group.windows_lost = group.version
            self._receiver = Receiver(names, own_id, group.version, tuning.SENDERS_MAX)
            self._save()
            return
        sender, lost_version, seen, *evicted = cborlite.decode(record)
        group.windows_lost = self._lost = lost_version
        self._receiver = Receiver(names, own_id, lost_version, tuning.SENDERS_MAX)
        keys = group.ring.receiving_keys(now // 1000)
        for row in seen:
            if row[1] in keys:
                self._receiver.restore(tuple(row))
        for rows in evicted:  # older records have none
            self._receiver.evicted = rows
        if sender:
            self._sender.resume(tuple(sender))

    def send(self, data, now):
        """Return the datagram that carries `data` (at most 1,024 octets) to the group.

        Raises Unknown before the first key, MalformedMessage for too many octets, OSError when the store fails.
        """
        sending = self._group.ring.sending_key(now // 1000)
        if sending is None:
            raise Unknown("no Group Key of %s yet: join() returns with the first" % self._group.id)
        sender = self._sender
        if sender.record[0] != sending[0] or self._may_renew(now):
            sender.start(sending[0], self._random(8))
        if sender.must_reserve():
            try:
                record = sender.reserve()
            except TooMany:  # 2^32 numbers
                sender.start(sending[0], self._random(8))
                record = sender.reserve()
            self._save(record)
            sender.reserved(record)
        return sender.protect(sending[0], sending[1], data)

    def receive(self, parsed, now):
        """Return the cpns.group_message.Opened of a parsed datagram.

        If the record had to be written too often for the flash, it is written once, with the note that windows are lost
        under this version, and messages are flagged `replayable`. So a member can cause the flag, but cannot silence
        others. Raises as Receiver.open does, and OSError.
        """
        keys = self._group.ring.receiving_keys(now // 1000)
        receiver = self._receiver
        self._forged = self._forged or self._sender.forged(parsed, keys)
        opened = receiver.open(parsed, keys, now // 1000)
        record = opened.record
        if record is not None:
            written_for = max(self._written_for, now) + tuning.WINDOW_WRITE_EVERY
            if written_for - now <= tuning.WINDOW_WRITES_BURST:
                self._written_for = written_for
                self._save(seen=record)
                receiver.recorded(record, now // 1000)
            else:
                receiver.lost_version = max(receiver.lost_version, opened.version)
                if receiver.lost_version > self._lost:
                    self._save()
                opened = Opened(opened.sender_id, opened.version, opened.message, True, None)
        self._group.windows_lost = receiver.lost_version
        return opened

    def _may_renew(self, now):
        # After a forgery a new inc is due, which costs a write: these are as rare as those of a receiver must be
        renewed_for = max(self._renewed_for, now) + tuning.WINDOW_WRITE_EVERY
        if not self._forged or renewed_for - now > tuning.WINDOW_WRITES_BURST:
            return False
        self._renewed_for = renewed_for
        self._forged = False
        return True

    def _save(self, sender=None, seen=None):
        # `sender` and `seen` are the new record of the sender and of a window, to be stored before they count
        rows = [list(row) for row in self._receiver.records() if not seen or row[:3] != seen[:3]]
        if seen:
            rows.append(list(seen))
        record = [list(sender or self._sender.record), self._receiver.lost_version, rows, self._receiver.evicted]
        self._store.save(record_name("w", self._group.id), cborlite.encode(record))
        self._lost = record[1]

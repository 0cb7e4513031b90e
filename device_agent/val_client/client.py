"""Opening, checking and storing one notice of a group management server (SEAL-GMK-27..35). Loaded only while at work.

Its long functions run in steps, as `device_agent` defines them.
"""

from cpns import cborlite
from cpns.errors import MalformedMessage
from device_agent.val_client import key_cache, records
from mikey_sakke import eccsi, i_message, sakke
from mikey_sakke.endpoint_key import SERVICE_GROUP_MANAGEMENT, endpoint_key, proof
from mikey_sakke.errors import (
    BadParameters,
    DuplicateKeyId,
    Expired,
    MikeyError,
    Replayed,
    Revoked,
    UnauthorisedGroup,
    WrongInitiator,
)
from mikey_sakke.identifiers import NTP_OFFSET, PURPOSE_GMK
from mikey_sakke.key_parameters import STATUS_NOT_REVOKED

CLOCK_WINDOW_S = 300
KEY, REVOCATION = "key", "revocation"


class BoardClient:
    """A VAL client. `store` is a KeyStore with `records`, `folder` that of cache files, with '/' at its end."""

    def __init__(self, store, folder, client):
        self._store = store
        self._folder = folder
        self._client = client
        self._number = 0  # key period of the message that is being opened
        signatures = eccsi.Community(client.kpak, 0)
        self._kms = i_message.Kms(client.kms, client.period, client.offset, signatures, None)

    def path(self, number):
        """Return the path of the cache file of a key period."""
        return records.cache_path(self._folder, number)

    def prepare(self, unix_time, progress):
        """Make the cache files that are missing and erase RSKs whose period has ended, in steps.

        `unix_time` is 0 while unknown. It calls `progress(period number, percent)`. Raises sakke.BadKey for an RSK that
        is not ours, which it has erased then.
        """
        client = self._client
        rsks = records.load_rsks(self._store)
        for number in sorted(rsks):
            # one clock window longer than the period: messages of its last seconds are still on their way
            if unix_time and self._kms.number_at(unix_time + NTP_OFFSET - CLOCK_WINDOW_S) > number:
                key_cache.erase(self.path(number))
                del rsks[number]
                records.save_rsks(self._store, rsks)
                continue
            try:
                self._cache(number, rsks[number]).close()
            except (OSError, key_cache.Damaged):
                steps = key_cache.build_steps(self.path(number), self._uid(number), client.z, rsks[number])
                told = -1
                try:
                    for percent in steps:
                        if percent // 10 != told:
                            told = percent // 10
                            progress(number, percent)
                        yield
                except sakke.BadKey:
                    del rsks[number]
                    records.save_rsks(self._store, rsks)
                    raise
                progress(number, 100)

    def receive(self, octets, unix_time):
        """Return the answer to a Key Message, in steps (docs/protocol.md section 12). Raises MalformedMessage.

        If `unix_time` is 0, unknown, the message's own time is only checked against that of earlier keys.
        """
        notice = cborlite.decode(octets)
        if type(notice) is not list or [type(each) for each in notice] != [str, str, str, bytes]:
            raise MalformedMessage("no notice of a group management server")
        name, purpose, gms, message = notice
        if not 1 <= len(name.encode()) <= 64 or purpose not in (KEY, REVOCATION):
            raise MalformedMessage("no notice of a group management server")
        try:
            received = yield from self._opened(message, unix_time)
            gmk = self._judged(received, purpose, gms, unix_time)
        except MikeyError as error:
            return cborlite.encode([name, b"", b"", error.code, str(error)])
        except key_cache.Damaged:
            key_cache.erase(self.path(self._number))  # `prepare` makes it anew; the notice comes again
            return cborlite.encode([name, b"", b"", "error", "the key cache was damaged and is made anew"])
        except OSError as error:
            return cborlite.encode([name, b"", b"", "error", "the key cannot be stored: %s" % error])
        return cborlite.encode([name, gmk.gmk_id, proof(gmk.endpoint_key, name, gmk.gmk_id), "", ""])

    def _uid(self, number):
        return self._kms.uid(self._client.user, number)

    def _cache(self, number, rsk):
        return key_cache.KeyCache(self.path(number), self._uid(number), self._client.z, rsk)

    def _opened(self, message, unix_time):
        rsks, opened = records.load_rsks(self._store), []

        def key_for_period(number):
            if number not in rsks:
                return None
            self._number = number
            cache = self._cache(number, rsks[number])
            opened.append(cache)
            return sakke.DecryptionKey(cache, self._uid(number), rsks[number], lambda point: cache)

        now = unix_time + NTP_OFFSET
        window = (now - CLOCK_WINDOW_S, now + CLOCK_WINDOW_S) if unix_time else None
        servers = set(self._client.groups.values())
        try:
            received = yield from i_message.open_steps(
                message, self._kms, self._client.user, key_for_period, servers, window
            )
            return received
        finally:
            for cache in opened:
                cache.close()

    def _judged(self, received, purpose, gms, unix_time):
        # Store and return the Gmk that the answer is about (SEAL-GMK-29, -30, -32, -34; MC-GMK-22)
        parameters = received.parameters
        if received.purpose != PURPOSE_GMK or parameters is None or not parameters.groups:
            raise BadParameters("no GMK with its key parameters and groups")
        if received.initiator_uri != gms:
            raise WrongInitiator("signed by %s, notified by %s" % (received.initiator_uri, gms))
        gmks = records.load_gmks(self._store)
        held = None
        for gmk in gmks:
            if gmk.gmk_id == received.key_id:
                held = gmk
        if held is not None and held.gmk and (held.gmk, held.gms) != (received.key, gms):
            raise DuplicateKeyId("GMK-ID %s is in use for another key" % received.key_id.hex())
        for group in parameters.groups:
            if self._client.groups.get(group) != gms:
                raise UnauthorisedGroup("%s is not in the user's profile with %s" % (group, gms))
        revoked = purpose == REVOCATION
        if revoked and parameters.status & STATUS_NOT_REVOKED:
            raise BadParameters("a revocation whose signed status says that the key is not revoked")
        if held is not None and not revoked:
            if not held.gmk:
                raise Revoked("GMK-ID %s was revoked before" % received.key_id.hex())
            if received.digest == held.digest:
                return held  # a retransmission
        if held is not None and received.ntp_seconds < held.sent:
            raise Replayed("older than the message accepted before")
        if parameters.expiry and unix_time >= parameters.expiry:
            raise Expired("the key has expired")
        gmk = records.Gmk(
            received.key_id,
            b"" if revoked else received.key,
            received.guk_id,
            gms,
            parameters.groups,
            parameters.activation,
            parameters.expiry,
            parameters.text,
            received.ntp_seconds,
            received.digest,
            endpoint_key(received.key, SERVICE_GROUP_MANAGEMENT, self._client.user, received.guk_id),
        )
        gmks = [each for each in gmks if each.gmk_id != gmk.gmk_id]
        gmks.append(gmk)
        records.make_room(gmks)
        records.save_gmks(self._store, gmks)
        return gmk

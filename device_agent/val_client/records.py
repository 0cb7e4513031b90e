"""The records of a VAL client in the key store: its provisioning, its RSKs, its GMKs, each in deterministic CBOR.

`val` is [1, user URI, KMS URI, key period, offset (seconds), KPAK, Z, [[group URI, its GMS's URI], ..]], written when
the board is provisioned. `valr` is [[key period number, RSK], ..], at most two periods. `valg` holds the GMKs. `valp`
is [[group URI, GMS URI], ..], the newest user profile, if one has come since.
"""

from collections import namedtuple

from cpns import cborlite
from cpns.errors import MalformedMessage

PROVISIONING, RSKS, GMKS, PROFILE = "val", "valr", "valg", "valp"
QUEUE, ANSWER = "valq", "vala"  # [Unix time or 0, Key Message] that waits for the whole heap; the answer
GMKS_MAX = 5  # so that they fit one record of the store
RSKS_MAX = 2
_FORMAT = 1
# An import within an import within an import eats the C stack (16 KB on an ESP32): what lies deep comes first.
_LEAVES_FIRST = ("errors", "hashing", "curve", "gcm_portable", "gcm", "key_parameters", "pairing", "sakke", "i_message")

Client = namedtuple("Client", ("user", "kms", "period", "offset", "kpak", "z", "groups"))


class Gmk(
    namedtuple(
        "Gmk",
        ("gmk_id", "gmk", "guk_id", "gms", "groups", "activation", "expiry", "text", "sent", "digest", "endpoint_key"),
    )
):
    """A stored GMK (SEAL-GMK-34). `sent` and `digest`: NTP second and hash of its message. `gmk`: empty if revoked."""

    def __repr__(self):
        return "<Gmk %s>" % self.gmk_id.hex()


def pack_client(client):
    """Return the record `val` of a Client, whose `groups` map group URIs to GMS URIs."""
    fields = [_FORMAT]
    fields.extend(client[:6])
    fields.append([[group, gms] for group, gms in client.groups.items()])
    return cborlite.encode(fields)


def load_client(store):
    """Return the Client of the record in `store`, or None. Raises MalformedMessage for another format."""
    octets = store.load(PROVISIONING)
    if octets is None:
        return None
    fields = cborlite.decode(octets)
    if fields[0] != _FORMAT or len(fields) != 8:
        raise MalformedMessage("not a VAL client's record of format %d" % _FORMAT)
    groups = dict(fields[7])
    profile = store.load(PROFILE)
    if profile is not None:
        known = set(groups.values())
        groups = {group: gms for group, gms in cborlite.decode(profile) if gms in known}
    fields[7] = groups
    return Client(*fields[1:])


def take_profile(store, octets):
    """Store the user profile in a Key Message and return the answer; None for another Key Message.

    GMKs of groups that are not in it are deleted; those that also serve another group stay for that (SEAL-GMK-47). The
    profile comes from the PN GW: it may remove groups, and add groups of the servers that the board was provisioned
    for, but it cannot name a new server. Raises MalformedMessage for a malformed profile.
    """
    notice = cborlite.decode(octets)
    if type(notice) is not list or notice[:2] != ["", "profile"]:
        return None
    if [type(each) for each in notice] != [str, str, str, bytes] or store.load(PROVISIONING) is None:
        raise MalformedMessage("no profile, or no VAL client")
    groups = cborlite.decode(notice[3])
    if type(groups) is not list:
        raise MalformedMessage("no profile")
    for each in groups:
        if type(each) is not list or [type(name) for name in each] != [str, str]:
            raise MalformedMessage("no profile")
    store.save(PROFILE, notice[3])
    client, kept = load_client(store), []
    for gmk in load_gmks(store):
        fields = list(gmk)
        fields[4] = [group for group in gmk.groups if client.groups.get(group) == gmk.gms]
        if fields[4]:
            kept.append(Gmk(*fields))
    save_gmks(store, kept)
    return cborlite.encode(["", b"", b"", "", notice[2]])


def load_client_modules():
    """Import what `client` needs, with few imports within imports."""
    for name in _LEAVES_FIRST:
        __import__("mikey_sakke." + name)


def cache_path(folder, number):
    """Return the path of the cache file (`key_cache`) of a key period."""
    return "%sv%d" % (folder, number)


def load_rsks(store):
    """Return the RSKs as a dict from key period number to 257 octets."""
    octets = store.load(RSKS)
    return {} if octets is None else dict(cborlite.decode(octets))


def save_rsks(store, rsks):
    """Store the newest `RSKS_MAX` of `rsks`, a dict as `load_rsks` returns."""
    newest = sorted(rsks)[-RSKS_MAX:]
    store.save(RSKS, cborlite.encode([[number, rsks[number]] for number in newest]))


def keys_end(store):
    """Return the Unix seconds at which the key period of the newest RSK ends, 0 without one."""
    rsks, client = load_rsks(store), load_client(store)
    if not rsks or client is None:
        return 0
    from mikey_sakke.identifiers import NTP_OFFSET, key_period_bounds

    return key_period_bounds(max(rsks), client.period, client.offset)[1] + 1 - NTP_OFFSET


def load_gmks(store):
    """Return the GMKs, a list of Gmk in the order in which they came."""
    octets = store.load(GMKS)
    return [] if octets is None else [Gmk(*fields) for fields in cborlite.decode(octets)]


def save_gmks(store, gmks):
    """Store `gmks`. Raises OSError(EFBIG) if they do not fit; then nothing has changed."""
    store.save(GMKS, cborlite.encode([list(gmk) for gmk in gmks]))


def make_room(gmks):
    """Remove the oldest GMK that can be spared from the list `gmks`, if there are more than `GMKS_MAX`.

    It is one that was revoked, or whose groups all have a later one. Raises OSError(ENOSPC), which is reported to the
    GMS, if each is the only one of a group.
    """
    if len(gmks) <= GMKS_MAX:
        return
    spare, later = None, set()
    for gmk in reversed(gmks):
        if not gmk.gmk or later.issuperset(gmk.groups):
            spare = gmk
        else:
            later.update(gmk.groups)
    if spare is None:
        raise OSError(28)  # ENOSPC, which not every errno module has
    gmks.remove(spare)


def sending_gmk(gmks, group, unix_time):
    """Return the GMK to send with in `group` (URI): the active one that was activated last, or None."""
    best = None
    for gmk in gmks:
        usable = gmk.gmk and gmk.activation <= unix_time and not 0 < gmk.expiry <= unix_time
        if usable and group in gmk.groups and (best is None or gmk.activation >= best.activation):
            best = gmk
    return best

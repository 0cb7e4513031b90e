"""What a VAL client keeps in the key store: its provisioning, its RSKs, and its GMKs. Deterministic CBOR each.

`val`: [1, user URI, KMS URI, key period, offset (seconds), KPAK, Z, [[group URI, its GMS's URI], ..]], by the tool
that provisions the board. `valr`: [[key period number, RSK], ..], at most two periods. `valg`: the GMKs. `valp`:
[[group URI, GMS URI], ..], the newest user profile, if one came since.
"""

from collections import namedtuple

from cpns import cborlite
from cpns.errors import MalformedMessage

PROVISIONING, RSKS, GMKS, PROFILE = "val", "valr", "valg", "valp"
QUEUE, ANSWER = "valq", "vala"  # [Unix time or 0, Key Message] that waits for the whole heap; what is to be answered
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
    """A stored GMK (SEAL-GMK-34). `sent`: NTP second of its message, `digest` of it; `gmk` empty once revoked."""

    def __repr__(self):
        return "<Gmk %s>" % self.gmk_id.hex()


def pack_client(client):
    """The record `val`; `groups` maps group URIs to GMS URIs."""
    fields = [_FORMAT]
    fields.extend(client[:6])
    fields.append([[group, gms] for group, gms in client.groups.items()])
    return cborlite.encode(fields)


def load_client(store):
    """Client of the record in `store`, None when there is none. MalformedMessage for another format."""
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
    """The answer to a Key Message with a user profile, which counts from now on; None for another Key Message.

    GMKs of groups that are not in it are deleted, those that also serve another group stay for that (SEAL-GMK-47). The
    profile comes by the PN GW: it may take groups away, and give groups of those servers that the board was provisioned
    for, never name a new server. MalformedMessage for groups that are none.
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
    """Where the cache file (`key_cache`) of a key period is."""
    return "%sv%d" % (folder, number)


def load_rsks(store):
    """The RSKs: dict from key period number to 257 octets."""
    octets = store.load(RSKS)
    return {} if octets is None else dict(cborlite.decode(octets))


def save_rsks(store, rsks):
    """Store the newest `RSKS_MAX` of them."""
    newest = sorted(rsks)[-RSKS_MAX:]
    store.save(RSKS, cborlite.encode([[number, rsks[number]] for number in newest]))


def keys_end(store):
    """Unix seconds at which the key period of the newest RSK ends, 0 without one."""
    rsks, client = load_rsks(store), load_client(store)
    if not rsks or client is None:
        return 0
    from mikey_sakke.identifiers import NTP_OFFSET, key_period_bounds

    return key_period_bounds(max(rsks), client.period, client.offset)[1] + 1 - NTP_OFFSET


def load_gmks(store):
    """The GMKs: list of Gmk, in the order they came."""
    octets = store.load(GMKS)
    return [] if octets is None else [Gmk(*fields) for fields in cborlite.decode(octets)]


def save_gmks(store, gmks):
    """Store them; OSError(EFBIG) when they do not fit, and nothing has changed."""
    store.save(GMKS, cborlite.encode([list(gmk) for gmk in gmks]))


def make_room(gmks):
    """Take the oldest GMK that can be spared from the list `gmks`, if there are more than `GMKS_MAX`.

    That is one that was revoked, or whose groups all have a later one. OSError(ENOSPC), the GMS's to hear, if each is
    the only one of a group.
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
    """The GMK to send with in `group` (URI): the active one with the most recent activation time, or None."""
    best = None
    for gmk in gmks:
        usable = gmk.gmk and gmk.activation <= unix_time and not 0 < gmk.expiry <= unix_time
        if usable and group in gmk.groups and (best is None or gmk.activation >= best.activation):
            best = gmk
    return best

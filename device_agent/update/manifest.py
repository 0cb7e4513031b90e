"""A manifest before anything of its update is collected: whether this board takes it. Loaded for each one.

The checks go from the cheap ones to the signature, and none of them touches the flash (SEC-09, SEC-30). Each step loads
what it needs, and lets it leave the heap before the next one: the signature alone takes some kilobytes.
"""

import gc
from collections import namedtuple
from hashlib import sha256

from cpns.errors import MalformedMessage, NotAllowed, NotAuthentic, Unknown
from device_agent import tuning
from device_agent.broadcast_receiver import Limiter
from device_agent.crypto.p256 import VerifyingKey, unhurried
from device_agent.update.pieces import piece
from suit import numbers as n

_ENOSPC, _EBUSY, _ENOMEM = 28, 16, 12
_SEEN_MAX = 3  # bad manifests that are known again, as many as are verified before all are ignored

# `classes`: vendor and class ID; `kind`: "agent" or "firmware"; `size` and `digest` are those of the image, `page_list`
# has the hashes of the pages; `signed` is the digest under the `signature`
_NAMES = "update_id", "classes", "kind", "number", "size", "digest", "page_list", "signed", "signature"
_Update = namedtuple("_Update", _NAMES)


class _Limiter(Limiter):
    # `seen`: the digests of the last manifests with bad signatures
    def __init__(self):
        super().__init__()
        self.seen = []


def hear(service, datagram):
    """Act on a manifest that was broadcast, if only a board or the PN GW can have made it (flow).

    Raises MalformedMessage, NotAuthentic, and Unknown for a generation without GKDK.
    """
    from suit import frames

    frame = frames.parse(datagram)
    update_id = frame.update_id
    octets = frames.envelope_of(frame.body, update_id, service.membership.gkdks.frame_keys)
    datagram = frame = frames = None  # frees a kilobyte, and the module
    digest = sha256(octets).digest()[: n.ID]
    if service.limiter and digest in service.limiter.seen:
        raise NotAuthentic("the signature of this manifest was wrong before")
    update, reason = yield from _judged(service, update_id, octets)
    if reason == n.OTHER_KEY:
        _count(service, [digest])
    elif update and reason and update_id != service.offer:
        service.known = update_id
    elif update:
        if update_id != service.offer:  # a member can broadcast each update that was ever signed
            _count(service, [])
        _begin(service, update, octets, reason)


def pull(service):
    """Ask the PN GW for the envelope of what it offers, and act on it (flow). Raises as `Session.ask`."""
    update_id = service.offer
    try:
        octets = yield from piece(service, update_id, n.ENVELOPE, 0)
    except (NotAllowed, Unknown):
        service.new_gateway()
        return
    update, reason = yield from _judged(service, update_id, octets)
    if update_id != service.offer:
        return  # withdrawn meanwhile
    if update:
        _begin(service, update, octets, reason)
    else:
        service.end(update_id, "refused", 0, reason)


def resume(service, collection):
    """Go on with a ports.Collection that was begun before a restart."""
    try:
        update = _read(service, collection.envelope)
        if not _refusal(service, update):
            _collect(service, update, collection)
            return
    except MalformedMessage:
        pass
    collection.drop()


def _judged(service, update_id, octets):
    # Return (_Update or None, reason). What `update_id` says nothing about is that reason without an update, or
    # OTHER_KEY: somebody else can have put it around the same manifest
    try:
        update = _read(service, octets)
    except MalformedMessage:
        return None, n.NOT_UNDERSTOOD
    if update.update_id != update_id or len(octets) > n.ENVELOPE_MAX:
        return None, n.NOT_UNDERSTOOD
    reason = _refusal(service, update) or _room(service, update)
    return update, reason or (yield from _verified(service, update))


def _read(service, octets):
    # Return the _Update, and leave nothing else in the heap. Raises MalformedMessage
    from suit.envelope import parse

    found = parse(octets)
    classes, parts = (found.vendor_id, found.class_id), (found.kind, found.number, found.size, found.digest)
    signed = sha256(found.to_be_signed).digest()
    update = _Update(found.update_id, classes, *parts, bytes(found.page_list), signed, found.signature)
    parse = found = None
    service.unload()
    return update


def _refusal(service, update):
    from suit.class_id import VENDOR

    vendor_id, class_id = update.classes
    if vendor_id != VENDOR or service.updates.classes().get(class_id) != update.kind:
        return n.OTHER_CLASS
    return service.updates.state().refusal(update.kind == "firmware", update.number)


def _room(service, update):
    try:
        service.updates.room(update.kind, update.size)
    except OSError as error:
        return _of(error)
    return n.NO_REASON


def _verified(service, update):
    # Return NO_REASON, NO_KEY or OTHER_KEY
    from device_agent.update import key

    try:
        octets = key.load(service.store, service.membership.identity)
    except MalformedMessage:  # it takes none but by cable
        return n.OTHER_KEY
    if octets is None:
        return n.NO_KEY
    key = None
    service.unload()
    service.receiver.spare()
    service.receiver.verifications += 1
    try:
        yield from unhurried(VerifyingKey(octets).verify(update.signed, update.signature))
    except (NotAuthentic, MalformedMessage):
        return n.OTHER_KEY
    return n.NO_REASON


def _count(service, seen):
    # Count a manifest that costs more than it may be good for; `seen`: the digest of one that is good for nothing
    limiter = service.limiter = service.limiter or _Limiter()
    limiter.seen = limiter.seen[len(seen) - _SEEN_MAX :] + seen
    limiter.bad(service.clock.now())


def _begin(service, update, octets, reason):
    if service.collecting or service.updates.state().trial:
        return  # it came on another way as well
    if not reason:
        service.unload()
        gc.collect()  # what stays is to lie close together, and not among the garbage of the signature
        try:
            parts = update.kind, update.number, update.size, update.digest, octets
            _collect(service, update, service.updates.begin(*parts))
        except OSError as error:
            reason = _of(error)
    if reason:
        service.end(update.update_id, "refused", update.number, reason)
        return
    service.restarted = False
    service.tell("update", {"state": "collecting", "number": update.number, "reason": n.NO_REASON})
    if update.update_id != service.offer:
        service.hint()
    elif not service.by_air:
        service.step_at = service.clock.now() + tuning.UPDATE_PULL_GAP


def _collect(service, update, collection):
    from device_agent.update.collecting import Collecting

    service.collecting = Collecting(service, update.update_id, update.number, update.page_list, collection)


def _of(error):
    return {_ENOSPC: n.NO_ROOM, _EBUSY: n.NO_SLOT, _ENOMEM: n.NO_HEAP}.get(error.args[0], n.FLASH_FAILED)

"""The SUIT manifest (draft-ietf-suit-manifest-33): the subset for whole images that replace others at a restart.

A manifest is a list of components and three sequences of commands: shared, validate and install. Read are Set
Component Index, Override Parameters, Fetch, and the conditions vendor, class and image match. Nothing is carried out
here: `read` collects what the commands say of each component, and refuses a parameter that is set twice.
"""

from cpns.cborlite import decode
from cpns.errors import MalformedMessage
from suit import labels as l
from suit import numbers as n

COMPONENTS_MAX = 2
_ID, _DIGEST = 16, 32


class Component:
    """What a manifest says of one component.

    `path` is a list of octets, `parameters` a dict by `labels`: IDs of 16 octets, a digest of 32, a size, a URI as
    text. `commands` has (sequence, command) of every other command, in their order.
    """

    def __init__(self, path):
        self.path = path
        self.parameters = {}
        self.commands = []


def read(octets):
    """Return (sequence number, list of Components) of the octets of a manifest. Raises MalformedMessage."""
    manifest = _map(octets, "the manifest", (l.VERSION, l.NUMBER, l.COMMON, l.VALIDATE, l.INSTALL))
    if _natural(manifest[l.VERSION], "version") != 1:
        raise MalformedMessage("the manifest has a version other than 1")
    number = _natural(manifest[l.NUMBER], "sequence number")
    if number > n.NUMBER_MAX:
        raise MalformedMessage("the manifest has a sequence number above %d" % n.NUMBER_MAX)
    common = _map(manifest[l.COMMON], "the common part of the manifest", (l.COMPONENTS, l.SHARED))
    paths = common[l.COMPONENTS]
    if not isinstance(paths, list) or not 0 < len(paths) <= COMPONENTS_MAX:
        raise MalformedMessage("the manifest has no component, or more than %d" % COMPONENTS_MAX)
    for path in paths:
        if not isinstance(path, list) or [part for part in path if not isinstance(part, bytes)]:
            raise MalformedMessage("a component is not named by a list of byte strings")
    components = [Component(path) for path in paths]
    _run(l.SHARED, common[l.SHARED], components)
    _run(l.VALIDATE, manifest[l.VALIDATE], components)
    _run(l.INSTALL, manifest[l.INSTALL], components)
    return number, components


def digest(octets):
    """Return the 32 octets of an encoded SUIT_Digest. Raises MalformedMessage."""
    value = decoded(octets, "a digest")
    if not isinstance(value, list) or len(value) != 2 or value[0] != l.SHA256 or not _octets(value[1], _DIGEST):
        raise MalformedMessage("a digest is not one of SHA-256")
    return value[1]


def decoded(octets, what, limit=n.ENVELOPE_MAX):
    """Return the value that `octets` encode, at most `limit` of them. `what` names it in a MalformedMessage."""
    if not isinstance(octets, (bytes, memoryview)):
        raise MalformedMessage("%s is no byte string" % what)
    try:
        return decode(octets, limit)
    except MalformedMessage as error:
        raise MalformedMessage("%s cannot be read: %s" % (what, error.reason)) from None


def _run(sequence, octets, components):
    commands = decoded(octets, "a command sequence")
    if not isinstance(commands, list) or len(commands) & 1:
        raise MalformedMessage("a command sequence has a command without its argument")
    current = components[0] if len(components) == 1 else None
    for place in range(0, len(commands), 2):
        command, argument = commands[place], commands[place + 1]
        if isinstance(command, bool):  # True is equal to 1
            command = None
        if command == l.SET_COMPONENT:
            if _natural(argument, "component index") >= len(components):
                raise MalformedMessage("a command is for a component that the manifest does not have")
            current = components[argument]
        elif current is None:
            raise MalformedMessage("a command sequence does not begin with the component that it is for")
        elif command == l.OVERRIDE:
            _override(current.parameters, argument)
        elif command in (l.VENDOR_IDENTIFIER, l.CLASS_IDENTIFIER, l.IMAGE_MATCH) or (
            command == l.FETCH and sequence == l.INSTALL
        ):
            if _natural(argument, "reporting policy") > l.POLICY_MAX:
                raise MalformedMessage("a reporting policy has unknown bits")
            current.commands.append((sequence, command))
        else:
            raise MalformedMessage("boards do not carry out the command %s" % _name(command))


def _override(parameters, changes):
    if not isinstance(changes, dict):
        raise MalformedMessage("parameters are no map")
    for label, value in changes.items():
        if label in parameters:
            raise MalformedMessage("the manifest sets the parameter %s twice" % _name(label))
        if label in (l.VENDOR_ID, l.CLASS_ID):
            fits = _octets(value, _ID)
        elif label == l.URI:
            fits = isinstance(value, str)
        elif label == l.DIGEST:
            value = digest(value)
            fits = True
        elif label == l.SIZE:
            fits = _natural(value, "size") <= n.IMAGE_MAX
        else:
            raise MalformedMessage("boards do not know the parameter %s" % _name(label))
        if not fits:
            raise MalformedMessage("the parameter %s has a wrong value" % _name(label))
        parameters[label] = value


def _map(octets, what, labels):
    value = decoded(octets, what)
    if not isinstance(value, dict):
        raise MalformedMessage("%s is no map" % what)
    for label in value:
        if label not in labels:
            raise MalformedMessage("%s has the element %s, which boards do not read" % (what, _name(label)))
    for label in labels:
        if label not in value:
            raise MalformedMessage("%s lacks the element %d" % (what, label))
    return value


def _natural(value, what):
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise MalformedMessage("a %s is not a natural number" % what)
    return value


def _octets(value, length):
    return isinstance(value, bytes) and len(value) == length


def _name(label):
    return repr(label)[:20]  # a person may see it, and text may have controls in it

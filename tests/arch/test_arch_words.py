"""One word means one thing: a class's name is its own in the whole product."""

import ast
from collections import defaultdict

from tests.arch.test_arch_imports import ARROWS, none_of, place, relative, trees

# One thing at both ends: the board has its own code for what the Linux ends have, too.
AT_BOTH_ENDS = {"Clock", "Credential", "Endpoint", "Initiator", "Membership", "NoSession", "ServiceGroup", "Session"}
AT_BOTH_ENDS |= {"GattLink", "Link", "Medium", "UdpLink"}
# One fault, told in each room by an exception of that room's tree.
FAULTS_OF_ROOMS = {"NotDecapsulated", "StoreFailed", "StoreInUse", "StoreUnusable"}
# Portable code, where a longer name costs the heap of a board; it says which is meant by the module before the name:
# `eccsi.Community`, `sakke.Community`.
SAID_WITH_THE_MODULE = {"BadKey", "Community", "Message", "Received"}
# A thing that happens at both the CPNS Server and the PN GW, told by each: `events.GroupDeleted`.
EVENTS = {"GroupDeleted"}
SHARED = AT_BOTH_ENDS | FAULTS_OF_ROOMS | SAID_WITH_THE_MODULE | EVENTS


def test_a_class_has_a_name_of_its_own():
    none_of(names_of_several_classes())


def names_of_several_classes():
    places = defaultdict(dict)
    for path, tree in trees().items():
        if relative(path).partition("/")[0] in ARROWS:
            for node in tree.body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name][relative(path)] = place(path, node)
    for name, found in sorted(places.items()):
        if len(found) > 1 and name not in SHARED:
            yield f"{name} is more than one class: {', '.join(found.values())}"
    for name in sorted(SHARED):
        if len(places[name]) < 2:
            yield f"{name} is one class only: take it off the list of shared names"

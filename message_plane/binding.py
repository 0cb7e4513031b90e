"""The rule when a name may be bound to a key (SEC-31). It holds for pairing, provisioning, trust and registration.

A name is bound to a key only if a person has given that name. A name that is taken stays with its key unless the person
has also asked to replace it, and it is never given to an entity of another role.
"""

from __future__ import annotations

from collections.abc import Collection

from cpns import name_rule
from cpns.tuning import CREDENTIAL_ID_MAX
from message_plane.credentials import Credential
from message_plane.errors import NameTaken, RegistrationRefused

_CALLED = {"pne": "a board", "gateway": "a PN GW", "server": "a CPNS Server"}


def require_free(
    entity_id: str, role: str, holder: Credential | None, *, replace: bool, reserved: Collection[str] = ()
) -> None:
    """Raise NameTaken unless `entity_id` may be bound to another key than that of `holder`, which has the name now.

    `role`: that of the new credential; `replace`: a person has asked to replace the holder; `reserved`: names of the
    entities on this machine itself, which no other may have. Raises RegistrationRefused if a new name does not fit
    `cpns.name_rule`.
    """
    if entity_id in reserved:
        raise NameTaken(f"{entity_id!r} is a name that this machine has itself: choose another one")
    if holder is None:
        wrong = name_rule.fault(entity_id, CREDENTIAL_ID_MAX)
        if wrong is not None:
            raise RegistrationRefused(f"the name {entity_id!a} {wrong}: choose another one")
        return
    if holder.role != role:
        raise NameTaken(f"{entity_id!r} is the name of {_CALLED[holder.role]} here: choose another one")
    if not replace:
        raise NameTaken(
            f"{entity_id!r} is let in already, with another key. To end the identity that it has, and its memberships: "
            "add --replace"
        )

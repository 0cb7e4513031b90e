"""The story of `keycast seal demo`, step by step, and the figures that it measures."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from key_servers.gms.values import Affiliation
from keycast.demo.seal_house import GMS_URI, SealHouse, build_seal_house, until
from mikey_sakke.group_configuration import KEY, REVOCATION

ALICE, BOB, CAROL = (f"sip:{name}@example.org" for name in ("alice", "bob", "carol"))
CREW = "sip:crew@gms.example.org"


@dataclass
class SealFigures:
    """The results of the demo. `deliver_ms` is the time from making the key to the last of three answers."""

    delivered: int = 0
    deliver_ms: float = 0.0
    removed_holds_key: bool | None = None
    rekeyed: bool = False
    revoked_everywhere: bool = False
    wrong_gms_code: str = ""
    key_ids: list[str] | None = None
    val_board_ms: float | None = None
    val_board_wiped: bool | None = None

    @property
    def good(self) -> bool:
        """True if every step had the result that it must have."""
        return (
            self.delivered == 3
            and self.removed_holds_key is False
            and self.rekeyed
            and self.revoked_everywhere
            and self.wrong_gms_code == "wrong-initiator"
            and self.val_board_wiped is not False
        )


async def play(folder: Path, figures: SealFigures, tell: Callable[[str], None], *, val_board: bool) -> None:
    """Play the story with all files in `folder`; fill in `figures`, and call `tell` with a sentence for each step.

    With `val_board` a home is run too. Raise NoVm, and TimeoutError with what was waited for.
    """
    start = time.monotonic()

    def say(text: str) -> None:
        tell(f"{time.monotonic() - start:6.2f} s  {text}")

    async with build_seal_house(folder) as house:
        say(f"KMS, CMS and two GMSs listen on 127.0.0.1; the KMS has provisioned {GMS_URI} for its server URI")
        manage, profiles = house.gms.management, house.cms.profiles
        users = {uri: await house.add_user(uri, (CREW,) if uri == CAROL else ()) for uri in (ALICE, BOB, CAROL)}
        say("alice, bob and carol have their keys from the KMS, and checked them")
        await manage.create_group(CREW, "the crew", rekey_on_removal=True)
        for uri in users:
            await profiles.put_membership(uri, CREW, GMS_URI)
            affiliation = Affiliation.EXPLICIT if uri == CAROL else Affiliation.IMPLICIT
            await manage.add_member(CREW, uri, affiliation)
            await house.start(users[uri])
        say(f"{CREW}: alice and bob are affiliated implicitly, carol does it herself")

        async def answered(key_id: str, purpose: str, count: int) -> None:
            done: set[str] = set()
            ends = time.monotonic() + 60
            while len(done) < count:
                if time.monotonic() > ends:
                    raise TimeoutError(f"{count} answers to the {purpose} {key_id}, {len(done)} came")
                await asyncio.sleep(0.01)
                for each in await manage.deliveries(key_id):
                    if each.purpose == purpose and each.state == "done":
                        done.add(each.user)

        begun = time.monotonic()
        first = await manage.make_key([CREW], text="shift 1")
        await answered(first, KEY, 3)
        figures.deliver_ms = round((time.monotonic() - begun) * 1000, 1)
        figures.delivered = 3
        say(f"GMK {first} made; all three stored it and answered after {figures.deliver_ms:.0f} ms")

        await profiles.remove_membership(BOB, CREW)
        await until(lambda: users[BOB].client.sending_key(CREW) is None, "bob's client to delete the key")
        figures.removed_holds_key = bool(users[BOB].store.all())
        say("bob's profile names the group no more: his client has erased the GMK")
        second = await manage.remove_member(CREW, BOB)
        if second is None:
            raise TimeoutError("a new key after the removal")
        await answered(second, KEY, 2)
        await answered(first, REVOCATION, 2)
        held = {uri: users[uri].client.sending_key(CREW) for uri in users}
        figures.rekeyed = [key.key_id.hex() if key else "" for key in held.values()] == [second, "", second]
        rest = [key.key_id.hex() for uri in (ALICE, CAROL) for key in users[uri].client.receiving_keys(CREW)]
        figures.revoked_everywhere = rest == [second, second]
        figures.key_ids = [first, second]
        say(f"the group's security profile changed the key: alice and carol hold {second}, {first} is revoked")

        other = house.other.management
        await other.create_group(CREW)
        await other.add_member(CREW, ALICE, Affiliation.IMPLICIT)
        forged = await other.make_key([CREW])
        while not figures.wrong_gms_code:
            await asyncio.sleep(0.02)
            figures.wrong_gms_code = next((each.code for each in await other.deliveries(forged)), "")
        code = figures.wrong_gms_code
        say(f"{house.other.gms_uri} sends alice a key for the same group: refused ({code}), nothing stored")
        if val_board:
            await _play_home(house, folder / "home", figures, say)


async def _play_home(house: SealHouse, folder: Path, figures: SealFigures, say: Callable[[str], None]) -> None:
    """Bring a GMK to two boards: to a VAL client in a message of its own, to the other as a Group Key by broadcast."""
    from keycast.demo.val_home import GROUP, LAMP_USER, SG, build_val_home  # the extras `gateway` and `boards`

    folder.mkdir(mode=0o700)
    async with build_val_home(house, folder) as home:
        await until(lambda: any(event["event"] == "session" for event in home.lamp.events), "the lamp's session")
        say(f"a home: its gateway is in {GROUP}, and so is the board lamp itself; the board door is in {SG} only")
        begun = time.monotonic()
        key_id = await house.gms.management.make_key([GROUP])
        await until(lambda: key_id in home.lamp_gmks(), "the lamp to open its message")
        figures.val_board_ms = round((time.monotonic() - begun) * 1000, 1)
        say(f"the gateway forwarded the lamp's message unread; in 96 KiB the lamp opened GMK {key_id} by its own key")
        await home.door.event("key", group=SG)
        say(f"the door has the Group Key HKDF(GMK), version {await home.door_version()}, by broadcast")
        await house.cms.profiles.remove_membership(LAMP_USER, GROUP)
        await house.gms.management.remove_member(GROUP, LAMP_USER)
        await until(lambda: not home.lamp_gmks(), "the lamp to erase its GMK")
        figures.val_board_wiped = True
        say(f"the lamp's profile names no group of {GMS_URI} any more: it has erased the GMK; the home gets a new one")


def table(figures: SealFigures) -> Table:
    """Return the figures as a table for people."""
    table = Table(title="GMK by MIKEY-SAKKE")
    for name in ("what", "result"):
        table.add_column(name)
    table.add_row("users that stored the GMK and answered", f"{figures.delivered} in {figures.deliver_ms:.0f} ms")
    table.add_row("removed user still holds a key", "yes" if figures.removed_holds_key else "no")
    table.add_row("others hold the new key, the old one revoked", "yes" if figures.rekeyed else "no")
    table.add_row("key of another GMS", figures.wrong_gms_code)
    if figures.val_board_ms is not None:
        table.add_row("board that is a VAL client opened its message", f"after {figures.val_board_ms:.0f} ms")
    return table

"""`keycast seal`: group master keys (GMK) by MIKEY-SAKKE, all servers and clients on this machine."""

import asyncio
import datetime
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from keycast.commands.group import PneArgument
from keycast.terminal.json_option import Answering
from keycast.terminal.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    answer,
    ask,
    console,
    refuse,
    remark,
    sentences,
)
from keycast.terminal.tables import show_table

if TYPE_CHECKING:
    from keycast.demo.seal_house import SealHouse

app = typer.Typer(
    cls=Answering, no_args_is_help=True, help="Group master keys by MIKEY-SAKKE: KMS, GMS, CMS and VAL clients."
)

ALICE, BOB, CAROL = (f"sip:{name}@example.org" for name in ("alice", "bob", "carol"))
CREW = "sip:crew@gms.example.org"


@dataclass
class SealFigures:
    """What the demo found out. `deliver_ms`: from making the key to the last of three answers."""

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
        """True if everything came out as it must."""
        return (
            self.delivered == 3
            and self.removed_holds_key is False
            and self.rekeyed
            and self.revoked_everywhere
            and self.wrong_gms_code == "wrong-initiator"
            and self.val_board_wiped is not False
        )


@app.command()
def demo(
    val_board: Annotated[
        bool, typer.Option("--val-board", help="And a home below: a board that is a VAL client, and one that is none.")
    ] = False,
) -> None:
    """Key three users of a group, remove one, change the key, and let another GMS try. All over HTTPS on loopback.

    Exit code 0 only if every step came out as it must.

    Example: keycast seal demo
    """
    figures = SealFigures()
    with sentences(), tempfile.TemporaryDirectory(prefix="keycast-seal-") as folder:
        try:
            asyncio.run(_play(Path(folder), figures, val_board))
        except TimeoutError as error:
            refuse(f"After a minute still waiting: {error}.", "timeout")
    answer(asdict(figures), lambda: _show(figures))
    if not figures.good:
        raise typer.Exit(1)


@app.command()
def board(
    pne: PneArgument,
    kms_token_file: Annotated[
        Path, typer.Option(readable=False, help="File of mode 0600 with the board's token at the KMS.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", readable=False, help="New folder for the board's files; they hold its keys.")
    ],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Fetch the keys of a board that is a VAL client itself, and write the files for its flash.

    The board stands in `[\\[seal.boards]]` of the configuration, which has no token for its keys. Repeat this before
    its key period ends.

    Example: keycast seal board lamp.porch --kms-token-file lamp.token -o lamp-val
    """
    from gateway_agent.config.load import load
    from keycast.provisioning.val_client import SCRIPT, fetch
    from private_store import files

    with sentences():
        seal = load(config).seal
        found = next((each for each in seal.boards if each.pne == pne), None) if seal else None
        if found is None:
            refuse(f"{pne} is no VAL client in {config}. Add it there: [[seal.boards]], see docs/gms.md.", "unknown")
        token = files.read(kms_token_file).decode("ascii", "replace").strip()
        access = seal.kms.model_copy(update={"user_uri": found.user_uri, "token": SecretStr(token)})
        made = asyncio.run(fetch(access, found.cms, lambda: int(time.time())))
        caches = made.write(out)
    served = {each.gms_uri for each in found.gms}
    answer(
        {
            "pne_id": pne,
            "user": found.user_uri,
            "groups": [{"group": group, "gms_uri": gms} for group, gms in made.client.groups.items()],
            "keys_end": made.until,
            "folder": str(out),
        },
        *(
            f"{group} of {gms}{'' if gms in served else ': this GMS is missing in [[seal.boards]]'}"
            for group, gms in made.client.groups.items()
        ),
        f"{out} holds the keys of {found.user_uri} until {_date(made.until)}. With {pne} on USB:",
        f"  mpremote run {out / SCRIPT}",
        "  mpremote fs mkdir :/val",
        f"  mpremote fs cp {' '.join(str(path) for path in caches)} :/val/",
        f"Then delete {out}: it is as secret as the board. The board's application starts ValService.",
    )


@app.command()
def boards(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """List the boards that are VAL clients behind a running gateway, and until when they have keys.

    Example: keycast seal boards
    """
    found = ask(config, None, "seal.boards")
    answer([each | {"heard": each["keys_end"] is not None} for each in found], lambda: _show_boards(found))


def _show_boards(found: list[dict[str, Any]]) -> None:
    rows = []
    for each in found:
        end = each["keys_end"]
        until = "not heard yet" if end is None else _date(end) if end else "no keys"
        rows.append((each["pne_id"], each["user"], "yes" if each["there"] else "no", until))
    show_table(console, ("PNE", "user", "there", "keys until"), rows)


def _date(unix_time: int) -> str:
    return f"{datetime.datetime.fromtimestamp(unix_time, datetime.UTC):%Y-%m-%d %H:%M} UTC"


async def _play(folder: Path, figures: SealFigures, val_board: bool) -> None:
    from key_servers.gms.values import Affiliation
    from keycast.demo.seal_house import GMS_URI, build_seal_house, until
    from mikey_sakke.group_configuration import KEY, REVOCATION

    start = time.monotonic()

    def say(text: str) -> None:
        remark(f"{time.monotonic() - start:6.2f} s  {text}")

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


async def _play_home(house: "SealHouse", folder: Path, figures: SealFigures, say: Callable[[str], None]) -> None:
    """One GMK on two ways: to a board that is a VAL client by its own message, to another by broadcast."""
    from keycast.demo.seal_home import GROUP, LAMP_USER, SG, build_seal_home
    from keycast.demo.seal_house import GMS_URI, until

    folder.mkdir(mode=0o700)
    async with build_seal_home(house, folder) as home:
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


def _show(figures: SealFigures) -> None:
    table = Table(title="GMK by MIKEY-SAKKE")
    for name in ("what", "result"):
        table.add_column(name)
    table.add_row("users that stored the GMK and answered", f"{figures.delivered} in {figures.deliver_ms:.0f} ms")
    table.add_row("removed user still holds a key", "yes" if figures.removed_holds_key else "no")
    table.add_row("others hold the new key, the old one revoked", "yes" if figures.rekeyed else "no")
    table.add_row("key of another GMS", figures.wrong_gms_code)
    if figures.val_board_ms is not None:
        table.add_row("board that is a VAL client opened its message", f"after {figures.val_board_ms:.0f} ms")
    Console().print(table)

"""The log of a home: one line for each thing that happens, and no secret in any of them."""

import base64
import logging
import sqlite3

from gateway_agent import pairing_secret
from tests.system.conftest import house_of
from tests.system.test_system_pairing import address_of, new_board, secret_of
from tests.system.watching import join, keyed, until

SG = "home/lights"
SHORTEST = 10  # octets of a pairing secret; what is shorter is an alias or an identifier


def secrets_in(folder):
    """Every octet string of the stores below `folder`, and every piece of a key's length of the files of keys."""
    found = set()
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        if path.read_bytes()[:15] == b"SQLite format 3":
            found |= blobs(path)
        elif path.suffix == ".key":
            octets = path.read_bytes()
            found |= {octets[at : at + 32] for at in range(len(octets) - 31)}
    return {octets for octets in found if len(octets) >= SHORTEST}


def blobs(path):
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for table in tables for row in database.execute(f'SELECT * FROM "{table}"')]
    database.close()
    return {value for row in rows for value in row if isinstance(value, bytes)}


def spellings(octets):
    """What a secret could look like in a line."""
    return octets.hex(), repr(octets)[2:-1], base64.b64encode(octets).decode().rstrip("=")


async def test_the_log_of_a_home_tells_what_happens_and_no_secret(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    secrets = set()

    def remember():
        secrets.update(secrets_in(tmp_path / "gateway"))

    def said(*words):
        return any(all(word in line for word in words) for line in caplog.messages)

    async with house_of(tmp_path, 2) as house, new_board(tmp_path / "new", address_of(house.app)) as board:
        secret = pairing_secret.octets(await secret_of(board))
        await house.app.pair("lamp.new", secret)
        await board.line("paired: ")
        house.boards["lamp.new"] = board
        names = list(house.boards)
        version = await join(house, SG, names)
        remember()
        house.server.expel(SG, names[0])
        version = await keyed(house, SG, names[1:], above=version)
        await until(lambda: said("0.", "is delivered: 2 of 2 boards"), what="the second key's delivery")
        remember()
        house.app.roll_over()
        await house.boards[names[1]].command("leave", group=SG, timeout_s=180)
        await keyed(house, SG, ["lamp.new"], above=version)
        remember()
        house.app.gateway.administration.retire_pne("lamp.new", "lost")
        house.server.delete_group(SG)
        await until(lambda: said("keys are erased"), what="the end of the group at the gateway")
        remember()

    assert said(f"{names[0]} is provisioned and let in")
    assert said("lamp.new is paired and let in")
    assert all(said(f"{name} has joined {SG}") for name in names)
    assert said(f"of {SG} is made", "the group is new") and said(f"of {SG} is made", "a board has gone")
    assert said(f"of {SG} has arrived")
    assert said(f"of {SG} is delivered: 3 of 3 boards after", "s (", " by ")
    assert said(f"{names[0]} is expelled from {SG}") and said(f"{names[0]} is out of {SG}")
    assert said("signing key 2 is in use")
    assert said(f"{names[1]} has left {SG}")
    assert said("lamp.new is retired")
    assert said(f"Service Group {SG} is deleted")
    assert len(secrets) > 20 and secret not in secrets
    told = "\n".join(caplog.messages)
    assert not [octets.hex() for octets in secrets | {secret} if any(way in told for way in spellings(octets))]
    assert base64.b32encode(secret).decode() not in told

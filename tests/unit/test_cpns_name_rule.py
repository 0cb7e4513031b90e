"""One rule for names at every entrance (SEC-31): composed, visible, in one direction; look-alikes are pointed out."""

import asyncio
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cpns import messages, name_rule, numbers
from cpns.errors import CpnsError, MalformedMessage
from key_servers.cms.profiles import _require_uri as cms_uri
from key_servers.cpns_server.app import CpnsServer
from key_servers.errors import ServerError
from key_servers.gms.management import _require_name as gms_name
from key_servers.identities import fault_of_name
from message_plane import credentials
from message_plane.errors import IdentityError, PlaneError, RegistrationRefused
from message_plane.identity import OwnIdentity
from message_plane.session_file import SessionFile
from tests.unit.test_gateway_app import opened

GOOD = [
    "lamp",
    "台所のlamp",
    "lamp.porch",
    "home/lights",
    "Küche",
    "кухня",
    "台所",
    "lamp porch",
    "a" * 64,
    "مصباح",
    "café",
]
BAD = {
    "": "empty",
    " lamp": "blanks",
    "lamp ": "blanks",
    "a" * 65: "longer than 64",
    "ü" * 33: "longer than 64",
    "lamp\u200b": "U\\+200B",
    "la\u200dmp": "U\\+200D",
    "lamp\u2060": "U\\+2060",
    "\ufefflamp": "U\\+FEFF",
    "lamp\u202e": "U\\+202E",
    "\u2066lamp\u2069": "U\\+2066",
    "lamp\u061c": "U\\+061C",
    "la\u00admp": "U\\+00AD",
    "lamp\n": "U\\+000A",
    "la\x7fmp": "U\\+007F",
    "la\x9bmp": "U\\+009B",
    "la\u00a0mp": "U\\+00A0",
    "la\u3000mp": "U\\+3000",
    "la\u3164mp": "U\\+3164",
    "la\u034fmp": "U\\+034F",
    "lamp\ufe0f": "U\\+FE0F",
    "lamp\U000e0041": "U\\+E0041",
    "la\u2028mp": "U\\+2028",
    "la\ud800mp": "U\\+D800",
    "la\ue000mp": "U\\+E000",
    "\u0301lamp": "accent",
    "lamp\u0301": "NFC",
    "cafe\u0301": "NFC",
    "\u212bngstrom": "NFC",
}
# Those that could be encoded and typed; the rest is covered by the rule's own test.
TYPED = ["lamp\u200b", "lamp\u202e", "lamp\u0301", " lamp", "la\u3164mp"]


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", GOOD)
def test_names_of_any_language_are_names(name: str) -> None:
    assert name_rule.checked(name, "PNE ID") == name


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_told_apart_is_none(name: str) -> None:
    with pytest.raises(MalformedMessage, match=f"the PNE ID .*{BAD[name]}"):
        name_rule.checked(name, "PNE ID")


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("l\u0430mp", "lamp"),  # Cyrillic a
        ("lamp.0", "lamp.o"),
        ("lamp.1", "lamp.l"),
        ("Iamp", "lamp"),
        ("Lamp", "lamp"),
        ("\uff4camp", "lamp"),  # full width
        ("\u0441\u043e\u0440", "cop"),
        ("lamp\u2010porch", "lamp-porch"),
    ],
)
def test_a_name_that_looks_like_another_is_pointed_out(name: str, other: str) -> None:
    assert f"{name} looks like {other}, which is another name." in name_rule.doubts(name, ["door", other, name])


@pytest.mark.req("SEC-31")
def test_a_name_of_several_scripts_is_pointed_out_and_plain_ones_are_not() -> None:
    assert name_rule.doubts("l\u0430mp") == ["l\u0430mp mixes letters of several scripts: CYRILLIC, LATIN."]
    for name in GOOD:
        assert name_rule.doubts(name, [each for each in GOOD if each != name]) == []


def credential_of(name: str, role: str) -> credentials.Credential:
    key = ec.generate_private_key(ec.SECP256R1())
    return credentials.of(name, role, key.public_key().public_numbers().x.to_bytes(32, "big"))


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", TYPED)
async def test_every_entrance_of_a_gateway(tmp_path: Path, name: str) -> None:
    app = await opened(tmp_path)
    try:
        with pytest.raises(RegistrationRefused):
            app.register(credential_of(name, "pne"))
        with pytest.raises(RegistrationRefused):
            await asyncio.wait_for(app.pair(name, bytes(10)), 5)
        for role in ("gateway", "server"):
            with pytest.raises(RegistrationRefused):
                app.credentials.bind(credential_of(name, role), replace=True)
        with pytest.raises(MalformedMessage):
            app.gateway.administration.register_pne(name)
        for fields in (
            {messages.SG_ID: name, messages.PN_ID: "home", messages.REVISION: 5, messages.MEMBER: ["lamp"]},
            {messages.SG_ID: "light", messages.PN_ID: "home", messages.REVISION: 5, messages.MEMBER: [name]},
        ):
            try:  # those with control characters are not even messages
                octets = messages.encode(numbers.INVENTORY_UPDATE_REQUEST, fields)
            except MalformedMessage:
                continue
            answer = messages.decode(await app.gateway.handle_server(octets))[1]
            assert answer[messages.RESULT] == numbers.RESULT_FAIL
        assert app.gateway.administration.groups() == [] and app.credentials.registered() == []
    finally:
        await app.close()


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", TYPED)
async def test_every_entrance_of_a_server(tmp_path: Path, name: str) -> None:
    server = await CpnsServer.open(tmp_path / "server")
    try:
        server.register_gateway("gw", "home", is_open=True)
        server.create_group("light", open_to=["home"])
        for entrance in (
            lambda: server.register_gateway(name, "cabin"),
            lambda: server.register_gateway("gw2", name),
            lambda: server.admit_pne(name, "home"),
            lambda: server.create_group(name),
            lambda: server.permit("light", name),
        ):
            with pytest.raises(CpnsError):
                entrance()
        for code, pne_id, sg_id in (
            (numbers.JOIN_REQUEST, name, "light"),
            (numbers.CREATE_SERVICE_GROUP_REQUEST, "lamp", name),
        ):
            fields = {messages.PNE_ID: pne_id, messages.SG_ID: sg_id, messages.PN_ID: "home"}
            answer = messages.decode(await server.handle("gw", messages.encode(code, fields)))[1]
            assert answer[messages.RESULT] == numbers.RESULT_FAIL
        assert [view.sg_id for view in server.list_groups()] == ["light"] and not server.show_group("light").members
    finally:
        await server.close()


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", TYPED)
def test_keys_of_a_gateway_or_server_and_users_of_key_servers(tmp_path: Path, name: str) -> None:
    for role in ("gateway", "server"):
        with pytest.raises(IdentityError):
            OwnIdentity.create(tmp_path / "key", name, role)
    assert not (tmp_path / "key").exists()
    assert fault_of_name(f"sip:{name}", 1024)  # a URI is of ASCII alone
    for entrance in (cms_uri, lambda uri: gms_name(uri, "The URI", 255)):
        with pytest.raises(ServerError):
            entrance(f"{name}@sip:home" if name[0] == " " else f"sip:{name}")


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("name", TYPED)
def test_stores_made_before_the_rule_go_on(tmp_path: Path, name: str) -> None:
    store = SessionFile(tmp_path / "sessions.db")
    try:
        old = credential_of(name, "pne")
        store.register(old)  # as it was done then
        assert store.candidates(old.kid) == [old]
        assert store.bind(old, replace=False) is False  # the same board is paired once more
        with pytest.raises(PlaneError):
            store.bind(credential_of(name, "pne"), replace=False)
    finally:
        store.close()

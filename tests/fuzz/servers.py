"""Fuzz targets: messages between key servers and their clients."""

import json
from pathlib import Path

from cpns import numbers, uplink_form, xml_form
from cpns.errors import CpnsError
from gateway_agent.val_client.servers import reason
from key_servers.https import tokens
from keycast.mikey_form.key_file import read_keys
from mikey_sakke import group_configuration, i_message, kms_xml
from mikey_sakke.errors import MikeyError
from mikey_sakke.kms_faults import KmsFault
from mikey_sakke.kms_values import ErrorReport, Request, Response
from tests.fuzz.datagrams import DELIVERY, DELIVERY_FIELDS
from tests.fuzz.portable_parsers import PARSERS
from tests.fuzz.target import Target

_VECTORS = Path(__file__).parents[1] / "vectors" / "mikey_sakke_public.json"
PUBLIC = json.loads(_VECTORS.read_text())
_KEYS = read_keys(_VECTORS)
_XML = xml_form.encode(numbers.GROUP_KEY_DELIVERY_REQUEST, DELIVERY_FIELDS)
_PARAMETERS = bytes.fromhex("00000000000068d7eafa00ffffffff00000020017b001c") + b"sip:group@gms-psi.example.or"
I_MESSAGE = bytes.fromhex(PUBLIC["payload_tests"][0]["i_message_hex"])
_REQUEST = Request("sip:a@example.org", "kms.example.org", 1_700_000_000, "https://kms.example.org/", "client")
_RESPONSE = Response("sip:a@b", "kms", 1_700_000_000, "https://kms/", error=ErrorReport(7, "no"))
_GROUPS = (group_configuration.GroupRecord("sip:g@example.org", "lights"),)
_NOTICE = group_configuration.NotifyRequest(
    "n1", "sip:gms@example.org", "sip:a@example.org", "key", _GROUPS, b"\x01\x1a"
)
_ANSWER = group_configuration.NotifyResponse("n1", b"\x01\x02\x03\x04", bytes(32))
_PROFILE = group_configuration.UserProfile("sip:a@example.org", 3, {"sip:g@example.org": "sip:gms@example.org"})


def _open(data: bytes) -> None:
    """Everything up to the key material, which this user does not have for any period: that comes before the curves."""
    user = next(iter(_KEYS.users.values()))["user_uri"]
    i_message.open_(data, _KEYS.kms, user, lambda number: None, [user], None)


TARGETS = (
    Target("xml", xml_form.decode, (CpnsError,), (_XML, b"<a/>")),
    Target("uplink-message", uplink_form.decode, (CpnsError,), (_XML, DELIVERY, b"\xef\xbb\xbf" + _XML)),
    Target("mikey", PARSERS["mikey"], (MikeyError,), (I_MESSAGE,)),
    Target("i-message", _open, (MikeyError,), (I_MESSAGE,)),
    Target("key-parameters", PARSERS["key-parameters"], (MikeyError,), (_PARAMETERS,)),
    Target("kms-request", lambda data: kms_xml.decode(data, Request), (KmsFault,), (kms_xml.encode(_REQUEST),)),
    Target("kms-response", lambda data: kms_xml.decode(data, Response), (KmsFault,), (kms_xml.encode(_RESPONSE),)),
    Target("kms-token", lambda data: tokens.split(data.decode("latin-1")), (), (b"Bearer abc.def", b"Bearer")),
    Target(
        "group-notices",
        group_configuration.decode_requests,
        (MikeyError,),
        (group_configuration.encode_requests([_NOTICE]), b"[" * 3000),
    ),
    Target(
        "group-answer",
        group_configuration.decode_response,
        (MikeyError,),
        (group_configuration.encode_response(_ANSWER),),
    ),
    Target("server-refusal", reason, (), (b'{"code": "not_authorised", "text": "no"}', b"[" * 3000)),
    Target(
        "user-profile",
        group_configuration.decode_profile,
        (MikeyError,),
        (group_configuration.encode_profile(_PROFILE),),
    ),
)

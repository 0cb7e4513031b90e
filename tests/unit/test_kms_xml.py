"""The XML of the KMS protocol (TS 33.180 annex D): its form on the wire, and every document that is refused."""

import base64
import itertools
import textwrap
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mikey_sakke import kms_faults, kms_table, kms_values
from mikey_sakke.kms_values import (
    Certificate,
    CertificateCache,
    DomainList,
    ErrorReport,
    Init,
    KeyProvision,
    KeySet,
    KmsMessage,
    Request,
    Response,
    Unzoned,
)
from mikey_sakke.kms_xml import REQUEST_MAX, RESPONSE_MAX, decode, encode

KM = 'xmlns="urn:3gpp:ns:mcsecKMSInterface:1.0"'
Z, KPAK, RSK, SSK, PVT = b"\x04" * 257, b"\x05" * 65, b"\x06" * 257, b"\x07" * 32, b"\x08" * 65
UID = bytes(range(32))
CERTIFICATE = Certificate("kms.example.org", 2592000, 0, Z, KPAK)
KEY_SET = KeySet("kms.example.org", "sip:user@example.org", UID, 1514, RSK, SSK, PVT)
REQUEST = Request("sip:user@example.org", "kms.example.org", 1_700_000_000, "https://kms.example.org/x")
RESPONSE = Response("sip:user@example.org", "kms.example.org", 1_700_000_000, "https://kms.example.org/x")

REQUEST_XML = (
    f'<KmsRequest {KM} Version="1.1.0" Id="xmldoc"><UserUri>sip:user@example.org</UserUri>'
    "<KmsUri>kms.example.org</KmsUri><Time>2023-11-14T22:13:20</Time>"
    "<ClientReqUrl>https://kms.example.org/x</ClientReqUrl></KmsRequest>"
)


def key_provision(**keys: str) -> str:
    """A response as another vendor writes it: prefixes, a time without zone, upper-case digits, blanks."""
    texts = {"rsk": RSK.hex().upper(), "ssk": SSK.hex().upper(), "pvt": PVT.hex().upper(), "uid": UID.hex().upper()}
    texts |= {"type": 'xsi:type="k:KeyContentType"', "extra": ""} | keys
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<k:KmsResponse xmlns:k="urn:3gpp:ns:mcsecKMSInterface:1.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:schemaLocation="urn:3gpp:ns:mcsecKMSInterface:1.0 KMS.xsd" Version="1.0.0">
  <!-- a comment between elements -->
  <k:UserUri> sip:user@example.org </k:UserUri>
  <k:KmsUri>kms.example.org</k:KmsUri>
  <k:Time>2023-11-15T00:13:20.25+02:00</k:Time>
  <k:KmsId>KMSProvider12345</k:KmsId>
  <k:ClientReqUrl>https://kms.example.org/x</k:ClientReqUrl>
  <k:KmsMessage><k:KmsKeyProv Version="1.0.0"><k:KmsKeySet Version="1.1.0">
    <k:KmsUri>kms.example.org</k:KmsUri><k:UserUri>sip:user@example.org</k:UserUri>
    <k:UserID>{texts["uid"]}</k:UserID><k:ValidFrom>2023-11-14T22:13:20Z</k:ValidFrom>
    <k:KeyPeriodNo>1514</k:KeyPeriodNo><k:Revoked>0</k:Revoked>
    <k:UserDecryptKey {texts["type"]}>{texts["rsk"]}</k:UserDecryptKey>
    <k:UserSigningKeySSK>{texts["ssk"]}</k:UserSigningKeySSK>
    <k:UserPubTokenPVT>{texts["pvt"]}</k:UserPubTokenPVT>{texts["extra"]}
  </k:KmsKeySet></k:KmsKeyProv></k:KmsMessage>
</k:KmsResponse>"""


def refused(document: str | bytes, expected: Any = Request) -> kms_faults.KmsFault:
    octets = document.encode() if isinstance(document, str) else document
    with pytest.raises(kms_faults.KmsFault) as caught:
        decode(octets, expected)
    return caught.value


def test_a_request_is_written_in_the_order_of_annex_d() -> None:
    request = replace(REQUEST, client_id="client", device_id="device", error=ErrorReport(3, "why"), id="xmldoc")
    assert encode(request).decode().split("\n", 1)[1] == (
        '<KmsRequest xmlns="urn:3gpp:ns:mcsecKMSInterface:1.0" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
        ' Id="xmldoc" Version="1.0.0"><UserUri>sip:user@example.org</UserUri><KmsUri>kms.example.org</KmsUri>'
        "<Time>2023-11-14T22:13:20Z</Time><ClientId>client</ClientId><DeviceId>device</DeviceId>"
        "<ClientReqUrl>https://kms.example.org/x</ClientReqUrl>"
        "<ClientError><ErrorCode>3</ErrorCode><ErrorMsg>why</ErrorMsg></ClientError></KmsRequest>"
    )


def test_a_key_set_is_written_in_the_order_of_annex_d_with_typed_keys_and_a_hexadecimal_uid() -> None:
    full = replace(KEY_SET, cert_uri="c", issuer="i", valid_from=0, valid_to=60, revoked=False, id="ks")
    text = encode(replace(RESPONSE, message=KmsMessage(key_provision=KeyProvision((full,))))).decode()
    inner = text[text.index("<KmsKeySet") : text.index("</KmsKeySet>")]
    typed = 'xsi:type="KeyContentType"'
    assert inner == (
        '<KmsKeySet Id="ks" Version="1.1.0"><KmsUri>kms.example.org</KmsUri><CertUri>c</CertUri><Issuer>i</Issuer>'
        f"<UserUri>sip:user@example.org</UserUri><UserID>{UID.hex()}</UserID>"
        "<ValidFrom>1970-01-01T00:00:00Z</ValidFrom><ValidTo>1970-01-01T00:01:00Z</ValidTo>"
        "<KeyPeriodNo>1514</KeyPeriodNo><Revoked>false</Revoked>"
        f"<UserDecryptKey {typed}>{RSK.hex()}</UserDecryptKey>"
        f"<UserSigningKeySSK {typed}>{SSK.hex()}</UserSigningKeySSK>"
        f"<UserPubTokenPVT {typed}>{PVT.hex()}</UserPubTokenPVT>"
    )


def test_a_certificate_is_written_in_the_order_of_annex_d() -> None:
    full = replace(
        CERTIFICATE,
        cert_uri="c",
        issuer="i",
        valid_from=0,
        valid_to=60,
        revoked=True,
        parameter_set=1,
        domain_list=DomainList(("a.example", "b.example")),
        security_gateway=True,
        id="cert",
    )
    text = encode(full).decode()
    assert 'Id="cert" Version="1.1.0" Role="Root" IsSecurityGateway="true"' in text
    assert text[text.index("<CertUri") :] == (
        "<CertUri>c</CertUri><KmsUri>kms.example.org</KmsUri><Issuer>i</Issuer>"
        "<ValidFrom>1970-01-01T00:00:00Z</ValidFrom><ValidTo>1970-01-01T00:01:00Z</ValidTo><Revoked>true</Revoked>"
        "<UserIdFormat>2</UserIdFormat><UserKeyPeriod>2592000</UserKeyPeriod><UserKeyOffset>0</UserKeyOffset>"
        f"<PubEncKey>{Z.hex()}</PubEncKey><PubAuthKey>{KPAK.hex()}</PubAuthKey><ParameterSet>1</ParameterSet>"
        "<KmsDomainList><KmsDomain>a.example</KmsDomain><KmsDomain>b.example</KmsDomain></KmsDomainList>"
        "</KmsCertificate>"
    )


def test_another_vendors_document_is_read() -> None:
    response = decode(key_provision().encode(), Response)
    assert response.time == 1_700_000_000 and response.kms_id == "KMSProvider12345"
    assert response.message and response.message.key_provision
    assert response.message.key_provision.key_sets == (replace(KEY_SET, valid_from=1_700_000_000, revoked=False),)


def test_a_user_id_is_read_in_base64_too() -> None:
    response = decode(key_provision(uid=base64.b64encode(UID).decode()).encode(), Response)
    assert response.message and response.message.key_provision
    assert response.message.key_provision.key_sets[0].uid == UID


def test_redirect_responses_in_a_request_are_read_over() -> None:
    krr = '<KrrList xmlns="urn:3gpp:ns:mcsecKMSKRR:1.0"><Krr><x/></Krr></KrrList></KmsRequest>'
    assert decode(REQUEST_XML.replace("</KmsRequest>", krr).encode(), Request).kms_uri == "kms.example.org"


def test_keys_never_show() -> None:
    shown = repr(replace(RESPONSE, message=KmsMessage(key_provision=KeyProvision((KEY_SET,)))))
    for key in (RSK, SSK, PVT):
        assert repr(key) not in shown and key.hex() not in shown


# hostile documents


@pytest.fixture
def a_web_server() -> Any:
    """Something on the network that counts who asks it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/x", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_entities_are_refused_before_anything_is_expanded() -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    for declaration in (
        "<!DOCTYPE KmsRequest>",
        '<!DOCTYPE KmsRequest [<!ENTITY e "sip:evil@example.org">]>',
        f'<!DOCTYPE KmsRequest [<!ENTITY l0 "ha">{laughs}]>',
        '<!DOCTYPE KmsRequest [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE KmsRequest [<!ATTLIST KmsRequest Version CDATA "9">]>',
    ):
        document = declaration + REQUEST_XML.replace("sip:user@example.org", "&l11;")
        assert refused(document).code == "doctype"
    assert refused(REQUEST_XML.replace("sip:user@example.org", "&e;")).code == "not-well-formed"


def test_no_document_makes_us_ask_the_network(a_web_server: Any) -> None:
    url, asked = a_web_server
    for document in (
        f'<!DOCTYPE KmsRequest SYSTEM "{url}">{REQUEST_XML}',
        f'<!DOCTYPE KmsRequest [<!ENTITY % e SYSTEM "{url}"> %e;]>{REQUEST_XML}',
        REQUEST_XML.replace(
            "<UserUri>", f'<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="{url}"/><UserUri>'
        ),
    ):
        refused(document)
    located = f'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="urn:x {url}" Version'
    decode(REQUEST_XML.replace("Version", located).encode(), Request)
    assert asked == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7", "cp500"])
def test_no_other_encoding_hides_a_declaration(encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE KmsRequest [<!ENTITY e "x">]>{REQUEST_XML}'
    assert refused(document.encode(encoding)).code in ("not-well-formed", "doctype")


def test_the_encoding_is_utf_8_whatever_the_document_says() -> None:
    document = f'<?xml version="1.0" encoding="iso-8859-1"?>{REQUEST_XML.replace("user@", "ü@")}'
    assert refused(document.encode("latin-1")).code == "not-well-formed"


@pytest.mark.parametrize(("expected", "limit"), [(Request, REQUEST_MAX), (Response, RESPONSE_MAX)])
def test_a_huge_document_is_refused_unread(expected: Any, limit: int) -> None:
    assert refused(b" " * (limit + 1), expected).code == "too-large"


def test_a_deep_document_is_refused() -> None:
    assert refused("<a>" * 2000 + "</a>" * 2000).code == "not-well-formed"
    assert refused("<a>" * 200 + "</a>" * 200).code == "wrong-root"
    deep = REQUEST_XML.replace("sip:user@example.org", "<a>" * 100 + "</a>" * 100)
    assert refused(deep).code == "wrong-value"


def test_more_items_than_a_list_may_have_are_refused() -> None:
    one = encode(replace(RESPONSE, message=KmsMessage(key_provision=KeyProvision((KEY_SET,))))).decode()
    item = one[one.index("<KmsKeySet") : one.index("</KmsKeyProv>")]
    many = one.replace(item, item * (kms_table.KEY_SETS_MAX + 1))
    assert refused(many, Response).code == "repeated-element"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (KM, "", "wrong-namespace"),
        (KM, 'xmlns="urn:3gpp:ns:mcsecKMSInterface:2.0"', "wrong-namespace"),
        ("<KmsUri>", '<KmsUri xmlns="urn:other">', "wrong-namespace"),
        ("KmsRequest", "KmsReply", "wrong-root"),
        ("KmsRequest", "SignedKmsRequest", "unsupported"),
        ("<UserUri>sip:user@example.org</UserUri>", "", "missing-element"),
        ("<Time>2023-11-14T22:13:20</Time>", "", "missing-element"),
        ("<ClientReqUrl>https://kms.example.org/x</ClientReqUrl>", "", "missing-element"),
        ("<UserUri>", "<UserUri>sip:other@example.org</UserUri><UserUri>", "repeated-element"),
        ("</KmsRequest>", "<KmsUri>kms.example.org</KmsUri></KmsRequest>", "repeated-element"),
        ("</KmsRequest>", "<SignedKmsCertificate/></KmsRequest>", "unsupported"),
        ("</KmsRequest>", '<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/></KmsRequest>', "unsupported"),
        ("</KmsRequest>", '<EncryptedData xmlns="http://www.w3.org/2001/04/xmlenc#"/></KmsRequest>', "unsupported"),
        ("<KmsUri>", '<KmsUri xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="x">', "unsupported"),
        ("<ClientReqUrl>", "<ClientId>a</ClientId><ClientId>b</ClientId><ClientReqUrl>", "repeated-element"),
        ("</KmsRequest>", "<Time/></KmsRequest>", "repeated-element"),
        ("22:13:20", "22:13:20+2", "wrong-value"),
        ("22:13:20", "22:13:20+25:00", "wrong-value"),
        ("22:13:20", "22:13:20.", "wrong-value"),
        ("22:13:20", "22", "wrong-value"),
        ("</KmsRequest>", "more</KmsRequest>", "unknown-element"),
        ("<KmsUri>", "more<KmsUri>", "unknown-element"),
        ("</KmsRequest>", "<?more octets?></KmsRequest>", "unknown-element"),
        ("kms.example.org</KmsUri>", "kms.<!-- -->example.org</KmsUri>", "wrong-value"),
        ("kms.example.org</KmsUri>", "<KmsUri/></KmsUri>", "wrong-value"),
        ("kms.example.org</KmsUri>", "</KmsUri>", "wrong-value"),
        ("kms.example.org</KmsUri>", "kms example.org</KmsUri>", "wrong-value"),
        ("kms.example.org</KmsUri>", "k" * 1025 + "</KmsUri>", "wrong-value"),
        ("22:13:20", "22:13:60", "wrong-value"),
        ("22:13:20", "25:13:20", "wrong-value"),
        ("2023-11-14", "2023-02-30", "wrong-value"),
        ("2023-11-14", "1969-02-20", "wrong-value"),
        ("2023-11-14", "١٩٧٠-11-14", "wrong-value"),
        ('"1.1.0"', '"one"', "wrong-value"),
        ("</KmsRequest>", "</KmsRequest><KmsRequest/>", "not-well-formed"),
        ("</KmsRequest>", "", "not-well-formed"),
        ('Id="xmldoc"', 'Id="a" Id="b"', "not-well-formed"),
    ],
)
def test_each_fault_of_a_document_is_its_own_error(old: str, new: str, code: str) -> None:
    assert old in REQUEST_XML
    fault = refused(REQUEST_XML.replace(old, new))
    assert fault.code == code
    assert str(fault).endswith(".") and "other" not in str(fault), "a sentence, without words of the document"


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        ("<Time>", "<ClientId>early</ClientId><Time>", {"client_id": "early"}),
        ("</KmsRequest>", "<DeviceId>d</DeviceId><ClientId>late</ClientId></KmsRequest>", {"client_id": "late"}),
        ("</KmsRequest>", "<TrK-ID>x</TrK-ID><Signature-ID>y</Signature-ID></KmsRequest>", {}),
        ("</KmsRequest>", "<More><UserUri>sip:other@example.org</UserUri></More></KmsRequest>", {}),
        ("<KmsUri>", '<UserUri xmlns="urn:other">sip:other@example.org</UserUri><KmsUri>', {}),
        ("Id=", "Ident=", {"id": None}),
        (' Version="1.1.0"', "", {"version": "1.0.0"}),
        ("<KmsUri>", '<KmsUri Id="1" more="x">', {}),
        ("sip:user@example.org", "\n\t sip:user@example.org ", {}),
        ("</KmsRequest>", "\r\n<!-- more --><ClientId/></KmsRequest>", {"client_id": ""}),
        ("22:13:20", "22:13:20Z", {}),
        ("22:13:20", "22:13:20z", {}),
        ("22:13:20", "22:13:20.123456789012Z", {}),
        ("22:13:20", "22:13:20.5", {}),
        ("22:13:20", "22:13", {"time": 1_700_000_000 - 20}),
        ("22:13:20", "23:13:20+01:00", {}),
        ("22:13:20", "23:13:20+0100", {}),
        ("22:13:20", "17:13:20.9-05", {}),
    ],
)
def test_the_form_of_a_document_is_free_where_nothing_depends_on_it(old: str, new: str, change: dict[str, Any]) -> None:
    assert old in REQUEST_XML
    read = decode(REQUEST_XML.replace(old, new).encode(), Request)
    assert (read.client_id, read.id) == (change.get("client_id"), change.get("id", "xmldoc"))
    assert (read.user_uri, read.time) == (REQUEST.user_uri, change.get("time", REQUEST.time))
    assert read.version == change.get("version", "1.1.0")


def test_elements_come_in_any_order() -> None:
    head, *elements, tail = REQUEST_XML.replace("><", ">\n<").split("\n")
    for order in itertools.permutations(elements):
        assert decode("".join((head, *order, tail)).encode(), Request) == replace(REQUEST, version="1.1.0", id="xmldoc")


def test_a_time_without_zone_is_known_as_such_and_written_so() -> None:
    zoned = decode(REQUEST_XML.replace("22:13:20", "22:13:20Z").encode(), Request)
    bare = decode(REQUEST_XML.encode(), Request)
    assert zoned.time == bare.time and isinstance(bare.time, Unzoned) and not isinstance(zoned.time, Unzoned)
    assert b"22:13:20</Time>" in encode(bare) and b"22:13:20Z</Time>" in encode(zoned)


def test_empty_elements_that_need_not_be_there_are_not_there() -> None:
    empty = "<k:Issuer/><k:CertUri></k:CertUri><k:ValidTo/>"
    response = decode(key_provision(extra=empty).replace("<k:Revoked>0</k:Revoked>", "<k:Revoked/>").encode(), Response)
    assert response.message and response.message.key_provision
    assert response.message.key_provision.key_sets == (replace(KEY_SET, valid_from=1_700_000_000, issuer=""),)


def test_keys_are_read_in_lines_too() -> None:
    lines = {"rsk": "\n".join(textwrap.wrap(RSK.hex(), 64)), "uid": "\r\n".join(textwrap.wrap(UID.hex(), 40))}
    response = decode(key_provision(**lines).encode(), Response)
    assert response.message and response.message.key_provision
    assert response.message.key_provision.key_sets[0].rsk == RSK


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"rsk": RSK.hex()[:-2]}, "wrong-value"),
        ({"rsk": RSK.hex() + "00"}, "wrong-value"),
        ({"ssk": "zz" * 32}, "wrong-value"),
        ({"pvt": "\u0660" * 130}, "wrong-value"),
        ({"uid": "00" * 31}, "wrong-value"),
        ({"uid": base64.b64encode(bytes(33)).decode()}, "wrong-value"),
        ({"type": 'xsi:type="k:EncKeyContentType"'}, "unsupported"),
        ({"type": 'xsi:type="KeyContentType"'}, "unsupported"),
        ({"rsk": '<EncryptedKey xmlns="http://www.w3.org/2001/04/xmlenc#"/>'}, "wrong-value"),
        ({"extra": "<k:UserPubTokenPVT>00</k:UserPubTokenPVT>"}, "repeated-element"),
    ],
)
def test_each_fault_of_a_key_is_refused_without_quoting_it(change: dict[str, str], code: str) -> None:
    fault = refused(key_provision(**change), Response)
    assert fault.code == code
    assert "0606" not in str(fault) and "0707" not in str(fault)


def test_a_message_is_one_of_three_and_excludes_an_error() -> None:
    init, error = KmsMessage(init=Init(CERTIFICATE)), ErrorReport(1, "no")
    both = replace(init, certificate_cache=CertificateCache())
    for response, fault in (
        (replace(RESPONSE, message=KmsMessage()), kms_faults.MissingElement),
        (replace(RESPONSE, message=both), kms_faults.RepeatedElement),
        (replace(RESPONSE, message=init, error=error), kms_faults.RepeatedElement),
    ):
        with pytest.raises(fault):
            encode(response)
    text = encode(replace(RESPONSE, message=init)).decode()
    twice = text.replace("</KmsMessage>", "<KmsKeyProv/></KmsMessage>")
    assert refused(twice, Response).code == "repeated-element"
    with_error = "</KmsMessage><KmsError><ErrorCode>1</ErrorCode><ErrorMsg/></KmsError>"
    assert refused(text.replace("</KmsMessage>", with_error), Response).code == "repeated-element"
    empty = text[: text.index("<KmsInit")] + text[text.index("</KmsMessage>") :]
    assert refused(empty, Response).code == "missing-element"
    assert refused(text.replace(' Role="Root"', ""), Response).code == "missing-element"
    assert refused(text.replace('"Root"', '"root"'), Response).code == "wrong-value"


def test_documents_of_the_security_extension_are_refused_as_such() -> None:
    text = encode(replace(RESPONSE, message=KmsMessage(init=Init(CERTIFICATE)))).decode()
    signed = text.replace("KmsCertificate ", "SignedKmsCertificate ").replace("/KmsCert", "/SignedKmsCert")
    assert refused(signed, Response).code == "unsupported"
    wrapped = text.replace("<KmsInit ", '<KmsInit xsi:type="KmsInitTkIkType" ')
    assert refused(wrapped, Response).code == "unsupported"


@pytest.mark.parametrize("text", ["", "two words", "tab\t", "\ud800", "nul\x00", "x" * 1025])
def test_what_could_not_be_read_back_is_not_written(text: str) -> None:
    with pytest.raises(kms_faults.WrongValue):
        encode(replace(REQUEST, kms_uri=text))


def test_every_error_has_its_own_code_and_every_value_a_row() -> None:
    faults = [each for each in vars(kms_faults).values() if isinstance(each, type)]
    assert len({fault.code for fault in faults}) == len(faults)
    for value in (REQUEST, RESPONSE, CERTIFICATE, KEY_SET):
        table = next(t for t in vars(kms_table).values() if isinstance(t, kms_table.Type) and t.value is type(value))
        rows = {row.field for row in (*table.attributes, *table.children)} - {None}
        assert rows == set(value.__slots__), kms_values

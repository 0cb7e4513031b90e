"""The XML form: how it looks, and which parts of XML are refused."""

import pytest

from cpns import messages as m
from cpns import numbers as n
from cpns import tuning, xml_form
from cpns.errors import MalformedMessage

NS = 'xmlns="urn:keycast:cpns:1"'
JOIN = f"<JoinRequest {NS}><PNEID>pne-1</PNEID><SGID>lamps</SGID></JoinRequest>"


@pytest.mark.req("CPNS-GKM-41", "CPNS-GKM-46", "CPNS-GKM-47", "CPNS-GKM-48")
def test_group_key_delivery_request_as_xml():
    fields = {
        m.SG_ID: "lamps & doors",
        m.GROUP_KEY: [(bytes(16), "1.0a0b"), (b"\xff" * 16, "1.0c")],
        m.VERSION: 65537,
        m.ACTIVATION: 0,
        m.REASON: n.REASON_LEAVE,
    }
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<GroupKeyDeliveryRequest {NS}><SGID>lamps &amp; doors</SGID>"
        '<GroupKey EncryptionKeyindex="1.0a0b">AAAAAAAAAAAAAAAAAAAAAA==</GroupKey>'
        '<GroupKey EncryptionKeyindex="1.0c">/////////////////////w==</GroupKey>'
        "<Version>65537</Version><Activation>0</Activation><Reason>2</Reason></GroupKeyDeliveryRequest>"
    )
    assert xml_form.encode(n.GROUP_KEY_DELIVERY_REQUEST, fields).decode() == text
    assert xml_form.decode(text.encode()) == (n.GROUP_KEY_DELIVERY_REQUEST, fields)


@pytest.mark.req("CPNS-GKM-79", "CPNS-GKM-80", "CPNS-GKM-86", "CPNS-GKM-88")
def test_simplified_messages_carry_their_attributes():
    request = {m.SGID: "lamps", m.GROUP_KEY_INFO: ("pne-1", bytes(24)), m.VERSION: 1, m.EUK_ID: bytes(8)}
    text = xml_form.encode(n.S_GROUP_KEY_DELIVERY_REQUEST, request).decode()
    assert f'<SGroupKeyDeliveryRequest {NS} SGID="lamps">' in text
    assert f'<GroupKeyInfo PNEID="pne-1" EncryptedGroupKey="{"A" * 32}">' in text
    response = {m.RETURN: "1", m.PNID: "home", m.MAC: bytes(8)}
    text = xml_form.encode(n.S_GROUP_KEY_DELIVERY_RESPONSE, response).decode()
    assert f'<SGroupKeyDeliveryResponse {NS} Return="1" PNID="home">' in text


@pytest.mark.parametrize(
    "text",
    [
        JOIN,
        "<?xml version='1.0' encoding='utf-8' ?>\n" + JOIN + "\n",
        '<?xml version="1.0"?>' + JOIN,
        JOIN.replace("><", ">\r\n\t<"),
        JOIN.replace('"', "'"),
        JOIN.replace("</PNEID>", "</PNEID \n>").replace(" xmlns=", "\n xmlns = "),
        JOIN.replace("pne-1", "&#112;ne&#x2D;1"),
        f"<JoinRequest {NS}><SGID>lamps</SGID><PNEID>pne-1</PNEID></JoinRequest>",
    ],
)
def test_other_spellings_of_the_same_message_are_read(text):
    assert xml_form.decode(text.encode()) == (n.JOIN_REQUEST, {m.PNE_ID: "pne-1", m.SG_ID: "lamps"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        " " + '<?xml version="1.0"?>' + JOIN,
        "\ufeff" + JOIN,
        JOIN[:-1],
        JOIN + "x",
        JOIN + JOIN,
        "<!DOCTYPE JoinRequest>" + JOIN,
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]>' + JOIN.replace("pne-1", "&b;"),
        "<?php ?>" + JOIN,
        "<!-- -->" + JOIN,
        JOIN.replace("pne-1", "<!-- -->"),
        JOIN.replace("pne-1", "<![CDATA[pne-1]]>"),
        JOIN.replace("pne-1", "pne]]>1"),
        JOIN.replace("pne-1", "&nbsp;"),
        JOIN.replace("pne-1", "&lt"),
        JOIN.replace("pne-1", "a & b"),
        JOIN.replace("pne-1", "&#0;"),
        JOIN.replace("pne-1", "&#xD800;"),
        JOIN.replace("pne-1", "&#x110000;"),
        JOIN.replace("pne-1", "&#-1;"),
        JOIN.replace("pne-1", "a\x01b"),
        JOIN.replace("pne-1", "a\nb"),
        JOIN.replace("pne-1", "&#10;"),
        JOIN.replace("pne-1", "<a/>"),
        JOIN.replace("pne-1", ""),
        JOIN.replace("JoinRequest", "k:JoinRequest").replace("xmlns", "xmlns:k"),
        JOIN.replace("JoinRequest", "JoiningRequest"),
        JOIN.replace(NS, ""),
        JOIN.replace(NS, 'xmlns="urn:keycast:cpns:2"'),
        JOIN.replace(NS, NS + " " + NS),
        JOIN.replace(NS, NS + 'a="b"'),
        JOIN.replace(NS, NS + ' a="b"'),
        JOIN.replace(NS, NS + ' a="<"'),
        JOIN.replace(NS, NS + " a=b"),
        JOIN.replace("<SGID>lamps</SGID>", ""),
        JOIN.replace("<SGID>lamps</SGID>", "<SGID>lamps</SGID>" * 2),
        JOIN.replace("<SGID>lamps</SGID>", "<SGID>lamps</SGID><Version>1</Version>"),
        JOIN.replace("<SGID>", '<SGID a="b">'),
        JOIN.replace("<SGID>", "text<SGID>"),
        JOIN.replace("</SGID>", "</PNEID>"),
        '<?xml version="1.0" encoding="UTF-16"?>' + JOIN,
        '<?xml version="1.1"?>' + JOIN,
        '<?xml version="1.0" encoding="ISO-8859-1"?>' + JOIN,
        '<?xml version="1.0" standalone="yes"?>' + JOIN,
        "<" * 100000,
    ],
    ids=lambda text: ascii(text)[:60],
)
def test_anything_else_is_malformed(text):
    assert text != JOIN
    with pytest.raises(MalformedMessage):
        xml_form.decode(text.encode())


@pytest.mark.parametrize(
    "number", ["", " 1", "+1", "01", "1_0", "0x1", "1.0", "-1", "4294967296", "\u0661", "9" * 5000]
)
def test_integers_have_one_spelling(number):
    report = f"<DeliveryReportRequest {NS}><SGID>lamps</SGID><Version>%s</Version></DeliveryReportRequest>"
    xml_form.decode((report % 10).encode())
    with pytest.raises(MalformedMessage):
        xml_form.decode((report % number).encode())


@pytest.mark.parametrize("binary", ["QUE", "QUF=", "QUE=\n", "Q UE=", "QUE=QUE=", "Q-E=", "\u00e9", "====", ""])
def test_binary_has_one_spelling(binary):
    text = f"<GenerationRequest {NS}><GKDK>%s</GKDK><Generation>1</Generation></GenerationRequest>"
    xml_form.decode((text % "QUE=").encode())
    with pytest.raises(MalformedMessage):
        xml_form.decode((text % binary).encode())


def test_size_is_bounded_before_anything_is_read():
    padded = JOIN.encode() + b" " * tuning.UPLINK_MESSAGE_MAX
    with pytest.raises(MalformedMessage):
        xml_form.decode(padded)
    with pytest.raises(MalformedMessage):
        xml_form.decode(JOIN.encode(), limit=len(JOIN) - 1)


def test_the_longest_list_fits_the_limit():
    fields = {
        m.SG_ID: "s" * 64,
        m.VERSION: 1,
        m.CONFIRMED: [f"{i:064d}" for i in range(tuning.LISTED_MAX)],
        m.UNREACHABLE: [],
        m.EXCLUDED: [],
    }
    for form in (m.encode(n.DELIVERY_REPORT_REQUEST, fields), xml_form.encode(n.DELIVERY_REPORT_REQUEST, fields)):
        assert len(form) <= tuning.UPLINK_MESSAGE_MAX


@pytest.mark.parametrize("value", ["secret-name\x01", "secret-name" * 10])
def test_a_reason_names_the_field_and_never_the_value(value):
    with pytest.raises(MalformedMessage) as caught:
        xml_form.decode(JOIN.replace("pne-1", value.replace("\x01", "&#9;")).encode())
    assert "secret-name" not in caught.value.reason and f"field {m.PNE_ID}" in caught.value.reason

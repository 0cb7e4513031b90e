"""The configuration file: faults are told with line, found, expected and the nearest key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.config.load import line_of, load, parse
from gateway_agent.errors import ConfigError

GOOD = """\
[gateway]
id = "gw.home"
pn = "home"
state_dir = "state"

[delivery]
method = "auto"
"""


def fault(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), "keycast.toml")
    return str(caught.value)


def test_a_small_file_is_enough_and_defaults_fill_the_rest() -> None:
    config = parse(GOOD.encode())
    assert config.gateway.id == "gw.home"
    assert config.message_plane.port == 5683
    assert config.broadcast.interfaces == ["auto"]
    assert config.uplink.kind == "embedded"


def test_state_folder_is_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "keycast.toml").write_text(GOOD)
    assert load(tmp_path / "keycast.toml").gateway.state_dir == tmp_path / "state"


def test_unknown_key_names_line_and_nearest_key() -> None:
    text = fault(GOOD + "unicast_up_too = 3\n")
    assert "keycast.toml, line 8: delivery.unicast_up_too: unknown key; did you mean 'unicast_up_to'?" in text


def test_unknown_key_far_from_any_other_lists_the_known_ones() -> None:
    assert "known here: announce" not in fault(GOOD + "zzz = 3\n")
    assert "known here: datagrams_max, leisure_ms_per_pne, method, unicast_up_to" in fault(GOOD + "zzz = 3\n")


def test_wrong_value_names_what_was_found_and_what_was_expected() -> None:
    text = fault(GOOD.replace('"auto"', '"radio"'))
    assert "line 7: delivery.method: found 'radio', expected" in text
    assert "'unicast'" in text


def test_missing_key_says_what_belongs_there() -> None:
    text = fault(GOOD.replace('pn = "home"\n', ""))
    assert "gateway.pn: missing; expected ID of the Personal Network it serves" in text


def test_several_faults_are_told_at_once() -> None:
    text = fault(GOOD.replace('"auto"', "3") + "[tree]\nheight = 40\n")
    assert "delivery.method" in text and "line 9: tree.height: found 40, expected" in text


def test_udp_uplink_without_host_says_so() -> None:
    assert 'needs host, for example host = "192.168.1.10"' in fault(GOOD + '[uplink]\nkind = "udp"\n')


def test_broken_toml_and_wrong_encoding_name_the_line() -> None:
    assert "line 1" in fault("[gateway\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        parse(b'[gateway]\nid = "\xff"\n')


def test_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keycast gateway init"):
        load(tmp_path / "none.toml")


def test_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot read"):
        load(tmp_path)


def test_line_of_a_key_given_with_a_dotted_name() -> None:
    assert line_of("a.b = 1\n[c]\nd = 2\n", ("a", "b")) == 1
    assert line_of("a.b = 1\n[c]\nd = 2\n", ("c", "d")) == 3


@given(st.binary(max_size=300))
def test_any_octets_end_in_a_configuration_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse(data)


@given(st.text(alphabet='[]="\n. abdegilntuwy{}0123', max_size=120))
def test_any_text_behind_a_good_file_is_accepted_or_refused_with_a_sentence(text: str) -> None:
    try:
        parse((GOOD + text).encode())
    except ConfigError as error:
        assert str(error).strip()


SEAL = (
    GOOD
    + """
[seal]
kms = {url = "https://kms.example.org:8443", kms_uri = "kms.example.org", user_uri = "sip:gw@example.org", token = "t"}
cms = {url = "https://cms.example.org:8444", token = "t"}
gms = [{url = "https://gms.example.org:8445", token = "t", gms_uri = "gms.example.org"}]
groups = [{group = "sip:crew@example.org", sg_id = "crew"}]
"""
)


def test_a_gateway_may_be_a_val_client() -> None:
    config = parse(SEAL.encode())
    assert config.seal.groups[0].sg_id == "crew" and "token='t'" not in repr(config)


def test_faults_of_a_val_client_are_told_as_all_others_and_never_show_a_token() -> None:
    assert "seal.cms: missing" in fault(SEAL.replace("cms =", "csm ="))
    text = fault(SEAL.replace('token = "t"', "token = [4711]"))
    assert "token" in text and "4711" not in text


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ('[message_plane]\nport = "5683"', "line 9: message_plane.port: found '5683', expected a valid integer."),
        ("[message_plane]\nport = true", "line 9: message_plane.port: found True, expected a valid integer."),
        ('[message_plane]\ndiscovery = "no"', "line 9: message_plane.discovery: found 'no', expected a valid boolean."),
        ('[message_plane]\nlisten = "0.0.0.0"', "line 9: message_plane.listen: found '0.0.0.0', expected a valid list"),
        ("[message_plane]\nlisten = []", "line 9: message_plane.listen: found [], expected at least 1 item."),
        ('[message_plane]\nlisten = ["::1"]', "line 9: message_plane.listen.0: found '::1', expected an IPv4 address"),
        ('[message_plane]\nlisten = ["gw"]', "line 9: message_plane.listen.0: found 'gw', expected an IPv4 address"),
        ('[[uplink]]\nkind = "udp"', "line 8: uplink: found [{'kind': 'udp'}], expected a table."),
    ],
)
def test_a_value_of_another_type_is_no_value(lines: str, sentence: str) -> None:
    assert sentence in fault(GOOD + lines + "\n")

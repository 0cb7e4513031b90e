"""The configuration file: a refusal names the line, what was found, what was expected and the nearest key."""

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_agent.config.load import load, parse
from gateway_agent.config.toml_lines import line_of
from gateway_agent.errors import ConfigError
from gateway_agent.uplinks.embedded import EmbeddedSection
from gateway_agent.uplinks.mqtt import MqttUplinkSection
from gateway_agent.uplinks.udp import UdpUplinkSection
from gateway_agent.uplinks.uplink import UplinkSection
from message_plane.links.mqtt_section import BrokerFiles

GOOD = """\
[gateway]
id = "gw.home"
pn = "home"
state_dir = "state"

[delivery]
method = "auto"
"""

ELSEWHERE = f"""{GOOD}[uplink]
kind = "udp"
host = "server.lan"
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


def passed_over(text: str) -> str:
    """The one sentence about an unknown key in a file that is right otherwise."""
    told: list[str] = []
    parse(text.encode(), "keycast.toml", tell=told.append)
    (sentence,) = told
    return sentence


def test_unknown_key_is_passed_over_with_its_line_and_the_nearest_key() -> None:
    assert passed_over(GOOD + "unicast_up_too = 3\n") == (
        "keycast.toml, line 8: delivery.unicast_up_too: unknown key; did you mean 'unicast_up_to'? "
        "This release passes over it, the next one refuses it."
    )
    assert parse((GOOD + "unicast_up_too = 3\n").encode()).delivery == parse(GOOD.encode()).delivery


def test_unknown_key_far_from_any_other_lists_the_known_ones() -> None:
    assert "known here: announce" not in passed_over(GOOD + "zzz = 3\n")
    assert "known here: datagrams_max, leisure_ms_per_pne, method, stale_after_s, unicast_up_to" in passed_over(
        GOOD + "zzz = 3\n"
    )


def test_unknown_section_is_passed_over() -> None:
    assert "keycast.toml, line 8: brodcast: unknown key; did you mean 'broadcast'?" in passed_over(
        GOOD + '[brodcast]\ninterfaces = ["lan"]\n'
    )


@pytest.mark.parametrize(
    ("written", "meant"), [("webb", "web"), ("mqt", "mqtt"), ("bel", "ble"), ("metrik", "metrics")]
)
def test_an_optional_section_is_known_to_the_sentence_about_one_that_is_not(written: str, meant: str) -> None:
    """The schema of a file has only those of the optional sections that the file has."""
    assert f"{written}: unknown key; did you mean '{meant}'?" in passed_over(GOOD + f"[{written}]\n")
    assert f" {meant}" in passed_over(GOOD + "[zzzzzz]\n").partition("known here:")[2]


def test_a_wrong_value_beside_an_unknown_key_is_refused_and_both_are_told() -> None:
    text = fault(GOOD.replace('"auto"', '"radio"\nmetod = "auto"'))
    assert "line 7: delivery.method: found 'radio'" in text and "line 8: delivery.metod: unknown key" in text


def test_a_key_whose_wrong_spelling_makes_another_one_missing_is_refused_and_told() -> None:
    text = fault(GOOD.replace("pn =", "pm ="))
    assert "gateway.pn: missing" in text and "line 3: gateway.pm: unknown key; did you mean 'pn'?" in text


def test_settings_that_do_not_go_together_are_refused_beside_an_unknown_key() -> None:
    both = LAMP + BOARD.format(pne="lamp", user="sip:door@x")
    text = fault(SEAL.replace("[seal]", "[seal]\nzzz = 1", 1) + both)
    assert "a board or a user stands here twice" in text and "seal.zzz: unknown key" in text


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


@pytest.mark.parametrize("host", ["a b", "udp://server.lan", "server.lan:5685", "10.0.0.300", "-a", ""])
def test_a_host_that_is_none_is_told_with_its_line(host: str) -> None:
    told = fault(ELSEWHERE.replace("server.lan", host))
    wanted = "line 10: uplink.host: found" if host else ""
    assert wanted in told and "a host name or an IP address" in told


@pytest.mark.parametrize("host", ["server", "server-2.home.arpa.", "10.0.0.3", "fd00::3", "fe80::1%eth0"])
def test_a_host_has_a_name_or_an_address(host: str) -> None:
    assert parse(ELSEWHERE.replace("server.lan", host).encode()).uplink.kind == "udp"


@pytest.mark.req("SEC-31")
@pytest.mark.parametrize("mark", ["\\n", "\\u202e", "\\u200b", "\u2066"])
@pytest.mark.parametrize(
    ("line", "name"), [(2, "gateway.id"), (3, "gateway.pn"), (11, "uplink.server_id"), (10, "uplink.host")]
)
def test_a_character_that_does_not_show_is_in_no_name(mark: str, line: int, name: str) -> None:
    lines = f'{ELSEWHERE}server_id = "server.lan"\n'.splitlines()
    lines[line - 1] = lines[line - 1].replace(' = "', f' = "x{mark}')
    told = fault("\n".join(lines))
    assert f"line {line}: {name}: found " in told and told.isprintable()
    assert name == "uplink.host" or "this one has a character in it that does not show (U+" in told


def test_metrics_listen_at_addresses_only() -> None:
    told = fault(GOOD + '[metrics]\nlisten = ["eth0"]\n')
    assert "line 9: metrics.listen.0" in told and "expected an IP address of this machine" in told


def test_the_way_to_the_server_is_kept_open_unless_the_file_says_otherwise() -> None:
    assert parse(ELSEWHERE.encode()).uplink.keep_alive_s == 25
    for seconds in ("0", "1", "2.5", "3600"):
        assert parse(f"{ELSEWHERE}keep_alive_s = {seconds}\n".encode()).uplink.keep_alive_s == float(seconds)
    for seconds in ("-1", "0.5", "3601", "inf", "nan", '"25"', "true"):
        assert "line 11: uplink.keep_alive_s: found" in fault(f"{ELSEWHERE}keep_alive_s = {seconds}\n")


def test_the_settings_of_another_kind_of_uplink_may_stay_in_the_file_and_must_be_right() -> None:
    kept = parse(ELSEWHERE.replace('"udp"', '"embedded"').encode()).uplink
    assert isinstance(kept, EmbeddedSection) and kept.server_id == "server.local"
    assert "line 11: uplink.port: found 0" in fault(ELSEWHERE.replace('"udp"', '"embedded"') + "port = 0\n")
    assert "uplink.hots: unknown key; did you mean 'host'?" in fault(ELSEWHERE.replace("host", "hots"))


def test_a_kind_of_uplink_that_is_not_in_the_table_is_told_with_those_that_are() -> None:
    for kind in ('"pigeon"', "7", "[]"):
        told = fault(ELSEWHERE.replace('"udp"', kind))
        assert "line 9: uplink.kind: found" in told and "expected 'embedded', 'mqtt' or 'udp'" in told


def test_an_uplink_over_mqtt_needs_a_broker_and_finds_its_files_beside_the_configuration(tmp_path: Path) -> None:
    mqtt = GOOD + '[uplink]\nkind = "mqtt"\n'
    assert 'needs brokers, for example brokers = ["mqtts://broker.example:8883"]' in fault(mqtt)
    assert "line 10: uplink.brokers.0: found 'broker', expected the address" in fault(mqtt + 'brokers = ["broker"]\n')
    assert "certificate and key belong together" in fault(mqtt + 'brokers = ["mqtts://b"]\nkey = "own.key"\n')
    told = fault(mqtt + 'brokers = ["mqtt://b"]\ncertificate = "own.crt"\nkey = "own.key"\n')
    assert "line 8: uplink: mqtt://b:1883 is not encrypted" in told and "found" not in told
    text = mqtt + 'brokers = ["mqtts://b"]\nca = "ca.crt"\ncertificate = "own.crt"\nkey = "/run/own.key"\n'
    (tmp_path / "keycast.toml").write_text(text)
    uplink = load(tmp_path / "keycast.toml").uplink
    assert isinstance(uplink, MqttUplinkSection) and uplink.brokers == ["mqtts://b:8883"]
    assert uplink.files == BrokerFiles(tmp_path / "ca.crt", tmp_path / "own.crt", Path("/run/own.key"))


@pytest.mark.parametrize("section", [EmbeddedSection, MqttUplinkSection, UdpUplinkSection])
def test_the_sections_of_the_file_are_those_of_the_parts(section: type[UplinkSection]) -> None:
    text = f'{ELSEWHERE}brokers = ["mqtt://localhost"]\n'
    text = text.replace('"udp"', f'"{section.model_fields["kind"].default}"')
    assert isinstance(parse(text.encode()).uplink, section)


def test_broken_toml_and_wrong_encoding_name_the_line() -> None:
    assert "line 1" in fault("[gateway\n")
    with pytest.raises(ConfigError, match="line 2: not UTF-8"):
        parse(b'[gateway]\nid = "\xff"\n')


def test_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="keycast setup"):
        load(tmp_path / "none.toml")


def test_folder_in_place_of_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)


def test_line_of_a_key_given_with_a_dotted_name() -> None:
    assert line_of("a.b = 1\n[c]\nd = 2\n", ("a", "b")) == 1
    assert line_of("a.b = 1\n[c]\nd = 2\n", ("c", "d")) == 3


def test_line_in_an_array_of_tables_and_in_an_inline_table() -> None:
    text = "[[a.b]]\nc = 1\n[a.b.d]\ne = 1\n[[a.b]]\nc = 2\n[a.b.d]\ne = { f = 1 }\n"
    assert line_of(text, ("a", "b", 0, "c")) == 2
    assert line_of(text, ("a", "b", 0, "d", "e")) == 4
    assert line_of(text, ("a", "b", 1)) == 5
    assert line_of(text, ("a", "b", 1, "c")) == 6
    assert line_of(text, ("a", "b", 1, "d", "e", "f")) == 8
    assert line_of(text, ("a", "b", 2, "c")) == 0


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


BOARD = """
[[seal.boards]]
pne = "{pne}"
user_uri = "{user}"
cms = {{ url = "http://127.0.0.1:1", token = "t" }}
gms = [{{ url = "http://127.0.0.1:1", token = "t", gms_uri = "sip:gms@x" }}]
"""
LAMP = BOARD.format(pne="lamp", user="sip:lamp@x")


def test_boards_that_are_val_clients() -> None:
    seal = parse((SEAL + LAMP).encode()).seal
    assert [(each.pne, each.user_uri) for each in seal.boards] == [("lamp", "sip:lamp@x")]


@pytest.mark.parametrize(
    ("boards", "part"),
    [
        (LAMP + BOARD.format(pne="lamp", user="sip:door@x"), "line 9: seal: a board or a user stands here twice."),
        (LAMP + BOARD.format(pne="door", user="sip:lamp@x"), "a board or a user stands here twice"),
        (BOARD.format(pne="lamp", user="sip:gw@example.org"), "a board or a user stands here twice"),
        (LAMP + LAMP.replace("pne =", "pme ="), "line 22: seal.boards.1.pme: unknown key; did you mean 'pne'?"),
        (LAMP.replace('pne = "lamp"', ""), "line 15: seal.boards.0.pne: missing; expected PNE ID of the board."),
        (LAMP.replace('token = "t"', "token = 7"), "line 18: seal.boards.0.cms.token: found a value that is not shown"),
    ],
)
def test_what_is_wrong_with_a_board_is_told_with_its_line(boards: str, part: str) -> None:
    assert part in fault(SEAL + boards)


def test_a_file_with_tokens_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keycast.toml"
    path.write_text(SEAL)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load(path)
    path.chmod(0o600)
    assert load(path).seal is not None


def test_a_ca_file_is_relative_to_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "keycast.toml"
    path.write_text((SEAL + LAMP).replace('token = "t"', 'token = "t", ca_file = "lab/ca.pem"'))
    path.chmod(0o600)
    seal = load(path).seal
    servers = [seal.kms, seal.cms, *seal.gms, seal.boards[0].cms, *seal.boards[0].gms]
    assert {each.ca_file for each in servers} == {tmp_path / "lab" / "ca.pem"}
    path.write_text(path.read_text().replace("lab/", "~nobody-here/"))
    with pytest.raises(ConfigError, match="the home folder ~nobody-here is not known"):
        load(path)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ("[update]\nkey = 5", "line 9: update.key: found 5, expected the name of a file or a folder, in quotes."),
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


@pytest.mark.parametrize(
    ("lines", "example"),
    [
        ('[broadcast]\ninterfaces = "wlan0"', 'Write: interfaces = ["wlan0"]'),
        ('[message_plane]\nlisten = "192.168.1.10"', 'Write: listen = ["192.168.1.10"]'),
        ('[message_plane]\nport = "5684"', "Write: port = 5684"),
        ('[message_plane]\ndiscovery = "off"', "Write: discovery = false"),
        ("[message_plane]\ndiscovery = 1", "Write: discovery = true"),
        ('[uplink]\nserver_id = ["server"]', 'Write: server_id = "server"'),
        ("[uplink]\nserver_id = 7", 'Write: server_id = "7"'),
        ('[[uplink]]\nkind = "udp"', "Write: [uplink]"),
        ('tree = "high"', "Write: [tree]"),
    ],
)
def test_a_value_of_another_type_is_answered_with_what_was_meant(lines: str, example: str) -> None:
    told = fault(GOOD + lines + "\n" if lines.startswith("[") else f"{lines}\n{GOOD}")
    assert told.startswith("keycast.toml, line ") and told.endswith(example)


def test_a_single_table_where_several_may_be_is_answered_with_how_several_are_written() -> None:
    lines = SEAL.replace("gms = [{", "gms = {").replace('gms_uri = "gms.example.org"}]', 'gms_uri = "gms.example.org"}')
    assert fault(lines).endswith("Write: [[seal.gms]]")


def test_a_table_where_a_list_of_texts_stands_is_answered_without_an_example_that_is_wrong_too() -> None:
    assert fault(GOOD + "[message_plane.listen]\nx = 1\n").endswith("found a table with x, expected a valid list.")


@pytest.mark.req("SEC-20")
@pytest.mark.parametrize(
    "lines",
    [
        '[mqtt]\nbroker = "mqtt://keycast:hunter2@192.168.1.9"',
        '[mqtt]\nbroker = "mqtts://keycast:hun@ter2@host:8883/x"',
        '[uplink]\nkind = "mqtt"\nbrokers = ["mqtts://:hunter2@broker.example"]',
        '[uplink]\nkind = "udp"\nhost = "udp://me:hunter2@host"',
        '[web]\nhosts = ["http://me:hunter2@host"]',
    ],
)
def test_a_password_in_a_url_is_not_repeated(lines: str) -> None:
    told = fault(f"{GOOD}{lines}\n")
    assert "...@" in told and "hunter2" not in told and "ter2" not in told


def test_a_byte_order_mark_is_no_fault() -> None:
    assert parse(b"\xef\xbb\xbf" + GOOD.encode()) == parse(GOOD.encode())
    assert "line 8" in passed_over("\ufeff" + GOOD + "zzz = 3\n")


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a remark\n"])
def test_an_empty_file_is_told_with_what_it_needs(text: str) -> None:
    assert 'is empty. It needs [gateway] with id = "...", pn = "...", state_dir = "..."' in fault(text)


def test_a_missing_table_is_told_with_what_it_needs() -> None:
    assert 'gateway: missing; expected a table [gateway] with id = "...", pn = "..."' in fault("[tree]\nheight = 5\n")


@pytest.mark.parametrize("text", ["id = gw.home\n", "[broadcast]\ninterfaces = wlan0\n", "[uplink]\nport = \n"])
def test_toml_that_is_none_is_told_with_its_line_and_an_example(text: str) -> None:
    assert f"line {text.count(chr(10))}" in fault(text) and 'interfaces = ["wlan0"]' in fault(text)


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    for path, word in {"fifo": "a pipe", "socket": "Cannot read", ".": "a folder", "/dev/zero": "a device"}.items():
        with pytest.raises(ConfigError, match=word):
            load(tmp_path / path)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="more than 65536 octets"):
        load(tmp_path / "large")


def test_a_home_folder_that_is_not_known_is_told(tmp_path: Path) -> None:
    path = tmp_path / "keycast.toml"
    path.write_text(GOOD.replace('"state"', '"~nobody-of-that-name/state"'))
    with pytest.raises(ConfigError, match=r"the home folder ~nobody-of-that-name of gateway\.state_dir is not known"):
        load(path)

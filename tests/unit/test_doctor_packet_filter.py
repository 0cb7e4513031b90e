"""The way of a datagram through real rules of nftables, as `keycast doctor` follows it."""

import json
import shutil
import subprocess

import pytest

from keycast.doctor.finding import Grade
from keycast.doctor.firewall import judged
from keycast.doctor.packet_filter import Datagram, Fate, fate
from tests.privileges import needs_root

NFT = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin")
DROPS = "type filter hook input priority 0; policy drop;"
ACCEPTS = "type filter hook input priority 0; policy accept;"

RULESETS = {
    "nothing": ("", Fate.PASSES),
    "policy drop": (f"chain input {{ {DROPS} }}", Fate.DROPPED),
    "policy drop, port let in": (f"chain input {{ {DROPS} udp dport 5683 accept; }}", Fate.PASSES),
    "policy drop, set of ports": (f"chain input {{ {DROPS} udp dport {{ 53, 5683 }} accept; }}", Fate.PASSES),
    "policy drop, range": (f"chain input {{ {DROPS} udp dport 5000-6000 accept; }}", Fate.PASSES),
    "policy drop, other port": (f"chain input {{ {DROPS} udp dport 53 accept; }}", Fate.DROPPED),
    "policy drop, TCP only": (f"chain input {{ {DROPS} tcp dport 5683 accept; }}", Fate.DROPPED),
    "policy drop, all UDP": (f"chain input {{ {DROPS} meta l4proto udp accept; }}", Fate.PASSES),
    "policy drop, interface": (f'chain input {{ {DROPS} iifname "wlan0" accept; }}', Fate.PASSES),
    "policy drop, interfaces": (f'chain input {{ {DROPS} iifname "wl*" accept; }}', Fate.PASSES),
    "policy drop, other interface": (f'chain input {{ {DROPS} iifname "eth0" accept; }}', Fate.DROPPED),
    "policy drop, not the interface": (f'chain input {{ {DROPS} iifname != "eth0" accept; }}', Fate.PASSES),
    "policy drop, established only": (f"chain input {{ {DROPS} ct state established,related accept; }}", Fate.DROPPED),
    "policy drop, senders": (f"chain input {{ {DROPS} ip saddr 192.168.0.0/16 accept; }}", Fate.PERHAPS),
    "policy accept, dropped": (f"chain input {{ {ACCEPTS} udp dport 5683 drop; }}", Fate.DROPPED),
    "policy accept, rejected": (f"chain input {{ {ACCEPTS} udp dport 5683 reject; }}", Fate.DROPPED),
    "policy accept, some dropped": (f"chain input {{ {ACCEPTS} ip saddr 10.0.0.0/8 drop; }}", Fate.PERHAPS),
    "jump": (f"chain boards {{ udp dport 5683 accept; }} chain input {{ {DROPS} jump boards; }}", Fate.PASSES),
    "jump and back": (f"chain boards {{ return; }} chain input {{ {DROPS} jump boards; }}", Fate.DROPPED),
    "jump in vain": (f"chain boards {{ udp dport 53 accept; }} chain input {{ {DROPS} jump boards; }}", Fate.DROPPED),
    "two chains": (
        f"chain one {{ {ACCEPTS} }} chain two {{ type filter hook input priority 10; policy drop; }}",
        Fate.DROPPED,
    ),
    "chain of the way out": ("chain output { type filter hook output priority 0; policy drop; }", Fate.PASSES),
    "verdict map": (f"chain input {{ {DROPS} udp dport vmap {{ 5683 : accept }}; }}", Fate.PERHAPS),
}


def as_told(rules):
    """The JSON of nft for these rules, which it checks and forgets in a network of its own."""
    script = f"{NFT} -f - && {NFT} --json list ruleset"
    lines = rules.replace("} chain", "}\nchain")
    text = f"table inet keycast {{\n{lines}\n}}\n" if rules else ""
    done = subprocess.run(["unshare", "--net", "sh", "-c", script], input=text, capture_output=True, text=True)
    if "not supported" in done.stderr:
        pytest.skip("this kernel has no nftables")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_root
@pytest.mark.skipif(NFT is None, reason="needs the program nft (Debian: sudo apt install nftables)")
@pytest.mark.parametrize("name", RULESETS)
def test_a_datagram_of_a_board_is_followed_through_the_rules(name):
    rules, wanted = RULESETS[name]
    assert fate(as_told(rules), Datagram(5683, "wlan0"))[0] is wanted


def chain_with(policy, *expressions):
    chain = {"family": "ip", "table": "filter", "name": "INPUT"}
    rules = [
        {"rule": {"family": "ip", "table": "filter", "chain": "INPUT", "expr": list(each)}} for each in expressions
    ]
    return {"nftables": [{"chain": {**chain, "hook": "input", "policy": policy}}, *rules]}


def test_a_match_of_iptables_that_nft_cannot_tell_is_unknown():
    rules = chain_with("drop", [{"xt": None}, {"accept": None}])
    assert fate(rules, Datagram(5683, "wlan0"))[0] is Fate.PERHAPS


def test_chains_that_jump_in_a_circle_come_to_an_end():
    rules = chain_with("drop", [{"jump": {"target": "INPUT"}}])
    assert fate(rules, Datagram(5683, "wlan0"))[0] is Fate.DROPPED


@pytest.mark.parametrize(("policy", "grade"), [("drop", Grade.BAD), ("accept", Grade.GOOD)])
def test_a_dropped_port_is_told_with_the_command_that_lets_it_in(policy, grade):
    found = judged(chain_with(policy), "wlan0", 5683, "CoAP of the boards")
    assert found.grade is grade
    if grade is Grade.BAD:
        assert "nft insert rule ip filter INPUT udp dport 5683 accept" in found.next_step

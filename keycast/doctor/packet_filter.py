"""Follows a datagram from a board through the rules of nftables, as `nft --json list ruleset` tells them.

Rules of iptables are among them where iptables is the one of nftables, as on Debian. What a rule asks about the sender,
or by a match that is not understood here, is unknown, so the answer may be "perhaps".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

_DEPTH_MAX = 16
_OF_UDP = ("udp", 17)
_FAMILIES = ("inet", "ip")
_ENDS = ("drop", "reject")
_VERDICTS = ("accept", "return", *_ENDS)


class Fate(StrEnum):
    """What becomes of the datagram."""

    PASSES = "passes"
    DROPPED = "dropped"
    PERHAPS = "perhaps"


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram that comes in: its destination port, and the interface that it comes in by."""

    port: int
    interface: str


def fate(ruleset: Mapping[str, Any], datagram: Datagram) -> tuple[Fate, str]:
    """Return what the base chains of the hook "input" do with a datagram, and the name of the chain that decides.

    `ruleset` is the JSON value of nft. A chain that drops decides, because each of them must let a datagram pass.
    """
    entries = ruleset.get("nftables", [])
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    found, where = Fate.PASSES, ""
    for chain in chains:
        if chain.get("hook") != "input" or chain["family"] not in _FAMILIES:
            continue
        name = f"{chain['family']} {chain['table']} {chain['name']}"
        verdict = _through(chain, rules, datagram, 0) or chain.get("policy", "accept")
        if verdict in _ENDS:
            return Fate.DROPPED, name
        if verdict == Fate.PERHAPS and found is Fate.PASSES:
            found, where = Fate.PERHAPS, name
    return found, where


def _through(chain: Mapping[str, Any], rules: Iterable[Mapping[str, Any]], datagram: Datagram, depth: int) -> str:
    """Return the verdict of a chain: "accept", "drop", "reject", "perhaps", or "" if it has none."""
    place = chain["family"], chain["table"]
    unsure = False
    for rule in rules:
        if (rule["family"], rule["table"], rule["chain"]) != (*place, chain["name"]):
            continue
        matches, verdict = _of_rule(rule, rules, datagram, depth)
        if matches is False or not verdict:
            continue
        if matches is None or verdict == Fate.PERHAPS:
            unsure = True
            continue
        if verdict == "return":
            break
        # A rule that was not understood may have dropped it before.
        return Fate.PERHAPS if unsure and verdict == "accept" else verdict
    return Fate.PERHAPS if unsure else ""


def _of_rule(
    rule: Mapping[str, Any], rules: Iterable[Mapping[str, Any]], datagram: Datagram, depth: int
) -> tuple[bool | None, str]:
    """Return whether a rule matches, None if that is not known, and its verdict, "" for none."""
    matches: bool | None = True
    verdict = ""
    for part in rule.get("expr", []):
        if "match" in part:
            one = _matches(part["match"], datagram)
            matches = False if one is False or matches is False else (None if one is None else matches)
        verdict = next((word for word in _VERDICTS if word in part), verdict)
        for word in ("jump", "goto"):
            if word in part and depth < _DEPTH_MAX:
                target = {"family": rule["family"], "table": rule["table"], "name": part[word]["target"]}
                verdict = _through(target, rules, datagram, depth + 1)
        if "xt" in part or "vmap" in part:  # a match of iptables that nft cannot tell, or a map
            matches = None if matches else matches
            verdict = verdict or Fate.PERHAPS
    return matches, verdict


def _matches(match: Mapping[str, Any], datagram: Datagram) -> bool | None:
    known = _known(match["left"], datagram)
    if known is None:
        return None
    right = match["right"]
    values = right["set"] if isinstance(right, Mapping) and "set" in right else right
    values = values if isinstance(values, list) else [values]
    hits = [_is_in(value, known) for value in values]
    if None in hits and True not in hits:
        return None
    return (True in hits) == (match["op"] in ("==", "in"))


def _known(left: Any, datagram: Datagram) -> tuple[Any, ...] | None:
    """Return the values that a field has in the datagram, in the forms that nft may write them; None if unknown."""
    if not isinstance(left, Mapping):
        return None
    meta = left.get("meta", {}).get("key")
    payload = left.get("payload", {})
    field = payload.get("protocol"), payload.get("field")
    if meta in ("iifname", "iif"):
        return (datagram.interface,)
    if meta == "l4proto" or field == ("ip", "protocol"):
        return _OF_UDP
    if meta == "nfproto":
        return ("ipv4", 2)
    if field in (("udp", "dport"), ("th", "dport")):
        return (datagram.port,)
    if payload.get("protocol") in ("tcp", "icmp", "icmpv6", "ip6"):
        return ("another protocol",)
    if left.get("ct", {}).get("key") == "state":
        return ("new",)
    return None


def _is_in(value: Any, known: tuple[Any, ...]) -> bool | None:
    if isinstance(value, Mapping):
        if "range" in value:
            low, high = value["range"]
            return isinstance(low, int) and isinstance(known[0], int) and low <= known[0] <= high
        return None
    if isinstance(value, str) and value.startswith("@"):  # a named set
        return None
    if isinstance(value, str) and value.endswith("*") and isinstance(known[0], str):
        return known[0].startswith(value[:-1])
    return value in known

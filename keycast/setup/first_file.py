"""The text of a configuration file that does not exist yet."""

from typing import Any

from gateway_agent.config.load import toml_text
from keycast.setup.answers import Settings

HEAD = "# A keycast PN GW. Every other setting has a default: keycast gateway settings\n"
_ALIGNED_AT = 28  # the column of comments, if the values leave room for them

COMMENTS = {
    ("gateway", "id"): "unique in the home",
    ("gateway", "pn"): "the Personal Network it serves",
    ("gateway", "state_dir"): "keys, sessions, inventory; private to this user",
    ("broadcast", "interfaces"): '"auto": Ethernet and Wi-Fi; or names: ["wlan0"]',
    ("uplink", "kind"): 'CPNS Server: "embedded", or over "udp" or "mqtt"',
    ("uplink", "brokers"): "any that answers",
    ("ble", "sender"): "Group Keys also by Bluetooth LE adverts: keycast radios",
    ("web", "listen"): "addresses of the web page",
    ("web", "plain"): "no TLS: who is on this network can read the password of the page",
    ("metrics", "open"): "true: also for programs on other machines",
    ("mqtt", "broker"): "that of Home Assistant",
    ("mqtt", "plain"): "no TLS: who is on the network between can read the password",
}
"""(section, key) -> what a new line of the file says beside its value."""


def new_text(settings: Settings) -> str:
    """Return the text of a file with `settings`, in their order."""
    sections = [_section(name, values) for name, values in settings.items() if values is not None]
    return "\n".join([HEAD, *sections])


def _section(name: str, values: dict[str, Any]) -> str:
    lines = [f"[{name}]"]
    for key, value in values.items():
        line = f"{key} = {toml(value)}"
        comment = COMMENTS.get((name, key))
        lines.append(f"{line:{_ALIGNED_AT - 1}} # {comment}" if comment else line)
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """Return a text, number, yes or no, or list of these as TOML."""
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str):
        return toml_text(value)
    return str(value).lower()

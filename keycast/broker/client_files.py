"""The folder with which one end, a PN GW or a CPNS Server, proves itself to MQTT brokers."""

from pathlib import Path

CLIENT_FILES = {"ca": "ca.crt", "certificate": "client.crt", "key": "client.key"}
"""Setting -> name of its file in the folder, as `keycast server broker-files` makes it."""


def wrong_folder(files: Path, own: str, whose: str) -> str:
    """Return what is wrong with a folder of client files, "" for nothing: it may be that of all ends of a network.

    `own`: the folder in there that was probably meant; `whose`: the end, in words.
    """
    if not (files / "gateways").is_dir() and not (files / "server" / CLIENT_FILES["certificate"]).exists():
        return ""
    return f"{files} has the files of all ends. Name those of {whose}: {files / own}"

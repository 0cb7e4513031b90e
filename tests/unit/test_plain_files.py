"""Files that a person names: an ordinary one is read, all others are refused with a sentence, without waiting."""

import os
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway_agent.errors import ConfigError
from gateway_agent.val_client.server_access import ServerAccess
from http_door.errors import DoorError
from http_door.tls import server_context
from key_servers.errors import ServerError
from key_servers.gms.provisioning import KmsOverHttps
from private_store import plain_file
from private_store.errors import StoreUnusable


def test_an_ordinary_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"octets")
    (tmp_path / "link").symlink_to("file")
    assert plain_file.read(tmp_path / "link", 6) == b"octets"
    with pytest.raises(StoreUnusable, match="more than 5 octets"):
        plain_file.read(tmp_path / "file", 5)


@pytest.mark.parametrize(
    ("name", "word"), [("fifo", "a pipe"), (".", "a folder"), ("/dev/zero", "a device"), ("none", "There is no file")]
)
def test_what_is_no_file_is_told(tmp_path: Path, name: str, word: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(StoreUnusable, match=word):
        plain_file.read(tmp_path / name, 100)


def test_certificates_are_read_like_that(tmp_path: Path) -> None:
    """Each of these would wait for a writer for ever."""
    fifo, key = tmp_path / "fifo", tmp_path / "key"
    os.mkfifo(fifo)
    key.write_bytes(b"key")
    key.chmod(0o600)
    url = "https://127.0.0.1:1"
    with pytest.raises(ConfigError, match="a pipe"):
        ServerAccess(url=url, token=SecretStr("t"), ca_file=fifo).tls()
    with pytest.raises(ServerError, match="a pipe"):
        KmsOverHttps(url, "kms.example.org", "sip:gms.example.org", "t", fifo, lambda: 0)
    with pytest.raises(DoorError, match="a pipe"):
        server_context(fifo, key)

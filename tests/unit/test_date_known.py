"""A clock that has lost the date dates nothing that is to last for years (SEC-36)."""

import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from keycast.program import program


def typed(line: str) -> Result:
    words = line.split()
    return CliRunner().invoke(program(words), words)


@pytest.fixture
def lost_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 30_000_000.0)  # 1970-12-14


@pytest.mark.req("SEC-36")
@pytest.mark.parametrize(
    "line",
    [
        "kms init kms.example.org --state {folder}",
        "kms init kms.example.org --no-tls --state {folder}",
        "server rest-files {folder}",
        "server broker-files {folder} --ca --host mqtt.example.org",
    ],
)
def test_nothing_that_lasts_for_years_is_made_in_1970(tmp_path: Path, lost_date: None, line: str) -> None:
    """The name and the key period of a KMS, and an authority that has run out, could not be exchanged later."""
    folder = tmp_path / "made"
    result = typed(line.format(folder=folder))
    told = " ".join(result.output.split())
    assert result.exit_code == 1 and "says 1970-12-14" in told and "timedatectl set-time" in told
    assert not folder.exists()


@pytest.mark.req("SEC-36")
def test_brokers_without_certificates_need_no_date_and_nor_does_a_revocation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified, plain = tmp_path / "certified", tmp_path / "plain"
    assert typed(f"server broker-files {certified} --ca --host mqtt.example.org --gateway gw.home").exit_code == 0
    monkeypatch.setattr(time, "time", lambda: 30_000_000.0)
    assert typed(f"server broker-files {plain} --host mqtt.example.org").exit_code == 0
    assert typed(f"server broker-files {certified} --gateway gw.cabin").exit_code == 1
    assert not (certified / "gateways" / "gw.cabin").exists()
    assert typed(f"server broker-files {certified} --revoke gw.home").exit_code == 0

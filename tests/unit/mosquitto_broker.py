"""A real Mosquitto for tests, where one is installed: plain or with TLS and client certificates, killed and restarted.

A test with one is marked `real_time`, because another process goes by the wall clock.
"""

import datetime
import ipaddress
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from keycast.free_ports import free_port
from tests.waiting import PATIENCE_S

ACCESS = """pattern readwrite keycast/1/+/%u
pattern write keycast/1/up/+/%u
pattern read keycast/1/st/+
user {server}
topic readwrite keycast/1/#
"""
"""The access list of one Server, whose tag is `server`, and any number of gateways; the user of each end is its tag."""

STARTS_S = PATIENCE_S  # only what is broken takes so long
HOST = "127.0.0.1"


class Authority:
    """A certificate authority in `folder`. `ca` is the path of its own certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("a CA for tests")
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(_pem(self._certificate(self._name, self._key.public_key(), is_ca=True)))

    def issue(self, name: str, *, days: int = 30, ends: datetime.datetime | None = None) -> tuple[Path, Path]:
        """Make a key and a certificate with CN = `name`, for this machine; return the paths of both, certificate first.

        `ends`: when it is no longer valid, by default in `days` days.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        ends = ends or datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(_pem(self._certificate(_name(name), key.public_key(), ends=ends)))
        private.touch(mode=0o600)
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, private

    def _certificate(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        is_ca: bool = False,
        ends: datetime.datetime | None = None,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        here = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        ends = ends or now + datetime.timedelta(days=30)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, ends) - datetime.timedelta(days=1))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        )
        if not is_ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(here), critical=False)
        return builder.sign(self._key, hashes.SHA256())


class Mosquitto:
    """One Mosquitto. `url` is where clients connect to, the same after a restart. `authority` is None without TLS."""

    def __init__(
        self,
        folder: Path,
        *,
        tls: bool = False,
        authority: Authority | None = None,
        access: str = "",
        more: str = "",
        host: str = HOST,
    ) -> None:
        """`host`: the address of this machine where it listens. `access`: the content of its access list, "" to allow
        everything to everybody. `more`: lines of its configuration.

        With `tls`, or an `authority` that several brokers share, each client needs a certificate of the authority, and
        its CN is the name of its user. Without TLS a client calls itself by any name of a user.
        """
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.authority = authority or (Authority(folder / "tls") if tls else None)
        self.port = free_port()
        self._host = host
        self._access = access
        self._more = more
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        name = "localhost" if self.authority and self._host == HOST else self._host
        return f"{'mqtts' if self.authority else 'mqtt'}://{name}:{self.port}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The process ID, for signals and for measurements."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, or start again with what it has kept, and return when it listens."""
        self._write()
        with (self._folder / "log").open("wb") as log:
            program = [_program(), "-c", str(self._folder / "mosquitto.conf")]
            self._process = subprocess.Popen(program, stdout=log, stderr=log)
        _until(lambda: " running" in self.log or self._require().poll() is not None)
        if self._process.poll() is not None:
            raise RuntimeError(f"mosquitto does not start:\n{self.log}")

    def kill(self) -> None:
        """End it without warning (kill -9). Messages and sessions that it has not saved are gone."""
        self._end("kill")

    def stop(self) -> None:
        """End it in order. It saves its sessions. Does nothing if it does not run."""
        self._end("terminate")

    def allow(self, access: str) -> None:
        """Replace its access list, which is in force when this returns."""
        self._access = access
        self._write()
        read = self.log.count("Reloading config.")
        self._require().send_signal(1)
        _until(lambda: self.log.count("Reloading config.") > read)

    def _write(self) -> None:
        lines = [
            "user root",
            "persistence true",
            f"persistence_location {self._folder}/",
            "max_inflight_messages 0",
            "max_queued_messages 20000",
            "set_tcp_nodelay true",
            "log_dest stderr",
            f"listener {self.port} {self._host}",
        ]
        if self.authority is not None:
            certificate, key = self.authority.issue("broker")
            lines += [f"cafile {self.authority.ca}", f"certfile {certificate}", f"keyfile {key}"]
            lines += ["require_certificate true", "use_identity_as_username true"]
        if "allow_anonymous" not in self._more:
            lines.append("allow_anonymous true")
        if self._access:
            (self._folder / "access").write_text(self._access)
            lines.append(f"acl_file {self._folder}/access")
        (self._folder / "mosquitto.conf").write_text("\n".join([*lines, self._more]) + "\n")

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is not None:
            getattr(process, how)()
            process.wait(STARTS_S)

    def _require(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "it does not run"
        return self._process


@contextmanager
def mosquitto(
    folder: Path,
    *,
    tls: bool = False,
    authority: Authority | None = None,
    access: str = "",
    more: str = "",
    host: str = HOST,
) -> Iterator[Mosquitto]:
    """A Mosquitto that runs (`Mosquitto`); it ends with the context. Skips where none is installed."""
    if _program() is None:
        pytest.skip("needs the MQTT broker Mosquitto (Debian: sudo apt install mosquitto)")
    broker = Mosquitto(folder, tls=tls, authority=authority, access=access, more=more, host=host)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def _program() -> str | None:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def _until(condition) -> None:
    ends = time.monotonic() + STARTS_S
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError("mosquitto does not come up")
        time.sleep(0.01)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)

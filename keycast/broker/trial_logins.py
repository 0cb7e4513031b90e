"""Who `keycast server broker-test` is for a broker: by certificates, by passwords, or by nothing."""

import datetime
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path

from key_servers.errors import NotPossible, SecretFileUnusable
from keycast.broker import register as registers
from keycast.broker.authority import CertificateAuthority
from keycast.broker.folder import CA, CERTIFICATE, KEY, authority_of, write_client
from keycast.broker.mqtt_end import Login
from keycast.broker.trial import Who
from message_plane.links import mqtt_files
from message_plane.links.mqtt_section import BrokerFiles
from message_plane.links.mqtt_topics import SCHEME, tag_in, tag_of
from private_store import files

_GATEWAYS = (tag_of("broker-test 1"), tag_of("broker-test 2"))
"""The tags of the two PN GWs of a trial. They are always the same, so that one trial clears what another one left."""


def by_certificate(folder: Path, now: datetime.datetime) -> Who:
    """Return ends with new certificates of the authority in a folder of `broker-files`.

    The CPNS Server and the PN GWs stay connected, as each of these certificates has a name of its own. Raises
    NotPossible and SecretFileUnusable.
    """
    register = registers.read(folder)
    if register is None or not register.has_authority:
        raise NotPossible(f"{folder} has no authority.", "Name the folder of `keycast server broker-files --ca`.")
    authority = authority_of(folder)
    server = register.server_user(registers.TRIAL)
    logins = [_certified(authority, name, now) for name in (server, *_GATEWAYS)]
    stranger = Login(ssl.create_default_context(cadata=authority.certificate.decode()))
    return Who(register.server_tag, server, logins[0], _GATEWAYS, (logins[1], logins[2]), stranger)


def by_folders(server_id: str, clients: Sequence[Path]) -> Who:
    """Return ends with the certificates in three client folders: of the CPNS Server, and of two PN GWs.

    Whoever is connected with one of them is thrown out for a moment. Raises NotPossible and BrokerFilesRefused.
    """
    if len(clients) != 3:
        raise NotPossible("There are three clients: the CPNS Server, and two gateways.", "Name the folders of all.")
    own = [BrokerFiles(*(client / name for name in (CA, CERTIFICATE, KEY))) for client in clients]
    names = [mqtt_files.common_name(each) for each in own]
    logins = [Login(mqtt_files.tls_context(each)) for each in own]
    stranger = Login(mqtt_files.tls_context(BrokerFiles(own[0].ca)))
    return Who(
        tag_of(server_id), names[0], logins[0], (_tag(names[1]), _tag(names[2])), (logins[1], logins[2]), stranger
    )


def by_password(server_id: str, ca: Path | None, is_tls: bool, logins: Sequence[str]) -> Who:
    """Return ends with the user names and passwords of `logins`, none or three, each `USER:FILE`.

    The first is the CPNS Server's, the others are those of two PN GWs, by their tags. `ca` is a file of certificates
    (PEM), None for those that the system trusts. Raises NotPossible, SecretFileUnusable and BrokerFilesRefused.
    """
    if len(logins) not in (0, 3):
        raise NotPossible("There are three logins: of the CPNS Server, and of two gateways.", "Name all of them.")
    context = mqtt_files.tls_context(BrokerFiles(ca)) if is_tls else None
    users = [_login(each, context) for each in logins] or [Login(context)] * 3
    tags = _GATEWAYS if not logins else (_tag(users[1].user), _tag(users[2].user))
    tag = tag_of(server_id)
    return Who(tag, f"{tag}-{registers.TRIAL}", users[0], tags, (users[1], users[2]), Login(context))


def _tag(user: str | None) -> str:
    try:
        return tag_in(f"{SCHEME}:{user}")
    except ValueError:
        raise NotPossible(
            f"{user!a} is no tag of a gateway.", "Write the 32 hex digits that broker-files shows."
        ) from None


def _certified(authority: CertificateAuthority, name: str, now: datetime.datetime) -> Login:
    with tempfile.TemporaryDirectory(prefix="keycast-broker-test-") as at:  # OpenSSL reads keys from files only
        write_client(Path(at), authority, authority.client(name, now))
        return Login(mqtt_files.tls_context(BrokerFiles(*(Path(at) / name for name in (CA, CERTIFICATE, KEY)))))


def _login(text: str, context: ssl.SSLContext | None) -> Login:
    user, colon, path = text.partition(":")
    if not user or not colon or not path:
        raise NotPossible(f"{text!a} is no login.", "Write USER:FILE, where the file holds the password.")
    password = files.read(Path(path), SecretFileUnusable).decode(errors="replace").strip()
    return Login(context, user, password)

"""The settings of a KMS, and the names of its files."""

from typing import Annotated

from pydantic import Field

from key_servers.https.listening import Listening

MASTER_SECRETS_FILE = "master_secrets.json"
STORE_FILE = "kms.sqlite3"
TLS_CERTIFICATE_FILE = "tls_certificate.pem"
TLS_KEY_FILE = "tls_key.pem"


class KmsConfig(Listening):
    """The state folder of a KMS and its addresses. Its name and key periods belong to the master secrets."""

    port: Annotated[int, Field(ge=0, le=65535)] = Field(8443, description="TCP port, 0 = any free one")
